"""What this process may use of the machine."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import IO


def usable_cores() -> int:
    """Cores that this process may run on: those of its affinity mask where the system has one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def memory() -> int:
    """Bytes of this machine's memory; where the system does not say, as much as any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def claim(file: IO[str]) -> None:
    """Lock an open file for this process, until it is closed or the process ends; OSError where another one has."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
