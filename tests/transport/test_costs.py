"""Costs, epsilons and shared or known parts of sidelight.transport that rounding or a shape used to spoil."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sidelight.transport import cost_matrix, costs, sinkhorn, sinkhorn_divergence

# ---------------------------------------------------------------- Euclidean distances


def pairs(kind: str) -> tuple[Tensor, Tensor]:
    """float32 clouds some of whose points are close to one another in units of their norm."""
    g = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    if kind == "moved":
        x = randn(64, 512)
        return x, x + 1e-3 * randn(64, 512)
    if kind == "clusters":  # more close pairs than are worth mending one by one
        centres = 30 * randn(2, 40).repeat(24, 1)
        return centres + 1e-5 * randn(48, 40), centres + 1e-5 * randn(48, 40)
    if kind == "batch":
        x = randn(2, 3, 20, 16)
        return x, torch.cat([x[..., :7, :] + 1e-4 * randn(2, 3, 7, 16), randn(2, 3, 10, 16)], -2)
    return randn(200, 1), randn(150, 1)


@pytest.mark.parametrize("kind", ["moved", "clusters", "batch", "line"])
def test_small_euclidean_distances_are_exact_in_float32(kind):
    x, y = pairs(kind)
    weight = torch.rand(*x.shape[:-1], y.shape[-2], generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    y.requires_grad_()
    cost = cost_matrix(x, y, "euclidean")
    exact_x, exact_y = (z.detach().double().requires_grad_() for z in (x, y))
    exact = (exact_x.unsqueeze(-2) - exact_y.unsqueeze(-3)).square().sum(-1).sqrt()
    torch.testing.assert_close(cost.double(), exact, rtol=1e-5, atol=0.0)
    made = torch.autograd.grad((cost * weight).sum(), (x, y))
    wanted = torch.autograd.grad((exact * weight).sum(), (exact_x, exact_y))
    for one, two in zip(made, wanted):
        assert (one - two).norm() <= 1e-6 * two.norm()


def test_transport_between_close_clouds_under_the_euclidean_cost():
    x, y = pairs("moved")
    made, wanted = [], []
    for z, w, into in ((x, y, made), (x.double(), y.double(), wanted)):
        z.requires_grad_()
        result = sinkhorn(z, w, cost="euclidean", epsilon=0.01, tolerance=1e-6)
        into += [result.cost, *torch.autograd.grad(result.objective, z)]
    assert wanted[0].item() == pytest.approx(0.0226, abs=3e-4)
    for one, two in zip(made, wanted):
        assert (one - two).norm() <= 2e-3 * two.norm()


@pytest.mark.parametrize("d", [3, 30])
def test_only_points_that_coincide_are_at_distance_zero(d):
    x = torch.randn(12, d, generator=torch.Generator().manual_seed(0))
    x[5] = x[2]
    x.requires_grad_()
    distance = cost_matrix(x, x.detach(), "euclidean")
    assert (distance == 0).sum() == 14
    (grad,) = torch.autograd.grad(distance.diagonal().sum(), x)
    assert (grad == 0).all()


def test_close_pairs_are_mended_in_blocks(monkeypatch):
    x, y = pairs("batch")
    whole = cost_matrix(x, y, "euclidean")
    monkeypatch.setattr(costs, "CHUNK", 50)
    torch.testing.assert_close(cost_matrix(x, y, "euclidean"), whole, rtol=0, atol=0)


# ---------------------------------------------------------------- costs and epsilons near the edge of a type


def test_the_cosine_cost_is_never_negative():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    assert cost_matrix(x, x.clone(), "cosine").min() == 0
    for i in range(20):
        one = x[i : i + 1]
        divergence = sinkhorn_divergence(one, one.clone(), cost="cosine", epsilon="relative:0.05").divergence
        assert divergence.item() == pytest.approx(0, abs=1e-7)


def test_the_cosine_cost_keeps_its_derivatives_where_it_is_clamped():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw, y = (1 - torch.nn.functional.cosine_similarity(x, x, dim=1)), x.clone()
    assert raw.abs().max() < 1e-12

    def curvature(z: Tensor) -> Tensor:
        return torch.autograd.functional.hessian(lambda z: cost_matrix(z, y, "cosine").diagonal().sum(), z)

    for i in range(8):  # of 1 - cos at equal directions: the projection across x over |x|^2
        unit = x[i] / x[i].norm()
        wanted = (torch.eye(3) - unit.outer(unit)) / x[i].norm() ** 2
        torch.testing.assert_close(curvature(x)[i, :, i], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cost", ["sqeuclidean/2", "euclidean", "cosine"])
@pytest.mark.parametrize("scale", [1e-20, 1e-18, 1e-17])
def test_tiny_clouds_with_a_relative_epsilon(cost, scale):
    x, y = (scale * torch.randn(10, 3, generator=torch.Generator().manual_seed(s)) for s in range(2))
    x.requires_grad_()
    for solve in (sinkhorn, sinkhorn_divergence):
        result = solve(x, y, cost=cost, epsilon="relative:0.05")
        value = result.objective if solve is sinkhorn else result.divergence
        assert result.converged
        assert value.isfinite()
        assert torch.autograd.grad(value, x)[0].isfinite().all()


@pytest.mark.parametrize(
    ("epsilon", "says"),
    [
        (1e-40, r"epsilon 1e-40 \(value 1e-40\) is out of the range of float32: expected 1.2e-37 to 3.4e\+37"),
        (1e39, "out of the range of float32"),
        (True, "'relative:<number>', got bool"),
        ("relative:-1", "must be positive and finite, got 'relative:-1'"),
    ],
)
def test_an_epsilon_that_no_cost_can_use_is_named(epsilon, says):
    x, y = torch.rand(5, 2), torch.rand(4, 2)
    with pytest.raises((ValueError, TypeError), match=says):
        sinkhorn(x, y, epsilon=epsilon)


def test_a_negative_mean_cost_is_named():
    cost = torch.full((4, 5), -2.0)
    assert sinkhorn(cost=cost, epsilon=0.1).objective.item() == pytest.approx(-2.0)
    with pytest.raises(
        ValueError, match=r"0.1 times the mean cost, which is negative \(-2\): give epsilon as a number"
    ):
        sinkhorn(cost=cost, epsilon="relative:0.1")


# ---------------------------------------------------------------- masses of one side


def test_masses_of_one_side_give_the_other_their_sum():
    x, y = (torch.randn(6, 2, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in range(2))
    a, b = (torch.linspace(1, 2, 6, dtype=torch.float64).requires_grad_() for _ in range(2))
    options = {"epsilon": 0.5, "tolerance": 1e-12, "on_failure": "ignore"}
    one = sinkhorn_divergence(x, y, a=a, **options).divergence
    both = sinkhorn_divergence(x, y, a=a, b=(a.sum() / 6).expand(6), **options).divergence
    assert one.item() == pytest.approx(both.item(), rel=1e-10)
    uniform = torch.full((6,), 0.5, dtype=torch.float64)
    assert sinkhorn_divergence(x, x.clone(), b=uniform, **options).divergence.item() == pytest.approx(0, abs=1e-10)
    assert torch.autograd.gradcheck(lambda a: sinkhorn(x, y, a=a, **options).objective, (a,), atol=1e-7)
    assert torch.autograd.gradcheck(lambda b: sinkhorn_divergence(x, y, b=b, **options).divergence, (b,), atol=1e-7)


# ---------------------------------------------------------------- shared costs, known self terms


def test_shared_self_costs_where_there_are_as_many_problems_as_points():
    cost = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = cost[0] + cost[0].T
    offset = cost[1] + cost[1].T
    together = sinkhorn_divergence(cost=(cost, own, own), offset=offset, tolerance=1e-10)
    for i in range(3):
        alone = sinkhorn_divergence(cost=(cost[i], own, own), offset=offset, tolerance=1e-10)
        assert together.divergence[i].item() == pytest.approx(alone.divergence.item(), abs=1e-8)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 3)])
@pytest.mark.parametrize("options", [{}, {"second_order": True}, {"cost": "cosine"}])
def test_known_self_terms_of_any_leading_shape(shape, options):
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(*shape, 6, 2, generator=g, dtype=torch.float64) for _ in range(2))
    a, b = torch.full((6,), 0.5, dtype=torch.float64), torch.full((6,), 0.5, dtype=torch.float64)
    options = {"tolerance": 1e-9, "a": a, "b": b, **options}
    first = sinkhorn_divergence(x, y, **options)
    moved = (x + 0.1).requires_grad_()
    again = sinkhorn_divergence(moved, y, self_y=first.self_y, **options)
    fresh = sinkhorn_divergence(moved, y, **options)
    assert again.divergence.shape == shape
    torch.testing.assert_close(again.divergence, fresh.divergence, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad(r.divergence.sum(), moved)[0] for r in (again, fresh)]
    torch.testing.assert_close(*grads)
    torch.testing.assert_close(again.self_y.plan, fresh.self_y.plan)
    swapped = sinkhorn_divergence(y, moved.detach(), self_y=fresh.self_x, **options)
    torch.testing.assert_close(swapped.divergence, fresh.divergence, rtol=0, atol=1e-8)


Y = torch.linspace(0, 1, 10).reshape(5, 2)
HALF = torch.full((5,), 0.5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cost": "cosine"}, r"\(another cost\): leave self_y out"),
        ({"cost": lambda x, y: torch.cdist(x, y)}, r"\(another cost\)"),
        ({"a": HALF, "b": HALF}, r"\(another b\)"),
        ({"offset": torch.ones(5, 5)}, r"\(another offset\)"),
        ({"y": Y + 1}, r"\(another y\)"),
        ({"y": Y[:4]}, r"\(another y\)"),
        ({"x": Y.double(), "y": Y.double()}, "computed in torch.float32 on cpu, and .* torch.float64"),
        ({"epsilon": 0.2}, "solved at epsilon 0.1, and this divergence has 0.2"),
        ({"epsilon": "relative:0.1"}, "a relative epsilon follows x"),
    ],
)
def test_a_self_term_of_something_else_is_refused(options, says):
    known = sinkhorn_divergence(Y * 2, Y).self_y
    with pytest.raises(ValueError, match=says):
        sinkhorn_divergence(**{"x": Y, "y": Y, "self_y": known} | options)


def test_a_self_term_whose_points_moved_is_refused():
    y = Y.clone()
    first = sinkhorn_divergence(Y * 2, y)
    assert sinkhorn_divergence(Y, y.clone(), self_y=first.self_y).converged
    y += 1
    with pytest.raises(ValueError, match="y has been changed in place since"):
        sinkhorn_divergence(Y, y, self_y=first.self_y)
    with pytest.raises(TypeError, match=r"got Transport: pass its .self_y"):
        sinkhorn_divergence(Y, Y, self_y=first.cross)


def test_a_self_term_that_was_solved_less_exactly_has_not_converged():
    cost = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    cost = cost + cost.T
    rough = sinkhorn_divergence(cost=(cost, cost, cost), epsilon=0.05, tolerance=0.3).self_y
    options = {"epsilon": 0.05, "tolerance": 1e-5, "on_failure": "ignore"}
    assert rough.converged
    assert not sinkhorn_divergence(cost=(cost, cost, cost), self_y=rough, **options).converged
