"""Runs cells by an executor that the user hands over, on this machine or others."""

from __future__ import annotations

import re
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import AbstractContextManager, nullcontext
from itertools import count

from sidelight.errors import ConfigError, RunError, shown
from sidelight.experiment.cells import Cell, Outcome
from sidelight.experiment.handout import Handout, run_handed_out
from sidelight.experiment.workers import Limits, Workers


class HandedOver(Workers):
    """An executor whose workers see the run folder.

    Args:
        executor: anything with the methods of `concurrent.futures.Executor`.
        handout: the study.
        limits: when cells have to stop.
    """

    def __init__(self, executor: Executor, handout: Handout, limits: Limits):
        self.executor, self.handout, self.limits = executor, handout, limits
        self.calls = count()

    def submit(self, cell: Cell) -> Future[Outcome]:
        jobs = tuple((job.method, job.control, job.label_fraction, job.fold, job.seed) for job in cell.jobs)
        return self.executor.submit(run_handed_out, self.handout, jobs, self.limits, next(self.calls))

    def is_death(self, error: BaseException) -> bool:
        # Of Dask's distributed, which need not be installed: a task was on several workers that died.
        return super().is_death(error) or type(error).__name__ == "KilledWorker"

    def explain(self, error: Exception) -> Exception:
        if not isinstance(error, BrokenExecutor):
            return error
        return RunError(
            f"a worker of the executor died ({error}), which usually means that it ran out of memory. Finished jobs "
            "are kept: continue with resume=True and a new executor."
        )


LOCAL = re.compile(r"local:([1-9]\d*)")
"""Workers of this machine, so many."""


def check_executor(executor: Executor | str) -> None:
    """Raise ConfigError for what is no executor and no address of a scheduler."""
    if isinstance(executor, str):
        if not LOCAL.fullmatch(executor) and not re.fullmatch(r"\w+://.+", executor):
            raise ConfigError(
                f"scheduler: {shown(executor)} is no address of a Dask scheduler. Expected tcp://host:8786, or local:3 "
                "for three workers of this machine. Of the learning rate: Did you mean '--training.schedule'?"
            )
    elif not callable(getattr(executor, "submit", None)):
        raise ConfigError(
            "executor: expected an object with the methods of concurrent.futures.Executor, or the address of a Dask "
            f"scheduler, not {shown(executor)}."
        )
    elif type(executor).__name__ == "Client" and hasattr(executor, "get_executor"):
        raise ConfigError("executor: a Dask client is no executor; hand over client.get_executor(pure=False).")


def open_workers(
    executor: Executor | str, handout: Handout, limits: Limits, seconds: float
) -> AbstractContextManager[Workers]:
    """The workers of an executor, or of the Dask scheduler of an address (`check_executor`).

    Args:
        executor: an executor; or "tcp://host:8786", or "local:3" for three workers of this machine.
        handout: the study.
        limits: when cells have to stop.
        seconds: how long cells may take to stop.
    """
    if isinstance(executor, str):
        from sidelight.experiment.dask_workers import open_dask

        return open_dask(executor, handout, limits, seconds)
    return nullcontext(HandedOver(executor, handout, limits))
