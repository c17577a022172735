"""The Triton kernels of the online path: interpreted, against the blocks in torch, and compiled for GPUs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHECK = """
import sys
import torch
from sidelight.transport import fused, online, sinkhorn
from sidelight.transport.points import PointCost

generator = torch.Generator().manual_seed(0)
width = int(sys.argv[1])
x, y = torch.rand(70, width, generator=generator), torch.rand(150, width, generator=generator) + 0.1
a, b = torch.rand(70, generator=generator), torch.full((150,), 1 / 150)
points = PointCost(x, y, 0.5)
plain, kernels = (kind(points, a / a.sum(), b, 0.05) for kind in (online.Blocks, fused.FusedBlocks))
g = 0.1 * torch.rand(150, generator=generator)
f = plain.soft_minimum(g)
close = lambda one, two: torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
close(kernels.soft_minimum(g), f)
for one, two in zip(kernels.sweep(f, g), plain.sweep(f, g)):
    close(one, two)
close(kernels.matmul(f, g, y), plain.matmul(f, g, y))
close(kernels.matmul_transposed(f, g, x), plain.matmul_transposed(f, g, x))

expected = sinkhorn(x.requires_grad_(), y, epsilon=0.05, tolerance=1e-4)
online.build_blocks = fused.FusedBlocks
result = sinkhorn(x, y, epsilon=0.05, tolerance=1e-4, path="online")
assert result.converged
close(result.objective, expected.objective)
one, two = (torch.autograd.grad(r.objective, x)[0] for r in (result, expected))
assert (one - two).norm() < 1e-3 * two.norm()
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 70])
def test_kernels_in_the_interpreter(width):
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(width)], env=environment, capture_output=True, text=True, timeout=300
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("Triton's interpreter does not run with this numpy")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("width", [16, 64, 128])
def test_kernels_compile_for_a_gpu_and_fit_its_shared_memory(width, capability):
    """Compiling needs no GPU. 99 KiB is what a block gets on GPUs of capability 8.6 and 8.9, the smallest since 8.0."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from sidelight.transport import fused

    side = fused.tile(width)
    for kernel in (fused._soft_maximum, fused._exponential_product):
        given = {"D": width, "W": width, "ROWS": side, "COLUMNS": side}
        constants = {name: given[name] for name in kernel.arg_names if name in given}
        sizes = dict.fromkeys(("n", "m", "d", "width"), "i32")
        types = {"factor": "fp32", **sizes, **dict.fromkeys(constants, "constexpr")}
        signature = {name: types.get(name, "*fp32") for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert compiled.metadata.shared <= 99 * 1024
        assert "tf32" not in compiled.asm["ptx"]
