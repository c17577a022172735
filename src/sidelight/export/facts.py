"""What a student says of its inputs, and of rows that are far from those of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.training_ranges import OutOfRange

UNKNOWN = "not given"
AXES = {
    1: ("rows", "columns"),
    2: ("rows", "time", "channels"),
    3: ("rows", "channels", "height", "width"),
    4: ("rows", "channels", "time", "height", "width"),
}


def facts(plan: ModalityPlan) -> dict[str, Any]:
    """What rows of a modality have to be, as JSON can hold it; "not given" for what is not known."""
    shape: list[int | str] = ["rows", *plan.shape]
    if plan.variable:
        shape[1] = "steps"
    seen = None if plan.ranges is None else plan.ranges.to_config()
    told = {
        "shape": shape,
        "axes": list(AXES[len(plan.shape)]),
        "unit": plan.unit or UNKNOWN,
        "rate_hz": plan.rate or UNKNOWN,
        "range": seen["values"] if seen else UNKNOWN,
    }
    if plan.columns:
        told["columns"] = list(plan.columns)
    if plan.longest:
        told["longest"] = plan.longest
    return told


def doc_string(plan: ModalityPlan) -> str:
    """The same as one sentence, for a graph that is opened without sidelight."""
    told = facts(plan)
    rate = told["rate_hz"]
    ranges = told["range"]
    if not isinstance(ranges, str):
        named = plan.columns or tuple(str(i) for i in range(len(ranges)))
        ranges = "; ".join(f"{c}: {_short(low)} to {_short(high)}" for c, (low, high) in zip(named, ranges))
    return (
        f"({', '.join(map(str, told['shape']))}): {' x '.join(told['axes'])}. Unit: {told['unit']}. Sampling rate: "
        f"{rate if isinstance(rate, str) else f'{rate:g} Hz'}. Training rows (0.1 % to 99.9 %): {ranges}"
    )


def far_sentence(m: str, plan: ModalityPlan, found: Sequence[OutOfRange]) -> str:
    """The warning for rows that are far outside of what training saw: the farthest channel, and the mend."""
    far = found[0]
    what, unit = far.what, f" {plan.unit}" if plan.unit else ""
    if far.channel is not None:
        name = repr(plan.columns[far.channel]) if plan.columns else str(far.channel)
        what = f"{what} of {'column' if len(plan.shape) == 1 else 'channel'} {name}"
    more = len({f.channel for f in found} - {far.channel, None})
    others = f" ({more} other {'columns' if len(plan.shape) == 1 else 'channels'} too)" if more else ""
    rate = f" at {plan.rate:g} Hz" if plan.rate else ""
    return (
        f"{m!r} is far from the training rows: the {what} is {_short(far.given)}{_times(far)} in the rows given, but "
        f"was {_short(far.low)} to {_short(far.high)}{unit} in training{others}. The student was trained on "
        f"{plan.unit or 'a unit that was not given'}{rate}, axes {' x '.join(AXES[len(plan.shape)])}: give the rows in "
        "the same unit, or look for a sensor that stands still; else do not trust these predictions"
    )


def _times(far: OutOfRange) -> str:
    """How many times smaller or larger than in training, where all of that is of one sign."""
    if far.low * far.high <= 0 or far.given * far.low <= 0:
        return ""
    ratio = far.given / math.copysign(math.sqrt(far.low * far.high), far.low)
    return f", {1 / ratio:.3g} times less" if ratio < 1 else f", {ratio:.3g} times more"


def _short(x: float | None) -> str:
    return UNKNOWN if x is None else f"{x:.3g}"
