"""Points without mass take no part in a solve; their potentials follow from its solution.

A mass of zero would make ``log 0`` of every step. Instead the point takes the place of the heaviest one, which shares
its mass with it: a problem of the same shape with the same solution (equal points count as the sum of their masses),
whose masses are all positive. Shapes stay, so a batch of problems with different points missing is still one batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sidelight.transport import online
from sidelight.transport.arrays import (
    HIGHEST,
    LOWEST,
    Array,
    array_namespace,
    convert_like,
    copy_with,
    empty,
    is_double,
    tensor,
)
from sidelight.transport.points import MatrixCost, PointCost
from sidelight.transport.scaling import GroundCost, soft_minimum
from sidelight.transport.solution import DenseSolution

TINY = 1e-30  # stands for a mass of zero
# A share of the mass below this counts as none: no marginal error shows it, but a clamped exponent would.
NEGLIGIBLE = 1e-13


class FilledMasses:
    """One side: its masses ``given`` (..., n), the mask ``absent``, and positive masses ``filled`` to solve with."""

    def __init__(self, given: Array) -> None:
        masses = tensor(given)
        absent = masses < NEGLIGIBLE
        largest, heaviest = masses.max(-1, keepdim=True)
        share = largest / (1 + absent.sum(-1, keepdim=True))
        own = torch.arange(masses.shape[-1], device=masses.device).expand_as(masses)
        self.source = torch.where(absent, heaviest, own)
        self.absent, self.given = as_kind(given, absent), as_kind(given, masses.masked_fill(absent, TINY))
        self.filled = as_kind(given, torch.where(absent, share, masses).scatter(-1, heaviest, share))

    def fill(self, rows: Array) -> Array:
        """``rows`` (..., n) or (..., n, d), with the heaviest point's row in place of those of absent points."""
        whole, dim = tensor(rows), self.source.ndim - 1
        index = self.source if whole.ndim == self.source.ndim else self.source.unsqueeze(-1)
        return as_kind(rows, torch.take_along_dim(whole, index, dim))

    def restore_factor(self, solved: Array) -> Array:
        """The factor of the plan for the given masses; for an absent point it is the point's mass."""
        return array_namespace(solved).where(self.absent, self.given, solved * (self.given / self.filled))


def as_kind(array: Array, other: Tensor) -> Array:
    """A tensor as the same kind of array, tensor or numpy, whatever its dtype."""
    return other if isinstance(array, Tensor) else other.numpy()


