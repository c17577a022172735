"""The sections of gpu.py about transport: whether the kernels are right, how fast all paths are, and TF32."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_table import Clock, Row, compare, seconds_of, synchronize
from sidelight.transport import online, sinkhorn
from sidelight.transport.points import PointCost

EPSILON, TOLERANCE, DIMENSIONS = 0.1, 1e-3, 5
DENSE_UP_TO = 16384
"""Points up to which the dense path is measured: at 16,384 a matrix takes 1 GiB."""
ITERATIONS = (5, 10, 15, 20, 30, 50, 80, 120, 200, 400)
SCALINGS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def clouds(
    size: int, dimensions: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Random points on a unit sphere, the same on every device; gradients are taken of the first."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(size, dimensions, generator=generator), dim=1) for _ in range(2))
    return x.to(device, dtype).requires_grad_(), y.to(device, dtype)


def distance(found: Tensor, expected: Tensor) -> float:
    """|found − expected| / |expected|."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


def solve(x: Tensor, y: Tensor, path: str, tolerance: float = TOLERANCE) -> tuple[Tensor, Tensor]:
    """The objective and its gradient."""
    options = {"epsilon": EPSILON, "cost": "sqeuclidean", "tolerance": tolerance, "on_failure": "raise"}
    result = sinkhorn(x, y, path=path, **options)
    return result.objective.detach(), torch.autograd.grad(result.objective, x)[0]


@contextmanager
def without_kernels() -> Iterator[None]:
    """The online path uses its blocks in torch."""
    before, online.build_blocks = online.build_blocks, online.Blocks
    try:
        yield
    finally:
        online.build_blocks = before


def has_kernels(device: torch.device, dimensions: int = DIMENSIONS) -> bool:
    x, y = clouds(8, dimensions, device)
    masses = torch.full((8,), 1 / 8, device=device)
    return type(online.build_blocks(PointCost(x, y, 1.0), masses, masses, EPSILON)) is not online.Blocks


# ---------------------------------------------------------------- right


