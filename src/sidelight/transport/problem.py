"""One transport problem: its cost or its points, its masses, the path that solves it, and where gradients go."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from sidelight.transport import batched, checks, dense, mass_gradients, online, symmetric
from sidelight.transport.arrays import (
    Array,
    convert_like,
    copy_with,
    expand_batch,
    full,
    is_double,
    suits_numpy,
)
from sidelight.transport.build_result import build_result
from sidelight.transport.costs import SQUARED, Cost, cost_matrix
from sidelight.transport.points import MatrixCost, PointCost
from sidelight.transport.result import Transport
from sidelight.transport.scaling import GroundCost
from sidelight.transport.solution import DenseSolution
from sidelight.transport.zero_mass import TINY, ZeroMass

Path = Literal["auto", "dense", "online"]

FINEST = 2e-7  # tolerance below which float32 is not tried: its sums of masses already differ by as much
LARGE = 1 << 27  # elements of the cost above which it is never formed


def _normalise(masses: Array) -> Array:
    """Masses that sum to 1 to the last digit of float64; float32 has normalised them before."""
    return masses / masses.sum(-1)[..., None]


class Problem:
    """Transport between ``n`` and ``m`` masses, from clouds ``x``, ``y`` or from a cost matrix.

    With a leading dimension it is a batch of small problems, which :mod:`batched` solves together.

    Args:
        x: points (..., n, d), or None beside a matrix.
        y: points (..., m, d), or None.
        cost: a cost's name, a function of both clouds, or a matrix (..., n, m).
        a: masses (..., n), or None for uniform ones; given together with ``b``.
        b: masses (..., m), or None.
        offset: (..., n, m) added to the cost without gradient, or None.
        path: ``"dense"``, ``"online"``, or ``"auto"`` to choose by size.
        second_order: whether the gradient must be differentiable.
    """

    symmetric = False

    def __init__(
        self,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
        path: Path = "auto",
        second_order: bool = False,
    ) -> None:
        self.x, self.y, self.a, self.b, self.offset, self.second_order = x, y, a, b, offset, second_order
        self.matrix: Tensor | None = None
        self.points: PointCost | None = None
        if isinstance(cost, Tensor):
            self.matrix = cost
            self.shape, count = (cost.shape[-2], cost.shape[-1]), cost.shape[:-2].numel()
        else:
            assert x is not None
            assert y is not None
            self.shape, count = (x.shape[-2], y.shape[-2]), x.shape[:-2].numel()
        if 0 in self.shape:
            raise ValueError(f"a cost matrix is (n, m) with n, m >= 1; got {self.shape}")
        size = self.shape[0] * self.shape[1]
        from_points = isinstance(cost, str) and cost in SQUARED and not second_order
        if path == "online" and not (from_points and offset is None):
            raise ValueError("the online path serves clouds under a squared Euclidean cost, to first order")
        self.online = path == "online" or (path == "auto" and from_points and offset is None and size > LARGE)
        if from_points:
            assert x is not None
            assert y is not None
            in_numpy = not self.online and suits_numpy(size * count, x)
            self.points = PointCost(x, y, SQUARED[cost], in_numpy)  # type: ignore[index]
        elif self.matrix is None:
            assert x is not None
            assert y is not None
            self.matrix = cost_matrix(x, y, cost)
        if self.matrix is not None and offset is not None:
            self.matrix = self.matrix + offset.detach().to(self.matrix)

    def self_problem(self, side: int, cost: Cost, offset: Tensor | None) -> Problem:
        """The transport of one side onto itself.

        Args:
            side: 0 for ``x``, 1 for ``y``.
            cost: the cost of that side with itself; ignored where this problem's cost is a squared distance of points.
            offset: added to that cost, or None.

        Returns:
            The problem of that side.

        Raises:
            ValueError: The cost is not square.
        """
        own, mass, n = (self.y, self.b, self.shape[1]) if side else (self.x, self.a, self.shape[0])
        if self.points is None:
            other = Problem(own, own, cost, mass, mass, offset, second_order=self.second_order)
            if other.shape != (n, n):
                raise ValueError(f"the cost of a side with itself is {n} x {n}; got {other.shape}")
        else:
            points = self.points.against_itself(side)
            other = copy_with(self, x=own, y=own, a=mass, b=mass, shape=(n, n), offset=offset, points=points)
            other.__dict__.pop("ground", None)
        other.symmetric = True
        return other

    # ------------------------------------------------------------ what is given

    @cached_property
    def ground(self) -> GroundCost:
        """The detached cost."""
        if self.points is not None:
            if self.offset is None:
                return self.points
            cost = self.points.cost()
            return MatrixCost(cost + convert_like(self.offset.detach(), cost))
        assert self.matrix is not None
        cost = self.matrix.detach()
        return MatrixCost(cost.numpy() if suits_numpy(cost.numel(), cost) else cost)

    def mean_cost(self) -> float:
        """Mean of the cost, without forming it where it is of points."""
        ground = self.ground
        return self._finite(ground.mean() if isinstance(ground, PointCost) else float(ground.given.mean()))

    def _finite(self, cost: float) -> float:
        """A mean or a bound of the cost, which is finite where every cost is; an error names the culprit otherwise."""
        if not abs(cost) < float("inf"):
            from_points = self.x is not None
            given = {"x": self.x, "y": self.y} if from_points else {"cost": self.matrix}
            raise ValueError(checks.describe_non_finite(**given, offset=self.offset))
        return cost

    def masses(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positive ``a`` and ``b`` of sum 1 (differentiable where given), and the total mass where they are given.

        The total mass is the geometric mean of both sums, so that neither side counts more than the other.
        """
        n, m = self.shape
        if self.a is None or self.b is None:  # both: where one is given, the caller made the other
            return like.new_full((n,), 1 / n), like.new_full((m,), 1 / m), None
        mass, other = self.a.sum(-1), self.b.sum(-1)
        wrong = ((other - mass).abs() > 1e-3 * mass).reshape(-1)
        if wrong.any():
            one, two = (z.reshape(-1)[wrong][0].item() for z in (mass, other))
            raise ValueError(f"a and b must have the same mass, got {one} and {two}")
        a, b = ((z / total.unsqueeze(-1)).clamp_min(TINY) for z, total in ((self.a, mass), (self.b, other)))
        return a, b, mass * (other / mass).sqrt()

    def arrays(self, array: Array, like: Tensor) -> tuple[Array, Array, Array]:
        """``a``, ``b`` and the total mass (1 where none is given) in the solver's arithmetic."""
        if self.a is None:
            a, b = (full(n, 1.0 / n, array) for n in self.shape)
            mass: Array = 1.0
        else:
            *both, total = self.masses(like)
            a, b = (_normalise(convert_like(z, array)) if is_double(array) else convert_like(z, array) for z in both)
            assert total is not None
            mass = convert_like(total, array) if total.ndim else total.item()
        return a, b, mass

    # ------------------------------------------------------------ what comes back

    def solve(
        self,
        epsilon: float,
        tolerance: float,
        limit: int,
        potentials: tuple[Tensor, Tensor] | None = None,
        attach: bool = True,
    ) -> Transport:
        """Solve the problem on its path.

        Args:
            epsilon: regularisation strength in units of the cost.
            tolerance: L1 error of the marginals, relative to the mass.
            limit: the most iterations.
            potentials: ``f`` and ``g`` to start from, or None.
            attach: whether the objective carries gradients; without it they stay in the result for the caller to
                combine.

        Returns:
            The caller's result, in tensors.

        Raises:
            ValueError: The cost is not finite, or the masses of both sides differ.
        """
        needs_mass_gradients = torch.is_grad_enabled() and any(
            z is not None and z.requires_grad for z in (self.a, self.b)
        )
        with torch.no_grad():
            settings = (epsilon, tolerance, limit)
            ground = self.ground if tolerance >= FINEST and not needs_mass_gradients else self.ground.double()
            array = ground.x if isinstance(ground, PointCost) else ground.given
            a, b, mass = self.arrays(array, self.like)
            if array.ndim == 3 and not self.symmetric:
                a, b = (expand_batch(z, len(array)) for z in (a, b))
            zero_mass = None if self.a is None else ZeroMass.from_masses(a, b)
            if zero_mass is None:
                own, masses, start = ground, (a, b), potentials
            else:
                self._finite(ground.upper_bound())  # of all points
                own, masses, start = (
                    zero_mass.fill_cost(ground),
                    zero_mass.masses,
                    zero_mass.fill_potentials(potentials),
                )
            solution = self._solution(own, *masses, settings, start)
            if needs_mass_gradients and solution.converged:
                solution = mass_gradients.refine_potentials(solution, own, masses, settings, self.symmetric)
            if zero_mass is not None:
                solution = zero_mass.restore(solution, ground, epsilon)
        return build_result(self, solution, mass, epsilon, attach)

    def _solution(
        self,
        ground: GroundCost,
        a: Array,
        b: Array,
        settings: tuple[float, float, int],
        potentials: tuple[Tensor, Tensor] | None,
    ) -> DenseSolution | online.OnlineSolution:
        """The solution on its path, for positive masses."""
        if self.online:
            assert isinstance(ground, PointCost)
            self.mean_cost()  # raises an error that names NaN and infinity
            return online.solve(ground, a, b, *settings, potentials)
        if self.symmetric:
            return symmetric.solve(ground, a, *settings)
        largest = self._finite(ground.upper_bound())
        if a.ndim == 2:
            return batched.solve(ground, a, b, *settings, largest, potentials)
        if self.shape[0] <= self.shape[1]:
            return dense.solve(ground, a, b, *settings, largest, potentials)
        swapped = None if potentials is None else potentials[::-1]  # Newton works on the first side: the smaller one
        return dense.solve(ground.transpose(), b, a, *settings, largest, swapped).transpose()

    @property
    def like(self) -> Tensor:
        """A tensor on the device and in the type of the problem."""
        like = self.x if self.x is not None else self.matrix
        assert like is not None
        return like
