"""Trackers, against the real packages: what they are told, and that nothing they do changes a run."""

from __future__ import annotations

import json
import random
import struct
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.small import curves, differing, make_data, merged, outcome, study
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment import models as models_module
from sidelight.tracking.names import from_plain, to_plain
from sidelight.tracking.tensorboard import TensorBoardLogger

ONE = {"methods": ["kl+mse"], "training": {"epochs": 2}}
JOBS = [f"{method}-l1-f{fold}-s0" for fold in (0, 1) for method in ("baseline", "teacher", "kl+mse")]
JOB = "kl+mse-l1-f0-s0"


class Remembers:
    """A user's own logger, which also draws random numbers, as some do for the names of their runs."""

    told: list[tuple[str, str, Any]] = []

    def __init__(self, name: str = "", fails: bool = False):
        self.name, self.fails = name, fails

    def add(self, what: str, value: Any) -> None:
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
        if self.fails:
            raise OSError("no route to the tracker")
        self.told.append((self.name, what, value))

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.add("params", params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.add("metrics", (step, metrics))

    def finalize(self, status: str) -> None:
        self.add("end", status)


@pytest.fixture(autouse=True)
def told(monkeypatch) -> list[tuple[str, str, Any]]:
    monkeypatch.setattr(Remembers, "told", [])
    return Remembers.told


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run that nobody watches."""
    return study(tmp_path_factory.mktemp("whole") / "run", data, **ONE).folder


def epochs(run: Path, job: str = JOB) -> dict[str, list[float]]:
    """What a tracker should hold of a job: each column of its curves."""
    table = curves(run / "jobs" / job)
    return {name: table[name].tolist() for name in table if name != "epoch"}


def test_a_logger_of_each_training_is_told_everything_and_changes_nothing(whole, data, tmp_path, told):
    made = study(tmp_path / "run", data, loggers=[Remembers], **ONE)
    assert differing(outcome(whole), outcome(made.folder)) == []
    assert list(dict.fromkeys(name for name, _, _ in told)) == JOBS
    own = [(what, value) for name, what, value in told if name == JOB]
    assert [what for what, _ in own] == ["params", "metrics", "metrics", "metrics", "end"]
    params = own[0][1]
    assert params["method"] == "kl+mse"
    assert params["training.epochs"] == 2
    assert "output" in params
    assert "target" not in params
    assert [step for _, (step, _) in own[1:4]] == [1, 2, 2]
    for name, column in epochs(made.folder).items():
        assert [metrics[name] for _, (_, metrics) in own[1:3]] == pytest.approx(column)
    tested = made.results.set_index(["method", "fold"]).loc[("kl+mse", 0)]
    assert own[3][1][1]["test/accuracy"] == tested["accuracy"]
    assert own[3][1][1]["best_epoch"] == tested["best_epoch"]
    assert own[4][1] == "success"


def test_one_logger_for_all_trainings_is_told_whose_each_number_is(data, tmp_path, told):
    study(tmp_path / "run", data, loggers=[Remembers("one")], **ONE)
    metrics = [value[1] for _, what, value in told if what == "metrics"]
    assert len(metrics) == 3 * len(JOBS)
    assert {name.partition("/")[0] for named in metrics for name in named} == set(JOBS)
    assert not [what for _, what, _ in told if what == "end"]


def test_a_tracker_that_fails_is_one_warning(whole, data, tmp_path, told):
    with pytest.warns(SidelightWarning, match="the tracker partial .loggers.0.. failed.*OSError: no route") as warned:
        made = study(tmp_path / "run", data, loggers=[partial(Remembers, fails=True), Remembers], **ONE)
    assert sum("tracker" in str(w.message) for w in warned) == 1
    assert len({name for name, _, _ in told}) == len(JOBS)
    assert differing(outcome(whole), outcome(made.folder)) == []


def test_what_is_no_logger_and_what_no_worker_can_get(data, tmp_path):
    for given, jobs, message in (
        (3, 1, "loggers: 3 is neither a logger with"),
        (lambda name: Remembers(name), 2, "cannot be sent to a worker process.*jobs=1"),
    ):
        with pytest.raises(ConfigError, match=message):
            study(tmp_path / "run", data, loggers=[given], **merged(ONE, {"jobs": jobs}))
    with pytest.raises(ConfigError, match="tracking must be tensorboard, mlflow or wandb, got 'tensorbord'"):
        study(tmp_path / "run", data, tracking=["tensorbord"], **ONE)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_names_the_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(RunError, match=r"tracking: tensorboard needs tensorboard.*\[trackers\]"):
        study(tmp_path / "run", data, tracking=["tensorboard"], **ONE)
    assert not (tmp_path / "run").exists()


def test_names_are_mapped_and_mapped_back():
    for name in ("pkdot+kl@crossfit", "50 % (of x)", "a-x2b-b", "é/ü", "-x2d-x2d-", "x:y=z"):
        plain = to_plain(name)
        assert all(c.isascii() and (c.isalnum() or c in "_-. /") for c in plain), plain
        assert from_plain(plain) == name


# the real packages ---------------------------------------------------------------------------------------------------


def test_tensorboard_reads_what_was_told(whole, data, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = study(tmp_path / "run", data, tracking=["tensorboard"], **ONE)
    assert differing(outcome(whole), outcome(made.folder)) == []
    place = made.folder / "tracking" / "tensorboard"
    assert sorted(p.name for p in place.iterdir()) == sorted(JOBS)
    read = accumulator.EventAccumulator(str(place / JOB), size_guidance={"scalars": 0}).Reload()
    for name, column in epochs(made.folder).items():
        told = read.Scalars(name)
        assert [e.step for e in told] == [1, 2]
        assert [e.value for e in told] == pytest.approx(column, rel=1e-6)
    assert read.Scalars("test/accuracy")[0].step == 2
    (text,) = read.Tensors("settings/text_summary")
    assert b"training.epochs: 2" in text.tensor_proto.string_val[0]


@pytest.mark.slow
def test_mlflow_reads_what_was_told(whole, data, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    made = study(tmp_path / "run", data, tracking=["mlflow"], **ONE)
    assert differing(outcome(whole), outcome(made.folder)) == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{made.folder / 'tracking' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "run"]
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == sorted(JOBS)
    run = runs[JOB]
    assert run.info.status == "FINISHED"
    assert {from_plain(name): value for name, value in run.data.params.items()}["method"] == "kl+mse"
    told = {from_plain(name): name for name in run.data.metrics}
    for name, column in epochs(made.folder).items():
        history = client.get_metric_history(run.info.run_id, told[name])
        assert [(m.step, m.value) for m in history] == [(1, pytest.approx(column[0])), (2, pytest.approx(column[1]))]
    assert told["test/accuracy"]


@pytest.mark.slow
def test_wandb_writes_offline_what_was_told(whole, data, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    made = study(tmp_path / "run", data, tracking=["wandb"], **ONE)
    assert differing(outcome(whole), outcome(made.folder)) == []
    found: dict[str, list[dict[str, float]]] = {}
    for file in (made.folder / "tracking" / "wandb").glob("offline-run-*/*.wandb"):
        name = ""
        for content in read_leveldb(file):
            record = wandb_internal_pb2.Record.FromString(content)
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
            elif record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                found.setdefault(name, []).append({k: json.loads(v) for k, v in items.items()})
    assert sorted(found) == sorted(JOBS)
    rows = found[JOB]
    for name, column in epochs(made.folder).items():
        assert [row[name] for row in rows if name in row] == pytest.approx(column)
    assert [row["_step"] for row in rows] == [1, 2]  # the test scores are told with the last epoch
    assert rows[-1]["test/accuracy"] == made.results.set_index(["method", "fold"]).loc[("kl+mse", 0), "accuracy"]


def read_leveldb(file: Path) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, which W&B writes with a header of seven bytes of its own."""
    content, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 2**15 - place % 2**15) < 7:  # no header fits into the rest of a block
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


