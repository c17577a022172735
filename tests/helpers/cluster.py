"""A Dask cluster in a process of its own, whose scheduler and workers a test may kill.

As a script (`python cluster.py PORT WORKERS`): runs a LocalCluster until it is killed, and prints its address.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import sidelight

SOURCE, TESTS = Path(sidelight.__file__).parents[1], Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """That of processes which import sidelight and the helpers as this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (SOURCE, TESTS))), "OMP_NUM_THREADS": "1"}


def start(port: int, workers: int) -> subprocess.Popen[str]:
    """Start a cluster, and wait until it listens."""
    words = [sys.executable, __file__, str(port), str(workers)]
    cluster = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)
    assert cluster.stdout
    assert cluster.stdout.readline().startswith("tcp://")
    return cluster


def children(pid: int) -> list[int]:
    """The process ids of all that a process started, and they in turn."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def workers_of(cluster: int) -> list[int]:
    """The process ids of the workers of a cluster in this process: what it spawned, but for Python's own helper."""
    found = []
    for pid in children(cluster):
        try:
            said = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if "spawn_main" in said:
            found.append(pid)
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main(port: int, workers: int) -> None:
    from distributed import LocalCluster

    silent = logging.CRITICAL
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, scheduler_port=port, dashboard_address=None, memory_limit=0,
        silence_logs=silent,
    )  # fmt: skip
    print(cluster.scheduler_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
