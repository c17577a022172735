"""Values, gradients, laws and degenerate input of sidelight.transport."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sidelight.transport.result as result_module
from sidelight.transport import (
    ConvergenceError,
    ConvergenceWarning,
    cost_matrix,
    sinkhorn,
    sinkhorn_divergence,
)

ROWS = ("b32", "b128")
EPSILONS = (0.01, 0.1, 1.0)


@pytest.fixture(scope="module")
def reference() -> Callable[[str], dict[str, Tensor]]:
    shared = Path(os.environ.get("SIDELIGHT_SHARED", Path(__file__).parents[1].parent / "shared"))
    if not (shared / "reference").is_dir():
        pytest.skip("reference values are not at hand (set SIDELIGHT_SHARED)")

    def load(size: str) -> dict[str, Tensor]:
        with np.load(shared / "reference" / f"losses_{size}.npz") as file:
            values = {name: torch.from_numpy(np.asarray(file[name])) for name in file}
        for name in ("student", "teacher"):
            unit = torch.nn.functional.normalize(values[name], dim=1)
            values[f"{name}_rows"] = (unit @ unit.T).gather(1, values["row_anchor_index"])
        return values

    return load


def clouds(
    n: int = 20, m: int | None = None, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64)
    y = torch.rand(m or n, d, generator=generator, dtype=torch.float64) + 0.2
    return x.to(dtype), y.to(dtype)


def measured_error(plan: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> float:
    a = torch.full_like(plan[..., 0], 1 / plan.shape[-2]) if a is None else a
    b = torch.full_like(plan[..., 0, :], 1 / plan.shape[-1]) if b is None else b
    rows = (plan.sum(-1) - a).abs().sum(-1).max()
    return max(rows.item(), (plan.sum(-2) - b).abs().sum(-1).max().item())


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("size", ROWS)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_reference_values_and_gradient(reference, size, epsilon):
    values = reference(size)
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


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_float32_reaches_its_promises(reference, epsilon):
    values = reference("b128")
    exact = values[f"ot_eps{epsilon}_grad_rows"]
    for tolerance, bound in ((1e-3, 2e-3), (1e-6, 2e-5)):
        x = values["student_rows"].float().requires_grad_()
        result = sinkhorn(x, values["teacher_rows"].float(), epsilon=epsilon, tolerance=tolerance)
        result.objective.backward()
        assert result.converged
        assert measured_error(result.plan) <= tolerance * 1.2
        assert (x.grad - exact).norm() <= bound * exact.norm()


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
