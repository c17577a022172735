"""The range of every setting. It is checked before any data are read, so `--dry-run` checks it too.

The upper limits refuse what no study could hold in memory or finish: each square layer of a network of width 8192 has
a quarter of a gigabyte of weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sidelight.utils.anchor_names import ANCHOR_NAMES


def positive(value: float) -> bool:
    """Whether a number is above 0 and finite."""
    return 0 < value < math.inf


def _not_negative(value: float) -> bool:
    return 0 <= value < math.inf


Limit = tuple[str, Callable[[Any], bool]]
"""What is expected, as the end of "must be …", and a function that tells whether a value is that."""


def whole(name: str, least: int, most: int, expected: str = "") -> dict[str, Limit]:
    """The limit of a setting that is a whole number.

    Args:
        name: dotted name of the setting.
        least, most: smallest and largest value.
        expected: what errors name as expected; "" names the range.
    """
    return {name: (expected or f"a whole number from {least} to {most}", lambda v: least <= v <= most)}


def number(name: str, most: float = math.inf) -> dict[str, Limit]:
    """The limit of a setting that is a number from 0 to `most`."""
    expected = "0 or more" + (f", at most {most:g}" if most < math.inf else "")
    return {name: (expected, lambda v: _not_negative(v) and v <= most)}


YEAR = 365 * 24 * 3600.0
"""In seconds."""


def _epsilon(value: float | str) -> bool:
    try:
        return positive(float(value.removeprefix("relative:") if isinstance(value, str) else value))
    except ValueError:
        return False


REFERENCES = ("majority", "linear", "boosted", "warm-start")
"""Rows beside the methods, which are not compared for the best."""

LIMITS: dict[str, Limit] = {
    **number("gap"),
    **whole("folds", 2, 10_000),
    **whole("seeds", 1, 10_000),
    **whole("seed", 0, 2**31 - 1),
    "select": ("a share between 0 and 1", lambda v: 0 < v < 1),
    "reference": (f"{', '.join(REFERENCES)}, or none", (*REFERENCES, "none").__contains__),
    "label_fraction": ("in (0, 1]", lambda v: 0 < v <= 1),
    **whole("ignore_index", -(2**31), 2**31 - 1),
    **whole("jobs", 0, 4096, "0 (one per core, or one on a GPU) or more, at most 4096"),
    **number("checkpoint_seconds", YEAR),
    "tracking": ("tensorboard, mlflow or wandb", ("tensorboard", "mlflow", "wandb").__contains__),
    **whole("max_failures", 0, 2**31 - 1, "0 (stop at the first) or more, or null (go on)"),
    **whole("network.width", 1, 8192),
    **whole("network.tokens", 1, 4096),
    "network.dropout": ("at least 0 and below 1", lambda v: 0 <= v < 1),
    **whole("training.stack", 0, 4096, "0 (as many as pay), 1 (each model alone) or more, at most 4096"),
    **whole("training.epochs", 1, 1_000_000),
    **whole("training.patience", 1, 1_000_000),
    **whole("training.batch_size", 2, 1_000_000),
    **whole("training.accumulate", 1, 1_000_000),
    **whole("training.least_steps", 1, 1_000_000),
    "training.learning_rate": ("a number above 0", positive),
    **number("training.weight_decay"),
    "training.momentum": ("at least 0 and below 1", lambda v: 0 <= v < 1),
    "augment.crop": ("a share above 0 and at most 1", lambda v: 0 < v <= 1),
    "teacher.crossfit": ("0 (no) or from 2 to 1000", lambda v: v == 0 or 2 <= v <= 1000),
    "student.drop": ("at least 0 and below 1", lambda v: 0 <= v < 1),
    "transport.epsilon": ("a number above 0 or e.g. relative:0.05", _epsilon),
    **whole("transport.k", 1, 100_000),
    "transport.objective": ("plain or divergence", ("plain", "divergence").__contains__),
    "transport.anchors": (f"one of {', '.join(ANCHOR_NAMES)}", ANCHOR_NAMES.__contains__),
    "transport.alignment": ("row, index or label", ("row", "index", "label").__contains__),
    **number("transport.identity"),
    **number("transport.weight"),
    **whole("balance.warmup", 0, 1_000_000),
    "balance.ratio": ("a number above 0", positive),
    **number("balance.alpha"),
}
"""Dotted name of a setting -> its limit."""
