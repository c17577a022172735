"""Losses with padding rows (`valid`): those of the real rows, alone and for a stack of models under `torch.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from helpers.slow import mostly_slow
from sidelight import losses
from sidelight.methods.structural import PKDOT
from sidelight.transport import LearnedWeights
from sidelight.transport.padded_anchors import PADDED_ANCHORS

pytestmark = pytest.mark.filterwarnings("error:There is a performance drop")  # vmap would call each model in turn

Loss = Callable[..., Tensor]
"""A function of student, teacher, class codes and `valid`."""


def unlabelled(name: str, **options: object) -> Loss:
    loss = partial(getattr(losses, name), **options)
    return lambda s, t, y, valid=None: loss(s, t, valid=valid)


LOSSES: dict[str, Loss] = {
    "soft_label_kl": unlabelled("soft_label_kl"),
    "squared_error": unlabelled("squared_error"),
    "cosine_distance": unlabelled("cosine_distance"),
    "cosine_distance weighted": lambda s, t, y, valid=None: losses.cosine_distance(s, t, t[:, 0].sigmoid(), valid),
    "rkd_distance": unlabelled("rkd_distance"),
    "rkd_angle": unlabelled("rkd_angle"),
    "rkd": unlabelled("rkd"),
    "dask": unlabelled("dask"),
    "similarity_preserving": unlabelled("similarity_preserving"),
    "pkt": unlabelled("pkt"),
    "gaussian_mmd": unlabelled("gaussian_mmd"),
    "jensen_shannon": unlabelled("jensen_shannon"),
    "jeffreys": unlabelled("jeffreys"),
    "info_nce": unlabelled("info_nce"),
    "class_nce": lambda s, t, y, valid=None: losses.class_nce(s, t, y, valid=valid),
    "soft_label_kl standardised": unlabelled("soft_label_kl", standardize=True),
    "decoupled_kl": lambda s, t, y, valid=None: losses.decoupled_kl(s, t, y, valid=valid),
    "dist": unlabelled("dist"),
    "column_correlation": unlabelled("column_correlation"),
    "gaussian_wasserstein": unlabelled("gaussian_wasserstein"),
    "frequency_distance": unlabelled("frequency_distance", high=True),
    "wasserstein_logits": lambda s, t, y, valid=None: losses.wasserstein_logits(
        s, t, y, 0.6 * (1 - torch.eye(5).to(s)), valid=valid
    ),
    "gmc": lambda s, t, y, valid=None: losses.gmc([s, s[:, [1, 0, 2, 4, 3]]], t, valid=valid),
}

STRUCTURAL = {
    "paper": {},
    "released": {"preset": "released"},
    "sidelight": {"preset": "sidelight"},
    "divergence, relative": {"preset": "sidelight", "alignment": None},
    "fewer anchors": {"k": 3},
    "shift": {"shift": True},
    "released anchors": {"anchors": "released", "k": 3},
    "farthest_point": {"anchors": "farthest_point", "k": 4},
    "class_balanced": {"anchors": "class_balanced", "k": 4},
    "row": {"alignment": "row", "identity": 0.5},
    "index": {"alignment": "index", "k": 3},
    "label": {"alignment": "label", "penalty": 0.5, "k": 3},
    "identity": {"identity": 2.0},
    "index, relative": {"preset": "sidelight", "alignment": "index"},
}


def structural(preset: str = "paper", **settings: object) -> Loss:
    """Solved until only rounding is left: at a coarser tolerance, a stack is as exact as each alone, but not equal."""
    loss = losses.StructuralTransport(preset, **{"k": 9, "tolerance": 1e-13, **settings})
    return lambda s, t, y, valid=None: loss(s, t, labels=y, valid=valid)


LOSSES |= {f"structural_transport {name}": structural(**settings) for name, settings in STRUCTURAL.items()}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
ROWS = (9, 6, 2, 1, 0)
"""The real rows of each model of the stack."""


def models(padding: float | None = None, seed: int = 0) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Student, teacher and class codes of each model, with padding rows up to 9 where there is a number for them."""
    g = torch.Generator().manual_seed(seed)
    made = [], [], []
    for n in ROWS:
        size = n if padding is None else max(ROWS)
        for parts in made[:2]:
            x = torch.full((size, 5), 0.0 if padding is None else padding, dtype=torch.float64)
            x[:n] = torch.randn(n, 5, generator=g, dtype=torch.float64)
            parts.append(x)
        codes = torch.arange(size) % 3
        codes[4:6] = -1
        made[2].append(codes)
    return made


def masks() -> Tensor:
    return torch.arange(max(ROWS)) < torch.tensor(ROWS)[:, None]


@every_loss
@pytest.mark.parametrize("padding", mostly_slow([0.0, 7.0, 1e30, torch.nan, torch.inf], [7.0, torch.nan]))
@pytest.mark.parametrize("outside", [False, True], ids=["grad inside vmap", "autograd outside"])
def test_a_stack_of_padded_models_gives_what_each_gives_alone(loss, padding, outside):
    alone = [alone_on(loss, *parts) for parts in zip(*models())]
    s, t, y = map(torch.stack, models(padding))
    if outside:
        s.requires_grad_()
        values = vmap(loss)(s, t, y, masks())
        (grads,) = torch.autograd.grad(values.sum(), s)
    else:
        grads, values = vmap(grad_and_value(loss))(s, t, y, masks())
    for m, (value, grad) in enumerate(alone):
        assert_close(values[m], value)
        assert_close(grads[m, : ROWS[m]], grad)
        assert not grads[m, ROWS[m] :].any()


