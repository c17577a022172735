"""Where the time of a run goes (`sidelight run --profile`): code names what it does, a recorder adds up the seconds."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sidelight.utils.atomic import write_atomic

MOST_EVENTS = 200_000
"""Phases that a trace holds (about 20 MB); later ones are in the table alone."""
REST = "everything else"

_recorder: Recorder | None = None


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name what a block does; as a decorator, what a function does. It costs a microsecond while nothing is recorded.

    A phase inside another one is not counted to the outer one. One that waits for another thread must not be named.

    Args:
        name: what is done, as a verb.
    """
    if _recorder is None:
        yield
        return
    with _recorder.measure(name):
        yield


class Recorder:
    """Adds up the seconds of every phase, on all threads of this process.

    Attributes:
        seconds: phase -> seconds without the phases inside it.
        calls: phase -> how often it began.
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.total = 0.0
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._events: list[tuple[str, int, float, float]] = []
        self._inner = threading.local()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure one phase."""
        outer: float = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds = 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            _wait_for_device()
            took = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inner.seconds
            self.calls[name] = self.calls.get(name, 0) + 1
            self._inner.seconds = outer + took
            if len(self._events) < MOST_EVENTS:
                self._events.append((name, threading.get_ident(), start, took))

    def stop(self) -> None:
        """End the recording; what no phase names is counted as `REST`."""
        self.total = time.perf_counter() - self.start
        self.seconds[REST] = max(0.0, self.total - sum(self.seconds.values()))

    def format(self) -> str:
        """A table of the phases, the longest first, in less than 80 columns."""
        lines = [f"{'where the time went':32} {'seconds':>9} {'share':>7} {'calls':>9}"]
        for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            calls = f"{self.calls[name]:,}" if name in self.calls else ""
            share = 100 * seconds / self.total if self.total else 0.0
            lines.append(f"{name:32} {seconds:9.2f} {share:5.1f} % {calls:>9}".rstrip())
        return "\n".join([*lines, f"{'in all':32} {self.total:9.2f}"])

    def write_trace(self, path: Path) -> None:
        """Write the phases as a trace that chrome://tracing and Perfetto open.

        Args:
            path: the JSON file.
        """
        threads = {thread: number for number, thread in enumerate(dict.fromkeys(t for _, t, _, _ in self._events))}
        events: list[dict[str, Any]] = [
            {
                "name": name,
                "ph": "X",
                "pid": 0,
                "tid": threads[thread],
                "ts": 1e6 * (start - self.start),
                "dur": 1e6 * took,
            }
            for name, thread, start, took in self._events
        ]
        left_out = sum(self.calls.values()) - len(self._events)
        write_atomic(path, json.dumps({"traceEvents": events, "otherData": {"left out": left_out}}))


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record the phases of a block, one block at a time."""
    global _recorder
    recorder = _recorder = Recorder()
    try:
        yield recorder
    finally:
        _recorder = None
        recorder.stop()


def _wait_for_device() -> None:
    """Wait for a GPU, whose work would else be counted to the phase that reads its result."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
