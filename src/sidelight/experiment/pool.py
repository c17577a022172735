"""Runs cells in worker processes of one thread on this machine: the default of a run."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from sidelight.errors import ConfigError, RunError
from sidelight.experiment.cells import Cell, MakeModels, Outcome, group_cells, run_cell, run_quietly
from sidelight.experiment.plan import Job
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import Encoders
from sidelight.experiment.workers import UNLIMITED, GivingOut, Here, Limits, Workers
from sidelight.methods import METHODS
from sidelight.utils.stopping import ask_to_stop

ON_FIRST_USE = ["torch._dynamo"]
"""What the first step of an optimizer imports (65 MB, more than a second): the server does so once for all workers."""


def run_jobs(
    make_models: MakeModels,
    folder: Path,
    jobs: list[Job],
    workers: int,
    progress: Progress,
    encoders: Encoders,
    parts: Sequence[Sequence[tuple[int, int]]] = (),
    limits: Limits = UNLIMITED,
    others: Workers | None = None,
) -> None:
    """Run jobs, those of one fold and seed in one process; in this process if one worker is enough.

    Args:
        make_models: builds the models of a fold and seed. It is sent to the workers, so it must be picklable.
        folder: the run folder.
        jobs: the jobs, ordered by seed and fold.
        workers: the largest number of processes.
        progress: is updated when jobs are finished.
        encoders: the user's own encoders in `make_models`.
        parts: the (seed, fold) of jobs that are trained together; those that are not named are trained one by one.
        limits: when they have to stop.
        others: where the jobs run instead of on this machine.

    Raises:
        RunError: a worker died. An error of a job is raised after the other workers have been terminated.
        UnfinishedError: it was asked to stop.
    """
    cells = group_cells(jobs, parts)
    if others is not None:
        GivingOut(others, cells, progress).run()
    elif min(workers, len(cells)) <= 1:
        GivingOut(Here(make_models, folder, limits, progress), cells, progress).run()
    else:
        with open_pool(min(workers, len(cells)), make_models, folder, encoders, limits) as pool:
            GivingOut(pool, cells, progress).run()


class Pool(Workers):
    """Worker processes of this machine.

    Args:
        executor: the processes.
        script: whether they have to import the running script.
        limits: when they have to stop.
    """

    def __init__(self, executor: ProcessPoolExecutor, script: bool, limits: Limits):
        self.executor, self.script, self.limits = executor, script, limits
        self.running: set[Future[Outcome]] = set()

    def submit(self, cell: Cell) -> Future[Outcome]:
        with _main_module(self.script):
            future = self.executor.submit(_run_in_worker, cell, self.limits)
        self.running.add(future)
        future.add_done_callback(self.running.discard)
        return future

    def explain(self, error: Exception) -> Exception:
        if not isinstance(error, BrokenProcessPool):
            return error
        return RunError(
            "A worker process failed to start, or died. Guard `compare()` with "
            '`if __name__ == "__main__":`, or move your encoders and methods to a module.'
            if self.script
            else "A worker process died, which usually means that it ran out of memory. Finished jobs are "
            "kept: continue with --resume and fewer workers (--jobs 1)."
        )

    def stop(self) -> None:
        for process in list((self.executor._processes or {}).values()):
            process.terminate()
        wait([future for future in list(self.running) if not future.cancelled()])


@contextmanager
def open_pool(
    workers: int, make_models: MakeModels, folder: Path, encoders: Encoders, limits: Limits
) -> Iterator[Pool]:
    """Start worker processes; they are killed if the block ends with an exception."""
    methods = own_methods()
    script = uses_script("encoders", encoders) | uses_script("methods", methods)
    with ProcessPoolExecutor(workers, _get_context(), _start_worker, (make_models, folder, methods)) as executor:
        try:
            yield Pool(executor, script, limits)
        except BaseException:
            _kill(executor)
            raise


def own_methods() -> dict[str, Any]:
    """The user's own methods, which only this process has registered."""
    return {name: method for name, method in METHODS.items() if not method.__module__.startswith("sidelight.")}


def _get_context() -> BaseContext:
    """How workers start: forked from a server that has imported sidelight once, where there are such servers.

    Workers then start at once and share the memory of what was imported. The server imports nothing of the user's and
    computes nothing, so that its one other thread is that of an allocator (pyarrow's jemalloc), which may be forked.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, *ON_FIRST_USE])
    return context


def uses_script(kind: str, own: Mapping[str, Any]) -> bool:
    """Whether the running script defines one of these objects, so that workers have to import the script.

    Args:
        kind: "encoders" or "methods", for the error.
        own: name -> object.

    Raises:
        ConfigError: an object cannot be pickled.
    """
    for name, made in own.items():
        try:
            if b"__main__" in pickle.dumps(made):
                return True
        except Exception as error:
            raise ConfigError(
                f"{kind}: {name!r} cannot be sent to a worker process ({error}). Define it with `def` or "
                "`class` in a module, or run with jobs=1."
            ) from error
    return False


@contextmanager
def _main_module(imported: bool) -> Iterator[None]:
    """Hide the running script from processes that are spawned here, unless they have to import it.

    A script that calls `compare` without `if __name__ == "__main__":` would run again in every worker.
    """
    script = sys.modules["__main__"]
    if not imported:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _kill(executor: ProcessPoolExecutor) -> None:
    """End the workers without waiting for their jobs."""
    processes = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()  # so that no worker writes into the folder while the next run uses it


_run_here: partial[Outcome]
"""In a worker: runs a cell."""


def _start_worker(make_models: MakeModels, folder: Path, methods: Mapping[str, Any]) -> None:
    global _run_here
    _run_here = partial(run_cell, make_models, folder)
    gc.freeze()  # a collection would write to every object of the server, and so copy the pages that are shared
    METHODS.update(methods)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets the signal too, and ends its workers
    signal.signal(signal.SIGTERM, _save_and_stop)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _save_and_stop(_number: int, _frame: FrameType | None) -> None:
    ask_to_stop()


def _exit_with_parent() -> None:
    """End this process as soon as its parent was killed, so that it does not write into the folder of the next run."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_in_worker(cell: Cell, limits: Limits) -> Outcome:
    return run_quietly(partial(_run_here, cell, limits.name, limits.until))
