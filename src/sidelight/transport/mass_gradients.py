"""Refine the potentials until they meet the tolerance themselves: they are the gradient of the masses.

Marginals that are nearly right do not make the potentials nearly right. If ``1 - s`` is the smallest eigenvalue of the
Laplacian of the plan, an error of the marginals can hide an error ``1 / (1 - s)`` times as large in the potentials. So
where a gradient of the masses is needed, a solve goes on from its marginals with exact Newton steps in float64 until
such a step is small, and reports failure where float64 cannot determine the potentials.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sidelight.transport import online
from sidelight.transport.arrays import Array, tensor
from sidelight.transport.dual import log_kernel
from sidelight.transport.newton import DIRECT_LIMIT
from sidelight.transport.refine_factored import refine_factored
from sidelight.transport.refine_matrix_free import MatrixBlocks, refine_matrix_free
from sidelight.transport.scaling import GroundCost
from sidelight.transport.solution import DenseSolution
from sidelight.transport.zero_mass import as_kind


def refine_potentials(
    solution: DenseSolution | online.OnlineSolution,
    ground: GroundCost,
    masses: tuple[Array, Array],
    settings: tuple[float, float, int],
    symmetric: bool,
) -> DenseSolution | online.OnlineSolution:
    """The solution of one problem, or of a batch, in float64 with potentials that meet the tolerance.

    Args:
        solution: a converged solution.
        ground: costs (..., n, m).
        masses: positive ``a`` (..., n) and ``b`` (..., m), of sum 1.
        settings: epsilon, tolerance and the most iterations, those of ``solution`` included.
        symmetric: whether both sides are the same. Then only the sum of both potentials is a gradient, and one
            potential suffices.

    Returns:
        A solution whose `potentials_known` is False where its potentials do not meet the tolerance.
    """
    epsilon, tolerance, max_iterations = settings
    limit = int(max_iterations) - solution.iterations
    f, g = (tensor(z).double() for z in solution.potentials)
    if isinstance(solution, online.OnlineSolution):
        f, g, steps, known = refine_matrix_free(solution.blocks, f, g, tolerance, limit, symmetric)
        return _refined_online(solution, f, g, steps, known)
    array = masses[0]
    a, b = (tensor(z).double() for z in masses)
    cost = tensor(ground.cost()).double()
    if min(cost.shape[-2:]) > DIRECT_LIMIT:
        f, g, steps, known = refine_matrix_free(MatrixBlocks(cost, a, b, epsilon), f, g, tolerance, limit, symmetric)
    else:
        f, g, steps, known = refine_factored(cost, a, b, epsilon, f, g, tolerance, limit, symmetric)
    kernel = log_kernel(cost, f, g, epsilon).exp_()
    plan = kernel * a.unsqueeze(-1) * b.unsqueeze(-2)
    marginals = plan.sum(-1), plan.sum(-2)
    error = (marginals[0] - a).abs().sum(-1) + (marginals[1] - b).abs().sum(-1)
    factors, sides, sums = ([as_kind(array, z) for z in part] for part in ((a, kernel, b), (f, g), marginals))
    result = DenseSolution(
        (factors[0], factors[1], factors[2]),
        (sums[0], sums[1]),
        (factors[0], factors[2]),
        (sides[0], sides[1]),
        epsilon,
        as_kind(array, error) if error.ndim else error.item(),
        solution.iterations + steps,
        solution.tolerance,
    )
    result.potentials_known = known
    return result


def _refined_online(
    solution: online.OnlineSolution, f: Tensor, g: Tensor, steps: int, known: bool
) -> online.OnlineSolution:
    """``solution`` with other potentials ``f`` and ``g``."""
    blocks = solution.blocks
    columns = blocks.matmul_transposed(f, g, torch.ones_like(f).unsqueeze(1)).squeeze(1)
    error = (columns - blocks.b).abs().sum().item()
    result = online.OnlineSolution(blocks, f, g, columns, error, solution.iterations + steps, solution.tolerance)
    result.potentials_known = known
    return result
