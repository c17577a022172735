"""A run whose jobs are trained in stacks is the run whose jobs are trained one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.slow import mostly_slow
from helpers.small import differing, make_data, outcome, study
from sidelight.config import load_config
from sidelight.errors import RunError
from sidelight.experiment import models, stacks
from sidelight.experiment.stacks import divide_folds, explain_separate
from sidelight.experiment.together import Together
from sidelight.training.stacked import StackedLoop

SETTINGS: dict[str, Any] = {
    "folds": 2, "methods": ["kl", "pkdot"], "label_fraction": [0.5, 1.0], "placebo": ["kl"], "training": {"epochs": 2},
}  # fmt: skip
MORE: dict[str, Any] = {"folds": 4, "methods": ["kl", "pkdot", "mse@crossfit"], "self_distillation": ["kl"]}
"""For the slow set: stacks of eight, cross-fitted teachers, whose parts are stacks too, and baselines that teach."""


def run(folder: Path, stack: int, **changes: Any) -> None:
    settings = SETTINGS | changes
    training = settings.pop("training", {})
    study(folder, make_data(n=160, groups=16), resume=True, training=training | {"stack": stack}, **settings)


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacked") / "run"
    run(folder, 8)
    return folder


def records(run: Path) -> dict[str, dict[str, Any]]:
    return {file.parent.name: json.loads(file.read_text()) for file in run.glob("jobs/*/job.json")}


@pytest.mark.parametrize("more", mostly_slow([False, True], [False]))
def test_a_stacked_run_has_the_results_of_separate_training(more: bool, stacked: Path, tmp_path: Path) -> None:
    changes = MORE if more else {}
    if more:
        stacked = tmp_path / "stacked"
        run(stacked, 8, **changes)
    run(tmp_path / "run", 1, **changes)
    alone, together = records(tmp_path / "run"), records(stacked)
    assert alone.keys() == together.keys()
    assert len(alone) == (64 if more else 24)
    assert {record["stacked"] for record in together.values()} == ({4, 8} if more else {4})
    assert not any("stacked" in record for record in alone.values())
    for name, record in alone.items():
        other = together[name]
        files = [sorted(p.name for p in (place / "jobs" / name).iterdir()) for place in (tmp_path / "run", stacked)]
        assert files[0] == files[1]
        assert record.keys() | {"stacked"} == other.keys()
        assert record["best_epoch"] == other["best_epoch"]
        tables = [pd.read_csv(place / "jobs" / name / "predictions.csv") for place in (tmp_path / "run", stacked)]
        for column in tables[0].filter(like="p."):
            tolerance = 1e-3 if "pkdot" in name else 1e-5  # transport is solved to a tolerance
            assert np.allclose(tables[0][column], tables[1][column], atol=tolerance), (name, column)
    assert not list((stacked / "checkpoints").iterdir())


def test_a_run_killed_while_it_stores_is_resumed_with_the_same_bits(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored jobs of a stack are not trained again, and the others are not either."""
    store, fit = models.store_job, stacks.fit_stacked
    left = 6

    def store_some(*args: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        store(*args)

    monkeypatch.setattr(models, "store_job", store_some)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 8)
    before = set(records(tmp_path / "run"))
    assert len(before) == 6
    trained: list[str] = []

    def count(jobs: Any, *args: Any) -> Any:
        trained.extend(job.name for job in jobs)
        return fit(jobs, *args)

    monkeypatch.setattr(models, "store_job", store)
    monkeypatch.setattr(stacks, "fit_stacked", count)
    run(tmp_path / "run", 8)
    assert not before & set(trained)
    teachers = {f"teacher-l{labels}-f{fold}-s0" for labels in ("0.5", "1") for fold in range(2)}
    assert len(teachers & before) == 2  # the other two were trained, but not stored
    assert not teachers & set(trained)
    left, whole = outcome(tmp_path / "run"), outcome(stacked)
    assert differing(left, whole) == []


@pytest.mark.slow  # test_stacked.py stops such a loop in the middle of an epoch
def test_a_run_killed_while_it_trains_is_resumed_with_the_same_bits(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, left = StackedLoop.take_step, 20

    def take_some(self: StackedLoop) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        take(self)

    monkeypatch.setattr(StackedLoop, "take_step", take_some)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", 8, checkpoint_seconds=0)
    assert list((tmp_path / "run" / "checkpoints").glob("stack-*.pt"))
    monkeypatch.setattr(StackedLoop, "take_step", take)
    run(tmp_path / "run", 8, checkpoint_seconds=0)
    left, whole = outcome(tmp_path / "run"), outcome(stacked)
    assert differing(left, whole) == []


def test_folds_are_divided_over_workers(tmp_path: Path) -> None:
    folds = [(seed, fold) for seed in range(3) for fold in range(5)]
    config = load_config({"data": "phone-watch", "training": {"stack": 0}})
    assert [len(part) for part in divide_folds(folds, config, 2, 1000)] == [8, 7]
    assert [len(part) for part in divide_folds(folds[:5], config, 2, 1000)] == [3, 2]
    assert [len(part) for part in divide_folds(folds, config, 40, 1000)] == [1] * 15
    assert sorted(fold for part in divide_folds(folds, config, 4, 1000) for fold in part) == folds
    config.training.stack = 4
    assert [len(part) for part in divide_folds(folds, config, 2, 1000)] == [4, 4, 4, 3]
    assert explain_separate(config, 1000, False) == ""
    assert "encoders" in explain_separate(config, 1000, True)
    config.network.encoder = "resnet18"
    assert "resnet18" in explain_separate(config, 1000, False)


def test_jobs_wait_for_one_another_and_errors_end_all() -> None:
    asked: list[list[int]] = []

    def answer(numbers: list[int]) -> list[int]:
        asked.append(numbers)
        return [10 * n for n in numbers]

    together = Together[int, int](answer)
    got: list[tuple[int, int]] = []

    def job(n: int) -> None:
        for i in range(n):
            got.append((n, together.ask(n + i)))

    together.run([lambda: job(1), lambda: job(3), lambda: job(0)])
    assert asked == [[1, 3], [4], [5]]
    assert got == [(1, 10), (3, 30), (3, 40), (3, 50)]

    def fails() -> None:
        together.ask(1)
        raise RunError("broken")

    with pytest.raises(RunError, match="broken"):
        together.run([lambda: job(3), fails])
