"""No label beside the budget is read, and epochs are chosen inside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.small import fold_models, make_data, outcome, study
from sidelight.data import Dataset
from sidelight.errors import SidelightWarning
from sidelight.experiment import fold as folds
from sidelight.experiment.assemble import run_job
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.protocols import share_labels, split
from sidelight.training.pace import average_scores, count_epochs
from sidelight.utils.tensorfile import read_tensors

FEW = {"methods": ["pkdot"], "label_fraction": [0.5], "training": {"epochs": 2, "patience": 2}}
STUDENT = Job("pkdot", "", 0.5, 0, 0)  # it needs a teacher and T-Nets


def train(folder: Path, data: Dataset, job: Job = STUDENT, way: str = "auto", **changes: Any) -> FoldModels:
    models = fold_models(folder, data, select_labels=way, **(FEW | changes))
    run_job(models, job)
    return models


def record(folder: Path, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "jobs" / job / "job.json").read_text())
    return found


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FoldModels]:
    folder = tmp_path_factory.mktemp("inner")
    return folder, train(folder, make_data())


@pytest.mark.parametrize("way", ["auto", pytest.param("part", marks=pytest.mark.slow)])
def test_labels_beside_the_budget_change_nothing(
    way: str, inner: tuple[Path, FoldModels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every label of the fold that the budget hides is another class: of train rows and of select rows."""
    data = make_data()
    before, models = inner if way == "auto" else (tmp_path / "part", train(tmp_path / "part", data, way="part"))
    budget, drawn = models.data.budget(0.5), models.data.fold
    both = np.union1d(drawn.train, drawn.select)
    hidden = both[data.labelled[both] & ~budget.kept[both]]
    assert len(np.intersect1d(hidden, drawn.train)) > 5
    assert len(np.intersect1d(hidden, drawn.select)) > 5
    target = data.target.copy()
    target[hidden] = (target[hidden] + 1) % 3
    poisoned = replace(data, target=target)

    # Folds, and the groups that keep their labels, are drawn so that no class is lost: they may look at every label.
    monkeypatch.setattr(folds, "split", lambda _data, *more: split(data, *more))
    monkeypatch.setattr(folds, "share_labels", lambda _data, *more, **how: share_labels(data, *more, **how))
    after = tmp_path / "poisoned"
    train(after, poisoned, way=way)
    assert outcome(after) == outcome(before)

    # The check can fail: a label of the budget does change the networks.
    target = data.target.copy()
    kept = both[budget.kept[both]]
    target[kept] = (target[kept] + 1) % 3
    train(tmp_path / "other", replace(data, target=target), Job("baseline", "", 0.5, 0, 0), way=way)
    train(tmp_path / "same", poisoned, Job("baseline", "", 0.5, 0, 0), way=way)
    assert outcome(tmp_path / "other") != outcome(tmp_path / "same")


def test_everything_is_trained_in_every_inner_fold_then_on_all_labels(inner: tuple[Path, FoldModels]) -> None:
    folder, models = inner
    for job in ("teacher-l0.5-f0-s0", "pkdot-l0.5-f0-s0"):
        stored = record(folder, job)
        scores, rows = [], []
        for own in models.inner(0.5):
            tensors, _ = read_tensors(own.folder / "shared" / f"{job}-scores.safetensors", mend="")
            scores.append(tensors["select"].tolist())
            rows.append(len(own.data.budget(0.5).select))
        mean = average_scores(scores, rows, 2)
        assert stored["select_labels"] == "inner"
        assert stored["best_epoch"] == stored["stopped_epoch"] == count_epochs(mean)
        assert stored["select"] == max(mean)
        assert (stored["n_select"], stored["n_labelled"]) == (0, sum(rows))
    tnets = {f.name for own in models.inner(0.5) for f in own.folder.glob("shared/*-tnets-scores.safetensors")}
    assert tnets == {"teacher-l0.5-f0-s0-tnets-scores.safetensors"}
    kept = {job.name for own in models.inner(0.5) for job in own.folder.glob("jobs/*")}
    assert kept == {"teacher-l0.5-f0-s0"}, "the inner students are not needed again, teachers are"


