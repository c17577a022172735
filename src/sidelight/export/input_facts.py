"""Describe a student's inputs, and warn of rows that are far from the training rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.training_ranges import OutOfRange
from sidelight.errors import SidelightWarning

UNKNOWN = "not given"
AXES = {
    1: ("rows", "columns"),
    2: ("rows", "time", "channels"),
    3: ("rows", "channels", "height", "width"),
    4: ("rows", "channels", "time", "height", "width"),
}


def describe_input(plan: ModalityPlan) -> dict[str, Any]:
    """Shape, axes, unit, rate and range that rows of a modality must have, as JSON; "not given" if unknown.

    Where they exist, also the columns, the steps that are read, and the drift that the student removes.
    """
    shape: list[int | str] = ["rows", *plan.shape]
    if plan.variable:
        shape[1] = "steps"
    seen = None if plan.ranges is None else plan.ranges.to_config()
    description = {
        "shape": shape,
        "axes": list(AXES[len(plan.shape)]),
        "unit": plan.unit or UNKNOWN,
        "rate_hz": plan.rate or UNKNOWN,
        "range": seen["values"] if seen else UNKNOWN,
    }
    if plan.columns:
        description["columns"] = list(plan.columns)
    if plan.longest:
        description["longest"] = plan.longest
    if plan.detrend:
        description["detrend"] = plan.detrend
    return description


def describe_measured(about: Mapping[str, Any]) -> dict[str, str]:
    """ "unit" and "rate" of what `describe_input` returns, in words, where such rows have one.

    Only what has a time axis has a rate. Images have a unit where one is given, such as depth in metres.
    """
    found: dict[str, str] = {}
    if about["unit"] != UNKNOWN or "height" not in about["axes"]:
        found["unit"] = about["unit"]
    rate = about["rate_hz"]
    if rate != UNKNOWN or "time" in about["axes"]:
        found["rate"] = rate if isinstance(rate, str) else f"{rate:g} Hz"
    return found


def doc_string(plan: ModalityPlan) -> str:
    """`describe_input` as one sentence, for a graph that is opened without sidelight."""
    description = describe_input(plan)
    known = describe_measured(description)
    ranges = description["range"]
    if not isinstance(ranges, str):
        named = plan.columns or tuple(str(i) for i in range(len(ranges)))
        ranges = "; ".join(f"{c}: {_short(low)} to {_short(high)}" for c, (low, high) in zip(named, ranges))
    unit = f"Unit: {known['unit']}. " if "unit" in known else ""
    rate = f"Sampling rate: {known['rate']}. " if "rate" in known else ""
    return (
        f"({', '.join(map(str, description['shape']))}): {' x '.join(description['axes'])}. "
        f"{unit}{rate}Training rows (0.1 % to 99.9 %): {ranges}"
    )


def warn_far(
    plans: Mapping[str, ModalityPlan],
    inputs: Mapping[str, Tensor],
    lengths: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
) -> None:
    """Warn of rows that are far outside the training rows' range.

    Args:
        plans: modality -> how its rows are prepared.
        inputs: modality -> (N, …) raw rows on the CPU.
        lengths: modality -> (N,) valid time steps.
        present: modality -> (N,) bool.
    """
    for m, rows in inputs.items():
        length, here = (None if t is None else t.numpy() for t in (lengths.get(m), present.get(m)))
        ranges = plans[m].ranges
        if ranges is not None and (found := ranges.find_out_of_range(rows.numpy(), length, here)):
            warnings.warn(far_warning(m, plans[m], found), SidelightWarning, stacklevel=4)


def far_warning(m: str, plan: ModalityPlan, found: Sequence[OutOfRange]) -> str:
    """Word the warning about rows that are far outside the training rows' range.

    Args:
        m: name of the modality.
        plan: how its rows are prepared.
        found: the channels that are far, the farthest first.
    """
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
        "the same unit, or look for a sensor that is stuck; else do not trust these predictions"
    )


def _times(far: OutOfRange) -> str:
    """How many times smaller or larger than in training; "" if the training range contains zero."""
    if far.low * far.high <= 0 or far.given * far.low <= 0:
        return ""
    ratio = far.given / math.copysign(math.sqrt(far.low * far.high), far.low)
    return f", {1 / ratio:.3g} times less" if ratio < 1 else f", {ratio:.3g} times more"


def _short(x: float | None) -> str:
    return UNKNOWN if x is None else f"{x:.3g}"
