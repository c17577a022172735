"""Where CRD takes the positive of a row from: the memory bank, as released, or the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.support import AVAILABLE, make_network, make_rows, speech, task_of
from sidelight.config import Config
from sidelight.errors import ConfigError
from sidelight.methods import Distillation, TrainState
from sidelight.methods.contrastive import CRD

TASK = task_of("classification")
ROWS = make_rows("classification")
BATCH = ROWS.index_select(torch.arange(8))


def method(positive: str) -> Distillation:
    torch.manual_seed(0)
    term = CRD(width=8, negatives=64, positive=positive)
    made = Distillation(make_network(AVAILABLE, TASK), speech("classification", "complete"), TASK, {"crd": term}, ROWS)
    bank = torch.randn(made.parts["crd"].bank.shape, generator=torch.Generator().manual_seed(1))
    made.parts["crd"].bank.copy_(F.normalize(bank, dim=2))  # a bank that lags behind the batch, as it does in training
    return made.train()


def released(made: Distillation) -> Tensor:
    """The released computation, spelt out row by row: out_v1 scores v1 on the bank of v2, and the other way round.

    Positive and negatives are rows of one bank, [own row, rows of other classes], and neither has a gradient.
    """
    crd = made.parts["crd"]
    student, teacher = made.student(BATCH), made.teachers[""](BATCH)
    v1, v2 = (
        F.normalize(crd.of_student(student.embedding), dim=1),
        F.normalize(crd.of_teacher(teacher.embedding), dim=1),
    )
    total = torch.zeros(())
    for anchor, bank in ((v1, crd.bank[1].clone()), (v2, crd.bank[0].clone())):
        scores = []
        for a, i in zip(anchor, BATCH.index):
            others = (ROWS.target != ROWS.target[i]).nonzero()[:, 0]
            scores.append(torch.exp(bank[torch.cat([i[None], others])] @ a / crd.temperature))
        z = torch.cat(scores).mean().detach() * len(ROWS)  # the constant Z of the first batch
        for row in scores:
            p, number = row / z, len(row) - 1
            total = total - torch.log(p[0] / (p[0] + number / len(ROWS)))
            total = total - torch.log((number / len(ROWS)) / (p[1:] + number / len(ROWS))).sum()
    return total / len(BATCH)


def gradient(value: Tensor, made: Distillation) -> Tensor:
    parameters = [p for p in made.parameters() if p.requires_grad]
    grads = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, grads)])


def test_by_default_crd_is_the_released_computation_in_value_and_gradient():
    made = method("bank")
    torch.manual_seed(3)
    expected = released(made)
    slope = gradient(expected, made)
    torch.manual_seed(3)
    value = made.terms(BATCH, TrainState())["crd"]
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient(value, made), slope, rtol=1e-4, atol=1e-6)


def test_positives_of_the_batch_are_another_loss():
    """The check above bites: with what the batch holds as the positive, value and gradient differ."""
    values, slopes = [], []
    for positive in ("bank", "batch"):
        made = method(positive)
        torch.manual_seed(3)
        value = made.terms(BATCH, TrainState())["crd"]
        values.append(value.item())
        slopes.append(gradient(value, made))
    assert abs(values[0] - values[1]) > 0.05 * abs(values[0])
    assert F.cosine_similarity(slopes[0], slopes[1], dim=0) < 0.9


def test_the_bank_moves_only_after_it_was_read():
    made = method("bank")
    before = made.parts["crd"].bank.clone()
    first = made.terms(BATCH, TrainState())["crd"]
    moved = made.parts["crd"].bank
    assert not torch.equal(moved[:, :8], before[:, :8])
    assert torch.equal(moved[:, 8:], before[:, 8:])
    first.backward()  # the rows that it read were copies: moving the bank does not spoil their gradient


def test_a_misspelt_source_of_positives_is_named():
    with pytest.raises(ConfigError, match="'bank' or 'batch', not 'bnk'"):
        CRD(positive="bnk")
    assert CRD.from_config(Config(), positive="batch").positive == "batch"
