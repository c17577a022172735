"""Rows that lack a privileged modality: their share, the scores without them, and folds that balance them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.small import fold_models, make_data
from sidelight.experiment.assemble import run_job
from sidelight.experiment.plan import Job
from sidelight.protocols import split
from sidelight.protocols.strata import compute_cells, compute_strata
from sidelight.results import compare, load_results
from sidelight.results.coverage import keep_seen
from sidelight.results.store import store_results


def test_the_record_holds_shares_and_scores_of_the_rows_that_a_teacher_sees(tmp_path: Path) -> None:
    data = make_data()
    models = fold_models(tmp_path, data, privileged=["watch"])
    run_job(models, Job("teacher", "", 1.0, 0, 0))
    record = json.loads((tmp_path / "jobs" / "teacher-l1-f0-s0" / "job.json").read_text())
    for part in ("train", "select", "test"):
        lack = 1 - data.present["watch"][getattr(models.data.fold, part)].mean()
        assert record["lacks"][part] == pytest.approx({"any": lack, "all": lack, "watch": lack})
        assert 0 < lack < 1

    table = pd.read_csv(tmp_path / "jobs" / "teacher-l1-f0-s0" / "predictions.csv")
    right, seen = table["target"] == table["prediction"], data.present["watch"][models.data.fold.test]
    assert record["seen"]["n"] == seen.sum()
    assert record["seen"]["metrics"]["accuracy"] == pytest.approx(right[seen].mean())
    assert record["seen"]["unseen"]["accuracy"] == pytest.approx(right[~seen].mean())
    assert record["metrics"]["accuracy"] == pytest.approx(right.mean())

    store_results(tmp_path, results := load_results(tmp_path))
    assert results.loc[0, "seen.accuracy"] == record["seen"]["metrics"]["accuracy"]
    assert results.loc[0, "lacks_test"] == record["lacks"]["test"]["any"]


def test_complete_rows_have_no_scores_of_their_own(tmp_path: Path) -> None:
    data = make_data()
    models = fold_models(tmp_path, replace(data, present={}), privileged=["watch"], training={"epochs": 1})
    run_job(models, Job("baseline", "", 1.0, 0, 0))
    record = json.loads((tmp_path / "jobs" / "baseline-l1-f0-s0" / "job.json").read_text())
    assert record["lacks"]["test"] == {"any": 0, "all": 0, "watch": 0}
    assert "seen" not in record
    assert not [c for c in load_results(tmp_path) if c.startswith("seen.")]


def _results(seen: bool) -> pd.DataFrame:
    """Three folds: over the rows that the teacher sees, kl closes 0.08 of 0.201; over all rows, 0.04 of 0.051."""
    rows = []
    for fold in range(3):
        for method, accuracy, over_seen in (("baseline", 0.50, 0.52), ("kl", 0.54, 0.60), ("teacher", 0.55, 0.72)):
            row = {"method": method, "control": "", "labels": 1.0, "fold": fold, "seed": 0, "select": accuracy}
            row |= {
                "accuracy": accuracy + fold / 100 + 0.001 * fold * (method == "teacher"),
                "seconds": 1.0,
                "n_train": 100,
                "n_test": 50,
            }
            row |= {"lacks_train": 0.2, "lacks_select": 0.25, "lacks_test": 0.38 + fold / 100}
            if seen:
                row["seen.accuracy"] = over_seen + fold / 100 + 0.001 * fold * (method == "teacher")
            rows.append(row)
    return pd.DataFrame(rows)


def test_the_gap_is_closed_over_the_rows_that_the_teacher_sees() -> None:
    seen, everything = compare(_results(True)), compare(_results(False))
    assert everything.rows["kl"].gap.mean == pytest.approx(0.04 / 0.051)
    assert seen.rows["kl"].gap.mean == pytest.approx(0.08 / 0.201)
    assert seen.rows["kl"].difference == everything.rows["kl"].difference
    assert seen.rows["teacher"].mean == everything.rows["teacher"].mean
    text = next(r.text for r in seen.remarks if r.code == "partial_coverage")
    assert text == (
        "Rows lack a privileged modality: 20 % of the train rows, 25 % of the select rows, 38–40 % of the test rows "
        "(range over folds and seeds). Over the test rows that have one, accuracy is 73.1 with the teacher and 53.0 "
        "with the baseline (over all test rows: 56.1 and 51.0); the share of the teacher's lead is over these rows."
    )
    assert keep_seen(everything.budget) is everything.budget
    full = _results(False).assign(lacks_train=0.0, lacks_select=0.0, lacks_test=0.0)
    assert "partial_coverage" not in [r.code for r in compare(full).remarks]


def test_folds_balance_the_rows_that_lack_a_modality() -> None:
    """12 groups of one class mix, half of which lack the sensor: each of 3 folds tests two of either kind."""
    n = 120
    who = np.arange(n) % 12
    data = make_data("classification")
    rows = np.arange(n) % len(data)
    toy = replace(
        data,
        inputs={"phone": np.ones((n, 1))},
        lengths={},
        present={"phone": np.isin(who, (0, 1, 2, 5, 8, 10))},
        target=np.arange(n) // 12 % 3,
        labelled=np.ones(n, bool),
        group=np.array([f"g{g:02d}" for g in who]),
        split=None,
        ids=np.array([f"row{i}" for i in range(n)]),
    )
    assert len(rows) == n
    for seed in range(4):
        for fold in split(toy, "group-kfold", 3, 0.25, seed):
            assert toy.present["phone"][fold.test].mean() == 0.5
    complete = replace(toy, present={})
    assert (compute_cells(complete) == compute_strata(complete)).all(), "folds of complete rows stay what they were"
    assert sorted(set(compute_cells(toy))) == [0, 1, 2, 3, 4, 5]
