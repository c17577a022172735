"""Sign and format of metrics: shares are written in points out of 100, all others as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

LOWER_IS_BETTER = frozenset({"mae", "rmse"})
"""For runs whose job.json does not say; metrics.py knows too, but needs torch."""
SHARES = frozenset(
    {"accuracy", "unweighted_accuracy", "macro_f1", "recall_at_1", "recall_at_5", "recall_at_10"}
    | {"acer", "apcer", "bpcer", "eer", "auc", "miou", "pixel_accuracy"}
)
OF_CLASS = "iou."
"""Prefix of the intersection over union of one class: `iou.<class>`."""
OF_TARGET = "ccc_"
"""Prefix of the CCC of one of several targets: `ccc_<target>`."""
ABBREVIATED = ("ccc", "mae", "rmse", "acer", "apcer", "bpcer", "eer", "auc")


class Unit(NamedTuple):
    """Factor and digits with which a metric is shown, and the noun for its differences."""

    factor: float
    digits: int
    noun: str

    def score(self, value: float) -> str:
        """A value of the metric: 0.823 -> "82.3"."""
        return number(value * self.factor, f".{self.digits}f")

    def difference(self, value: float) -> str:
        """A signed difference: 0.126 -> "+12.6"."""
        return number(value * self.factor, f"+.{self.digits}f")

    def amount(self, value: float, signed: bool = False) -> str:
        """A difference with its noun: "12.6 points", "+0.031"."""
        return f"{self.difference(value) if signed else self.score(value)} {self.noun}".strip()

    def threshold(self, value: float) -> str:
        """A round number with its noun: "1 point", "0.01"."""
        shown = round(value * self.factor, 6)
        return f"{shown:g} {self.noun.removesuffix('s') if shown == 1 else self.noun}".strip()


def unit(metric: str) -> Unit:
    """The unit of a metric."""
    return Unit(100, 1, "points") if metric in SHARES or metric.startswith(OF_CLASS) else Unit(1, 3, "")


def sign(metric: str, higher_is_better: Mapping[str, bool]) -> int:
    """+1 if a higher metric is better, −1 if a lower one is.

    Args:
        metric: the metric's name.
        higher_is_better: metric -> whether higher is better, as the jobs store it.
    """
    return 1 if higher_is_better.get(metric, metric not in LOWER_IS_BETTER) else -1


def metric_name(metric: str) -> str:
    """The metric's name for readers: `unweighted_accuracy` -> "unweighted accuracy", `ccc` -> "CCC"."""
    if metric.startswith(OF_CLASS):
        return f"IoU of {metric.removeprefix(OF_CLASS)}"
    if metric.startswith(OF_TARGET):
        return f"CCC of {metric.removeprefix(OF_TARGET)}"
    short = {"macro_f1": "macro-F1", "median_rank": "MedR", "miou": "mIoU"} | {
        name: name.upper() for name in ABBREVIATED
    }
    return short.get(metric, metric.replace("recall_at_", "R@").replace("_", " "))


def percent(share: float) -> str:
    """0.2 -> "20 %"; NaN -> "–"."""
    return f"{number(100 * share, '.0f')} %" if math.isfinite(share) else "–"


def labels_phrase(label_fraction: float) -> str:
    """A label fraction in words: 0.2 -> "labels from 20 % of the training groups"."""
    return "all labels" if label_fraction >= 1 else f"labels from {100 * label_fraction:g} % of the training groups"


def number(value: float, spec: str) -> str:
    """A number as text with a typographic minus sign; NaN as –, infinity as ∞.

    Args:
        value: the number.
        spec: its format, as in `format(value, spec)`.
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = format(value, spec)
    if not any(digit in text for digit in "123456789"):  # "−0.0" would look like a difference
        text = text.replace("-", "+" if "+" in spec else "")
    return text.replace("-", "−")
