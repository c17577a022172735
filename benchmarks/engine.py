"""What the engine costs: a job that does nothing, in this process, in a pool and on Dask; and two workers beside one.

    python benchmarks/engine.py                  # 1,000 jobs that store a small folder, each in a cell of its own
    python benchmarks/engine.py --speedup        # 20 equal cells of a small study on one worker and on two, in turn

A job that does nothing goes the whole way of a job but for its training: it is given out by the loop of a run, takes the
lease of its fold, looks whether it is stored, and stores a folder by an atomic renaming with every file synced.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import tempfile
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import sidelight as sl
from sidelight.experiment.cells import Cell, Outcome
from sidelight.experiment.leases import forget_work, hold
from sidelight.experiment.plan import Job
from sidelight.experiment.progress import Progress
from sidelight.experiment.workers import GivingOut, Workers
from sidelight.utils.atomic import write_folder_atomic


def do_nothing(folder: Path, folds: list[str], job: str, _call: int) -> Outcome:
    """A job without its training."""
    with hold(folder, folds):
        place = folder / "jobs" / job
        if not place.exists():
            with write_folder_atomic(place, keep=True) as made:
                (made / "job.json").write_text('{"seconds": 0}')
    return Outcome("done")


class Idle(Workers):
    """Workers whose cells do nothing."""

    def __init__(self, executor: Executor | None, folder: Path):
        self.executor, self.folder, self.call = executor, folder, 0
        self.most = 1 if executor is None else 1000

    def submit(self, cell: Cell) -> Future[Outcome]:
        self.call += 1
        given = (self.folder, cell.folds, cell.jobs[0].id, self.call)
        if self.executor is not None:
            return self.executor.submit(do_nothing, *given)
        future: Future[Outcome] = Future()
        future.set_result(do_nothing(*given))
        return future


def measure(name: str, executor: Executor | None, folder: Path, jobs: int) -> None:
    """Print the seconds of so many jobs, once the workers have done a first one."""
    cells = [Cell((Job("kl", "", 1.0, fold, 0),)) for fold in range(jobs + 2)]
    wall = []
    for part in (cells[:2], cells[2:]):
        start = time.perf_counter()
        GivingOut(Idle(executor, folder), part, Progress(folder, len(part), quiet=True)).run()
        wall.append(time.perf_counter() - start)
    forget_work(folder)
    print(
        f"{name}: {jobs} jobs in {wall[1]:.1f} s, {1000 * wall[1] / jobs:.1f} ms a job; the first two {wall[0]:.1f} s",
        flush=True,
    )


def overhead(jobs: int) -> None:
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory() as place:
        measure("in this process", None, Path(place) / "here", jobs)
        with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
            measure("two processes", pool, Path(place) / "pool", jobs)
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            ) as cluster,
            Client(cluster) as client,
        ):
            measure("two Dask workers", client.get_executor(pure=False), Path(place) / "dask", jobs)


def speedup(rounds: int) -> None:
    from distributed import Client, LocalCluster

    rng = np.random.default_rng(0)
    y = np.arange(2000) % 4
    rows = {"a": rng.normal(size=(2000, 32)) + y[:, None] / 4, "b": rng.normal(size=(2000, 32)) + y[:, None]}
    data = sl.load({**rows, "target": y, "group": np.arange(2000) // 20}, name="equal")
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        clusters = [
            LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL)
            for n in (1, 2)
        ]
        clients = [Client(cluster, set_as_default=False) for cluster in clusters]
        for number in range(-1, rounds):  # the first round starts the workers
            seconds = []
            for count, client in enumerate(clients, 1):
                start = time.perf_counter()
                sl.compare(
                    data, ["a"], ["b"], ["kl"], output=f"{place}/{number}-{count}", folds=5, seeds=4, placebo=["none"],
                    self_distillation=["none"], training={"epochs": 60, "patience": 60}, quiet=True,
                    executor=client.get_executor(pure=False),
                )  # fmt: skip
                seconds.append(time.perf_counter() - start)
            if number >= 0:
                ratios.append(seconds[0] / seconds[1])
                print(
                    f"one worker {seconds[0]:.1f} s, two {seconds[1]:.1f} s: {ratios[-1]:.2f} times faster", flush=True
                )
        for thing in (*clients, *clusters):
            thing.close()
    print(f"median of {rounds}: {statistics.median(ratios):.2f}" if ratios else math.nan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--speedup", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    speedup(given.rounds) if given.speedup else overhead(given.jobs)
