"""Rows in time: contiguous blocks with gaps, and the warning where rows are drawn from between their neighbours."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.small import fold_models
from sidelight import data
from sidelight.cli import main
from sidelight.data import Dataset
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.experiment.provenance import compute_fingerprint
from sidelight.protocols import Fold, build_whole_fold, resolve_protocol, split
from sidelight.protocols.neighbours import find_similar_neighbours, is_sorted_by_class, warn_similar_neighbours

SHARED = Path(os.environ.get("SIDELIGHT_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"


def make(n: int = 200, seed: int = 0, **changes: Any) -> Dataset:
    """Two classes in random order, features that do not depend on each other."""
    rng = np.random.default_rng(seed)
    target = rng.integers(2, size=n)
    given: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": rng.normal(size=(n, 3)) + target[:, None], "voice": rng.standard_t(3, size=(n, 2))},
        "target": target,
        "labelled": np.ones(n, bool),
        "task": "classification",
        "class_names": ("a", "b"),
    }
    return Dataset(**(given | changes))


def walk(n: int = 400, seed: int = 0, columns: int = 2) -> np.ndarray:
    """An autoregression whose neighbours correlate by 0.95."""
    noise = np.random.default_rng(seed).normal(size=(n, columns))
    x = noise.copy()
    for i in range(1, n):
        x[i] = 0.95 * x[i - 1] + np.sqrt(1 - 0.95**2) * noise[i]
    return x


def runs(rows: np.ndarray) -> int:
    """Of how many contiguous pieces the row numbers consist."""
    return 1 + int((np.diff(np.sort(rows)) > 1).sum())


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a[:, None] - b[None]).min())


class TestForward:
    @settings(deadline=None, max_examples=40)
    @given(st.integers(80, 140), st.integers(2, 4), st.floats(0.3, 0.5), st.sampled_from([0, 1, 3]), st.booleans())
    def test_each_block_is_tested_by_its_past(
        self, n: int, folds: int, select: float, gap: int, shuffled: bool
    ) -> None:
        rng = np.random.default_rng(n)
        time = rng.permutation(n).astype(float) if shuffled else np.arange(n, dtype=float)
        data = make(n, target=rng.normal(size=(n, 1)), task="regression", class_names=("y",), time=time)
        found = split(data, "forward", folds, select, 0, gap)
        assert [f.name for f in found] == [f"forward-{i + 1}" for i in range(folds)]
        for f, earlier in zip(found, [None, *found]):
            train, chosen, test = (np.sort(time[rows]) for rows in (f.train, f.select, f.test))
            assert train.max() + gap < chosen.min()
            assert chosen.max() + gap < test.min()
            assert test.max() - test.min() == len(test) - 1
            if earlier is not None:
                assert test.min() == time[earlier.test].max() + 1
        assert time[found[-1].test].max() == n - 1
        again = split(data, "forward", folds, select, 1, gap)  # nothing is drawn
        assert all(np.array_equal(a.train, b.train) for a, b in zip(found, again, strict=True))

    def test_groups_and_unlabelled_rows(self) -> None:
        n = 120
        labelled = np.ones(n, bool)
        labelled[80:], labelled[:80:4] = False, False
        data = make(n, group=np.repeat(["a", "b", "c"], 40), labelled=labelled)
        with pytest.warns(SidelightWarning, match="protocol 'forward' tests a network on rows of the same groups"):
            found = split(data, "forward", 3, 0.25)
        for f in found:
            assert set(range(80, 120)) <= set(f.train)  # a group without labels has no past that could leak
            for person in (range(40), range(40, 80)):
                train, test = (np.intersect1d(rows, person) for rows in (f.train, f.test))
                assert train.max() < np.intersect1d(f.select, person).min() < test.min()
                assert np.isin(train, np.flatnonzero(~labelled)).any()

    def test_the_whole_fold_chooses_epochs_on_the_latest_rows(self) -> None:
        fold = build_whole_fold(make(), "forward", 0.25, 0, gap=2)
        assert fold.select.tolist() == list(range(150, 200))
        assert fold.train.tolist() == list(range(148))

    def test_too_large_a_gap_is_said(self) -> None:
        with pytest.raises(DataError, match="forward-1: no select row is left of the 40 labelled rows before it"):
            split(make(), "forward", 4, 0.1, gap=10)


class TestBlocks:
    @settings(deadline=None)
    @given(st.integers(40, 120), st.integers(2, 6), st.integers(0, 3), st.floats(0.1, 0.5), st.sampled_from([0, 1, 3]))
    def test_parts_are_contiguous_disjoint_and_apart(
        self, n: int, folds: int, seed: int, select: float, gap: int
    ) -> None:
        y = np.random.default_rng(n).normal(size=(n, 1))
        found = split(make(n, target=y, task="regression", class_names=("y",)), "blocks", folds, select, seed, gap)
        assert [f.name for f in found] == [f"block-{i + 1}" for i in range(folds)]
        assert np.concatenate([f.test for f in found]).tolist() == list(range(n))
        for f in found:
            assert runs(f.test) == 1
            assert runs(f.select) <= 2  # the tested block may lie within it
            rest = n - len(f.test)
            assert len(f.select) <= max(1, round(select * rest))
            assert len(f.select) >= max(1, round(select * rest) - 2 * gap)
            assert distance(f.train, f.test) > gap
            assert distance(f.train, f.select) > gap
            assert distance(f.select, f.test) > gap
            lost = n - len(f.train) - len(f.select) - len(f.test)
            assert lost <= 4 * gap

    def test_test_rows_stay_and_select_rows_are_redrawn_with_the_seed(self) -> None:
        draws = [split(make(), "blocks", 4, seed=s) for s in range(4)]
        for k in range(4):
            assert len({f[k].test.tobytes() for f in draws}) == 1
        assert len({f[0].select.tobytes() for f in draws}) > 1
        assert all(np.array_equal(a.select, b.select) for a, b in zip(draws[0], split(make(), "blocks", 4, seed=0)))

    def test_time_orders_rows_and_measures_the_gap(self) -> None:
        rng = np.random.default_rng(1)
        seconds = rng.permutation(200) * 0.5
        d = make(time=seconds)
        assert resolve_protocol(d, "auto") == "blocks"
        for i, f in enumerate(split(d, folds=4, gap=2.0)):
            assert sorted(seconds[f.test]) == [0.5 * t for t in range(50 * i, 50 * i + 50)]
            assert distance(seconds[f.train], np.concatenate([seconds[f.test], seconds[f.select]])) == 2.5

    def test_rows_of_one_time_are_never_separated(self) -> None:
        time = np.arange(200) // 7
        for f in split(make(time=time), "blocks", 5):
            parts = [set(time[r]) for r in (f.train, f.select, f.test)]
            assert sum(map(len, parts)) == len(set.union(*parts))

    def test_groups_are_cut_each_in_its_own_order(self) -> None:
        group = np.array([f"session{i % 4}" for i in range(200)])
        with pytest.warns(SidelightWarning, match="at other times; scores say nothing about new groups"):
            found = split(make(group=group), "blocks", 5, gap=1)
        for i, f in enumerate(found):
            for g in range(4):
                own = np.flatnonzero(group == f"session{g}")
                at = [np.searchsorted(own, r[group[r] == f"session{g}"]) for r in (f.train, f.select, f.test)]
                assert at[2].tolist() == list(range(10 * i, 10 * i + 10))
                assert runs(at[1]) <= 2
                assert distance(at[0], np.concatenate(at[1:])) == 2

    def test_unlabelled_rows_train_only_outside_of_blocks(self) -> None:
        labelled = np.arange(200) % 3 != 1
        labelled[150:] = False
        d = make(labelled=labelled)
        for f in split(d, "blocks", 5):
            assert labelled[f.test].all()
            assert labelled[f.select].all()
            inside = np.arange(f.test.min(), f.test.max() + 1)
            assert not np.isin(inside, f.train).any()
        assert max(len(f.test) for f in split(d, "blocks", 5)) - min(len(f.test) for f in split(d, "blocks", 5)) <= 1

    def test_select_rows_beside_an_official_split_follow_the_time(self) -> None:
        parts = np.where(np.arange(200) < 150, "train", "test")
        by_chance = split(make(split=parts), "official")[0]
        assert runs(by_chance.select) > 10
        (fold,) = split(make(split=parts, time=np.arange(200)), "official", gap=3)
        assert runs(fold.select) == 1
        assert distance(fold.select, fold.train) > 3
        assert distance(fold.select, fold.test) > 3
        assert fold.test.tolist() == list(range(150, 200))
        everything = build_whole_fold(make(split=parts, time=np.arange(200)), "official", 0.25, 0, gap=3)
        assert (runs(everything.select), len(everything.select)) == (1, 50)
        assert distance(everything.select, everything.train) > 3

    def test_whole_keeps_a_contiguous_block_for_select(self) -> None:
        fold = build_whole_fold(make(), "blocks", 0.25, 0, gap=2)
        assert (runs(fold.select), len(fold.select)) == (1, 50)
        assert distance(fold.train, fold.select) == 3
        assert len(fold.train) >= 146

    @pytest.mark.parametrize(
        ("d", "settings", "match"),
        [
            (make(), {"gap": -1}, "gap=-1: expected 0 or more"),
            (make(), {"gap": float("nan")}, "gap=nan: expected 0 or more"),
            (make(), {"protocol": "random", "gap": 2}, "protocol 'random' draws none here.*--protocol blocks"),
            (make(), {"gap": 100}, "no select row is left.*smaller gap|no train row is of class"),
            (make(), {"folds": 1}, "folds=1: expected at least 2"),
            (make(time=np.arange(200) // 100), {}, "2 different times.*needs at least 5"),
            (make(target=np.repeat([0, 1], 100)), {"folds": 2}, "sorted by class.*not an order in time.*'random'"),
        ],
    )
    def test_says_what_cannot_be(self, d: Dataset, settings: dict[str, Any], match: str) -> None:
        with pytest.raises((ConfigError, DataError), match=match):
            split(d, **({"protocol": "blocks"} | settings))


class TestNeighbours:
    @pytest.mark.parametrize("seed", range(20))
    def test_independent_rows_are_not_alike(self, seed: int) -> None:
        assert find_similar_neighbours(make(600, seed)) is None

    @pytest.mark.parametrize("kind", ["cauchy", "one outlier", "sparse", "two spreads", "five equal columns"])
    def test_odd_distributions_are_not_alike(self, kind: str) -> None:
        for seed in range(10):
            rng = np.random.default_rng(seed)
            target = (rng.random(500) < 0.08).astype(int)
            x = {
                "cauchy": rng.standard_cauchy((500, 2)),
                "one outlier": np.where(np.arange(500)[:, None] == 250, 1e6, rng.normal(size=(500, 1))),
                "sparse": (rng.random((500, 2)) < 0.01).astype(float),
                "two spreads": rng.normal(size=(500, 2)) * np.where(target, 30, 1)[:, None],
                "five equal columns": np.repeat(rng.normal(size=(500, 1)), 5, 1),
            }[kind]
            assert find_similar_neighbours(make(500, target=target, inputs={"x": x})) is None

    def test_rows_sorted_by_label_are_no_time_series(self) -> None:
        rng = np.random.default_rng(0)
        target = np.repeat(np.arange(4), 100)
        d = make(
            400, target=target, class_names=tuple("abcd"), inputs={"x": rng.normal(size=(400, 3)) + 5 * target[:, None]}
        )
        assert is_sorted_by_class(d)
        assert find_similar_neighbours(d) is None
        y = np.sort(rng.normal(size=400))
        exact = make(400, target=y[:, None], task="regression", class_names=("y",), inputs={"x": np.c_[y, y**2]})
        assert find_similar_neighbours(exact) is None

    def test_a_series_is_alike_and_its_shuffle_is_not(self) -> None:
        x = walk()
        d = make(400, inputs={"slow": x, "noise": make(400).inputs["face"]})
        alike = find_similar_neighbours(d)
        assert alike is not None
        assert alike.modality == "slow"
        assert 0.02 < alike.share < 0.15  # about 1 − 0.95
        order = np.random.default_rng(1).permutation(400)
        shuffled = make(400, target=d.target[order], inputs={"slow": x[order]})
        assert find_similar_neighbours(shuffled) is None
        assert find_similar_neighbours(replace(shuffled, time=order.astype(float))) is not None

    def test_missing_rows_are_not_alike_because_they_are_missing(self) -> None:
        d = make(600, present={"voice": np.arange(600) % 200 < 80})
        assert find_similar_neighbours(d) is None

    @pytest.mark.parametrize(
        ("settings", "protocol", "said"),
        [
            ({}, "random", "select and test rows are drawn.*'face'.*--protocol blocks .protocol='blocks'.*--group"),
            ({"about": {"time_column": "stamp"}}, "random", "protocol='blocks', time='stamp'"),
            ({"split": np.repeat(["train", "test"], 200)}, "official", "select rows are drawn.*--time order"),
            ({"split": np.repeat(["train", "test"], 200), "time": np.arange(400)}, "official", ""),
            ({"split": np.repeat(["train", "select", "test"], [150, 50, 200])}, "official", ""),
            ({}, "blocks", ""),
            ({"group": np.arange(400) // 50}, "group-kfold", ""),
        ],
    )
    def test_drawing_rows_of_a_series_is_warned_of(self, settings: dict[str, Any], protocol: Any, said: str) -> None:
        d = make(400, inputs={"face": walk()}, **settings)
        if said:
            with pytest.warns(SidelightWarning, match=said):
                warn_similar_neighbours(d, protocol)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warn_similar_neighbours(d, protocol)

    def test_real_data(self) -> None:
        if not SHARED.is_dir():
            pytest.skip("needs the shared data sets")
        air = np.load(SHARED / "air-quality" / "data.npz")
        inputs = {"weather": air["weather"], "cheap": air["mox_other"]}
        series = data.load({**inputs, "y": air["y"], "hours": air["unix_h"]}, task="regression", time="hours")
        assert find_similar_neighbours(series) is not None
        digits = np.load(SHARED / "mfeat" / "data.npz")
        sorted_ = data.load({"fou": digits["fou"], "mor": digits["mor"], "y": digits["y"]})
        assert is_sorted_by_class(sorted_)
        assert find_similar_neighbours(sorted_) is None


class TestTimeColumn:
    def table(self, times: Any) -> pd.DataFrame:
        d = make(len(times))
        columns = {f"face.{i}": d.inputs["face"][:, i] for i in range(3)} | {"voice.0": d.inputs["voice"][:, 0]}
        return pd.DataFrame({**columns, "y": d.target, "stamp": times})

    def test_dates_are_read_as_seconds(self) -> None:
        stamps = pd.date_range("2024-05-31 23:00", periods=60, freq="10min", tz="Europe/Berlin")
        for column in (stamps, stamps.strftime("%Y-%m-%dT%H:%M:%S%z"), stamps.as_unit("s").astype("int64")):
            d = data.load(self.table(column), time="stamp")
            assert np.diff(d.time).tolist() == [600.0] * 59
            assert d.time[0] == 1717189200
            assert set(d.modalities) == {"face", "voice"}

    def test_a_time_that_cannot_be_read_is_named(self) -> None:
        for bad, match in (("soon", "row 3, column 'stamp' is 'soon'; expected numbers"), ("", "row 3.*is empty")):
            column = [f"2024-05-31T{h:02d}:00" for h in range(20)]
            column[3] = bad
            with pytest.raises(DataError, match=match):
                data.load(self.table(column), time="stamp")
        with pytest.raises(DataError, match=r"time: .*'stmp'.*Did you mean 'stamp'"):
            data.load(self.table(range(20)), time="stmp")
        with pytest.raises(DataError, match="time of row 1 is nan"):
            make(3, target=[0, 1, 1], time=[0, np.nan, 1])

    def test_rows_may_stand_in_order(self) -> None:
        d = data.load(self.table(range(20)).drop(columns="stamp"), time="order")
        assert d.time.tolist() == list(range(20))

    def test_a_column_that_looks_like_a_time_is_offered_by_name(self) -> None:
        frame = self.table(range(200)).rename(columns={"stamp": "timestamp"})
        with pytest.raises(ConfigError, match=r"in time, ask for --protocol blocks.*time='timestamp'"):
            resolve_protocol(data.load(frame), "auto")
        with pytest.raises(ConfigError, match=r"ask for --protocol blocks \(protocol='blocks'\);"):
            resolve_protocol(make(), "auto")

    def test_another_order_is_other_data(self) -> None:
        d = make()
        assert (
            compute_fingerprint(d)
            != compute_fingerprint(replace(d, time=np.arange(200)))
            != compute_fingerprint(replace(d, time=np.arange(200)[::-1]))
        )

    def test_dry_run_and_inspect_know_it(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        frame = self.table(range(200))
        frame[["face.0", "face.1"]] = walk(200)
        frame.to_csv(tmp_path / "hours.csv", index=False)
        question = ["--available", "face", "--privileged", "voice", "--target", "y", "--methods", "kl"]
        run = ["run", str(tmp_path / "hours.csv"), *question, "--dry-run"]
        assert main([*run, "--protocol", "blocks", "--time", "stamp", "--gap", "5", "--folds", "4"]) == 0
        said = capsys.readouterr()
        assert "protocol: blocks" in said.out
        assert "gap: 5.0" in said.out
        assert "over 4 folds" in said.out
        assert "drawn one by one" not in said.err
        assert main([*run, "--protocol", "random"]) == 0
        assert "drawn one by one" in capsys.readouterr().err
        assert main([*run, "--protocol", "random", "--gap", "5"]) == 2
        assert "protocol 'random' draws none here" in capsys.readouterr().err
        assert main(["inspect", str(tmp_path / "hours.csv"), "--target", "y"]) == 0
        assert "neighbouring rows resemble each other: in 'face'" in " ".join(capsys.readouterr().out.split())


def test_crossfitted_teachers_are_trained_on_other_blocks(tmp_path: Path) -> None:
    d = make(inputs={"phone": walk(200), "watch": walk(200, 1)}, labelled=np.arange(200) % 5 != 0)
    one = fold_models(tmp_path, d, protocol="blocks", folds=4, gap=2, privileged=["watch"])
    part, train = one.data.assign_teacher_folds(1.0, 3), one.data.fold.train
    assert set(part) == {0, 1, 2}
    assert (np.diff(part[np.argsort(train)]) >= 0).all()


def test_folds_are_named_and_sorted() -> None:
    folds: list[Fold] = split(make(), "blocks", 3)
    assert all((np.diff(r) > 0).all() for f in folds for r in (f.train, f.select, f.test))
