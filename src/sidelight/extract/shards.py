"""Compute an array in pieces, so that a killed process loses at most one piece and processes can share the work."""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sidelight.errors import RunError
from sidelight.utils.machine import claim
from sidelight.utils.tensorfile import read_metadata, read_tensors, write_tensors

POLL = 0.2
"""Seconds between two checks for another process's pieces."""


@dataclass(frozen=True)
class Shards:
    """An array in a file, computed in pieces of rows.

    Args:
        file: the .safetensors file.
        name: name of the array in it.
        key: digest of everything on which the content depends. Pieces are in a hidden folder beside the file that is
            named by it, so pieces of different content are never mixed.
        rows: number of rows of the array.
        size: number of rows of a piece.
    """

    file: Path
    name: str
    key: str
    rows: int
    size: int

    @property
    def folder(self) -> Path:
        """The folder of the pieces."""
        return self.file.parent / f".{self.name}-{self.key[:16]}"

    def is_complete(self) -> bool:
        """Whether the file exists with this content, undamaged."""
        return self._has_key(checked=True)

    def _has_key(self, checked: bool) -> bool:
        """Whether the file has the key; `checked` also compares its checksum, which reads the whole file."""
        try:
            return read_metadata(self.file, checked=checked).get("key") == self.key
        except RunError:
            return False

    def make(self, compute: Callable[[slice], Tensor], tell: Callable[[int], None] = lambda done: None) -> None:
        """Compute the missing pieces and join them into the file.

        Each piece is computed by the process that holds its lock. A process without a free piece waits for the others.
        If one of them is killed, its lock is released and another process computes its piece.

        Args:
            compute: returns the rows of a slice.
            tell: called with the number of finished rows.
        """
        if self._has_key(checked=False) and not self.is_complete():
            self.file.unlink(missing_ok=True)  # it was damaged
        while not self._has_key(checked=False):
            with suppress(FileNotFoundError):  # another process has just finished and removed the pieces
                self.folder.mkdir(parents=True, exist_ok=True)
                if not self._advance(compute, tell):
                    time.sleep(POLL)
        tell(self.rows)

    def _advance(self, compute: Callable[[slice], Tensor], tell: Callable[[int], None]) -> bool:
        """Compute free pieces, then join all of them; False if other processes still compute some."""
        pieces = [slice(i, min(i + self.size, self.rows)) for i in range(0, self.rows, self.size)]
        worked = False
        for number, rows in enumerate(pieces):
            piece = self._piece(number)
            if piece.is_file():
                continue
            with _try_lock(piece.with_suffix(".lock")) as mine:
                if not mine or piece.is_file() or self._has_key(checked=False):
                    continue
                write_tensors(piece, {self.name: compute(rows)}, finite=False)
                worked = True
            tell(sum(r.stop - r.start for i, r in enumerate(pieces) if self._piece(i).is_file()))
        if not all(self._piece(i).is_file() for i in range(len(pieces))):
            return worked
        with _try_lock(self.folder / "join.lock") as mine:
            if mine and not self._has_key(checked=False):
                parts = [self._read(i) for i in range(len(pieces))]
                if any(part is None for part in parts):
                    return True
                whole = self.folder / "whole.safetensors"
                joined = torch.cat([part for part in parts if part is not None])
                write_tensors(whole, {self.name: joined}, {"key": self.key}, finite=False)
                os.replace(whole, self.file)
                shutil.rmtree(self.folder, ignore_errors=True)
        return False

    def _piece(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def _read(self, number: int) -> Tensor | None:
        """Read a piece; a damaged piece is removed and gives None."""
        piece = self._piece(number)
        try:
            return read_tensors(piece, finite=False)[0][self.name]
        except (RunError, KeyError):
            piece.unlink(missing_ok=True)
            return None

    def clear(self) -> None:
        """Remove pieces of this array with other content."""
        for folder in self.file.parent.glob(f".{glob.escape(self.name)}-*"):
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Yield whether this process got the lock; the system releases it when the process ends."""
    with path.open("a") as file:
        try:
            claim(file)
        except OSError:
            yield False
            return
        yield True
