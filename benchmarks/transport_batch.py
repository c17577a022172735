"""Many small problems in one call (`python benchmarks/transport.py --batch`): time of forward + backward at equal error.

Standard normal points, cost |x - y|^2 / 2, epsilon relative to the mean cost, float32, one thread. The knob of POT's batched
solver is tightened until the worst problem of the batch meets the tolerance, measured in float64; OTT-JAX is vmapped and jitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sidelight.transport import sinkhorn, sinkhorn_divergence

CASES = [(128, 16, 32, 0.1, 1e-3), (128, 16, 32, 0.1, 1e-5), (64, 16, 8, 0.05, 1e-3), (64, 64, 8, 0.05, 1e-3)]
"""Problems, points, dimensions, relative epsilon, tolerance."""

Step = tuple[Callable[[], object], Callable[[], Tensor]]  # a timed step, and its plans


def ours(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Iterator[Step]:
    yield (
        lambda: sinkhorn(x, y, epsilon=epsilon, tolerance=tolerance).objective.sum().backward(),
        lambda: sinkhorn(x, y, epsilon=epsilon, tolerance=tolerance).plan,
    )


def divergence(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Iterator[Step]:
    yield (
        lambda: sinkhorn_divergence(x, y, epsilon=epsilon, tolerance=tolerance).divergence.sum().backward(),
        lambda: sinkhorn_divergence(x, y, epsilon=epsilon, tolerance=tolerance).cross.plan,
    )


def one_by_one(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Iterator[Step]:
    def step() -> None:
        sum(sinkhorn(p, q, epsilon=epsilon, tolerance=tolerance).objective for p, q in zip(x, y)).backward()

    yield step, lambda: torch.stack([sinkhorn(p, q, epsilon=epsilon, tolerance=tolerance).plan for p, q in zip(x, y)])


def pot(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Iterator[Step]:
    from ot.batch import solve_sample_batch

    def solve(stop: float):  # its cost is |x - y|^2, twice ours
        how = {"method": "log_sinkhorn", "reg_type": "kl", "grad": "envelope"}
        return solve_sample_batch(x, y, reg=2 * epsilon, max_iter=20000, tol=stop, **how)

    for k in (1, 0.3, 0.1, 0.03):
        stop = k * tolerance / x.shape[1] ** 0.5
        yield lambda stop=stop: solve(stop).value.sum().backward(), lambda stop=stop: solve(stop).plan


def ott(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Iterator[Step]:
    import jax
    import jax.numpy as jnp
    import numpy as np
    from ott.geometry import pointcloud
    from ott.solvers import linear

    left, right = jnp.array(x.detach().numpy()), jnp.array(y.numpy())
    for k in (1.0, 0.3):

        def solved(p, q, k=k):
            geometry = pointcloud.PointCloud(p, q, epsilon=2 * epsilon)
            return linear.solve(geometry, threshold=k * tolerance, max_iterations=20000)

        both = jax.jit(jax.value_and_grad(lambda p, q, s=solved: jax.vmap(s)(p, q).reg_ot_cost.sum()))
        plan = jax.jit(lambda p, q, s=solved: jax.vmap(lambda u, v: s(u, v).matrix)(p, q))
        yield (
            lambda both=both: jax.block_until_ready(both(left, right)),
            lambda plan=plan: torch.from_numpy(np.array(plan(left, right))),
        )


SOLVERS = {
    "ours": ours, "ours, divergence": divergence, "ours, one by one": one_by_one, "POT, batched": pot, "OTT-JAX, vmapped": ott,
}  # fmt: skip


def chosen(steps: Iterator[Step], tolerance: float) -> Callable[[], object] | None:
    """The first setting whose plans all meet the tolerance."""
    for step, plans in steps:
        p = plans().detach().double()
        error = max(
            (p.sum(-1) - 1 / p.shape[-2]).abs().sum(-1).max(), (p.sum(-2) - 1 / p.shape[-1]).abs().sum(-1).max()
        )
        if error <= 1.05 * tolerance:
            return step
    return None


def report() -> None:
    torch.set_num_threads(1)
    for count, n, d, ratio, tolerance in CASES:
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randn(count, n, d, generator=generator) for _ in range(2))
        epsilon = sinkhorn(x, y, epsilon=f"relative:{ratio}").epsilon
        steps = {}
        for name, solver in SOLVERS.items():
            try:
                steps[name] = chosen(solver(x.requires_grad_(), y, epsilon, tolerance), tolerance)
            except ImportError:
                print(f"{name}: not installed")
        spent: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(6):  # taking turns
            for name, step in steps.items():
                start = time.perf_counter()
                while step is not None and time.perf_counter() - start < 0.2:
                    x.grad = None
                    once = time.perf_counter()
                    step()
                    spent[name].append(time.perf_counter() - once)
        print(
            f"\n### {count} problems of {n} points in {d} dimensions, epsilon {ratio} of the mean cost, {tolerance:g}\n"
        )
        print("| solver | ms | times ours |\n|---|---|---|")
        for name, times in spent.items():
            row = f"{1e3 * min(times):.3g} | {min(times) / min(spent['ours']):.2f}" if times else "fails |"
            print(f"| {name} | {row} |", flush=True)
