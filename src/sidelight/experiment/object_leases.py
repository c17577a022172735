"""Leases at a URL, with the methods of those on a file system (`filelock.SoftFileLease`).

An object store cannot rename, and a holder that stood still for minutes may come back. So a lease is an object whose
name ends in a number, made by an exclusive creation: whoever takes over from a holder that is dead creates the next
number, which only one can, looks whether anybody else holds the name, and withdraws if so.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from filelock import Timeout

from sidelight.errors import ConfigError

HEARTBEAT = 40.0
"""Seconds between two renewals by the holder."""


class ObjectLease:
    """A lease on a name.

    Args:
        fs: the fsspec file system.
        folder: the folder of the leases there.
        name: what is held.
        duration: a holder that has not renewed its lease for so many seconds, by our own clock, is taken to be dead.
        heartbeat: seconds between two renewals.
    """

    def __init__(self, fs: Any, folder: str, name: str, duration: float, heartbeat: float = HEARTBEAT):
        self.fs, self.folder, self.name = fs, folder, name
        self.duration, self.heartbeat = duration, heartbeat
        self.token = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
        self.path = ""
        self._seen: tuple[Any, float] = (None, 0.0)
        self._ended = threading.Event()

    def acquire(self, timeout: float = 0.0, poll_interval: float = 0.1) -> None:
        """Hold the lease, or raise Timeout if another one does for so many seconds."""
        end = time.monotonic() + timeout
        while not self._try():
            if time.monotonic() >= end:
                raise Timeout(f"{self.folder}/{self.name}")
            time.sleep(poll_interval * (0.5 + random.random()))
        self._ended = threading.Event()
        threading.Thread(target=self._renew, args=(self.path, self._ended), daemon=True).start()

    def release(self) -> None:
        """Give the lease back."""
        self._ended.set()
        self._remove(self.path)
        self.path = ""

    def _try(self) -> bool:
        before = self._read()
        if any(self._lives(text) for text in before.values()) and not self._has_stood_still(before):
            return False
        path = f"{self.folder}/{self.name}.{max(map(_number, before), default=0) + 1:06}.lease"
        if not create_exclusively(self.fs, path, f"{self.token} 0".encode()):
            return False
        others = {p: text for p, text in self._read().items() if p != path}
        if any(before.get(p) != text for p, text in others.items()):
            self._remove(path)  # somebody has come, or come back, at the same time
            return False
        for p in others:
            self._remove(p)
        self.path = path
        return True

    def _read(self) -> dict[str, str]:
        """The objects of this name, and what is in them."""
        found = {}
        for path in list_leases(self.fs, self.folder):
            if _name(path) == self.name:
                with suppress(FileNotFoundError):
                    found[path] = self.fs.cat_file(path).decode(errors="replace")
        return found

    def _lives(self, text: str) -> bool:
        """Whether a holder may be alive: False for a process of this machine that has ended."""
        host, pid, *_ = [*text.split(), "", ""]
        if host != socket.gethostname() or not pid.isdecimal():
            return True
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        return True

    def _has_stood_still(self, now: dict[str, str]) -> bool:
        """Whether nothing has changed for the duration of a lease."""
        if now != self._seen[0]:
            self._seen = now, time.monotonic()
        return time.monotonic() - self._seen[1] > self.duration

    def _renew(self, path: str, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(self.heartbeat):
            count += 1
            with suppress(Exception):  # the next renewal may reach the store again
                if not self.fs.exists(path):
                    return  # somebody took it over
                self.fs.pipe_file(path, f"{self.token} {count}".encode())

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.fs.rm_file(path)


def list_leases(fs: Any, folder: str) -> list[str]:
    """The paths of all leases in a folder."""
    fs.invalidate_cache()
    try:
        return [path for path in fs.ls(folder, detail=False) if path.endswith(".lease")]
    except FileNotFoundError:
        return []


def list_names(fs: Any, folder: str) -> list[str]:
    """What anybody holds, or held when it was killed."""
    return sorted({_name(path) for path in list_leases(fs, folder)})


def create_exclusively(fs: Any, path: str, content: bytes) -> bool:
    """Create an object, unless there is one of that name; returns whether it was created."""
    for _ in range(2):
        try:
            with fs.open(path, "xb") as file:
                file.write(content)
            return True
        except FileExistsError:
            return False
        except FileNotFoundError:  # of stores that have folders
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    return False


def check_exclusive(fs: Any, folder: str, url: str) -> None:
    """Raise ConfigError for a store that cannot create exclusively: its leases would hold nothing."""
    path = f"{folder}/.try-{secrets.token_hex(8)}"
    try:
        created = create_exclusively(fs, path, b"1"), create_exclusively(fs, path, b"2")
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(_no_exclusive(url)) from error
    fs.rm_file(path)
    if created != (True, False):
        raise ConfigError(_no_exclusive(url))


def _no_exclusive(url: str) -> str:
    return (
        f"output={url!r}: this store, or this version of its fsspec package, does not refuse to create an object that "
        'is there already (open(…, "xb")), which a run needs to give each fold to one process. Update the package, or '
        "mount the store and name the folder."
    )


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".lease").rpartition(".")[0]


def _number(path: str) -> int:
    found = re.search(r"\.(\d+)\.lease$", path)
    return int(found[1]) if found else 0
