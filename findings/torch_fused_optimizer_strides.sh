#!/usr/bin/env bash
# A fused optimizer on the CPU applies a gradient to the wrong elements of a weight whose strides differ from it.
#
# Versions: torch 2.13.0 (CPU).
# What one would guess: `fused=True` changes the speed of SGD, Adam and AdamW, and their results by rounding at most.
# What happens: the fused kernels of the CPU read the gradient as if it had the strides of the weight. `autograd.grad`
#   gives the weight of a convolution over channels-last input a channels-last gradient, so each element is updated by
#   the gradient of another one; nothing is raised or warned of. (`backward()` copies a gradient to the strides of the
#   weight when it accumulates it, so that it is not hit.)
# Why it matters: who takes gradients by `autograd.grad`, for several losses, and sets `p.grad` trains convolutions wrongly.
# Output seen:
#   weight (72, 9, 3, 1), gradient (72, 1, 24, 8); fused and not fused differ by 0.2 (AdamW, rate 0.1), by 44 (SGD)
# What helps: `p.grad = torch.empty_like(p).copy_(g)`.
# Exits non-zero when this changes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.13.0
"$dir/venv/bin/python" - <<'PY'
import torch
from torch.nn.functional import conv2d

torch.manual_seed(0)
start = torch.randn(4, 8, 3, 3, dtype=torch.float64).requires_grad_()
rows = torch.randn(2, 8, 6, 6, dtype=torch.float64).to(memory_format=torch.channels_last)
(gradient,) = torch.autograd.grad(conv2d(rows, start).square().sum(), start)
print("torch", torch.__version__, "weight", start.stride(), "gradient", gradient.stride())
assert start.stride() != gradient.stride()


def step(make, fused, gradient):
    weight = torch.nn.Parameter(start.detach().clone())
    weight.grad = gradient
    make([weight], lr=0.1, fused=fused).step()
    return weight.detach()


for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
    plain = step(make, False, gradient)
    fused = float((step(make, True, gradient) - plain).abs().max())
    mended = float((step(make, True, gradient.contiguous()) - plain).abs().max())
    print(make.__name__, "fused and not fused differ by", fused, "and with the strides of the weight by", mended)
    assert fused > 0.1, fused
    assert mended < 1e-12, mended
PY
