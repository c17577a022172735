"""Properties that POT holds its own solvers to, asked of ours with POT's answer as the right one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sidelight.transport import cost_matrix, sinkhorn, sinkhorn_divergence

ot = pytest.importorskip("ot")
EXACT = {"tolerance": 1e-11, "on_failure": "raise"}


def points(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 2)))


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_masses_left_out_are_uniform(epsilon):
    x, y = points(9, 0), points(13, 1)
    plan = ot.bregman.empirical_sinkhorn(x.numpy(), y.numpy(), epsilon, stopThr=1e-13, numIterMax=20000)
    np.testing.assert_allclose(sinkhorn(x, y, cost="sqeuclidean", epsilon=epsilon, **EXACT).plan, plan, atol=1e-10)


def test_many_targets_of_one_source_are_as_many_problems():
    """POT's ``sinkhorn`` takes several histograms b in one call; here they are a batch."""
    cost = cost_matrix(points(7, 2), points(8, 3), "sqeuclidean")
    a = np.random.default_rng(4).random(7)
    b = np.random.default_rng(5).random((8, 3))
    a, b = a / a.sum(), b / b.sum(0)
    losses = ot.sinkhorn2(a, b, cost.numpy(), 1.0, stopThr=1e-13, numItermax=20000)
    ours = sinkhorn(
        cost=cost.expand(3, 7, 8), a=torch.tensor(a).expand(3, 7), b=torch.tensor(b.T), epsilon=1.0, **EXACT
    )
    np.testing.assert_allclose(ours.cost, losses, rtol=1e-7)


def test_divergence_of_transport_costs():
    """POT's empirical divergence combines <P, C>, without the entropies; ours has these costs beside its value."""
    x, y = points(10, 6), points(10, 7) + 1
    value = ot.bregman.empirical_sinkhorn_divergence(x.numpy(), y.numpy(), 1.0, stopThr=1e-13, numIterMax=20000)
    found = sinkhorn_divergence(x, y, cost="sqeuclidean", epsilon=1.0, **EXACT)
    parts = found.cross.cost - 0.5 * found.self_x.cost - 0.5 * found.self_y.cost
    assert parts.item() == pytest.approx(float(value), rel=1e-6)


def test_masses_without_mass_and_a_side_of_one_point():
    cost = cost_matrix(points(6, 8), points(5, 9), "sqeuclidean")
    a, b = np.array([0.0, 0.2, 0.3, 0.0, 0.4, 0.1]), np.array([0.5, 0.0, 0.0, 0.25, 0.25])
    here, there = a > 0, b > 0
    plan = np.zeros((6, 5))
    plan[np.ix_(here, there)] = ot.sinkhorn(a[here], b[there], cost.numpy()[np.ix_(here, there)], 1.0, stopThr=1e-13)
    ours = sinkhorn(cost=cost, a=torch.tensor(a), b=torch.tensor(b), epsilon=1.0, **EXACT)
    np.testing.assert_allclose(ours.plan, plan, atol=1e-9)
    one = sinkhorn(cost=cost[:, :1], a=torch.tensor(a), b=torch.ones(1, dtype=torch.float64), epsilon=1.0, **EXACT)
    np.testing.assert_allclose(one.plan[:, 0], a, atol=1e-12)


@pytest.mark.parametrize("method", ["sinkhorn", "sinkhorn_log"])
def test_plan_of_an_integer_cost_of_any_sign(method):
    cost = np.random.default_rng(10).integers(-4, 5, (6, 6)).astype(float)
    a = np.full(6, 0.5)
    plan = ot.sinkhorn(a, a, cost, 1.0, method=method, stopThr=1e-13, numItermax=50000)
    ours = sinkhorn(cost=torch.tensor(cost), a=torch.tensor(a), b=torch.tensor(a), epsilon=1.0, **EXACT)
    np.testing.assert_allclose(ours.plan, plan, atol=1e-9)
