"""Sweeps: every row is the best of its draws, test rows are read once, and a killed sweep goes on where it was."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sidelight as sl
from helpers.small import (
    BASE,
    changed_rows,
    curves,
    differing,
    fold_models,
    make_data,
    merged,
    outcome,
    study,
    tensors,
)
from sidelight.config import load_config
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment import execute
from sidelight.experiment.assemble import run_job
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.refit import choose_settings
from sidelight.experiment.resolve import resolve
from sidelight.experiment.sweep import build_sweep
from sidelight.experiment.sweep_folder import check_sweep
from sidelight.report import write_report
from sidelight.results import load_results, table
from sidelight.results.draws import load_draws

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SPACE = {"training.learning_rate": [0.01, 0.05], "options.kl.weight": "1,4"}
TINY = {"methods": ["kl"], "training": {"epochs": 2}, "reference": ["none"]}
KL = "kl-l1-f0-s0"


def sweep(folder: Path, data: Any, space: Any = None, **more: Any) -> sl.Study:
    asked = {name: more.pop(name) for name in ("trials", "sampler", "resume", "executor") if name in more}
    settings = merged(merged(BASE, TINY), more | {"output": str(folder)})
    return sl.sweep(data, SPACE if space is None else space, **settings, **asked, quiet=True)


def record(folder: Path, job: str = KL) -> dict[str, Any]:
    return json.loads((folder / "jobs" / job / "job.json").read_text())


@pytest.fixture(scope="module")
def data():
    return make_data(n=96)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    return sweep(tmp_path_factory.mktemp("sweep") / "run", data, placebo=["kl"]).folder


def test_every_row_is_the_best_of_its_draws_and_they_alone_are_tested(whole, data):
    results = load_results(whole)
    counts = {(m, c): set(rows["draws"]) for (m, c), rows in results.groupby(["method", "control"])}
    teachers = {("teacher", ""): {2}, ("teacher", "placebo"): {2}}
    assert counts == {("baseline", ""): {4}, ("kl", ""): {4}, ("kl", "placebo"): {4}} | teachers
    for job in (whole / "jobs").iterdir():
        top = record(whole, job.name)
        drawn = top["draws"]
        scores = [one["select"] for one in drawn["trained"]]
        assert drawn["chosen"] == int(np.argmax(scores))
        assert top["select"] == max(scores)
        assert top["metrics"]
        for number, one in enumerate(drawn["trained"]):
            place = whole / "draws" / one["folder"]
            stored = record(place, job.name)
            assert stored["select"] == one["select"]
            assert (stored["metrics"], stored["n_test"]) == ({}, 0)
            assert len(pd.read_csv(place / "jobs" / job.name / "predictions.csv")) == 0
            if number == drawn["chosen"]:
                same = tensors(place / "jobs" / job.name), tensors(job)
                assert all(np.array_equal(same[0][name], same[1][name]) for name in same[1])
    # The tested answers are those of the student that the job holds.
    rows = fold_models(whole, data, **TINY).data.fold.test
    told = pd.read_csv(whole / "jobs" / KL / "predictions.csv", keep_default_na=False)
    student = sl.load_student(whole / "jobs" / KL / "model.safetensors")
    assert student.predict({"phone": data.inputs["phone"][rows]}).tolist() == told["prediction"].tolist()


def test_a_draw_is_the_job_of_a_run_with_its_settings(whole, data, tmp_path):
    settings = {"training": {"learning_rate": 0.05}, "options": {"kl": {"weight": 4}}}
    plain = study(tmp_path / "run", data, **merged(TINY, settings))
    draws = {
        KL: "training.learning_rate=0.05,options.kl.weight=4",
        "teacher-l1-f1-s0": "training.learning_rate=0.05",
        "baseline-l1-f1-s0": "training.learning_rate=0.05",
    }
    for job, draw in draws.items():
        drawn, own = whole / "draws" / draw / "jobs" / job, plain.folder / "jobs" / job
        assert curves(drawn).equals(curves(own))
        one, other = tensors(drawn), tensors(own)
        assert all(np.array_equal(one[name], other[name]) for name in other)
    repeated = whole / "draws" / "training.learning_rate=0.05~1" / "jobs" / "baseline-l1-f1-s0"
    assert not curves(repeated).equals(curves(plain.folder / "jobs" / "baseline-l1-f1-s0"))


def models_of(folder: Path, data: Any) -> FoldModels:
    """The models of an official split, which does not depend on the targets of its test rows."""
    settings = merged(BASE, TINY) | {"data": "small", "output": str(folder), "protocol": "official"}
    config = resolve(load_config(settings), data)
    return FoldModels(config, data, folder, {}, 0, 0, sweep=build_sweep(config, SPACE))


def test_test_rows_reach_no_draw_and_no_choice(data, tmp_path):
    models = models_of(tmp_path / "one", data)
    other = models_of(tmp_path / "other", changed_rows(data, models.data.fold.test))
    for one in (models, other):
        run_job(one, Job("kl", "", 1.0, 0, 0))
        assert all(len(draw.data.fold.test) == 0 for draw in one.draws._made.values())
    told = record(tmp_path / "one"), record(tmp_path / "other")
    assert told[0]["draws"] == told[1]["draws"]
    assert told[0]["metrics"] != told[1]["metrics"]


def test_a_killed_sweep_goes_on_to_the_same_bits(whole, data, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "jobs" / KL)
    shutil.rmtree(folder / "jobs" / "baseline-l1-f1-s0")
    shutil.rmtree(folder / "draws" / "training.learning_rate=0.05,options.kl.weight=4" / "jobs" / KL)
    (folder / "draws" / "training.learning_rate=0.01" / "jobs" / "teacher-l1-f0-s0" / "model.safetensors").unlink()
    with pytest.raises(RunError, match="Continue it with --resume"):
        sweep(folder, data, placebo=["kl"])
    sweep(folder, data, placebo=["kl"], resume=True)
    assert differing(outcome(folder), outcome(whole)) == []


def test_a_folder_goes_on_with_its_own_sweep_only(whole, data, tmp_path):
    same = merged(BASE, TINY) | {"output": str(whole), "placebo": ["kl"]}
    with pytest.raises(RunError, match=r"holds another sweep:\n.*weight=1,4.* there\n.*weight=1,5.* here"):
        sweep(whole, data, SPACE | {"options.kl.weight": "1,5"}, placebo=["kl"], resume=True)
    with pytest.raises(RunError, match=r"Continue it with: sidelight sweep .*config\.yaml --resume"):
        sl.compare(data, **same, resume=True, quiet=True)
    begun, config = tmp_path / "begun", load_config(same)
    begun.mkdir()
    check_sweep(begun, build_sweep(config, {"options.kl.weight": "1,2"}), joins=False)
    other = build_sweep(config, {"options.kl.weight": "1,3"})
    with pytest.raises(RunError, match="holds another sweep"):  # another process runs there, and has finished nothing
        check_sweep(begun, other, joins=True)
    check_sweep(begun, other, joins=False)
    plain = study(tmp_path / "run", data, **merged(TINY, {"training": {"epochs": 1}}))
    with pytest.raises(RunError, match="holds a run without a sweep"):
        sweep(plain.folder, data, training={"epochs": 1}, resume=True)
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged)
    (damaged / "sweep.json").write_text((damaged / "sweep.json").read_text().replace("grid", "tpe"))
    with pytest.raises(RunError, match=r"sweep\.json is damaged"):
        sweep(damaged, data, placebo=["kl"], resume=True)


def test_a_refit_takes_the_settings_that_are_best_over_all_folds(whole):
    draws = sl.Study(whole).draws
    kl = draws[(draws["method"] == "kl") & (draws["control"] == "")]
    means = kl.groupby(["training.learning_rate", "options.kl.weight"])["select"].mean()
    rate, weight = means.idxmax()
    found = choose_settings(sl.Study(whole), "kl", 1.0)
    assert found == {"training.learning_rate": rate, "options.kl.weight": weight}
    assert isinstance(found["options.kl.weight"], int | float)
    assert choose_settings(sl.Study(whole), "baseline", 1.0).keys() == {"training.learning_rate"}
    one = sl.Study(whole)
    one.draws = draws[~((draws["fold"] == 1) & (draws["draw"] > 1)) & ~((draws["fold"] == 0) & (draws["draw"] < 2))]
    with pytest.raises(RunError, match="no settings of 'kl' were drawn in every fold"):
        choose_settings(one, "kl", 1.0)


@pytest.mark.slow
def test_a_refitted_student_says_which_settings_it_has(whole, data, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    student = sl.load_student(sl.refit(tmp_path / "run", data))
    assert student.meta["settings"] == choose_settings(sl.Study(whole), "kl", 1.0)


@pytest.mark.slow
def test_searches_of_each_fold_learn_from_their_own_select_rows(data, tmp_path):
    asked = {"space": {"options.kl.weight": "0.1..10:log"}, "sampler": "tpe"}
    asked["reference"] = ["majority", "warm-start"]
    found = sweep(tmp_path / "run", data, **asked, trials=2)
    drawn = load_draws(found.folder)
    assert set(drawn["method"]) == {"baseline", "teacher", "kl", "warm-start"}  # "majority" is no network
    assert set(drawn[drawn["method"] == "warm-start"]["replica"]) == {0, 1}
    kl = drawn[drawn["method"] == "kl"]
    assert len(kl) == 4  # two draws in each of two folds
    assert len({*kl["options.kl.weight"]}) == 4  # each fold searches by itself
    assert set(drawn[drawn["method"] == "baseline"]["replica"]) == {0, 1}
    assert {p.name for p in (found.folder / "draws" / "tpe").iterdir()} == {"kl-l1-f0-s0.log", "kl-l1-f1-s0.log"}
    with pytest.raises(RunError, match="has tested what its 2 draws chose"):
        sweep(tmp_path / "run", data, **asked, trials=3, resume=True)
    # Before anything was tested, more draws may follow: they begin with the same ones.
    shutil.rmtree(found.folder / "jobs")
    more = load_draws(sweep(tmp_path / "run", data, **asked, trials=3, resume=True).folder)
    longer = more[more["method"] == "kl"]
    assert longer[longer["draw"] < 2]["options.kl.weight"].tolist() == kl["options.kl.weight"].tolist()


def test_a_draw_that_fails_is_not_chosen(data, tmp_path):
    space = {"training.learning_rate": "0.01,1e30"}
    with pytest.warns(SidelightWarning, match="1 of 2 draws failed and cannot be chosen"):
        found = sweep(tmp_path / "run", data, space, folds=2, max_failures=0)
    drawn = record(found.folder)["draws"]
    assert drawn["chosen"] == 0
    assert "it needs teacher-l1-f0-s0, which failed" in drawn["trained"][1]["error"]
    assert "select" not in drawn["trained"][1]
    with pytest.raises(RunError):
        sweep(tmp_path / "all", data, {"training.learning_rate": "1e29,1e30"}, max_failures=0)


def test_draws_are_checked_before_anything_is_trained(data, tmp_path):
    with pytest.raises(ConfigError, match=r"the draw student.init=random, student.freeze=true: student.freeze"):
        sweep(tmp_path / "run", data, {"student.init": ["teacher", "random"], "student.freeze": [False, True]})
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"unknown setting of options\.kl 'weigth'"):
        sweep(tmp_path / "run", data, {"options.kl.weigth": [1, 2]})
    with pytest.raises(ConfigError, match="expected the ranges of settings"):
        sl.sweep(data, ["transport.k"], **BASE)


@pytest.mark.slow
def test_inner_folds_choose_where_labels_are_few(data, tmp_path):
    few = {"label_fraction": [0.5], "select_labels": "inner", "methods": ["auto"], "training": {"epochs": 1}}
    found = sweep(tmp_path / "run", data, {"training.learning_rate": [0.01, 0.05]}, **few)
    job = record(found.folder, "auto-l0.5-f0-s0")
    assert job["select"] == max(one["select"] for one in job["draws"]["trained"])
    assert job["select_labels"] == "inner"
    assert "weight" in job["chosen"]


@pytest.mark.slow
def test_stacks_hold_one_draw_of_several_folds(data, tmp_path):
    config = load_config(
        merged(merged(BASE, TINY), {"data": "small", "output": str(tmp_path), "training": {"stack": 4}})
    )
    made = build_sweep(resolve(config, data), SPACE)
    execute(config, data, quiet=True, sweep=made)
    alone = load_draws(tmp_path)
    assert record(tmp_path, "baseline-l1-f0-s0")["stacked"] == 2
    assert len(alone[alone["method"] == "kl"]) == 8


@pytest.mark.slow
def test_workers_elsewhere_train_the_same_draws(whole, data, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        found = sweep(tmp_path / "run", data, placebo=["kl"], executor=executor)
    assert differing(outcome(found.folder), outcome(whole)) == []


def test_table_and_report_say_how_many_draws_each_row_had(whole, no_figures):
    assert len(pd.read_csv(whole / "draws.csv")) == len(sl.Study(whole).draws) == 2 * (3 * 4 + 2 * 2)
    note = table(load_results(whole)).attrs["note"]
    assert (
        "every row is the best of 4 draws of settings on the fold's select rows (teacher 2, teacher~placebo 2)" in note
    )
    page = write_report(whole).read_text()
    assert "A sweep over training.learning_rate, options.kl.weight (grid)" in page
    assert "4 (2 settings, the others with other initial weights)" in page
    assert "kl: options.kl.weight by training.learning_rate" in page
