"""AMID's equations on batches small enough to be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sidelight.losses.mutual_information import (
    adapted_weights,
    adversarial,
    alignment,
    class_partners,
    critic,
    discrimination,
    mutual_information,
)

# Cosines between M_i and S_j: 1 0 -1 / 0 1 0 / 1 0 -1
M = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
S = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-5.0, 0.0]], dtype=torch.float64)
E = math.e


def test_the_critic_is_a_softmax_over_students_at_each_teacher():
    """Eq. 7, τ = 1: rows of exp(1, 0, −1), exp(0, 1, 0), exp(1, 0, −1) divided by their sums."""
    wide = E + 1 + 1 / E
    expected = [
        [E / wide, 1 / wide, 1 / E / wide],
        [1 / (E + 2), E / (E + 2), 1 / (E + 2)],
        [E / wide, 1 / wide, 1 / E / wide],
    ]
    torch.testing.assert_close(critic(M, S, 1.0).exp(), torch.tensor(expected, dtype=torch.float64))


def test_the_bound_by_hand():
    """Eq. 8 with rows 0 and 2 of one class: sums over positives and negatives, divided by the three rows."""
    wide = E + 1 + 1 / E
    first = math.log(E / wide) + math.log(1 / E / wide) + math.log(1 - 1 / wide)  # of row 0, and of row 2
    middle = math.log(E / (E + 2)) + 2 * math.log(1 - 1 / (E + 2))
    expected = -(2 * first + middle) / 3
    assert mutual_information(M, S, torch.tensor([0, 1, 0]), 1.0).item() == pytest.approx(expected)


def test_the_bound_of_two_rows_by_hand():
    """h(M_0, S_0) = e²/(e² + 1) = 1 − h(M_0, S_1) at τ = 1/2: each row counts the same logarithm twice."""
    eye = torch.eye(2, dtype=torch.float64)
    expected = -2 * math.log(E**2 / (E**2 + 1))
    assert mutual_information(eye, eye, torch.tensor([0, 1]), 0.5).item() == pytest.approx(expected)


def test_one_class_has_no_negatives_and_singletons_no_other_positives():
    wide = E + 1 + 1 / E
    rows = [math.log(E / wide) + math.log(1 / wide) + math.log(1 / E / wide)] * 2 + [math.log(E / (E + 2) ** 3)]
    assert mutual_information(M, S, torch.tensor([4, 4, 4]), 1.0).item() == pytest.approx(-sum(rows) / 3)
    alone = [math.log(E / wide) + math.log(1 - 1 / wide) + math.log(1 - 1 / E / wide)]
    alone += [math.log(E / (E + 2)) + 2 * math.log(1 - 1 / (E + 2))]
    alone += [math.log(1 / E / wide) + math.log(1 - E / wide) + math.log(1 - 1 / wide)]
    assert mutual_information(M, S, torch.tensor([0, 1, 2]), 1.0).item() == pytest.approx(-sum(alone) / 3)


def test_rows_without_a_label_take_no_part():
    rows = torch.randn(3, 2, dtype=torch.float64)
    with_them = mutual_information(torch.cat([M, rows]), torch.cat([S, rows]), torch.tensor([0, 1, 0, -1, -1, -1]))
    assert with_them.item() == pytest.approx(mutual_information(M, S, torch.tensor([0, 1, 0])).item())


def test_both_sides_learn_the_bound_with_the_gradient_of_differences():
    g = torch.Generator().manual_seed(0)
    m, s = (torch.randn(5, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 0, 1, 2, 1])
    assert torch.autograd.gradcheck(lambda m, s: mutual_information(m, s, labels), (m, s))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-3, 0.01, 0.5])
def test_the_gradient_stays_finite_as_h_of_a_negative_goes_to_one(dtype, temperature):
    """Every anchor sits on a student of another class, where log(1 − h) without care is −inf."""
    m = torch.eye(4, dtype=dtype)
    s = m.roll(1, 0).clone().requires_grad_()
    value = mutual_information(m, s, torch.arange(4), temperature)
    value.backward()
    assert value.isfinite()
    assert s.grad.isfinite().all()
    assert 0 < s.grad.abs().max() <= 8 / temperature


def test_a_student_that_follows_the_bound_finds_the_classes_of_the_teacher():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    teacher = torch.eye(3)[labels] + 0.1 * torch.randn(24, 3, generator=g)
    student = torch.randn(24, 3, generator=g).requires_grad_()
    adam = torch.optim.Adam([student], 0.1)
    for _ in range(60):
        adam.zero_grad()
        mutual_information(teacher, student, labels).backward()
        adam.step()
    assert (critic(teacher, student).argmax(1).remainder(3) == labels).all()
    assert (student.argmax(1) == labels).all()


# the adversary -------------------------------------------------------------------------------------------------------


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_adversarial_terms_by_hand():
    """Eq. 12 with D1 = 1/2, 1/4, 3/4 on all rows, D2 = 1/5 and 1/10 on the two of one class, and λ = (0.6, 0.4)."""
    first = torch.tensor([logit(p) for p in (0.5, 0.25, 0.75)], dtype=torch.float64)
    second = torch.tensor([logit(p) for p in (0.2, 0.1)], dtype=torch.float64)
    expected = -0.6 / 3 * math.log(0.5 * 0.25 * 0.75) - 0.4 / 2 * math.log(0.2 * 0.1)
    assert (0.6 * adversarial(first) + 0.4 * adversarial(second)).item() == pytest.approx(expected)


def test_what_the_discriminator_learns_by_hand():
    """One part of eq. 13."""
    teacher, student = (torch.tensor([logit(p) for p in ps], dtype=torch.float64) for ps in ((0.9, 0.6), (0.3, 0.2)))
    expected = -(math.log(0.9 * 0.6) + math.log(0.7 * 0.8)) / 2
    assert discrimination(teacher, student).item() == pytest.approx(expected)


def test_a_sure_discriminator_still_gives_a_gradient():
    logits = torch.tensor([-1e4], requires_grad=True)
    adversarial(logits).backward()
    assert logits.grad.item() == -1


@pytest.mark.parametrize("count", [0, 1])
def test_no_pair_is_worth_nothing(count):
    rows, partner = class_partners(torch.arange(count))
    assert rows.shape == partner.shape == (0,)
    assert adversarial(torch.zeros(0)).item() == discrimination(torch.zeros(0), torch.zeros(0)).item() == 0


@given(st.lists(st.integers(-1, 3), max_size=12), st.integers(0, 1000))
def test_partners_are_other_rows_of_the_same_class_each_taken_once(labels, seed):
    y = torch.tensor(labels, dtype=torch.int64)
    rows, partner = class_partners(y, torch.Generator().manual_seed(seed))
    assert rows.tolist() == [i for i, c in enumerate(labels) if c >= 0 and labels.count(c) > 1]
    assert (rows != partner).all()
    assert (y[rows] == y[partner]).all()
    assert sorted(partner.tolist()) == rows.tolist()


def test_partners_are_drawn_at_random():
    drawn = {tuple(class_partners(torch.zeros(3, dtype=torch.int64)).partner.tolist()) for _ in range(50)}
    assert drawn == {(1, 2, 0), (2, 0, 1)}


# the weights ---------------------------------------------------------------------------------------------------------


def test_alignment_by_hand():
    """Cosines 1, 1, −1 of the pairs; −1 and 1 between rows 0 and 2 of one class."""
    sums, numbers = alignment(M, S, torch.tensor([0, 1, 0]))
    assert (sums.tolist(), numbers.tolist()) == ([1, 0], [3, 2])
    sums, numbers = alignment(M, S, torch.tensor([-1, 1, -1]))
    assert (sums.tolist(), numbers.tolist()) == ([1, 0], [3, 0])


def test_the_weights_by_hand():
    """Eq. 14: λ̃ = 0.1 (1 − 0.8), 0.1 (1 − 0.3), then 0.9 of that and 0.1 (1 − average) more."""
    smooth, weights = adapted_weights(torch.zeros(2), torch.tensor([0.8, 0.3]))
    assert smooth.tolist() == pytest.approx([0.02, 0.07])
    smooth, weights = adapted_weights(smooth, torch.tensor([0.5, math.nan]))
    assert smooth.tolist() == pytest.approx([0.068, 0.07])
    ratio = math.exp(0.068 - 0.07)
    assert weights.tolist() == pytest.approx([ratio / (1 + ratio), 1 / (1 + ratio)])
