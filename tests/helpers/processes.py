"""Starts several processes that join each other, as torchrun does, and waits for them with a limit.

    python -m helpers.processes FOLDER COUNT PORT MODULE ARGUMENT …

is what `launch` starts: it imports torch and the module once, calls `prepare(ARGUMENT, …)` if the module has it, and
every process of the world is a fork of it.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import sidelight

SOURCE, TESTS = Path(sidelight.__file__).parents[1], Path(__file__).parents[1]


def launch(count: int, *command: str, limit: float = 120.0) -> list[tuple[int, str]]:
    """Run `python -m MODULE ARGUMENT …` in `count` processes of one world.

    Args:
        count: the number of processes.
        command: the arguments of the interpreter, such as "-m", "helpers.equal_training".
        limit: seconds after which all are killed, and the test fails.

    Returns:
        The exit code and the output of each process.
    """
    assert command[0] == "-m"
    with TemporaryDirectory(prefix="world-") as folder:
        words = [sys.executable, "-m", "helpers.processes", folder, str(count), str(free_port()), *command[1:]]
        with subprocess.Popen(words, env=surroundings(), start_new_session=True) as process:
            try:
                process.wait(limit)
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        places = [Path(folder) / str(rank) for rank in range(count)]
        return [(int(p.with_suffix(".code").read_text()), p.with_suffix(".out").read_text()) for p in places]


def start(rank: int, count: int, *command: str, port: int) -> subprocess.Popen[str]:
    """Start one process of a world."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=surroundings() | place_of(rank, count, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def surroundings() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (SOURCE, TESTS))), "OMP_NUM_THREADS": "1"}


def place_of(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in where.items()}


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(module: str, words: list[str]) -> int:
    """The exit code of `python -m MODULE WORDS`, run here."""
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(folder: str, count: str, port: str, module: str, *words: str) -> None:
    importlib.import_module("torch")
    prepare = getattr(importlib.import_module(module), "prepare", None)
    if prepare is not None:
        prepare(*words)
    ranks: dict[int, Path] = {}
    for rank in range(int(count)):
        place = Path(folder) / str(rank)
        pid = os.fork()
        if pid == 0:
            os.environ |= place_of(rank, int(count), int(port))
            output = os.open(place.with_suffix(".out"), os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = 1
            try:
                code = run(module, list(words))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        ranks[pid] = place
    for pid, place in ranks.items():
        _, status = os.waitpid(pid, 0)
        place.with_suffix(".code").write_text(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main(*sys.argv[1:])
