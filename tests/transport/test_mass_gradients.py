"""Masses: of any sum, on equal terms for both sides, and with gradients that are exact to the tolerance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from helpers.transport_clouds import clouds
from sidelight.transport import ConvergenceError, cost_matrix, mass_gradients, sinkhorn, sinkhorn_divergence

COST = np.array([[0.1, 1.0, 0.6, 0.3], [0.9, 0.2, 0.5, 0.4], [0.3, 0.7, 0.0, 1.2]])
A, B = np.array([0.5, 0.2, 0.3]), np.array([0.3, 0.4, 0.2, 0.1])


def formula(plan: NDArray, cost: NDArray, a: NDArray, b: NDArray, epsilon: float) -> float:
    """``<P, C> + epsilon KL(P | a b' / M)`` as docs/transport.md has it."""
    reference = np.outer(a, b) / np.sqrt(a.sum() * b.sum())
    return float((plan * cost).sum() + epsilon * (plan * np.log(plan / reference) - plan + reference).sum())


def brute_force(cost: NDArray, a: NDArray, b: NDArray, epsilon: float) -> tuple[NDArray, float]:
    """The plan of least `formula` among those with the marginals, by a general optimiser."""
    n, m = cost.shape
    margins = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    margins = margins[1:]  # one follows from the others
    start = (np.outer(a, b) / b.sum()).ravel()
    found = minimize(
        lambda p: formula(p.reshape(n, m), cost, a, b, epsilon) / b.sum(),
        start,
        jac=lambda p: (cost.ravel() + epsilon * np.log(p / start)) / b.sum(),
        bounds=[(1e-9, None)] * (n * m),
        constraints={"type": "eq", "fun": lambda p: margins @ p - np.concatenate([a, b])[1:], "jac": lambda p: margins},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success
    return found.x.reshape(n, m), found.fun * b.sum()


@pytest.mark.parametrize("total", [0.1, 1.0, 4.0])
def test_plan_and_objective_of_any_mass_are_those_of_a_general_optimiser(total):
    a, b = total * A, total * B
    plan, value = brute_force(COST, a, b, 0.3)
    result = sinkhorn(cost=torch.tensor(COST), a=torch.tensor(a), b=torch.tensor(b), epsilon=0.3, tolerance=1e-12)
    np.testing.assert_allclose(result.plan, plan, atol=2e-5 * total)
    assert result.objective.item() == pytest.approx(value, rel=1e-6)
    assert result.objective.item() == pytest.approx(formula(result.plan.numpy(), COST, a, b, 0.3), rel=1e-10)
    assert result.cost.item() == pytest.approx((result.plan.numpy() * COST).sum(), rel=1e-10)
    f, g = (z.numpy() for z in result.potentials)
    of_potentials = np.outer(a, b) / total * np.exp((f[:, None] + g - COST) / 0.3)
    np.testing.assert_allclose(of_potentials, result.plan, rtol=1e-9)


@pytest.mark.parametrize("total", [0.1, 4.0])
def test_plan_of_any_mass_is_that_of_pot(total):
    ot = pytest.importorskip("ot")
    a, b = total * A, total * B
    plan = ot.sinkhorn(a, b, COST, 0.3, stopThr=1e-14)
    result = sinkhorn(cost=torch.tensor(COST), a=torch.tensor(a), b=torch.tensor(b), epsilon=0.3, tolerance=1e-12)
    np.testing.assert_allclose(result.plan, plan, rtol=1e-8)


def oracle(cost: NDArray, a: NDArray, b: NDArray, epsilon: float) -> tuple[NDArray, NDArray, NDArray, float]:
    """Potentials, plan and objective of masses of sum 1, by Newton's method on the dual in numpy."""
    f, stages = np.zeros(len(a)), np.geomspace(max(epsilon, np.ptp(cost) / 10), epsilon, 8)

    def other(f: NDArray, e: float) -> NDArray:
        z = (f[:, None] - cost) / e + np.log(a)[:, None]
        top = z.max(0)
        return -e * (top + np.log(np.exp(z - top).sum(0)))

    for e in stages:
        for _ in range(100):
            g = other(f, e)
            plan = np.outer(a, b) * np.exp((f[:, None] + g - cost) / e)
            lack = a - plan.sum(1)
            step = np.linalg.solve(np.diag(plan.sum(1)) - (plan / b) @ plan.T + np.outer(a, a), lack)
            step, length, before = step - a @ step, 1.0, a @ f + b @ g
            while length * np.ptp(step) > 0.3:
                moved = f + e * length * step
                if a @ moved + b @ other(moved, e) - before >= 0.1 * e * length * (lack @ step):
                    break
                length /= 2
            f = f + e * length * step
            if abs(step).max() < 1e-10:
                break
    g = other(f, epsilon)
    plan = np.outer(a, b) * np.exp((f[:, None] + g - cost) / epsilon)
    assert abs(plan.sum(1) - a).sum() < 1e-12
    return f, g, plan, float(a @ f + b @ g)


def value_of(cost: NDArray, a: NDArray, b: NDArray, epsilon: float) -> float:
    """The objective for masses of any sum."""
    total = np.sqrt(a.sum() * b.sum())
    return float(total * oracle(cost, a / a.sum(), b / b.sum(), epsilon)[3])


def differences(value: Callable[[NDArray], float], at: NDArray) -> NDArray:
    steps = 1e-4 * np.eye(len(at)) * at.sum()
    return np.array([(value(at + s) - value(at - s)) / (2 * s.sum()) for s in steps])


@pytest.mark.parametrize("total", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("second_order", [False, True])
def test_gradients_of_masses_of_any_sum_are_those_of_differences(total, second_order):
    a, b = (torch.tensor(total * z, requires_grad=True) for z in (A, B))
    options = {"epsilon": 0.3, "tolerance": 1e-10, "second_order": second_order}
    result = sinkhorn(cost=torch.tensor(COST), a=a, b=b, **options)
    at_a, at_b = torch.autograd.grad(result.objective, (a, b))
    np.testing.assert_allclose(at_a, differences(lambda z: value_of(COST, z, total * B, 0.3), total * A), rtol=1e-6)
    np.testing.assert_allclose(at_b, differences(lambda z: value_of(COST, total * A, z, 0.3), total * B), rtol=1e-6)


@pytest.mark.parametrize("total", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("second_order", [False, True])
def test_the_divergence_of_any_mass(total, second_order):
    x, y = clouds(3, 4)
    costs = [cost_matrix(p, q).numpy() for p, q in ((x, y), (x, x), (y, y))]

    def value(a: NDArray, b: NDArray) -> float:
        sides = zip(costs, ((a, b), (a, a), (b, b)), (1.0, -0.5, -0.5))
        return sum(w * value_of(c, *masses, 0.1) for c, masses, w in sides)

    a, b = (torch.tensor(total * z, requires_grad=True) for z in (A, B))
    options = {"epsilon": 0.1, "tolerance": 1e-11, "second_order": second_order}
    divergence = sinkhorn_divergence(x, y, a=a, b=b, **options).divergence
    assert divergence.item() == pytest.approx(value(total * A, total * B), rel=1e-8)
    at_a, at_b = torch.autograd.grad(divergence, (a, b))
    scale = abs(at_a).max().item()
    np.testing.assert_allclose(at_a, differences(lambda z: value(z, total * B), total * A), atol=1e-6 * scale)
    np.testing.assert_allclose(at_b, differences(lambda z: value(total * A, z), total * B), atol=1e-6 * scale)


@pytest.mark.parametrize("second_order", [False, True])
def test_both_sides_are_on_equal_terms(second_order):
    """Also where their sums differ as far as they may: exchanging the sides exchanges the gradients."""
    cost = torch.tensor(COST)
    a, b = torch.tensor(4.0 * A, requires_grad=True), torch.tensor(4.003 * B, requires_grad=True)
    options = {"epsilon": 0.3, "tolerance": 1e-11, "second_order": second_order}
    one, two = sinkhorn(cost=cost, a=a, b=b, **options), sinkhorn(cost=cost.T, a=b, b=a, **options)
    assert one.objective.item() == pytest.approx(two.objective.item(), rel=1e-12)
    assert one.objective.item() == pytest.approx(value_of(COST, 4.0 * A, 4.003 * B, 0.3), rel=1e-9)
    for p, q in zip(torch.autograd.grad(one.objective, (a, b)), torch.autograd.grad(two.objective, (a, b))):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- as exact as the tolerance says


def centred(z: Tensor, masses: NDArray) -> NDArray:
    """What of a gradient counts along masses that keep their sum."""
    own = z.detach().double().numpy()
    return own - masses @ own


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_marginals_that_hardly_tell_the_masses_gradient(tolerance, dtype):
    """Closed form: of [[-7, 0], [0, 0]] both gradients are (-1.75, 1.75) but for 1e-6; at 1e-4 they were 16 % off."""
    cost = torch.tensor([[-7.0, 0.0], [0.0, 0.0]], dtype=dtype)
    a, b = (torch.full((2,), 0.5, dtype=dtype, requires_grad=True) for _ in range(2))
    result = sinkhorn(cost=cost, epsilon=0.25, a=a, b=b, tolerance=tolerance, on_failure="raise")
    for gradient in torch.autograd.grad(result.objective, (a, b)):
        np.testing.assert_allclose(centred(gradient, np.array([0.5, 0.5])), [-1.75, 1.75], rtol=2e-6)


def drawn(rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray, float, float]:
    n, m = rng.integers(2, 8, 2)
    kinds = (
        rng.integers(-5, 6, (n, m)).astype(float),
        rng.normal(size=(n, m)),
        3.0 * rng.integers(0, 2, (n, m)),
        20.0 * (rng.random((n, 1)) - rng.random((1, m))) ** 2,
    )
    a, b = rng.random(n) + 0.05, rng.random(m) + 0.05
    epsilon, tolerance = rng.choice([0.1, 0.25, 1.0, 5.0]), rng.choice([1e-2, 1e-3, 1e-4, 1e-5])
    return kinds[rng.integers(4)], a / a.sum(), b / b.sum(), float(epsilon), float(tolerance)


def test_gradients_of_masses_and_costs_meet_the_tolerance():
    """Of 70 small problems: that of the masses relative to its size, that of the cost in the L1 norm."""
    rng = np.random.default_rng(0)
    for turn in range(70):
        cost, left, right, epsilon, tolerance = drawn(rng)
        f, g, plan, _ = oracle(cost, left, right, epsilon)
        dtype = (torch.float32, torch.float64)[turn % 2]
        c, a, b = (torch.tensor(z, dtype=dtype, requires_grad=True) for z in (cost, left, right))
        options = {"epsilon": epsilon, "tolerance": tolerance, "on_failure": "raise"}
        at_a, at_b = torch.autograd.grad(sinkhorn(cost=c, a=a, b=b, **options).objective, (a, b))
        off = left @ abs(centred(at_a, left) - (f - left @ f)) + right @ abs(centred(at_b, right) - (g - right @ g))
        size = left @ abs(f - left @ f) + right @ abs(g - right @ g)
        rounding = 1e-6 * abs(cost).max() if dtype == torch.float32 else 1e-10
        assert off <= tolerance * size + rounding, (turn, epsilon, tolerance)
        at_cost = torch.autograd.grad(sinkhorn(cost=c, a=a.detach(), b=b.detach(), **options).objective, c)[0]
        assert abs(at_cost.double().numpy() - plan).sum() <= tolerance + 2e-6 * abs(cost).max() / epsilon, turn


def joined_by_little() -> tuple[Tensor, Tensor, Tensor]:
    """Two clusters of a side each, with a millionth of the mass between them: clouds and masses of the first."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(24, 2, generator=generator, dtype=torch.float64)
    y = torch.rand(20, 2, generator=generator, dtype=torch.float64)
    x[:12] += 2.2
    y[:10] += 2.2
    return x, y, torch.linspace(1, 2, 24, dtype=torch.float64)


@pytest.mark.parametrize("way", ["numpy", "torch", "online", "products"])
@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_divergence])
def test_every_path_meets_it(way, solve, monkeypatch):
    x, y, heavy = joined_by_little()
    left = torch.cat([heavy[:12] / heavy[:12].sum(), heavy[12:] / heavy[12:].sum()]) / 2

    def gradient(tolerance: float, **more: object) -> Tensor:
        a = left.clone().requires_grad_()
        result = solve(x, y, a=a, epsilon=0.5, cost="sqeuclidean", tolerance=tolerance, **more)
        assert result.converged
        value = result.objective if solve is sinkhorn else result.divergence
        at_a = torch.autograd.grad(value, a)[0]
        return at_a - left @ at_a

    exact = gradient(1e-9)
    if way == "torch":
        monkeypatch.setattr("sidelight.transport.arrays.suits_numpy", lambda *_: False)
        monkeypatch.setattr("sidelight.transport.problem.suits_numpy", lambda *_: False)
    if way == "products":
        monkeypatch.setattr(mass_gradients, "DIRECT_LIMIT", 4)
    near = gradient(1e-3, path="online" if way == "online" else "auto")
    assert left @ (near - exact).abs() <= 1e-3 * (left @ exact.abs())


def test_batches_meet_it_problem_by_problem():
    rng = np.random.default_rng(3)
    costs = torch.tensor(np.stack([rng.integers(-5, 6, (4, 5)) for _ in range(6)]), dtype=torch.float64)
    a, b = (torch.tensor(rng.random((6, n)) + 0.1) for n in (4, 5))
    b = b * (a.sum(1) / b.sum(1))[:, None]
    a.requires_grad_()
    together = sinkhorn(cost=costs, a=a, b=b, epsilon=0.3, tolerance=1e-3)
    (all_of_them,) = torch.autograd.grad(together.objective.sum(), a)
    for i in range(6):
        left, right = (z[i].detach().numpy() / z[i].sum().item() for z in (a, b))
        f = oracle(costs[i].numpy(), left, right, 0.3)[0]
        off = left @ abs(centred(all_of_them[i], left) - (f - left @ f))
        assert off <= 1e-3 * (left @ abs(f - left @ f))


def test_a_self_term_whose_rows_avoid_themselves():
    """Both potentials of a side with itself are one; of [[7, 0], [0, 7]] it hardly shows in the marginals."""
    cost = torch.tensor([[7.0, 0.0], [0.0, 7.0]], dtype=torch.float64)
    far = torch.full((2, 2), 3.0, dtype=torch.float64)
    masses = np.array([0.45, 0.55])
    a = torch.tensor(masses, requires_grad=True)
    options = {"epsilon": 0.5, "tolerance": 1e-3, "on_failure": "raise"}
    result = sinkhorn_divergence(cost=(far, cost, cost), a=a, b=torch.tensor(masses[::-1].copy()), **options)
    (found,) = torch.autograd.grad(result.divergence, a)
    exact = differences(lambda z: -0.5 * value_of(cost.numpy(), z, z, 0.5), masses)
    np.testing.assert_allclose(centred(found, masses), exact - masses @ exact, rtol=1e-3)


@pytest.mark.parametrize("limit", [mass_gradients.DIRECT_LIMIT, 1])
def test_what_float64_cannot_tell_is_said(limit, monkeypatch):
    """Two parts that no mass joins: what a mass costs that moves to the other is not known, but all else is."""
    monkeypatch.setattr(mass_gradients, "DIRECT_LIMIT", limit)
    cost = torch.tensor([[0.0, 90.0], [90.0, 0.0]], dtype=torch.float64)
    a = torch.tensor([0.4, 0.6], dtype=torch.float64)
    assert sinkhorn(cost=cost, a=a, b=a, epsilon=1.0).converged
    with pytest.raises(ConvergenceError, match="gradient of the masses did not"):
        sinkhorn(cost=cost, a=a.clone().requires_grad_(), b=a, epsilon=1.0, on_failure="raise")
