"""Cells on any executor: the same bits as in this process, and a sentence for whatever goes wrong there."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.small import BASE, differing, make_data, merged, outcome, study, table
from sidelight import cli
from sidelight.config import load_config
from sidelight.errors import ConfigError, DataError, DiskError, RunError, UnfinishedError
from sidelight.experiment import dask_workers, handout, models, workers
from sidelight.experiment.cells import Cell, Outcome, group_cells, run_cell
from sidelight.experiment.leases import hold, present, work_folder
from sidelight.experiment.plan import Job
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import describe_environment
from sidelight.experiment.resolve import resolve
from sidelight.methods import parse_methods
from sidelight.tracking import Tracking
from sidelight.utils import stopping
from sidelight.utils.atomic import write_folder_atomic

TINY: dict[str, Any] = {"methods": ["kl"], "self_distillation": ["none"], "training": {"epochs": 2, "patience": 2}}


@pytest.fixture(scope="module")
def data():
    return make_data(n=96, groups=8)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run in this process."""
    return study(tmp_path_factory.mktemp("whole") / "run", data, **TINY).folder


def same(run: Path, whole: Path) -> None:
    assert differing(outcome(run), outcome(whole)) == []
    assert table(run).equals(table(whole))
    assert not (run / ".work").exists()
    assert not [p for p in run.rglob("*") if p.name.endswith(".tmp")]


# executors ----------------------------------------------------------------------------------------------------------


def test_an_executor_of_ones_own_leaves_the_same_bits(whole, data, tmp_path):
    """Threads too: torch's seeds are those of the process, so that its cells take turns."""
    with ThreadPoolExecutor(2) as executor:
        study(tmp_path / "run", data, executor=executor, **TINY)
    same(tmp_path / "run", whole)


@pytest.mark.slow  # starts two interpreters
def test_executorlib_leaves_the_same_bits(whole, data, tmp_path):
    executorlib = pytest.importorskip("executorlib")
    with executorlib.SingleNodeExecutor(max_workers=2, block_allocation=True) as executor:
        study(tmp_path / "run", data, executor=executor, **TINY)
    same(tmp_path / "run", whole)


class Unsteady(Executor):
    """Runs what it is given at once, and loses some of it."""

    def __init__(self, lost: int, error: BaseException):
        self.lost, self.error, self.calls = lost, error, []

    def submit(self, run, *args):
        self.calls.append(args)
        future: Future[Outcome] = Future()
        if self.lost:
            self.lost -= 1
            future.set_exception(self.error)
        else:
            future.set_result(run(*args))
        return future


class KilledWorker(Exception):
    """As Dask names it."""


def test_the_cell_of_a_dead_worker_is_given_out_again(whole, data, tmp_path):
    executor = Unsteady(3, KilledWorker())
    study(tmp_path / "run", data, executor=executor, **TINY)
    same(tmp_path / "run", whole)
    assert len(executor.calls) == 5
    assert len({call[1:] for call in executor.calls}) == 5  # no two equal ones: some executors run those once
    assert max(len(pickle.dumps(call)) for call in executor.calls) < 1000  # however large the study


def test_a_cell_that_kills_every_worker_ends_the_study(data, tmp_path):
    with pytest.raises(RunError, match=r"died 20 times while they ran f\d-s0-\w+ \(baseline-l1-f\d-s0 and 2 more jobs"):
        study(tmp_path / "run", data, executor=Unsteady(10**6, KilledWorker()), **TINY)


def test_cells_have_stable_names_and_hold_what_shares_a_teacher():
    jobs = [Job(m, "", 1.0, fold, 0) for fold in range(3) for m in ("teacher", "kl")]
    alone, stacked = group_cells(jobs), group_cells(jobs, [[(0, 0), (0, 2)]])
    assert [cell.folds for cell in alone] == [["f0-s0"], ["f1-s0"], ["f2-s0"]]
    assert [cell.folds for cell in stacked] == [["f0-s0", "f2-s0"], ["f1-s0"]]
    assert [cell.id for cell in group_cells(jobs)] == [cell.id for cell in alone]
    assert re.fullmatch(r"f0-s0-[0-9a-f]{12}", alone[0].id)