class ZeroMass:
    """Both sides of a problem, or of a batch of problems, in which some points have no mass."""

    def __init__(self, a: Array, b: Array) -> None:
        self.rows, self.columns = (
            FilledMasses(a + 0.0),
            FilledMasses(b + 0.0),
        )  # views of one mass for all are not to be written to
        self.masses = self.rows.filled, self.columns.filled

    @staticmethod
    def from_masses(a: Array, b: Array) -> ZeroMass | None:
        """None where every point has mass."""
        return ZeroMass(a, b) if min(float(a.min()), float(b.min())) < NEGLIGIBLE else None

    def fill_potentials(self, given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
        """The potentials to start from, for the points that take part."""
        return None if given is None else (self.rows.fill(given[0].detach()), self.columns.fill(given[1].detach()))

    def fill_cost(self, cost: GroundCost, rows: bool = True, columns: bool = True) -> GroundCost:
        """The cost between the points that take part.

        Args:
            cost: costs (..., n, m) of all points.
            rows: whether to fill the rows of absent points.
            columns: whether to fill the columns of absent points.

        Returns:
            A cost of the same shape.
        """
        if isinstance(cost, PointCost):
            return self.fill_points(cost, rows, columns)
        matrix = self.rows.fill(cost.given) if rows else cost.given
        return MatrixCost(self.columns.fill(matrix.swapaxes(-1, -2)).swapaxes(-1, -2) if columns else matrix)

    def fill_points(self, cost: PointCost, rows: bool = True, columns: bool = True) -> PointCost:
        """:meth:`fill_cost` for clouds of points.

        Args:
            cost: the clouds.
            rows: whether to fill the absent points of ``x``.
            columns: whether to fill the absent points of ``y``.

        Returns:
            Clouds of the same shape.
        """
        x, y = self.rows.fill(cost.x) if rows else cost.x, self.columns.fill(cost.y) if columns else cost.y
        return cost.replace_points(x, y)

    def merge_potentials(self, f: Array, g: Array, of_rows: Array, of_columns: Array) -> tuple[Array, Array]:
        """The solution's potentials, with other ones for absent points.

        Args:
            f: potentials of the rows (..., n) of the solved problem.
            g: potentials of the columns (..., m) of the solved problem.
            of_rows: potentials (..., n) that make each row exact, used where a row is absent.
            of_columns: potentials (..., m) that make each column exact, used where a column is absent.

        Returns:
            Both potentials.
        """
        where = array_namespace(f).where
        return where(self.rows.absent, of_rows, f), where(self.columns.absent, of_columns, g)

    def restore(
        self, solved: DenseSolution | online.OnlineSolution, cost: GroundCost, epsilon: float
    ) -> DenseSolution | online.OnlineSolution:
        """The solution for the given masses.

        Args:
            solved: the solution for the filled masses.
            cost: costs (..., n, m) of all points.
            epsilon: regularisation strength in units of the cost.

        Returns:
            A solution in which absent points have their (zero) mass.
        """
        if isinstance(solved, DenseSolution):
            return self._dense(solved, cost, epsilon)
        assert isinstance(cost, PointCost)
        return self._online(solved, cost, epsilon)

    def _dense(self, solved: DenseSolution, cost: GroundCost, epsilon: float) -> DenseSolution:
        """``P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)``, in the rows and columns of absent points too."""
        u, kernel, v = solved.factors
        if is_double(u) and not is_double(self.rows.given):
            cost = cost.double()
        xp, (f, g) = array_namespace(u), solved.sides
        half = self.fill_cost(cost, rows=False), self.fill_cost(cost, columns=False).transpose()
        a, b = (convert_like(tensor(z), u) for z in self.masses)
        f, g = self.merge_potentials(f, g, soft_minimum(half[0], b, g, epsilon), soft_minimum(half[1], a, f, epsilon))
        u, v = self.rows.restore_factor(u), self.columns.restore_factor(v)
        known = f - epsilon * xp.log(u / self.rows.given), g - epsilon * xp.log(v / self.columns.given)
        own = empty(cost.shape, u)
        for _, part in cost.exponents(own, epsilon, *(convert_like(tensor(z), u) for z in known)):
            part.clamp_(LOWEST, HIGHEST).exp_()
        row, column = self.rows.absent[..., :, None], self.columns.absent[..., None, :]
        own = xp.minimum(own, xp.where(row, 1.0 / v[..., None, :], 1.0 / u[..., :, None]))  # no more than its mass
        kernel = xp.where(row | column, own, kernel)
        marginals = self.rows.restore_factor(solved.marginals[0]), self.columns.restore_factor(solved.marginals[1])
        whole: DenseSolution = copy_with(solved, factors=(u, kernel, v), sides=(f, g), marginals=marginals)
        return whole

    def _online(self, solved: online.OnlineSolution, points: PointCost, epsilon: float) -> online.OnlineSolution:
        """The same without a matrix."""
        if is_double(solved.marginals[1]) and not is_double(points.x):
            points = points.double()
        f, g = solved.potentials
        a, b = (z.to(f) for z in self.masses)
        rows = online.build_blocks(self.fill_points(points, rows=False), a, b, epsilon).soft_minimum(g)
        columns = online.build_blocks(self.fill_points(points, columns=False).transpose(), b, a, epsilon).soft_minimum(
            f
        )
        blocks = online.build_blocks(points, self.rows.given.to(f), self.columns.given.to(f), epsilon)
        marginal = self.columns.restore_factor(solved.marginals[1])
        f, g = self.merge_potentials(f, g, rows, columns)
        return online.OnlineSolution(blocks, f, g, marginal, solved.worst, solved.iterations, solved.tolerance)
