"""`inspect` counts what is there and scores modalities without letting groups straddle."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest

from sidelight.data import Dataset
from sidelight.errors import DataError
from sidelight.inspection import inspect
from sidelight.protocols import split


def make(groups: bool = True, task: str = "classification") -> Dataset:
    rng = np.random.default_rng(0)
    n = 120
    y = np.arange(n) % 3
    who = np.repeat(np.arange(12), 10)
    signal = rng.normal(size=(n, 16, 2)) * (1 + y)[:, None, None]
    voice_there = np.arange(n) % 10 != 0
    face = rng.normal(size=(n, 3))
    face[:, 2] = 1
    face[5, 0] = np.nan
    return Dataset(
        name="toy",
        inputs={"face": face, "voice": signal},
        target=y if task == "classification" else np.stack([y + rng.normal(size=n) / 9, np.full(n, np.nan)], 1),
        labelled=np.arange(n) != 7,
        task=task,
        class_names=("a", "b", "c") if task == "classification" else ("pain", "nothing"),
        present={"voice": voice_there},
        lengths={"voice": np.where(np.arange(n) % 2, 16, 12)},
        group=who.astype(str) if groups else None,
        default_modalities={"available": ["face"], "privileged": ["voice"]},
        impute="mean",
    )


def test_counts() -> None:
    found = inspect(make(), strength=False)
    assert (found.rows, found.unlabelled, found.task) == (120, 1, "classification")
    face, voice = found.modalities
    assert (face.role, face.shape, face.missing, face.nan, face.lengths, face.constant) == (
        "available", (3,), 0, 1, None, 1,
    )  # fmt: skip
    assert (voice.role, voice.shape, voice.missing, voice.nan, voice.lengths) == (
        "privileged", (16, 2), 12, 0, (12, 16, 16),
    )  # fmt: skip
    assert found.classes == {"a": 40, "b": 39, "c": 40}
    assert len(found.groups) == 12
    assert set(found.groups.values()) == {10}
    assert found.strengths == ()
    assert any("face: 1 of 3 columns are constant" in r for r in found.remarks)


def test_strengths_show_which_modality_knows() -> None:
    found = inspect(make())
    scores = {s.modalities: s.mean for s in found.strengths}
    assert set(scores) == {("face",), ("voice",), ("face", "voice")}
    assert scores["voice",] > 0.75 > 0.55 > scores["face",]
    assert abs(found.chance - 40 / 119) < 1e-9


def test_regression_is_scored_by_concordance() -> None:
    found = inspect(make(task="regression"))
    assert found.metric == "ccc"
    assert found.targets["pain"]["rows"] == 119
    assert found.targets["nothing"] == {"rows": 0.0}
    scores = {s.modalities: s.mean for s in found.strengths}
    assert scores["voice",] > 0.6 > 0.3 > scores["face",]


def test_text_and_dict_hold_everything_and_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inspect(make())
    text = found.to_text()
    for word in ("toy: 120 rows (1 unlabelled)", "16 × 2", "privileged", "12–16–16", "chance", "all", "accuracy"):
        assert word in text
    assert json.loads(json.dumps(found.to_dict()))["classes"] == {"a": 40, "b": 39, "c": 40}


def test_a_group_in_two_official_splits_is_a_remark() -> None:
    data = make()
    data.split = np.where(np.arange(120) < 60, "train", "test")
    assert not any("official splits" in r for r in inspect(data, strength=False).remarks)
    data.split[65] = "train"
    says = "group '6' of toy is in 2 official splits (test, train); it belongs to one"
    assert says in inspect(data, strength=False).remarks
    with pytest.raises(DataError, match=re.escape(says)):
        split(data)


def test_data_too_small_to_score_are_still_described() -> None:
    target, group = np.array([0, 1, 0, 1]), np.array(list("aabb"))
    few = Dataset("tiny", {"x": np.ones((4, 1))}, target, target >= 0, "classification", ("a", "b"), group=group)
    found = inspect(few)
    assert found.strengths == ()
    assert any("no strengths" in r and "2 groups" in r for r in found.remarks)
    assert "no groups" in " ".join(inspect(make(groups=False), strength=False).remarks)