# other processes ----------------------------------------------------------------------------------------------------


def test_a_fold_that_another_process_trains_is_waited_for(data, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(workers, "PATIENCE", (0.05, 0.05))
    run, states = tmp_path / "run", []

    def cell(*args, **more):
        with nullcontext() if states else hold(run, ["f0-s0"]):  # at first as if another process had it
            states.append(run_cell(*args, **more).state)
        return Outcome(states[-1])

    monkeypatch.setattr(workers, "run_cell", cell)
    study(run, data, **TINY)
    assert states == ["busy", "done", "done"]
    same(run, whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_the_lease_of_a_dead_process_is_taken_over_and_that_of_a_living_one_is_not(tmp_path):
    pid = os.fork()
    if pid == 0:
        hold(tmp_path, ["f0-s0"]).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with hold(tmp_path, ["f0-s0", "f1-s0"]) as mine:
        assert mine
        with hold(tmp_path, ["f1-s0", "f2-s0"]) as other, hold(tmp_path, ["f2-s0"]) as free:
            assert (other, free) == (False, True)  # all of them or none


def test_of_two_that_store_one_job_the_first_stays(tmp_path):
    for word in ("first", "second"):
        with write_folder_atomic(tmp_path / "job", keep=True) as place:
            (place / "said").write_text(word)
    assert (tmp_path / "job" / "said").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["job"]


# stopping -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_that_is_asked_to_stop_saves_and_is_resumed_to_the_bit(stack, whole, data, tmp_path, monkeypatch):
    settings = merged(TINY, {"training": {"stack": stack}, "checkpoint_seconds": 1e6})
    if stack > 1:
        whole = study(tmp_path / "whole", data, **settings).folder
    asked = "fit_stacked" if stack > 1 else "fit"
    place = "sidelight.experiment.stacks.fit_stacked" if stack > 1 else "sidelight.experiment.train_alone.fit"
    module = __import__(place.rpartition(".")[0], fromlist=["x"])
    fit = getattr(module, asked)

    def stopped(*args, **more):
        stopping.ask_to_stop()
        return fit(*args, **more)

    monkeypatch.setattr(place, stopped)
    monkeypatch.setattr(stopping, "_asked", set())
    run = tmp_path / "run"
    with pytest.raises(UnfinishedError, match=r"stopped with \d of \d cells .* unfinished"):
        study(run, data, **settings)
    assert len(list((run / "checkpoints").iterdir())) == 1
    monkeypatch.undo()
    study(run, data, resume=True, **settings)
    same(run, whole)


def test_a_time_limit_stops_a_run_and_executors_too(data, tmp_path, whole):
    with pytest.raises(UnfinishedError):
        study(tmp_path / "run", data, time_limit=1e-9, **TINY)
    with ThreadPoolExecutor(1) as executor, pytest.raises(UnfinishedError):
        study(tmp_path / "run", data, time_limit=1e-9, resume=True, executor=executor, **TINY)
    with pytest.raises(ConfigError, match="time_limit: expected seconds above 0"):
        study(tmp_path / "run", data, time_limit=0, **TINY)
    study(tmp_path / "run", data, resume=True, time_limit=1000, **TINY)
    same(tmp_path / "run", whole)


def test_the_command_line_says_how_to_go_on(monkeypatch, capsys):
    def run(config, **more):
        assert more["time_limit"] == 12600
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None)
        signal.raise_signal(signal.SIGTERM)
        assert stopping.should_stop()
        raise UnfinishedError("stopped with 3 of 5 cells unfinished.")

    monkeypatch.setattr("sidelight.experiment.run", run)
    assert cli.main(["run", "phone-watch", "--time-limit", "3:30:00"]) == 75
    assert "Go on with: sidelight run phone-watch --time-limit 3:30:00 --resume" in capsys.readouterr().err
    assert not stopping.should_stop()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert cli.main(["run", "phone-watch", "--time-limit", "90"]) == 2
    assert "--time-limit '90': expected [D-]H:MM:SS" in capsys.readouterr().err
    assert stopping.parse_duration("1-02:00:03", "x") == 93603


# what goes wrong ----------------------------------------------------------------------------------------------------


@pytest.fixture
def handed(data, tmp_path) -> handout.Handout:
    """A study as a worker gets it."""
    config = resolve(load_config(merged(BASE | {"output": str(tmp_path / "run"), "data": data.name}, TINY)), data)
    now = describe_environment(data, {}, parse_methods(config.methods).values())
    return handout.hand_out(tmp_path / "run", config, data, now, {}, {}, Tracking(tmp_path / "run"))


def test_a_worker_opens_the_study_that_was_handed_out(handed, data):
    made = handout.open_study(handed)[1](0, 0)
    for m, x in data.inputs.items():
        assert np.array_equal(made.data.dataset.inputs[m], x)
    assert made.config.methods == ["kl"]
    assert made.config.training.epochs == 2


def test_a_worker_that_does_not_see_the_run_folder(handed, tmp_path):
    with pytest.raises(RunError, match="must be on a file system that every worker sees under the same path"):
        handout.open_study(replace(handed, folder=str(tmp_path / "nowhere")))
    with pytest.raises(RunError, match=r"on the worker \d+ of .*cannot be read"):
        handout.run_handed_out(replace(handed, folder=str(tmp_path)), (("kl", "", 1.0, 0, 0),), workers.UNLIMITED, 0)


def test_a_worker_with_other_versions_is_named(handed, monkeypatch):
    versions = handout.describe_versions()
    monkeypatch.setattr(handout, "describe_versions", lambda: versions | {"torch": "1.0"})
    with pytest.raises(RunError, match=rf"versions differ .*: torch 1\.0 instead of {re.escape(versions['torch'])}"):
        handout.open_study(handed)


def test_a_worker_with_other_data_or_without_them(handed, tmp_path):
    rows = next(work_folder(tmp_path / "run").glob("rows-*"))
    file = next(rows.glob("inputs-*.npy"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="holds other data here"):
        handout.open_study(handed)
    file.unlink()
    with pytest.raises(DataError, match="the data cannot be read here"):
        handout.open_study(handed)


def test_rows_that_are_files_need_their_path(data, tmp_path, monkeypatch):
    monkeypatch.setattr(handout, "is_lazy", lambda x: True)
    config = resolve(load_config(merged(BASE | {"output": str(tmp_path / "run"), "data": data.name}, TINY)), data)
    now = describe_environment(data, {}, parse_methods(config.methods).values())
    with pytest.raises(ConfigError, match="its rows are files, which workers on other machines have to find"):
        handout.hand_out(tmp_path / "run", config, data, now, {}, {}, Tracking(tmp_path / "run"))
    there = replace(data, about={"source": data.name})
    made = handout.hand_out(tmp_path / "run", config, there, now, {}, {}, Tracking(tmp_path / "run"))
    facts = json.loads(next(work_folder(tmp_path / "run").glob("*.json")).read_text())
    assert facts["data"] == {"load": os.path.abspath(data.name)}
    with pytest.raises(DataError, match="the data cannot be read here"):
        handout.open_study(made)


def test_encoders_that_cannot_be_sent_are_refused_before_anything_runs(data, tmp_path):
    with ThreadPoolExecutor(1) as executor, pytest.raises(ConfigError, match="encoders: 'phone' cannot be sent"):
        study(tmp_path / "run", data, executor=executor, encoders={"phone": lambda shape: None}, **TINY)


def test_what_ends_every_job_names_its_worker_and_loses_nothing(data, tmp_path, monkeypatch, whole):
    store, stored = models.store_job, []

    def full(folder, job, *rest):
        if stored:
            raise DiskError(f"cannot write {job.id}: No space left on device.")
        stored.append(job.id)
        store(folder, job, *rest)

    monkeypatch.setattr(models, "store_job", full)
    with ThreadPoolExecutor(1) as executor, pytest.raises(DiskError, match=r"on the worker \d+ of .*No space left"):
        study(tmp_path / "run", data, executor=executor, **TINY)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "run" / "jobs").iterdir()] == stored
    study(tmp_path / "run", data, resume=True, **TINY)
    same(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ("node7:8786", r"'node7:8786' is no address of a Dask scheduler. Expected tcp://host:8786, or local:3"),
        ("local:0", "is no address of a Dask scheduler"),
        (3, "expected an object with the methods of concurrent.futures.Executor"),
        (
            type("Client", (), {"submit": print, "get_executor": print})(),
            r"hand over client.get_executor\(pure=False\)",
        ),
    ],
)
def test_what_is_no_executor_is_named(executor, message, data, tmp_path):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path / "run", data, executor=executor, **TINY)


