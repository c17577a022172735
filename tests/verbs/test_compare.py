"""`sidelight compare`: runs are paired where they tested the same rows, and otherwise no difference is claimed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.synthetic_run import make_run
from sidelight.cli import main
from sidelight.errors import ConfigError
from sidelight.results import load_results, nadeau_bengio
from sidelight.verbs.compare import compare_runs

pytestmark = pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")


SMALL = {"folds": 2, "seeds": 2, "methods": ("kl", "pkdot"), "controls": (), "budgets": (1.0,)}


def stamp(run: Path, digest: str = "a" * 64) -> Path:
    """Store the digest of the data in every job of a synthetic run."""
    for file in run.glob("jobs/*/job.json"):
        record = json.loads(file.read_text())
        record["made_with"] = {"data": digest, "encoders": {}, "methods": {}}
        file.write_text(json.dumps(record))
    return run


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    """Two runs on the same rows, the second with a better `kl` and without `pkdot`."""
    first = stamp(make_run(tmp_path / "first", **SMALL))
    second = make_run(tmp_path / "second", **SMALL | {"methods": ("kl",)}, skill={"kl": 1.2})
    return first, stamp(second)


def test_rows_are_paired_by_fold_and_seed_with_the_corrected_interval(runs):
    (compared,) = compare_runs(runs)
    assert compared.unpaired == ""
    found = {(row.first, row.second): row for row in compared.rows}
    assert ("baseline", "baseline") in found
    assert ("pkdot", "pkdot") not in found
    a, b = (load_results(run) for run in runs)
    a, b = (r[(r.method == "kl") & (r.control == "")].set_index(["fold", "seed"]).sort_index() for r in (a, b))
    want = nadeau_bengio(b.accuracy - a.accuracy, b.n_train, b.n_test)
    got = found["kl", "kl"].difference.interval
    assert (got.mean, got.low, got.high, got.n) == pytest.approx((want.mean, want.low, want.high, 4))
    assert got.low > 0
    assert found["kl", "kl"].p_holm >= found["kl", "kl"].p_value


def test_the_same_jobs_do_not_differ(runs):
    (compared,) = compare_runs(runs)
    baseline = next(row for row in compared.rows if row.first == "baseline")
    assert baseline.difference.interval.mean == 0
    assert math.isinf(baseline.difference.interval.half)  # no spread, so nothing to judge by


@pytest.mark.parametrize("fault", ["data", "no digest", "protocol", "rows", "folds"])
def test_what_cannot_be_paired_says_why_and_claims_nothing(runs, tmp_path, fault, capsys):
    first, second = runs
    if fault == "data":
        stamp(second, "b" * 64)
        reason = "their data differ"
    elif fault == "no digest":
        second = make_run(tmp_path / "third", **SMALL)
        reason = "store no digest"
    elif fault == "protocol":
        file = second / "config.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"protocol": "random"}))
        reason = "their protocols differ"
    elif fault == "rows":
        for file in second.glob("jobs/*-f1-s1/predictions.csv"):
            pd.read_csv(file).iloc[1:].to_csv(file, index=False)
        reason = "test rows of fold 1, seed 1 differ"
    else:
        second = stamp(make_run(tmp_path / "third", **SMALL | {"folds": 3, "seeds": 1}))
        reason = "test rows of fold 0, seed 0 differ"
    (compared,) = compare_runs([first, second])
    assert reason in compared.unpaired
    assert all(row.difference is None for row in compared.rows)
    assert main(["compare", str(first), str(second)]) == 0
    said = capsys.readouterr().out
    assert "no difference is claimed" in " ".join(said.split())
    assert "95 %" not in said


def test_text_and_json_of_three_runs(runs, tmp_path, capsys):
    third = stamp(make_run(tmp_path / "third", **SMALL, skill={"kl": 1.0}))
    config = yaml.safe_load((third / "config.yaml").read_text())
    config["training"]["epochs"] = 5
    (third / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["compare", *map(str, runs), str(third)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{third} − {runs[0]}" in said
    assert "training.epochs: 60 and 5" in said
    assert main([*words, "--json"]) == 0
    two, three = json.loads(capsys.readouterr().out)
    assert two["paired"]
    assert three["paired"]
    kl = next(row for row in three["rows"] if row["first"] == row["second"] == "kl")
    assert kl["difference"] > 0
    assert kl["mean_second"] - kl["mean_first"] == pytest.approx(kl["difference"])


def test_one_run_twice_is_refused(runs):
    with pytest.raises(ConfigError, match="named twice"):
        compare_runs([runs[0], runs[0]])
