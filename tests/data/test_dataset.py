"""What a Dataset promises, and that whatever breaks a promise is named."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from sidelight import data
from sidelight.data import Dataset
from sidelight.errors import ConfigError, DataError


def make(**changes: Any) -> Dataset:
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": rng.normal(size=(6, 3)), "voice": rng.normal(size=(6, 5, 2))},
        "target": np.array([0, 1, 0, 1, 0, 1]),
        "labelled": np.ones(6, bool),
        "task": "classification",
        "class_names": ("calm", "stress"),
        "group": np.array(list("aabbcc")),
        "ids": np.array([f"r{i}" for i in range(6)]),
        "default_modalities": {"available": ["face"], "privileged": ["voice"]},
    }
    return Dataset(**(settings | changes))


def with_value(x: Any, where: tuple[int, ...], value: float) -> Any:
    x = np.array(x, np.float64)
    x[where] = value
    return x


def test_a_good_set_is_accepted_and_stored_in_the_promised_types() -> None:
    d = make()
    assert len(d) == 6
    assert d.modalities == ("face", "voice")
    assert d.shape("voice") == (5, 2)
    assert d.inputs["face"].dtype == np.float32
    assert d.target.dtype == np.int64
    assert d.present["voice"].all()
    assert make(ids=None).ids.tolist() == list("012345")


FACE, VOICE = np.ones((6, 3)), np.ones((6, 5, 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {"face": with_value(FACE, (4, 2), np.nan)}}, ["face", "nan", "row 4", "r4", "column 2", "impute"]),
        ({"inputs": {"voice": with_value(VOICE, (1, 3, 0), np.inf)}}, ["voice", "inf", "r1", "step 3", "channel 0"]),
        ({"inputs": {"face": FACE[:5]}}, ["face", "5 rows", "6"]),
        ({"inputs": {"face": np.ones((6, 2, 2, 2, 2, 2))}}, ["face", "(6, 2, 2, 2, 2, 2)", "(N, T, C)"]),
        ({"inputs": {"face.left": FACE}}, ["face.left", "dot"]),
        ({"inputs": {"face": np.ones((6, 0))}}, ["face", "empty"]),
        ({"inputs": {}}, ["no modalities"]),
        ({"ids": np.array(["a", "b", "c", "b", "e", "f"])}, ["'b'", "2 times", "[1, 3]"]),
        ({"group": np.array(list("aab"))}, ["group", "3 rows"]),
        ({"split": np.array(["train"] * 5 + ["tset"])}, ["tset", "'test'", "r5"]),
        ({"target": np.array([0, 1, 0, 2, 0, 1])}, ["r3", "2", "calm"]),
        ({"target": np.zeros(6, int)}, ["calm", "two classes"]),
        ({"target": np.zeros((6, 2), int)}, ["classification", "(6, 2)"]),
        ({"labelled": np.ones((6, 1), bool)}, ["labelled", "(6, 1)", "(6,)"]),
        ({"group": np.ones((6, 2))}, ["group", "(6, 2)", "(6,)"]),
        ({"labelled": np.zeros(6, bool)}, ["no row has a label"]),
        (
            {"task": "regression", "target": np.ones((6, 1)), "class_names": ("a", "b")},
            ["1 target columns", "'a', 'b'"],
        ),
        ({"present": {"face": np.zeros(6, bool)}}, ["face", "absent from every row"]),
        ({"present": {"fase": np.ones(6, bool)}}, ["fase", "'face'"]),
        ({"lengths": {"voice": np.array([5, 5, 9, 1, 1, 1])}}, ["voice", "r2", "9", "5 time steps"]),
        ({"lengths": {"face": np.ones(6)}}, ["face", "lengths", "(3,)"]),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        make(**changes)
    for word in ["toy", *words] if "present" not in changes or "fase" not in changes["present"] else words:
        assert word in str(error.value)


def test_a_bad_regression_target_is_named() -> None:
    y = with_value(np.ones((6, 2)), (3, 1), np.inf)
    with pytest.raises(DataError, match=r"'arousal' is inf in row 3 \(id 'r3'\)"):
        make(task="regression", target=y, class_names=("valence", "arousal"))


def test_unknown_task_and_impute_get_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'regression'"):
        make(task="regresion")
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        make(impute="maen")


def test_nan_may_stay_where_imputation_was_asked_for_but_inf_may_not() -> None:
    make(inputs={"face": with_value(FACE, (0, 0), np.nan)}, impute="mean")
    with pytest.raises(DataError, match="inf"):
        make(inputs={"face": with_value(FACE, (0, 0), np.inf)}, impute="mean")


def test_absent_rows_and_padding_become_zeros_and_the_callers_arrays_stay_as_they_were() -> None:
    face, voice = np.ones((6, 3), np.float32), np.ones((6, 5, 2), np.float32)
    face[0] = np.nan
    present = {"face": np.array([False] + [True] * 5), "voice": np.array([True] * 5 + [False])}
    d = make(inputs={"face": face, "voice": voice}, present=present, lengths={"voice": np.full(6, 3)})
    assert not d.inputs["face"][0].any()
    assert not d.inputs["voice"][:, 3:].any()
    assert not d.inputs["voice"][5].any()
    assert d.lengths["voice"].tolist() == [3, 3, 3, 3, 3, 0]
    assert np.isnan(face[0]).all()
    assert voice.all()


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ({}, [0, 1, -1, 1, 0, 1]),
        ({"task": "regression", "target": np.ones((6, 1)), "class_names": ("pain",)}, [1, 1, np.nan, 1, 1, 1]),
        ({"task": "regression", "target": with_value(np.ones(6), (2,), np.inf), "class_names": ("pain",)},
         [1, 1, np.nan, 1, 1, 1]),
    ],
)  # fmt: skip
def test_the_target_of_an_unlabelled_row_is_gone_and_the_callers_array_stays(changes: Any, hidden: list[float]) -> None:
    given = np.array(changes.get("target", make().target))
    before = given.copy()
    d = make(**(changes | {"target": given, "labelled": np.arange(6) != 2}))
    np.testing.assert_array_equal(d.target.reshape(6), hidden)
    np.testing.assert_array_equal(given, before)


def test_select_keeps_the_rows_and_the_part_of_the_question() -> None:
    d = make().select(["voice"])
    assert d.modalities == ("voice",)
    assert d.default_modalities == {"available": [], "privileged": ["voice"]}
    with pytest.raises(ConfigError, match="Did you mean 'voice'"):
        make().select(["voise"])


def test_resolve_takes_the_sets_own_question_or_the_given_lists() -> None:
    assert make().resolve() == (("face",), ("voice",))
    assert make().resolve(["voice"], ["face"]) == (("voice",), ("face",))


@pytest.mark.parametrize(
    ("available", "privileged", "message"),
    [
        (["face"], ["voise"], "privileged: unknown modality 'voise'. Did you mean 'voice'"),
        (["fase"], ["voice"], "available: unknown modality 'fase'. Did you mean 'face'"),
        (["face"], ["face"], "'face' is in both lists"),
        (["face", "face"], ["voice"], "given 2 times"),
    ],
)
def test_resolve_names_what_cannot_be(available: list[str], privileged: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make().resolve(available, privileged)
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["available", "privileged"])
def test_resolve_refuses_an_empty_list(kind: str) -> None:
    question = {k: v for k, v in make().default_modalities.items() if k != kind}
    with pytest.raises(ConfigError, match=f"no {kind} modality.*face, voice"):
        make(default_modalities=question).resolve()


def test_batch_pairs_everything_and_hides_what_is_not_labelled() -> None:
    d = make(labelled=np.array([True, True, True, False, True, True]))
    keep = np.array([True, False, True, True, True, True])
    batch = d.batch(modalities=["voice"], labelled=keep)
    assert set(batch.inputs) == set(batch.present) == {"voice"}
    assert batch.labelled.tolist() == [True, False, True, False, True, True]
    assert batch.target.tolist() == [0, -1, 0, -1, 0, 1]
    assert batch.index.tolist() == list(range(6))
    y = make(task="regression", target=np.ones((6, 1)), class_names=("pain",)).batch(labelled=keep).target
    assert torch.isnan(y[:, 0]).tolist() == [False, True, False, False, False, False]


def test_phone_watch_is_what_its_readme_says() -> None:
    d = data.load("phone-watch")
    assert len(d) == 3022
    assert d.group is not None
    assert len(np.unique(d.group)) == 23
    assert {d.shape(m) for m in d.modalities} == {(64, 3)}
    assert d.class_names == ("seated", "standing_up", "walking", "turning", "sitting_down")
    assert d.resolve() == (("phone_acc",), ("phone_gyro", "watch_acc", "watch_gyro"))
    assert d.default_modalities["label_fraction"] == [0.2, 1.0]
    assert "CC BY 4.0" in d.about["licence"]
    assert all(i.startswith(g) for i, g in zip(d.ids, d.group))
    entry = data.DATASETS["phone-watch"]
    assert entry.licence == d.about["licence"]
    assert "109809" in entry.citation


def test_reading_the_built_in_set_needs_neither_torch_nor_pandas() -> None:
    code = "import sys, sidelight.data as d; d.load('phone-watch'); print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
