"""One array made in pieces: a killed process loses at most the piece it was at, and two processes share the work."""

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
"""Seconds between two looks at what another process is doing."""


@dataclass(frozen=True)
class Shards:
    """`file` will hold `name`, (rows, …), made of pieces of `size` rows and marked with `key`.

    key: of everything that the content depends on. Pieces lie in a hidden folder beside the file that is called by it,
    so pieces of another content are never mixed in.
    """

    file: Path
    name: str
    key: str
    rows: int
    size: int

    @property
    def folder(self) -> Path:
        return self.file.parent / f".{self.name}-{self.key[:16]}"

    def made(self) -> bool:
        """Whether the file is there with this content."""
        return self._marked(checked=True)

    def _marked(self, checked: bool) -> bool:
        """Whether the file has the key; `checked`, with its values as they were written, for which all are read."""
        try:
            return read_metadata(self.file, checked=checked).get("key") == self.key
        except RunError:
            return False

    def make(self, compute: Callable[[slice], Tensor], tell: Callable[[int], None] = lambda done: None) -> None:
        """Make the file; `compute` gives the rows of a slice, `tell` is told how many rows are done.

        Each piece is computed by whoever holds its lock; a process that finds nothing free waits for the others, and
        takes over the piece of one that was killed, since its lock went with it.
        """
        if self._marked(checked=False) and not self.made():
            self.file.unlink(missing_ok=True)  # damaged since
        while not self._marked(checked=False):
            with suppress(FileNotFoundError):  # another process has just finished and cleared the pieces away
                self.folder.mkdir(parents=True, exist_ok=True)
                if not self._advance(compute, tell):
                    time.sleep(POLL)
        tell(self.rows)

    def _advance(self, compute: Callable[[slice], Tensor], tell: Callable[[int], None]) -> bool:
        """Compute pieces that nobody has or is at, then join them; False where others are still at some."""
        pieces = [slice(i, min(i + self.size, self.rows)) for i in range(0, self.rows, self.size)]
        worked = False
        for number, rows in enumerate(pieces):
            piece = self._piece(number)
            if piece.is_file():
                continue
            with _claimed(piece.with_suffix(".lock")) as mine:
                if not mine or piece.is_file() or self._marked(checked=False):
                    continue
                write_tensors(piece, {self.name: compute(rows)}, finite=False)
                worked = True
            tell(sum(r.stop - r.start for i, r in enumerate(pieces) if self._piece(i).is_file()))
        if not all(self._piece(i).is_file() for i in range(len(pieces))):
            return worked
        with _claimed(self.folder / "join.lock") as mine:
            if mine and not self._marked(checked=False):
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
        """A piece; None, and it is removed, where it was damaged since it was written."""
        piece = self._piece(number)
        try:
            return read_tensors(piece, finite=False)[0][self.name]
        except (RunError, KeyError):
            piece.unlink(missing_ok=True)
            return None

    def clear(self) -> None:
        """Remove pieces of other contents of this array, once its own is made."""
        for folder in self.file.parent.glob(f".{glob.escape(self.name)}-*"):
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock; it goes with the process, however that ends."""
    with path.open("a") as file:
        try:
            claim(file)
        except OSError:
            yield False
            return
        yield True
