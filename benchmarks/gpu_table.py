"""The table of gpu.py: its rows, and a budget of seconds that is divided over its sections."""

from __future__ import annotations

import csv
import signal
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TextIO

import torch


@dataclass
class Row:
    """A figure of the table.

    Args:
        section: the part of the script.
        case: what is measured.
        quantity: what the value is.
        value: the figure, or None.
        unit: of the value.
        ratio: the value over that of `beside`, or the reverse where `quantity` says so.
        beside: what the ratio compares with.
        low: the lower quartile of the ratio.
        high: the upper quartile.
        note: a sentence.
        status: "measured", "wrong" (a check failed), "left out" or "error".
    """

    section: str
    case: str
    quantity: str
    value: float | None = None
    unit: str = ""
    ratio: float | None = None
    beside: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""
    status: str = "measured"

    def line(self) -> str:
        """The row in Markdown."""
        value = "" if self.value is None else f"{self.value:.4g} {self.unit}".strip()
        ratio = "" if self.ratio is None else f"**{self.ratio:.3f}**"
        if self.low is not None and self.high is not None:
            ratio += f" ({self.low:.3f}–{self.high:.3f})"
        note = self.note if self.status == "measured" else f"**{self.status}** {self.note}"
        return f"| {self.section} | {self.case} | {self.quantity} | {value} | {ratio} | {self.beside} | {note} |"


HEAD = "| section | case | quantity | value | ratio (quartiles) | beside | note |\n|---|---|---|---|---|---|---|"


class OutOfTime(BaseException):
    """A section has used its seconds; no `except Exception` on the way may take it."""


class Clock:
    """The seconds that a section may still take."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()

    def rounds(self, once: float, least: int, most: int, share: float = 1.0) -> int:
        """How many rounds of so many seconds fit into a share of what is left."""
        return max(least, min(most, int(share * self.left() / max(once, 1e-9))))


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds, where the system can (the main thread of Unix)."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Section = Callable[[Clock], Iterator[Row]]


def run_sections(sections: dict[str, tuple[float, Section]], seconds: float) -> list[Row]:
    """The rows of all sections, printed as they come.

    A section gets its share of the seconds that are left, and so what earlier ones did not use. One that fails, or is out of time,
    ends with a row that says so; the others go on.
    """
    clock, rows = Clock(seconds), []

    def add(row: Row) -> None:
        rows.append(row)
        print(row.line(), flush=True)

    print(HEAD)
    waiting = sum(share for share, _ in sections.values())
    for name, (share, section) in sections.items():
        allowed = max(0.0, clock.left()) * share / waiting
        waiting -= share
        start = time.monotonic()
        try:
            with interrupt_after(allowed):
                for row in section(
                    Clock(0.9 * allowed)
                ):  # sections look at the clock themselves; the alarm is the last resort
                    add(row)
        except OutOfTime:
            add(Row(name, "the rest", "", note=f"interrupted after {allowed:.0f} s", status="left out"))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error}"[:300].replace("\n", " ").replace("|", "/")
            add(Row(name, "the rest", "", note=f"{told} ({where.name}, line {where.lineno})", status="error"))
        add(Row(name, "this section", "duration", time.monotonic() - start, "s"))
    return rows


def write_csv(rows: Sequence[Row], file: TextIO) -> None:
    writer = csv.DictWriter(file, fieldnames=[field.name for field in fields(Row)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)


def compare(times: Sequence[tuple[float, ...]], one: int, other: int) -> tuple[float, float, float]:
    """The median of the ratios of two loops over the rounds, and its quartiles."""
    ratios = [row[one] / row[other] for row in times]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return middle, low, high


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was asked to."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, with everything that it starts on the device."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start
