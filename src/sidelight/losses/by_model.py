"""Losses whose value and gradient are computed together, for one model or for each of a stack of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function

from sidelight.transport.double_backward import refuse_double_backward

Compute = Callable[..., tuple[Tensor, ...]]
"""A function of tensors (M, …), one row for each model, that returns the values (M,) and the gradients (M, …) by the
first of these tensors (as many as it likes); the other tensors get no gradient."""


def apply_by_model(compute: Compute, *inputs: Tensor) -> Tensor:
    """The value of one model, with a gradient that is known beside it; under `torch.vmap` one call for all models.

    The value is differentiable once.

    Args:
        compute: computes values and gradients of M models without autograd.
        inputs: the tensors of one model.

    Returns:
        A scalar.
    """
    value: Tensor = _ByModel.apply(compute, 0, *inputs)[0]  # type: ignore[no-untyped-call]
    return value


class _ByModel(Function):
    """`compute` on tensors whose first ``depth`` dimensions are models (one for each level of `torch.vmap`)."""

    @staticmethod
    def forward(compute: Compute, depth: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        models = inputs[0].shape[:depth]
        results = compute(*[x.detach().reshape(models.numel(), *x.shape[depth:]) for x in inputs])
        return tuple(x.reshape((*models, *x.shape[1:])) for x in results)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.count, gradients = len(inputs) - 2, output[1:]
        ctx.known = len(gradients)
        ctx.mark_non_differentiable(*gradients)
        ctx.save_for_backward(*gradients, *inputs[2:])

    @staticmethod
    @refuse_double_backward(
        "a loss whose gradient is known in closed form is differentiable once: leave out create_graph"
    )
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        known = ctx.saved_tensors[: ctx.known]
        scaled = [grad.reshape((*grad.shape, *[1] * (g.ndim - grad.ndim))) * g for g in known]
        return (None, None, *scaled, *[None] * (ctx.count - ctx.known))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], compute: Compute, depth: int, *inputs: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        models = [
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs, in_dims[2:])
        ]
        results = _ByModel.apply(compute, depth + 1, *models)  # type: ignore[no-untyped-call]
        return results, (0,) * len(results)
