"""The results of a solve, and the report where it did not converge."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sidelight.errors import SidelightWarning

OnFailure = Literal["warn", "raise", "ignore"]


class ConvergenceWarning(SidelightWarning):
    """A solve ended above the marginal error that the caller set."""


class ConvergenceError(RuntimeError):
    """A solve ended above the marginal error that the caller set, and ``on_failure="raise"``."""


@dataclass(frozen=True, eq=False)
class Transport:
    """A converged entropic transport plan, its objective and its potentials.

    ``objective`` carries gradients (envelope theorem); everything else is detached unless ``second_order=True``.
    ``potentials``, ``plan`` and ``cost`` are computed when first read, from the input as it is then. Batched solves
    report their worst problem. To store a result, store its tensors: it holds the problem and cannot be pickled.
    """

    epsilon: float
    marginal_error: float
    """``max(|P 1 - a|_1, |P' 1 - b|_1)`` relative to the total mass."""
    iterations: int
    """Pairs of matrix-vector products: one Sinkhorn sweep or one conjugate-gradient step each."""
    converged: bool
    path: str
    """Which solver ran: ``"dense"`` or ``"online"``."""
    _value: Any = field(repr=False)
    _objective: Callable[[], Tensor] = field(repr=False)
    _potentials: Callable[[], tuple[Tensor, Tensor]] = field(repr=False)
    _plan: Callable[[], Tensor] = field(repr=False)
    _cost: Callable[[], Tensor] = field(repr=False)
    _pairs: Sequence[tuple[Tensor, Tensor]] = field(repr=False, default=())

    @cached_property
    def objective(self) -> Tensor:
        """``<P, C> + epsilon KL(P | a b' / M)``, differentiable in points, cost and masses; M is the total mass."""
        return self._objective()

    @cached_property
    def potentials(self) -> tuple[Tensor, Tensor]:
        """Dual potentials ``f`` (..., n) and ``g`` (..., m) in units of the cost, to start a later solve from."""
        return self._potentials()

    @cached_property
    def plan(self) -> Tensor:
        """(..., n, m) transport plan."""
        return self._plan()

    @cached_property
    def cost(self) -> Tensor:
        """``<P, C>``."""
        return self._cost()


def gather_results(results: Sequence[Transport], shape: tuple[int, ...]) -> Transport:
    """The results of single problems, or of a batch, as one result of leading ``shape``."""
    first = results[0]
    if not shape:
        return first

    def join(parts: Sequence[Tensor]) -> Tensor:
        whole = torch.stack(list(parts)) if isinstance(first._value, float) else parts[0]
        return whole.reshape(*shape, *whole.shape[1:])

    objective = join([r.objective for r in results])  # now, in the caller's grad mode
    return replace(
        first,
        _objective=lambda: objective,
        marginal_error=max(r.marginal_error for r in results),
        iterations=max(r.iterations for r in results),
        converged=all(r.converged for r in results),
        _potentials=lambda: (join([r.potentials[0] for r in results]), join([r.potentials[1] for r in results])),
        _plan=lambda: join([r.plan for r in results]),
        _cost=lambda: join([r.cost for r in results]),
    )


@dataclass(frozen=True, eq=False)
class Divergence:
    """``OT(x, y) - OT(x, x)/2 - OT(y, y)/2`` with its three parts. Gradients are those of ``divergence`` alone."""

    divergence: Tensor
    cross: Transport
    self_x: Transport
    self_y: Transport

    @property
    def epsilon(self) -> float:
        return self.cross.epsilon

    @property
    def marginal_error(self) -> float:
        return max(part.marginal_error for part in (self.cross, self.self_x, self.self_y))

    @property
    def iterations(self) -> int:
        return self.cross.iterations + self.self_x.iterations + self.self_y.iterations

    @property
    def converged(self) -> bool:
        return self.cross.converged and self.self_x.converged and self.self_y.converged

    @property
    def path(self) -> str:
        return self.cross.path


_already_warned = False


def report_failure(error: float, tolerance: float, iterations: int, on_failure: OnFailure) -> None:
    """Warn once per process, or raise, that a solve missed its tolerance.

    Args:
        error: the marginal error reached.
        tolerance: the marginal error that the caller set.
        iterations: the iterations used.
        on_failure: ``"warn"``, ``"raise"`` or ``"ignore"``.

    Raises:
        ConvergenceError: ``on_failure`` is ``"raise"``.
    """
    global _already_warned
    if on_failure == "ignore" or (on_failure == "warn" and _already_warned):
        return
    if error <= tolerance:
        message = (
            f"Entropic transport met the tolerance {tolerance:.1e}, but the gradient of the masses did not: almost no "
            "mass joins some parts of the plan, so float64 cannot determine the cost of moving mass from one part to "
            "another. Raise epsilon or the tolerance, or detach a and b."
        )
    else:
        message = (
            f"Entropic transport stopped after {iterations} iterations at a marginal error of {error:.1e}, above the "
            f"tolerance {tolerance:.1e}. Raise epsilon, max_iterations or the tolerance, or use float64."
        )
    if on_failure == "raise":
        raise ConvergenceError(message)
    _already_warned = True
    warnings.warn(message + " (Shown once.)", ConvergenceWarning, stacklevel=3)
