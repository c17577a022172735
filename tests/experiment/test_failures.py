"""Jobs that fail: the others go on, what needs them is skipped, nothing is hidden, and --resume mends it."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.small import Fragile, differing, make_data, merged, outcome, study
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment import stacks as stacks_module
from sidelight.experiment import train_alone as alone
from sidelight.experiment.progress import Progress
from sidelight.experiment.study import Study
from sidelight.methods import METHODS
from sidelight.results import compare, load_results
from sidelight.runs.status import read_status
from sidelight.training.fit_stacked import fit_stacked

THREE = {"folds": 3, "methods": ["kl", "mse"], "training": {"epochs": 1}}
TEACHER, STUDENT = "teacher-l1-f1-s0", "mse-l1-f0-s0"
SAYS = "the loss term 'task' became nan in epoch 1."


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """Three folds that nothing disturbs."""
    return study(tmp_path_factory.mktemp("whole") / "run", data, **THREE).folder


@pytest.fixture
def failing(monkeypatch):
    """Makes the trainings of these names fail; returns the names of all that begin."""
    begun, real = [], alone.fit

    def install(*names: str, error: Exception | None = None) -> list[str]:
        def fit(method, *args, identity, **more):
            begun.append(identity)
            if identity in names:
                raise error or RunError(SAYS)
            return real(method, *args, identity=identity, **more)

        monkeypatch.setattr(alone, "fit", fit)
        return begun

    return install


def test_a_failed_job_is_stored_and_the_others_go_on(failing, whole, data, tmp_path):
    failing(TEACHER, STUDENT)
    with pytest.warns(SidelightWarning) as warned:
        made = study(tmp_path / "run", data, **THREE)
    said = [str(w.message) for w in warned]
    assert f"the job {STUDENT} failed: {SAYS} The others go on." in said
    assert f"the job kl-l1-f1-s0 was skipped: it needs {TEACHER}, which failed." in said

    states = read_status(made.folder)
    assert states.counts == {"finished": 8, "failed": 2, "skipped": 2, "waiting": 0}
    failed = {f.job: f for f in made.failures}
    assert list(failed) == [STUDENT, TEACHER, "kl-l1-f1-s0", "mse-l1-f1-s0"]
    assert failed[STUDENT].message == SAYS
    assert failed[STUDENT].trace[-1].endswith("in fit")
    assert failed["kl-l1-f1-s0"].needs == TEACHER
    # What did finish is what it would have been.
    reference, stored = outcome(whole), outcome(made.folder)
    assert len(stored) < len(reference)
    assert differing(stored, {name: reference[name] for name in stored}) == []

    # Every difference is over pairs that both sides have.
    c = compare(made.results)
    assert {name: row.n for name, row in c.rows.items()} == {"baseline": 3, "kl": 2, "mse": 1, "teacher": 2}
    assert c.rows["mse"].missing == 2
    kl, base = (c.budget.rows[name][c.metric] for name in ("kl", "baseline"))
    assert c.rows["kl"].difference.mean == pytest.approx((kl - base).mean())
    remark = next(r.text for r in c.remarks if r.code == "failed_jobs")
    assert "2 of 3 jobs of mse, 1 of 3 jobs of teacher, 1 of 3 jobs of kl (first mse-l1-f0-s0: the loss term" in remark
    assert any(text.startswith("2 jobs failed, 2 skipped: `sidelight status") for text in said)


def test_resume_runs_failed_jobs_again_with_the_same_result(failing, whole, data, tmp_path):
    failing(TEACHER, STUDENT)
    with pytest.warns(SidelightWarning, match="failed"):
        study(tmp_path / "run", data, **THREE)
    begun = failing()
    del begun[:]
    made = study(tmp_path / "run", data, resume=True, **THREE)
    assert sorted(begun) == sorted([TEACHER, STUDENT, "kl-l1-f1-s0", "mse-l1-f1-s0"])
    assert made.failures == []
    assert not list((tmp_path / "run" / "failed").iterdir())
    assert differing(outcome(whole), outcome(made.folder)) == []


def test_only_runs_one_job_and_what_it_needs(failing, data, tmp_path):
    failing(TEACHER, STUDENT)
    with pytest.warns(SidelightWarning, match="failed"):
        study(tmp_path / "run", data, **THREE)
    begun = failing()
    del begun[:]
    made = study(tmp_path / "run", data, resume=True, only=["kl-l1-f1-s0"], **THREE)
    assert begun == [TEACHER, "kl-l1-f1-s0"]
    assert [f.job for f in made.failures] == [STUDENT, "mse-l1-f1-s0"]
    with pytest.raises(ConfigError, match=r"only: unknown job 'kl-l1-f1-s1'. Did you mean 'kl-l1-f1-s0'"):
        study(tmp_path / "run", data, resume=True, only=["kl-l1-f1-s1"], **THREE)


def test_max_failures_stops_a_run(failing, data, tmp_path):
    failing(TEACHER, STUDENT, error=ZeroDivisionError("by zero"))
    with pytest.raises(ZeroDivisionError):
        study(tmp_path / "first", data, max_failures=0, **THREE)
    assert read_status(tmp_path / "first").counts["failed"] == 1
    with (
        pytest.raises(RunError, match=rf"2 jobs failed, .* max_failures=1\. The last was {TEACHER}: ZeroDivisionError"),
        pytest.warns(SidelightWarning, match=f"{STUDENT} failed: ZeroDivisionError: by zero"),
    ):
        study(tmp_path / "second", data, max_failures=1, **THREE)


def test_a_run_in_which_nothing_finished_says_so(failing, data, tmp_path):
    failing(*(f"teacher-l1-f{fold}-s0" for fold in range(3)))
    with (
        pytest.raises(RunError, match=r"9 of 12 jobs failed, and no method finished.*teacher-l1-f0-s0: the loss term"),
        pytest.warns(SidelightWarning, match="failed"),
    ):
        study(tmp_path / "run", data, **THREE)


@pytest.mark.slow
def test_a_failed_job_of_a_worker_process(data, tmp_path, monkeypatch):
    """The term of one fold is NaN, in whichever process it is trained."""
    monkeypatch.setitem(METHODS, "fragile", Fragile)
    with pytest.warns(SidelightWarning, match=r"^1 job failed: .sidelight status .*--resume"):
        made = study(tmp_path / "run", data, **merged(THREE, {"methods": ["fragile"], "jobs": 2}))
    assert read_status(made.folder).counts == {"finished": 8, "failed": 1, "skipped": 0, "waiting": 0}
    assert made.failures[0].message.startswith("the loss term 'fragile' became nan in epoch 1")


def test_a_failed_model_of_a_stack_leaves_the_others_their_bits(data, tmp_path, monkeypatch):
    settings = merged(THREE, {"training": {"stack": 8}, "methods": ["mse"]})
    whole = study(tmp_path / "whole", data, **settings)

    def poisoned(jobs, *args):
        for job in jobs:
            if job.name == STUDENT:
                job.train = replace(job.train, inputs={m: x * math.inf for m, x in job.train.inputs.items()})
        return fit_stacked(jobs, *args)

    monkeypatch.setattr(stacks_module, "fit_stacked", poisoned)
    with pytest.warns(SidelightWarning, match=f"{STUDENT} failed: the loss term '.*' became nan in epoch 1"):
        made = study(tmp_path / "run", data, **settings)
    reference, stored = outcome(whole.folder), outcome(made.folder)
    assert {name.partition("/")[0] for name in reference} - {name.partition("/")[0] for name in stored} == {STUDENT}
    assert differing(stored, {name: reference[name] for name in stored}) == []


def test_the_best_method_is_chosen_over_shared_pairs_alone(whole, tmp_path):
    results = load_results(whole, rebuild=False)
    few = results[~((results.method == "kl") & (results.fold > 0)) & ~((results.method == "mse") & (results.fold == 0))]
    few.attrs = results.attrs
    assert compare(few).best == "mse"  # two folds against one, and none in common


def test_a_damaged_failure_still_counts(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "jobs" / STUDENT)
    (run / "failed").mkdir(exist_ok=True)
    (run / "failed" / f"{STUDENT}.json").write_text("{")
    (run / "failed" / "gone-l1-f0-s0.json").write_text(json.dumps({"error": "RunError"}))  # of an earlier plan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (failure,) = Study(run).failures
    assert failure.job == STUDENT
    assert "cannot be read" in failure.message


def test_storing_a_job_lists_no_other(data, tmp_path, monkeypatch):
    """A listing of `jobs/` per job would make ten thousand jobs take hours to store."""
    listed: list[str] = []
    for name in ("scandir", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", real=real: (listed.append(os.fspath(path)), real(path))[1])
    monkeypatch.setattr(Progress, "update", lambda self: None)  # its listings are limited by their time
    counts = []
    for folds in (2, 4):
        del listed[:]
        made = study(tmp_path / f"{folds}", data, **merged(THREE, {"folds": folds, "methods": ["mse"]}))
        counts.append(sum(os.path.basename(path) == "jobs" for path in listed))
        assert len(made.results) == 3 * folds
    assert counts[0] == counts[1] < 12
