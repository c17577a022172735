"""The label budget: which rows keep their labels, and which of them choose epochs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sidelight.data import Dataset
from sidelight.errors import DataError
from sidelight.protocols import LabelBudget, hide_labels, hold_out, share_labels, split
from sidelight.protocols import budget as budgets


def make(n: int = 240, groups: int | None = 24, **changes: Any) -> Dataset:
    settings: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": np.ones((n, 1)), "voice": np.ones((n, 1))},
        "target": np.arange(n) // 24 % 3,
        "labelled": np.ones(n, bool),
        "task": "classification",
        "class_names": ("a", "b", "c"),
        "group": None if groups is None else np.array([f"g{i % groups:02d}" for i in range(n)]),
    }
    return Dataset(**(settings | changes))


def share(d: Dataset, fraction: float, protocol: str = "group-kfold", **changes: Any) -> tuple[Any, LabelBudget]:
    fold = split(d, protocol, 4, 0.25, 0)[0]
    return fold, share_labels(d, fold, fraction, 0, protocol=protocol, **changes)


def groups_of(d: Dataset, rows: np.ndarray) -> set[str]:
    assert d.group is not None
    return set(d.group[rows].tolist())


def test_half_the_labels_are_half_the_train_groups_and_half_the_select_groups() -> None:
    """24 groups in 4 folds: 6 test, round(0.25 · 18) = 4 select, 14 train; half of 14 + 4 keep their labels."""
    d = make()
    fold, inner = share(d, 0.5)
    both = np.union1d(fold.train, fold.select)
    assert len(groups_of(d, fold.train)) == 14
    assert len(groups_of(d, fold.select)) == 4
    kept = groups_of(d, both[inner.kept[both]])
    assert len(kept & groups_of(d, fold.train)) == 7
    assert len(kept & groups_of(d, fold.select)) == 2
    assert (inner.way, inner.inner_folds) == ("inner", 3)
    assert inner.train.tolist() == both.tolist()
    assert inner.select.tolist() == both[inner.kept[both]].tolist()

    _, part = share(d, 0.5, select_labels="part")
    assert (part.kept == inner.kept).all(), "both ways have the same labels"
    assert groups_of(d, part.select) == kept & groups_of(d, fold.select)
    assert np.union1d(part.train, part.select).tolist() == both.tolist()
    assert not set(part.train) & set(part.select)


def test_fewer_labels_are_a_part_of_more() -> None:
    d = make()
    masks = [share(d, f)[1].kept for f in (0.1, 0.3, 0.6)]
    for few, more in pairwise(masks):
        assert not (few & ~more).any()


def test_all_labels_leave_the_fold_as_it_is_drawn() -> None:
    d = make()
    fold, whole = share(d, 1.0)
    assert (whole.way, whole.inner) == ("part", None)
    assert whole.train is fold.train
    assert whole.select is fold.select
    assert whole.kept.all()


def test_extra_hides_labels_of_train_rows_alone() -> None:
    d = make()
    fold, extra = share(d, 0.5, select_labels="extra")
    assert extra.way == "extra"
    assert extra.train is fold.train
    assert extra.select is fold.select
    assert (extra.kept == hide_labels(d, fold.train, 0.5, 0)).all()
    assert extra.kept[fold.select].all()


def test_many_labels_choose_epochs_on_a_part_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two select groups of 10 rows are few by the rows, by the groups, or not at all."""
    d = make()
    for rows, groups, way in ((20, 2, "part"), (21, 2, "inner"), (20, 3, "inner")):
        monkeypatch.setattr(budgets, "ENOUGH_ROWS", rows)
        monkeypatch.setattr(budgets, "ENOUGH_GROUPS", groups)
        assert share(d, 0.5)[1].way == way


@pytest.mark.parametrize("grouped", [True, False])
def test_inner_folds_divide_the_labelled_rows(grouped: bool) -> None:
    d = make(groups=24 if grouped else None)
    protocol = "group-kfold" if grouped else "random"
    _, own = share(d, 0.5, protocol)
    parts = [hold_out(d, own, i, protocol, 0.0) for i in range(3)]
    assert np.sort(np.concatenate([p.select for p in parts])).tolist() == own.select.tolist()
    for p in parts:
        assert own.kept[p.select].all()
        assert not set(p.train) & set(p.select)
        assert set(d.target[p.select]) == set(d.target[p.train[p.kept[p.train]]]) == {0, 1, 2}
        if grouped:
            assert not groups_of(d, p.train) & groups_of(d, p.select)
            assert len(groups_of(d, p.select)) == 3
        else:
            assert len(p.train) == len(own.train) - len(p.select), "unlabelled rows train in every inner fold"


def test_inner_blocks_keep_the_gap() -> None:
    """No train row of an inner fold is a row held out, or at most 2 rows from a labelled one of them."""
    d = make(groups=None)
    fold = split(d, "blocks", 4, 0.25, 0, gap=2)[1]
    own = share_labels(d, fold, 1.0, 0, protocol="blocks", select_labels="inner")
    for i in range(3):
        part = hold_out(d, own, i, "blocks", 2)
        assert (np.diff(part.select) > 0).all()
        assert np.abs(part.train[:, None] - part.select).min() > 2
    hidden = share_labels(d, fold, 0.5, 0, protocol="blocks", select_labels="part")
    assert hidden.train.tolist() == fold.train.tolist(), "neighbours of select rows do not train"


def test_too_few_labels_to_choose_epochs_are_an_error_that_names_the_way_out() -> None:
    d = make()
    with pytest.raises(DataError, match=r"rows keep their label at label_fraction=0\.5.*select_labels=extra"):
        share(d, 0.5, measurable=lambda rows: False)
    _, two = share(d, 0.01)
    assert two.inner_folds == 2, "a group of train and one of select keep their labels: two inner folds"


def test_a_class_without_score_in_one_inner_fold_asks_for_fewer_folds() -> None:
    d = make()
    _, own = share(d, 0.5, measurable=lambda rows: len(rows) > 30)
    assert own.inner_folds == 2


def test_hidden_rows_and_labels_that_never_were_there_are_different_things() -> None:
    """A row without a label in the data does not count as a label of the budget."""
    d = make()
    bare = replace(d, labelled=np.arange(240) % 24 != 0)
    fold, own = share(bare, 0.5)
    both = np.union1d(fold.train, fold.select)
    assert not own.kept[~bare.labelled].any()
    named = groups_of(bare, fold.train[bare.labelled[fold.train]])
    kept = groups_of(bare, both[own.kept[both]])
    assert len(kept & groups_of(bare, fold.train)) == round(0.5 * len(named))
