"""Runs jobs in worker processes of one thread: those of one fold and seed, which share models, or of several folds."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from types import ModuleType
from typing import Any

import torch

from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment.assemble import run_job
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import Encoders
from sidelight.experiment.stacks import run_stacked
from sidelight.methods import METHODS
from sidelight.training.compute import compute_on

ON_FIRST_USE = ["torch._dynamo"]
"""What the first step of an optimizer imports (65 MB, more than a second): the server does so once for all workers."""
MakeModels = Callable[[int, int], FoldModels]
"""(fold, seed) -> models. It is sent to the workers, so it must be picklable."""


def run_jobs(
    make_models: MakeModels,
    jobs: list[Job],
    workers: int,
    progress: Progress,
    encoders: Encoders,
    parts: Sequence[Sequence[tuple[int, int]]] = (),
) -> None:
    """Run jobs, those of one fold and seed in one process; in this process if one worker is enough.

    Args:
        make_models: builds the models of a fold and seed.
        jobs: the jobs, ordered by seed and fold.
        workers: the largest number of processes.
        progress: is updated when jobs are finished.
        encoders: the user's own encoders in `make_models`.
        parts: the (seed, fold) of jobs that are trained together; those that are not named are trained one by one.

    Raises:
        RunError: a worker died. An error of a job is raised after the other workers have been terminated.
    """
    part_of = {fold: number for number, part in enumerate(parts) for fold in part}
    by_part: dict[object, list[Job]] = {}
    for job in jobs:
        where = (job.seed, job.fold)
        by_part.setdefault(part_of.get(where, where), []).append(job)
    folds = list(by_part.values())
    workers = min(workers, len(folds))
    if workers <= 1:
        for fold in folds:
            _run_fold(make_models, fold, progress.update)
        return
    methods = {name: method for name, method in METHODS.items() if not method.__module__.startswith("sidelight.")}
    script = _defined_in_script("encoders", encoders) | _defined_in_script("methods", methods)
    with ProcessPoolExecutor(workers, _get_context(), _start_worker, (make_models, methods)) as pool:
        with _main_module(script):
            futures: set[Future[list[str]]] = {pool.submit(_run_in_worker, fold) for fold in folds}
        try:
            while futures:
                done, futures = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    progress.warn(future.result())
                progress.update()
        except BaseException as error:
            _terminate(pool)
            if isinstance(error, BrokenProcessPool):
                raise RunError(
                    "A worker process failed to start, or died. Guard `compare()` with "
                    '`if __name__ == "__main__":`, or move your encoders and methods to a module.'
                    if script
                    else "A worker process died, which usually means that it ran out of memory. Finished jobs are "
                    "kept: continue with --resume and fewer workers (--jobs 1)."
                ) from error
            raise


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


def _defined_in_script(kind: str, own: Mapping[str, Any]) -> bool:
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


def _terminate(pool: ProcessPoolExecutor) -> None:
    """Terminate the workers without waiting for their jobs."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()  # so that no worker writes into the folder while the next run uses it


def _run_fold(make_models: MakeModels, jobs: list[Job], on_finished: Callable[[], None] = lambda: None) -> None:
    """Run the jobs of one fold and seed one by one, or those of several together."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the results are the same here and in a pool
    try:
        if len({(job.fold, job.seed) for job in jobs}) > 1:
            run_stacked(make_models, jobs, on_finished)
            return
        models = make_models(jobs[0].fold, jobs[0].seed)
        with compute_on(models.device, models.config.training):
            for job in jobs:
                models.failures.attempt(job, partial(run_job, models, job))
                on_finished()
    finally:
        torch.set_num_threads(threads)


_make_models: MakeModels | None = None
"""In a worker: builds the models of a fold and seed."""


def _start_worker(make_models: MakeModels, methods: Mapping[str, Any]) -> None:
    global _make_models
    _make_models = make_models
    gc.freeze()  # a collection would write to every object of the server, and so copy the pages that are shared
    METHODS.update(methods)  # the user's own, which only the parent has registered
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets the signal too, and terminates its workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this process as soon as its parent was killed, so that it does not write into the folder of the next run."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_in_worker(jobs: list[Job]) -> list[str]:
    """Run jobs that belong together in a worker; returns the warnings for the parent to show."""
    assert _make_models is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", SidelightWarning)
        _run_fold(_make_models, jobs)
    return [str(warning.message) for warning in caught]
