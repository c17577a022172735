"""Whole comparisons: every form of data and setting, the same result by every way, a folder that is looked after."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import sidelight as sl
from helpers.slow import mostly_slow
from helpers.small import (
    BASE,
    Nearer,
    curves,
    differing,
    fold_models,
    make_data,
    merged,
    outcome,
    plan,
    study,
    table,
    tensors,
)
from sidelight.config import load_config
from sidelight.errors import ConfigError, DataError, RunError, SidelightWarning, UnfinishedError
from sidelight.experiment import execute, models
from sidelight.experiment import run as run_config
from sidelight.experiment import train_alone as alone
from sidelight.experiment import workers as workers_module
from sidelight.experiment.assemble import run_job
from sidelight.experiment.fold import FoldData
from sidelight.experiment.leases import present
from sidelight.experiment.plan import Job, plan_best_controls
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import compute_fingerprint, describe_environment
from sidelight.experiment.resolve import resolve
from sidelight.experiment.study import Study
from sidelight.methods import METHODS as REGISTRY
from sidelight.methods import MethodSpec, parse_methods
from sidelight.report import write_report

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
METHODS = {
    "methods": ["kl", "pkdot", "pkdot+kl@crossfit"],
    "placebo": ["all"],
    "self_distillation": ["kl"],
    "label_fraction": [0.5, 1.0],
}
FEW = {"methods": ["pkdot"]}
TINY = {"methods": ["mse"], "training": {"epochs": 1}}


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """Two folds of one seed, every kind of job, in one go."""
    return study(tmp_path_factory.mktemp("whole") / "run", data, **METHODS).folder


# the same result by every way ---------------------------------------------------------------------------------------


def test_a_run_leaves_what_the_design_says(whole):
    assert {p.name for p in whole.iterdir() if not p.name.startswith(".")} >= {
        "config.yaml", "environment.json", "plan.json", "jobs", "results.csv", "summary.json", "student",
    }  # fmt: skip
    planned = json.loads((whole / "plan.json").read_text())["jobs"]
    assert sorted(planned) == sorted(p.name for p in (whole / "jobs").iterdir())
    for job in (whole / "jobs").iterdir():
        assert {p.name for p in job.iterdir()} == {
            "job.json", "curves.csv", "model.json", "model.safetensors", "predictions.csv", "similarity.safetensors",
        }  # fmt: skip
    assert not list(whole.rglob(".*.tmp"))
    assert not list((whole / "checkpoints").iterdir())
    results = pd.read_csv(whole / "results.csv", keep_default_na=False)
    assert list(results.columns[:6]) == ["method", "control", "labels", "fold", "seed", "select"]
    at = results.columns.get_loc("seconds")
    facts = ["select_labels", "best_epoch", "ended", "lacks_train", "lacks_select", "lacks_test"]
    assert list(results.columns[at : at + 9]) == ["seconds", "n_train", "n_test", *facts]
    assert all(c.startswith("seen.") for c in results.columns[at + 9 :])
    kinds = {("baseline", ""), ("teacher", ""), ("teacher", "placebo"), ("kl", "self")}
    kinds |= {(m, c) for m in METHODS["methods"] for c in ("", "placebo")}
    assert len(results) == len(kinds) * 2 * 2
    assert set(zip(results.method, results.control)) == kinds


def test_stored_predictions_are_those_of_the_test_rows(whole, data):
    made = fold_models(whole, data, **METHODS)
    for job in ("kl-l0.5-f0-s0", "pkdot-l1-f0-s0", "pkdot+kl@crossfit~placebo-l1-f0-s0"):
        folder = whole / "jobs" / job
        told = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
        rows = made.data.fold.test
        assert told["id"].tolist() == data.ids[rows].tolist()
        assert told["group"].tolist() == data.group[rows].tolist()
        assert told["target"].tolist() == [data.class_names[c] for c in data.target[rows]]
        record = json.loads((folder / "job.json").read_text())
        assert record["metrics"]["accuracy"] == pytest.approx((told["target"] == told["prediction"]).mean())
        assert record["n_test"] == len(rows)
        student = sl.load_student(folder / "model.safetensors")
        assert student.reads == ("phone",)
        assert student.predict({"phone": data.inputs["phone"][rows]}).tolist() == told["prediction"].tolist()


def test_the_stored_select_score_is_the_best_of_the_curve(whole):
    for job in (whole / "jobs").iterdir():
        record, curve = json.loads((job / "job.json").read_text()), curves(job)
        assert record["select"] == curve["select"].max()
        assert record["best_epoch"] == curve["epoch"][curve["select"].idxmax()]
        assert record["stopped_epoch"] == len(curve)


def test_a_job_does_not_depend_on_the_others_nor_on_the_order(whole, data, tmp_path):
    reference = outcome(whole)
    jobs = plan(data, **METHODS)
    made = fold_models(tmp_path / "backwards", data, fold=1, **METHODS)
    for job in reversed([job for job in jobs if job.fold == 1]):
        run_job(made, job)
    backwards = outcome(tmp_path / "backwards")
    assert differing(backwards, {k: v for k, v in reference.items() if "-f1-" in k}) == []
    for job in jobs[-1], next(j for j in jobs if j.control == "placebo" and j.method == "pkdot"):
        alone = tmp_path / f"alone-{job.id}"
        few = {"methods": [job.method], "placebo": ["none"], "self_distillation": ["none"]}
        run_job(fold_models(alone, data, fold=job.fold, **METHODS | few), job)
        left = outcome(alone)
        assert f"{job.id}/model.safetensors" in left
        assert differing(left, {k: reference[k] for k in left}) == []


def test_a_pool_of_processes_leaves_the_same_bits(whole, tmp_path):
    """From a script as a newcomer writes it: without a main guard, which workers would begin anew, with threads, and
    with a method of one's own, which the workers learn of."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import json, torch\n"
        "from pathlib import Path\n"
        "from helpers.small import Nearer, make_data, study\n"
        "from sidelight.methods import METHODS\n"
        "from sidelight.experiment.study import Study\n"
        "print('begun')\n"
        "torch.set_num_threads(2)\n"
        "Study.report = lambda self, path=None: None\n"
        "METHODS['nearer'] = Nearer\n"
        "made = study(Path(sys.argv[2]), make_data(), jobs=2, **json.loads(sys.argv[3]))\n"
        "print(torch.get_num_threads())\n"
    )
    alone = {"placebo": ["none"], "self_distillation": ["none"]}
    asked = METHODS | alone | {"methods": ["kl", "nearer"], "label_fraction": [1.0]}
    words = [sys.executable, str(script), str(Path(__file__).parents[1]), str(tmp_path / "run"), json.dumps(asked)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.stdout == "begun\n2\n", done.stderr
    left, right = outcome(tmp_path / "run"), outcome(whole)
    own, known = set(left) - set(right), set(left) & set(right)
    assert own
    assert all(name.startswith("nearer") for name in own)
    assert {name.split("-l1")[0] for name in known} == {"kl", "baseline", "teacher"}
    assert differing({name: left[name] for name in known}, {name: right[name] for name in known}) == []
    results, same = table(tmp_path / "run"), table(whole)
    assert len(results[results["method"] == "nearer"]) == 2
    there = same[(same["labels"] == 1) & (same["control"].fillna("") == "") & same["method"].isin(results["method"])]
    assert results[results["method"] != "nearer"].reset_index(drop=True).equals(there.reset_index(drop=True))


@pytest.fixture(scope="module")
def two_seeds(data, tmp_path_factory) -> Path:
    """Two folds of two seeds at once."""
    return study(tmp_path_factory.mktemp("seeds") / "run", data, seeds=2, **FEW).folder


def test_twice_the_same_and_another_seed_another(two_seeds, tmp_path, data):
    again = study(tmp_path / "again", data, seed=1, **FEW).folder
    left = outcome(two_seeds)
    for name, record in left.items():
        if name.endswith("job.json"):
            record["config"]["seed"] += "-s1" in name  # the run's first seed
    first, second = ({k: v for k, v in left.items() if f"-s{seed}" in k} for seed in (0, 1))
    assert differing(second, outcome(again)) == []
    for name, value in first.items():
        assert value != second[name.replace("-s0", "-s1")], name
    folds = [FoldData(fold_models(tmp_path, data, **FEW).config, data, 0, seed).fold.test.tolist() for seed in (0, 1)]
    assert folds[0] != folds[1]


def test_seeds_and_folds_have_their_own_initial_weights_and_order(tmp_path, data, monkeypatch):
    """Also where the split is given, so that seeds train on the same rows."""
    drawn: list[tuple[bytes, int]] = []

    def spy(method, *_: Any, seed: int, **more: Any) -> None:
        drawn.append((next(method.parameters()).detach().numpy().tobytes(), seed))
        raise KeyboardInterrupt

    monkeypatch.setattr(alone, "fit", spy)
    for fold, seed, protocol in ((0, 0, "official"), (0, 1, "official"), (1, 0, "group-kfold"), (1, 1, "group-kfold")):
        with pytest.raises(KeyboardInterrupt):
            run_job(fold_models(tmp_path, data, fold, seed, protocol=protocol), Job("baseline", "", 1.0, fold, seed))
    assert len({weights for weights, _ in drawn}) == len({order for _, order in drawn}) == 4


@pytest.mark.slow  # jobs that do not depend on one another, above, and on what is there, below
def test_a_run_of_more_methods_controls_and_budgets_is_the_run_done_at_once(whole, data, tmp_path):
    small = METHODS | {"methods": ["kl"], "placebo": ["none"], "self_distillation": ["none"], "label_fraction": [1.0]}
    run = study(tmp_path / "run", data, **small).folder
    assert len(table(run)) == 2 * 3
    study(run, data, resume=True, **METHODS)
    assert differing(outcome(run), outcome(whole)) == []
    assert table(run).equals(table(whole))


def test_a_run_of_more_seeds_is_the_run_done_at_once(two_seeds, data, tmp_path):
    for n in (1, 2):
        study(tmp_path / "two", data, resume=True, seeds=n, **FEW)
    assert differing(outcome(tmp_path / "two"), outcome(two_seeds)) == []
    assert table(tmp_path / "two").equals(table(two_seeds))


def test_a_finished_run_is_resumed_without_training(whole, data, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("jobs/**/*")}
    monkeypatch.setattr(alone, "fit", lambda *a, **k: pytest.fail("trained again"))
    study(whole, data, resume=True, **METHODS)
    assert before == {p: p.stat().st_mtime_ns for p in whole.rglob("jobs/**/*")}


def test_a_lost_job_is_made_again_alone_to_the_bit(whole, data, tmp_path, monkeypatch):
    run = shutil.copytree(whole, tmp_path / "run")
    lost = ["teacher-l1-f0-s0", "pkdot+kl@crossfit-l0.5-f1-s0"]
    for job in lost:
        shutil.rmtree(run / "jobs" / job)
    (run / "results.csv").unlink()
    trained: list[str] = []
    fit = alone.fit
    monkeypatch.setattr(alone, "fit", lambda *a, **k: trained.append(k["identity"]) or fit(*a, **k))
    study(run, data, resume=True, **METHODS)
    assert trained == lost
    assert differing(outcome(run), outcome(whole)) == []
    assert table(run).equals(table(whole))


def test_a_best_method_without_self_distillation_is_named_and_its_jobs_are_not_counted(tmp_path, data, monkeypatch):
    said: list[str] = []
    totals: list[int] = []
    monkeypatch.setattr(Progress, "warn", lambda self, messages: said.extend(messages))
    monkeypatch.setattr(Progress, "expect", lambda self, total: totals.append(total))
    monkeypatch.setattr(Study, "best_method", lambda self, labels: "mers")
    study(tmp_path / "run", data, methods=["mers", "kl"], placebo=["none"], self_distillation=["best"])
    assert [m for m in said if "self-distillation" in m] == [
        "no self-distillation beside 'mers', the best method: it compares privileged features, and a baseline as its "
        "teacher has none"
    ]
    assert totals == [len(list((tmp_path / "run" / "jobs").glob("[!.]*")))]


def test_the_best_method_gets_its_placebo_and_self(tmp_path, data):
    made = study(tmp_path / "run", data, methods=["mse", "kl"], placebo=["best"], self_distillation=["best"])
    best = made.best_method(1.0)
    controls = made.results[made.results.control != ""]
    assert set(zip(controls.method, controls.control)) == {
        (best, "placebo"), ("teacher", "placebo"), (best, "self")
    }  # fmt: skip
    planned = json.loads((made.folder / "plan.json").read_text())["jobs"]
    assert len(planned) == len(made.results) == 2 * (4 + 3)


def test_controls_are_planned_before_the_first_result_only_where_they_are_known():
    config = load_config({"methods": ["kl", "mse"], "placebo": ["best"], "seeds": 1, "label_fraction": [0.2]})
    jobs = [Job(m, "", share, 0, 0) for m, share in (("baseline", 1.0), ("baseline", 0.2), ("kl", 0.2))]
    specs = parse_methods(config.methods)
    added = plan_best_controls(config, specs, jobs, {0.2: "kl"})
    assert [(j.method, j.control, j.label_fraction) for j in added] == [
        ("teacher", "placebo", 0.2),
        ("kl", "placebo", 0.2),
    ]
    assert plan_best_controls(replace(config, placebo=["all"]), specs, jobs, {0.2: "kl"}) == []
    assert plan_best_controls(replace(config, placebo=["none"]), specs, jobs, {0.2: "kl"}) == []


# the folder ---------------------------------------------------------------------------------------------------------


def test_another_configuration_is_refused_with_what_differs(whole, data):
    before = sorted(p.stat().st_mtime_ns for p in whole.rglob("*"))
    with pytest.raises(RunError) as error:
        study(whole, data, resume=True, **METHODS | {"training": {"epochs": 4}, "standardize": "group"})
    text = str(error.value)
    assert f"{whole} belongs to another configuration" in text
    assert "training.epochs: 2 there, 4 here" in text
    assert "standardize: 'train' there, 'group' here" in text
    assert text.count(" there, ") == 2
    assert "--output" in text
    assert before == sorted(p.stat().st_mtime_ns for p in whole.rglob("*"))


def test_the_same_run_needs_to_be_resumed_by_name(whole, data):
    with pytest.raises(RunError, match=r"already holds this run.*--resume"):
        study(whole, data, **METHODS)


def test_an_experiment_file_and_its_run_go_on_from_anywhere(tmp_path, data, monkeypatch):
    """Data beside the file, the run elsewhere; then all is moved and the run resumed by its own config.yaml."""
    (tmp_path / "old").mkdir()
    monkeypatch.chdir(tmp_path / "old")
    Path("study").mkdir()
    np.savez("study/rows.npz", **{m: data.inputs[m] for m in ("phone", "watch")}, y=data.target, group=data.group)
    settings = merged(BASE, {**TINY, "privileged": ["watch"], "methods": ["kl"]}) | {"data": "rows.npz"}
    Path("study/experiment.yaml").write_text(json.dumps(settings | {"output": "runs/x"}))
    done = len(run_config(load_config("study/experiment.yaml"), quiet=True).results)
    stored = Path("runs/x/config.yaml").read_text()
    assert "data: ../../study/rows.npz\n" in stored
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(next(Path("new/runs/x/jobs").glob("kl*")))
    again = run_config(load_config("new/runs/x/config.yaml"), resume=True, quiet=True)
    assert (again.folder, len(again.results)) == (Path("new/runs/x"), done)
    assert Path("new/runs/x/config.yaml").read_text().partition("output")[0] == stored.partition("output")[0]


def test_a_run_in_memory_is_no_path(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(data.name).mkdir()
    study("run", data, **TINY)
    assert f"data: {data.name}\n" in Path("run/config.yaml").read_text()
    assert len(study("run", data, resume=True, **TINY).results) == 6


def test_a_folder_of_something_else_is_left_alone(tmp_path, data):
    (tmp_path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(RunError, match="not empty and not a run folder"):
            study(tmp_path, data, resume=resume, **TINY)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".lock"] == ["thesis.tex"]


def test_an_empty_folder_and_a_beginning_that_was_killed_are_used(tmp_path, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.yaml.17-abc123.tmp").write_text("data: sm")
    assert len(study(tmp_path / "run", data, **TINY).results) == 6
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_second_run_in_one_folder_helps_or_is_refused(two_seeds, data):
    with present(two_seeds):
        with pytest.raises(RunError, match=r"another process is running in .* help it with --resume"):
            study(two_seeds, data, seeds=2, **FEW)
        with pytest.raises(
            RunError, match=r"another process is running in .* with other settings:\n  seeds: 2 there, 3"
        ):
            study(two_seeds, data, resume=True, seeds=3, **FEW)
        assert study(two_seeds, data, resume=True, seeds=2, **FEW).folder == two_seeds
        assert list((two_seeds / ".work" / "leases").iterdir())
    study(two_seeds, data, resume=True, seeds=2, **FEW)
    assert not (two_seeds / ".work").exists()


def test_a_second_run_trains_what_the_first_does_not(tmp_path, data, monkeypatch):
    """The second one begins while the first trains its first network, and finds one fold taken."""
    trained, seen = [], []
    fit = alone.fit

    def busy(*args, **more):
        trained.append(more["identity"])
        if not seen:
            seen.append(True)
            monkeypatch.setattr(workers_module, "PATIENCE", (0.0, 0.0))
            monkeypatch.setattr(workers_module.GivingOut, "_take_back", leave)
            with pytest.raises(UnfinishedError, match="1 of 2 cells"):
                study(tmp_path / "run", data, resume=True, **TINY)
            monkeypatch.undo()
            monkeypatch.setattr(alone, "fit", busy)
        return fit(*args, **more)

    def leave(self):
        if self.busy and not self.waiting:
            self._stop()

    monkeypatch.setattr(alone, "fit", busy)
    made = study(tmp_path / "run", data, **TINY)
    assert len(made.results) == 6
    assert len(trained) == len(set(trained)) == 6
    assert {name.split("-f")[1] for name in trained[1:4]} == {"1-s0"}


def changed(data, what: str):
    if what == "an input":
        inputs = {m: x.copy() for m, x in data.inputs.items()}
        inputs["pulse"][3, 2, 1] += 1e-3
        return replace(data, inputs=inputs)
    if what == "a target":
        target = data.target.copy()
        target[0] = (target[0] + 1) % 3
        return replace(data, target=target)
    if what == "a label":
        labelled = data.labelled.copy()
        labelled[0] = ~labelled[0]
        return replace(data, labelled=labelled)
    if what == "a class name":
        return replace(data, class_names=("low", "medium", "high"))
    if what == "presence":
        return replace(data, present=data.present | {"watch": ~data.present["watch"]})
    if what == "a length":
        return replace(data, lengths={"pulse": np.maximum(data.lengths["pulse"] - 1, 1)})
    column = {"a group": "group", "an id": "ids", "the split": "split"}[what]
    values = getattr(data, column).copy()
    values[0] = {"group": "g09", "ids": "another", "split": "test"}[column]
    return replace(data, **{column: values})


CHANGES = [
    "an input", "a target", "a label", "a class name", "presence", "a length", "a group", "an id", "the split",
]  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_data_that_changed_are_not_mixed_with_what_was_begun(what, whole, data):
    with pytest.raises(RunError, match="the data changed since"):
        study(whole, changed(data, what), resume=True, **METHODS)


def test_what_is_missing_and_what_the_data_call_things_is_stored(data):
    """For the report: settings know neither the names nor the gaps of data in memory."""
    inputs = {"phone": data.inputs["phone"].copy(), "watch": data.inputs["watch"].copy()}
    inputs["phone"][3, :2], inputs["watch"][4:9] = np.nan, np.nan
    names = {f"{m}.{k}": column for m, x in inputs.items() for k, column in enumerate(x.T)}
    frame = pd.DataFrame({"pain": np.arange(len(data)) % 3, "person": data.group, **names})
    told = describe_environment(sl.load(frame, target="pain", group="person", impute="mean"), {})["data"]
    assert (told["target"], told["group"]) == ("pain", "person")
    assert (told["missing"], told["imputed"]) == ({"watch": 5}, {"phone": 2})


def test_what_no_job_can_read_is_no_change_of_the_data(data):
    target = data.target.copy()
    target[~data.labelled] = 0
    assert compute_fingerprint(replace(data, target=target)) == compute_fingerprint(data)
    assert compute_fingerprint(make_data()) == compute_fingerprint(data)


@pytest.mark.parametrize("under", ["a file", "no such device"])
def test_a_folder_that_cannot_be_written_is_named(under, tmp_path, data):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "run" if under == "a file" else Path("/proc/no-such-place/run")
    with pytest.raises(RunError, match=r"cannot write the run folder .*run.*--output"):
        study(place, data, **TINY)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path, data):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"cannot write the run folder .*Permission denied"):
        study(tmp_path / "run", data, **TINY)


@pytest.mark.parametrize(
    ("call", "where", "mark"),
    [
        ("fsync", "jobs", "pkdot-l1-f0-s0"),
        pytest.param("replace", "jobs", "pkdot-l1-f0-s0", marks=pytest.mark.slow),
        pytest.param("fsync", "shared", "teacher-l1-f0-s0-tnets.safetensors", marks=pytest.mark.slow),
        ("replace", "checkpoints", "kl-l1-f1-s0.pt"),
    ],
)
def test_a_full_disk_is_named_and_nothing_is_lost(call, where, mark, whole, data, tmp_path, monkeypatch):
    """The disk is full when a job, T-Nets, or the state of a job are written; then there is room again."""
    run, real = tmp_path / "run", getattr(os, call)
    settings = {"methods": ["kl", "pkdot"], "checkpoint_seconds": 0.0 if where == "checkpoints" else 30.0}

    def full(target: Any, *more: Any) -> Any:
        name = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
        if f"/{where}/" in name and mark in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(target, *more)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(RunError) as error:
        study(run, data, **settings)
    monkeypatch.setattr(os, call, real)
    assert "No space left on device" in str(error.value)
    assert f"cannot write {run / where}" in str(error.value).replace("could not write the checkpoint", "cannot write")
    assert mark in str(error.value)
    reference, stored = outcome(whole), outcome(run)
    assert "kl-l1-f0-s0/model.safetensors" in stored
    assert not any(mark in name for name in stored)
    assert differing(stored, {name: reference[name] for name in stored}) == []
    study(run, data, resume=True, **settings)
    finished = outcome(run)
    assert {name.partition("/")[0] for name in finished} >= {"kl-l1-f1-s0", "pkdot-l1-f0-s0", "pkdot-l1-f1-s0"}
    assert differing(finished, {name: reference[name] for name in finished}) == []
    assert len(table(run)) == 2 * 4
    assert not list(run.rglob("*.tmp"))
    assert not list((run / "checkpoints").iterdir())


def test_what_was_begun_and_finished_nothing_may_be_begun_otherwise(tmp_path, data, monkeypatch):
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models, "store_job", stopped)
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "run", data, **TINY)
    with pytest.raises(RunError, match="already holds this run"):
        study(tmp_path / "run", data, **TINY)
    made = study(tmp_path / "run", data, **merged(TINY, {"training": {"epochs": 2}}))
    assert made.config.training.epochs == 2
    fresh = study(tmp_path / "fresh", data, **merged(TINY, {"training": {"epochs": 2}}))
    assert differing(outcome(made.folder), outcome(fresh.folder)) == []


