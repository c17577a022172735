"""Contrastive losses against the reference, their definitions row by row, and batches by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers.support import reference
from sidelight.losses.contrastive import (
    class_nce,
    crcd,
    crd,
    crd_log_normaliser,
    gmc,
    info_nce,
    log_softmax_complement,
)


def rows(seed: int, n: int = 6, d: int = 4) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cos(x: Tensor, y: Tensor) -> float:
    return F.cosine_similarity(x, y, dim=0).item()


# in the batch --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 7), st.floats(0.05, 2))
def test_info_nce_is_its_definition(seed, n, temperature):
    s, t = rows(seed, n), rows(seed + 1, n)
    h = [[math.exp(cos(s[i], t[j]) / temperature) for j in range(n)] for i in range(n)]
    expected = -sum(math.log(h[i][i] / sum(h[i])) for i in range(n)) / n
    assert info_nce(s, t, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_info_nce_of_orthogonal_rows_by_hand():
    x = torch.eye(3, dtype=torch.float64)
    assert info_nce(5 * x, x, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))


LABELS = st.lists(st.integers(-1, 2), min_size=1, max_size=7)


@given(st.integers(0, 10_000), LABELS)
def test_class_nce_is_its_definition(seed, labels):
    s, t, tau = rows(seed, len(labels)), rows(seed + 1, len(labels)), 0.3
    known = [i for i, y in enumerate(labels) if y >= 0]
    expected = 0.0
    for i in known:
        e = {j: math.exp(cos(s[i], t[j]) / tau) for j in known}
        h = {j: e[j] / sum(e.values()) for j in known}
        positive = [math.log(h[j]) for j in known if labels[j] == labels[i]]
        negative = [math.log(1 - h[j]) for j in known if labels[j] != labels[i]]
        expected -= (sum(positive) / len(positive) + sum(negative) / max(1, len(negative))) / len(known)
    assert class_nce(s, t, torch.tensor(labels), tau).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_learning_teacher_gets_a_gradient_on_request():
    s, t, y = rows(0).requires_grad_(), rows(1).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, -1])
    class_nce(s, t, y).backward()
    assert t.grad is None
    class_nce(s, t, y, detach=False).backward()
    assert t.grad.abs().max() > 0


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=6))
def test_the_complement_of_softmax_is_exact(scores):
    x = torch.tensor([scores], dtype=torch.float64)
    expected = [torch.cat([x[0, :j], x[0, j + 1 :]]).logsumexp(0) - x[0].logsumexp(0) for j in range(len(scores))]
    torch.testing.assert_close(log_softmax_complement(x)[0], torch.stack(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_complement_stays_finite_where_softmax_rounds_to_one(dtype):
    x = torch.tensor([[1000.0, 0.0, -1.0]], dtype=dtype, requires_grad=True)
    assert x.softmax(1)[0, 0] == 1  # whose log(1 − h) is −inf
    value = log_softmax_complement(x)
    assert value[0, 0].item() == pytest.approx(math.log(1 + math.exp(-1)) - 1000)
    value.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() <= 3
    assert torch.autograd.gradcheck(log_softmax_complement, rows(0, 3).requires_grad_())


@given(st.integers(0, 10_000))
def test_a_contrast_prefers_the_right_pairing(seed):
    t = rows(seed)
    y = torch.tensor([0, 1, 2, 3, 4, 5])
    for loss in (info_nce, lambda s, t: class_nce(s, t, y), lambda s, t: crcd(s, t, 6), lambda s, t: gmc([s], t)):
        assert loss(t, t) < loss(t.roll(1, 0), t)


# GMC -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 128])
def test_gmc_is_that_of_the_released_implementation(size):
    data = reference(size)
    *modalities, joint = torch.tensor(data["gmc_reps"])
    assert gmc(modalities, joint, 0.3).item() == pytest.approx(float(data["gmc_joint_last_value"]), rel=1e-6)


def test_gmc_moves_modalities_and_joint():
    x, y, joint = (rows(i).requires_grad_() for i in range(3))
    assert torch.autograd.gradcheck(lambda *z: gmc(z[:2], z[2]), (x, y, joint))


# CRD -----------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.booleans())
def test_crd_is_its_definition(seed, each_its_own):
    a, p = rows(seed, 3), rows(seed + 1, 3)
    bank = rows(seed + 2, 15).reshape(3, 5, 4) if each_its_own else rows(seed + 2, 5)
    mask = rows(seed + 3, 3, 5) > 0
    tau, rows_, log_z = 0.5, 40, 2.0

    def h(x: Tensor, y: Tensor, m: int) -> float:
        g = math.exp(cos(x, y) / tau - log_z)
        return g / (g + m / rows_)

    expected = 0.0
    for i in range(3):
        chosen = [(bank[i] if each_its_own else bank)[k] for k in range(5) if mask[i, k]]
        if chosen:
            expected -= math.log(h(a[i], p[i], len(chosen))) / 3
            expected -= sum(math.log(1 - h(a[i], n, len(chosen))) for n in chosen) / 3
    value = crd(a, p, bank, rows_, log_z, mask, tau)
    assert value.item() == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_the_normaliser_is_the_mean_exponential_times_the_number_of_rows():
    a, p, bank = rows(0, 3), rows(1, 3), rows(2, 5)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 2:] = False
    exponentials = [math.exp(cos(a[i], p[i])) for i in range(3)]
    exponentials += [math.exp(cos(a[i], bank[k])) for i in range(3) for k in range(5) if mask[i, k]]
    expected = math.log(sum(exponentials) / len(exponentials) * 40)
    assert crd_log_normaliser(a, p, bank, 40, mask, 1.0).item() == pytest.approx(expected)


def test_crd_moves_the_anchor_alone_as_released():
    a, p, bank = rows(0).requires_grad_(), rows(1).requires_grad_(), rows(2, 9).requires_grad_()
    crd(a, p, bank, 100, 3.0).backward()
    assert bank.grad is None
    assert p.grad is None
    assert torch.autograd.gradcheck(lambda a: crd(a, p.detach(), bank.detach(), 100, 3.0), (a,))


def test_crd_moves_the_positive_too_where_asked():
    a, p, bank = rows(0).requires_grad_(), rows(1).requires_grad_(), rows(2, 9).requires_grad_()
    crd(a, p, bank, 100, 3.0, detach=False).backward()
    assert bank.grad is None
    assert torch.autograd.gradcheck(lambda a, p: crd(a, p, bank.detach(), 100, 3.0, detach=False), (a, p))


def test_crd_at_a_sharp_temperature_stays_finite():
    a = rows(0).float().requires_grad_()
    z = crd_log_normaliser(a, a, rows(1, 9).float(), 100, temperature=1e-3)
    value = crd(a, -a.detach(), rows(1, 9).float(), 100, z, temperature=1e-3)
    value.backward()
    assert value.isfinite()
    assert a.grad.isfinite().all()


# CRCD ----------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_crcd_is_its_definition(seed, n):
    s, t, tau = rows(seed, n), rows(seed + 1, n), 0.4
    terms = []
    for a in range(n):
        others = [j for j in range(n) if j != a]
        for i in others:
            e = {j: math.exp(cos(s[i] - t[a], t[j] - t[a]) / tau) for j in others}
            terms.append(-math.log(e[i] / sum(e.values())))
    expected = sum(terms) / len(terms)
    assert crcd(s, t, anchors=n, temperature=tau).item() == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_crcd_of_some_anchors_is_the_mean_over_those():
    s, t = rows(0), rows(1)
    mean = sum(crcd(s, t, 1, generator=torch.Generator().manual_seed(i)).item() for i in range(600)) / 600
    assert mean == pytest.approx(crcd(s, t, 6).item(), rel=0.1)
    assert torch.autograd.gradcheck(lambda s: crcd(s, t, 6), s.requires_grad_())
