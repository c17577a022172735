"""Runs a function on the CPU and on the pretend device, and compares what it gives and its gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from helpers.pretend_device import CPU, PRETEND, sharing_the_cpu_stream
from sidelight.data.batch import Batch

Found = dict[str, Any]


def move(tree: Any, place: torch.device) -> Any:
    """A copy of tensors, modules and batches, in any nest of lists and dicts, on a device."""

    def move_leaf(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.detach().clone().to(place).requires_grad_(x.requires_grad)
        if isinstance(x, nn.Module):
            return copy.deepcopy(x).to(place)
        return x.to(place) if isinstance(x, Batch) else x

    return tree_map(move_leaf, tree)


def assert_same_on_both(
    function: Callable[..., Any], *args: Any, rtol: float = 1e-9, atol: float = 1e-11, seed: int = 0, host: bool = False
) -> None:
    """Assert that a function computes on the pretend device what it computes on the CPU.

    Args:
        function: called with the arguments; returns tensors, numbers, arrays or nests of them.
        args: tensors, modules, batches and nests of them, which are copied to the device. Gradients of the results with
            respect to the tensors, and to the modules' parameters, that require one are compared too.
        rtol: the largest relative difference.
        atol: the largest absolute difference.
        seed: of the random numbers, which are the same on both.
        host: the results are on the CPU on purpose.
    """
    found = [_run(function, move(args, place), seed) for place in (CPU, PRETEND)]
    here, there = found
    for x in tree_leaves(there["results"]):
        if isinstance(x, Tensor):
            assert x.device == (CPU if host else PRETEND), f"a result of shape {tuple(x.shape)} is on {x.device}"
    for part in ("results", "gradients"):
        compare(here[part], there[part], rtol, atol)


def compare(here: Any, there: Any, rtol: float, atol: float) -> None:
    """Assert that nests from both devices hold the same keys and the same numbers."""
    torch.testing.assert_close(move(there, CPU), move(here, CPU), rtol=rtol, atol=atol, equal_nan=True)


def _run(function: Callable[..., Any], args: Any, seed: int) -> Found:
    torch.manual_seed(seed)
    with sharing_the_cpu_stream():
        results = function(*args)
        return {"results": results, "gradients": _gradients(results, args)}


def _gradients(results: Any, args: Any) -> list[Tensor]:
    wanted: list[Tensor] = []
    for x in tree_leaves(args):
        wanted += x.parameters() if isinstance(x, nn.Module) else [x] if isinstance(x, Tensor) else []
    wanted = [x for x in wanted if x.requires_grad]
    given = [x for x in tree_leaves(results) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted or not given:
        return []
    return [
        torch.zeros(()) if g is None else g
        for g in torch.autograd.grad(sum(x.double().square().sum() for x in given), wanted, allow_unused=True)
    ]
