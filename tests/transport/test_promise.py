"""Whatever comes in, ``converged`` means that the plan of the given cost meets the marginals, measured in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers.slow import mostly_slow
from helpers.transport_clouds import measured_error
from sidelight.transport import Transport, online, problem, sinkhorn, sinkhorn_divergence

SINGLE, DOUBLE = torch.float32, torch.float64
LEAD = {"dense": (), "stacked": (3,), "online": ()}


def options(path: str, **more: object) -> dict[str, object]:
    return {"path": "online" if path == "online" else "auto", "on_failure": "ignore", **more}


def random_clouds(seed: int, n: int, m: int, d: int = 3, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(*lead, size, d, generator=generator, dtype=DOUBLE) for size in (n, m))
    return x, y


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x.double().unsqueeze(-2) - y.double().unsqueeze(-3)).square().sum(-1) / 2


def check(result: Transport, cost: Tensor, a: Tensor, b: Tensor, tolerance: float) -> None:
    """The marginals of the plan, and of ``a b exp((f + g - C) / epsilon)`` as far as the type of ``f, g`` tells."""
    a, b = (z.double() / z.double().sum(-1, keepdim=True) for z in (a, b))
    f, g = (z.double() for z in result.potentials)
    assert result.objective.isfinite().all()
    assert f.isfinite().all()
    assert g.isfinite().all()
    assert measured_error(result.plan.double(), a, b) <= 1.05 * tolerance + 1e-6
    digits = torch.finfo(result.potentials[0].dtype).eps
    rounding = digits * float(f.abs().max() + g.abs().max()) / result.epsilon
    if rounding < 1e-2:  # else the plan is right, but potentials of this type cannot say it
        present = (a > 1e-13).unsqueeze(-1) & (b > 1e-13).unsqueeze(-2)
        exponents = (f.unsqueeze(-1) + g.unsqueeze(-2) - cost) / result.epsilon
        plan = torch.where(present, a.unsqueeze(-1) * b.unsqueeze(-2) * exponents.exp(), 0.0)
        assert measured_error(plan, a, b) <= 1.05 * tolerance + 4 * rounding + 1e-11


class Draw:
    """A problem of many kinds: scales, clusters, masses from 0 and 1e-17 up, forbidden pairs, good and wild starts."""

    def __init__(self, path: str, dtype: torch.dtype, seed: int) -> None:
        self.generator, self.lead = torch.Generator().manual_seed(seed), LEAD[path]
        n, m, d = self.integer(1, 24), self.integer(1, 24), self.integer(1, 4)
        x, y = (self.normal(size, d) for size in (n, m))
        if self.integer(0, 3) == 0:
            x = x + (torch.arange(n) % 2).unsqueeze(-1) * 10.0 ** self.integer(0, 2)
        scale = 10.0 ** self.integer(-2, 2)
        self.x, self.y = (x * scale).to(dtype), (y * scale).to(dtype)
        self.cost = squared(self.x, self.y)
        self.epsilon = 10 ** (0.1 * self.integer(-35, 5)) * self.cost.mean().item()
        self.a, self.b = self.masses(n).to(dtype), self.masses(m).to(dtype)
        self.tolerance = 10.0 ** -self.integer(2, 6 if dtype == SINGLE else 9)
        self.given: dict[str, Tensor] = {"x": self.x, "y": self.y}
        if path != "online" and self.integer(0, 1):
            forbidden = self.uniform(n, m) < 0.3 * self.integer(0, 1)
            matrix = torch.where(forbidden, self.cost.max() * 10.0 ** self.integer(1, 12), self.cost).to(dtype)
            self.cost, self.given = matrix.double(), {"cost": matrix}
        size = (0.0, 0.1, 20.0, 1000.0)[self.integer(0, 3)] * self.epsilon
        shift = 10.0 ** self.integer(-2, 6)
        self.start = tuple((self.normal(size_) * size + shift).to(dtype) for size_ in (n, m)) if size else None

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*self.lead, *shape, generator=self.generator, dtype=DOUBLE)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*self.lead, *shape, generator=self.generator, dtype=DOUBLE)

    def masses(self, size: int) -> Tensor:
        kind, weight = self.integer(0, 3), self.uniform(size) + 0.05
        if kind == 0:
            weight = (40 * (weight - 1)).exp()
        if kind == 1:
            weight = weight * (self.uniform(size) > 0.4)
        if kind == 2:
            weight = torch.where(self.uniform(size) < 0.3, 1e-12 * weight, weight)
        weight[..., self.integer(0, size - 1)] += 1.0
        return weight / weight.sum(-1, keepdim=True)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("path", LEAD)
@pytest.mark.parametrize("arithmetic", ["numpy", "torch"])
@pytest.mark.parametrize("seeds", mostly_slow([range(12), range(12, 24)], [range(12)]), ids=str)
def test_converged_means_the_plan_of_the_given_cost(seeds, arithmetic, path, dtype, monkeypatch):
    if arithmetic == "torch":
        monkeypatch.setattr(problem, "suits_numpy", lambda size, place: False)
    converged = 0
    for seed in seeds:
        draw = Draw(path, dtype, seed + 1000 * (arithmetic == "torch"))
        limit = 5000 if seed % 4 else draw.integer(1, 60)
        settings = {"tolerance": draw.tolerance, "max_iterations": limit, "epsilon": draw.epsilon}
        result = sinkhorn(**draw.given, a=draw.a, b=draw.b, potentials=draw.start, **options(path, **settings))
        assert result.iterations <= limit
        if result.converged:
            converged += 1
            check(result, draw.cost, draw.a, draw.b, draw.tolerance)
    assert converged >= 7


# ---------------------------------------------------------------- starts


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("path", LEAD)
def test_a_poor_start_is_as_good_as_none(path, dtype):
    for seed in range(6):
        x, y = (z.to(dtype) for z in random_clouds(seed, 20, 22, lead=LEAD[path]))
        settings = options(path, epsilon=0.05, tolerance=1e-5)
        cold = sinkhorn(x, y, **settings)
        far = sinkhorn(3 * x, 3 * y, **settings).potentials
        wild = tuple(1e3 * z.flip(-1) + 1e5 for z in far)
        for start in (far, wild):
            warm = sinkhorn(x, y, potentials=start, **settings)
            assert warm.converged
            torch.testing.assert_close(warm.objective, cold.objective, rtol=1e-4, atol=1e-4)


def test_a_good_start_keeps_its_worth_whatever_its_constant():
    x, y = random_clouds(0, 60, 60)
    for dtype in (SINGLE, DOUBLE):
        x, y = x.to(dtype), y.to(dtype)
        first = sinkhorn(x, y, epsilon=0.05, tolerance=1e-5)
        f, g = first.potentials
        again = sinkhorn(x, y, epsilon=0.05, tolerance=1e-5, potentials=(f - 100, g + 100))
        assert again.converged
        assert again.iterations <= first.iterations / 4


# ---------------------------------------------------------------- points without mass


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("path", ["dense", "online"])
@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_divergence])
def test_points_without_mass_change_nothing(solve, path, dtype):
    value = "objective" if solve is sinkhorn else "divergence"
    for seed in range(12):
        x, y = (z.to(dtype) for z in random_clouds(seed, 12, 15, d=2))
        generator = torch.Generator().manual_seed(seed)
        a, b = (torch.rand(size, generator=generator).to(dtype) + 0.1 for size in (12, 15))
        a[torch.rand(12, generator=generator) < 0.3] = 0
        b[torch.rand(15, generator=generator) < 0.3] = 0
        a[0], b[-1] = 0, 0
        a, b = a / a.sum(), b / b.sum()
        present = a > 0
        settings = options(path, epsilon=(0.02, 0.1, 0.5)[seed % 3], tolerance=1e-6)
        whole, part = x.clone().requires_grad_(), x[present].clone().requires_grad_()
        weight = a.clone().requires_grad_()
        result, dropped = (
            solve(whole, y, a=weight, b=b, **settings),
            solve(part, y[b > 0], a=a[present], b=b[b > 0], **settings),
        )
        assert result.converged
        torch.testing.assert_close(getattr(result, value), getattr(dropped, value), rtol=1e-5, atol=2e-6)
        grad, of_mass = torch.autograd.grad(getattr(result, value), (whole, weight))
        (expected,) = torch.autograd.grad(getattr(dropped, value), part)
        torch.testing.assert_close(grad[present], expected, rtol=1e-4, atol=1e-5)
        assert grad[~present].abs().max() < 1e-12
        assert of_mass.isfinite().all()


@pytest.mark.parametrize("arithmetic", ["numpy", "torch"])
def test_padded_batches_in_float32(arithmetic, monkeypatch):
    if arithmetic == "torch":
        monkeypatch.setattr(problem, "suits_numpy", lambda size, place: False)
    for seed in range(6):
        x, y = (z.float() for z in random_clouds(seed, 16, 16, d=4, lead=(8,)))
        lengths = torch.randint(1, 17, (2, 8, 1), generator=torch.Generator().manual_seed(seed))
        a, b = (torch.arange(16) < lengths).float()
        a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
        result = sinkhorn_divergence(x, y, a=a, b=b, epsilon="relative:0.01", tolerance=1e-4)
        assert result.converged
        check(result.cross, squared(x, y), a, b, 1e-4)
        for i in range(0, 8, 3):
            one = sinkhorn_divergence(x[i, a[i] > 0], y[i, b[i] > 0], epsilon=result.epsilon, tolerance=1e-4)
            assert result.divergence[i].item() == pytest.approx(one.divergence.item(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_the_potential_of_an_absent_point_is_its_soft_minimum(dtype):
    x, y = (z.to(dtype) for z in random_clouds(3, 9, 11))
    a, b = torch.ones(9, dtype=dtype) / 8, torch.ones(11, dtype=dtype) / 11
    a[4] = 0
    for path in ("dense", "online"):
        f, g = sinkhorn(x, y, a=a, b=b, epsilon=0.1, tolerance=1e-5, path=path).potentials
        expected = -0.1 * torch.logsumexp((g.double() - squared(x, y)[4]) / 0.1, 0) + 0.1 * math.log(11)
        assert f[4].item() == pytest.approx(expected.item(), abs=1e-5)


def test_nan_is_named_where_there_is_no_mass_too():
    x, y = random_clouds(3, 9, 11)
    x[4] = torch.nan
    a = torch.ones(9, dtype=DOUBLE)
    a[4] = 0
    for given in ({"x": x, "y": y}, {"cost": squared(x, y)}):
        with pytest.raises(ValueError, match=r"holds NaN or infinity, first at \(4, 0\)"):
            sinkhorn(**given, a=a / 8)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_second_derivatives_beside_points_without_mass(dtype):
    x, y = (z.to(dtype) for z in random_clouds(5, 8, 7, d=2))
    a, b = torch.ones(8, dtype=dtype) / 6, torch.ones(7, dtype=dtype) / 6
    a[:2], b[3] = 0, 0
    grads = []
    for rows, columns in ((slice(None), slice(None)), (a > 0, b > 0)):
        xi = x[rows].clone().requires_grad_()
        result = sinkhorn(xi, y[columns], a=a[rows], b=b[columns], epsilon=0.1, tolerance=1e-6, second_order=True)
        (grad,) = torch.autograd.grad(result.objective, xi, create_graph=True)
        grads.append(torch.autograd.grad(grad.square().sum() + result.plan.square().sum(), xi)[0])
    assert grads[0].isfinite().all()
    torch.testing.assert_close(grads[0][a > 0], grads[1], rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- costs


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("huge", [1e6, 1e10, 1e30])
def test_a_forbidding_cost_may_be_as_large_as_you_like(huge, lead, dtype):
    generator = torch.Generator().manual_seed(0)
    cost, forbidden = (torch.rand(*lead, 40, 40, generator=generator, dtype=DOUBLE) for _ in range(2))
    expected = sinkhorn(cost=torch.where(forbidden < 0.3, 1e3, cost), epsilon=0.05, tolerance=1e-8)
    result = sinkhorn(cost=torch.where(forbidden < 0.3, huge, cost).to(dtype), epsilon=0.05, tolerance=1e-5)
    assert result.converged
    assert (result.plan.double() - expected.plan).abs().sum((-2, -1)).max() < 1e-4
    torch.testing.assert_close(result.objective.double(), expected.objective, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("lead", [(), (2,)])
def test_what_no_arithmetic_tells_is_not_called_converged(lead):
    """All of row 0 is forbidden, by costs whose differences are below the rounding of float64."""
    cost = torch.rand(*lead, 5, 6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    cost[..., 0, :] += 1e18
    result = sinkhorn(cost=cost, epsilon=0.05, tolerance=1e-3, max_iterations=100, on_failure="ignore")
    assert not result.converged
    cost = torch.rand(*lead, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    cost[..., 0, :] += 2.0**20
    result = sinkhorn(cost=cost.float(), epsilon=0.05, tolerance=1e-4)
    check(result, cost.float().double(), torch.ones(*lead, 5), torch.ones(*lead, 6), 1e-4)
    assert result.converged


@pytest.mark.parametrize("lead", [(), (3,)])
def test_self_costs_far_from_zero(lead):
    """Averaged sweeps count on a diagonal of zeros."""
    generator = torch.Generator().manual_seed(1)
    cost = torch.rand(*lead, 9, 9, generator=generator, dtype=DOUBLE)
    own = cost + cost.mT + 30.0
    result = sinkhorn_divergence(cost=(cost, own, own), epsilon=0.1, tolerance=1e-8).self_x
    expected = sinkhorn(cost=own, epsilon=0.1, tolerance=1e-8)
    assert result.converged
    torch.testing.assert_close(result.objective, expected.objective, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize("lead", [(), (2,)])
def test_float32_points_far_from_each_other_are_solved_in_float64(lead):
    """Two clusters: the rounding of their norms would move a plan that is decided within each."""
    x, y = (z.float() for z in random_clouds(2, 30, 30, lead=lead))
    for z in (x, y):
        z[..., ::2, :] += 3000.0
    result = sinkhorn_divergence(x, y, epsilon=0.05, tolerance=1e-4)
    exact = sinkhorn_divergence(x.double(), y.double(), epsilon=0.05, tolerance=1e-8)
    assert result.converged
    for one, two in ((result.cross, exact.cross), (result.self_x, exact.self_x)):
        assert (one.plan.double() - two.plan).abs().sum() < 1e-3
    torch.testing.assert_close(result.divergence.double(), exact.divergence, rtol=1e-3, atol=0.0)


# ---------------------------------------------------------------- the online path and the iterations


@pytest.mark.parametrize("ratio", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_online_at_small_epsilon(dtype, ratio):
    for seed in (14, 15):
        x, y = (z.to(dtype) for z in random_clouds(seed, 12, 12))
        result = sinkhorn(x, y, epsilon=f"relative:{ratio}", path="online", tolerance=1e-6, on_failure="raise")
        exact = sinkhorn(x.double(), y.double(), epsilon=result.epsilon, tolerance=1e-9)
        assert result.objective.item() == pytest.approx(exact.objective.item(), rel=1e-5)


def test_online_at_small_epsilon_from_samples(monkeypatch):
    monkeypatch.setattr(online, "SAMPLE_SIZE", 60)
    x, y = (z.float() for z in random_clouds(0, 150, 170, d=2))
    result = sinkhorn(x, y, epsilon="relative:1e-3", path="online", tolerance=1e-3, on_failure="raise")
    check(result, squared(x, y), torch.ones(150), torch.ones(170), 1e-3)


def test_andersons_method_survives_steps_without_effect():
    mixing = online.Anderson(torch.full((4,), 0.25), 1.0)
    g, still = torch.arange(4.0), torch.full((4,), 1e-3)
    for _ in range(4):
        g = mixing.extrapolate(g, still)
    assert g.isfinite().all()
    for _ in range(4):  # nor does it leap where residuals hardly change
        before, g = g, mixing.extrapolate(g, still * (1 + 1e-7 * g))
        assert (g - before).abs().max() <= 1.1


@pytest.mark.parametrize("path", LEAD)
@pytest.mark.parametrize("limit", [1, 2, 7, 20, 61])
def test_iterations_keep_to_their_limit(path, limit):
    for seed in range(5):
        x, y = random_clouds(seed, 30, 25, lead=LEAD[path])
        settings = options(path, tolerance=1e-9, max_iterations=limit)
        for epsilon in ("relative:0.1", "relative:0.001"):
            result = sinkhorn(x.float(), y.float(), epsilon=epsilon, **settings)
            assert result.iterations <= limit
            if not result.converged and result.marginal_error < math.inf:
                assert result.marginal_error == pytest.approx(measured_error(result.plan.double()), abs=1e-4)
