"""Many small problems at once: every problem of a stack must come out as it does alone."""

from __future__ import annotations

import pytest
import torch

from helpers.transport_clouds import clouds, measured_error
from sidelight.transport import batched, dense, problem, sinkhorn, sinkhorn_divergence, symmetric

COUNT = 6


def stacks(n=12, m=15, dtype=torch.float64, d=3):
    """Clouds from round to clustered, so that some problems are easy and some are not."""
    pairs = [clouds(n, m, d, seed, dtype) for seed in range(COUNT)]
    x, y = (torch.stack(side) for side in zip(*pairs))
    x[::2, : n // 2] *= 0.05
    return x.requires_grad_(), y.requires_grad_()


def masses(*shape):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.1


@pytest.fixture(params=["numpy", "torch"])
def arithmetic(request, monkeypatch):
    monkeypatch.setattr(problem, "suits_numpy", lambda size, place: request.param == "numpy")


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.01, 1e-3])
def test_every_problem_is_as_it_is_alone(arithmetic, epsilon):
    x, y = stacks()
    together = sinkhorn(x, y, epsilon=epsilon, tolerance=1e-9)
    grads = torch.autograd.grad(together.objective.sum(), (x, y))
    assert together.converged
    assert measured_error(together.plan) < 2e-9
    for i in range(COUNT):
        xi, yi = (z[i].detach().requires_grad_() for z in (x, y))
        alone = sinkhorn(xi, yi, epsilon=epsilon, tolerance=1e-9)
        assert together.objective[i].item() == pytest.approx(alone.objective.item(), rel=1e-8)
        assert together.cost[i].item() == pytest.approx(alone.cost.item(), rel=1e-6)
        torch.testing.assert_close(together.plan[i], alone.plan, rtol=1e-4, atol=1e-8)
        for grad, own in zip(grads, torch.autograd.grad(alone.objective, (xi, yi))):
            torch.testing.assert_close(grad[i], own, rtol=1e-5, atol=1e-7)


def test_masses_offsets_and_matrices(arithmetic):
    x, y = stacks()
    a, b = masses(COUNT, 12), masses(COUNT, 15)
    b = (b * a.sum(1, keepdim=True) / b.sum(1, keepdim=True)).requires_grad_()
    a.requires_grad_()
    offset = masses(COUNT, 12, 15)
    options = {"epsilon": 0.05, "tolerance": 1e-10}
    cost = (torch.cdist(x, y).square() / 2 + offset).detach().requires_grad_()
    for one, two, more in ((x, y, {"offset": offset}), (None, None, {"cost": cost})):
        together = sinkhorn(one, two, a=a, b=b, **more, **options)
        assert measured_error(together.plan, a, b) < 1e-8
        wanted = (a, b, x, y) if one is not None else (a, b, cost)
        grads = torch.autograd.grad(together.objective.square().sum(), wanted)
        total = 0.0
        for i in range(COUNT):
            own = {name: z[i] for name, z in more.items()}
            points = (None, None) if one is None else (x[i], y[i])
            total = total + sinkhorn(*points, a=a[i], b=b[i], **own, **options).objective.square()
        for grad, other in zip(grads, torch.autograd.grad(total, wanted)):
            torch.testing.assert_close(grad, other, rtol=1e-5, atol=1e-7)


