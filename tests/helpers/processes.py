"""Starts several processes that join each other, as torchrun does, and waits for them with a limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import sidelight

SOURCE, TESTS = Path(sidelight.__file__).parents[1], Path(__file__).parents[1]


def launch(count: int, *command: str, limit: float = 120.0, port: int = 0) -> list[tuple[int, str]]:
    """Run `python COMMAND` in `count` processes of one world.

    Args:
        count: the number of processes.
        command: the arguments of the interpreter, such as "-m", "helpers.equal_training".
        limit: seconds after which all are killed, and the test fails.
        port: where they meet; a free one by default.

    Returns:
        The exit code and the output of each process.
    """
    started = [start(rank, count, *command, port=port or (port := free_port())) for rank in range(count)]
    try:
        ends = time.monotonic() + limit
        outputs = [process.communicate(timeout=max(ends - time.monotonic(), 0.1))[0] for process in started]
        return [(process.returncode, output) for process, output in zip(started, outputs)]
    finally:
        for process in started:
            process.kill()
            process.wait()


def start(rank: int, count: int, *command: str, port: int) -> subprocess.Popen[str]:
    """Start one process of a world."""
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    paths = os.pathsep.join(map(str, (SOURCE, TESTS)))
    environment = os.environ | {name: str(value) for name, value in where.items()}
    environment |= {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
