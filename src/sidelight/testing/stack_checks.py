"""Checks that a method which says so can be trained stacked: several models in one call, on padded batches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from sidelight.data.batch import Batch
from sidelight.losses.structural import StructuralTransport
from sidelight.methods.base import Method, TrainState
from sidelight.methods.stacking import explain_unstackable
from sidelight.testing.driving import named
from sidelight.testing.subject import Subject, require
from sidelight.utils.stacking import Streams, stacked

TOLERANCE = 1e-7
"""The largest difference, relative to the size of the number, between models in a stack and alone.

It leaves room for rounding where a loss divides by the distance of rows that are almost equal.
"""
SIZES = (1.0, 0.6, 0.2)
"""The rows of the three models, as shares of the largest batch."""

Tensors = dict[str, Any]


def check_stacked_models_do_not_mix(subject: Subject) -> str | None:
    """Terms and gradients of three models under `torch.vmap`, on padded batches, are those of each model alone.

    The models have different parameters, batches and numbers of rows, in float64 and without dropout. Padding rows hold
    real rows, enlarged, and claim to be labelled and complete: only `Batch.valid` says what they are.
    """
    method = _without_randomness(subject.fresh(torch.float64))
    if why := explain_unstackable(method):
        return f"not stackable: {why}"
    batches = _draw_batches(subject.used(method).to(torch.float64))
    parameters = [_perturbed(method, seed) for seed in range(len(batches))]
    alone = [_terms_alone(method, own, batch) for own, batch in zip(parameters, batches)]
    try:
        stacked = _terms_stacked(method, parameters, batches)
    except Exception as error:
        what = "a branch on the value of a tensor, boolean indexing, nonzero and item() are not allowed there"
        require(False, f"the terms of stacked models fail under torch.vmap ({what}): {named(error)}")
    for m, (terms, gradients) in enumerate(alone):
        rows = f"of model {m} with {len(batches[m])} rows, beside {len(batches[0])} rows of another,"
        for name, value in terms.items():
            require(name in stacked[0], f"stacked models have no term {name!r}")
            _require_equal(f"term {name!r} {rows}", stacked[0][name][m], value)
        for name, value in gradients.items():
            _require_equal(f"the gradient by {name!r} {rows}", stacked[1][name][m], value)
    return None


def _require_equal(what: str, stacked: Tensor, alone: Tensor) -> None:
    apart = float((stacked - alone).abs().max() / (1 + alone.abs().max())) if alone.numel() else 0.0
    require(
        math.isfinite(apart) and apart <= TOLERANCE,
        f"{what} differs by {apart:.1e} from that model alone: do padding rows (False in batch.valid) count?",
    )


def _without_randomness(method: Method) -> Method:
    """In training mode, but without dropout; iterative solvers go on until only rounding is left."""
    method.train()
    for part in method.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        if isinstance(part, StructuralTransport):
            part.settings["tolerance"] = 1e-13
    return method


def _perturbed(method: Method, seed: int) -> Tensors:
    """The trainable parameters of one model of the stack."""
    g = torch.Generator().manual_seed(seed)
    parameters = {name: p.detach() for name, p in method.named_parameters() if p.requires_grad}
    return {name: p + 0.05 * torch.randn(p.shape, generator=g, dtype=p.dtype) for name, p in parameters.items()}


def _draw_batches(rows: Batch) -> list[Batch]:
    g = torch.Generator().manual_seed(0)
    sizes = [max(2, round(share * len(rows))) for share in SIZES]
    return [rows.index_select(torch.randperm(len(rows), generator=g)[:n]) for n in sizes]


class _Terms(nn.Module):
    """Calls a method's `terms`, so that `functional_call` can give it parameters."""

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.terms(batch, TrainState())


def _evaluate(method: Method, parameters: Tensors, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """A sum of the terms in which each has a share of its own, and the terms."""
    buffers = {f"method.{name}": b.clone() for name, b in method.named_buffers()}
    given = {f"method.{name}": p for name, p in parameters.items()}
    terms = functional_call(_Terms(method), (given, buffers), (batch,))
    total = torch.stack([value / (1 + k) for k, value in enumerate(terms.values())]).sum()
    return total, terms


def _terms_alone(method: Method, parameters: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
    own = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    total, terms = _evaluate(method, own, batch)
    gradients = torch.autograd.grad(total, list(own.values()), allow_unused=True, materialize_grads=True)
    return {name: value.detach() for name, value in terms.items()}, dict(zip(own, gradients))


def _terms_stacked(method: Method, parameters: list[Tensors], batches: list[Batch]) -> tuple[Tensors, Tensors]:
    padded = [_pad(batch, len(batches[0])) for batch in batches]
    tensors = _stack([_tensors_of(batch) for batch in padded])
    like = padded[0]

    def of_one(parameters: Tensors, tensors: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        return _evaluate(method, parameters, replace(like, **tensors))

    each = vmap(grad_and_value(of_one, has_aux=True), randomness="different")
    with stacked(Streams()):
        gradients, (_, terms) = each(_stack(parameters), tensors)
    return terms, gradients


def _pad(batch: Batch, size: int) -> Batch:
    """The batch with padding rows up to a size: copies of its own, enlarged, labelled and complete."""
    rows = torch.arange(size) % len(batch)
    valid = torch.arange(size) < len(batch)
    whole = batch.index_select(rows)

    def enlarged(x: Tensor) -> Tensor:
        other = 3 * x + 1 if x.is_floating_point() else x
        return torch.where(valid.view(-1, *[1] * (x.ndim - 1)), x, other)

    return replace(
        whole,
        inputs={m: enlarged(x) for m, x in whole.inputs.items()},
        target=enlarged(whole.target),
        labelled=whole.labelled | ~valid,
        present={m: there | ~valid for m, there in whole.present.items()},
        valid=valid,
    )


def _tensors_of(batch: Batch) -> Tensors:
    """The fields of a batch that hold tensors."""
    names = ("inputs", "target", "labelled", "present", "index", "lengths", "valid")
    return {name: getattr(batch, name) for name in names}


def _stack(models: list[Tensors]) -> Tensors:
    """Tensors by name, and dicts of them, with a leading dimension for the models."""
    stacked: Tensors = {}
    for name, first in models[0].items():
        each = [model[name] for model in models]
        stacked[name] = torch.stack(each) if isinstance(first, Tensor) else _stack(each)
    return stacked
