"""torch's optimisers and learning-rate schedules, as `training` asks for them."""

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


def parts_of(method: Module) -> dict[Parameter, str]:
    """Parameter -> the part of a network that it is in, of every `Network` inside the method."""
    found: dict[Parameter, str] = {}
    for network in (m for m in method.modules() if isinstance(m, Network)):
        for part in PARTS:
            found |= dict.fromkeys(getattr(network, part).parameters(), part)
    return found


def make_optimiser(
    params: Sequence[Parameter], settings: TrainingConfig, parts: Mapping[Parameter, str]
) -> optim.Optimizer:
    """One optimiser for a group of parameters; those of a part with a learning rate of its own are moved at that.

    "adam" adds the weight decay to the gradient (L2), "adamw" takes it off the weights (Loshchilov and Hutter 2019),
    "sgd" adds it to the gradient before the momentum; each is torch's own. parts: as `parts_of` says.
    """
    own = settings.learning_rates
    rates = [own.get(parts.get(p, ""), settings.learning_rate) for p in params]
    groups: Any = list(params)
    if len(set(rates)) > 1 or set(rates) != {settings.learning_rate}:
        groups = [
            {"params": [p for p, of_p in zip(params, rates) if of_p == rate], "lr": rate}
            for rate in dict.fromkeys(rates)
        ]
    shared: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": _fusable(params),
    }
    if settings.optimizer == "sgd":
        return optim.SGD(groups, momentum=settings.momentum, **shared)
    return (optim.Adam if settings.optimizer == "adam" else optim.AdamW)(groups, **shared)


def make_schedule(optimiser: optim.Optimizer, settings: TrainingConfig, steps: int) -> LRScheduler | None:
    """How the learning rates move over `steps` training steps; None: they do not.

    "cosine" falls from the learning rate to 0 (Loshchilov and Hutter 2017). "onecycle" climbs from a 25th of it over
    the first 30 % of the steps and then falls to almost 0, while the momentum (of Adam: β₁) goes the other way (Smith
    and Topin 2019). All else are torch's defaults.
    """
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimiser, steps)
    if settings.schedule == "onecycle":
        moved = settings.optimizer != "sgd" or settings.momentum > 0
        rates = [group["lr"] for group in optimiser.param_groups]
        return OneCycleLR(optimiser, rates, total_steps=steps, cycle_momentum=moved)
    return None


def advance(schedules: Mapping[str, LRScheduler]) -> None:
    """One step on, also of groups that the method did not move in this step, such as a critic before its time."""
    if schedules:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for schedule in schedules.values():
                schedule.step()


def _fusable(params: Sequence[Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.dtype in (float32, float64) for p in params)