def test_other_versions_are_warned_of(two_seeds, data, tmp_path):
    run = shutil.copytree(two_seeds, tmp_path / "run")
    told = json.loads((run / "environment.json").read_text())
    told["versions"]["torch"] = "1.0"
    (run / "environment.json").write_text(json.dumps(told))
    with pytest.warns(SidelightWarning, match=r"other versions \(torch 1.0 → "):
        study(run, data, resume=True, seeds=2, **FEW)


def test_what_cannot_begin_leaves_no_folder(tmp_path, data):
    """So that the mended command finds no other configuration there."""
    for settings, error in (
        ({"folds": 40}, DataError),
        ({"available": ["phon"]}, ConfigError),
        ({"methods": ["kl"], "student": {"freeze": True, "init": "random"}}, ConfigError),
    ):
        with pytest.raises(error):
            study(tmp_path / "run", data, **merged(TINY, settings))
        assert not (tmp_path / "run").exists()


# every form of data -------------------------------------------------------------------------------------------------


def arrays(data) -> dict[str, Any]:
    return {
        **data.inputs,
        "watch_present": data.present["watch"],
        "pulse_length": data.lengths["pulse"],
        "target": np.where(data.labelled, data.target, -1),
        "class_names": np.array(data.class_names),
        "subject": data.group,
        "id": data.ids,
    }


