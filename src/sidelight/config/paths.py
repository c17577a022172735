"""Paths in an experiment's file: each is looked up in the file's folder, then in the working directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidelight.config.schema import NetworkConfig

LOCAL = "hf:"
"""Prefix of an encoder that is a local folder."""
BUILT_IN = (
    "phone-watch",
    "synthetic-sub-clusters",
    "synthetic-few-labels",
    "synthetic-many-classes",
    "synthetic-noisy-labels",
    "synthetic-few-rows",
    "synthetic-closed-gap",
    "synthetic-uninformative",
    "synthetic-missing-privileged",
)
"""Data sets that come with the package (`sidelight.data.builtin`); their names are not paths."""


class MissedPath(str):
    """A path in an experiment's file that does not exist (yet), with the folders searched, for a later error."""

    def __new__(cls, path: str, looked_for: str = "") -> MissedPath:
        self = super().__new__(cls, path)
        self.looked_for = looked_for
        return self

    looked_for: str


def resolve_paths(flat: Mapping[str, Any], folder: Path, stored: bool = False) -> dict[str, Any]:
    """Make the paths among a file's settings lead from the working directory.

    Args:
        flat: settings by dotted name. Paths are `data`, `network.weights.<modality>` and what follows `hf:` in an
            encoder.
        folder: the file's folder.
        stored: whether the file is a run's config.yaml, in which relative paths begin with ".." and all other values
            of `data` are names.
    """

    def move(path: str) -> str:
        return path if stored and not path.startswith("..") else _locate(path, folder)

    return {
        name: move(v) if name == "data" and isinstance(v, str) else _move_path(name, v, move)
        for name, v in flat.items()
    }


def anchor_paths(network: NetworkConfig, folder: Path | None = None) -> NetworkConfig:
    """Make the network's paths absolute, or relative to `folder` ("../…", as a run stores them).

    Paths inside `folder`, or on another drive, are always absolute.
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
        encoder=_move_path("network.encoder", network.encoder, move),
        encoders={m: _move_path(f"network.encoders.{m}", name, move) for m, name in network.encoders.items()},
        weights={m: _move_path(f"network.weights.{m}", path, move) for m, path in network.weights.items()},
    )


def _move_path(name: str, value: Any, move: Callable[[str], str]) -> Any:
    """A setting of the network; if it names a local file or folder, with `move(path)` in its place."""
    if name.startswith("network.weights.") and isinstance(value, str | os.PathLike):
        return move(os.fspath(value))
    if name.startswith("network.encoder") and isinstance(value, str) and value.startswith(LOCAL):
        return LOCAL + move(value.removeprefix(LOCAL))
    return value


def looked_for(path: str | os.PathLike) -> str:
    """The folders that were searched for a missing path of an experiment's file, for the end of an error."""
    return path.looked_for if isinstance(path, MissedPath) else ""


def _locate(path: str, folder: Path) -> str:
    here, beside = Path(path), folder / path
    name = not (here.suffix or here.parent.name)  # may be a data set's name, unless such a path exists
    if path.startswith("~") or (not beside.exists() and (here.exists() or name)):
        located = path
    else:
        located = path if path in BUILT_IN else os.path.normpath(beside)
    if not (here.is_absolute() or here.exists() or beside.exists()):
        folders = dict.fromkeys(os.path.abspath(f) for f in (folder, os.curdir))
        return MissedPath(located, f"; looked for {path!r} in {' and in '.join(folders)}")
    return located
