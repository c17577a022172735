"""Gradients and degenerate input of sidelight.transport, and faults of others that it must not have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sidelight.transport.result as result_module
from helpers.transport_clouds import clouds, measured_error
from sidelight.transport import ConvergenceError, ConvergenceWarning, cost_matrix, sinkhorn, sinkhorn_divergence

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


@pytest.mark.parametrize("cost", ["sqeuclidean", "sqeuclidean/2", "euclidean", "cosine"])
@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_divergence])
def test_gradients_are_those_of_differences_to_1e_8(cost, solve):
    """In float64, in random directions, by a stencil of fourth order whose own error is below 1e-10 of the gradient."""
    x, y = clouds(12, 9)
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(12, dtype=torch.float64, generator=generator) + 0.5
    inputs = [z.requires_grad_() for z in (x, y, a / a.sum())]
    options = {"epsilon": 0.2, "tolerance": 1e-14, "cost": cost, "on_failure": "ignore"}

    def value(x: Tensor, y: Tensor, a: Tensor) -> Tensor:
        result = solve(x, y, a=a, **options)
        return result.objective if solve is sinkhorn else result.divergence

    gradients = torch.autograd.grad(value(*inputs), inputs)
    for i, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, dtype=torch.float64, generator=generator)
        if i == 2:
            direction -= direction.mean()  # masses of the same sum
        h = 1e-3 * inputs[i].abs().mean() / direction.norm()
        with torch.no_grad():
            at = {k: value(*inputs[:i], inputs[i] + k * h * direction, *inputs[i + 1 :]) for k in (-2, -1, 1, 2)}
        slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
        assert (gradient * direction).sum().sub(slope).abs() <= 1e-9 * gradient.norm() * direction.norm()


@pytest.mark.parametrize(
    "value",
    [
        lambda x, y: sinkhorn(x, y).objective,
        lambda x, y: sinkhorn(x.tanh(), y).objective,
        lambda x, y: sinkhorn(x, y, cost="cosine").objective,
        lambda x, y: sinkhorn(x.tanh().expand(2, 5, 3), y.expand(2, 5, 3)).objective.sum(),
        lambda x, y: sinkhorn_divergence(x.tanh(), y, cost="euclidean").divergence,
        lambda x, y: sinkhorn(x, y, second_order=True).cost,
        lambda x, y: sinkhorn(x, y, second_order=True).plan.square().sum(),
    ],
)
def test_a_derivative_too_many_is_refused(value):
    """Not a wrong number: the solve does not know how its gradient moves with what made the points."""
    x, y = (z.clone() for z in clouds(5))
    (grad,) = torch.autograd.grad(value(x.requires_grad_(), y), x, create_graph=True)
    assert grad.requires_grad
    (plain,) = torch.autograd.grad(value(x, y), x)
    assert torch.equal(grad.detach(), plain)
    with pytest.raises(RuntimeError, match=r"second_order=True|potentials are differentiable once"):
        grad.square().sum().backward()


def test_forms_of_differentiation_that_cannot_be_are_refused():
    x, y = clouds(5)
    for transform in (torch.func.grad, torch.func.vmap):
        points = x if transform is torch.func.grad else x.expand(2, 5, 3)
        with pytest.raises(TypeError, match=r"x is inside a transform of torch\.func"):
            transform(lambda x: sinkhorn(x, y).objective)(points)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(TypeError, match="x carries a forward-mode tangent"):
            sinkhorn(dual, y)
        assert sinkhorn(x, y).converged


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


X, Y = torch.ones(8, 5).tril(), torch.ones(6, 5).triu()
C = torch.cdist(X, Y)
ONE = sinkhorn_divergence(X, Y)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": X.numpy()}, "x must be a tensor, got ndarray: torch.as_tensor"),
        ({"y": None}, "two clouds x and y are needed"),
        ({"x": X.to_sparse()}, r"x must be a dense tensor.*to_dense"),
        ({"x": X.to(torch.complex64)}, "real numbers"),
        ({"y": Y.to("meta")}, r"x is on cpu and y on meta: move one"),
        ({"x": X.expand(3, 8, 5)}, r"one y for all problems is y.expand\(3, 6, 5\)"),
        ({"y": torch.zeros(0, 5)}, r"y has no points: its shape is \(0, 5\)"),
        ({"x": torch.zeros(0, 8, 5), "y": torch.zeros(0, 6, 5)}, "a batch without problems"),
        ({"a": [1 / 8] * 8}, "a must be a tensor, got list"),
        ({"a": torch.tensor(1.0)}, r"a has shape \(\), which does not fit \(8,\)"),
        ({"a": torch.ones(2, 8)}, r"a has shape \(2, 8\), which does not fit \(8,\)"),
        ({"b": torch.ones(8)}, "b has 8 masses for 6 points"),
        ({"a": torch.full((8,), torch.inf)}, "a must be finite"),
        ({"a": torch.linspace(1, -0.75, 8)}, r"a must be finite and non-negative, got -0.25 at \(5,\)"),
        ({"a": torch.zeros(8)}, "a must have a positive sum in the range of torch.float32, got 0: leave problems"),
        ({"a": torch.full((8,), 3e38)}, "a must have a positive sum .* got inf: .* divide the masses by a constant"),
        (
            {"x": X.expand(2, 8, 5), "y": Y.expand(2, 6, 5), "b": torch.eye(2)[:, :1].expand(2, 6)},
            r"b must have a positive sum .* got 0 in problem \(1,\)",
        ),
        ({"offset": 1.0}, "offset must be a tensor, got float"),
        ({"offset": torch.zeros(8, 5)}, r"offset has shape \(8, 5\), which does not fit \(8, 6\)"),
        ({"offset": torch.full((8, 6), torch.nan)}, r"offset holds NaN or infinity, first at \(0, 0\)"),
        ({"cost": None}, "cost is a name, a tensor or a function"),
        ({"cost": lambda x, y: torch.cdist(y, x)}, r"the cost function must return \(8, 6\).*got \(6, 8\)"),
        ({"cost": lambda x, y: None}, "the cost function's result must be a tensor, got NoneType"),
        ({"cost": lambda x, y: C / 0}, "a cost function divides by 0"),
        ({"x": X * 1e25}, r"up to 1.0e\+25\): it overflows float32"),
        ({"x": None, "y": None, "cost": C.log()}, "cost holds NaN or infinity.*a large finite cost forbids a pair"),
        (
            {"x": None, "y": None, "cost": C, "offset": torch.full((8, 6), torch.nan)},
            r"offset holds NaN or infinity, first at \(0, 0\)",
        ),
        (
            {"x": None, "y": None, "cost": torch.full((8, 6), 3e38), "epsilon": "relative:0.1"},
            r"the mean of the cost is not finite, though the cost is \(up to 3.0e\+38\).* Divide the cost by",
        ),
        ({"x": None, "y": None, "cost": C[0]}, "a cost matrix has shape"),
        ({"x": None, "y": None, "cost": (C, C, C)}, "got tuple"),
        ({"epsilon": "relative:abc"}, "'relative:0.05', got 'relative:abc'"),
        ({"epsilon": None}, "'relative:<number>', got NoneType"),
        ({"path": "onlin"}, "unknown path 'onlin': expected one of 'auto', 'dense', 'online'"),
        ({"on_failure": "rais"}, "unknown on_failure 'rais'"),
        ({"tolerance": 0}, "tolerance must be a positive number, got 0"),
        ({"tolerance": "1e-3"}, "tolerance must be a positive number, got '1e-3'"),
        ({"tolerance": True}, "tolerance must be a positive number, got True"),
        ({"max_iterations": -1}, "max_iterations must be a positive number, got -1"),
        ({"potentials": ONE.cross}, "potentials is a pair of tensors, got Transport: pass result.potentials"),
        (
            {"potentials": ONE.cross.potentials[::-1]},
            r"potentials\[0\] has shape \(6,\); for these problems it is \(8,\)",
        ),
        ({"potentials": tuple(z * torch.nan for z in ONE.cross.potentials)}, r"potentials\[0\] holds NaN"),
    ],
)
def test_every_fault_is_named(given, says):
    with pytest.raises((ValueError, TypeError), match=says):
        sinkhorn(**{"x": X, "y": Y} | given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": None, "y": None, "cost": C}, "a triple .* got one matrix"),
        ({"x": None, "y": None, "cost": (C, C @ C.T)}, "a triple of tensors .* got 2"),
        (
            {"x": None, "y": None, "cost": [C, C @ C.T, C.T @ C.tril()]},
            r"cost\[2\], of a side with itself, must be symm",
        ),
        ({"x": None, "y": None, "cost": (C, C.T @ C, C @ C.T)}, r"cost of x with itself has shape \(6, 6\)"),
        ({"offset": torch.zeros(8, 6)}, r"offset of x with itself has shape \(8, 6\), which does not fit \(8, 8\)"),
        ({"self_y": ONE}, "got Divergence: pass its .self_y"),
        ({"self_y": ONE.self_y, "y": Y.clone().requires_grad_()}, "self_y has no gradient"),
    ],
)
def test_every_fault_of_a_divergence_is_named(given, says):
    with pytest.raises((ValueError, TypeError), match=says):
        sinkhorn_divergence(**{"x": X, "y": Y} | given)


@pytest.mark.parametrize("options", [{}, {"cost": "cosine"}, {"path": "online"}, {"second_order": True}])
def test_where_nan_stands_is_said(options):
    x = torch.stack([X, X])
    x[1, 2, 3] = torch.nan
    where = "first at" if options else r"first at \(1, 2, 3\)"
    with pytest.raises(ValueError, match=f"x holds NaN or infinity, {where}"):
        sinkhorn(x, torch.stack([Y, Y]), **options)


def test_costs_of_any_type_are_read():
    expected = sinkhorn(X, Y, cost="euclidean").objective.item()
    for kind in (torch.float16, torch.float64):
        result = sinkhorn(X, Y, cost=lambda x, y, kind=kind: torch.cdist(x, y).to(kind))
        assert result.objective.item() == pytest.approx(expected, rel=1e-3)
    for x, y in ((X.long(), Y.byte()), (X.double(), Y), (X.long(), Y.half())):
        assert torch.allclose(cost_matrix(x, y).double(), cost_matrix(X, Y).double(), atol=1e-2)
    assert sinkhorn(X, Y, cost=lambda x, y: torch.cdist(x, y).long()).converged


def test_failure_is_said(monkeypatch):
    monkeypatch.setattr(result_module, "_already_warned", False)
    x, y = clouds(30)
    with pytest.warns(ConvergenceWarning, match="marginal error") as said:
        first, result = (sinkhorn(x, y, epsilon=1e-3, tolerance=1e-9, max_iterations=2) for _ in range(2))
    assert not first.converged
    assert [(w.filename, w.category) for w in said] == [(__file__, ConvergenceWarning)]  # once, where it was called
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
