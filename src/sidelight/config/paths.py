"""Paths in an experiment's file: each starts at the file's folder, where nothing is there at the working directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidelight.config.schema import NetworkConfig

LOCAL = "hf:"
"""How an encoder begins that is a local folder."""
BUILT_IN = ("phone-watch",)
"""Data sets that come with the package (`sidelight.data.builtin`): their names are no paths."""


class MissedPath(str):
    """A path in an experiment's file that leads nowhere yet. It carries where it was looked for, for the error of
    whoever opens it, if ever.
    """

    def __new__(cls, path: str, looked_for: str = "") -> MissedPath:
        self = super().__new__(cls, path)
        self.looked_for = looked_for
        return self

    looked_for: str


def found_from(flat: Mapping[str, Any], folder: Path, stored: bool = False) -> dict[str, Any]:
    """Settings by dotted name, as a file in `folder` has them, with paths that lead from the working directory.

    Paths are `data`, `network.weights.<modality>` and what follows `hf:` in an encoder. stored: the file is that of a
    run, in which paths that start at its folder begin with "..", and all other names stay what they are.
    """

    def move(path: str) -> str:
        return path if stored and not path.startswith("..") else _placed(path, folder)

    return {
        name: move(v) if name == "data" and isinstance(v, str) else _moved(name, v, move) for name, v in flat.items()
    }


def anchored(network: NetworkConfig, folder: Path | None = None) -> NetworkConfig:
    """The network's settings with absolute paths, or with paths that lead from `folder` ("../…", as a run stores them).

    A folder inside of `folder`, or on another drive, stays absolute.
    """

    def move(path: str) -> str:
        whole = os.path.abspath(os.path.expanduser(path))
        try:
            other = whole if folder is None else os.path.relpath(whole, folder)
        except ValueError:  # another drive
            return whole
        return other if other.startswith("..") else whole

    return replace(
        network,
        encoder=_moved("network.encoder", network.encoder, move),
        encoders={m: _moved(f"network.encoders.{m}", name, move) for m, name in network.encoders.items()},
        weights={m: _moved(f"network.weights.{m}", path, move) for m, path in network.weights.items()},
    )


def _moved(name: str, value: Any, move: Callable[[str], str]) -> Any:
    """A setting of the network with `move(path)` in place of the local file or folder that it names, if it does."""
    if name.startswith("network.weights.") and isinstance(value, str | os.PathLike):
        return move(os.fspath(value))
    if name.startswith("network.encoder") and isinstance(value, str) and value.startswith(LOCAL):
        return LOCAL + move(value.removeprefix(LOCAL))
    return value


def looked_for(path: str | os.PathLike) -> str:
    """Of a path that an experiment's file names: the folders where it was not found, for the end of a sentence."""
    return path.looked_for if isinstance(path, MissedPath) else ""


def _placed(path: str, folder: Path) -> str:
    here, beside = Path(path), folder / path
    name = not (here.suffix or here.parent.name)  # a data set's, as long as nothing is called so
    if path.startswith("~") or (not beside.exists() and (here.exists() or name)):
        placed = path
    else:
        placed = path if path in BUILT_IN else os.path.normpath(beside)
    if not (here.is_absolute() or here.exists() or beside.exists()):
        folders = dict.fromkeys(os.path.abspath(f) for f in (folder, os.curdir))
        return MissedPath(placed, f"; looked for {path!r} in {' and in '.join(folders)}")
    return placed