def frame(data) -> pd.DataFrame:
    columns = {f"{m}.{k}": x for m in ("phone", "watch") for k, x in enumerate(data.inputs[m].astype(float).T)}
    for name in columns:
        if name.startswith("watch"):
            columns[name] = np.where(data.present["watch"], columns[name], np.nan)
    target = np.where(data.labelled, np.array(data.class_names)[data.target], None)
    return pd.DataFrame(columns | {"feeling": target, "who": data.group, "id": data.ids})


def test_every_way_in_gives_the_same_weights(tmp_path, data):
    data = replace(data, split=None, target=data.target)
    simple = data.select(["phone", "watch"])
    names = TINY | {"privileged": ["watch"]}
    runs = {
        "dataset": study(tmp_path / "dataset", simple, **names),
        "arrays": study(tmp_path / "arrays", arrays(data), **names),
        "frame": study(tmp_path / "frame", frame(data), target="feeling", group="who", **names),
    }
    frame(data).to_csv(tmp_path / "rows.csv", index=False)
    np.savez(tmp_path / "rows.npz", **arrays(data))
    runs["csv"] = study(tmp_path / "csv", tmp_path / "rows.csv", target="feeling", group="who", **names)
    runs["npz"] = study(tmp_path / "npz", str(tmp_path / "rows.npz"), **names)
    order = {name: sorted(p.name for p in (made.folder / "jobs").iterdir()) for name, made in runs.items()}
    assert len(set(map(tuple, order.values()))) == 1
    for job in order["dataset"]:
        mine = tensors(runs["dataset"].folder / "jobs" / job)
        for name, made in runs.items():
            if name not in ("frame", "csv"):  # classes by name come in another order, and so in another output
                theirs = tensors(made.folder / "jobs" / job)
                assert [k for k in mine if not np.array_equal(mine[k], theirs[k])] == [], name
        read = [tensors(runs[name].folder / "jobs" / job) for name in ("frame", "csv")]
        assert [k for k in read[0] if not np.array_equal(read[0][k], read[1][k])] == []
    assert runs["csv"].config.data == str(tmp_path / "rows.csv")
    assert runs["arrays"].results.n_test.tolist() == runs["frame"].results.n_test.tolist()
    assert runs["frame"].best().student.class_names == ("high", "low", "middle")


