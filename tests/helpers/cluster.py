"""A Dask cluster in a process of its own, whose scheduler and workers a test may kill.

As a script (`python cluster.py PORT WORKERS`): runs a LocalCluster until it is killed, and prints its address.
"""

from __future__ import annotations

import logging
import multiprocessing
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
    """The process ids of the workers of a cluster in this process: what its fork server forked."""
    found = []
    for pid in children(cluster):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            said = Path(f"/proc/{parent}/cmdline").read_text()
        except OSError:
            continue
        if "multiprocessing.forkserver" in said:
            found.append(pid)
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main(port: int, workers: int) -> None:
    """Workers are forks of one process that has imported what they need, which takes them seconds."""
    import dask
    from distributed import LocalCluster
    from distributed.utils import get_mp_context

    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    get_mp_context()  # else it would set what is imported itself, later
    multiprocessing.set_forkserver_preload(["distributed", "sidelight.experiment.pool", "torch._dynamo"])
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
