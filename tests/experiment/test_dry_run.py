"""A dry run builds the encoders and runs each on one row of its modality."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from helpers.small import BASE, make_data
from sidelight.cli import main
from sidelight.config import load_config
from sidelight.data import Dataset
from sidelight.errors import ConfigError
from sidelight.experiment.dry_run import build_on_one_row
from sidelight.experiment.resolve import resolve
from sidelight.networks.encoders import MLPEncoder, SignalEncoder


def settle(data, **settings):
    return resolve(load_config({**BASE, "data": "x", "output": "x", **settings}), data)


def test_every_encoder_is_built_and_run():
    data = make_data()
    network = build_on_one_row(settle(data), data)
    assert network.reads == ("phone", "watch", "pulse")
    # The pulse is a signal of varying length, of which the statistics are read.
    assert isinstance(network.encoders["pulse"], MLPEncoder)


def test_of_sound_the_statistics_of_its_frames_are_read_unless_another_encoder_is_asked_for():
    n = 12
    sound = np.random.default_rng(0).normal(0, 0.1, (n, 3200, 1)).astype(np.float32)
    given = {"schema": {"phone": {"spectrogram": "speech"}}, "group": np.arange(n).astype(str)}
    inputs = {"phone": sound, "watch": np.ones((n, 3)), "pulse": sound}
    data = Dataset("x", inputs, np.arange(n) % 2, np.ones(n, bool), "classification", ("a", "b"), **given)
    config = settle(data)
    network = build_on_one_row(config, data)
    assert network.encoders["phone"].settings["shape"] == [65 * 18]  # of 64 bands and their norm
    asked = settle(data, network={**BASE["network"], "encoders": {"phone": "cnn"}})
    network = build_on_one_row(asked, data)
    assert isinstance(network.encoders["phone"], SignalEncoder)
    assert network.encoders["phone"].settings["shape"] == [21, 64]


class Brittle(nn.Module):
    """Reads zeros, and fails on the values of a row."""

    def __init__(self, shape):
        super().__init__()
        self.linear = nn.Linear(shape[0], 4)

    def forward(self, x):
        if x.any():
            raise ValueError("only zeros, please")
        return self.linear(x)


def test_an_encoder_that_fails_on_a_row_is_named():
    data = make_data()
    with pytest.raises(ConfigError, match=r"the encoder of 'watch' fails on row .*ValueError: only zeros, please"):
        build_on_one_row(settle(data), data, {"watch": Brittle})


def test_what_an_encoder_does_not_read_is_said_before_the_run(capsys):
    words = ["run", "phone-watch", "--dry-run", "network.encoders.watch_acc=cnn14", "--folds", "2", "--seeds", "1"]
    assert main(words) == 2
    assert "'watch_acc': encoder 'cnn14' reads log-mel spectrograms" in capsys.readouterr().err
