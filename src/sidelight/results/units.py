"""How a metric is signed and written: shares in points out of 100, everything else as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

LOWER_IS_BETTER = frozenset({"mae", "rmse"})  # where job.json does not say, as in old runs; metrics.py needs torch
SHARES = frozenset(
    {"accuracy", "unweighted_accuracy", "macro_f1", "recall_at_1", "recall_at_5", "recall_at_10"}
    | {"acer", "apcer", "bpcer", "eer", "auc", "miou", "pixel_accuracy"}
)
OF_CLASS = "iou."
"""How the intersection over union of one class begins: `iou.<class>`."""
OF_TARGET = "ccc_"
"""How the CCC of one of several targets begins: `ccc_<target>`."""
ABBREVIATED = ("ccc", "mae", "rmse", "acer", "apcer", "bpcer", "eer", "auc")


class Unit(NamedTuple):
    """Factor and digits with which a metric is shown, and what a difference of it is called."""

    factor: float
    digits: int
    noun: str

    def score(self, value: float) -> str:
        return number(value * self.factor, f".{self.digits}f")

    def difference(self, value: float) -> str:
        return number(value * self.factor, f"+.{self.digits}f")

    def amount(self, value: float, signed: bool = False) -> str:
        """A difference with its noun: "12.6 points", "+0.031"."""
        return f"{self.difference(value) if signed else self.score(value)} {self.noun}".strip()

    def threshold(self, value: float) -> str:
        """A round number with its noun: "1 point", "0.01"."""
        shown = round(value * self.factor, 6)
        return f"{shown:g} {self.noun.removesuffix('s') if shown == 1 else self.noun}".strip()


def unit(metric: str) -> Unit:
    return Unit(100, 1, "points") if metric in SHARES or metric.startswith(OF_CLASS) else Unit(1, 3, "")


def sign(metric: str, higher_is_better: Mapping[str, bool]) -> int:
    """+1 where higher is better, −1 where lower is, as the jobs say, or as is known of the metric."""
    return 1 if higher_is_better.get(metric, metric not in LOWER_IS_BETTER) else -1


def metric_name(metric: str) -> str:
    """The metric's name as read: `unweighted_accuracy` -> "unweighted accuracy", `ccc` -> "CCC"."""
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


def labels_phrase(labels: float) -> str:
    """What a label budget means, in words."""
    return "all labels" if labels >= 1 else f"labels from {100 * labels:g} % of the training groups"


def number(value: float, spec: str) -> str:
    """A number as text with a true minus sign; NaN as –, infinity as ∞."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = format(value, spec)  # "−0.0" would be a difference that is not there
    if float(text) == 0:
        text = text.replace("-", "+" if "+" in spec else "")
    return text.replace("-", "−")
