"""The made-up data sets hold what their regimes promise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import sidelight as sl
from sidelight.data import load
from sidelight.data.builtin.synthetic import PREFIX, REGIMES, synthetic
from sidelight.errors import ConfigError


def _score(data: sl.Dataset, *modalities: str) -> float:
    """Test accuracy of a linear model."""
    x = np.concatenate([data.inputs[m] for m in modalities], 1)
    train = data.split != "test"
    model = LogisticRegression(C=0.1, max_iter=200).fit(x[train], data.target[train])
    return float(model.score(x[~train], data.target[~train]))


@pytest.mark.parametrize("regime", REGIMES)
def test_a_seed_draws_the_same_rows_and_another_seed_others(regime: str) -> None:
    first, again, other = load(PREFIX + regime), synthetic(regime, 0), synthetic(regime, 1)
    for m in first.inputs:
        assert np.array_equal(first.inputs[m], again.inputs[m])
        assert not np.array_equal(first.inputs[m], other.inputs[m])
    assert np.array_equal(first.target, again.target)
    assert first.default_modalities["label_fraction"] == [REGIMES[regime].label_fraction]
    assert set(first.target.tolist()) == set(range(REGIMES[regime].classes))


def test_a_closed_gap_needs_both_sensors() -> None:
    data = synthetic("closed-gap")
    alone = _score(data, "camera"), _score(data, "wearable")
    assert max(alone) < 0.55  # one bit of two
    assert _score(data, "camera", "wearable") > 0.75


def test_an_uninformative_sensor_predicts_nothing() -> None:
    data = synthetic("uninformative")
    assert abs(_score(data, "wearable") - 1 / 4) < 0.06


def test_only_labels_outside_the_test_part_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = synthetic("noisy-labels")
    monkeypatch.setitem(REGIMES, "noisy-labels", REGIMES["noisy-labels"].__class__("", flipped=0.0))
    true = synthetic("noisy-labels")
    wrong: NDArray = noisy.target != true.target
    assert not wrong[noisy.split == "test"].any()
    assert 0.25 < wrong[noisy.split != "test"].mean() < 0.35


def test_missing_rows_are_absent_and_hold_zeros() -> None:
    data = synthetic("missing-privileged")
    assert 0.45 < data.present["wearable"].mean() < 0.55
    assert not data.inputs["wearable"][~data.present["wearable"]].any()


def test_an_unknown_regime_is_named_with_its_neighbour() -> None:
    with pytest.raises(ConfigError, match="few-labels"):
        sl.synthetic("few-lables")
