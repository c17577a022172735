"""Checkpoints that hold everything a run depends on, written so that a kill at any moment leaves the last whole one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sidelight.errors import CheckpointError, DiskError

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any], identity: str) -> None:
    """Write `state` (tensors, numbers, strings, containers) to a temporary file, flush it to disk, and rename it.

    Raises:
        DiskError: the disk is full or not writable; the previous checkpoint is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # a name that a resumed run removes after a kill
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as f:
            torch.save({"format": FORMAT, "identity": identity, "sha256": digest(state), "state": state}, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DiskError(f"could not write the checkpoint {path}: {error}. Free some space.") from error


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        CheckpointError: truncated, damaged or foreign file, another format, or written for another job.
    """
    mend = "Delete it to train this job from its beginning."
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        version = dict(content)["format"]
        found, state = content.get("identity"), content.get("state")
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a readable sidelight checkpoint ({type(error).__name__}). {mend}"
        ) from error
    if version != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {version}, this version reads {FORMAT}. {mend}")
    if found != identity:
        raise CheckpointError(f"{path} was written for {found!r}, not for {identity!r}. {mend}")
    if content.get("sha256") not in (None, digest(state)):  # None: of an earlier version
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum. {mend}")
    return dict(state)


def digest(value: Any) -> str:
    """SHA-256 of a tree of tensors, numbers, texts and containers: of the same values always the same.

    torch.load does not look at the checksums of the zip that torch.save writes.
    """
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping | list | tuple):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        found.update(f"{'mapping' if isinstance(value, Mapping) else 'list'} {len(value)} ".encode())
        for name, each in pairs:
            found.update(f"{name!r} ".encode())
            _feed(found, each)
    else:
        found.update(f"{type(value).__name__} {value!r} ".encode())
