"""auto: the weight of soft labels with the best score is kept, 0 is the baseline to the bit, and the choice is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from helpers.small import fold_models, make_data, outcome
from sidelight.errors import ConfigError
from sidelight.experiment.assemble import run_job
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.results.budget import Budget
from sidelight.results.training_remarks import describe_choices
from sidelight.utils.tensorfile import read_tensors

FEW_EPOCHS = {"methods": ["auto"], "training": {"epochs": 6, "patience": 6, "least_steps": 4}}


def train(folder: Path, control: str = "", label_fraction: float = 1.0, **changes: Any) -> dict[str, Any]:
    """The record of the job."""
    job = Job("auto", control, label_fraction, 0, 0)
    run_job(fold_models(folder, make_data(), **(FEW_EPOCHS | changes)), job)
    record: dict[str, Any] = json.loads((folder / "jobs" / job.id / "job.json").read_text())
    return record


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("auto")
    return folder, train(folder)


def test_the_weight_with_the_best_score_is_kept_and_recorded(whole):
    folder, record = whole
    scores = record["chosen"]["scores"]
    assert list(scores) == ["0", "1", "4", "16"]
    best = max(scores.values())
    assert record["chosen"]["weight"] == next(float(w) for w, score in scores.items() if score == best)
    assert record["select"] == best
    baseline = json.loads((folder / "jobs" / "baseline-l1-f0-s0" / "job.json").read_text())
    assert scores["0"] == baseline["select"]
    curves = pd.read_csv(folder / "jobs" / record_id() / "curves.csv")
    assert curves["select"].max() == pytest.approx(best)


def record_id(control: str = "", labels: float = 1.0) -> str:
    return Job("auto", control, labels, 0, 0).id


def test_a_placebo_chooses_among_students_of_its_own(whole):
    folder, record = whole
    placebo = train(folder, "placebo")
    assert placebo["chosen"]["scores"]["0"] == record["chosen"]["scores"]["0"]  # one baseline for both
    assert placebo["chosen"]["scores"] != record["chosen"]["scores"]
    assert (folder / "jobs" / "teacher~placebo-l1-f0-s0").is_dir()


def test_equal_scores_leave_the_baseline_to_the_bit(tmp_path, monkeypatch):
    fit = JobContext.fit

    def no_better(self, method, stage, teacher_fold):
        fit(self, method, stage, teacher_fold)
        return JobContext.baseline(self)[1]

    monkeypatch.setattr(JobContext, "fit", no_better)
    record = train(tmp_path)
    assert record["chosen"]["weight"] == 0
    jobs = tmp_path / "jobs"
    for file in ("predictions.csv", "curves.csv"):
        assert (jobs / record_id() / file).read_bytes() == (jobs / "baseline-l1-f0-s0" / file).read_bytes()


@pytest.mark.parametrize("teacher", [{"crossfit": 2}, {"sets": ["each"]}])
def test_the_teachers_of_the_settings_teach(tmp_path, teacher, monkeypatch):
    fit, taught = JobContext.fit, []

    def note(self, method, stage, teacher_fold=None):
        taught.append((sorted(method.teachers), None if teacher_fold is None else sorted(set(teacher_fold.tolist()))))
        return fit(self, method, stage, teacher_fold)

    monkeypatch.setattr(JobContext, "fit", note)
    assert "0" in train(tmp_path, teacher=teacher, training={"epochs": 1})["chosen"]["scores"]
    siblings = [0, 1, 2]  # 2: the rows of groups without labels, which the fold's own teacher teaches
    assert taught == 3 * [([""], siblings) if "crossfit" in teacher else (["pulse", "watch"], None)]
    stored = " ".join(path.name for path in (tmp_path / "shared").iterdir())
    assert ("crossfit" if "crossfit" in teacher else "branch-") in stored


def test_teachers_of_sets_are_not_cross_fitted(tmp_path):
    with pytest.raises(ConfigError, match="cannot be cross-fitted"):
        train(tmp_path, teacher={"crossfit": 2, "sets": ["each"]})


def test_few_labels_choose_by_the_inner_folds(tmp_path):
    record = train(tmp_path, label_fraction=0.5, select_labels="inner")
    for weight, score in record["chosen"]["scores"].items():
        name = f"{record_id(labels=0.5)}-weight{weight}" if weight != "0" else "baseline-l0.5-f0-s0"
        folders = sorted((tmp_path / "inner").iterdir())
        inner = [read_tensors(f / "shared" / f"{name}-scores.safetensors")[0]["select"] for f in folders]
        assert len(inner) == 3
        best = max(max(s.tolist()) for s in inner)
        assert min(min(s.tolist()) for s in inner) <= score <= best
    assert record["select"] == max(record["chosen"]["scores"].values())


def test_a_killed_choice_goes_on_with_the_same_bits(tmp_path, whole, monkeypatch):
    fit = JobContext.fit

    def killed(self, method, stage, teacher_fold):
        if stage == "weight4":
            raise KeyboardInterrupt
        return fit(self, method, stage, teacher_fold)

    with monkeypatch.context() as patch:
        patch.setattr(JobContext, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    train(tmp_path)
    resumed, once = outcome(tmp_path), outcome(whole[0])
    assert {name: once[name] for name in resumed} == resumed


def test_the_choices_are_told():
    weights = pd.DataFrame({"chosen": [4.0, 4.0, 0.0, 16.0]})
    rows = {"auto": weights, "kl": pd.DataFrame({"accuracy": [1.0]}), "auto~placebo": weights * 0}
    told = describe_choices(Budget(1.0, "accuracy", rows))
    assert told == (
        "weight of soft labels chosen by auto: 4, 4, 0, 16; weight of soft labels chosen by auto’s placebo: 0, 0, 0, 0"
    )
