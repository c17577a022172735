"""Entropic transport against its peers: time, memory and gradient error of one forward + backward at equal marginal error.

    python benchmarks/transport.py                         # the table (minutes), on 1 and 2 threads
    python benchmarks/transport.py --quick                 # up to 1024 points, 1 thread
    python benchmarks/transport.py --loss                  # the PKDOT loss and its share of a training step
    python benchmarks/transport.py --batch                 # many small problems in one call
    python benchmarks/transport.py --output benchmarks/transport.csv --plot docs/images/transport.svg

Peers that are not installed are left out (pip install POT geomloss jax ott-jax). float32, cost |x - y|^2 between random points
of the unit sphere in R^5, uniform masses. Every solver's own knob is tightened until the L1 marginal error of its plan, measured
here in float64, meets the tolerance; "fails" means that no setting met it. Solvers take turns of at least 20 ms inside one process
per row, and the smallest time of a call counts. Memory is the growth of the peak resident size over one call in a fresh process.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

CASES = [
    (128, 0.1, 1e-3), (128, 0.1, 1e-6), (128, 0.01, 1e-3), (128, 0.01, 1e-6),
    (1024, 0.1, 1e-3), (1024, 0.01, 1e-3), (4096, 0.1, 1e-3), (16384, 0.1, 1e-3),
    (65536, 0.1, 1e-3),
]  # fmt: skip
LIMITS = {  # the largest size at which a solver is measured
    "ours": 1 << 20, "ours-warm": 4096, "ours-divergence": 4096, "ours-online": 1 << 20, "textbook": 1024, "pot": 4096,
    "pot-knopp": 4096, "pot-batch": 1024, "geomloss": 1024, "ott": 4096,
}  # fmt: skip
TURN = 0.02  # seconds


@dataclass
class Candidate:
    """A solver with its knob set: a timed step, and its plan for the check beforehand."""

    step: Callable[[], object]
    plan: Callable[[], object] | None
    gradient: Callable[[], object]


def clouds(size: int):
    import torch

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(size, 5, generator=generator), dim=1) for _ in range(2))
    return x.requires_grad_(), y


def candidates(name: str, size: int, epsilon: float, tolerance: float):
    """Candidates of one solver, the loosest first."""
    import torch

    x, y = clouds(size)
    uniform = torch.full((size,), 1 / size)

    def backward(objective: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def step() -> None:
            x.grad = None
            objective().backward()

        return step

    if name.startswith("ours"):
        from sidelight.transport import sinkhorn, sinkhorn_divergence

        options = {"epsilon": epsilon, "cost": "sqeuclidean", "tolerance": tolerance, "on_failure": "ignore"}
        options["path"] = "online" if name == "ours-online" else "dense"
        if name == "ours-warm":
            moved = (
                x.detach() + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) * x.detach().std()
            )
            options["potentials"] = sinkhorn(moved, y, **options).potentials
        if name == "ours-divergence":
            step = backward(lambda: sinkhorn_divergence(x, y, **options).divergence)
            yield Candidate(step, lambda: sinkhorn_divergence(x, y, **options).cross.plan, lambda: None)
            return
        plan = None if name == "ours-online" and size > 8192 else lambda: sinkhorn(x, y, **options).plan
        yield Candidate(backward(lambda: sinkhorn(x, y, **options).objective), plan, lambda: x.grad)
    elif name == "textbook":
        for stop in (tolerance, tolerance / 4):
            yield Candidate(
                backward(lambda s=stop: textbook(x, y, epsilon, s)[0]),
                lambda s=stop: textbook(x, y, epsilon, s)[1],
                lambda: x.grad,
            )
    elif name in ("pot", "pot-knopp"):
        import ot

        # its solver for any epsilon, and the one that forms exp(-C / epsilon) once
        solver = ot.bregman.sinkhorn_log if name == "pot" else ot.bregman.sinkhorn_knopp

        def solve(stop: float):
            cost = ot.dist(x, y)
            plan = solver(uniform, uniform, cost.detach(), epsilon, stopThr=stop, numItermax=20000, warn=False)
            return (plan * cost).sum(), plan  # envelope: the plan is detached

        for k in (1, 0.5, 0.25, 0.1, 0.03):  # its threshold is on a 2-norm
            stop = k * tolerance / size**0.5
            yield Candidate(backward(lambda s=stop: solve(s)[0]), lambda s=stop: solve(s)[1], lambda: x.grad)
    elif name == "pot-batch":
        from ot.batch import solve_sample_batch

        def result(stop: float):
            return solve_sample_batch(
                x[None],
                y[None],
                reg=epsilon,
                max_iter=20000,
                tol=stop,
                method="log_sinkhorn",
                reg_type="kl",
                grad="envelope",
            )

        for k in (1, 0.3, 0.1, 0.03):
            stop = k * tolerance / size**0.5
            yield Candidate(
                backward(lambda s=stop: result(s).value.sum()), lambda s=stop: result(s).plan[0], lambda: x.grad
            )
    elif name == "geomloss":
        from geomloss import SamplesLoss

        for scaling in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99):
            options = {
                "p": 2,
                "blur": (epsilon / 2) ** 0.5,
                "scaling": scaling,
                "debias": False,
                "backend": "tensorized",
            }
            loss, dual = SamplesLoss("sinkhorn", **options), SamplesLoss("sinkhorn", potentials=True, **options)

            def plan(dual=dual):
                f, g = dual(x, y)
                cost = torch.cdist(x, y).square() / 2
                return torch.exp((f.reshape(-1, 1) + g.reshape(1, -1) - cost) / (epsilon / 2)) / size**2

            yield Candidate(backward(lambda loss=loss: 2 * loss(x, y)), plan, lambda: x.grad)
    elif name == "ott":
        import jax
        import jax.numpy as jnp
        import numpy as np
        from ott.geometry import pointcloud
        from ott.solvers import linear

        left, right = jnp.array(x.detach().numpy()), jnp.array(y.numpy())
        for k in (1.0, 0.3):

            def solved(p, q, k=k):
                geometry = pointcloud.PointCloud(p, q, epsilon=epsilon)
                return linear.solve(geometry, threshold=k * tolerance, max_iterations=20000)

            both = jax.jit(jax.value_and_grad(lambda p, q, s=solved: s(p, q).reg_ot_cost))
            step = lambda both=both: jax.block_until_ready(both(left, right))  # noqa: E731
            yield Candidate(
                step,
                lambda s=solved: torch.from_numpy(np.array(s(left, right).matrix)),
                lambda both=both: torch.from_numpy(np.array(both(left, right)[1])),
            )


def textbook(x, y, epsilon: float, stop: float):
    """What one writes first: log-domain sweeps under autograd."""
    import torch

    cost = (x.unsqueeze(1) - y.unsqueeze(0)).square().sum(-1)
    n, m = cost.shape
    log_a, log_b = -torch.log(torch.tensor(float(n))), -torch.log(torch.tensor(float(m)))
    f, g = cost.new_zeros(n), cost.new_zeros(m)
    for _ in range(3000):
        f = -epsilon * torch.logsumexp((g - cost) / epsilon + log_b, 1)
        g = -epsilon * torch.logsumexp((f.unsqueeze(1) - cost) / epsilon + log_a, 0)
        plan = torch.exp((f.unsqueeze(1) + g - cost) / epsilon + log_a + log_b)
        if (plan.detach().sum(1) - 1 / n).abs().sum() < stop:
            break
    return (plan * cost).sum() + epsilon * (plan * (plan / (1 / (n * m))).clamp_min(1e-38).log()).sum(), plan.detach()


# ---------------------------------------------------------------- one row, in a process of its own


def choose(name: str, size: int, epsilon: float, tolerance: float) -> Candidate | None:
    """The first setting whose plan meets the tolerance."""
    for candidate in candidates(name, size, epsilon, tolerance):
        if candidate.plan is None:
            return candidate
        plan = candidate.plan().detach().double()
        error = max((plan.sum(1) - 1 / size).abs().sum().item(), (plan.sum(0) - 1 / size).abs().sum().item())
        if error <= 1.05 * tolerance:
            return candidate
    return None


def exact_gradient(size: int, epsilon: float):
    from sidelight.transport import sinkhorn

    x, y = (z.detach().double() for z in clouds(size))
    x.requires_grad_()
    sinkhorn(x, y, epsilon=epsilon, cost="sqeuclidean", tolerance=1e-10).objective.backward()
    return x.grad


def worker(size: int, epsilon: float, tolerance: float, threads: int, names: list[str]) -> dict:
    import torch

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    chosen, rows = {}, {}
    for name in names:
        try:
            chosen[name] = choose(name, size, epsilon, tolerance)
        except ImportError:
            continue
        if chosen[name] is None:
            rows[name] = {"ms": None}
    ready = {name: c for name, c in chosen.items() if c is not None}
    exact = exact_gradient(size, epsilon) if size <= 1024 else None
    spent: dict[str, list[float]] = {name: [] for name in ready}
    end = time.perf_counter() + (10 if size <= 1024 else 30)
    least = 3 if size <= 4096 else 2 if size <= 16384 else 1
    for turn in range(200):
        for name, candidate in ready.items():
            if turn >= least and sum(spent[name]) > 6:
                continue
            once = len(spent[name])
            while sum(spent[name][once:]) < TURN:
                start = time.perf_counter()
                candidate.step()
                spent[name].append(time.perf_counter() - start)
        if turn >= least and time.perf_counter() > end:
            break
    for name, candidate in ready.items():
        rows[name] = {"ms": 1e3 * min(spent[name][1:] or spent[name])}
        candidate.step()
        gradient = candidate.gradient()
        if exact is not None and gradient is not None:
            rows[name]["gradient_error"] = float((gradient.double() - exact).norm() / exact.norm())
    return rows


def memory(size: int, epsilon: float, tolerance: float, name: str) -> float | None:
    """MB by which one step raises the peak resident size."""
    import resource

    import torch

    torch.set_num_threads(1)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # noqa: E731
    try:
        next(candidates(name, 64, 0.1, 1e-3)).step()  # imports and first calls
        candidate = next(candidates(name, size, epsilon, tolerance))
    except ImportError:
        return None
    before = peak()
    candidate.step()
    return peak() - before


def child(arguments: list[str], threads: int) -> dict:
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'} intra_op_parallelism_threads={threads}",
    }  # fmt: skip
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}
    return json.loads(lines[-1])


# ---------------------------------------------------------------- all rows


def table(cases: list, threads: list[int], measure_memory: bool) -> list[dict]:
    rows = []
    for count in threads:
        for size, epsilon, tolerance in cases:
            names = [n for n, limit in LIMITS.items() if size <= limit and (n != "ours-online" or size >= 4096)]
            if size > 128 and epsilon < 0.1:
                names.remove("textbook")  # a quarter of a minute a step
            if size > 16384:
                names = ["ours-online"]
            case = [str(size), str(epsilon), str(tolerance)]
            found = child(["--worker", *case, str(count), ",".join(names)], count)
            print(f"\n### B {size}, epsilon {epsilon}, tolerance {tolerance:g}, {count} thread(s)\n")
            print("| solver | ms | times ours | gradient error | peak MB |\n|---|---|---|---|---|")
            for name, values in found.items():
                row = {
                    "size": size,
                    "epsilon": epsilon,
                    "tolerance": tolerance,
                    "threads": count,
                    "solver": name,
                    **values,
                }
                if measure_memory and count == threads[0] and size >= 1024 and values["ms"] is not None:
                    row["peak_mb"] = child(["--memory", *case, name], 1).get("mb")
                rows.append(row)
                print(line(row, found.get("ours", {}).get("ms")), flush=True)
    return rows


def line(row: dict, ours: float | None) -> str:
    if row["ms"] is None:
        return f"| {row['solver']} | fails | | | |"
    ratio = f"{row['ms'] / ours:.2f}" if ours else ""
    error = f"{row['gradient_error']:.1e}" if row.get("gradient_error") is not None else ""
    peak = f"{row['peak_mb']:.0f}" if row.get("peak_mb") is not None else ""
    return f"| {row['solver']} | {row['ms']:.3g} | {ratio} | {error} | {peak} |"


def plot(rows: list[dict], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    picked = [r for r in rows if r["epsilon"] == 0.1 and r["tolerance"] == 1e-3 and r["threads"] == 1 and r["ms"]]
    figure, axes = plt.subplots(figsize=(6, 4))
    for name in dict.fromkeys(r["solver"] for r in picked):
        points = sorted((r["size"], r["ms"]) for r in picked if r["solver"] == name)
        axes.loglog(*zip(*points), marker="o", label=name, linewidth=2.5 if name == "ours" else 1)
    axes.set(xlabel="points", ylabel="ms, forward + backward", title="epsilon 0.1, marginal error 1e-3, 1 thread")
    axes.legend(fontsize=7)
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", help="only these numbers of points")
    parser.add_argument("--epsilons", type=float, nargs="+", help="only these epsilons")
    parser.add_argument("--threads", type=int, nargs="+", default=None)
    parser.add_argument("--output", help="the table as CSV")
    parser.add_argument("--plot", help="time over size as a picture")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        size, epsilon, tolerance, threads, names = options.worker
        print(json.dumps(worker(int(size), float(epsilon), float(tolerance), int(threads), names.split(","))))
    elif options.memory:
        size, epsilon, tolerance, name = options.memory
        print(json.dumps({"mb": memory(int(size), float(epsilon), float(tolerance), name)}))
    elif options.batch:
        from transport_batch import report as batches

        batches()
    elif options.loss:
        from transport_loss import report

        report()
    else:
        cases = [
            (size, epsilon, tolerance)
            for size, epsilon, tolerance in CASES
            if (size <= 1024 or not options.quick)
            and size in (options.sizes or [size])
            and epsilon in (options.epsilons or [epsilon])
        ]
        rows = table(cases, options.threads or ([1] if options.quick else [1, 2]), measure_memory=not options.quick)
        if options.output:
            with open(options.output, "w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for r in rows for k in r)))
                writer.writeheader()
                writer.writerows(rows)
        if options.plot:
            plot(rows, options.plot)


if __name__ == "__main__":
    main()
