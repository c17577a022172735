"""`inspect` names columns, modalities and groups that give the label, or whose row it is, away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocols.test_blocks import walk
from sidelight.data import Dataset
from sidelight.inspection import inspect

N, GROUPS = 240, 12


def make(task: str = "classification", **changes: Any) -> Dataset:
    """Three classes and 12 groups, independent of each other; features that hold a little of the target."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=N)
    target = (y + rng.normal(size=N))[:, None] if task == "regression" else y
    given: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": rng.normal(size=(N, 3)) + y[:, None] / 2, "voice": rng.normal(size=(N, 8, 2))},
        "target": target,
        "labelled": np.ones(N, bool),
        "task": task,
        "class_names": ("pain",) if task == "regression" else ("a", "b", "c"),
        "group": np.repeat(np.arange(GROUPS), N // GROUPS).astype(str),
        "columns": {"face": ("left", "mid", "right")},
    }
    return Dataset(**(given | changes))


def with_column(d: Dataset, values: Any) -> Dataset:
    """`mid` of `face` replaced."""
    face = d.inputs["face"].copy()
    face[:, 1] = values
    return make(d.task, inputs={**d.inputs, "face": face}, labelled=d.labelled, group=d.group)


def remarks(d: Dataset, strength: bool = False) -> str:
    return "\n".join(inspect(d, strength=strength).remarks)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_ordinary_data_are_not_suspected(task: str) -> None:
    assert remarks(make(task), strength=True) == ""


def test_columns_that_are_the_class() -> None:
    d = make()
    code = np.array([7.0, -1.0, 0.5])[d.target]
    assert "face: column 'mid' is one-to-one with the class: it may be the target itself" in remarks(
        with_column(d, code)
    )
    one_of_two = (d.target == 2).astype(float)
    assert "face: column 'mid' is constant within every class" in remarks(with_column(d, one_of_two))
    nearly = code.copy()
    nearly[3] += 1
    assert remarks(with_column(d, nearly)) == ""


def test_only_labelled_rows_tell() -> None:
    """A column that holds the class where a label is, and something else where none is, is the class too."""
    d = make(labelled=np.arange(N) % 5 != 0)
    column = np.where(d.labelled, d.target, 9)
    assert "one-to-one with the class" in remarks(with_column(d, column))


@pytest.mark.parametrize(
    "leak", [lambda y: 3 * y - 2, lambda y: -np.exp(y), lambda y: np.round(y * 8) / 8 + y], ids=["line", "curve", "sum"]
)
def test_columns_in_the_order_of_a_target(leak: Any) -> None:
    d = make("regression")
    said = remarks(with_column(d, leak(d.target[:, 0])))
    assert "face: column 'mid' is in the very order of target 'pain'" in said


def test_columns_that_name_the_group() -> None:
    d = make()
    number = np.asarray(d.group).astype(float)
    assert "face: column 'mid' is one-to-one with the group: a network may learn whose row" in remarks(
        with_column(d, number)
    )
    assert "face: column 'mid' is constant within every group" in remarks(with_column(d, number // 4))


def test_whole_modalities_that_name_the_group() -> None:
    d = make()
    site = np.random.default_rng(1).normal(size=(GROUPS, 8, 2))[np.asarray(d.group).astype(int)]
    assert "voice: all rows of a group are the same" in remarks(make(inputs={**d.inputs, "voice": site}))
    profile = site[:, 0]
    assert "voice: every column is one-to-one with the group" in remarks(
        make(inputs={"face": d.inputs["face"], "voice": profile})
    )


def test_groups_of_one_class() -> None:
    classes = np.arange(GROUPS)[np.asarray(make().group).astype(int)] % 3
    assert "every group has rows of one class only" in remarks(make(target=classes))
    assert "the group is one-to-one with the class" in remarks(make(group=np.array(list("abc"))[make().target]))


def test_a_modality_without_an_error() -> None:
    d = make()
    told = make(inputs={**d.inputs, "face": d.inputs["face"] + 50 * d.target[:, None]})
    assert "face alone predicts the target without an error (1.000)" in remarks(told, strength=True)


def test_targets_without_variety() -> None:
    assert "target 'pain' is 2.5 in every row" in remarks(make("regression", target=np.full((N, 1), 2.5)))
    d = make(group=None)
    parts = np.where(d.target == 1, "test", "train")
    assert "every 'test' row is of class 'b'" in remarks(make(group=None, split=parts))


def test_the_order_of_rows_without_groups() -> None:
    sorted_ = make(group=None, target=np.sort(make().target))
    assert "rows are sorted by class: this is not an order in time" in remarks(sorted_)
    series = make(group=None, inputs={"face": walk(N, columns=3)})
    assert "neighbouring rows resemble each other: in 'face'" in remarks(series)
    timed = make(group=None, inputs={"face": walk(N, columns=3)}, time=np.arange(N))
    assert "neighbouring" not in remarks(timed)
    assert "contiguous blocks" in inspect(timed).to_text()