def kernels(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """The Triton kernels beside the blocks in torch, and the online path beside the dense one in float64."""
    for dimensions in (5,) if tiny else (1, 5, 16, 17, 64, 65, 128):
        if not has_kernels(device, dimensions):
            case = f"Triton kernels, {dimensions} dimensions"
            yield Row("kernels", case, "difference", note=f"not used on {device}", status="left out")
            continue
        for size in (70, 4096):
            for name, error in kernel_errors(size, dimensions, device):
                case = f"Triton {name}, {size} points, {dimensions} dimensions"
                yield check("kernels", case, error, 1e-4, "the blocks in torch")
    for size in (64,) if tiny else (1024, 8192):
        exact = solve(*clouds(size, DIMENSIONS, device, torch.float64), "dense", 1e-8)
        for path in ("dense", "online"):
            value, gradient = solve(*clouds(size, DIMENSIONS, device), path, 1e-5)
            yield check("kernels", f"{path} objective, {size} points", distance(value, exact[0]), 1e-4, "dense float64")
            yield check(
                "kernels", f"{path} gradient, {size} points", distance(gradient, exact[1]), 1e-3, "dense float64"
            )


def kernel_errors(size: int, dimensions: int, device: torch.device) -> Iterator[tuple[str, float]]:
    from sidelight.transport.fused import FusedBlocks

    x, y = clouds(size, dimensions, device)
    generator = torch.Generator().manual_seed(1)
    a, b, g = (torch.rand(size, generator=generator).to(device) for _ in range(3))
    points = PointCost(x, y, 1.0)
    plain, fused = (kind(points, a / a.sum(), b / b.sum(), EPSILON) for kind in (online.Blocks, FusedBlocks))
    f, g = plain.soft_minimum(0.1 * g), 0.1 * g
    z = y.detach()
    yield "soft minima", distance(fused.soft_minimum(g), f)
    for name, found, expected in zip(("potentials", "columns"), fused.sweep(f, g), plain.sweep(f, g)):
        yield f"sweep, {name}", distance(found, expected)
    yield "product", distance(fused.matmul(f, g, z), plain.matmul(f, g, z))
    yield "transposed product", distance(fused.matmul_transposed(f, g, z), plain.matmul_transposed(f, g, z))


def check(section: str, case: str, error: float, limit: float, beside: str) -> Row:
    """A row of a check: the relative difference must be below the limit."""
    status = "measured" if error <= limit else "wrong"
    return Row(section, case, "relative difference", error, beside=beside, note=f"at most {limit:g}", status=status)


# ---------------------------------------------------------------- fast


@dataclass
class Solver:
    """A solver with its knob set: forward and backward, and its potentials with the epsilon that they belong to."""

    step: Callable[[], object]
    potentials: Callable[[], tuple[Tensor, Tensor]]
    factor: float = 1.0
    """What its cost is of |x − y|²; epsilon too."""
    knob: str = ""


def ours(path: str, x: Tensor, y: Tensor) -> Iterator[Solver]:
    options = {"epsilon": EPSILON, "cost": "sqeuclidean", "tolerance": TOLERANCE, "on_failure": "ignore", "path": path}
    yield Solver(lambda: solve(x, y, path), lambda: sinkhorn(x.detach(), y, **options).potentials)


def online_in_torch(x: Tensor, y: Tensor) -> Iterator[Solver]:
    for solver in ours("online", x, y):
        yield Solver(without_kernels()(solver.step), without_kernels()(solver.potentials))


def flash_sinkhorn(x: Tensor, y: Tensor) -> Iterator[Solver]:
    from flash_sinkhorn import SamplesLoss

    for iterations in ITERATIONS:
        for tf32 in (True, False):
            options = {"use_epsilon_scaling": False, "eps": EPSILON, "n_iters": iterations, "allow_tf32": tf32}
            loss, dual = SamplesLoss(**options), SamplesLoss(potentials=True, **options)
            yield Solver(
                lambda loss=loss: torch.autograd.grad(loss(x, y), x),
                lambda dual=dual: dual(x.detach(), y),
                knob=f"{iterations} iterations{', TF32' * tf32}",
            )


def geomloss(x: Tensor, y: Tensor) -> Iterator[Solver]:
    import pykeops  # noqa: F401
    from geomloss import SamplesLoss

    for scaling in SCALINGS:
        options = {"p": 2, "blur": (EPSILON / 2) ** 0.5, "scaling": scaling, "debias": False, "backend": "online"}
        loss, dual = SamplesLoss("sinkhorn", **options), SamplesLoss("sinkhorn", potentials=True, **options)
        yield Solver(
            lambda loss=loss: torch.autograd.grad(loss(x, y), x),
            lambda dual=dual: dual(x.detach(), y),
            0.5,
            f"scaling {scaling}",
        )


def marginal_error(x: Tensor, y: Tensor, solver: Solver) -> float:
    """The L1 error of the marginals of a plan, in float64 and by blocks of rows."""
    x, y = x.detach().double(), y.double()
    f, g = (z.detach().double().flatten() for z in solver.potentials())
    n, m = len(x), len(y)
    rows, columns = [], y.new_zeros(m)
    for part in torch.arange(n, device=x.device).split(max(1, (1 << 26) // m)):
        cost = (x[part].square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x[part] @ y.T) * solver.factor
        plan = torch.exp((f[part].unsqueeze(1) + g - cost) / (EPSILON * solver.factor)) / (n * m)
        rows.append(plan.sum(1))
        columns += plan.sum(0)
    errors = [(z - 1 / len(z)).abs().sum() for z in (torch.cat(rows), columns)]
    return float(torch.stack(errors).max())


SOLVERS = {
    "ours, dense": lambda x, y: ours("dense", x, y),
    "ours, online": lambda x, y: ours("online", x, y),
    "ours, online without Triton": online_in_torch,
    "flash-sinkhorn": flash_sinkhorn,
    "geomloss with KeOps": geomloss,
}


def times(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """Milliseconds of forward and backward, at equal marginal error."""
    sizes = (32, 64) if tiny else (128, 512, 2048, 8192, 16384, 65536)
    missing: set[str] = set()
    for i, size in enumerate(sizes):
        if clock.left() <= 0:
            yield Row("transport", f"{size} points and more", "time", note="no time left", status="left out")
            return
        yield from times_of_size(size, device, Clock(clock.left() / (len(sizes) - i)), missing, 2 if tiny else 50)


def times_of_size(size: int, device: torch.device, clock: Clock, missing: set[str], most: int) -> Iterator[Row]:
    x, y = clouds(size, DIMENSIONS, device)
    ready: dict[str, Solver] = {}
    for name, make in SOLVERS.items():
        case = f"{name}, {size} points"
        if name in missing or (name == "ours, dense" and size > DENSE_UP_TO):
            continue
        if name.endswith("without Triton") and not has_kernels(device):
            continue  # the online path is that already
        try:
            solver = next((s for s in make(x, y) if marginal_error(x, y, s) <= 1.05 * TOLERANCE), None)
            if solver is not None:
                solver.step()  # compiles, and fails where it cannot
                ready[name] = solver
            else:
                yield Row("transport", case, "time", note="no setting meets the marginal error", status="left out")
        except ImportError as error:
            missing.add(name)
            yield Row("transport", name, "time", note=f"not installed: {error}", status="left out")
        except Exception as error:
            missing.add(name)
            told = f"{type(error).__name__}: {error}"[:200].replace("\n", " ")
            peer = not name.startswith("ours")
            yield Row("transport", case, "time", note=told, status="left out" if peer else "error")
    if not ready:
        return
    once = sum(seconds_of(solver.step, device) for solver in ready.values())
    rounds = range(clock.rounds(once, 2, most))
    taken = [tuple(seconds_of(solver.step, device) for solver in ready.values()) for _ in rounds]
    first = next(iter(ready))
    for k, (name, solver) in enumerate(ready.items()):
        median, low, high = compare(taken, k, 0)
        value = 1e3 * statistics.median(row[k] for row in taken)
        yield Row("transport", f"{name}, {size} points", "time", value, "ms", median, first, low, high, solver.knob)
    yield from peaks(size, ready, device)


def peaks(size: int, ready: dict[str, Solver], device: torch.device) -> Iterator[Row]:
    """Peak memory of each solver over what is there before."""
    for name, solver in ready.items() if device.type == "cuda" else ():
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        solver.step()
        synchronize(device)
        grown = (torch.cuda.max_memory_allocated(device) - before) / 1e6
        yield Row("transport", f"{name}, {size} points", "peak memory", grown, "MB")


# ---------------------------------------------------------------- TF32


def tf32(device: torch.device, tiny: bool, clock: Clock) -> Iterator[Row]:
    """Objective and gradient with TF32 products allowed globally, beside those without."""
    before = torch.get_float32_matmul_precision()
    for size in (64,) if tiny else (1024, 8192):
        for path in ("dense", "online"):
            found = []
            try:
                for precision in ("highest", "high"):
                    torch.set_float32_matmul_precision(precision)
                    found.append(solve(*clouds(size, DIMENSIONS, device), path, 1e-5))
            finally:
                torch.set_float32_matmul_precision(before)
            for name, without, allowed in zip(("objective", "gradient"), *found):
                yield check("tf32", f"{path} {name}, {size} points", distance(allowed, without), 1e-6, "without TF32")