def test_a_built_in_set_answers_its_own_question(tmp_path, monkeypatch):
    few = sl.load("phone-watch")
    assert resolve(load_config({"data": "phone-watch"}), few).label_fraction == few.default_modalities["label_fraction"]
    assert resolve(load_config({"data": "phone-watch"}), few).available == ["phone_acc"]
    assert resolve(load_config({"data": "phone-watch"}), few).output == "runs/phone-watch"


def test_regression_of_two_targets(tmp_path, texts_of_figures):
    data = make_data("regression")  # one target is missing in some rows
    made = study(tmp_path / "run", data, methods=["mse", "pkdot+mse"], training={"epochs": 5})
    assert list(made.results.columns[6:11]) == ["ccc", "mae", "rmse", "ccc_valence", "ccc_arousal"]
    assert made.results[["ccc_valence", "ccc_arousal"]].mean(axis=1).tolist() == pytest.approx(
        made.results.ccc.tolist()
    )
    assert "CCC of valence" in write_report(made.folder, tmp_path / "report.html").read_text("utf-8")
    assert made.results.ccc.between(-1, 1).all()
    means = made.results[made.results.control == ""].groupby("method").ccc.mean()
    assert means["teacher"] > means["baseline"]
    told = pd.read_csv(made.folder / "jobs" / "pkdot+mse-l1-f0-s0" / "predictions.csv")
    assert {"target.valence", "target.arousal", "prediction.valence", "prediction.arousal"} <= set(told)
    assert told["target.arousal"].isna().any()
    student = made.best().student
    rows = fold_models(tmp_path, data, methods=["mse"]).data.fold.test
    assert student.predict({"phone": data.inputs["phone"][rows]}).shape == (len(rows), 2)
    assert made.table().attrs["metric"] == "ccc"


