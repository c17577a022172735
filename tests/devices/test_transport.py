"""Transport on the pretend device: every path, cost and option gives what it gives on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.both_devices import assert_same_on_both
from sidelight.losses import StructuralTransport, class_partners, crcd, sampled_positions
from sidelight.transport import ANCHORS, cost_matrix, online, select_anchors, sinkhorn, sinkhorn_divergence
from sidelight.transport.anchors import LearnedWeights

DOUBLE = torch.float64


def cloud(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype).requires_grad_()


def masses(*shape: int, seed: int = 5) -> Tensor:
    a = cloud(*shape, seed=seed).detach() + 0.1
    return (a / a.sum(-1, keepdim=True)).requires_grad_()


X, Y = cloud(12, 3), cloud(9, 3, seed=1)
STACKED = cloud(4, 12, 3, seed=2), cloud(4, 9, 3, seed=3)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "masses": {"a": masses(12), "b": masses(9)},
    "masses of which some are zero": {"a": masses(12).detach() * (torch.arange(12) > 2), "b": masses(9).detach()},
    "an offset": {"offset": cloud(12, 9).detach()},
    "a small epsilon": {"epsilon": 1e-3},
    "an epsilon relative to the cost": {"epsilon": "relative:0.1"},
    "sqeuclidean": {"cost": "sqeuclidean"},
    "euclidean": {"cost": "euclidean"},
    "cosine": {"cost": "cosine"},
    "a function": {"cost": lambda x, y: (x[:, None] - y[None]).abs().sum(-1)},
    "second order": {"second_order": True},
    "online": {"path": "online"},
    "online with masses": {"path": "online", "a": masses(12), "b": masses(9)},
}


def solved(x: Tensor | None, y: Tensor | None, **options: Any) -> list[Tensor]:
    if "a" in options and not options["a"].requires_grad:
        options = options | {"a": options["a"] * (options["b"].sum() / options["a"].sum())}
    result = sinkhorn(x, y, **{"epsilon": 0.1, "tolerance": 1e-10, "on_failure": "ignore", **options})
    f, g = result.potentials
    return [result.objective, result.plan, result.cost, f[:, None] + g[None] if f.dim() == 1 else f]


def given(options: dict[str, Any]) -> list[Tensor]:
    return [value for value in options.values() if isinstance(value, Tensor)]


def call(options: dict[str, Any]) -> Any:
    """`solved`, with the tensors among the options as arguments."""
    names = [name for name, value in options.items() if isinstance(value, Tensor)]
    return lambda x, y, *tensors: solved(x, y, **options | dict(zip(names, tensors, strict=True)))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_one_problem(options):
    tight = {"rtol": 1e-5, "atol": 1e-7} if options.get("epsilon") == 1e-3 else {"rtol": 1e-6, "atol": 1e-9}
    assert_same_on_both(call(options), X, Y, *given(options), **tight)


@pytest.mark.parametrize("name", ["plain", "a small epsilon", "cosine", "second order"])
def test_a_stack_of_problems(name):
    assert_same_on_both(call(OPTIONS[name]), *STACKED, rtol=1e-5, atol=1e-7)


def test_a_given_matrix():
    matrix = cloud(12, 9, seed=4)
    a, b = masses(12), masses(9)
    assert_same_on_both(lambda c, a, b: solved(None, None, cost=c, a=a, b=b), matrix, a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("path", "second_order"), [("dense", False), ("dense", True), ("online", False)])
def test_a_divergence_and_its_self_terms(path, second_order):
    def divergence(x: Tensor, y: Tensor) -> list[Tensor]:
        options = {"epsilon": 0.1, "tolerance": 1e-10, "path": path, "second_order": second_order}
        first = sinkhorn_divergence(x, y, **options)
        if second_order:
            return [first.divergence]
        again = sinkhorn_divergence(
            x, y.detach(), self_y=sinkhorn_divergence(x, y.detach(), **options).self_y, **options
        )
        return [first.divergence, again.divergence, first.self_x.plan, first.self_y.objective]

    assert_same_on_both(divergence, X, Y, rtol=1e-6, atol=1e-9)


def test_a_divergence_of_stacks_from_earlier_potentials():
    def divergence(x: Tensor, y: Tensor) -> list[Tensor]:
        first = sinkhorn_divergence(x, y, tolerance=1e-9)
        return [first.divergence, sinkhorn(x, y, tolerance=1e-9, potentials=first.cross.potentials).objective]

    assert_same_on_both(divergence, *STACKED, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [60, 400])
def test_large_clouds_online(size, monkeypatch):
    """Beyond the blocks and the sample of the warm start."""
    monkeypatch.setattr(online, "SAMPLE_SIZE", 50)
    x, y = cloud(size, 3, seed=7, dtype=torch.float32), cloud(size + 5, 3, seed=8, dtype=torch.float32)

    def objective(x: Tensor, y: Tensor) -> Tensor:
        return sinkhorn(x, y, epsilon=0.05, path="online", tolerance=1e-5, on_failure="ignore").objective

    assert_same_on_both(objective, x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cost", ["sqeuclidean", "sqeuclidean/2", "euclidean", "cosine"])
def test_costs(cost):
    assert_same_on_both(lambda x, y: cost_matrix(x, y, cost), X, Y)
    assert_same_on_both(lambda x, y: cost_matrix(x, y, cost), *STACKED)


@pytest.mark.parametrize("anchors", ANCHORS)
@pytest.mark.parametrize("generator", [False, True])
def test_anchors(anchors, generator):
    """A generator is on the CPU, wherever the similarities are; so may the labels be."""

    def chosen(z: Tensor) -> Tensor:
        source = torch.Generator().manual_seed(1) if generator else None
        similarity = torch.nn.functional.normalize(z, dim=1)
        labels = torch.arange(12, device="cpu" if generator else z.device) % 3
        return select_anchors(similarity @ similarity.T, 5, anchors, labels=labels, generator=source)

    assert_same_on_both(chosen, X.detach())


@pytest.mark.parametrize("preset", ["paper", "released", "sidelight"])
def test_structural_transport_with_learnt_weights_and_alignment(preset):
    shared = preset != "released"  # one set of anchors for every row
    more = {"anchor_weights": LearnedWeights(3).double()} if shared else {}
    loss = StructuralTransport(preset, k=4, **more)
    assert_same_on_both(
        lambda s, t, y, module: module(s, t, labels=y), X, cloud(12, 3, seed=1).detach(), torch.arange(12) % 3, loss,
        rtol=1e-6, atol=1e-8,
    )  # fmt: skip


def test_generators_of_the_cpu_serve_tensors_on_the_device():
    def draw(s: Tensor, t: Tensor, labels: Tensor) -> list[Tensor]:
        generator = torch.Generator().manual_seed(2)
        rows, partner = class_partners(labels, generator)
        maps = sampled_positions(s[None].mT, t[None].mT, samples=5, generator=generator)
        return [crcd(s, t, generator=generator), rows, partner, *maps]

    assert_same_on_both(draw, X, cloud(12, 3, seed=1).detach(), torch.arange(12) % 3)
