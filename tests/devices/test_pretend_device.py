"""The pretend device: it computes what the CPU computes, and raises where CUDA would."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.pretend_device import NOT_PRETENDED, PRETEND, PretendTensor, sharing_the_cpu_stream


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X, Y, SIGNAL, IMAGE = draw(6, 4), draw(4, 5, seed=1), draw(3, 4, 9, seed=2), draw(2, 3, 8, 6, seed=3)

SAME = {
    "arithmetic": lambda x, y: (2 * x - x.exp() / 3) ** 2 % 1.5,
    "matmul": lambda x, y: x @ y,
    "einsum": lambda x, y: torch.einsum("ij,jk->ki", x, y),
    "reductions": lambda x, y: torch.stack([x.sum(), x.amax(), x.var(), x.logsumexp((0, 1)), x.median()]),
    "softmax": lambda x, y: x.softmax(1).log(),
    "sort": lambda x, y: torch.cat([x.sort(1).values, x.topk(2).values, x.argsort(1).to(x.dtype)], 1),
    "cdist": lambda x, y: torch.cdist(x, x.flip(0)),
    "where": lambda x, y: torch.where(x > 0, x, torch.zeros_like(x)),
    "mask": lambda x, y: x[x > 0],
    "host indices": lambda x, y: x[torch.tensor([3, 1])],
    "write at host indices": lambda x, y: x.clone().index_put_((torch.tensor([3, 1]),), x[:2] * 2),
    "gather": lambda x, y: x.gather(1, x.argsort(1)),
    "index_copy": lambda x, y: torch.zeros_like(x).index_copy(0, torch.arange(2, device=x.device), x[:2]),
    "scatter": lambda x, y: torch.zeros_like(x).scatter_add_(0, x.argsort(0), x),
    "splits": lambda x, y: torch.cat([*x.split(4), *x.unbind(1)[0].chunk(2)[0][:, None].expand(-1, 4)[None]]),
    "views": lambda x, y: x.t().reshape(3, 8).unfold(1, 4, 2).squeeze().flip(0),
    "in place": lambda x, y: x.clone().mul_(3).clamp_(max=1).t_().unsqueeze_(0),
    "a view in place": lambda x, y: write_into_a_view(x),
    "factories": lambda x, y: torch.eye(4, device=x.device, dtype=x.dtype) + x.new_full((4,), 2.0) + x.new_tensor(3.0),
    "a CPU number": lambda x, y: x * torch.tensor(2.0) + torch.where(x > 0, torch.tensor(1.0), torch.tensor(2.0)),
    "fill with a number": lambda x, y: x.clone().masked_fill_(x > 0, torch.tensor(7.0)),
    "inverse": lambda x, y: torch.linalg.solve(x.T @ x + x.new_ones(4).diag(), y),
    "fft": lambda x, y: torch.fft.rfft(x).abs(),
    "convolution": lambda x, y: F.conv1d(SIGNAL.to(x.device), y[:, :4, None], padding=1),
    "pooling": lambda x, y: F.adaptive_avg_pool2d(F.max_pool2d(IMAGE.to(x.device), 2), (2, 2)) * x.sum(),
    "interpolate": lambda x, y: F.interpolate(IMAGE.to(x.device), (5, 5), mode="bilinear") * x.sum(),
    "norms": lambda x, y: F.batch_norm(x, None, None, training=True) + F.layer_norm(x, (4,)) + F.normalize(x),
    "attention": lambda x, y: F.scaled_dot_product_attention(x[None, None], x[None, None] * 2, x[None, None]),
    "cross entropy": lambda x, y: F.cross_entropy(x, torch.tensor([0, 1, 2, 3, -100, 0], device=x.device)),
}
"""Functions of two matrices that are the same on both devices."""


def write_into_a_view(x: Tensor) -> Tensor:
    whole = x * 1
    whole[1:3, 0] = 5
    whole.view(-1)[::2].mul_(2)
    return whole


@pytest.mark.parametrize("function", SAME.values(), ids=SAME)
def test_values_and_gradients_are_those_of_the_cpu(function):
    results = []
    for place in ("cpu", PRETEND):
        x, y = (z.clone().to(place).requires_grad_() for z in (X, Y))
        value = function(x, y)
        assert value.device == torch.device(place)
        grads = torch.autograd.grad(value.square().sum(), (x, y), allow_unused=True) if value.requires_grad else ()
        results.append([value.detach(), *(g for g in grads if g is not None)])
    for here, there in zip(*results, strict=True):
        assert isinstance(there, PretendTensor)
        torch.testing.assert_close(there.cpu(), here, rtol=1e-12, atol=1e-12)


MIXED = {
    "add": lambda x, c: x + c,
    "add the other way": lambda x, c: c * x,
    "compare": lambda x, c: x == c,
    "in place": lambda x, c: x.add_(c),
    "in place on the CPU": lambda x, c: c.add_(x),
    "a number of the CPU in place": lambda x, c: c.sum().add_(x.sum()),
    "a pretend number": lambda x, c: c + x.sum(),
    "matmul": lambda x, c: x @ c,
    "addmm": lambda x, c: torch.addmm(x, x, c),
    "einsum": lambda x, c: torch.einsum("ij,jk", x, c),
    "cat": lambda x, c: torch.cat([x, c]),
    "stack with a number": lambda x, c: torch.stack([x.sum(), c.sum()]),
    "where": lambda x, c: torch.where(c > 0, x, 0.0),
    "masked_fill": lambda x, c: x.masked_fill(c > 0, 0),
    "gather": lambda x, c: x.gather(1, c.argsort(1)),
    "index_select": lambda x, c: x.index_select(0, c.argsort(1)[0]),
    "index_copy": lambda x, c: x.index_copy(0, torch.arange(4), x),
    "index the CPU": lambda x, c: c[x.argsort(1)[0]],
    "mask the CPU": lambda x, c: c[x > 0],
    "write the CPU's": lambda x, c: x.index_put_((torch.tensor([0]),), c[0]),
    "scatter": lambda x, c: x.scatter_add(0, c.argsort(0), x),
    "embedding": lambda x, c: F.embedding(c.argsort(1), x),
    "linear": lambda x, c: F.linear(x, c),
    "convolution": lambda x, c: F.conv1d(x[None], c[:, :, None]),
    "batch_norm": lambda x, c: F.batch_norm(x, c[0], c[1].exp()),
    "layer_norm": lambda x, c: F.layer_norm(x, (4,), c[0]),
    "cross_entropy": lambda x, c: F.cross_entropy(x, c.argmax(1)),
    "mse": lambda x, c: F.mse_loss(x, c),
    "cdist": lambda x, c: torch.cdist(x, c),
    "searchsorted": lambda x, c: torch.searchsorted(x, c),
    "equal": lambda x, c: torch.equal(x, c),
    "solve": lambda x, c: torch.linalg.solve(x, c),
    "bilinear": lambda x, c: F.grid_sample(
        x[None, None], c[None, :, :2, None].expand(-1, -1, -1, 2), align_corners=True
    ),
    "a generator of the CPU": lambda x, c: torch.rand(3, device=x.device, generator=torch.Generator()),
    "a generator of the CPU in place": lambda x, c: x.normal_(generator=torch.Generator()),
}
"""What CUDA refuses, of a matrix on the device and one on the CPU."""


@pytest.mark.parametrize("function", MIXED.values(), ids=MIXED)
def test_what_mixes_devices_raises(function):
    same = (X[:4].clone(), X[1:5].clone())
    function(*(x.clone() for x in same))  # which is fine on one device
    with pytest.raises(RuntimeError, match=r"same device|device type for generator"):
        function(same[0].to(PRETEND), same[1])


def test_numpy_wants_a_copy_on_the_cpu():
    x = X.to(PRETEND)
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()
    with pytest.raises(TypeError, match="cpu"):
        x[0].__array__()
    assert (x.cpu().numpy() == X.numpy()).all()
    assert x.tolist() == X.tolist()
    assert float(x[0, 0]) == X[0, 0].item()


def test_a_copy_shares_nothing():
    host = X.clone()
    x = host.to(PRETEND)
    back = x.cpu()
    x.zero_()
    assert torch.equal(host, X)
    assert torch.equal(back, X)


def test_copies_go_both_ways():
    x, host = torch.zeros(6, 4, dtype=torch.float64, device=PRETEND), torch.zeros(6, 4)
    x.copy_(X)
    host[:3].copy_(x[:3])
    assert torch.equal(host, torch.cat([X[:3], torch.zeros(3, 4)]).float())


def net() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    return body.double()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_network_learns_as_on_the_cpu(make):
    states = []
    for place in (torch.device("cpu"), PRETEND):
        network = net().to(place)
        assert {p.device for p in network.parameters()} == {place}
        optimizer = make(network.parameters())
        torch.manual_seed(1)
        with sharing_the_cpu_stream():
            for _ in range(3):
                optimizer.zero_grad()
                F.cross_entropy(network(X.to(place)), torch.arange(6, device=place) % 3).backward()
                optimizer.step()
        saved = copy.deepcopy(optimizer.state_dict()["state"])
        moments = [v.cpu() for state in saved.values() for v in state.values() if isinstance(v, Tensor)]
        states.append([*(v.cpu() for v in network.state_dict().values()), *moments])
    for here, there in zip(*states, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-12, atol=1e-12)


def test_a_state_goes_to_the_cpu_and_back():
    network = net()
    moved = copy.deepcopy(network).to(PRETEND)
    back = net()
    back.load_state_dict({name: value.cpu() for name, value in moved.state_dict().items()})
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), network.state_dict().values()))
    moved.load_state_dict({name: value * 2 for name, value in network.state_dict().items()})
    assert torch.equal(moved[0].weight.cpu(), network[0].weight * 2)
    assert torch.equal(moved.to("cpu")[0].weight, network[0].weight * 2)


def test_a_cast_reaches_the_values():
    network = net().to(PRETEND).float()
    assert network[0].weight.dtype == network[0].weight.host.dtype == torch.float32
    assert torch.equal(network[0].weight.cpu(), net()[0].weight.float())


def test_a_copy_of_a_network_is_a_network_of_its_own():
    network = net().to(PRETEND)
    twin = copy.deepcopy(network)
    assert isinstance(twin[0].weight, nn.Parameter)
    with torch.no_grad():
        network[0].weight.zero_()
    assert torch.equal(twin[0].weight.cpu(), net()[0].weight)


def test_a_parameter_that_is_frozen_stays_so_in_a_copy():
    network = net().to(PRETEND).requires_grad_(False)
    assert not any(p.requires_grad for p in copy.deepcopy(network).parameters())


def test_the_device_has_a_random_stream_of_its_own():
    torch.manual_seed(3)
    state = torch.pretend.get_rng_state()
    first = torch.rand(4, device=PRETEND).cpu()
    cpu = torch.rand(4)
    assert not torch.equal(torch.rand(4, device=PRETEND).cpu(), first)
    torch.pretend.set_rng_state(state)
    assert torch.equal(torch.rand(4, device=PRETEND).cpu(), first)
    torch.manual_seed(3)
    torch.rand(9, device=PRETEND)
    assert torch.equal(torch.rand(4), cpu)  # which does not know what the device drew


def test_the_device_can_draw_from_the_stream_of_the_cpu():
    torch.manual_seed(3)
    expected = [F.dropout(X), torch.randperm(5), torch.randn(2)]
    torch.manual_seed(3)
    with sharing_the_cpu_stream():
        drawn = [F.dropout(X.to(PRETEND)), torch.randperm(5, device=PRETEND), torch.randn(2, device=PRETEND)]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, drawn))


def test_autocast_is_that_of_cuda():
    """Products in the low precision, sensitive functions in float32, everything else as it comes; with gradients."""
    x = X.float().to(PRETEND).requires_grad_()
    linear = nn.Linear(4, 3).to(PRETEND)
    with torch.autocast("pretend", dtype=torch.bfloat16):
        product = linear(x)
        assert product.dtype == (x @ x.T).dtype == torch.einsum("ij,kj->ik", x, x).dtype == torch.bfloat16
        assert product.relu().dtype == torch.bfloat16
        assert product.softmax(1).dtype == product.exp().dtype == product.sum().dtype == torch.float32
        loss = F.cross_entropy(product, torch.arange(6, device=PRETEND) % 3)
        assert loss.dtype == torch.float32
        with torch.autocast("pretend", enabled=False):
            assert (x @ x.T).dtype == torch.float32
        assert (X.to(PRETEND) @ X.T.to(PRETEND)).dtype == torch.float64
    assert (x @ x.T).dtype == torch.float32
    loss.backward()
    assert x.grad.dtype == linear.weight.grad.dtype == torch.float32
    expected = F.cross_entropy(F.linear(x.cpu(), linear.weight.cpu(), linear.bias.cpu()), torch.arange(6) % 3)
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)


def test_custom_and_second_gradients():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * x**2

    results = []
    for place in ("cpu", PRETEND):
        x = X.clone().to(place).requires_grad_()
        (first,) = torch.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), x)[0].cpu())
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def test_no_more_operators_are_left_out():
    """Each would be a gap in what the device proves."""
    assert set(NOT_PRETENDED) == set()
