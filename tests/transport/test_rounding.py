"""Errors that become exactly zero, and tolerances below what float32 holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.transport_clouds import measured_error
from sidelight.transport import sinkhorn, sinkhorn_divergence


@pytest.mark.parametrize("on_failure", ["warn", "raise", "ignore"])
def test_a_cost_of_zeros_in_float32(on_failure):
    """Its first sweep leaves an error of exactly 0, by which the next one was divided."""
    result = sinkhorn(cost=torch.zeros(10, 10), epsilon=1.0, tolerance=1e-7, on_failure=on_failure)
    assert result.converged
    assert measured_error(result.plan.double()) <= 1e-7
    torch.testing.assert_close(result.plan, torch.full((10, 10), 0.01))
    assert result.objective.item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("tolerance", [1e-7, 1e-8, 1e-10])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_float32_input_meets_tolerances_below_its_own_rounding(tolerance, lead):
    """Masses 1/7 and 1/6 of float32 have sums that differ by 3e-8: no plan of theirs met 1e-8 in 5000 iterations."""
    cost = torch.randn(*lead, 7, 6, generator=torch.Generator().manual_seed(0))
    result = sinkhorn(cost=cost, epsilon=0.1, tolerance=tolerance, on_failure="raise")
    assert result.iterations < 500
    exact = sinkhorn(cost=cost.double(), epsilon=0.1, tolerance=1e-12)
    torch.testing.assert_close(result.plan.double(), exact.plan, rtol=1e-6, atol=1e-8)


def problem(rng: np.random.Generator, dtype: torch.dtype) -> tuple[str, dict[str, object]]:
    """A name and the arguments of a small problem: costs of few values, masses of few values, some of them 0."""
    n, m = rng.integers(1, 8, 2)
    lead = ((), (3,), (2, 2))[rng.integers(3)]
    shape = (*lead, n, m)
    costs = (
        np.zeros(shape),
        np.full(shape, rng.choice([-3.0, 1e-3, 7.0, 1e4])),
        rng.integers(-5, 6, shape),
        10.0 * rng.integers(0, 2, shape),
        rng.normal(size=shape),
    )
    masses = {}
    if rng.integers(2):
        for name, size in (("a", n), ("b", m)):
            own = rng.integers(int(size == 1), 4, (*lead, size)).astype(float)
            own[..., 0] += 1
            masses[name] = torch.tensor(own / own.sum(-1, keepdims=True), dtype=dtype)
    kind = ("matrix", "points", "online", "divergence", "own", "masses")[rng.integers(6)]
    given: dict[str, object] = {
        "epsilon": float(rng.choice([0.05, 0.25, 1.0, 10.0, 1e3])),
        "tolerance": float(rng.choice([1e-10, 1e-8, 1e-7, 3e-7, 1e-6, 1e-4, 0.1, 10.0])),
        "max_iterations": int(rng.choice([1, 5, 500])),
        "on_failure": "ignore",
        **masses,
    }
    if kind == "masses" and masses:
        given["a"] = masses["a"].requires_grad_()
    cost = torch.tensor(costs[rng.integers(5)], dtype=dtype)
    if kind in ("points", "online", "divergence"):
        x, y = (torch.tensor(rng.integers(-2, 3, (*lead, size, 2)), dtype=dtype) for size in (n, m))
        given |= {"x": x * rng.integers(2), "y": y * rng.integers(2)}
        given |= {"path": "online"} if kind == "online" else {"cost": str(rng.choice(["sqeuclidean", "euclidean"]))}
    elif kind == "own":
        own = [torch.tensor(rng.integers(0, 3, (*lead, size, size)), dtype=dtype) for size in (n, m)]
        given["cost"] = (cost, *(z + z.mT for z in own))
    else:
        given["cost"] = cost.requires_grad_()
    return kind, given


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("arithmetic", ["numpy", "torch"])
def test_no_small_problem_ends_in_a_division(arithmetic, dtype, monkeypatch):
    """A sweep over 120 problems: each ends, with finite values where it says that it converged."""
    if arithmetic == "torch":
        monkeypatch.setattr("sidelight.transport.problem.suits_numpy", lambda *_: False)
    rng, converged = np.random.default_rng(7), 0
    for turn in range(120):
        kind, given = problem(rng, dtype)
        result = (sinkhorn_divergence if kind in ("divergence", "own") else sinkhorn)(**given)
        value: Tensor = result.divergence if kind in ("divergence", "own") else result.objective
        if value.requires_grad:
            value.sum().backward()
        assert result.marginal_error >= 0 or not result.converged, (turn, kind)
        if result.converged:
            converged += 1
            assert value.isfinite().all(), (turn, kind, given)
    assert converged > 60


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_small_problem_of_thousands_ends_in_a_division(seed, monkeypatch):
    rng = np.random.default_rng(100 + seed)
    for turn in range(1000):
        monkeypatch.setattr("sidelight.transport.arrays.SMALL", (0, 1 << 18)[turn % 2])
        kind, given = problem(rng, (torch.float32, torch.float64)[turn // 2 % 2])
        result = (sinkhorn_divergence if kind in ("divergence", "own") else sinkhorn)(**given)
        value: Tensor = result.divergence if kind in ("divergence", "own") else result.objective
        assert value.isfinite().all() or not result.converged, (turn, kind, given)
