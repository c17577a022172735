"""sidelight.transport beyond the first order and the dense path, and properties over random problems."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from sidelight.transport import arrays, cost_matrix, dense, online, problem, sinkhorn, sinkhorn_divergence
from sidelight.transport.newton import solve_laplacian
from sidelight.transport.points import PointCost
from sidelight.transport.scaling import Scaling

EXACT = {"tolerance": 1e-13, "on_failure": "ignore"}


def clouds(n: int, m: int, d: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64)
    return x, torch.rand(m, d, generator=generator, dtype=torch.float64) + 0.2


# ---------------------------------------------------------------- second order


@pytest.mark.parametrize("cost", ["sqeuclidean", "sqeuclidean/2", "euclidean", "cosine"])
def test_second_derivatives_of_points(cost):
    x, y = (z.requires_grad_() for z in clouds(5, 4))
    options = {"epsilon": 0.2, "cost": cost, "second_order": True, **EXACT}
    assert gradcheck(lambda x, y: sinkhorn(x, y, **options).objective, (x, y), atol=1e-6)
    assert gradgradcheck(lambda x, y: sinkhorn(x, y, **options).objective, (x, y), atol=1e-5)
    assert gradgradcheck(lambda x, y: sinkhorn_divergence(x, y, **options).divergence, (x, y), atol=1e-5)


def test_derivatives_of_plan_cost_and_weights():
    x, y = (z.requires_grad_() for z in clouds(5, 4))
    la = torch.linspace(-1, 1, 5, dtype=torch.float64, requires_grad=True)
    lb = torch.linspace(0.5, -0.5, 4, dtype=torch.float64, requires_grad=True)

    def solve(x: Tensor, y: Tensor, la: Tensor, lb: Tensor):
        return sinkhorn(x, y, a=2 * la.softmax(0), b=2 * lb.softmax(0), epsilon=0.3, second_order=True, **EXACT)

    inputs = (x, y, la, lb)
    assert gradcheck(lambda *z: solve(*z).plan, inputs, atol=1e-6)
    assert gradcheck(lambda *z: solve(*z).cost, inputs, atol=1e-6)
    assert gradgradcheck(lambda *z: solve(*z).objective, inputs, atol=1e-5)

    def differences(*z: Tensor) -> tuple[Tensor, Tensor]:  # potentials are known up to one constant
        f, g = solve(*z).potentials
        return f - f.mean(), g - g.mean()

    assert gradcheck(differences, inputs, atol=1e-6)


def test_second_order_leaves_value_and_gradient_alone():
    x, y = clouds(20, 25)
    x.requires_grad_()
    first, second = (sinkhorn(x, y, epsilon=0.05, tolerance=1e-10, second_order=s) for s in (False, True))
    assert first.objective.item() == pytest.approx(second.objective.item(), rel=1e-12)
    for one, two in zip(*(torch.autograd.grad(r.objective, x) for r in (first, second))):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-10)


def test_laplacian_solution():
    plan = torch.rand(6, 8, dtype=torch.float64)
    right, below = torch.rand(6, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    below = below * right.sum() / below.sum()
    alpha, beta = solve_laplacian(plan, right, below)
    torch.testing.assert_close(plan.sum(1) * alpha + plan @ beta, right)
    torch.testing.assert_close(plan.sum(0) * beta + plan.T @ alpha, below)


# ---------------------------------------------------------------- sweeps


@pytest.mark.parametrize("slowest", [0.0, 0.3, 0.86, 0.99])
def test_relaxation_turns_a_rate_into_its_best_pace(slowest):
    length, momentum = dense.compute_relaxation(slowest)
    for eigenvalue in torch.linspace(0, slowest, 7, dtype=torch.float64).tolist():
        step = torch.tensor([[1 + momentum - length * (1 - eigenvalue), -momentum], [1.0, 0.0]], dtype=torch.float64)
        assert torch.linalg.eigvals(step).abs().max().item() <= momentum**0.5 + 1e-6
    root = (1 - slowest) ** 0.5
    assert momentum**0.5 == pytest.approx((1 - root) / (1 + root))


def test_relaxed_sweeps_need_less_than_half_of_the_plain_ones():
    x, y = clouds(80, 80, d=5)
    kernel, mass = torch.exp(-cost_matrix(x, y) / 0.02), torch.full((80,), 1 / 80, dtype=torch.float64)
    v, plain, error = mass, 0, 1.0
    while error > 3e-6:
        u = mass / (kernel @ v)
        v = mass / (kernel.T @ u)
        plain, error = plain + 1, (u * (kernel @ v) - mass).abs().sum().item()
    assert sinkhorn(x, y, epsilon=0.02, tolerance=1e-5).iterations < plain / 2


def test_sweeps_in_blocks_are_sweeps(monkeypatch):
    x, y = clouds(50, 70)
    whole = sinkhorn(x, y, epsilon=0.01, tolerance=1e-9)
    monkeypatch.setattr(arrays, "CHUNK", 500)
    parts = sinkhorn(x, y, epsilon=0.01, tolerance=1e-9)
    assert parts.iterations == pytest.approx(whole.iterations, abs=3)
    torch.testing.assert_close(parts.plan, whole.plan, rtol=1e-6, atol=1e-10)


def test_kernels_hold_no_subnormal_numbers():
    """They would make every product several times slower."""
    for epsilon in (1.0, 0.01, 1e-4):
        points = PointCost(*(z.float() for z in clouds(40, 40)), 1.0, in_numpy=True)
        mass = arrays.full(40, 1 / 40, points.x)
        scaling = Scaling(points, mass, mass, points.upper_bound())
        scaling.form_kernel(epsilon)
        assert scaling.kernel.min() > 1e-27


# ---------------------------------------------------------------- the online path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(online, "BLOCK", 4000)
    monkeypatch.setattr(online, "SAMPLE_SIZE", 60)
    monkeypatch.setattr(arrays, "CHUNK", 5000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 10.0])
def test_online_equals_dense(small_blocks, dtype, epsilon):
    x, y = clouds(230, 310, d=3)
    weight = torch.linspace(1, 2, 230, dtype=dtype)
    tolerance = 1e-8 if dtype == torch.float64 else 1e-5
    results = []
    for path in ("dense", "online"):
        xi, yi = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
        wi = (weight / weight.sum()).requires_grad_()
        result = sinkhorn(xi, yi, a=wi, epsilon=epsilon, tolerance=tolerance, path=path)
        result.objective.backward()
        assert result.path == path
        assert result.converged
        results.append((result.objective, result.cost, result.plan, xi.grad, yi.grad, wi.grad))
    for one, two in zip(*results):
        torch.testing.assert_close(one, two, rtol=10 * tolerance, atol=10 * tolerance)


def test_online_divergence(small_blocks):
    x, y = clouds(230, 230, d=3)
    x.requires_grad_()
    one, two = (sinkhorn_divergence(x, y, epsilon=0.05, tolerance=1e-9, path=path) for path in ("dense", "online"))
    assert one.divergence.item() == pytest.approx(two.divergence.item(), abs=1e-9)
    grads = [torch.autograd.grad(r.divergence, x)[0] for r in (one, two)]
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-9)


def test_online_restarts_from_potentials(small_blocks):
    x, y = clouds(230, 310, d=3)
    first = sinkhorn(x, y, epsilon=0.02, tolerance=1e-7, path="online")
    again = sinkhorn(x, y, epsilon=0.02, tolerance=1e-7, path="online", potentials=first.potentials)
    assert again.iterations <= 2 < first.iterations


def test_path_is_chosen_by_size(monkeypatch):
    x, y = clouds(30, 40)
    assert sinkhorn(x, y).path == "dense"
    monkeypatch.setattr("sidelight.transport.problem.LARGE", 1000)
    assert sinkhorn(x, y).path == "online"
    assert sinkhorn(x, y, cost="euclidean").path == "dense"
    with pytest.raises(ValueError, match="online"):
        sinkhorn(x, y, cost="euclidean", path="online")


@pytest.mark.slow
def test_a_large_problem_in_little_memory():
    import resource

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(16384, 10, generator=generator) * 0.3 for _ in range(2))
    sinkhorn(x[:100], y[:100])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = sinkhorn(x.requires_grad_(), y, epsilon=0.1, tolerance=1e-3)
    result.objective.backward()
    assert result.path == "online"
    assert result.converged
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50


# ---------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 24),
    m=st.integers(1, 24),
    d=st.integers(1, 6),
    scale=st.floats(1e-3, 1e3),
    ratio=st.floats(1e-4, 1e2),
    seed=st.integers(0, 10**6),
    repeat=st.booleans(),
    single=st.booleans(),
)
def test_any_problem_converges_to_a_plan(n, m, d, scale, ratio, seed, repeat, single):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float32 if single else torch.float64
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) * scale
    y = torch.randn(m, d, generator=generator, dtype=torch.float64) * scale
    if repeat:
        x = x[torch.randint(0, n, (n,), generator=generator)]
        y[: min(n, m) // 2] = x[: min(n, m) // 2]
    weight = torch.rand(n, generator=generator, dtype=torch.float64) + 0.01
    x, y, weight = x.to(dtype).requires_grad_(), y.to(dtype), weight.to(dtype)
    weight = weight / weight.sum()
    tolerance = 2e-3 if single else 1e-6
    result = sinkhorn(x, y, a=weight, epsilon=f"relative:{ratio}", tolerance=tolerance, on_failure="raise")
    plan = result.plan
    assert (plan >= 0).all()
    assert (plan.sum(1) - weight).abs().sum() <= 1.5 * tolerance
    assert (plan.sum(0) - 1 / m).abs().sum() <= 1.5 * tolerance
    (grad,) = torch.autograd.grad(result.objective, x)
    assert torch.isfinite(grad).all()
    mean = result.epsilon / ratio
    assert -1e-5 * mean <= result.cost.item() <= result.objective.item() + 1e-5 * mean + 2 * tolerance * mean


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 20), d=st.integers(1, 5), ratio=st.floats(1e-3, 1e2), seed=st.integers(0, 10**6))
def test_divergence_is_positive_and_symmetric(n, d, ratio, seed):
    x, y = clouds(n, n, d, seed)
    epsilon = ratio * 0.1
    options = {"epsilon": epsilon, "tolerance": 1e-7}
    forward = sinkhorn_divergence(x, y, **options).divergence.item()
    assert forward >= -1e-6 * (1 + epsilon)
    assert forward == pytest.approx(sinkhorn_divergence(y, x, **options).divergence.item(), abs=1e-5)
    assert sinkhorn_divergence(x, x, **options).divergence.item() == pytest.approx(0.0, abs=1e-6 * (1 + epsilon))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 20),
    cost=st.sampled_from(["euclidean", "cosine"]),
    ratio=st.floats(1e-2, 1e2),
    near=st.sampled_from([0.0, 1e-3, 1.0]),
    single=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_divergence_of_other_costs_is_not_negative(n, cost, ratio, near, single, seed):
    x, y = clouds(n, n, 4, seed)
    x, y = (z.float() if single else z for z in (x, x + near * (y - x)))
    tolerance = 1e-4 if single else 1e-7
    result = sinkhorn_divergence(x, y, cost=cost, epsilon=f"relative:{ratio}", tolerance=tolerance)
    mean = cost_matrix(x, y, cost).mean().item()
    assert result.divergence.item() >= -2 * tolerance * mean * (1 + ratio)


@pytest.mark.slow
def test_ten_thousand_bfloat16_steps_without_a_nan():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(32, 8, generator=generator).bfloat16()
    student = torch.randn(32, 8, generator=generator).bfloat16().requires_grad_()
    for step in range(10_000):
        epsilon = (0.3, 0.03, 0.003)[step % 3]
        value = sinkhorn_divergence(student, teacher, epsilon=epsilon, tolerance=1e-3).divergence
        (grad,) = torch.autograd.grad(value, student)
        assert torch.isfinite(value)
        assert torch.isfinite(grad).all()
        with torch.no_grad():
            student -= 3.0 * grad


def test_a_known_self_term_is_used_again():
    x, y = clouds(20, 30)
    first = sinkhorn_divergence(x, y, epsilon=0.05, tolerance=1e-9)
    moved = x + 0.1
    again = sinkhorn_divergence(moved.requires_grad_(), y, epsilon=0.05, tolerance=1e-9, self_y=first.self_y)
    fresh = sinkhorn_divergence(moved, y, epsilon=0.05, tolerance=1e-9)
    assert again.divergence.item() == pytest.approx(fresh.divergence.item(), abs=1e-12)
    grads = [torch.autograd.grad(r.divergence, moved)[0] for r in (again, fresh)]
    torch.testing.assert_close(*grads)
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn_divergence(x, y, epsilon=0.1, self_y=first.self_y)


@pytest.mark.parametrize("epsilon", [0.2, 0.02, 0.0005])
def test_torch_and_numpy_arithmetic_agree(monkeypatch, epsilon):
    x, y = clouds(40, 50)
    x.requires_grad_()
    results = []
    for kind in ("numpy", "torch"):
        if kind == "torch":
            monkeypatch.setattr(problem, "suits_numpy", lambda size, place: False)
        result = sinkhorn_divergence(x, y, epsilon=epsilon, tolerance=1e-8, on_failure="raise")
        results.append((result.divergence, result.cross.plan, *torch.autograd.grad(result.divergence, x)))
    for one, two in zip(*results):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)
