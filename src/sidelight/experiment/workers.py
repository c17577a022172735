"""Where cells run: this process, a pool of processes, or any executor; and the loop that gives them out."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from sidelight.errors import RunError, UnfinishedError
from sidelight.experiment.cells import Cell, MakeModels, Outcome, run_cell
from sidelight.experiment.mirror import mirror_of
from sidelight.experiment.progress import Progress
from sidelight.utils.stopping import should_stop

POLL = 0.5
"""Seconds between two looks at what else has happened."""
PATIENCE = (1.0, 15.0)
"""Seconds until a fold that another process works on is asked for again: at first, and at most."""
DEATHS = 20
"""Workers that may die with the same cell."""


@dataclass(frozen=True)
class Limits:
    """When cells have to stop.

    Attributes:
        name: the name by which they are asked to stop.
        until: when they stop by themselves, in seconds since the epoch.
    """

    name: str = ""
    until: float = math.inf


UNLIMITED = Limits()
"""No limits."""


class Workers:
    """Where cells run."""

    most = 1000
    """The most cells that are given out at once."""

    def submit(self, cell: Cell) -> Future[Outcome]:
        """Give a cell out."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise an error if the workers cannot be reached any more."""

    def is_death(self, error: BaseException) -> bool:
        """Whether an error says that a worker died, and others go on: the cell is given out again."""
        return isinstance(error, CancelledError)

    def explain(self, error: Exception) -> Exception:
        """The error that the user sees in place of one."""
        return error

    def stop(self) -> None:
        """Ask the cells that run to save and stop, and wait for them as long as they need."""


class Here(Workers):
    """This process, which runs a cell when it is submitted."""

    most = 1

    def __init__(self, make_models: MakeModels, folder: Path, limits: Limits, progress: Progress):
        self.run = partial(
            run_cell, make_models, folder, name=limits.name, until=limits.until, on_finished=progress.update
        )

    def submit(self, cell: Cell) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(self.run(cell))
        return future


class GivingOut:
    """Gives cells out until all are done.

    Args:
        workers: where they run.
        cells: the cells.
        progress: is updated when jobs are finished.
    """

    def __init__(self, workers: Workers, cells: Iterable[Cell], progress: Progress):
        self.workers, self.progress = workers, progress
        self.waiting = deque(cells)
        self.total = len(self.waiting)
        self.running: dict[Future[Outcome], Cell] = {}
        self.ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
        self.busy: list[tuple[float, Cell]] = []
        self.asked: Counter[Cell] = Counter()
        self.deaths: Counter[Cell] = Counter()
        self.mirror = mirror_of(progress.folder)
        self.next_update = 0.0

    def run(self) -> None:
        """Give out every cell, and again those whose worker died.

        Raises:
            UnfinishedError: it was asked to stop, its time is over, or the workers cannot be reached.
            RunError: the same cell has cost too many workers their lives. Other errors of cells are raised as they are.
        """
        while self.waiting or self.running or self.busy:
            if should_stop():
                self._stop()
            self.workers.check()
            self._take_back()
            while self.waiting and len(self.running) < self.workers.most:
                self._submit(self.waiting.popleft())
            self._collect()
            self._show()

    def _submit(self, cell: Cell) -> None:
        future = self.workers.submit(cell)
        self.running[future] = cell
        future.add_done_callback(self.ended.put)

    def _collect(self) -> None:
        """Wait until a cell has ended, but not long, and see how all that have ended did."""
        wait: float | None = POLL
        while True:
            try:
                future = self.ended.get(timeout=wait) if wait else self.ended.get_nowait()
            except Empty:
                return
            wait = None
            self._end(self.running.pop(future), future)

    def _end(self, cell: Cell, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except (Exception, CancelledError) as error:
            if not self.workers.is_death(error):
                raised = self.workers.explain(error) if isinstance(error, Exception) else error
                raise raised from (None if raised is error else error)
            self._mourn(cell, error)
            return
        self.progress.warn(list(outcome.warnings))
        if self.mirror:
            self.mirror.pull(cell.folds)
        if outcome.state == "busy":
            self.asked[cell] += 1
            pause = min(PATIENCE[0] * 2 ** (self.asked[cell] - 1), PATIENCE[1])
            self.busy.append((time.monotonic() + pause, cell))
        elif outcome.state == "stopped":
            self.waiting.append(cell)
            self._stop()

    def _mourn(self, cell: Cell, error: BaseException) -> None:
        """Give the cell of a dead worker out again."""
        self.workers.check()
        self.deaths[cell] += 1
        if self.deaths[cell] >= DEATHS:
            raise RunError(
                f"workers died {DEATHS} times while they ran {cell.id} ({cell.jobs[0].id} and {len(cell.jobs) - 1} "
                f"more jobs), which usually means that they ran out of memory ({error}). Finished jobs are kept: "
                "continue with --resume and fewer or larger workers."
            ) from error
        self.waiting.append(cell)

    def _take_back(self) -> None:
        """Ask again for cells that others were working on."""
        now = time.monotonic()
        self.waiting.extend(cell for when, cell in self.busy if when <= now)
        self.busy = [(when, cell) for when, cell in self.busy if when > now]

    def _show(self) -> None:
        """Count the finished jobs, which takes longer the more there are."""
        if (start := time.monotonic()) >= self.next_update or not (self.waiting or self.running):
            self.progress.update()
            self.next_update = time.monotonic() + max(POLL, 20 * (time.monotonic() - start))

    def _stop(self) -> None:
        for future in self.running:
            future.cancel()
        self.workers.stop()
        left = len(self.waiting) + len(self.running) + len(self.busy)
        self.progress.update()
        raise UnfinishedError(
            f"stopped with {left} of {self.total} cells (folds and seeds) unfinished. Finished jobs are kept, and "
            "those that were running have saved their state."
        )


__all__ = ["UNLIMITED", "GivingOut", "Here", "Limits", "Workers"]
