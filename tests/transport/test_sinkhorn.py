"""Values and laws of sidelight.transport."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.transport_clouds import clouds, measured_error, references
from sidelight.transport import cost_matrix, sinkhorn, sinkhorn_divergence

ROWS = (32, 128)
EPSILONS = (0.01, 0.1, 1.0)


def with_rows(size: int) -> dict[str, Tensor]:
    """The reference values, and the anchored rows that they belong to."""
    values = references(size)
    for name in ("student", "teacher"):
        unit = torch.nn.functional.normalize(values[name], dim=1)
        values[f"{name}_rows"] = (unit @ unit.T).gather(1, values["row_anchor_index"])
    return values


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("size", ROWS)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_reference_values_and_gradient(size, epsilon):
    values = with_rows(size)
    x, y = values["student_rows"].requires_grad_(), values["teacher_rows"]
    result = sinkhorn(x, y, epsilon=epsilon, tolerance=1e-11)
    result.objective.backward()
    divergence = sinkhorn_divergence(x.detach(), y, epsilon=epsilon, tolerance=1e-11)
    key = f"ot_eps{epsilon}_"
    assert result.converged
    assert result.cost.item() == pytest.approx(values[key + "transport_cost"].item(), rel=1e-6)
    assert result.objective.item() == pytest.approx(values[key + "objective"].item(), rel=1e-6)
    assert divergence.divergence.item() == pytest.approx(values[key + "divergence"].item(), rel=1e-6)
    torch.testing.assert_close(result.plan, values[key + "plan"], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(x.grad, values[key + "grad_rows"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", ROWS)
def test_the_unregularised_cost_of_the_reference_is_reached_from_above(size):
    values = with_rows(size)
    result = sinkhorn(values["student_rows"], values["teacher_rows"], epsilon=1e-4, tolerance=1e-7)
    assert result.converged
    assert 0 < result.cost / values["ot_exact"] - 1 < 1e-4


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_float32_reaches_its_promises(epsilon):
    values = with_rows(128)
    exact = values[f"ot_eps{epsilon}_grad_rows"]
    for tolerance, upper_bound in ((1e-3, 2e-3), (1e-6, 2e-5)):
        x = values["student_rows"].float().requires_grad_()
        result = sinkhorn(x, values["teacher_rows"].float(), epsilon=epsilon, tolerance=tolerance)
        result.objective.backward()
        assert result.converged
        assert measured_error(result.plan) <= tolerance * 1.2
        assert (x.grad - exact).norm() <= upper_bound * exact.norm()


@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_pot_agrees_with_weights_and_unequal_sizes(epsilon):
    ot = pytest.importorskip("ot")
    x, y = clouds(17, 23)
    a, b = torch.linspace(1, 2, 17, dtype=torch.float64), torch.linspace(3, 1, 23, dtype=torch.float64)
    a, b = a / a.sum(), b / b.sum()
    plan = ot.sinkhorn(a, b, cost_matrix(x, y), epsilon, method="sinkhorn_log", stopThr=1e-12, numItermax=100000)
    result = sinkhorn(x, y, epsilon=epsilon, a=a, b=b, tolerance=1e-11)
    torch.testing.assert_close(result.plan, plan, rtol=1e-7, atol=1e-10)


def test_small_epsilon_is_exact_transport():
    ot = pytest.importorskip("ot")
    x, y = clouds(30, d=2)
    cost = cost_matrix(x, y)
    result = sinkhorn(cost=cost, epsilon=1e-4, tolerance=1e-8)
    assert result.converged
    uniform = np.full(30, 1 / 30)
    assert result.cost.item() == pytest.approx(float(ot.emd2(uniform, uniform, cost.numpy())), rel=1e-3)


def test_diracs():
    x, y = torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]])
    for cost, expected in (("sqeuclidean", 25.0), ("sqeuclidean/2", 12.5), ("euclidean", 5.0), ("cosine", 1.0)):
        result = sinkhorn(x, y, cost=cost)
        assert result.objective.item() == pytest.approx(expected)
        assert result.cost.item() == pytest.approx(expected)
        assert sinkhorn_divergence(x, y, cost=cost).divergence.item() == pytest.approx(expected)


def test_one_point_against_many_is_the_mean_cost():
    x, y = clouds(1, 9)
    assert sinkhorn(x, y).objective.item() == pytest.approx(cost_matrix(x, y).mean().item())


def test_far_apart_permutation_is_found():
    x = torch.arange(12, dtype=torch.float64).unsqueeze(1) * 10
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    result = sinkhorn(x, x[order], epsilon=0.5, tolerance=1e-9)
    assert torch.equal(result.plan.argmax(0), order)
    assert result.cost.item() == pytest.approx(0.0, abs=1e-9)
    assert result.objective.item() == pytest.approx(0.5 * math.log(12))  # eps KL(permutation | uniform)


def test_two_by_two_closed_form():
    cost, epsilon = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64), 0.3
    ratio = math.exp(-1 / epsilon)
    expected = ratio / (1 + ratio)
    assert sinkhorn(cost=cost, epsilon=epsilon, tolerance=1e-12).cost.item() == pytest.approx(expected)


def test_gaussians_on_a_grid_match_the_closed_form():
    """Entropic transport between 1-D Gaussians (Janati et al. 2020), cost |x-y|^2, epsilon = 2 sigma^2."""
    grid = torch.linspace(-6, 6, 400, dtype=torch.float64).unsqueeze(1)
    m1, s1, m2, s2, epsilon = -0.5, 0.8, 0.7, 0.5, 0.6

    def normal(mean: float, deviation: float) -> Tensor:
        weight = torch.exp(-0.5 * ((grid[:, 0] - mean) / deviation) ** 2)
        return weight / weight.sum()

    sigma2 = epsilon / 2
    d = math.sqrt(4 * s1**2 * s2**2 + sigma2**2)
    bures = s1**2 + s2**2 - d + sigma2 * (1 - math.log(2 * sigma2)) + sigma2 * math.log(d + sigma2)
    result = sinkhorn(
        grid, grid, cost="sqeuclidean", epsilon=epsilon, a=normal(m1, s1), b=normal(m2, s2), tolerance=1e-9
    )
    assert result.objective.item() == pytest.approx((m1 - m2) ** 2 + bures, rel=1e-4)


def test_one_dimension_sorts():
    x, y = clouds(25, d=1)
    result = sinkhorn(x, y, epsilon=1e-4, tolerance=1e-7)
    exact = 0.5 * (x[:, 0].sort().values - y[:, 0].sort().values).square().mean()
    assert result.cost.item() == pytest.approx(exact.item(), rel=1e-2)


# ---------------------------------------------------------------- laws


def test_symmetry_translation_scaling_and_mass():
    x, y = clouds(14, 19)
    options = {"epsilon": 0.05, "tolerance": 1e-11}
    base = sinkhorn(x, y, **options)
    swapped = sinkhorn(y, x, **options)
    assert swapped.objective.item() == pytest.approx(base.objective.item(), rel=1e-9)
    moved = sinkhorn(x + 100, y + 100, **options)
    assert moved.objective.item() == pytest.approx(base.objective.item(), rel=1e-8)
    scaled = sinkhorn(3 * x, 3 * y, epsilon=0.45, tolerance=1e-11)
    assert scaled.objective.item() == pytest.approx(9 * base.objective.item(), rel=1e-9)
    heavy = sinkhorn(x, y, a=torch.full((14,), 0.5).double(), b=torch.full((19,), 7 / 19).double(), **options)
    assert heavy.objective.item() == pytest.approx(7 * base.objective.item(), rel=1e-8)
    assert heavy.plan.sum().item() == pytest.approx(7.0)
    relative = sinkhorn(x, y, epsilon="relative:0.1", tolerance=1e-11)
    assert relative.epsilon == pytest.approx(0.1 * cost_matrix(x, y).mean().item())


def test_divergence_is_zero_only_for_equal_clouds():
    x, y = clouds(40)
    for epsilon in (1e-3, 0.1, 10.0):
        assert abs(sinkhorn_divergence(x, x.clone(), epsilon=epsilon, tolerance=1e-9).divergence.item()) < 1e-9
        assert sinkhorn_divergence(x, x[torch.randperm(40)], epsilon=epsilon, tolerance=1e-9).divergence.item() < 1e-8
        assert sinkhorn_divergence(x, y, epsilon=epsilon).divergence.item() > 0.01
        small = sinkhorn_divergence(x.float(), x.float() + 1e-3, epsilon=epsilon)
        assert small.divergence.item() > -1e-5


def test_potentials_restart_at_the_solution():
    x, y = clouds(60)
    first = sinkhorn(x, y, epsilon=0.01, tolerance=1e-8)
    again = sinkhorn(x, y, epsilon=0.01, tolerance=1e-8, potentials=first.potentials)
    assert again.iterations <= 2 < first.iterations
    assert again.objective.item() == pytest.approx(first.objective.item(), rel=1e-10)


def test_batches_are_independent_problems():
    pairs = [clouds(12, 15, seed=s) for s in range(6)]
    x = torch.stack([p[0] for p in pairs]).reshape(2, 3, 12, 3).requires_grad_()
    y = torch.stack([p[1] for p in pairs]).reshape(2, 3, 15, 3)
    batch = sinkhorn(x, y, epsilon=0.05, tolerance=1e-10)
    assert batch.objective.shape == (2, 3)
    assert batch.plan.shape == (2, 3, 12, 15)
    batch.objective.sum().backward()
    for i, (xi, yi) in enumerate(pairs):
        xi.requires_grad_()
        single = sinkhorn(xi, yi, epsilon=0.05, tolerance=1e-10)
        single.objective.backward()
        assert batch.objective.flatten()[i].item() == pytest.approx(single.objective.item(), rel=1e-9)
        torch.testing.assert_close(x.grad.reshape(6, 12, 3)[i], xi.grad, rtol=1e-7, atol=1e-9)
    assert sinkhorn_divergence(x, y, tolerance=1e-6).divergence.shape == (2, 3)
