"""The types of numbers that training steps compute with: autocast, and the scaling of float16 gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError, RunError
from sidelight.methods.base import Method, Step, TrainState
from sidelight.utils.device import CPU, describe_device, supports_bf16
from sidelight.utils.distributed import average
from sidelight.utils.phases import phase

HALF = {"bf16": torch.bfloat16, "16": torch.float16}
"""Values of `training.precision` that are not float32 -> their type."""
SMALLEST_SCALE = 1.0
"""Gradients that overflow at this scale would overflow without scaling."""


class Precision:
    """How the training steps of a method are computed.

    Matrix products and convolutions of the networks run in the type of the settings (torch's autocast); weights,
    gradients and optimizers stay in float32, and losses ask for float32 themselves. float16 has a small range, so its
    losses are scaled before the gradient is taken, and a step whose gradients overflow is left out
    (`torch.amp.GradScaler`).

    Args:
        name: `training.precision`: "32", "bf16" or "16".
        device: where the method is.
    """

    def __init__(self, name: str = "32", device: torch.device = CPU):
        self.dtype, self.device = HALF.get(name), device
        self.scaler = torch.amp.GradScaler(device.type) if name == "16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """A block in which networks compute in the type of the settings."""
        if self.dtype is None:
            return nullcontext()
        # Weights that a pass without gradient has cast would have no gradient in the next pass: no cache.
        return torch.autocast(self.device.type, self.dtype, cache_enabled=False)

    def steps(self, method: Method, batch: Batch, state: TrainState) -> Iterator[Step]:
        """`method.steps`; autocast acts inside of the method alone, not on who takes its steps."""
        steps = iter(method.steps(batch, state))
        while True:
            with self.autocast():
                step = next(steps, None)
            if step is None:
                return
            yield step

    def gradients(
        self, loss: Tensor, params: Sequence[Parameter], *, retain_graph: bool = False
    ) -> list[Tensor | None]:
        """The gradients of a loss, averaged over processes; infinite or NaN where they overflow float16."""
        grads = self._scaled_gradients(loss, params, retain_graph)
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        return grads if scale == 1.0 else [None if g is None else g / scale for g in grads]

    @phase("train: gradients, updates")
    def update(self, loss: Tensor, params: Sequence[Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Take an optimizer's step along the gradient of a loss, unless a gradient overflows float16."""
        # autograd.grad, not backward(): the terms of a student must not leave gradients in its critics.
        grads = self._scaled_gradients(loss, params)
        for p, g in zip(params, grads):
            # torch's fused optimizers on the CPU read a gradient as if it had the strides of its weight.
            p.grad = g if g is None or g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        if self.scaler is None:
            optimizer.step()
        elif any(g is not None for g in grads):
            self.scaler.step(optimizer)
            self.scaler.update()  # after every step: a method may update one group several times in a batch
        optimizer.zero_grad(set_to_none=True)

    def _scaled_gradients(
        self, loss: Tensor, params: Sequence[Parameter], retain_graph: bool = False
    ) -> list[Tensor | None]:
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        return average(torch.autograd.grad(scaled, params, retain_graph=retain_graph, allow_unused=True))

    @property
    def advice(self) -> str:
        """What errors about NaN advise first, with a blank at the end; "" in float32 and bfloat16."""
        if self.scaler is None:
            return ""
        return "float16 ends at 65504: set training.precision=bf16, which has the range of float32. "

    def check(self, epoch: int) -> None:
        """Check that the gradients of an epoch fit into float16.

        Raises:
            RunError: they overflow without any scaling.
        """
        if self.scaler is not None and self.scaler.get_scale() < SMALLEST_SCALE:
            raise RunError(
                f"the gradients overflow float16 in epoch {epoch} at every scale, so no step is taken any more. "
                f"{self.advice.strip()}"
            )

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scaler is None else dict(self.scaler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(state))


def check_precision(name: str, device: torch.device) -> None:
    """Check that a device computes in the type of the settings.

    Args:
        name: `training.precision`.
        device: the device of the networks.

    Raises:
        ConfigError: it does not; names what to set instead.
    """
    if why := explain_unsupported(name, device):
        raise ConfigError(f"training.precision={name}: {why}")


def explain_unsupported(name: str, device: torch.device) -> str:
    """Why a device does not compute in a type, and what to set instead; "" where it does."""
    if name == "32":
        return ""
    where = describe_device(device)
    if not torch.amp.is_autocast_available(device.type):
        return f"torch has no autocast for {where}. Set training.precision=32."
    if name == "16" and device.type != "cuda":
        better = "bf16, which needs no scaling" if supports_bf16(device) else "32"
        return f"float16 with scaling needs a CUDA GPU, and networks are trained on {where}. Set {better}."
    if name == "bf16" and not supports_bf16(device):
        other = "16 (with scaling) or 32" if device.type == "cuda" else "32"
        return f"{where} does not multiply bfloat16 in hardware. Set training.precision={other}."
    return ""
