"""Point-to-point and distribution losses against the reference, oracles and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch import Tensor

from helpers.support import reference
from sidelight.losses.distribution import gaussian_mmd
from sidelight.losses.pointwise import cosine_distance, soft_label_kl, squared_error
from sidelight.losses.relational import dask, rkd
from sidelight.losses.structural import structural_transport

LOSSES = {"kl": soft_label_kl, "mse": squared_error, "cosine": cosine_distance, "mmd": gaussian_mmd}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def pair(seed: int, n: int = 6, d: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=dtype).requires_grad_(), torch.randn(n, d, generator=g, dtype=dtype)


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize(
    ("key", "loss", "inputs"),
    [
        ("kl_T4", soft_label_kl, ("student_logits", "teacher_logits")),
        ("hint_mse", squared_error, ("student", "teacher")),
        ("mmd5", gaussian_mmd, ("student", "teacher")),
    ],
)
def test_values_and_gradients_are_those_of_the_released_implementations(size, key, loss, inputs):
    data = reference(size)
    student, teacher = (torch.tensor(data[name]) for name in inputs)
    student.requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.item() == pytest.approx(float(data[f"{key}_value"]), rel=1e-6)
    expected = torch.tensor(data[f"{key}_grad"])
    assert (student.grad - expected).norm() <= 1e-6 * expected.norm()
    torch.testing.assert_close(student.grad, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


# all of them ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [soft_label_kl, squared_error, cosine_distance])
def test_the_gradient_is_that_of_differences(loss):
    """Not of the MMD, whose bandwidth follows the data without gradient; its gradient is held to the reference."""
    student, teacher = pair(0)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)


@pytest.mark.parametrize("loss", [rkd, dask, gaussian_mmd, lambda s, t: structural_transport(s, t, k=3)])
def test_a_second_derivative_is_refused_where_none_is_known(loss):
    """Where an embedding is not linear in the weights, it would lack a part, and look like a number."""
    student, teacher = pair(0)
    (grad,) = torch.autograd.grad(loss(student.tanh(), teacher), student, create_graph=True)
    (plain,) = torch.autograd.grad(loss(student.tanh(), teacher), student)
    assert torch.allclose(grad.detach(), plain, rtol=1e-9, atol=0)
    with pytest.raises(RuntimeError, match=r"differentiable (once|only)"):
        grad.square().sum().backward()


@every_loss
@given(st.integers(0, 10_000))
def test_it_is_nothing_at_the_teacher_and_something_elsewhere(loss, seed):
    student, teacher = pair(seed)
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert loss(student, teacher).item() > 0


@pytest.mark.parametrize("loss", [soft_label_kl, squared_error, cosine_distance])
def test_the_teacher_gets_no_gradient(loss):
    student, teacher = pair(1)
    teacher.requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_row_is_worth_nothing(loss, dtype):
    student = torch.zeros(0, 4, dtype=dtype, requires_grad=True)
    value = loss(student, student.detach())
    assert (value.item(), value.dtype, value.dim()) == (0.0, dtype, 0)
    value.backward()
    assert student.grad.shape == (0, 4)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["one row", "the same rows", "zeros", "far", "tiny"])
def test_degenerate_rows_give_finite_values_and_moderate_gradients(loss, dtype, kind):
    student, teacher = (x.detach().clone() for x in pair(2, dtype=dtype))
    if kind == "one row":
        student, teacher = student[:1], teacher[:1]
    elif kind == "the same rows":
        student = teacher = student[:1].expand(6, 4).clone()
    elif kind == "zeros":
        student = torch.zeros_like(student)
    elif kind == "far":
        student, teacher = student * 1e4, teacher * 1e4
    else:
        student, teacher = student * 1e-3, teacher * 1e-3
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.dtype == dtype
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e5


# soft labels ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(0.5, 20))
def test_soft_labels_are_scipys_relative_entropy(seed, temperature):
    student, teacher = pair(seed)
    p, q = ((x.detach() / temperature).softmax(1).numpy() for x in (teacher, student))
    expected = temperature**2 * rel_entr(p, q).sum(1).mean()
    assert soft_label_kl(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_soft_labels_do_not_see_a_constant_added_to_a_row():
    student, teacher = pair(3)
    shifted = soft_label_kl(student + torch.arange(6.0)[:, None], teacher)
    assert shifted.item() == pytest.approx(soft_label_kl(student, teacher).item())


def test_soft_labels_of_hot_logits_match_logits():
    """For T → ∞, T² KL is half the mean squared distance of centred logits over C (Hinton et al. 2015, eq. 4)."""
    student, teacher = pair(4)
    centred = [x - x.mean(1, keepdim=True) for x in (student, teacher)]
    expected = (centred[0] - centred[1]).square().sum(1).mean() / (2 * 4)
    assert soft_label_kl(student, teacher, 1e4).item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_certain_teacher_gives_cross_entropy():
    student, _ = pair(5)
    teacher = torch.full((6, 4), -1e4, dtype=torch.float64)
    target = torch.arange(6) % 4
    teacher[torch.arange(6), target] = 1e4
    assert soft_label_kl(student, teacher, 1.0).item() == pytest.approx(F.cross_entropy(student, target).item())


# cosine --------------------------------------------------------------------------------------------------------------


def test_cosine_has_its_closed_forms():
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for angle in (0.0, 0.3, math.pi / 2, math.pi):
        y = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64) * 7
        assert cosine_distance(x, y).item() == pytest.approx(1 - math.cos(angle), abs=1e-12)


def test_cosine_is_weighed_row_by_row():
    student, teacher = pair(6)
    weight = torch.tensor([0.0, 1.0, 0.5, 0.0, 0.25, 1.0], dtype=torch.float64)
    rows = torch.stack([cosine_distance(student[i : i + 1], teacher[i : i + 1]) for i in range(6)])
    value = cosine_distance(student, teacher, weight)
    assert value.item() == pytest.approx((rows * weight).mean().item())
    value.backward()
    assert student.grad[0].abs().max() == 0
    assert student.grad[1].abs().max() > 0


@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
def test_rows_of_norm_zero_count_as_cosine_zero_and_are_not_moved(whose):
    """The derivative of the clamped cosine there is of the order of 1e8."""
    student, teacher = (x.detach().clone() for x in pair(7))
    if whose != "teacher":
        student[2] = 0
    if whose != "student":
        teacher[2] = 0
    others = torch.arange(6) != 2
    student.requires_grad_()
    value = cosine_distance(student, teacher)
    rest = cosine_distance(student[others], teacher[others])
    assert value.item() == pytest.approx((rest.item() * 5 + 1) / 6)
    value.backward()
    assert student.grad[2].abs().max() == 0
    assert student.grad[others].abs().max() > 0
    assert student.grad.abs().max() < 10


# mmd -----------------------------------------------------------------------------------------------------------------


def mmd_by_loops(x: Tensor, y: Tensor) -> float:
    """The definition, pair by pair: five kernels around the mean squared distance of different rows."""
    z = torch.cat([x, y]).detach()
    n, a = len(z), len(x)
    squared = [[(z[i] - z[j]).square().sum().item() for j in range(n)] for i in range(n)]
    bandwidth = sum(map(sum, squared)) / (n * n - n) / 4

    def mean(rows: range, columns: range) -> float:
        kernels = [math.exp(-squared[i][j] / (bandwidth * 2**k)) for i in rows for j in columns for k in range(5)]
        return sum(kernels) / (len(rows) * len(columns))

    return mean(range(a), range(a)) + mean(range(a, n), range(a, n)) - 2 * mean(range(a), range(a, n))


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7))
def test_mmd_is_its_definition_also_for_sets_of_different_size(seed, a, b):
    x, y = pair(seed, a)[0].detach(), pair(seed + 1, b)[1]
    assert gaussian_mmd(x, y).item() == pytest.approx(mmd_by_loops(x, y), rel=1e-9, abs=1e-12)


def test_mmd_is_symmetric_and_sees_neither_order_nor_place_nor_scale():
    x, y = (z.detach() for z in pair(8))
    value = gaussian_mmd(x, y).item()
    assert gaussian_mmd(y, x).item() == pytest.approx(value)
    assert gaussian_mmd(x.flip(0), y).item() == pytest.approx(value)
    assert gaussian_mmd(x + 1000, y + 1000).item() == pytest.approx(value, rel=1e-9)
    assert gaussian_mmd(x * 30, y * 30).item() == pytest.approx(value, rel=1e-9)


def test_mmd_keeps_its_digits_far_from_zero_in_single_precision():
    x, y = (z.detach() for z in pair(9, 20))
    far = gaussian_mmd(x.float() + 1000, y.float() + 1000).item()
    assert far == pytest.approx(gaussian_mmd(x, y).item(), rel=1e-2)


def test_mmd_moves_a_cloud_onto_the_other():
    x, y = pair(10, 30)
    x = (x.detach() + 2).requires_grad_()
    before, gap = gaussian_mmd(x, y).item(), (x.mean(0) - y.mean(0)).norm().item()
    adam = torch.optim.Adam([x], 0.1)
    for _ in range(60):
        adam.zero_grad()
        gaussian_mmd(x, y).backward()
        adam.step()
    assert gaussian_mmd(x, y).item() < 0.2 * before
    assert (x.mean(0) - y.mean(0)).norm() < gap / 4
