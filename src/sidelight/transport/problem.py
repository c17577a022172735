"""One transport problem: its cost or its points, its masses, the path that solves it, and where gradients go."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from sidelight.transport import batched, checks, dense, implicit, mass_gradients, online, symmetric
from sidelight.transport.arrays import (
    Array,
    convert_like,
    copy_with,
    expand_batch,
    full,
    is_double,
    suits_numpy,
    tensor,
)
from sidelight.transport.costs import SQUARED, Cost, cost_matrix
from sidelight.transport.gradients import attach_gradients, scale_by, to_value
from sidelight.transport.points import MatrixCost, PointCost
from sidelight.transport.result import Transport
from sidelight.transport.scaling import GroundCost
from sidelight.transport.solution import DenseSolution
from sidelight.transport.zero_mass import TINY, ZeroMass

Path = Literal["auto", "dense", "online"]

FINEST = 2e-7  # tolerance below which float32 is not tried: the sums of its masses already differ by as much
LARGE = 1 << 27  # elements of the cost above which it is never formed


def _normalise(masses: Array) -> Array:
    """What float32 has normalised, to the last digit of float64."""
    return masses / masses.sum(-1)[..., None]


class Problem:
    """Transport between ``n`` and ``m`` masses, from clouds ``x``, ``y`` or from a cost matrix.

    With a leading dimension it is a stack of small problems, which :mod:`batched` solves together.
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
        """The transport of one side onto itself."""
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
        """A mean or a bound of the cost, which is finite where every cost is."""
        if not abs(cost) < float("inf"):
            from_points = self.x is not None
            given = {"x": self.x, "y": self.y} if from_points else {"cost": self.matrix}
            raise ValueError(checks.describe_non_finite(**given, offset=self.offset))
        return cost

    def masses(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positive ``a`` and ``b`` of sum 1 (differentiable where given), and the total mass where they are given.

        That is the geometric mean of both sums, so that neither side counts more than the other.
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
        """Solve; without ``attach`` the gradients stay in the result for the caller to combine."""
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
        return self.result(solution, mass, epsilon, attach)

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
            self.mean_cost()  # NaN and infinity are named
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

    def result(
        self, solution: DenseSolution | online.OnlineSolution, mass: Array, epsilon: float, attach: bool
    ) -> Transport:
        """The solution of masses 1 as the caller's: in tensors, for his masses, with gradients."""
        like, ground = self.like, self.ground
        if self.second_order and torch.is_grad_enabled():
            return self._twice_differentiable(solution, epsilon)
        pairs = self._gradients(solution, mass) if torch.is_grad_enabled() else []
        number = solution.value * mass

        def as_tensor(array: Array) -> Tensor:
            return tensor(array).to(like)

        def plan() -> Tensor:
            return as_tensor(scale_by(solution.plan(), mass))

        objective = attach_gradients(to_value(number, like), pairs) if attach else None
        return Transport(
            epsilon,
            solution.worst,
            solution.iterations,
            solution.converged,
            solution.path,
            number,
            lambda: to_value(number, like) if objective is None else objective,
            lambda: (as_tensor(solution.potentials[0]), as_tensor(solution.potentials[1])),
            plan,
            lambda: (plan() * as_tensor(ground.cost())).sum((-2, -1)),
            pairs,
        )

    def _gradients(self, solution: DenseSolution | online.OnlineSolution, mass: Array) -> list[tuple[Tensor, Tensor]]:
        """Envelope theorem: d objective / d cost is the plan, d / d masses are the potentials."""
        pairs: list[tuple[Tensor, Array]] = []
        if self.points is None:
            assert self.matrix is not None
            if self.matrix.requires_grad:
                pairs.append((self.matrix, solution.plan()))
        else:
            if self.x is not None and self.x.requires_grad:
                pairs.append((self.x, self.points.gradient_x(solution)))
            if self.y is not None and self.y.requires_grad and not self.symmetric:
                pairs.append((self.y, self.points.gradient_y(solution)))
        pairs = [(variable, scale_by(gradient, mass)) for variable, gradient in pairs]
        for side, weight in enumerate((self.a, self.b)):
            if weight is not None and weight.requires_grad:
                pairs.append((weight, solution.potentials[side]))
        return [(variable, tensor(gradient).to(self.like)) for variable, gradient in pairs]

    def _twice_differentiable(self, solution: DenseSolution | online.OnlineSolution, epsilon: float) -> Transport:
        """The envelope's gradient made differentiable in turn; plan, cost and potentials carry gradients too."""
        cost = self.matrix
        assert cost is not None
        a, b, mass = self.masses(cost)
        f, g = (tensor(z).to(cost) for z in solution.potentials)
        plan = tensor(solution.plan()).to(cost)
        objective, plan, f, g = implicit.attach(cost.new_tensor(solution.value), cost, a, b, plan, f, g, epsilon)
        factor: float | Tensor = 1.0 if mass is None else mass
        objective = objective * factor
        return Transport(
            epsilon,
            solution.worst,
            solution.iterations,
            solution.converged,
            solution.path,
            solution.value if mass is None else solution.value * mass.item(),
            lambda: objective,
            lambda: (f, g),
            lambda: plan * factor,
            lambda: (plan * cost).sum() * factor,
        )