@pytest.mark.parametrize(
    "fusion", mostly_slow(["concat", "joint-cross-attention", "multimodal-transformer"], ["joint-cross-attention"])
)
def test_signals_of_varying_length_in_every_fusion(fusion, tmp_path, data):
    """Rows that lack the watch, rows without a label, a student that hallucinates tokens."""
    inputs = data.inputs | {"swing": np.repeat(data.inputs["pulse"][:, :8, :1], 2, 2)}
    data = replace(data, inputs=inputs, lengths=data.lengths | {"swing": np.full(len(data), 8)}, present=data.present)
    assert not data.labelled.all()
    assert not data.present["watch"].all()
    made = fold_models(
        tmp_path,
        data,
        available=["phone", "swing"],
        methods=["pkdot"],
        network={"fusion": fusion, "encoder": "cnn", "tokens": 4, "width": 8},
        training={"epochs": 2},
        teacher={"crossfit": 2},
    )
    for method, control in (("pkdot", ""), ("mse@crossfit", ""), ("pkdot", "placebo")):
        run_job(made, Job(method, control, 1.0, 0, 0))
    student = sl.load_student(tmp_path / "jobs" / "pkdot-l1-f0-s0" / "model.safetensors")
    assert set(student.network.hallucinators) == {"watch", "pulse"}
    given = {m: data.inputs[m] for m in ("phone", "swing")}
    steps = {"swing": data.lengths["swing"]}
    assert set(student.predict(given, lengths=steps)) <= set(data.class_names)
    padded = given | {"swing": np.pad(given["swing"], ((0, 0), (0, 3), (0, 0)), constant_values=9)}
    assert np.allclose(
        student.predict_proba(padded, lengths=steps), student.predict_proba(given, lengths=steps), atol=1e-6
    )


