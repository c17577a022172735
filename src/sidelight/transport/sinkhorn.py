"""Entropic optimal transport and its debiased divergence, for points or a given cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sidelight.transport import checks
from sidelight.transport.batched import LARGEST
from sidelight.transport.costs import Cost, resolve_epsilon
from sidelight.transport.gradients import attach_gradients, merge_gradients, to_value
from sidelight.transport.problem import Path, Problem
from sidelight.transport.result import Divergence, OnFailure, Transport, gather_results, report_failure
from sidelight.transport.self_terms import SelfTermInput, build_self_term, reuse_self_term

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
    """Entropic transport ``min_P <P, C> + epsilon KL(P | a b' / M)`` over plans with marginals ``a`` and ``b``.

    ``x`` (..., n, d) and ``y`` (..., m, d) are clouds, leading dimensions are independent problems; or leave both out
    and pass ``cost`` as a matrix (..., n, m). ``a`` (..., n) and ``b`` (..., m) are non-negative masses of equal sum
    (default: uniform, of the other's sum, or 1); for a total mass M the plan and the objective are M times those of the
    normalised masses. Where a mass requires a gradient the potentials are solved for in float64 until they too meet
    the tolerance. ``offset`` (..., n, m) is added to the cost without gradient. ``epsilon`` is in units of the cost, or
    ``"relative:r"`` for r times the mean cost, over the batch. Iterates until the L1 marginal error is at most
    ``tolerance`` (relative to the mass), and says so (``on_failure``) if ``max_iterations`` did not suffice.
    ``second_order`` makes the gradient differentiable, and with it plan, cost and potentials (implicit
    differentiation). ``path="dense"`` holds (n, m) matrices, ``"online"`` (squared costs of points) only blocks,
    ``"auto"`` chooses by size. Half-precision input becomes float32.
    """
    checks.require_settings(tolerance, max_iterations, path=path, on_failure=on_failure)
    with _disable_autocast(), np.errstate(all="ignore"):  # what overflows is found and mended
        clouds = _read_clouds(x, y, cost)
        matrix = _to_float(cost) if isinstance(cost, Tensor) else cost
        solve = _Solver(epsilon, tolerance, max_iterations, second_order, path)
        problems, shape = solve.build_problems(*clouds, matrix, a, b, offset)
        result = gather_results(solve(problems, potentials), shape)
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
    ``self_y`` of an earlier result saves its solve where ``y``, ``b``, cost and epsilon are the same (otherwise it is
    refused) and need no gradient.
    Feydy et al. 2019.
    """
    checks.require_settings(tolerance, max_iterations, path=path, on_failure=on_failure)
    if isinstance(cost, Tensor):
        raise ValueError("given costs of a divergence are a triple (x-y, x-x, y-y), got one matrix")
    costs: tuple[Cost, Cost, Cost]
    if isinstance(cost, tuple | list):
        costs = given = tuple(map(_to_float, checks.require_triple("cost", cost)))  # type: ignore[assignment]
        for i in (1, 2):
            checks.require_symmetric(f"cost[{i}]", given[i])
    else:
        costs = cost, cost, cost
    offsets = checks.require_triple("offset", offset) if isinstance(offset, tuple | list) else (offset, offset, offset)
    with _disable_autocast(), np.errstate(all="ignore"):  # what overflows is found and mended
        first, second = _read_clouds(x, y, costs[0])
        solve = _Solver(epsilon, tolerance, max_iterations, second_order, path, attach=False)
        problems, shape = solve.build_problems(first, second, costs[0], a, b, offsets[0])
        cross = solve(problems, potentials)
        solve.epsilon = cross[0].epsilon

        clouds = first, second
        sides = [SelfTermInput(costs[1 + i], clouds[i], solve.masses[i], offsets[1 + i]) for i in range(2)]

        def solve_self_term(side: int) -> tuple[Transport, list[Transport]]:
            expected = (*solve.shapes[side], solve.shapes[side][-1])
            own = [costs[1 + side], offsets[1 + side]]
            for i, name in enumerate(("cost", "offset")):
                if isinstance(z := own[i], Tensor):
                    z = checks.require_shape(
                        f"{name} of {'xy'[side]} with itself", z, expected, last=2 * (name == "cost")
                    )
                    own[i] = z.expand(expected)
            results = solve(
                [p.self_problem(side, *parts) for p, *parts in zip(problems, *solve.split_arguments(shape, *own))]
            )
            return build_self_term(gather_results(results, shape), results, sides[side]), results

        self_x, each_x = solve_self_term(0)
        other, each_y = solve_self_term(1) if self_y is None else reuse_self_term(self_y, sides[1], cross, tolerance)
        like = problems[0].like
        values = [_compute_divergence(c, p, q, like, second_order) for c, p, q in zip(cross, each_x, each_y)]
        value = values[0] if not shape else torch.stack(values).reshape(shape)
        result = Divergence(value, gather_results(cross, shape), self_x, other)
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def _compute_divergence(
    cross: Transport, self_x: Transport, self_y: Transport, like: Tensor, second_order: bool
) -> Tensor:
    """``OT(x, y) - OT(x, x)/2 - OT(y, y)/2`` with one backward node."""
    if second_order:
        return cross.objective - 0.5 * (self_x.objective + self_y.objective)
    value = to_value(cross._value - 0.5 * (self_x._value + self_y._value), like)
    return attach_gradients(value, merge_gradients([(1.0, cross._pairs), (-0.5, self_x._pairs), (-0.5, self_y._pairs)]))


class _Solver:
    """The settings of a solve, applied to every problem of a batch."""

    def __init__(
        self, epsilon: float | str, tolerance: float, limit: int, second_order: bool, path: Path, attach: bool = True
    ) -> None:
        self.epsilon, self.tolerance, self.limit = epsilon, tolerance, limit
        self.second_order, self.path, self.attach = second_order, path, attach

    def build_problems(
        self,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
    ) -> tuple[list[Problem], torch.Size]:
        """The problems of a batch, small ones as one stack, and their leading shape."""
        if isinstance(cost, Tensor):
            like, shape, n, m = cost, cost.shape[:-2], cost.shape[-2], cost.shape[-1]
        else:
            assert x is not None
            assert y is not None
            like, shape, n, m = x, x.shape[:-2], x.shape[-2], y.shape[-2]
        if not shape.numel():
            raise ValueError(f"a batch without problems: the leading shape is {tuple(shape)}")
        self.shapes = (*shape, n), (*shape, m)
        small = 0 < n * m <= LARGEST and self.path != "online" and not self.second_order
        self.whole = small and shape.numel() > 1 and isinstance(cost, Tensor | str)
        a, b = _prepare_masses("a", a, like, self.shapes[0]), _prepare_masses("b", b, like, self.shapes[1])
        if (a is None) != (b is None):
            a, b = _fill_uniform(a, b, n), _fill_uniform(b, a, m)
        self.masses = a, b
        if offset is not None:
            offset = checks.require_shape("offset", offset, (*shape, n, m)).expand(*shape, n, m)
        how = self.path, self.second_order
        batch = zip(*self.split_arguments(shape, x, y, cost, a, b, offset))
        return [Problem(xi, yi, ci, ai, bi, oi, *how) for xi, yi, ci, ai, bi, oi in batch], shape

    def split_arguments(self, shape: torch.Size, *given: Any) -> list[Sequence[Any]]:
        """What every problem gets of each argument."""
        count = 1 if self.whole else shape.numel()
        return [self._split_batch(z, shape) if isinstance(z, Tensor) else [z] * count for z in given]

    def _split_batch(self, tensor: Tensor, shape: torch.Size) -> Sequence[Tensor]:
        """The problems' own parts of a tensor that has all leading dimensions."""
        if not shape:
            return [tensor]
        flat = tensor.reshape(shape.numel(), *tensor.shape[len(shape) :])
        return [flat] if self.whole else flat.unbind(0)

    def __call__(self, problems: list[Problem], potentials: Potentials | None = None) -> list[Transport]:
        count = len(problems)
        kind = problems[0].like.dtype
        epsilon = resolve_epsilon(self.epsilon, lambda: sum(p.mean_cost() for p in problems) / count, kind)
        starts: Sequence[Potentials | None] = [None] * count
        if potentials is not None:
            potentials = checks.require_potentials(potentials, self.shapes)
        if potentials is not None and self.whole:
            starts = [tuple(z.detach().flatten(0, -2) for z in potentials)]  # type: ignore[list-item]
        elif potentials is not None:
            starts = list(zip(*[z.detach().reshape(count, z.shape[-1]) for z in potentials]))
        return [p.solve(epsilon, self.tolerance, self.limit, start, self.attach) for p, start in zip(problems, starts)]


def _prepare_masses(name: str, weight: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A weight in the dtype and shape of the problem, still differentiable."""
    if weight is None:
        return None
    if checks.require_tensor(name, weight).ndim and weight.shape[-1] != shape[-1]:
        raise ValueError(f"{name} has {weight.shape[-1]} masses for {shape[-1]} points")
    checks.require_shape(name, weight, shape, last=1)
    checks.require_masses(name, weight)
    return weight.to(like).expand(shape)


def _fill_uniform(weight: Tensor | None, other: Tensor | None, size: int) -> Tensor | None:
    """``weight``, or uniform masses of the sum of ``other``, in which they are differentiable."""
    if weight is not None or other is None:
        return weight
    return (other.sum(-1, keepdim=True) / size).expand(*other.shape[:-1], size)


def _read_clouds(x: Tensor | None, y: Tensor | None, cost: Cost) -> tuple[Tensor | None, Tensor | None]:
    """Both clouds in one floating type, or neither beside a given matrix."""
    if isinstance(cost, Tensor):
        if x is not None or y is not None:
            raise ValueError("pass either two clouds or a cost matrix, not both")
        checks.require_tensor("cost", cost)
        if cost.ndim < 2 or 0 in cost.shape[-2:]:
            raise ValueError(f"a cost matrix has shape (..., n, m) with n, m >= 1, got {tuple(cost.shape)}")
        return None, None
    if not isinstance(cost, str) and not callable(cost):
        raise TypeError(f"cost is a name, a tensor or a function of (x, y), got {type(cost).__name__}")
    if x is None or y is None:
        raise ValueError("two clouds x and y are needed, or a matrix as cost")
    checks.require_clouds(x, y)
    x, y = _to_float(x), _to_float(y)
    if x.dtype != y.dtype:
        x, y = x.double(), y.double()
    return x, y


def _to_float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _disable_autocast() -> AbstractContextManager[None]:
    """Autocast off: exponentials of costs over epsilon need float32."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return torch.autocast(device, enabled=False)  # type: ignore[no-untyped-call]
    return nullcontext()
