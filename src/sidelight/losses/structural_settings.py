"""Settings of the structural loss: its presets, and what refuses a wrong value of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

from sidelight.transport import ANCHORS, checks
from sidelight.transport.costs import check_epsilon

Objective = Literal["plain", "divergence"]
Alignment = Literal["row", "index", "label"]

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"objective": "plain", "epsilon": 0.1, "k": 30, "anchors": "paper", "shift": False},
    "released": {"objective": "divergence", "epsilon": 0.01, "k": 30, "anchors": "released", "shift": True},
    "sidelight": {
        "objective": "divergence",
        "epsilon": "relative:0.05",
        "k": 30,
        "anchors": "paper",
        "shift": False,
        "alignment": "row",
    },
}
"""Name of a preset -> its settings. Without its alignment, which solves no transport, "sidelight" is a divergence."""


def _check_shift(value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"shift must be True or False, got {value!r}")


def _check_alignment(value: Any) -> None:
    if value is not None:
        checks.require_choice("alignment", value, get_args(Alignment))


SETTINGS: dict[str, Callable[[Any], None]] = {
    "k": partial(checks.require_whole, "k"),
    "epsilon": check_epsilon,
    "objective": partial(checks.require_choice, "objective", names=get_args(Objective)),
    "anchors": partial(checks.require_choice, "anchors", names=ANCHORS),
    "shift": _check_shift,
    "alignment": _check_alignment,
    "penalty": partial(checks.require_positive, "penalty", or_zero=True),
    "identity": partial(checks.require_positive, "identity", or_zero=True),
    "tolerance": partial(checks.require_positive, "tolerance"),
    "max_iterations": partial(checks.require_positive, "max_iterations"),
    "on_failure": partial(checks.require_choice, "on_failure", names=checks.CHOICES["on_failure"]),
}
"""Setting -> the check that refuses a wrong value."""


def check_settings(**settings: Any) -> None:
    """Refuse the first wrong value among the settings."""
    for name, value in settings.items():
        SETTINGS[name](value)


def check_anchor_weights(module: Any, anchors: str) -> None:
    """Refuse anchor weights that are no module, or that cannot be shared by the rows."""
    if not callable(module):
        raise TypeError(f"anchor_weights is a module such as LearnedWeights(dim), got {type(module).__name__}")
    if anchors == "released":
        raise ValueError("anchor_weights need one set of anchors for the batch, not one per row (anchors='released')")


def check_embeddings(student: Any, teacher: Any) -> None:
    """Refuse embeddings that are not (B, D) and (B, D') on one device, with B at least 1."""
    checks.require_tensor("student", student)
    checks.require_tensor("teacher", teacher)
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher) or not len(student):
        raise ValueError(
            f"student (B, D) and teacher (B, D') need one row per sample, and at least one, got {tuple(student.shape)} "
            f"and {tuple(teacher.shape)}"
        )
    if student.device != teacher.device:
        raise ValueError(f"student is on {student.device} and teacher on {teacher.device}: move one of them with .to")
