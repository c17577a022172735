"""What every loss over the rows of a batch keeps to: degenerate batches, precision, memory, no loop over samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sidelight import losses
from sidelight.losses.relational import BLOCK
from sidelight.losses.structural_settings import PRESETS
from sidelight.transport import ANCHORS

with suppress(pytest.skip.Exception):  # where torch cannot register a device; the test of it skips
    import helpers.pretend_device  # noqa: F401  torch counts devices once, at the first backward pass

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def unlabelled(name: str, **options: object) -> Loss:
    loss = partial(getattr(losses, name), **options)
    return lambda s, t, y: loss(s, t)


def from_bank(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """CRD with the batch as its bank, other classes as negatives."""
    mask = (y[:, None] != y) & (y[:, None] >= 0) & (y >= 0)
    log_z = losses.crd_log_normaliser(s, t, t, 50, mask) if len(s) else 0.0
    return losses.crd(s, t.detach(), t, 50, log_z, mask)


def adaptation(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.stack(losses.joint_adaptation(s, t, s, t)).sum()


OWN: dict[str, Loss] = {
    "class_nce": losses.class_nce,
    "mutual_information": lambda s, t, y: losses.mutual_information(t.detach(), s, y),
    "decoupled_kl": losses.decoupled_kl,
    "wasserstein_logits": lambda s, t, y: losses.wasserstein_logits(
        s, t, y, 0.6 * (1 - torch.eye(s.shape[1], device=s.device))
    ),
    "gmc": lambda s, t, y: losses.gmc([s], t.detach()),
    "crd": from_bank,
    "joint_adaptation": adaptation,
    "cross_translation": lambda s, t, y: losses.cross_translation([s], [t.detach()]),
    "nontarget_kl": lambda s, t, y: losses.nontarget_kl(s, t, y.clamp(max=4), losses.kendall_tau(s, t) > -2),
}
"""Losses that are called otherwise than with the rows of student and teacher."""
OTHERS = {
    "StructuralTransport", "structural_transport", "cosine_similarity_matrix",  # test_structural.py, and below
    "critic", "adversarial", "discrimination", "class_partners", "alignment", "adapted_weights",
    "crd_log_normaliser", "sampled_positions", "kendall_tau",
}  # fmt: skip
"""Parts of losses, and those that have tests of their own."""
LOSSES: dict[str, Loss] = {name: OWN.get(name) or unlabelled(name) for name in losses.__all__ if name not in OTHERS}


def structural(preset: str, **settings: str) -> Loss:
    loss = losses.StructuralTransport(preset, k=8, **settings)
    return lambda s, t, y: loss(s, t, labels=y)


STRUCTURAL = {preset: structural(preset) for preset in PRESETS} | {
    anchors: structural("paper", anchors=anchors) for anchors in ANCHORS if anchors not in PRESETS
}
"""Structural transport with every preset and every selector of anchors."""
BY_CLASS = ("class_nce", "mutual_information", "crd")
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def batch(n: int = 8, d: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    s, t = (torch.randn(n, d, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
    return s.requires_grad_(), t, torch.arange(n) % 3


def test_every_loss_is_in_the_list():
    """Whoever adds one to `sidelight.losses` adds nothing here."""
    assert set(LOSSES) | OTHERS == set(losses.__all__)
    assert set(OWN) <= set(LOSSES)
    assert {"rkd", "squared_error", "gmc"} <= set(LOSSES)


def degenerate(kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    s, t, y = batch(dtype=dtype)
    s = s.detach()
    if kind in ("none", "one", "two"):
        n = {"none": 0, "one": 1, "two": 2}[kind]
        s, t, y = s[:n], t[:n], y[:n]
    elif kind == "one class":
        y = torch.zeros_like(y)
    elif kind == "no positives":
        y = torch.arange(8)
    elif kind == "unlabelled":
        y = torch.full_like(y, -1)
    elif kind == "one labelled":
        y = torch.tensor([2, *[-1] * 7])
    elif kind == "zero rows":
        s[1] = s[4] = t[2] = t[4] = 0
    elif kind == "zeros":
        s, t = torch.zeros_like(s), torch.zeros_like(t)
    elif kind == "twins":
        s[3] = s[0]
        t[5] = t[0]
    elif kind == "all the same":
        s, t = s[:1].expand(8, -1).clone(), t[:1].expand(8, -1).clone()
    elif kind == "the teacher":
        s = t.clone()
    elif kind == "opposite":
        s = -t
    elif kind == "far":
        s, t = s + 1e3, t + 1e3
    elif kind == "tiny":
        s, t = s * 1e-25, t * 1e-25
    return s.clone().requires_grad_(), t, y


KINDS = (
    "none", "one", "two", "one class", "no positives", "unlabelled", "one labelled", "zero rows", "zeros", "twins",
    "all the same", "the teacher", "opposite", "far", "tiny",
)  # fmt: skip


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_batches_give_finite_values_and_gradients(loss, dtype):
    for kind in KINDS:
        s, t, y = degenerate(kind, dtype)
        value = loss(s, t, y)
        value.backward()
        assert (value.dtype, value.ndim) == (dtype, 0), kind
        assert value.isfinite(), kind
        assert s.grad.isfinite().all(), kind
        if kind == "none":
            assert value.item() == 0
        if kind != "tiny":  # where the direction of rows counts, the true gradient is of the order of 1 / their length
            assert (s.grad.abs() < 1e4).all()


@every_loss
def test_the_teacher_gets_no_gradient_and_the_student_does(loss):
    s, t, y = batch()
    loss(s, t.requires_grad_(), y).backward()
    assert t.grad is None
    assert s.grad.abs().max() > 0


@every_loss
def test_single_and_double_precision_agree(loss):
    values, grads = [], []
    for dtype in (torch.float32, torch.float64):
        s, t, y = batch(24, 16, dtype)
        torch.manual_seed(0)
        value = loss(s, t, y)
        value.backward()
        values.append(value.item())
        grads.append(s.grad.double())
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert (grads[0] - grads[1]).norm() < 1e-4 * grads[1].norm()


@pytest.mark.parametrize("name", BY_CLASS)
def test_rows_without_a_label_are_neither_positives_nor_negatives(name):
    s, t, y = batch()
    y = torch.where(torch.arange(8) < 5, y, -1)
    loss = LOSSES[name]
    loss(s, t, y).backward()
    if name != "crd":  # whose constants are means over the batch
        assert loss(s[:5], t[:5], y[:5]).item() == pytest.approx(loss(s, t, y).item())
    assert s.grad[:5].abs().max() > 0
    assert s.grad[5:].abs().max() == 0


class Watch(TorchDispatchMode):
    """Counts operations, and notes the largest tensor that one gives."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, Tensor):
                self.largest = max(self.largest, x.untyped_storage().nbytes() // x.element_size())
        return out


def watched(loss: Loss, n: int) -> Watch:
    s, t, y = batch(n, 4)
    with Watch() as watch:
        loss(s, t, y).backward()
    return watch


@pytest.mark.parametrize("loss", [*LOSSES.values(), *STRUCTURAL.values()], ids=[*LOSSES, *STRUCTURAL])
def test_memory_grows_with_the_square_of_the_batch(loss):
    """The largest tensor: RKD's block of sides or CRCD's few anchors, times B²."""
    for n in (32, 64):
        assert watched(loss, n).largest <= BLOCK * n * n


@pytest.mark.parametrize(("name", "loss"), LOSSES.items(), ids=LOSSES)
def test_no_loop_runs_over_samples(name, loss):
    """RKD's angles and what holds them loop over blocks of sides, for their memory."""
    more = watched(loss, 64).operations - watched(loss, 32).operations
    blocks = 32 // BLOCK if name in ("rkd_angle", "rkd", "dask") else 0
    assert more <= 80 * blocks


@pytest.mark.parametrize("loss", STRUCTURAL.values(), ids=STRUCTURAL)
def test_structural_transport_loops_over_anchors_and_sweeps_alone(loss):
    """32 rows more are not an operation more for each; how many sweeps the solver takes is the data's matter."""
    assert watched(loss, 64).operations - watched(loss, 32).operations < 32


def test_the_watch_sees_a_loop_and_a_cube():
    def cube(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        d = (s[:, None] - s[None]) @ (s[:, None] - s[None]).mT
        return d.repeat(BLOCK, 1, 1).sum()

    assert watched(cube, 32).largest > BLOCK * 32 * 32
    looped: Loss = lambda s, t, y: torch.stack([row.sum() for row in s]).sum()  # noqa: E731
    assert watched(looped, 64).operations >= watched(looped, 32).operations + 32


@pytest.mark.parametrize("loss", [*LOSSES.values(), *STRUCTURAL.values()], ids=[*LOSSES, *STRUCTURAL])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_do_not_reach_the_arithmetic(loss, half):
    s, t, y = batch(16, 32, half)
    torch.manual_seed(0)
    exact = s.detach().float().requires_grad_()
    expected = loss(exact, t.float(), y)
    expected.backward()
    for autocast in (False, True):
        torch.manual_seed(0)
        s.grad = None
        with torch.autocast("cpu", half, enabled=autocast):
            value = loss(s, t, y)
        assert value.dtype == torch.float32
        assert value.item() == expected.item()
        value.backward()
        # Rounded once, or twice where the loss reads the rows twice.
        assert (s.grad.float() - exact.grad).abs().max() <= torch.finfo(half).eps * exact.grad.abs().max()


@pytest.mark.parametrize("loss", [*LOSSES.values(), *STRUCTURAL.values()], ids=[*LOSSES, *STRUCTURAL])
def test_an_accelerator_gives_the_same(loss):
    from helpers.both_devices import assert_same_on_both  # skips where torch cannot register a device

    s, t, y = batch(16)
    assert_same_on_both(loss, s, t, torch.where(torch.arange(16) % 5 == 4, -1, y), rtol=1e-7)
