"""Live face or attack, decided at a threshold that the select rows choose."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.errors import ConfigError, RunError, unknown
from sidelight.metrics import Metric
from sidelight.tasks.base import TOO_FEW_ROWS
from sidelight.tasks.classification import Classification

if TYPE_CHECKING:
    from sidelight.recordings.label_maps import LabelMaps


class AntiSpoofing(Classification):
    """Two classes, one of which is `live`; a row is accepted as live if its score reaches `threshold`.

    Trained as a classification. score = logit of live − logit of attack, the log-odds. ACER = (APCER + BPCER) / 2
    (ISO/IEC 30107-3; OS-MD, section 4). The threshold is the lowest of those with the least ACER on the select rows
    (`metrics.spoofing_threshold`); until it is chosen, scores use the threshold that the scored rows would choose.

    Args:
        class_names: the two labels.
        live: the label of live faces; data sets differ in it.
        threshold: the threshold of the score, or None before calibration.

    Raises:
        ConfigError: There are not two labels, or `live` is none of them.
    """

    name, primary = "anti-spoofing", "acer"
    settings = ("live",)

    def __init__(self, class_names: tuple[str, ...], live: str = "", threshold: float | None = None):
        super().__init__(class_names)
        if len(class_names) != 2:
            raise ConfigError(
                f"anti-spoofing needs two classes, live and attack, not {len(class_names)}: {_listed(class_names)}."
            )
        if not live:
            raise ConfigError(
                f"live: set the label of live faces, {_listed(class_names, ' or ')}, which differs between data sets."
            )
        if live not in class_names:
            raise ConfigError(f"live: {unknown('label', live, class_names)}")
        self.live, self.threshold = live, threshold
        self._live = class_names.index(live)

    def metric_input(self, answer: Tensor) -> NDArray:
        """(B,) float64 scores."""
        logits = np.asarray(answer.detach().cpu().double())
        return np.asarray(logits[:, self._live] - logits[:, 1 - self._live])

    def decide(self, prediction: Tensor) -> NDArray:
        return np.where(self._accepted(self.metric_input(prediction)), self._live, 1 - self._live)

    def calibrate(self, answer: Tensor, target: Tensor, labelled: Tensor) -> AntiSpoofing:
        """The same task with the threshold that these rows choose.

        Args:
            answer: (B, 2) logits.
            target: (B,) class codes.
            labelled: (B,) bool.

        Returns:
            The calibrated task.

        Raises:
            RunError: The labelled rows are not of both classes, or a score is not finite.
        """
        codes, score = target[labelled].cpu().numpy(), self.metric_input(answer[labelled])
        why = self.explain_unmeasurable(codes)
        if not why and not np.isfinite(score).all():
            why = "a prediction is not finite. Lower training.learning_rate, and check the inputs."
        if why:
            raise RunError(f"no threshold can be chosen on the select rows: {why}")
        chosen = copy.copy(self)
        chosen.threshold = metrics.spoofing_threshold(score, codes == self._live)
        return chosen

    def explain_unmeasurable(self, target: NDArray) -> str:
        found = np.unique(target)
        if len(found) == 2:
            return ""
        only = (
            f"all {len(target)} labelled rows are {self.class_names[int(found[0])]!r}"
            if len(found)
            else "none is labelled"
        )
        both = _listed(self.class_names, " and ")
        return f"errors of both kinds need rows of both {both}, and {only}. {TOO_FEW_ROWS}"

    def score(self, answer: Tensor, target: Tensor | LabelMaps, labelled: Tensor, name: str | None = None) -> float:
        assert isinstance(target, Tensor)
        chosen = self.calibrate(answer, target, labelled) if self.threshold is None and labelled.any() else self
        return super(AntiSpoofing, chosen).score(answer, target, labelled, name)

    def metrics(self) -> dict[str, Metric]:
        def of(function: Callable[[NDArray, NDArray], float]) -> Callable[[NDArray, NDArray], float]:
            return lambda score, target: function(score, target == self._live)

        def errors(score: NDArray, live: NDArray) -> tuple[float, float]:
            return metrics.spoofing_errors(self._accepted(score), live)

        return {
            "acer": Metric(of(lambda score, live: sum(errors(score, live)) / 2), False),
            "apcer": Metric(of(lambda score, live: errors(score, live)[0]), False),
            "bpcer": Metric(of(lambda score, live: errors(score, live)[1]), False),
            "eer": Metric(of(metrics.equal_error_rate), False),
            "auc": Metric(of(metrics.area_under_curve)),
        }

    def get_params(self) -> dict[str, Any]:
        return {"live": self.live, "threshold": self.threshold}

    def _accepted(self, score: NDArray) -> NDArray:
        return np.asarray(score >= (0.0 if self.threshold is None else self.threshold))


def _listed(class_names: tuple[str, ...], between: str = ", ") -> str:
    """The labels, quoted."""
    return between.join(map(repr, class_names))
