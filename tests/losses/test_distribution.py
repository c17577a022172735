"""Losses between distributions: the reference, hand-computed cases of OS-MD's equations, closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch import Tensor

from helpers.support import reference
from sidelight.losses.distribution import (
    cross_translation,
    gaussian_mmd,
    jeffreys,
    jensen_shannon,
    joint_adaptation,
    sampled_positions,
)


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or (6, 4)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize(("key", "loss"), [("jsd_lin", jensen_shannon), ("jeffreys", jeffreys)])
def test_values_are_those_of_the_released_implementations(size, key, loss):
    data = reference(size)
    value = loss(torch.tensor(data["student_logits"]), torch.tensor(data["teacher_logits"]))
    assert value.item() == pytest.approx(float(data[f"{key}_value"]), rel=1e-6)


# MMD -----------------------------------------------------------------------------------------------------------------


def test_mmd_of_two_points_by_hand():
    """OS-MD eq. 2 with one row each at distance 2: bandwidth 4, kernels exp(−4 / (1, 2, 4, 8, 16))."""
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    kernel = sum(math.exp(-4 / b) for b in (1, 2, 4, 8, 16))
    assert gaussian_mmd(x, y).item() == pytest.approx(5 + 5 - 2 * kernel)


def test_mmd_of_three_points_by_hand():
    """Rows 0 and 2 against row 4: squared distances 4, 4 and 16, mean 8, one kernel of bandwidth 8."""
    x, y = torch.tensor([[0.0], [2.0]], dtype=torch.float64), torch.tensor([[4.0]], dtype=torch.float64)
    expected = (2 + 2 * math.exp(-0.5)) / 4 + 1 - 2 * (math.exp(-2) + math.exp(-0.5)) / 2
    assert gaussian_mmd(x, y, kernels=1).item() == pytest.approx(expected)


def test_the_gradient_of_the_mmd_is_that_of_differences_at_a_fixed_bandwidth():
    """Rows moved on a sphere about the mean of all keep the bandwidth, so the whole is differentiable there."""
    y = rows(1, 6, 2)
    y = y - y.mean(0)
    start = rows(0, 3, 2)

    def value(angle: Tensor) -> Tensor:
        turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
        return gaussian_mmd((start - start.mean(0)) @ turn, y)

    assert torch.autograd.gradcheck(value, torch.tensor(0.4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("place", [0.0, 3.7, 1e4])
def test_rows_that_are_all_the_same_are_at_no_distance_wherever_they_are(place):
    x = torch.full((5, 3), place).requires_grad_()
    value = gaussian_mmd(x, x.detach())
    value.backward()
    assert value.item() == 0
    assert x.grad.abs().max() == 0


# maps ----------------------------------------------------------------------------------------------------------------


def test_sampled_positions_are_the_same_in_every_map_and_drawn_once():
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    one, two = sampled_positions(x, 1000 + x, samples=10, generator=torch.Generator().manual_seed(0))
    assert one.shape == (10, 3)
    assert (two - one == 1000).all()
    assert len({tuple(row) for row in one.tolist()}) == 10
    everywhere = {tuple(row) for row in x.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    assert {tuple(row) for row in one.tolist()} <= everywhere
    assert {tuple(row) for row in sampled_positions(x, samples=None)[0].tolist()} == everywhere


def test_tokens_are_sampled_along_their_last_dimension_and_other_extents_are_refused():
    tokens = torch.arange(2 * 7 * 3).reshape(2, 7, 3)
    (flat,) = sampled_positions(tokens, samples=14, channels=-1)
    assert (flat == tokens.reshape(14, 3)).all()
    with pytest.raises(ValueError, match="same batch and extent"):
        sampled_positions(tokens, tokens[:, :5], samples=4, channels=-1)


# OS-MD ---------------------------------------------------------------------------------------------------------------


def test_joint_adaptation_by_hand():
    """Eq. 5 with p = (3/4, 1/4) and (1/2, 1/2) against q = (1/2, 1/2) twice."""
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5]], dtype=torch.float64).log()
    marginal, conditional = joint_adaptation(rows(0, 2, 3), rows(1, 2, 3), torch.zeros_like(p), p + 7)
    assert conditional.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2)
    assert marginal.item() == pytest.approx(gaussian_mmd(rows(0, 2, 3), rows(1, 2, 3)).item())


def test_cross_translation_by_hand():
    """Eq. 8: block 1 is off by 2 in one of four numbers, block 2 by 1 everywhere."""
    one = torch.zeros(1, 2, 2)
    off = one.clone()
    off[0, 0, 0] = 2
    off.requires_grad_()
    value = cross_translation([off, one], [one, one + 1])
    assert value.item() == pytest.approx(4 / 4 + 1)
    value.backward()
    assert off.grad.flatten().tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="both outputs"):
        cross_translation([one], [])


# predictions ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(0.1, 30))
def test_jensen_shannon_is_scipys(seed, scale):
    student, teacher = rows(seed) * scale, rows(seed + 1) * scale
    q, p = (z.softmax(1).numpy() for z in (student, teacher))
    # not scipy's jensenshannon, which is NaN where rounding takes the sum below its root under 0
    expected = (rel_entr(p, (p + q) / 2) + rel_entr(q, (p + q) / 2)).sum(1) / 2
    assert jensen_shannon(student, teacher).item() == pytest.approx(expected.mean(), rel=1e-6, abs=1e-12)


def test_opposite_certainties_are_log_two_apart_with_a_finite_gradient():
    sure = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = jensen_shannon(sure, -sure.detach())
    assert value.item() == pytest.approx(math.log(2))
    value.backward()
    assert sure.grad.isfinite().all()


def test_jeffreys_by_hand_and_symmetric():
    p = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    q = torch.zeros_like(p)
    assert jeffreys(q, p).item() == pytest.approx(0.25 * math.log(3) / 2)  # Σ (p − q) log(p / q) / 2
    assert jeffreys(p, q).item() == pytest.approx(jeffreys(q, p).item())
    assert jensen_shannon(p, q).item() == pytest.approx(jensen_shannon(q, p).item())


@pytest.mark.parametrize("loss", [jensen_shannon, jeffreys])
def test_a_teacher_that_learns_along_gets_a_gradient_only_on_request(loss):
    student, teacher = rows(3).requires_grad_(), rows(4).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    loss(student, teacher, detach=False).backward()
    assert teacher.grad.abs().max() > 0
    assert torch.autograd.gradcheck(lambda s, t: loss(s, t, detach=False), (student, teacher))
