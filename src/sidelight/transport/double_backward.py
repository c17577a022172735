"""Refuse second derivatives of gradients that are known in closed form to first order only.

`torch.autograd.function.once_differentiable` misses inputs that depend on other tensors: where the incoming gradient
is a number, it returns gradients without history, and a second derivative silently lacks their part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sidelight.utils.precision import find_device, in_full_precision

Backward = Callable[..., tuple[Any, ...]]


class _Refused(Function):
    """Passes the first ``count`` tensors on; they depend on all others in a way whose derivative is unknown."""

    generate_vmap_rule = True

    @staticmethod
    def forward(sentence: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(z.view_as(z) for z in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.sentence = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        raise RuntimeError(ctx.sentence)


def refuse_double_backward(sentence: str) -> Callable[[Backward], Backward]:
    """Decorate the backward pass of a `Function` that saves its inputs: a second derivative raises ``sentence``."""

    def decorate(backward: Backward) -> Backward:
        @wraps(backward)
        def computed(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
            with torch.no_grad(), in_full_precision(find_device(*grads)):
                found = backward(ctx, *grads)
            known = [z for z in found if z is not None]
            if not known or not torch.is_grad_enabled():  # without create_graph no second derivative can follow
                return found
            sources = [z for z in (*ctx.saved_tensors, *grads) if z is not None and z.requires_grad]
            tied = iter(_Refused.apply(sentence, len(known), *known, *sources))  # type: ignore[no-untyped-call]
            return tuple(None if z is None else next(tied) for z in found)

        return computed

    return decorate
