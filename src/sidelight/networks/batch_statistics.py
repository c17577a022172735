"""Batch normalisation over the rows of several processes: the statistics of the whole batch, with their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from sidelight.utils import distributed


@contextmanager
def shared_statistics(module: nn.Module, held: bool) -> Iterator[None]:
    """Inside the block, batch normalisation in training takes its statistics over the rows of all processes.

    torch's SyncBatchNorm does the same, but on CUDA alone.

    Args:
        module: the module whose layers are changed; their weights and names stay.
        held: False if the rows of this process stand for none: they are left out of the statistics.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    for layer in layers:
        layer.forward = partial(_normalize, layer, held)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalize(layer: Any, held: bool, x: Tensor) -> Tensor:
    """The forward pass of a layer (torch's, but for the statistics)."""
    out, mean, variance, values = _Normalize.apply(x, layer.weight, layer.bias, layer.eps, held)  # type: ignore[no-untyped-call]
    if layer.track_running_stats and layer.running_mean is not None:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            share = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean.to(layer.running_mean), share)
            layer.running_var.lerp_((variance * (values / (values - 1))).to(layer.running_var), share)
    return out  # type: ignore[no-any-return]


class _Normalize(Function):
    """(x − mean) / √(variance + ε) · weight + bias per channel, with mean and variance over all processes.

    The gradient of x has the sums of the gradient, and of its product with the normalised x, over all processes. The
    elementwise work is that of torch's kernels for given statistics.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, held: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, values = _gather_statistics(x, held)
        ctx.eps, ctx.held, ctx.weighted = eps, held, weight is not None
        ctx.save_for_backward(x, weight, mean, variance, values)
        ctx.mark_non_differentiable(mean, variance, values)
        like = x if weight is None else weight  # weights may stay in float32 where x does not
        out = F.batch_norm(x, mean.to(like), variance.to(like), weight, bias, False, 0.0, eps)
        return out, mean, variance, values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, mean, variance, values = ctx.saved_tensors
        mean, variance = mean.to(x if weight is None else weight), variance.to(x if weight is None else weight)
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_weight, of_bias])
        if not ctx.held:
            sums.zero_()
        by_scale, by_shift = distributed.total(sums) / values.to(sums)
        deviation = (variance + ctx.eps).rsqrt()
        factor = deviation if weight is None else deviation * weight
        # of_x − factor · (by_shift + by_scale · (x − mean) · deviation), in place
        slope = factor * by_scale * deviation
        shape = (1, -1, *[1] * (x.dim() - 2))
        of_x = of_x.sub_((factor * by_shift - slope * mean).view(shape)).addcmul_(x, slope.view(shape), value=-1)
        if not ctx.held:
            of_x.zero_()
        return of_x, of_weight if ctx.weighted else None, of_bias if ctx.weighted else None, None, None


def _gather_statistics(x: Tensor, held: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) of the channels over all processes, and the number of values of each."""
    dims = [d for d in range(x.dim()) if d != 1]
    # Statistics of half precision are taken in float32, as torch does.
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    variance, mean = torch.var_mean(x, dims, correction=0)
    values = x.new_full((1,), x.numel() / x.shape[1] if held else 0.0)
    every = torch.stack(distributed.share(torch.cat([mean, variance, values])))
    means, variances, counts = torch.split(every, [len(mean), len(mean), 1], dim=1)
    values = counts.sum()
    mean = (means * counts).sum(0) / values
    variance = ((variances + (means - mean).square()) * counts).sum(0) / values
    return mean, variance, values
