"""`training.accumulate`: encoders read a batch in pieces, and every loss sees the whole batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.equal_training import BOUND, SETTINGS, compare, subject_of, train
from helpers.slow import mostly_slow
from sidelight.errors import ConfigError

METHODS = (
    "teacher:classification", "kl:segmentation", "pkdot:classification", "crd:classification", "mers:regression",
    "amid:classification", "osmd:classification", "mtnet:regression", "admd:classification",
    "kl:classification:gradnorm", "dropped", "sequences", "online",
)  # fmt: skip
QUICK = ("pkdot:classification", "osmd:classification", "kl:classification:gradnorm", "dropped", "sequences", "online")
"""A sum of losses, a method of stages, weighed gradients, and every kind of rows."""


@pytest.mark.parametrize("name", mostly_slow(METHODS, QUICK))
def test_pieces_train_as_the_whole_batch(name):
    subject, balance = subject_of(name)
    whole = train(subject.fresh(torch.float64), subject, balance)
    for accumulate in (3, 100):
        pieces = train(subject.fresh(torch.float64), subject, balance, replace(SETTINGS, accumulate=accumulate))
        assert compare(whole, pieces)[0] <= BOUND


def test_an_encoder_never_reads_more_than_a_piece_with_gradients():
    subject, balance = subject_of("teacher:classification")
    method, seen = subject.fresh(torch.float64), set()
    encoder = method.network.encoders["phone"]
    encoder.register_forward_hook(lambda _, x, out: seen.add((len(x[0]), encoder.training)))
    train(method, subject, balance, replace(SETTINGS, accumulate=3))
    assert {rows for rows, training in seen if training} == {2}  # batches of 6 rows
    assert {rows for rows, training in seen if not training} == {24}


def test_batch_normalisation_is_refused():
    subject, balance = subject_of("normalised")
    with pytest.raises(ConfigError, match=r"training.accumulate=2: batch normalisation in an encoder takes its statis"):
        train(subject.fresh(torch.float64), subject, balance, replace(SETTINGS, accumulate=2))
