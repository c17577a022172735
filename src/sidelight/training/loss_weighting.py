"""How the terms of a step are weighed against one another: the one place where weights, warm-up and schedules live."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.config import BalanceConfig
from sidelight.errors import ConfigError
from sidelight.methods.base import Method, TrainState

TASK = "task"


class LossWeighting:
    """Constant weights, L = L_task + r(t) Σ_i w_i L_i; r grows from 0 to 1 over `warmup` epochs.

    A step without a term "task" (a critic's) is the plain weighted sum.
    """

    def __init__(self, weights: Mapping[str, float], config: BalanceConfig):
        self.weights, self.config = weights, config

    def loss(self, terms: Mapping[str, Tensor], clock: TrainState) -> Tensor:
        """The weighted sum of a step's named terms."""
        factors = self.factors(terms) if TASK in terms else {}
        ramp = 1.0 if TASK not in terms else self.ramp(clock)
        total = [
            self.weights.get(name, 1.0) * factors.get(name, 1.0) * (1.0 if name == TASK else ramp) * value
            for name, value in terms.items()
        ]
        return torch.stack(total).sum()

    def ramp(self, clock: TrainState) -> float:
        return min(1.0, clock.epoch / self.config.warmup) if self.config.warmup else 1.0

    def factors(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """What multiplies each term beside its constant weight; a term that is not named has 1."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class TargetRatio(LossWeighting):
    """Keeps every other term at `ratio` of the task loss, factor_i = ratio |L_task| / |L_i| without gradient.

    OS-MD (arXiv 2309.08204) does this with ratio 0.1 and calls it GradNorm. Where a batch has no labelled row, the last
    task loss stands; a factor is at most 1000, so that a term that has reached 0 is left there.
    """

    def __init__(self, weights: Mapping[str, float], config: BalanceConfig):
        super().__init__(weights, config)
        self.last = 0.0

    def factors(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        sizes = torch.stack([value.detach().double().abs() for value in terms.values()]).tolist()
        task = dict(zip(terms, sizes))[TASK]
        self.last = task or self.last
        return {
            name: min(self.config.ratio * self.last / size, 1000.0) if size else 1.0
            for name, size in zip(terms, sizes)
            if name != TASK
        }

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.last = float(state["last"])


class GradNorm(LossWeighting):
    """Weights that bring the terms' gradients to comparable sizes (Chen et al., ICML 2018, algorithm 1).

    G_i = |∇_W w_i L_i| on the shared parameters W, r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0)); the factors w descend
    Σ_i |G_i − mean_j G_j · r_i^α| (Adam, the target without gradient) and are scaled to sum to the number of terms.
    A term that is 0 in the batch, or does not depend on W, keeps its factor and is left out of the means.

    Args:
        find: returns W (`Method.shared`). It is called when a step first has a task term to weigh others against:
            stages without one (a T-Net's, a critic's) keep constant weights, and need no W.
    """

    RATE = 0.025

    def __init__(self, weights: Mapping[str, float], config: BalanceConfig, find: Callable[[], Sequence[Parameter]]):
        super().__init__(weights, config)
        self.find = find
        self.first: dict[str, float] = {}
        self.now: dict[str, float] = {}
        self.moments: dict[str, tuple[float, float]] = {}
        self.step = 0

    @cached_property
    def shared(self) -> list[Parameter]:
        """W."""
        if not (found := list(self.find())):
            raise ConfigError(
                "balance.kind=gradnorm compares gradients on weights that the terms share, and these terms share none "
                "that is trained: set balance.kind=fixed or target-ratio."
            )
        return found

    def factors(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        values = {name: self.weights.get(name, 1.0) * value for name, value in terms.items()}
        sizes = {name: self._gradient(value) for name, value in values.items()}
        losses = {name: abs(float(value.detach())) for name, value in values.items()}
        used = [name for name in terms if sizes[name] > 0 and losses[name] > 0]
        for name in used:
            self.first.setdefault(name, losses[name])
            self.now.setdefault(name, 1.0)
        if len(used) > 1:
            self._update(used, sizes, {name: losses[name] / self.first[name] for name in used})
        return {name: self.now.get(name, 1.0) for name in terms}

    def _gradient(self, value: Tensor) -> float:
        if not value.requires_grad:
            return 0.0
        grads = torch.autograd.grad(value, self.shared, retain_graph=True, allow_unused=True)
        return math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))

    def _update(self, used: list[str], sizes: Mapping[str, float], progress: Mapping[str, float]) -> None:
        norms = {name: self.now[name] * sizes[name] for name in used}
        middle, pace = sum(norms.values()) / len(used), sum(progress.values()) / len(used)
        self.step += 1
        for name in used:
            target = middle * (progress[name] / pace) ** self.config.alpha
            slope = math.copysign(sizes[name], norms[name] - target) if norms[name] != target else 0.0
            m, v = self.moments.get(name, (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
            self.moments[name] = m, v
            move = (m / (1 - 0.9**self.step)) / (math.sqrt(v / (1 - 0.999**self.step)) + 1e-8)
            self.now[name] = max(self.now[name] - self.RATE * move, 1e-3)
        scale = len(self.now) / sum(self.now.values())
        self.now = {name: w * scale for name, w in self.now.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "now": self.now, "moments": self.moments, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first, self.now, self.step = dict(state["first"]), dict(state["now"]), int(state["step"])
        self.moments = {name: (m, v) for name, (m, v) in state["moments"].items()}


def make_balance(method: Method, config: BalanceConfig) -> LossWeighting:
    """The balance that the settings ask for; kind "method" is the method's own."""
    if config.kind == "method":
        config = BalanceConfig(method.balance, config.warmup, config.ratio, config.alpha)
    if config.kind == "target-ratio":
        return TargetRatio(method.weights, config)
    if config.kind == "gradnorm":
        return GradNorm(method.weights, config, method.shared)
    return LossWeighting(method.weights, config)
