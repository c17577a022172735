"""Builds torch's optimizers and learning-rate schedulers from the settings `training.*`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import float32, float64, optim
from torch.nn import Module, Parameter
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from sidelight.config import TrainingConfig
from sidelight.config.encoder_names import PARTS
from sidelight.networks.network import Network


def map_parameters_to_parts(method: Module) -> dict[Parameter, str]:
    """Parameter -> the part of its network ("encoders", "head", …), for every `Network` inside the method."""
    part_of: dict[Parameter, str] = {}
    for network in method.modules():
        if isinstance(network, Network):
            for part in PARTS:
                part_of |= dict.fromkeys(getattr(network, part).parameters(), part)
    return part_of


def build_optimizer(
    params: Sequence[Parameter], settings: TrainingConfig, parts: Mapping[Parameter, str]
) -> optim.Optimizer:
    """Build the optimizer of a group of parameters.

    "adam" adds the weight decay to the gradient (L2), "adamw" subtracts it from the weights (Loshchilov and Hutter
    2019), "sgd" adds it to the gradient before the momentum; all are torch's.

    Args:
        params: the parameters.
        settings: the optimisation budget; `learning_rates` gives parts of a network rates of their own.
        parts: parameter -> its part, as `map_parameters_to_parts` returns it.
    """
    by_rate: dict[float, list[Parameter]] = {}
    for p in params:
        rate = settings.learning_rates.get(parts.get(p, ""), settings.learning_rate)
        by_rate.setdefault(rate, []).append(p)
    groups: Any = list(params)
    if set(by_rate) != {settings.learning_rate}:
        groups = [{"params": members, "lr": rate} for rate, members in by_rate.items()]
    shared: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": _fusable(params),
    }
    if settings.optimizer == "sgd":
        return optim.SGD(groups, momentum=settings.momentum, **shared)
    return (optim.Adam if settings.optimizer == "adam" else optim.AdamW)(groups, **shared)


def build_scheduler(optimizer: optim.Optimizer, settings: TrainingConfig, steps: int) -> LRScheduler | None:
    """Build the scheduler of the learning rates; None if they are constant.

    "cosine" decreases from the learning rate to 0 (Loshchilov and Hutter 2017). "onecycle" increases from a 25th of the
    learning rate over the first 30 % of the steps and then decreases to almost 0, while the momentum (β₁ of Adam) does
    the opposite (Smith and Topin 2019). Everything else has torch's defaults.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        settings: the optimisation budget.
        steps: the number of training steps.
    """
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if settings.schedule == "onecycle":
        moved = settings.optimizer != "sgd" or settings.momentum > 0
        rates = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, rates, total_steps=steps, cycle_momentum=moved)
    return None


def step_schedulers(schedulers: Mapping[str, LRScheduler]) -> None:
    """Advance all schedulers by one step, also those of groups that this step did not update (a critic in warm-up)."""
    if schedulers:
        # torch warns about a scheduler whose optimizer has not stepped yet, which is intended here.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for scheduler in schedulers.values():
                scheduler.step()


def _fusable(params: Sequence[Parameter]) -> bool:
    """Whether torch has a fused kernel for these parameters."""
    return all(p.device.type in ("cpu", "cuda") and p.dtype in (float32, float64) for p in params)
