"""Full precision inside of a block, whatever autocast and the flags of TF32 say outside."""

from __future__ import annotations

import pytest
import torch

from sidelight.losses import StructuralTransport, similarity_preserving
from sidelight.transport import sinkhorn
from sidelight.utils.precision import full_precision, in_full_precision

CPU = torch.device("cpu")
BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


def flags() -> list[str]:
    return [torch.backends.fp32_precision, torch.get_float32_matmul_precision(), *(b.fp32_precision for b in BACKENDS)]


@pytest.fixture(autouse=True)
def reset():
    """Every flag as torch starts."""

    def to_default():
        torch.set_float32_matmul_precision("highest")
        for backend in (torch.backends, *BACKENDS):
            backend.fp32_precision = "none"

    to_default()
    yield
    to_default()


def clouds(n: int = 256, d: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g), torch.randn(n, d, generator=g)


def test_products_are_not_rounded_inside():
    x, y = clouds(d=256)
    exact = x @ y.T
    torch.set_float32_matmul_precision("medium")
    before = flags()
    assert before[2:] == ["tf32", "bf16"]
    with in_full_precision(CPU):
        assert [b.fp32_precision for b in BACKENDS] == ["ieee", "ieee"]
        assert torch.equal(x @ y.T, exact)
    assert flags() == before
    # Other kernels are used outside; a CPU that does not multiply bfloat16 ignores the flag.
    assert not torch.equal(x @ y.T, exact) or not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize("name", ["fp32_precision", "set_float32_matmul_precision", "allow_tf32", "mkldnn"])
def test_flags_are_as_before_also_after_an_error(name):
    if name == "fp32_precision":
        torch.backends.fp32_precision = "tf32"
    elif name == "allow_tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    elif name == "mkldnn":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    else:
        torch.set_float32_matmul_precision("high")
    before = [b.fp32_precision for b in BACKENDS]
    assert set(before) & {"tf32", "bf16"}
    inside = []

    def fail():
        with in_full_precision(CPU):
            inside.extend(b.fp32_precision for b in BACKENDS)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not {"tf32", "bf16"} & {*inside}
    assert [b.fp32_precision for b in BACKENDS] == before
    # What followed the flag above it still does.
    torch.backends.fp32_precision = "none"
    after = [b.fp32_precision for b in BACKENDS]
    assert after == (["none", "none"] if name == "fp32_precision" else before)


def transport(x, y):
    return sinkhorn(x, y, epsilon=0.05, tolerance=1e-6).objective


@pytest.mark.parametrize(
    "loss", [transport, StructuralTransport("sidelight"), similarity_preserving], ids=["sinkhorn", "pkdot", "sp"]
)
def test_transport_and_similarities_refuse_the_rounding(loss):
    x, y = clouds()
    y = x + 0.5 * y
    results = []
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        s = x.clone().requires_grad_()
        value = loss(s, y)
        results.append((value.item(), torch.autograd.grad(value, s)[0]))
    (value, gradient), (same, other) = results
    assert same == pytest.approx(value, rel=1e-6)
    if loss is not similarity_preserving:  # the gradient of a plain product is torch's, with torch's rounding
        assert torch.allclose(other, gradient, atol=1e-6 * float(gradient.abs().max()))


def test_autocast_stays_outside_and_containers_are_converted():
    @full_precision
    def seen(x, pair, named):
        found = [x @ x.T, *pair, *named.values()]
        return [z.dtype for z in found], torch.is_autocast_enabled("cpu")

    half, double = torch.ones(2, 2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        kinds, inside = seen(half, [half, double], named={"a": half.to(torch.float16)})
        assert torch.is_autocast_enabled("cpu")
    assert kinds == [torch.float32, torch.float32, torch.float64, torch.float32]
    assert not inside
