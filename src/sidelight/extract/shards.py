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

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sidelight.machine import claim
from sidelight.results.store import write_atomic

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
        try:
            with safe_open(self.file, "pt") as file:
                return bool((file.metadata() or {}).get("key") == self.key)
        except (OSError, SafetensorError):
            return False

    def make(self, compute: Callable[[slice], Tensor], tell: Callable[[int], None] = lambda done: None) -> None:
        """Make the file; `compute` gives the rows of a slice, `tell` is told how many rows are done.

        Each piece is computed by whoever holds its lock; a process that finds nothing free waits for the others, and
        takes over the piece of one that was killed, since its lock went with it.
        """
        while not self.made():
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
                if not mine or piece.is_file() or self.made():
                    continue
                write_atomic(piece, safetensors.torch.save({self.name: compute(rows).contiguous()}))
                worked = True
            tell(sum(r.stop - r.start for i, r in enumerate(pieces) if self._piece(i).is_file()))
        if not all(self._piece(i).is_file() for i in range(len(pieces))):
            return worked
        with _claimed(self.folder / "join.lock") as mine:
            if mine and not self.made():
                parts = [safetensors.torch.load_file(self._piece(i))[self.name] for i in range(len(pieces))]
                whole = self.folder / "whole.safetensors"
                write_atomic(whole, safetensors.torch.save({self.name: torch.cat(parts)}, {"key": self.key}))
                os.replace(whole, self.file)
                shutil.rmtree(self.folder, ignore_errors=True)
        return False

    def _piece(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

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
