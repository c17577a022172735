"""Cells on a local pool of processes, one thread each."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import groupby
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import torch

from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment.cell import Cell
from sidelight.experiment.environment import Encoders
from sidelight.experiment.jobs import Job
from sidelight.experiment.progress import Progress
from sidelight.methods import METHODS

MakeCell = Callable[[int, int], Cell]
"""(fold, seed) -> cell; travels to the workers, so it is picklable."""


def run_jobs(make_cell: MakeCell, jobs: list[Job], workers: int, progress: Progress, encoders: Encoders) -> None:
    """Run jobs, those of one fold and seed together; here if one worker is enough.

    encoders: those of `make_cell`.

    Raises:
        RunError: a worker died. Anything that a job raises: the other workers are ended first.
    """
    cells = [list(group) for _, group in groupby(jobs, key=lambda job: (job.seed, job.fold))]
    workers = min(workers, len(cells))
    if workers <= 1:
        for cell in cells:
            _run_cell(make_cell, cell, progress.update)
        return
    methods = {name: method for name, method in METHODS.items() if not method.__module__.startswith("sidelight.")}
    script = _of_script("encoders", encoders) | _of_script("methods", methods)
    start = make_cell, os.getpid(), methods
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, start) as pool:
        with _script(script):
            futures: set[Future[list[str]]] = {pool.submit(_run_in_worker, cell) for cell in cells}
        try:
            while futures:
                done, futures = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    progress.warn(future.result())
                progress.update()
        except BaseException as error:
            _end(pool)
            if isinstance(error, BrokenProcessPool):
                raise RunError(
                    "a worker process could not begin, or ended without a word, which is what a script looks like that "
                    'defines encoders or methods and compares outside of `if __name__ == "__main__":`. Define them in '
                    "a module."
                    if script
                    else "a worker process ended without a word, which is what running out of memory looks like. "
                    "Finished jobs are kept: continue with --resume, and fewer workers (--jobs 1)."
                ) from error
            raise


def _of_script(kind: str, own: Mapping[str, Any]) -> bool:
    """Whether the script that is running defines one of them, so that workers have to import it."""
    for name, made in own.items():
        try:
            if b"__main__" in pickle.dumps(made):
                return True
        except Exception as error:
            raise ConfigError(
                f"{kind}: that of {name!r} cannot be sent to a worker process ({error}). Define it with `def` or "
                "`class` in a module, or run with jobs=1."
            ) from error
    return False


@contextmanager
def _script(imported: bool) -> Iterator[None]:
    """Processes that are spawned here import the running script, as they always would, or know nothing of it.

    One that compares without asking `if __name__ == "__main__":` would begin anew in every worker.
    """
    script = sys.modules["__main__"]
    if not imported:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()  # whoever runs next in the folder is alone there


def _run_cell(make_cell: MakeCell, jobs: list[Job], tick: Callable[[], None] = lambda: None) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same result whether jobs run here or in a pool
    try:
        cell = make_cell(jobs[0].fold, jobs[0].seed)
        for job in jobs:
            cell.run(job)
            tick()
    finally:
        torch.set_num_threads(threads)


_make_cell: MakeCell | None = None


def _start_worker(make_cell: MakeCell, parent: int, methods: Mapping[str, Any]) -> None:
    global _make_cell
    _make_cell = make_cell
    METHODS.update(methods)  # the user's own, which were registered in the first process alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """End this process soon after its parent was killed, so that nobody writes where another run may begin."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _run_in_worker(jobs: list[Job]) -> list[str]:
    """Run one cell; returns what it warned of."""
    assert _make_cell is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", SidelightWarning)
        _run_cell(_make_cell, jobs)
    return [str(warning.message) for warning in caught]
