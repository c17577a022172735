"""Relational losses against the reference, their definitions pair by pair, and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers.support import reference
from sidelight.losses.relational import BLOCK, dask, pkt, rkd, rkd_angle, rkd_distance, similarity_preserving

LOSSES = {"rkd_d25_a50": rkd, "dask": dask, "sp": similarity_preserving, "pkt": pkt}


def rows(seed: int, n: int = 6, d: int = 4) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("key", LOSSES)
def test_values_and_gradients_are_those_of_the_released_implementations(size, key):
    data = reference(size)
    student = torch.tensor(data["student"], requires_grad=True)
    value = LOSSES[key](student, torch.tensor(data["teacher"]))
    value.backward()
    assert value.item() == pytest.approx(float(data[f"{key}_value"]), rel=1e-6)
    expected = torch.tensor(data[f"{key}_grad"])
    assert (student.grad - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle, *LOSSES.values()])
def test_the_gradient_is_that_of_differences(loss):
    student, teacher = rows(0).requires_grad_(), rows(1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)


def huber(x: Tensor) -> float:
    return F.smooth_l1_loss(x, torch.zeros_like(x)).item()


def cosines(z: Tensor) -> Tensor:
    """(n, n, n): of rows i, j, k the cosine of the angle at i between j and k; 0 where there is none."""
    from_i = z[None] - z[:, None]
    scale = from_i.norm(dim=2)[:, :, None] * from_i.norm(dim=2)[:, None]
    return torch.where(scale > 0, torch.einsum("ijd,ikd->ijk", from_i, from_i) / scale.clamp(min=1e-300), 0.0)


@given(st.integers(0, 10_000), st.integers(1, 2 * BLOCK + 1), st.booleans())
def test_angles_are_their_definition_triple_by_triple(seed, n, twins):
    student, teacher = rows(seed, n), rows(seed + 1, n, 3)
    if twins and n > 2:
        student[1], teacher[2] = student[0], teacher[0]
    expected = huber(cosines(student) - cosines(teacher))
    assert rkd_angle(student, teacher).item() == pytest.approx(expected, rel=1e-9, abs=1e-14)


@given(st.integers(0, 10_000), st.integers(2, 9), st.booleans())
def test_distances_are_their_definition_pair_by_pair(seed, n, twins):
    student, teacher = rows(seed, n), rows(seed + 1, n, 3)
    if twins and n > 2:
        student[1], teacher[2] = student[0], teacher[0]
    own, other = (torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist") for z in (student, teacher))
    own, other = (d * n * (n - 1) / d.sum() for d in (own, other))
    assert rkd_distance(student, teacher).item() == pytest.approx(huber(own - other), rel=1e-9, abs=1e-14)


def test_a_right_angle_against_a_straight_one():
    """Three points on a line against a right-angled triangle, by hand."""
    line = torch.tensor([[-1.0, 0], [0, 0], [1, 0]], dtype=torch.float64)
    bent = torch.tensor([[-1.0, 0], [0, 0], [0, 1]], dtype=torch.float64)
    middle = 2 * (1 - 0.5)  # −1 against 0, both orders of j and k: |x| − 1/2 = x²/2 = 1/2
    ends = 2 * 2 * (1 - math.sqrt(0.5)) ** 2 / 2  # 1 against cos 45° at both ends
    assert rkd_angle(line, bent).item() == pytest.approx((middle + ends) / 27)


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle, rkd])
def test_they_see_neither_place_nor_scale_nor_rotation(loss):
    student, teacher = rows(2), rows(3)
    turn = torch.linalg.qr(rows(4, 4))[0]
    value = loss(student, teacher).item()
    assert value > 0
    assert loss(5 * student @ turn + 100, teacher).item() == pytest.approx(value, rel=1e-9)
    assert loss(5 * student @ turn + 100, student).item() == pytest.approx(0, abs=1e-12)


def test_rows_in_the_same_place_give_finite_gradients_and_are_not_torn_apart():
    student = rows(5)
    student[1] = student[2] = student[0]
    student = (student + 1e3).float().requires_grad_()
    rkd(student, rows(6).float()).backward()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 100


def test_similarities_are_their_definition():
    student, teacher = rows(7), rows(8, 6, 3)
    g, h = (F.normalize(z @ z.T, dim=1) for z in (student, teacher))
    assert similarity_preserving(student, teacher).item() == pytest.approx(((g - h).norm() ** 2 / 36).item())


def test_pkt_is_the_divergence_of_affinities_over_the_number_of_rows():
    student, teacher = rows(9), rows(10, 6, 3)
    q, p = ((F.cosine_similarity(z[:, None], z[None], dim=2) + 1) / 2 for z in (student, teacher))
    q, p = q / q.sum(1, keepdim=True), p / p.sum(1, keepdim=True)
    expected = F.kl_div(q.log(), p, reduction="sum") / 36
    assert pkt(student, teacher, epsilon=0.0).item() == pytest.approx(expected.item())


def test_dask_is_its_three_parts():
    student, teacher = rows(11), rows(12)
    expected = 25 * rkd_distance(student, teacher) + 50 * rkd_angle(student, teacher) + F.mse_loss(student, teacher)
    assert dask(student, teacher).item() == pytest.approx(expected.item())


def test_rows_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"one row per sample, got \(6, 4\) and \(5, 4\)"):
        rkd(rows(0), rows(1, 5))
    with pytest.raises(ValueError, match="same width"):
        dask(rows(0), rows(1, 6, 3))