def test_divergences(arithmetic):
    x, y = stacks(14, 14)
    together = sinkhorn_divergence(x, y, epsilon=0.05, tolerance=1e-10)
    alone = [sinkhorn_divergence(x[i], y[i], epsilon=0.05, tolerance=1e-10).divergence for i in range(COUNT)]
    torch.testing.assert_close(together.divergence, torch.stack(alone), rtol=1e-7, atol=1e-10)
    for one, two in zip(
        torch.autograd.grad(together.divergence.sum(), (x, y)), torch.autograd.grad(sum(alone), (x, y))
    ):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-8)
    own = sinkhorn(x, x, epsilon=0.05, tolerance=1e-10)
    torch.testing.assert_close(together.self_x.objective, own.objective, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(together.self_x.plan, own.plan, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_float32_meets_its_tolerance_in_every_problem(tolerance):
    x, y = stacks(16, 16, torch.float32, d=8)
    result = sinkhorn(x, y, epsilon="relative:0.03", tolerance=tolerance, on_failure="raise")
    assert measured_error(result.plan.double()) <= 1.1 * tolerance


def test_easy_problems_are_never_solved_one_by_one(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a problem of the stack was solved alone")

    monkeypatch.setattr(dense, "solve", refuse)
    x, y = stacks()
    result = sinkhorn_divergence(x, y, epsilon=0.3, tolerance=1e-8)
    assert result.converged
    assert result.path == "dense"


def test_iterations_are_those_of_the_caller(monkeypatch):
    """None is left for solving alone what the sweeps of all did not finish."""
    x, y = stacks()
    options = {"epsilon": 0.05, "tolerance": 1e-9, "on_failure": "ignore"}
    whole = sinkhorn(x, y, **options)
    assert whole.converged
    monkeypatch.setattr(dense, "solve", lambda *given, **more: pytest.fail("a problem was solved alone"))
    few = sinkhorn(x, y, max_iterations=4, **options)
    assert not few.converged
    assert few.iterations == 4
    assert few.marginal_error == pytest.approx(measured_error(few.plan), rel=1e-6)


def test_hard_problems_are_mended_and_leave_the_others_alone(monkeypatch):
    monkeypatch.setattr(batched, "PATIENCE", 20.0)
    solved = []
    solve = dense.solve
    monkeypatch.setattr(dense, "solve", lambda *given, **more: solved.append(1) or solve(*given, **more))
    x, y = stacks()
    hard = sinkhorn(x, y, epsilon=0.003, tolerance=1e-9, on_failure="raise")
    assert 0 < len(solved) <= COUNT
    assert hard.iterations > 16  # the sweeps of all, and those of the problem that took longest alone
    assert measured_error(hard.plan) < 2e-9


def test_self_terms_of_kernels_that_are_not_positive_fall_back(monkeypatch):
    """Averaged sweeps need eigenvalues in [0, 1]; where they fail, the general solver answers."""
    monkeypatch.setattr(symmetric, "LIMIT", 3)
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(COUNT, 9, 9, generator=generator, dtype=torch.float64)
    own = cost + cost.mT
    result = sinkhorn_divergence(cost=(cost, own, own), epsilon=0.1, tolerance=1e-9, on_failure="raise")
    torch.testing.assert_close(result.self_x.objective, sinkhorn(cost=own, epsilon=0.1, tolerance=1e-9).objective)
    assert measured_error(result.self_x.plan) < 2e-9


def test_potentials_restart_every_problem_at_its_solution():
    x, y = stacks()
    first = sinkhorn(x, y, epsilon=0.05, tolerance=1e-8)
    again = sinkhorn(x, y, epsilon=0.05, tolerance=1e-8, potentials=first.potentials)
    assert again.iterations <= 3 < first.iterations
    torch.testing.assert_close(again.objective, first.objective, rtol=1e-8, atol=0.0)


def test_unequal_masses_and_empty_batches_are_named():
    x, y = stacks()
    a = torch.ones(COUNT, 12).double()
    with pytest.raises(ValueError, match=r"same mass, got 12\.0 and 15\.0"):
        sinkhorn(x, y, a=a, b=torch.ones(COUNT, 15).double())
    with pytest.raises(ValueError, match="without problems"):
        sinkhorn(x[:0], y[:0])


def test_sharp_problems_on_a_cpu_are_solved_as_alone(monkeypatch):
    x, y = (torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    monkeypatch.setattr(batched, "sweep_until", lambda *given: pytest.fail("the others wait for the slowest"))
    together = sinkhorn(x, y, epsilon=0.02)
    alone = [sinkhorn(*pair, epsilon=0.02) for pair in zip(x, y)]
    assert together.iterations == max(one.iterations for one in alone)
    torch.testing.assert_close(together.plan, torch.stack([one.plan for one in alone]), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(together.objective, torch.stack([one.objective for one in alone]))
