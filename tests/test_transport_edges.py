"""Gradients and degenerate input of sidelight.transport, and faults of others that it must not have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sidelight.transport.result as result_module
from sidelight.transport import ConvergenceError, ConvergenceWarning, cost_matrix, sinkhorn, sinkhorn_divergence
from transport_clouds import clouds, measured_error

# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("cost", ["sqeuclidean", "sqeuclidean/2", "euclidean", "cosine"])
def test_gradcheck_points(cost):
    x, y = clouds(6, 5)
    x.requires_grad_()
    y.requires_grad_()
    options = {"epsilon": 0.1, "tolerance": 1e-13, "cost": cost, "on_failure": "ignore"}
    assert torch.autograd.gradcheck(lambda x, y: sinkhorn(x, y, **options).objective, (x, y), atol=1e-7)
    assert torch.autograd.gradcheck(lambda x, y: sinkhorn_divergence(x, y, **options).divergence, (x, y), atol=1e-7)


def test_gradcheck_cost_and_weights():
    x, y = clouds(6, 5)
    cost = cost_matrix(x, y).requires_grad_()
    la, lb = (
        torch.randn(6, dtype=torch.float64, requires_grad=True),
        torch.randn(5, dtype=torch.float64, requires_grad=True),
    )

    def objective(cost: Tensor, la: Tensor, lb: Tensor) -> Tensor:
        return sinkhorn(
            cost=cost, a=2 * la.softmax(0), b=2 * lb.softmax(0), epsilon=0.2, tolerance=1e-13, on_failure="ignore"
        ).objective

    assert torch.autograd.gradcheck(objective, (cost, la, lb), atol=1e-7)


def test_total_mass_gradient_is_the_normalised_objective():
    x, y = clouds(6, 5)
    mass = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    uniform = torch.ones(6, dtype=torch.float64) / 6, torch.ones(5, dtype=torch.float64) / 5
    result = sinkhorn(x, y, a=mass * uniform[0], b=mass * uniform[1], tolerance=1e-12)
    result.objective.backward()
    assert mass.grad.item() == pytest.approx(sinkhorn(x, y, tolerance=1e-12).objective.item(), rel=1e-8)


def test_only_the_envelope_is_differentiated_once():
    x, y = clouds(5)
    (grad,) = torch.autograd.grad(sinkhorn(x.requires_grad_(), y).objective, x, create_graph=True)
    with pytest.raises(RuntimeError):
        grad.sum().backward()


def test_no_gradient_is_prepared_without_grad_mode():
    x, y = clouds(5)
    with torch.no_grad():
        assert not sinkhorn(x.requires_grad_(), y).objective.requires_grad


# ---------------------------------------------------------------- degenerate input


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cost", ["sqeuclidean/2", "euclidean", "cosine"])
def test_coincident_points(dtype, cost):
    x = torch.ones(8, 4, dtype=dtype, requires_grad=True)
    for y in (torch.ones(8, 4, dtype=dtype), torch.ones(3, 4, dtype=dtype)):
        result = sinkhorn_divergence(x, y, cost=cost)
        assert result.converged
        assert abs(result.divergence.item()) < 1e-5
        (grad,) = torch.autograd.grad(result.divergence, x)
        assert torch.isfinite(grad).all()
        assert grad.abs().max() < 1e-3


def test_duplicate_rows_count_as_mass():
    x, y = clouds(6, 9)
    doubled = torch.cat([x, x[:2]])
    weight = torch.tensor([2, 2, 1, 1, 1, 1], dtype=torch.float64) / 8
    assert sinkhorn(doubled, y, tolerance=1e-10).objective.item() == pytest.approx(
        sinkhorn(x, y, a=weight, tolerance=1e-10).objective.item(), rel=1e-8
    )


def test_points_without_mass_do_not_matter():
    x, y = clouds(6, 9)
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1], dtype=torch.float64) / 4
    weighted, dropped = (
        sinkhorn(x, y, a=weight, epsilon=0.02, tolerance=1e-10),
        sinkhorn(x[weight > 0], y, epsilon=0.02, tolerance=1e-10),
    )
    assert weighted.objective.item() == pytest.approx(dropped.objective.item(), rel=1e-8)
    assert torch.isfinite(weighted.potentials[0]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-4, 1e4, 1e15])
def test_any_scale_of_cost(dtype, scale):
    cost = torch.rand(10, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype) * scale
    for epsilon in (0.1, "relative:0.1", "relative:100"):
        result = sinkhorn(cost=cost, epsilon=epsilon, on_failure="ignore", max_iterations=300)
        for tensor in (result.objective, result.cost, result.plan, *result.potentials):
            assert torch.isfinite(tensor).all()
        if isinstance(epsilon, str):
            assert result.converged
        assert 0 <= result.cost.item() <= cost.max().item() * 1.001


@pytest.mark.parametrize("ratio", [1e-4, 1e-3, 1e-2, 0.1, 1.0, 100.0])
def test_epsilon_over_six_orders_of_magnitude(ratio):
    x, y = clouds(50, 40, dtype=torch.float64)
    result = sinkhorn(x, y, epsilon=f"relative:{ratio}", tolerance=1e-6, on_failure="raise")
    assert measured_error(result.plan) <= 1.1e-6


def test_bad_input_is_named():
    x, y = clouds(5)
    with pytest.raises(ValueError, match="NaN"):
        sinkhorn(torch.full_like(x, torch.nan), y)
    with pytest.raises(ValueError, match="agree"):
        sinkhorn(x, y[:, :2])
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn(x, y, epsilon=0)
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn(x, y, epsilon="absolute:1")
    with pytest.raises(ValueError, match="cost"):
        sinkhorn(x, y, cost="manhattan")
    with pytest.raises(ValueError, match="mass"):
        sinkhorn(x, y, a=torch.ones(5), b=torch.ones(5) * 2)
    with pytest.raises(ValueError, match="non-negative"):
        sinkhorn(x, y, a=torch.tensor([1.0, 1, 1, 1, -1]))


def test_failure_is_said(monkeypatch):
    monkeypatch.setattr(result_module, "_already_warned", False)
    x, y = clouds(30)
    with pytest.warns(ConvergenceWarning, match="marginal error"):
        result = sinkhorn(x, y, epsilon=1e-3, tolerance=1e-9, max_iterations=2)
    assert not result.converged
    assert result.marginal_error > 1e-9
    with pytest.raises(ConvergenceError):
        sinkhorn(x, y, epsilon=1e-3, tolerance=1e-9, max_iterations=2, on_failure="raise")


def test_half_precision_and_autocast():
    x, y = clouds(20, dtype=torch.float32)
    exact = sinkhorn(x, y, epsilon=0.01)
    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sinkhorn(x, y, epsilon=0.01)
        result = sinkhorn(half, y.bfloat16(), epsilon=0.01)
    assert inside.objective.item() == exact.objective.item()
    assert result.objective.dtype == torch.float32
    result.objective.backward()
    assert half.grad.dtype == torch.bfloat16
    assert result.objective.item() == pytest.approx(exact.objective.item(), rel=0.05)


# ---------------------------------------------------------------- faults of others that ours must not have


def test_no_graph_through_the_iterations():
    x, y = clouds(30)
    objective = sinkhorn(x.requires_grad_(), y, epsilon=0.01).objective
    assert all(node is None or not node.next_functions for node, _ in objective.grad_fn.next_functions)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-6])
def test_the_tolerance_is_met_in_float32(tolerance):
    for epsilon in (1.0, 0.1, 0.01, 0.001):
        x, y = clouds(100, dtype=torch.float32)
        result = sinkhorn(x, y, epsilon=epsilon, tolerance=tolerance, on_failure="raise")
        assert measured_error(result.plan.double()) <= 1.1 * tolerance


def test_the_gradient_has_the_right_size():
    x, y = clouds(30)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(sinkhorn(x, y, epsilon=0.02, tolerance=1e-11).objective, x)
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e-5
    with torch.no_grad():
        up, down = (sinkhorn(x + s, y, epsilon=0.02, tolerance=1e-11).objective for s in (step, -step))
    assert (grad * step).sum().item() == pytest.approx((up - down).item() / 2, rel=1e-5)
