"""Attach gradients that are already known to a value, and combine them over the terms of a sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sidelight.transport.arrays import tensor
from sidelight.transport.double_backward import refuse_double_backward


class _KnownGradients(Function):
    """A value whose gradients are already known: the envelope theorem leaves nothing to differentiate through."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.count = count
        return value.view_as(value)

    @staticmethod
    @refuse_double_backward(
        "the transport's gradient is itself differentiable only with second_order=True: pass it to the solver"
    )
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors[ctx.count :]
        scaled = [scale_by(g, grad) for g in gradients] if grad.ndim else [grad * g for g in gradients]
        return (None, None, *scaled, *[None] * len(gradients))


def to_value(number: Any, like: Tensor) -> Tensor:
    """A number, or one for each problem of a batch, as a tensor on the device and in the type of ``like``."""
    return like.new_tensor(number) if isinstance(number, float) else tensor(number).to(like)


def scale_by(array: Any, by: Any) -> Any:
    """``array`` times a number, or each problem of a batch times its own."""
    if isinstance(by, float):
        return array if by == 1.0 else array * by
    return array * by.reshape(-1, *[1] * (array.ndim - 1))


def merge_gradients(groups: Sequence[tuple[float, Sequence[tuple[Tensor, Tensor]]]]) -> list[tuple[Tensor, Tensor]]:
    """Combine the gradients of a weighted sum.

    Takes, for each term of the sum, its weight and its (input, gradient) pairs; returns one pair for each input.
    """
    total: dict[int, tuple[Tensor, Tensor]] = {}
    for weight, pairs in groups:
        for variable, gradient in pairs:
            if id(variable) in total:
                total[id(variable)] = variable, torch.add(total[id(variable)][1], gradient, alpha=weight)
            else:
                total[id(variable)] = variable, gradient if weight == 1.0 else gradient * weight
    return list(total.values())


def attach_gradients(value: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """``value`` with the given (input, gradient) pairs as its backward pass."""
    if not pairs:
        return value
    inputs, gradients = zip(*pairs)
    result: Tensor = _KnownGradients.apply(value, len(pairs), *inputs, *gradients)  # type: ignore[no-untyped-call]
    return result
