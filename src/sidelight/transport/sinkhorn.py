"""Entropic optimal transport and its debiased divergence, for points or a given cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from sidelight.transport.costs import Cost, resolve_epsilon
from sidelight.transport.problem import Path, Problem, merged, with_gradients
from sidelight.transport.result import Divergence, OnFailure, Transport, report_failure, stack

MAX_ITERATIONS = 5000
Potentials = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]


def sinkhorn(
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    epsilon: float | str = 0.1,
    cost: Cost = "sqeuclidean/2",
    a: Tensor | None = None,
    b: Tensor | None = None,
    offset: Tensor | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = MAX_ITERATIONS,
    potentials: Potentials | None = None,
    on_failure: OnFailure = "warn",
    second_order: bool = False,
    path: Path = "auto",
) -> Transport:
    """Entropic transport ``min_P <P, C> + epsilon KL(P | a b')`` over plans with marginals ``a`` and ``b``.

    ``x`` (..., n, d) and ``y`` (..., m, d) are clouds, leading dimensions are independent problems; or leave both out
    and pass ``cost`` as a matrix (..., n, m). ``a`` (..., n) and ``b`` (..., m) are non-negative masses of equal sum
    (default: uniform, sum 1); for a total mass M the objective is M times that of the normalised masses. ``offset``
    (..., n, m) is added to the cost without gradient. ``epsilon`` is in units of the cost, or ``"relative:r"`` for r
    times the mean cost. Iterates until the L1 marginal error is at most ``tolerance`` (relative to the mass), and says
    so (``on_failure``) if ``max_iterations`` did not suffice. ``second_order`` makes the gradient differentiable, and
    with it plan, cost and potentials (implicit differentiation). ``path="dense"`` holds (n, m) matrices, ``"online"``
    (squared costs of points) only blocks, ``"auto"`` chooses by size. Half-precision input becomes float32.
    """
    with _exact_arithmetic():
        clouds = _read_clouds(x, y, cost)
        matrix = _float(cost) if isinstance(cost, Tensor) else cost
        solve = _Solver(epsilon, tolerance, max_iterations, second_order, path)
        results, shape = solve(*clouds, matrix, a, b, offset, potentials)
        result = stack(results, shape) if shape else results[0]
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def sinkhorn_divergence(
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    epsilon: float | str = 0.1,
    cost: Cost | Triple = "sqeuclidean/2",
    a: Tensor | None = None,
    b: Tensor | None = None,
    offset: Tensor | Triple | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = MAX_ITERATIONS,
    potentials: Potentials | None = None,
    self_y: Transport | None = None,
    on_failure: OnFailure = "warn",
    second_order: bool = False,
    path: Path = "auto",
) -> Divergence:
    """Debiased transport ``OT(x, y) - OT(x, x)/2 - OT(y, y)/2``: zero for equal clouds, positive otherwise.

    Arguments as for :func:`sinkhorn`; given costs and offsets are triples (x-y, x-x, y-y), the latter two symmetric
    (one offset serves all three). A relative epsilon refers to the mean cost between ``x`` and ``y``, over the batch.
    ``self_y`` of an earlier result saves its solve where ``y``, ``b`` and epsilon are the same and need no gradient.
    Feydy et al. 2019.
    """
    costs = tuple(map(_float, cost)) if isinstance(cost, tuple) else (cost, cost, cost)
    offsets = offset if isinstance(offset, tuple) else (offset, offset, offset)
    with _exact_arithmetic():
        first, second = _read_clouds(x, y, costs[0])
        solve = _Solver(epsilon, tolerance, max_iterations, second_order, path, attach=False)
        cross, shape = solve(first, second, costs[0], a, b, offsets[0], potentials)
        alone = _Solver(cross[0].epsilon, tolerance, max_iterations, second_order, path, attach=False, symmetric=True)
        self_x, _ = alone(first, first, costs[1], a, a, offsets[1], None)
        known = None if self_y is None else _unstack(self_y, cross)
        last = known or alone(second, second, costs[2], b, b, offsets[2], None)[0]
        values = [
            with_gradients(
                c.objective - 0.5 * (p.objective + q.objective),
                merged([(1.0, c._pairs), (-0.5, p._pairs), (-0.5, q._pairs)]),
            )
            for c, p, q in zip(cross, self_x, last)
        ]
        value = torch.stack(values).reshape(shape) if shape else values[0]
        parts = [stack(results, shape) if shape else results[0] for results in (cross, self_x, last)]
    result = Divergence(value, *parts)
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def _unstack(known: Transport, cross: list[Transport]) -> list[Transport]:
    """The self term of an earlier divergence, checked and without gradients."""
    if (
        len(cross) != 1
        or known.epsilon != cross[0].epsilon
        or known.potentials[0].shape != cross[0].potentials[1].shape
    ):
        raise ValueError("self_y must come from a single problem with the same epsilon and number of points y")
    return [replace(known, objective=known.objective.detach(), _pairs=())]


class _Solver:
    """The settings of a solve, applied to every problem of a batch."""

    def __init__(
        self,
        epsilon: float | str,
        tolerance: float,
        limit: int,
        second_order: bool,
        path: Path,
        attach: bool = True,
        symmetric: bool = False,
    ) -> None:
        if not tolerance > 0 or limit < 1:
            raise ValueError(f"tolerance and max_iterations must be positive, got {tolerance} and {limit}")
        self.epsilon, self.tolerance, self.limit = epsilon, tolerance, limit
        self.second_order, self.path, self.attach, self.symmetric = second_order, path, attach, symmetric

    def __call__(
        self,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
        potentials: Potentials | None,
    ) -> tuple[list[Transport], tuple[int, ...]]:
        """One result per problem, and the leading shape."""
        if isinstance(cost, Tensor):
            shape, sizes = cost.shape[:-2], cost.shape[-2:]
        else:
            assert x is not None
            assert y is not None
            shape, sizes = x.shape[:-2], torch.Size((x.shape[-2], y.shape[-2]))
        like = cost if isinstance(cost, Tensor) else x
        assert like is not None
        a, b = _weights("a", a, like, (*shape, sizes[0])), _weights("b", b, like, (*shape, sizes[1]))
        count = shape.numel()
        parts = [
            _unbatch(t, shape, count) if isinstance(t, Tensor) else [t] * count for t in (x, y, cost, a, b, offset)
        ]
        problems = [Problem(*part, self.symmetric, self.second_order) for part in zip(*parts)]  # type: ignore[call-arg, arg-type]
        epsilon = resolve_epsilon(self.epsilon, lambda: sum(p.cost_scale[0] for p in problems) / count)
        starts: list[Potentials | None] = [None] * count
        if potentials is not None:
            starts = list(zip(*[_unbatch(t.detach(), shape, count) for t in potentials]))
        settings = (epsilon, self.tolerance, self.limit)
        results = [p.solve(*settings, start, self.path, self.attach) for p, start in zip(problems, starts)]
        return results, tuple(shape)


def _unbatch(tensor: Tensor, shape: torch.Size, count: int) -> Sequence[Tensor]:
    """The problems' own parts of a batched tensor, one shared tensor where it has no leading dimensions."""
    if not shape:
        return [tensor]
    own = tensor.shape[len(shape) :] if tensor.shape[: len(shape)] == shape else tensor.shape
    return tensor.expand(*shape, *own).reshape(count, *own).unbind(0)


def _weights(name: str, weight: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A weight in the dtype and shape of the problem, still differentiable."""
    if weight is None:
        return None
    if weight.shape[-1] != shape[-1]:
        raise ValueError(f"{name} has {weight.shape[-1]} masses for {shape[-1]} points")
    if not (weight >= 0).all().item() or not (weight.sum(-1) > 0).all().item():
        raise ValueError(f"{name} must be non-negative with a positive sum")
    return weight.to(like).expand(shape)


def _read_clouds(x: Tensor | None, y: Tensor | None, cost: Cost) -> tuple[Tensor | None, Tensor | None]:
    """Both clouds in one floating type, or neither beside a given matrix."""
    if isinstance(cost, Tensor):
        if x is not None or y is not None:
            raise ValueError("pass either two clouds or a cost matrix, not both")
        if cost.ndim < 2:
            raise ValueError(f"a cost matrix has shape (..., n, m), got {tuple(cost.shape)}")
        return None, None
    if x is None or y is None:
        raise ValueError("two clouds x and y are needed, or a matrix as cost")
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1] or x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"x (..., n, d) and y (..., m, d) must agree in d and in leading dimensions, got {tuple(x.shape)} "
            f"and {tuple(y.shape)}"
        )
    x, y = _float(x), _float(y)
    if x.dtype != y.dtype:
        x, y = x.double(), y.double()
    return x, y


def _float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _exact_arithmetic() -> AbstractContextManager[None]:
    """Autocast off: exponentials of costs over epsilon need float32."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return torch.autocast(device, enabled=False)  # type: ignore[no-untyped-call]
    return nullcontext()
