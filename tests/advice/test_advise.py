"""advise: it tells regimes in which a teacher helps from those in which it cannot, and its parts are right by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sidelight as sl
from sidelight.advice import pilot
from sidelight.advice.advise import ERROR, WIDTH
from sidelight.advice.models import estimate_label_noise, gaussian_information
from sidelight.cli import main
from sidelight.data.builtin.synthetic import synthetic
from sidelight.errors import ConfigError, DataError
from sidelight.reference_models import Reference


@pytest.fixture(autouse=True)
def _one_repeat(monkeypatch):
    monkeypatch.setattr(pilot, "REPEATS", 1)


@pytest.mark.slow
def test_the_gap_that_cannot_be_closed_is_told():
    found = sl.advise(synthetic("closed-gap"))
    assert found.recipe == "nothing-can-pass"
    assert found.lead_low > 0.2
    assert found.gain_low < 0 < found.gain_high
    assert found.gain_high - found.gain > ERROR * WIDTH > 2 * found.spread  # a study misses by more than its pilot
    assert found.passes[0] < 0.5 * found.passes[1]


@pytest.mark.slow
def test_noise_of_a_sensor_gives_the_baseline_and_json_says_the_same(capsys):
    assert main(["advise", "synthetic-uninformative", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"] == "baseline"
    assert told["counts"]["rows"] == 512  # those of the official test part are not read
    assert told == sl.advise(synthetic("uninformative")).to_dict()


@pytest.mark.slow
def test_test_rows_are_not_read():
    data = synthetic("uninformative")
    before = sl.advise(data)
    data.target[data.split == "test"] = 0
    data.inputs["camera"][data.split == "test"] = 9
    assert sl.advise(data) == before


def test_values_have_an_answer():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(240, 2))
    data = sl.Dataset(
        name="values",
        inputs={"a": hidden + rng.normal(size=(240, 2)), "b": hidden + rng.normal(size=(240, 2)) / 9},
        target=hidden[:, :1],
        labelled=np.ones(240, bool),
        task="regression",
        class_names=("y",),
        group=np.repeat(np.arange(24), 10).astype(str),
    )
    found = sl.advise(data, ["a"], ["b"], label_fraction=0.25)
    assert found.metric == "ccc"
    assert found.lead_low > 0.05
    assert "points of accuracy" not in found.to_text()
    with pytest.raises(ConfigError, match="privileged"):
        sl.advise(data, ["a"])
    with pytest.raises(DataError, match="3 labelled groups"):
        sl.advise(data.take(np.arange(30)), ["a"], ["b"])


def test_soft_labels_of_certain_classes_are_labels():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(60, 3)), np.arange(60) % 3
    soft = np.eye(3)[label] * (1 - 3e-4) + 1e-4
    hard = Reference(3).fit(x, np.eye(3)[label]).predict(x)
    assert np.allclose(Reference(3).fit(x, soft).predict(x), hard, atol=1e-3)


def test_information_of_gaussians_is_that_of_their_correlation():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 20000, 1))
    b = 0.8 * a + 0.6 * noise
    assert gaussian_information(a, b) == pytest.approx(-0.5 * np.log2(1 - 0.8**2), abs=0.02)
    assert gaussian_information(a, noise) == pytest.approx(0, abs=1e-3)


def test_flipped_labels_look_wrong():
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=3000)
    flipped = rng.random(3000) < 0.2
    target = np.where(flipped, (true + 1) % 3, true)
    predicted = np.eye(3)[true] * 0.7 + 0.1
    assert estimate_label_noise(predicted, target) == pytest.approx(0.2, abs=0.03)
