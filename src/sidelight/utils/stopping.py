"""Asks what runs in this process to save its state and end: after SIGTERM, at a time limit, or when it is told to."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from sidelight.errors import ConfigError, shown

UNFINISHED = 75
"""Exit code for "not finished, run it again": EX_TEMPFAIL of sysexits.h, which batch systems can requeue on."""

_asked: set[str] = set()
_running: list[tuple[str, float]] = []


class Stopped(BaseException):
    """Ends a training that has saved its state. No error, so that nothing that handles errors holds it up."""


def ask_to_stop(name: str = "") -> None:
    """Ask what runs under a name in this process to stop; without a name, everything."""
    _asked.add(name)


@contextmanager
def stoppable(name: str, until: float = math.inf) -> Iterator[None]:
    """Run under a name, until a time.

    Args:
        name: what `ask_to_stop` calls it.
        until: when it has to stop by itself, in seconds since the epoch.
    """
    here = (name, until)
    _running.append(here)
    try:
        yield
    finally:
        _running.remove(here)


def should_stop() -> bool:
    """Whether what runs here was asked to stop, or its time is over."""
    return "" in _asked or any(name in _asked or time.time() >= until for name, until in _running)


async def stop_and_wait(name: str, seconds: float) -> None:
    """Ask what runs under a name to stop, and wait for it.

    Args:
        name: what `stoppable` calls it.
        seconds: how long to wait.
    """
    ask_to_stop(name)
    end = time.monotonic() + seconds
    while any(name == running for running, _ in list(_running)) and time.monotonic() < end:
        await asyncio.sleep(0.1)


@contextmanager
def stops_on_sigterm(seconds: float, limit: float | None = None) -> Iterator[None]:
    """Stop what runs in the block when SIGTERM comes; end the process if it does not stop in time.

    Whatever is written appears at once or not at all, so ending the process loses at most the work since the last
    checkpoint.

    Args:
        seconds: how long it may take to stop after SIGTERM.
        limit: seconds from now after which the process ends at the latest; None for no limit.
    """
    timers: list[threading.Timer] = []

    def leave_after(patience: float) -> None:
        timers.append(threading.Timer(patience, _leave))
        timers[-1].daemon = True
        timers[-1].start()

    def handle(_number: int, _frame: FrameType | None) -> None:
        ask_to_stop()
        leave_after(seconds)

    before = signal.signal(signal.SIGTERM, handle) if threading.current_thread() is threading.main_thread() else None
    if limit is not None:
        leave_after(limit)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        _asked.discard("")


def parse_duration(text: str, what: str) -> float:
    """Read a time as batch systems write it, [D-]H:MM:SS, in seconds.

    Raises:
        ConfigError: it is written otherwise, or zero.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
    if not (days or hours or minutes or seconds):
        raise ConfigError(f"{what} {shown(text)}: expected [D-]H:MM:SS above zero, e.g. 3:30:00 or 1-12:00:00.")
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _leave() -> NoReturn:
    print("stopped: there was no time left to save more; run the same command with --resume.", file=sys.stderr)
    sys.stderr.flush()
    os._exit(UNFINISHED)