# other ways to train -------------------------------------------------------------------------------------------------


def test_a_stack_tells_of_each_of_its_models(data, tmp_path, told):
    stacked = merged(ONE, {"training": {"stack": 8}, "methods": ["mse"]})
    whole = study(tmp_path / "whole", data, **stacked)
    made = study(tmp_path / "run", data, loggers=[Remembers], **stacked)
    assert differing(outcome(whole.folder), outcome(made.folder)) == []
    for job in ("mse-l1-f0-s0", "mse-l1-f1-s0"):
        own = [value[1] for name, what, value in told if name == job and what == "metrics"]
        assert len(own) == 3
        for name, column in epochs(made.folder, job).items():
            assert [metrics[name] for metrics in own[:2]] == pytest.approx(column)


def test_a_training_that_fails_is_told_as_failed(data, tmp_path, told, monkeypatch):
    def broken(*args, **more):
        raise RunError("the loss term became nan.")

    monkeypatch.setattr(models_module, "evaluate", broken)
    with pytest.raises(RunError, match="nothing can be compared"), pytest.warns(SidelightWarning, match="failed"):
        study(tmp_path / "run", data, loggers=[Remembers], **ONE)
    assert {value for _, what, value in told if what == "end"} == {"failed"}


def test_a_resumed_training_continues_its_curve(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for begins, value in ((1, 1.0), (3, 2.0)):  # killed after epoch 4, whose last checkpoint was after epoch 2
        logger = TensorBoardLogger(tmp_path, JOB)
        logger.log_hyperparams({"a": 1})
        for step in range(begins, begins + 4):
            logger.log_metrics({"select": value}, step)
        logger.finalize("success")
    (folder,) = (tmp_path / "tracking" / "tensorboard").iterdir()
    read = accumulator.EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in read.Scalars("select")] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_workers_tell_of_their_trainings(tracker, whole, data, tmp_path):
    made = study(tmp_path / "run", data, tracking=[tracker], **merged(ONE, {"jobs": 2}))
    assert differing(outcome(whole), outcome(made.folder)) == []
    if tracker == "tensorboard":
        assert sorted(p.name for p in (made.folder / "tracking" / "tensorboard").iterdir()) == sorted(JOBS)
        return
    client = pytest.importorskip("mlflow").MlflowClient(f"sqlite:///{made.folder / 'tracking' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "run"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(r.info.run_name for r in runs) == sorted(JOBS)
    assert {r.info.status for r in runs} == {"FINISHED"}
