"""A process among others that fails or is killed: python -m helpers.failing KIND."""

from __future__ import annotations

import os
import signal
import sys

from sidelight.errors import RunError
from sidelight.utils.distributed import barrier, joined, on_first


def fail() -> None:
    raise RunError("this one says why.")


def main(kind: str) -> None:
    with joined() as world:
        if kind == "first":
            on_first(fail)
        elif kind == "last" and world.rank == world.size - 1:
            fail()
        elif kind == "killed" and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        barrier()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        raise SystemExit(2) from None