@every_loss
def test_a_mask_without_padding_changes_nothing(loss):
    for s, t, y in zip(*models()):
        if len(s):
            value, grad = alone_on(loss, s, t, y)
            own = s.clone().requires_grad_()
            masked = loss(own, t, y, torch.ones(len(s), dtype=torch.bool))
            masked.backward()
            assert_close(masked.detach(), value)
            assert_close(own.grad, grad)


@every_loss
def test_padding_rows_may_stand_anywhere(loss):
    s, t, y = (parts[0] for parts in models())
    valid = torch.tensor([True, False, True, True, False, True, True, False, True])
    value, grad = alone_on(loss, s[valid], t[valid], y[valid])
    grads, values = grad_and_value(loss)(s, t, y, valid)
    assert_close(values, value)
    assert_close(grads[valid], grad)


def test_that_check_bites_where_a_loss_counts_padding():
    def mean_of_all(s: Tensor, t: Tensor, y: Tensor, valid: Tensor | None = None) -> Tensor:
        return (s - t).square().mean()

    with pytest.raises(AssertionError):
        test_a_stack_of_padded_models_gives_what_each_gives_alone(mean_of_all, 7.0, False)


def test_that_check_bites_where_what_padding_holds_reaches_the_gradient():
    def masked_too_late(s: Tensor, t: Tensor, y: Tensor, valid: Tensor | None = None) -> Tensor:
        per_row = (s - t).square().mean(1)
        return per_row.mean() if valid is None else per_row.where(valid, 0.0).sum() / valid.sum().clamp(min=1)

    with pytest.raises(AssertionError):
        test_a_stack_of_padded_models_gives_what_each_gives_alone(masked_too_late, torch.nan, False)


@pytest.mark.parametrize("anchors", PADDED_ANCHORS)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_anchors_are_never_padding(anchors, k):
    unit = torch.nn.functional.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    for valid in (*masks(), torch.tensor([False, True] * 4 + [False])):
        n = int(valid.sum())
        labels = (torch.arange(9) % 3).where(valid, -1)
        index = PADDED_ANCHORS[anchors](k, unit * valid[:, None], valid, labels)
        chosen = torch.atleast_2d(index[..., : min(n, k)])
        assert valid[chosen].all()
        assert all(len(set(row)) == min(n, k) for row in chosen.tolist())


@pytest.mark.parametrize("preset", ["paper", "sidelight"])
def test_a_model_that_diverged_leaves_the_others_alone(preset):
    s, t, y = map(torch.stack, models(0.0))
    s[1, 2, 0] = torch.nan
    t[2, 0] = torch.inf
    grads, values = vmap(grad_and_value(structural(preset)))(s, t, y, masks())
    assert values.isfinite().tolist() == [True, False, False, True, True]
    assert grads.flatten(1).isfinite().all(1).tolist() == [True, False, False, True, True]
    value, grad = alone_on(structural(preset), *(parts[0] for parts in models()))
    assert_close(values[0], value)
    assert_close(grads[0], grad)


@pytest.mark.parametrize("preset", ["paper", "sidelight"])
def test_rows_whose_squares_overflow_still_have_directions(preset):
    s, t, y = (parts[0] for parts in models())
    loss, every = structural(preset), torch.ones(len(s), dtype=torch.bool)
    grads, values = grad_and_value(loss)(s * 1e200, t * 1e-200, y, every)
    alone, own = alone_on(loss, s * 1e200, t * 1e-200, y)
    assert_close(values, alone)
    assert_close(grads * 1e200, own * 1e200)


def test_labels_may_be_left_out_where_they_are_not_read():
    s, t, _ = (parts[0] for parts in models())
    loss = losses.StructuralTransport(k=3)
    assert_close(loss(s, t, valid=masks()[0]), loss(s, t, torch.arange(9), valid=masks()[0]))
    for settings in ({"anchors": "class_balanced"}, {"alignment": "label"}):
        with pytest.raises(ValueError, match="needs labels"):
            losses.StructuralTransport(**settings)(s, t, valid=masks()[0])


def test_anchor_weights_need_batches_without_padding():
    s, t, _ = (parts[0] for parts in models())
    with pytest.raises(ValueError, match="without padding rows"):
        losses.StructuralTransport(anchor_weights=LearnedWeights(5))(s, t, valid=masks()[0])


@pytest.mark.parametrize("anchors", ["random", "k_medoids"])
def test_anchors_that_depend_on_draws_or_rounding_need_batches_without_padding(anchors):
    s, t, _ = (parts[0] for parts in models())
    with pytest.raises(ValueError, match=f"'{anchors}' .* without padding rows: expected one of 'paper', "):
        losses.StructuralTransport(anchors=anchors)(s, t, valid=masks()[0])
    assert not PKDOT(anchors=anchors).stackable
    assert PKDOT(anchors="farthest_point").stackable


def alone_on(loss: Loss, s: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if not len(s):
        return torch.zeros((), dtype=s.dtype), s
    own = s.clone().requires_grad_()
    value = loss(own, t, y)
    value.backward()
    return value.detach(), own.grad


def assert_close(value: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
