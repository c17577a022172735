"""Folds are disjoint in groups, labelled where they are scored, and say what is wrong with the data."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelight import data
from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.protocols import FOLDS, Fold, hide_labels, resolve_protocol, split
from sidelight.protocols.strata import warn_single_class


def make(n: int = 60, groups: int | None = 12, classes: int = 3, seed: int = 0, **changes: Any) -> Dataset:
    rng = np.random.default_rng(seed)
    target = np.arange(n) % classes
    rng.shuffle(target)
    settings: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": np.ones((n, 1)), "voice": np.ones((n, 1))},
        "target": target,
        "labelled": np.ones(n, bool),
        "task": "classification",
        "class_names": tuple("abcdefgh"[:classes]),
        "group": None if groups is None else np.array([f"g{i % groups:02d}" for i in range(n)]),
    }
    return Dataset(**(settings | changes))


def regression(n: int = 60, **changes: Any) -> Dataset:
    y = np.random.default_rng(0).normal(size=(n, 2))
    return make(n, task="regression", target=y, class_names=("valence", "arousal"), **changes)


def names(d: Dataset, rows: np.ndarray) -> set[str]:
    return set((d.ids if d.group is None else d.group)[rows].tolist())


def check(d: Dataset, folds: list[Fold], tests_cover: bool = True) -> None:
    for f in folds:
        parts = [names(d, r) for r in (f.train, f.select, f.test)]
        assert all(parts), f.name
        assert sum(map(len, parts)) == len(set.union(*parts)), "a group straddles"
        assert d.labelled[f.select].all()
        assert d.labelled[f.test].all()
        for r in (f.train, f.select, f.test):
            assert (np.diff(r) > 0).all()
    assert len({f.name for f in folds}) == len(folds)
    if tests_cover:
        tested = np.sort(np.concatenate([f.test for f in folds]))
        assert tested.tolist() == np.flatnonzero(d.labelled).tolist()


def same(a: list[Fold], b: list[Fold]) -> bool:
    return all(np.array_equal(x.test, y.test) and np.array_equal(x.select, y.select) for x, y in zip(a, b))


@pytest.mark.filterwarnings("ignore:folds=")
@given(
    st.integers(5, 12),
    st.integers(2, 5),
    st.integers(0, 3),
    st.sampled_from(["group-kfold", "leave-one-group-out"]),
    st.booleans(),
    st.floats(0.1, 0.6),
)
def test_group_protocols(groups: int, folds: int, seed: int, protocol: str, continuous: bool, select: float) -> None:
    d = regression(groups=groups) if continuous else make(groups=groups)
    found = split(d, protocol, folds, select, seed)
    assert len(found) == (groups if protocol == "leave-one-group-out" else folds)
    check(d, found)
    assert same(found, split(d, protocol, folds, select, seed))
    for f in found:
        rest = names(d, f.train) | names(d, f.select)
        assert len(names(d, f.select)) == min(max(1, round(select * len(rest))), len(rest) - 1)


def test_seeds_redraw_group_folds_even_where_class_counts_differ() -> None:
    """StratifiedGroupKFold would give these data the same folds for every seed."""
    d = data.load("phone-watch")
    draws = [{frozenset(names(d, f.test)) for f in split(d, seed=s)} for s in range(4)]
    for i in range(4):
        for j in range(i):
            assert draws[i] != draws[j]


def test_group_folds_are_balanced_in_class() -> None:
    d = data.load("phone-watch")
    share = np.bincount(d.target) / len(d)
    for s in range(3):
        for f in split(d, seed=s):
            check(d, [f], tests_cover=False)
            for rows in (f.test, f.select):
                assert np.abs(np.bincount(d.target[rows], minlength=5) / len(rows) - share).max() < 0.06


def test_leave_one_group_out_is_fixed_and_named_after_the_group() -> None:
    d = make(group=np.array([f"s/{i % 6}" for i in range(60)]))
    a, b = split(d, "leave-one-group-out", seed=0), split(d, "leave-one-group-out", seed=1)
    assert [f.name for f in a] == [f"s_{i}" for i in range(6)]
    assert all(np.array_equal(x.test, y.test) for x, y in zip(a, b))


def test_auto_prefers_official_then_groups_and_never_becomes_random() -> None:
    assert [f.name for f in split(make())] == [f"fold-{i}" for i in range(1, 6)]
    assert [f.name for f in split(official())] == ["official"]
    assert [f.name for f in split(official(group=None))] == ["official"]
    for ask in (lambda d: resolve_protocol(d, "auto"), split):
        with pytest.raises(ConfigError, match=r"needs groups.*toy has neither.*--group, group=.*--protocol random"):
            ask(make(groups=None))


def test_random_without_groups_is_stratified_by_class() -> None:
    d = make(groups=None)
    assert resolve_protocol(d, "random") == "random"
    folds = split(d, "random")
    check(d, folds)
    for f in folds:
        assert set(np.bincount(d.target[f.test])) == {4}


def test_random_ignores_groups_only_when_asked_by_name_and_says_so() -> None:
    d = make()
    with pytest.warns(SidelightWarning, match="random.*group-kfold"):
        folds = split(d, "random")
    tested = np.sort(np.concatenate([f.test for f in folds]))
    assert tested.tolist() == list(range(60))


@pytest.mark.parametrize("protocol", ["official", "leave-one-group-out"])
def test_a_number_of_folds_that_is_ignored_is_warned_of(protocol: str) -> None:
    with pytest.warns(SidelightWarning, match=f"folds=3 is ignored.*'{protocol}'.*'group-kfold'"):
        split(official(), protocol, folds=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split(official(), protocol)
        split(make(), "group-kfold", folds=3)


def test_the_default_of_folds_is_the_experiments() -> None:
    assert Config().folds == FOLDS


def official(**changes: Any) -> Dataset:
    group = np.array([f"g{i % 12:02d}" for i in range(60)])
    parts = np.array(["train"] * 6 + ["select"] * 2 + ["test"] * 4)
    return make(**({"group": group, "split": parts[np.arange(60) % 12]} | changes))


def test_official_split_is_used_as_it_is() -> None:
    d = official()
    (fold,) = split(d)
    assert fold.name == "official"
    for part, rows in (("train", fold.train), ("select", fold.select), ("test", fold.test)):
        assert d.split is not None
        assert rows.tolist() == np.flatnonzero(d.split == part).tolist()


@pytest.mark.parametrize("grouped", [True, False])
def test_a_missing_select_split_is_carved_from_train_by_groups(grouped: bool) -> None:
    d = official()
    assert d.split is not None
    parts = np.where(d.split == "select", "train", d.split)
    d = official(split=parts) if grouped else official(split=parts, group=None)
    (fold,) = split(d, select=0.25)
    check(d, [fold], tests_cover=False)
    assert fold.test.tolist() == np.flatnonzero(parts == "test").tolist()
    assert np.array_equal(np.union1d(fold.train, fold.select), np.flatnonzero(parts == "train"))
    assert len(names(d, fold.select)) == (2 if grouped else 10)


def test_unlabelled_rows_only_ever_train() -> None:
    labelled = np.arange(60) % 5 != 0
    labelled[np.arange(60) % 12 == 3] = False  # group g03 has no label at all
    for protocol in ("group-kfold", "leave-one-group-out", "official"):
        d = official(labelled=labelled)
        folds = split(d, protocol, 4 if protocol == "group-kfold" else 5)
        check(d, folds, tests_cover=protocol != "official")
        for f in folds:
            assert "g03" in names(d, f.train)
    d = make(groups=None, labelled=labelled)
    for f in split(d, "random"):
        assert set(np.flatnonzero(~labelled)) <= set(f.train)


def test_a_rare_class_is_kept_in_train_where_that_is_possible() -> None:
    target = np.arange(60) % 2
    target[[0, 13]] = 2  # groups g00 and g01
    d = make(target=target)
    for seed in range(8):
        for f in split(d, folds=4, seed=seed):
            assert 2 in d.target[f.train]


@pytest.mark.parametrize(
    ("dataset", "protocol", "words"),
    [
        (make(groups=4), "group-kfold", ["toy", "4 groups", "5", "fewer folds"]),
        (make(groups=2), "leave-one-group-out", ["2 groups", "3"]),
        (make(groups=None), "group-kfold", ["needs groups", "group=", "'random'"]),
        (make(n=4, groups=None, classes=2), "random", ["4 rows", "5"]),
        (make(), "official", ["split=", "toy"]),
        (official(split=np.array(["train"] * 60)), "auto", ["'test'", "train"]),
        (official(split=np.array(["test"] + ["train"] * 59)), "auto", ["'g00'", "test, train"]),
        (official(labelled=np.arange(60) % 12 < 8), "auto", ["'test'", "label"]),
    ],
)
def test_what_cannot_be_split_is_said(dataset: Dataset, protocol: str, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        split(dataset, protocol)
    for word in words:
        assert word in str(error.value)


def test_a_class_that_no_train_row_has_is_named() -> None:
    target = np.arange(60) % 2
    target[:3] = 2
    d = make(target=target, group=np.repeat([f"g{i}" for i in range(12)], 5), class_names=("calm", "tense", "pain"))
    for protocol in ("group-kfold", "leave-one-group-out"):
        with pytest.raises(DataError, match=r"no train row is of class 'pain'"):
            split(d, protocol)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"protocol": "group-kfld"}, "Did you mean 'group-kfold'"),
        ({"folds": 1}, "folds=1"),
        ({"select": 0.0}, "select=0"),
        ({"select": 1.0}, "select=1"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split(make(), **settings)


# --- hidden labels ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
@given(st.floats(0.01, 1), st.integers(0, 20), st.integers(0, 20))
def test_hide_labels_keeps_whole_groups_of_train_rows_and_touches_no_other_row(
    share: float, seed: int, data_seed: int
) -> None:
    d = make(seed=data_seed, labelled=np.arange(60) % 7 != 0)
    rows = split(d, seed=1)[0].train
    kept = hide_labels(d, rows, share, seed)
    outside = np.setdiff1d(np.arange(60), rows)
    assert np.array_equal(kept[outside], d.labelled[outside])
    assert not (kept & ~d.labelled).any()
    groups = names(d, rows[d.labelled[rows]])
    chosen = names(d, rows[kept[rows]])
    assert len(chosen) == max(1, round(share * len(groups)))
    for g in chosen:
        mine = rows[d.group[rows] == g]  # type: ignore[index]
        assert np.array_equal(kept[mine], d.labelled[mine])
    assert np.array_equal(kept, hide_labels(d, rows, share, seed))


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
@given(st.integers(0, 30))
def test_a_larger_share_keeps_what_a_smaller_one_does(seed: int) -> None:
    for d in (make(), make(groups=None)):
        rows = np.arange(50)
        masks = [hide_labels(d, rows, s, seed) for s in (0.1, 0.2, 0.4, 0.8, 1.0)]
        for small, large in pairwise(masks):
            assert not (small & ~large).any()
        assert np.array_equal(masks[-1], d.labelled)


def test_seeds_choose_other_groups() -> None:
    d = make()
    chosen = {frozenset(names(d, np.flatnonzero(hide_labels(d, np.arange(60), 0.2, s)))) for s in range(10)}
    assert len(chosen) > 5


@given(st.integers(0, 50))
def test_every_class_keeps_a_label_where_the_share_allows_it(seed: int) -> None:
    group = np.repeat([f"g{i:02d}" for i in range(12)], 5)
    target = np.repeat(np.arange(12) % 3, 5)  # every group is of one class
    d = make(group=group, target=target)
    assert set(target[hide_labels(d, np.arange(60), 0.25, seed)]) == {0, 1, 2}


def test_a_class_that_loses_all_its_labels_is_named() -> None:
    group = np.repeat([f"g{i:02d}" for i in range(12)], 5)
    d = make(group=group, target=np.repeat(np.arange(12) % 3, 5))
    with pytest.warns(SidelightWarning, match="of class [abc], [abc]"):
        hide_labels(d, np.arange(60), 0.05, 0)


def test_without_groups_a_share_of_every_class_is_kept() -> None:
    target = np.repeat([0, 1, 2], [40, 16, 4])
    d = make(groups=None, target=target)
    kept = hide_labels(d, np.arange(60), 0.25, 0)
    assert np.bincount(target[kept]).tolist() == [10, 4, 1]
    assert kept.sum() == 15
    three = hide_labels(d, np.arange(60), 0.05, 0)
    assert set(target[three]) == {0, 1, 2}


@pytest.mark.parametrize("groups", [12, None])
def test_whose_labels_are_kept_depends_on_no_target_outside_of_the_rows(groups: int | None) -> None:
    d, rows = regression(groups=groups), np.arange(40)
    other = d.target.copy()
    other[40:] += 100
    e = replace(d, target=other)
    for seed in range(10):
        assert np.array_equal(hide_labels(d, rows, 0.3, seed), hide_labels(e, rows, 0.3, seed))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match=r"label_fraction must be in"):
        hide_labels(make(), np.arange(60), share)


def test_parts_of_one_class_are_warned_of_once() -> None:
    d = make(60, groups=6, target=np.arange(60) % 6 % 3)
    folds = split(d, "leave-one-group-out")
    with pytest.warns(SidelightWarning, match=r"rows of one class only: test rows of g00 \('a'\), .* and 3 more"):
        warn_single_class(d, {f"test rows of {f.name}": f.test for f in folds})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_single_class(make(), {"test rows": np.arange(10)})
        warn_single_class(regression(), {"test rows": np.arange(10)})
