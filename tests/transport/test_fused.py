"""The Triton kernels of the online path, in Triton's interpreter, against the blocks in torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHECK = """
import torch
from sidelight.transport import fused, online, sinkhorn
from sidelight.transport.points import PointCost

generator = torch.Generator().manual_seed(0)
x, y = torch.rand(70, 5, generator=generator), torch.rand(150, 5, generator=generator) + 0.1
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
def test_kernels_in_the_interpreter():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
