"""The progress of a run: finished jobs, and the time that is left."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

from sidelight.runs.plan import list_stored


class Progress:
    """Shows a progress bar on a terminal, a line every half minute elsewhere, and nothing when quiet.

    Args:
        folder: the run folder, whose finished jobs are counted.
        total: the number of jobs.
        quiet: show nothing.
    """

    def __init__(self, folder: Path, total: int, quiet: bool):
        self.folder, self.total = folder, total
        self.console = Console(stderr=True, quiet=quiet)
        self.warned: set[str] = set()
        self.start = self.last = time.monotonic()
        self.found = self._finished()
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=20),  # with 10000/10000 jobs and days left the line still fits 80 columns
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("jobs", total=total, completed=self.found)

    def _finished(self) -> int:
        """Count the stored jobs: a listing of names, whose folders appear when they are complete."""
        start = time.monotonic()
        count = len(list_stored(self.folder))
        self.counted, self.took = time.monotonic(), time.monotonic() - start
        return count

    def recount(self) -> None:
        """Count the jobs that are stored already once more, after damaged ones were removed."""
        self.found = self._finished()
        self.bar.update(self.task, completed=self.found)

    def expect(self, total: int) -> None:
        """Set the number of jobs, once it is known."""
        self.total = total
        self.bar.update(self.task, total=total)

    def warn(self, messages: list[str]) -> None:
        """Show each warning once."""
        for message in messages:
            if message not in self.warned:
                self.warned.add(message)
                self._print(f"[yellow]warning:[/] {escape(message)}")

    def say(self, text: str) -> None:
        """Show a line."""
        self._print(escape(text))

    def _print(self, text: str) -> None:
        """Print a line; in a log it stays one line, however long."""
        self.console.print(text, highlight=False, soft_wrap=not self.console.is_terminal)

    def update(self) -> None:
        """Count the finished jobs and show them, unless counting would take more than a hundredth of the time."""
        if time.monotonic() - self.counted < max(0.2, 100 * self.took):
            return
        self._show(self._finished())

    def _show(self, done: int, last: bool = False) -> None:
        self.bar.update(self.task, completed=done)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.last > 30 or last):
            self.last = now
            fresh = done - self.found
            seconds = now - self.start
            left = (
                f", about {_clock(seconds / fresh * (self.total - done))} left" if fresh and done < self.total else ""
            )
            self._print(f"{time.strftime('%H:%M:%S')} {done} of {self.total} jobs after {_clock(seconds)}{left}")

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(self._finished(), last=True)
        self.bar.stop()


def _clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
