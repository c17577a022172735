"""Anti-spoofing: errors by hand, a threshold that the select rows choose and no test row, and a study."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from helpers import small
from sidelight import metrics as m
from sidelight.config import load_config
from sidelight.data import Dataset
from sidelight.errors import ConfigError, RunError
from sidelight.experiment import evaluate
from sidelight.experiment.assemble import run_job
from sidelight.experiment.plan import Job
from sidelight.export import load_student, predict_file
from sidelight.networks.network import compute_outputs
from sidelight.report import write_report
from sidelight.tasks import AntiSpoofing, describe_task, make_task, resolve_task

FACES = ("attack", "real")
ALL = torch.ones(8, dtype=torch.bool)


def logits(score: list[float] | np.ndarray, live: int = 1) -> torch.Tensor:
    """Logits whose log-odds of the live class are `score`."""
    given = torch.as_tensor(score, dtype=torch.float64)
    both = torch.stack([-given / 2, given / 2], 1)
    return both if live == 1 else both.flip(1)


# errors -------------------------------------------------------------------------------------------------------------


def test_errors_by_hand():
    """One of four attacks passes, one of two live faces is refused."""
    task = AntiSpoofing(FACES, "real", threshold=0.5)
    score, target = [-3.0, -1.0, 0.0, 0.5, 0.4, 2.0], np.array([0, 0, 0, 0, 1, 1])
    said = task.measure(task.metric_input(logits(score)), target)
    assert (said["apcer"], said["bpcer"], said["acer"]) == (0.25, 0.5, 0.375)
    assert said["auc"] == pytest.approx(7 / 8)  # of eight pairs one is the wrong way round
    assert task.decide(logits(score)).tolist() == [0, 0, 0, 1, 0, 1]


def test_perfect_and_inverted_scores():
    task, target = AntiSpoofing(FACES, "real", threshold=0.0), np.array([0, 0, 1, 1])
    for score, errors in (([-2.0, -1, 1, 2], 0), ([2.0, 1, -1, -2], 1)):
        said = task.measure(task.metric_input(logits(score)), target)
        assert [said[name] for name in ("acer", "apcer", "bpcer", "eer", "auc")] == [errors] * 4 + [1 - errors]


def test_a_coin_has_half_of_every_error():
    same = np.zeros(6)
    live = np.arange(6) < 3
    assert m.equal_error_rate(same, live) == 0.5
    assert m.area_under_curve(same, live) == 0.5
    assert m.spoofing_threshold(same, live) == 0  # everything is accepted


rows = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({live for _, live in pairs}) == 2
)


@given(rows)
def test_areas_and_equal_errors_are_those_of_the_curve(pairs):
    score, live = np.array([float(s) for s, _ in pairs]), np.array([b for _, b in pairs])
    higher = [(s > t) + 0.5 * (s == t) for s in score[live] for t in score[~live]]
    assert m.area_under_curve(score, live) == pytest.approx(np.mean(higher))
    eer = m.equal_error_rate(score, live)
    accepted, kept, _ = sk.roc_curve(live, score, drop_intermediate=False)
    missed = 1 - kept
    after = int(np.argmax(accepted >= missed))  # the first point at or beyond the crossing, and the one before it
    assert missed[after] - 1e-12 <= eer <= accepted[after] + 1e-12
    assert after == 0 or accepted[after - 1] - 1e-12 <= eer <= missed[after - 1] + 1e-12
    assert m.equal_error_rate(score * 3 - 7, live) == pytest.approx(eer)
    assert m.equal_error_rate(-score, ~live) == pytest.approx(eer)


@pytest.mark.parametrize("live", [[True, True], [False, False]])
def test_one_kind_of_rows_has_no_such_errors(live):
    score, live = np.array([0.0, 1.0]), np.array(live)
    assert math.isnan(m.equal_error_rate(score, live))
    assert math.isnan(m.area_under_curve(score, live))
    assert math.isnan(sum(m.spoofing_errors(score > 0, live)))


# the threshold ------------------------------------------------------------------------------------------------------


def acer(score: np.ndarray, live: np.ndarray, threshold: float) -> float:
    return ((score[~live] >= threshold).mean() + (score[live] < threshold).mean()) / 2


@given(rows)
def test_the_threshold_is_the_lowest_with_the_least_error(pairs):
    """Against every threshold that decides differently: at each score, and above all."""
    score, live = np.array([float(s) for s, _ in pairs]), np.array([b for _, b in pairs])
    chosen = m.spoofing_threshold(score, live)
    least = acer(score, live, chosen)
    errors = {t: acer(score, live, t) for t in [*np.unique(score), score.max() + 1]}
    assert least == pytest.approx(min(errors.values()))
    assert all(error > least + 1e-12 for t, error in errors.items() if (score >= t).sum() > (score >= chosen).sum())


def test_the_threshold_by_hand():
    assert m.spoofing_threshold(np.array([-4.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True])) == 0
    # Accepting from 1 on errs like accepting from 3 on (1/2 attack against 1/2 live face): the lower one.
    mixed = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True])
    assert m.spoofing_threshold(*mixed) == 0.5
    assert m.spoofing_threshold(np.array([5.0, 1.0]), np.array([False, True])) == 1  # hopeless: accept everything
    low, high = 1.0, np.nextafter(1.0, 2)
    assert m.spoofing_threshold(np.array([low, high]), np.array([False, True])) == high


def test_calibration_reads_labelled_rows_alone():
    task, target = AntiSpoofing(FACES, "real"), torch.tensor([0, 0, 1, 1, -1, -1, -1, -1])
    score = [-4.0, -2, 2, 3, 9, -9, 8, -8]
    chosen = task.calibrate(logits(score), target, target >= 0)
    assert chosen.threshold == 0
    assert task.threshold is None
    other = task.calibrate(logits([*score[:4], 1, 1, 1, 1]), target, target >= 0)
    assert other.threshold == 0


@pytest.mark.parametrize("live", [0, 1])
def test_polarity_is_what_is_said(live):
    """The same faces under the opposite coding decide and measure the same."""
    names = FACES if live == 1 else FACES[::-1]
    score, real = [-4.0, 0.1, -2, 2, 3, 0.2, 1, -1], np.array([0, 1, 0, 1, 1, 0, 1, 0]) == 1
    target = torch.as_tensor(np.where(real, live, 1 - live))
    task = AntiSpoofing(names, "real").calibrate(logits(score, live), target, ALL)
    said = np.array(names)[task.decide(logits(score, live))]
    assert task.threshold == pytest.approx(-0.45)
    assert (said == "real").tolist() == (np.array(score) >= -0.45).tolist()
    assert task.measure(task.metric_input(logits(score, live)), target.numpy())["apcer"] == 0.25


def test_epochs_are_scored_at_the_threshold_that_their_rows_would_choose():
    score, target = [-4.0, 1, 2, 3, 7, 8, 9, 5], torch.tensor([0, 0, 0, 0, 1, 1, 1, 0])
    task = AntiSpoofing(FACES, "real")
    assert task.score(logits(score), target, ALL) == 0
    assert task.score(logits(score), target, ALL, "auc") == 1
    fixed = AntiSpoofing(FACES, "real", threshold=0.0)
    assert fixed.score(logits(score), target, ALL) == -0.4


def test_the_description_holds_the_threshold_to_the_bit():
    task = AntiSpoofing(FACES, "real", threshold=float(np.float32(0.1)) / 3)
    told = json.loads(json.dumps(describe_task(task)))
    again = make_task(told.pop("name"), tuple(told.pop("labels")), **told)
    assert (again.live, again.threshold) == ("real", task.threshold)


# what is refused ----------------------------------------------------------------------------------------------------


def test_the_live_label_must_be_said_and_be_one_of_two():
    with pytest.raises(ConfigError, match=r"live: set the label of live faces, 'attack' or 'real'"):
        AntiSpoofing(FACES)
    with pytest.raises(ConfigError, match=r"live: unknown label 'reel'. Did you mean 'real'"):
        AntiSpoofing(FACES, "reel")
    with pytest.raises(ConfigError, match=r"needs two classes, live and attack, not 3: 'a', 'b', 'c'"):
        AntiSpoofing(("a", "b", "c"), "a")
    with pytest.raises(ConfigError, match=r"live: 'real' names the label of live faces, which only task=anti-spoofing"):
        load_config({"live": "real"})
    assert load_config({"task": "anti-spoofing"}, ["live=1"]).live == "1"
    with pytest.raises(ConfigError, match=r"anti-spoofing needs the targets of a classification"):
        resolve_task(load_config({"task": "anti-spoofing", "live": "real"}), small.make_data("regression"))


@pytest.mark.parametrize(("target", "why"), [([1, 1, 1], "all 3 labelled rows are 'real'"), ([], "none is labelled")])
def test_a_threshold_needs_both_kinds_of_select_rows(target, why):
    task, known = AntiSpoofing(FACES, "real"), torch.ones(len(target), dtype=torch.bool)
    with pytest.raises(RunError, match=rf"no threshold can be chosen on the select rows: .*{why}.*Ask for fewer folds"):
        task.calibrate(torch.zeros(len(target), 2), torch.tensor(target, dtype=torch.int64), known)


def test_a_threshold_needs_finite_scores():
    with pytest.raises(RunError, match="not finite"):
        AntiSpoofing(FACES, "real").calibrate(logits([0.0, math.nan]), torch.tensor([0, 1]), ALL[:2])


@pytest.mark.filterwarnings("ignore:folds=2 is ignored")
@pytest.mark.parametrize("part", ["select", "test"])
def test_a_fold_of_one_kind_is_refused_before_anything_is_trained(part, tmp_path):
    data = faces()
    only = replace(data, labelled=data.labelled & ((data.split != part) | (data.target == 1)))
    with pytest.raises(RunError, match=rf"{part} rows: .* all \d+ labelled rows are 'real'"):
        small.fold_models(tmp_path, only, protocol="official", task="anti-spoofing", live="real")


# a study ------------------------------------------------------------------------------------------------------------


def faces(**changes: object) -> Dataset:
    """The small rows as attacks (two of three classes) and live faces."""
    data = small.make_data(n=240)
    target = np.where(data.labelled, data.target == 2, -1)
    return replace(data, **({"target": target, "class_names": FACES} | changes))


SETTINGS = {"task": "anti-spoofing", "live": "real"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small.study(tmp_path_factory.mktemp("faces"), faces(), **SETTINGS)


def test_a_study_reports_errors_of_which_lower_is_better(study, no_figures):
    results, table = study.results, study.table()
    assert results.attrs["primary"] == "acer"
    assert (results["acer"] == (results["apcer"] + results["bpcer"]) / 2).all()
    means = results.groupby("method")["acer"].mean()
    assert table.loc["kl", "difference"] == pytest.approx(means["baseline"] - means["kl"])
    assert (results["select"] <= 0).all()
    page = write_report(study.folder).read_text()
    assert "ACER" in page
    assert "anti-spoofing, live: real" in page


def test_a_stored_student_decides_as_it_was_tested(study):
    data = faces()
    for folder in study.folder.glob("jobs/*"):
        student = load_student(folder / "model.safetensors", task="anti-spoofing")
        stored, record = pd.read_csv(folder / "predictions.csv"), json.loads((folder / "job.json").read_text())
        assert math.isfinite(student.task.threshold)
        if "teacher" in folder.name:
            continue
        picked = [data.ids.tolist().index(i) for i in stored.id]
        inputs = {name: data.inputs[name][picked] for name in student.reads}
        said = student.predict(inputs)
        assert (said == stored.prediction).all()
        p = student.predict_proba(inputs)
        odds = np.log(p[:, 1]) - np.log(p[:, 0])
        assert ((odds >= student.task.threshold) == (said == "real")).mean() > 0.98
        attack = stored.target == "attack"
        assert record["metrics"]["apcer"] == pytest.approx((stored.prediction == "real")[attack].mean())
        assert record["metrics"]["bpcer"] == pytest.approx((stored.prediction == "attack")[~attack].mean())
        assert predict_file(student, inputs)["prediction"].tolist() == said.tolist()


def threshold_of(folder, data: Dataset) -> float:
    """Of a baseline, trained on one fold."""
    cell = small.fold_models(folder, data, protocol="official", **SETTINGS)
    job = Job("baseline", "", 1.0, 0, 0)
    run_job(cell, job)
    return load_student(folder / "jobs" / job.id / "model.safetensors").task.threshold


@pytest.mark.filterwarnings("ignore:folds=2 is ignored")
@pytest.mark.parametrize("cheats", [False, True])
def test_the_threshold_is_of_the_select_rows_whatever_the_test_rows_are(cheats, tmp_path, monkeypatch):
    """A variant that chooses it on test rows is caught."""
    if cheats:

        def on_test_rows(data, job, network):
            test = data.rows("test")
            uncalibrated = data.fit_task(job.label_fraction)
            answer = uncalibrated.answer(compute_outputs(network, test, test.index))
            return uncalibrated.calibrate(answer, test.target, test.labelled)

        monkeypatch.setattr(evaluate, "calibrate_task", on_test_rows)
    data = faces()
    test = np.flatnonzero(data.split == "test")
    first, second = threshold_of(tmp_path / "a", data), threshold_of(tmp_path / "b", small.changed_rows(data, test))
    assert (first == second) is not cheats
    cell = small.fold_models(tmp_path / "a", data, protocol="official", **SETTINGS)
    network, select = cell.control_network(Job("baseline", "", 1.0, 0, 0)), cell.data.rows("select")
    live = select.target.numpy() == 1
    score = AntiSpoofing(FACES, "real").metric_input(compute_outputs(network, select, select.index).prediction)
    assert (m.spoofing_threshold(score[select.labelled], live[select.labelled]) == first) is not cheats
