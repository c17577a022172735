"""Who works on what in a run folder: leases on folds, and a lease of each process that runs a study there.

A lease is a file that its holder touches every 40 seconds, made by an exclusive creation, which network file systems
guarantee as well. It is taken over when its holder is dead (known at once on the same machine), or has not touched it
for `DURATION` seconds by the clock of whoever waits. What is stored does not depend on leases: a job's folder appears
by one renaming, and the first stays. They keep two processes from doing the same work, and from deleting each other's.
The leases of a run folder at a URL are objects there (`object_leases.py`).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

from sidelight.experiment.mirror import mirror_of
from sidelight.experiment.object_leases import ObjectLease, list_names
from sidelight.utils.atomic import remove_leftovers

DURATION = 120.0
"""Seconds: network file systems may show a change of a file's time only after 60."""
PLACES = ("jobs", "shared", "checkpoints")
"""The folders that a run writes into."""
START = "start"
"""The lease of whoever checks and prepares the run folder."""

_waited_for: dict[Path, SoftFileLease | ObjectLease] = {}
"""Leases of others, which remember since when they have not changed."""


def work_folder(folder: Path) -> Path:
    """What the processes of a run share while it goes on: leases, settings and rows for workers."""
    return folder / ".work"


@contextmanager
def hold(folder: Path, names: Iterable[str], seconds: float = 0.0) -> Iterator[bool]:
    """Hold the leases of all these names, or of none.

    Args:
        folder: the run folder.
        names: what to hold.
        seconds: how long to wait for others.

    Yields:
        Whether they are held.
    """
    with ExitStack() as held:
        for name in sorted(names):
            path = _place(folder) / f"{name}.lease"
            lease = _waited_for.pop(path, None) or _lease(folder, name)
            try:
                _acquire(lease, seconds)
            except Timeout:
                _waited_for[path] = lease
                held.close()
                yield False
                return
            held.callback(lease.release)
        yield True


@contextmanager
def present(folder: Path) -> Iterator[None]:
    """Show that this process runs a study in the folder."""
    with hold(folder, [f"study-{os.getpid()}-{secrets.token_hex(3)}"]):
        yield


def is_used(folder: Path, but: str = START) -> bool:
    """Whether any process runs a study, trains a fold or refits in the folder, but for the holder of one lease."""
    used = False
    for name in _list_names(folder):
        if name not in (START, but):
            with hold(folder, [name]) as free:
                used = used or not free
    return used


def forget_work(folder: Path) -> None:
    """Remove what the processes of a run shared, and what killed ones left, unless another one still works there."""
    place, mirror = work_folder(folder), mirror_of(folder)
    if not place.is_dir() and mirror is None:
        return
    with hold(folder, [START]) as free:
        if not free or is_used(folder):
            return
        clear_leftovers(folder)
        for path in place.glob("*"):
            if path.name != "leases":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if mirror:
            mirror.forget_work()
    with suppress(OSError):  # another process has just begun
        (place / "leases").rmdir()
        place.rmdir()


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes; called where no other process works."""
    for place in (folder, *(folder / name for name in PLACES), *folder.glob("inner/*/*")):
        remove_leftovers(place)


def _place(folder: Path) -> Path:
    return work_folder(folder) / "leases"


def _list_names(folder: Path) -> list[str]:
    """What anybody holds, or held when it was killed."""
    if mirror := mirror_of(folder):
        return list_names(mirror.fs, mirror.leases)
    return [path.stem for path in _place(folder).glob("*.lease")]


def _acquire(lease: SoftFileLease | ObjectLease, seconds: float) -> None:
    if isinstance(lease, ObjectLease):
        lease.acquire(timeout=seconds)
        return
    for _ in range(10):  # the last one to leave removes the folder
        Path(lease.lock_file).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            lease.acquire(timeout=seconds, poll_interval=0.1)
            return
    lease.acquire(timeout=seconds, poll_interval=0.1)


def _lease(folder: Path, name: str) -> SoftFileLease | ObjectLease:
    if mirror := mirror_of(folder):
        return ObjectLease(mirror.fs, mirror.leases, name, DURATION)
    return SoftFileLease(_place(folder) / f"{name}.lease", lease_duration=DURATION, thread_local=False)