def test_each_group_by_its_own_statistics(tmp_path, data):
    made = study(tmp_path / "run", data, standardize="group", **TINY)
    student = made.best().student
    group = data.group[data.split == "test"]
    assert len(student.predict({"phone": data.inputs["phone"][data.split == "test"]}, group=group)) == len(group)
    with pytest.raises((ConfigError, DataError), match="group"):
        student.predict({"phone": data.inputs["phone"][:1]})
    with pytest.raises(ConfigError, match="needs groups"):
        study(tmp_path / "other", replace(data, group=None), standardize="group", protocol="official", **TINY)


@pytest.mark.parametrize(
    ("protocol", "folds"), [("leave-one-group-out", 4), ("official", 1), ("auto", 1), ("random", 3)]
)
def test_protocols(protocol, folds, tmp_path):
    data = make_data(groups=4 if protocol == "leave-one-group-out" else 16)
    made = study(tmp_path / "run", data, protocol=protocol, folds=3, **TINY)
    assert sorted(made.results.fold.unique()) == list(range(folds))
    if folds == 1:
        told = pd.read_csv(made.folder / "jobs" / "mse-l1-f0-s0" / "predictions.csv")
        assert set(told["id"]) == set(data.ids[(data.split == "test") & data.labelled])
        assert made.config.protocol == "official"


def test_rows_whose_place_is_random_are_warned_of(tmp_path, data):
    with pytest.warns(SidelightWarning, match="random"):
        study(tmp_path / "run", data, protocol="random", **TINY)


def test_missing_values_are_imputed_where_the_data_set_or_the_setting_says_so(tmp_path, data):
    table = frame(data)
    table.loc[::5, "phone.1"] = np.nan
    names = {"target": "feeling", "group": "who", "privileged": ["watch"], **TINY}
    with pytest.raises(DataError, match=r"'phone' is nan in row 0"):
        study(tmp_path / "run", table, **names)
    asked = study(tmp_path / "asked", table, impute="mean", **names)
    loaded = sl.load(table, target="feeling", group="who", impute="mean")
    known = study(tmp_path / "known", loaded, privileged=["watch"], **TINY)
    a, b = (tensors(made.folder / "jobs" / "mse-l1-f0-s0") for made in (asked, known))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert known.config.impute == "mean"
    where = loaded.inputs["phone"][:6]
    assert np.isnan(where).any()
    assert len(known.best().student.predict({"phone": where})) == 6


def test_more_classes_than_the_probe_has_rows(tmp_path):
    target, names = np.arange(560) // 4 % 70, tuple(f"c{i}" for i in range(70))
    data = make_data(n=560, groups=4, target=target, class_names=names, labelled=np.ones(560, bool))
    made = study(tmp_path / "run", data, **TINY)
    for job in (made.folder / "jobs").iterdir():
        probe = load_file(job / "similarity.safetensors")
        assert len(probe["group"]) == len(probe["epoch_0001"]) > 60


# settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 3}, "unknown setting 'fold'.*'folds'"),
        ({"training": {"epoch": 3}}, "unknown setting 'training.epoch'.*'training.epochs'"),
        ({"methods": ["pkdott"]}, "unknown method 'pkdott'.*'pkdot'"),
        ({"methods": ["kl@crosfit"]}, "unknown method suffix '@crosfit'.*'@crossfit'"),
        ({"methods": ["kl+kl"]}, "names a term twice"),
        ({"methods": ["teacher"]}, "part of every comparison"),
        ({"methods": []}, "at least one"),
        ({"placebo": ["mse"]}, "unknown method of placebo 'mse'"),
        ({"available": ["fone"]}, "available: unknown modality 'fone'.*'phone'"),
        ({"privileged": []}, "no privileged modality"),
        ({"privileged": ["phone"]}, "both"),
        ({"protocol": "kfold"}, "unknown value of protocol 'kfold'"),
        ({"label_fraction": [0.0]}, "label_fraction must be in"),
        ({"student": {"freeze": True, "init": "random"}}, "student.freeze.*init=teacher"),
        ({"target": "feeling"}, "target: a Dataset has its own"),
        ({"group": "who"}, "group: a Dataset has its own"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_any_training(settings, message, tmp_path, data, monkeypatch):
    monkeypatch.setattr(alone, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=message):
        study(tmp_path / "run", data, **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["kl", "pkdot+kl", "kl@crossfit"])
def test_a_method_without_meaning_for_the_task_is_refused_before_any_training(method, tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=r"'kl'.*does not support regression.*use 'mse'"):
        study(tmp_path / "run", make_data("regression"), methods=["mse", method])
    assert not (tmp_path / "run").exists()


IMAGES = {"watch": np.random.default_rng(0).normal(size=(144, 1, 8, 8)).astype(np.float16)}
NO_SLOTS = {"student": {"hallucinate": "no"}}


@pytest.mark.parametrize(
    ("method", "task", "settings", "message"),
    [
        ("mtnet", "classification", {}, "'mtnet' generates the inputs.*'watch' holds images: use 'mers'"),
        ("mers", "classification", NO_SLOTS, "'mers' compares hallucinated.*hallucinate=no.*auto or encoder"),
        ("kl+cmkd", "classification", NO_SLOTS, "'cmkd' compares hallucinated.*hallucinate=no"),
        ("dask", "regression", NO_SLOTS, "'dask' compares hallucinated.*hallucinate=no"),
        ("osmd", "segmentation", {"privileged": ["pulse"]}, "'osmd' trains a branch.*pulse has none: use 'pkdot'"),
    ],
)
def test_what_a_method_cannot_be_built_with_is_named_before_any_training(
    method, task, settings, message, tmp_path, monkeypatch
):
    """The same method with other data or settings is trained: `test_balance` and `test_methods` do."""
    data = make_data(task)
    data = replace(data, inputs=data.inputs | IMAGES) if method == "mtnet" else data
    monkeypatch.setattr(alone, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=message):
        study(tmp_path / "run", data, methods=["mse", method], **settings)
    assert not (tmp_path / "run").exists()


def test_one_name_may_stand_for_a_list(tmp_path, data):
    rest = {k: v for k, v in merged(BASE, TINY).items() if k not in ("available", "privileged", "methods")}
    made = sl.compare(data, "phone", "watch", "mse", **rest, output=str(tmp_path / "run"), quiet=True)
    assert made.config.available == ["phone"]
    assert made.config.privileged == ["watch"]
    assert set(made.results.method) == {"baseline", "teacher", "mse"}


def start_of(tmp_path: Path, data, method: str = "pkdot", **student: Any) -> tuple[dict, dict, dict]:
    """Weights of the teacher, of the student before its first step, and of the student when it has learnt."""
    made = fold_models(tmp_path, data, methods=[method], student=student)
    before: dict[str, np.ndarray] = {}
    fit = alone.fit

    def spy(method, *args, identity, **more):
        if identity.startswith("pkdot") or identity.startswith("mse"):
            before.update({k: v.numpy().copy() for k, v in method.deployed_network().state_dict().items()})
        return fit(method, *args, identity=identity, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alone, "fit", spy)
        run_job(made, Job(method, "", 1.0, 0, 0))
    ended = [tensors(tmp_path / "jobs" / f"{name}-l1-f0-s0") for name in ("teacher", method)]
    teacher, after = ({k.removeprefix("network."): v for k, v in t.items() if k.startswith("network.")} for t in ended)
    return teacher, before, after


def agreeing(a: dict, b: dict) -> set[str]:
    """The parts whose weights are the same in both."""
    names = {k.split(".")[0] for k in {*a} & {*b}}
    both = {*a} & {*b}
    return {p for p in names if all(np.array_equal(a[k], b[k]) for k in both if k.startswith(f"{p}."))}


def test_a_student_begins_as_the_teacher_ended(tmp_path, data):
    teacher, before, after = start_of(tmp_path, data)
    assert agreeing(teacher, before) == {"encoders", "fusion", "head"}
    assert {k for k in before if k.startswith("encoders.")} == {k for k in before if k.startswith("encoders.phone.")}
    assert agreeing(teacher, after) == set()
    assert agreeing(before, after) == {"hallucinators"}  # T-Nets are frozen


def test_a_student_of_random_weights(tmp_path, data):
    teacher, before, after = start_of(tmp_path, data, init="random")
    assert agreeing(teacher, before) == set()
    assert agreeing(before, after) == {"hallucinators"}


def test_a_student_with_frozen_encoders(tmp_path, data):
    teacher, before, after = start_of(tmp_path, data, freeze=True)
    assert agreeing(teacher, after) == {"encoders"}
    assert agreeing(before, after) == {"encoders", "hallucinators"}


def why_not_taught_by_a_baseline(name: str) -> str:
    if name in ("autoencoder", "mers", "cmkd", "dask", "cmkd+mse"):
        return "compares privileged"
    return "stages of its own" if MethodSpec.parse(name).multi_stage else ""


@pytest.mark.parametrize("name", [*REGISTRY, "cmkd+mse"])
def test_a_method_is_taught_by_a_baseline_or_says_before_any_training_why_it_cannot_be(name, data):
    reason = why_not_taught_by_a_baseline(name)
    settings = {"methods": ["kl", name] if name != "kl" else ["kl"], "training": {"epochs": 1}}
    settings |= REGISTRY[name.partition("+")[0]].check_study
    jobs = plan(data, **settings, self_distillation=["all"])
    assert {job.method for job in jobs if job.control == "self"} == {"kl"} | ({name} if not reason else set())
    best = load_config(merged(BASE, settings | {"placebo": ["none"], "self_distillation": ["best"]}))
    known = [job for job in jobs if job.control == ""]
    assert {job.method for job in plan_best_controls(best, parse_methods(settings["methods"]), known, {1.0: name})} == (
        set() if reason else {name}
    )
    if reason:
        with pytest.raises(ConfigError, match=f"self_distillation: '{re.escape(name)}' .*{reason}"):
            plan(data, **settings, self_distillation=[name])
        with pytest.raises(ConfigError, match=f"no method supports it: '{re.escape(name)}' .*{reason}"):
            plan(data, **settings | {"methods": [name]}, self_distillation=["best"])


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        [name for name in REGISTRY if not why_not_taught_by_a_baseline(name)], ["kl", "pkdot", "fitnet", "crd"]
    ),
)
def test_a_method_learns_from_a_baseline(name, tmp_path, data):
    settings = {"methods": ["kl", name] if name != "kl" else ["kl"], "training": {"epochs": 1}}
    settings |= REGISTRY[name].check_study
    run_job(fold_models(tmp_path, data, **settings), job := Job(name, "self", 1.0, 0, 0))
    assert (tmp_path / "jobs" / job.id / "job.json").is_file()