def test_nobody_at_the_address(data, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_workers, "CONNECT", 0.2)
    with pytest.raises(RunError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 .*`dask worker`"):
        study(tmp_path / "run", data, executor="tcp://127.0.0.1:9", **TINY)


def test_other_versions_of_dask_are_named():
    def packages(**changed: str) -> dict[str, Any]:
        return {"packages": {"python": "3.11.7.final.0", "distributed": "2026.8.0", "dask": "2026.8.0"} | changed}

    found = {"client": packages(), "scheduler": packages(), "workers": {"tcp://a:1": packages()}}
    dask_workers._check_versions(found)
    found["workers"]["tcp://b:2"] = packages(distributed="2026.1.0")
    with pytest.raises(RunError, match=r"the worker tcp://b:2 has distributed 2026\.1\.0, this process 2026\.8\.0"):
        dask_workers._check_versions(found)
    found["scheduler"] = packages(python="3.12.1.final.0")
    with pytest.raises(RunError, match=r"the scheduler has python 3\.12\.1"):
        dask_workers._check_versions(found)


def test_threads_of_dask_workers_are_warned_of():
    with pytest.warns(UserWarning, match="workers of 4 threads, which run one cell at a time"):
        dask_workers._warn_about_threads({"tcp://a:1": 1, "tcp://b:1": 4})


class Gone:
    """A client whose scheduler has ended."""

    status = "closed"

    def get_executor(self, pure: bool) -> Executor:
        assert not pure
        return Unsteady(1, KilledWorker())


def test_a_scheduler_that_ends_is_told_and_can_be_gone_on_from(tmp_path):
    cells = [Cell((Job("kl", "", 1.0, 0, 0),))]
    own = dask_workers.DaskWorkers(Gone(), "tcp://a:1", handout.Handout("", "", b""), workers.UNLIMITED, 1.0)
    with pytest.raises(UnfinishedError, match="the Dask scheduler at tcp://a:1 has ended"):
        workers.GivingOut(own, cells, Progress(tmp_path, 1, quiet=True)).run()


def test_presence_is_seen_while_it_lasts(tmp_path):
    from sidelight.experiment.leases import is_used

    with present(tmp_path):
        assert is_used(tmp_path)
    assert not is_used(tmp_path)


def test_stop_and_wait_waits_for_what_runs():
    import asyncio

    begun = threading.Event()

    def work() -> None:
        with stopping.stoppable("mine"):
            begun.set()
            while not stopping.should_stop():
                time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    asyncio.run(stopping.stop_and_wait("mine", 10.0))
    assert not any(name == "mine" for name, _ in stopping._running)
    thread.join()