def test_an_epoch_of_an_inner_fold_takes_as_many_steps_as_one_of_the_whole_fold(
    inner: tuple[Path, FoldModels],
) -> None:
    _, models = inner
    outer = models.data.rows_per_epoch(0.5)
    assert outer == len(models.data.budget(0.5).train)
    for own in models.inner(0.5):
        assert own.data.rows_per_epoch(0.5) == outer > len(own.data.budget(0.5).train)
        assert own.data.fold.test.tolist() == own.data.budget(0.5).select.tolist(), "no test row is in an inner fold"


def test_a_run_that_was_killed_anywhere_ends_as_one_that_was_not(
    inner: tuple[Path, FoldModels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed before each third training, in turn in an inner fold and between them."""
    alone, trained = FoldModels.train_alone, 0

    def die(self: FoldModels, job: Any) -> Any:
        nonlocal trained
        trained += 1
        if trained % 4 == 3:
            raise KeyboardInterrupt
        return alone(self, job)

    monkeypatch.setattr(FoldModels, "train_alone", die)
    for _ in range(8):
        try:
            train(tmp_path, make_data())
            break
        except KeyboardInterrupt:
            continue
    assert trained > 8
    assert outcome(tmp_path) == outcome(inner[0])


def test_damaged_scores_of_an_inner_fold_are_made_again(inner: tuple[Path, FoldModels], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(inner[0], folder)
    shutil.rmtree(folder / "jobs" / "pkdot-l0.5-f0-s0")
    scores = next(folder.glob("inner/*/shared/teacher-l0.5-f0-s0-tnets-scores.safetensors"))
    scores.write_bytes(b"damage" + scores.read_bytes())
    (folder / "shared" / "teacher-l0.5-f0-s0-tnets.safetensors").unlink()
    with pytest.warns(SidelightWarning, match="inner folds are trained again"):
        train(folder, make_data())
    assert outcome(folder) == outcome(inner[0])


def test_scores_are_averaged_by_rows_and_go_on_with_the_mean_of_the_last_ones() -> None:
    assert average_scores([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0]], [10, 30], 2) == [0.25, 2.75, 1.75]
    assert average_scores([[0.0, 6.0, 2.0, 4.0], [9.0, 1.0]], [1, 1], 2) == [4.5, 3.5, 3.5, 4.5]
    assert count_epochs([0.1, 0.5, 0.5, 0.2]) == 2, "the first of equal scores"


@pytest.mark.slow
def test_stacks_choose_epochs_inside_the_labels_too(tmp_path: Path) -> None:
    changes = {"methods": ["kl"], "label_fraction": [0.5], "select_labels": "auto"}
    alone = study(tmp_path / "alone", make_data(), **changes)
    stacked = study(tmp_path / "stack", make_data(), **changes, training={"stack": 4})
    assert record(tmp_path / "stack", "kl-l0.5-f0-s0")["stacked"] > 1
    assert np.allclose(alone.results["select"], stacked.results["select"], atol=0.05)


def test_a_threshold_is_chosen_on_what_the_inner_networks_held_out(tmp_path: Path) -> None:
    """The refit has no select rows: the pooled answers of the inner networks on the rows that each held out."""
    data = make_data()
    data = replace(data, target=(data.target > 0).astype(int), class_names=("attack", "live"))
    models = fold_models(
        tmp_path, data, **(FEW | {"methods": ["kl"], "select_labels": "inner", "task": "anti-spoofing", "live": "live"})
    )
    job = Job("baseline", "", 0.5, 0, 0)
    run_job(models, job)
    answers = models.inner.answers(job)
    assert sum(len(a.answer) for a in answers) == models.data.budget(0.5).kept[models.data.budget(0.5).train].sum()
    pooled = models.data.fit_task(0.5).calibrate(*map(torch.cat, zip(*answers)))
    description = json.loads((tmp_path / "jobs" / job.id / "model.json").read_text())
    assert description["task"]["threshold"] == pooled.get_params()["threshold"]