@pytest.mark.parametrize(
    ("method", "choice", "slots", "tnets"),
    [("pkdot", "no", False, False), ("mse", "auto", False, False), ("mse", "t-net", True, True),
     ("mse", "encoder", True, False)],
)  # fmt: skip
def test_hallucination_can_be_chosen(tmp_path, data, method, choice, slots, tnets):
    teacher, before, after = start_of(tmp_path, data, method, hallucinate=choice)
    assert any(k.startswith("hallucinators.") for k in before) is slots
    assert bool(list(tmp_path.glob("shared/*tnets*"))) is tnets
    assert agreeing({k: v for k, v in teacher.items() if "phone" in k}, before) >= {"encoders"}
    assert ("hallucinators" in agreeing(before, after)) is tnets  # a network of its own is trained with the student


class Doubled(nn.Module):
    """A user's own encoder."""

    def __init__(self, shape: tuple[int, ...], bias: bool = True):
        super().__init__()
        self.layer = nn.Linear(shape[-1], 5, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(2 * x)


def test_encoders_of_ones_own(tmp_path, data):
    names = {"methods": ["pkdot"], "training": {"epochs": 1}, "protocol": "official"}
    config = load_config(merged(BASE | {"data": "small", "output": str(tmp_path / "run")}, names))
    made = execute(config, data, quiet=True, encoders={"phone": Doubled})
    again = execute(
        replace(config, methods=["pkdot", "mse"]), data, quiet=True, resume=True, encoders={"phone": Doubled}
    )
    assert len(made.results) + 1 == len(again.results)
    file = made.folder / "jobs" / "pkdot-l1-f0-s0" / "model.safetensors"
    student = sl.load_student(file, encoders={"phone": Doubled((4,))})
    assert len(student.predict({"phone": data.inputs["phone"][:3]})) == 3
    with pytest.raises(RunError, match=r"started with the encoders {'phone': '.*Doubled'}, not {}; use the same"):
        execute(config, data, quiet=True, resume=True)
    with pytest.raises(RunError, match=r"not {'phone': '.*Doubled\(bias=False\)'}; use the same"):
        execute(config, data, quiet=True, resume=True, encoders={"phone": partial(Doubled, bias=False)})
    with pytest.raises(ConfigError, match="encoders: unknown modality 'fone'"):
        execute(config, data, quiet=True, resume=True, encoders={"fone": Doubled})
    with pytest.raises(ConfigError, match=r"'phone' cannot be sent to a worker process.*jobs=1"):
        execute(
            replace(config, jobs=2, seeds=2, output=str(tmp_path / "pool")), data, quiet=True,
            encoders={"phone": lambda shape: Doubled(shape)},
        )  # fmt: skip


def test_methods_of_ones_own_that_workers_cannot_import_are_refused(tmp_path, data, monkeypatch):
    names = {"methods": ["local"], "training": {"epochs": 2}, "jobs": 2, "seeds": 2}
    config = load_config(merged(BASE | {"data": "small", "output": str(tmp_path / "run")}, names))
    monkeypatch.setitem(REGISTRY, "local", type("Local", (Nearer,), {}))
    with pytest.raises(ConfigError, match=r"methods: 'local' cannot be sent to a worker process.*jobs=1"):
        execute(replace(config, output=str(tmp_path / "local")), data, quiet=True)


# the answer ---------------------------------------------------------------------------------------------------------


def rewritten(run: Path, job: str, **facts: Any) -> None:
    file = run / "jobs" / job / "job.json"
    record = json.loads(file.read_text())
    record["metrics"] |= facts.pop("metrics", {})
    del record["sha256"]  # as an earlier version wrote it
    file.write_text(json.dumps(record | facts))


def test_the_best_is_chosen_on_select_and_never_on_test(tmp_path, data):
    run = study(tmp_path / "run", data, methods=["kl", "mse"], training={"epochs": 1}, folds=3).folder
    for method, select, test in (("kl", (0.5, 0.7, 0.6), (0.1, 0.2, 0.0)), ("mse", (0.4, 0.5, 0.69), (0.9, 0.99, 1))):
        for fold in range(3):
            rewritten(run, f"{method}-l1-f{fold}-s0", select=select[fold], metrics={"accuracy": test[fold]})
    made = Study(run)
    assert made.results.groupby("method").accuracy.mean().idxmax() == "mse"
    assert made.best_method(1.0) == "kl"
    best = made.best()
    assert best.method == "kl"
    assert best.path == run / "jobs" / "kl-l1-f2-s0" / "model.safetensors"  # the median, whose test score is the worst
    made.finish()
    assert (run / "student" / "student.safetensors").read_bytes() == best.path.read_bytes()
    assert sl.load_student(run).meta["fold"] == 2
    for job in ("baseline-l1-f0-s0", "teacher-l1-f1-s0"):
        rewritten(run, job, select=1.0)
    assert Study(run).best_method(1.0) == "kl"  # a control is no method


def test_the_answer_and_the_student_that_leaves(tmp_path, data, capsys, drawn, no_figures):
    settings = {"methods": ["kl", "pkdot"], "label_fraction": [0.5], "placebo": ["best"], "training": {"epochs": 1}}
    made = study(tmp_path / "run", data, **settings)
    assert (made.folder / "report.html").stat().st_size > 10_000
    assert "baseline" in made.table().index
    assert "all labels" in made.table().index
    assert f"{made.best_method(0.5)}~placebo" in made.table().index
    assert made.sentence()
    made.print()
    assert "report.html" in capsys.readouterr().out
    student = made.best().student
    assert student.reads == ("phone",)
    assert student.meta["labels"] == 0.5
    said = student.predict({"phone": data.inputs["phone"]})
    assert set(said) <= set(data.class_names)
    with pytest.raises(DataError, match="'watch'"):
        student.predict({"phone": data.inputs["phone"], "watch": data.inputs["watch"]})
    assert made.report(tmp_path / "page.html") == tmp_path / "page.html"
