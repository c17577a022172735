"""Checkpoints that hold everything a run depends on, written so that a kill at any moment leaves the last whole one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from sidelight.errors import DiskError, RunError

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
            torch.save({"format": FORMAT, "identity": identity, "state": state}, f)
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
        RunError: truncated or foreign file, another format, or written for another job.
    """
    mend = "Delete it to train this job from its beginning."
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        version = dict(content)["format"]
        found, state = content.get("identity"), content.get("state")
    except Exception as error:
        raise RunError(f"{path} is not a readable sidelight checkpoint ({type(error).__name__}). {mend}") from error
    if version != FORMAT:
        raise RunError(f"{path} has checkpoint format {version}, this version reads {FORMAT}. {mend}")
    if found != identity:
        raise RunError(f"{path} was written for {found!r}, not for {identity!r}. {mend}")
    return dict(state)
