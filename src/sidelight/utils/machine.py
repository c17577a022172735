"""What this process may use of the machine."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from typing import IO


def usable_cores() -> int:
    """Number of cores that this process may use: those of its affinity mask if the system has one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The variables through which torchrun tells each process who it is."""


def launched() -> tuple[int, int]:
    """The number of this process and how many torchrun (or a launcher like it) started; (0, 1) without one."""
    if not all(os.environ.get(name) for name in LAUNCHED):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


@cache
def memory() -> int:
    """Bytes of this machine's memory; `sys.maxsize` if the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def release_memory() -> None:
    """Give freed memory back to the system: the C library of Linux keeps what was between blocks that are in use."""
    with suppress(OSError, AttributeError, TypeError):  # another library or system
        ctypes.CDLL(None).malloc_trim(0)


def claim(file: IO[str]) -> None:
    """Lock an open file until it is closed or the process ends; OSError if another process holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
