"""Checkpoints of everything that a training depends on; a kill at any moment leaves the last complete checkpoint."""

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
from sidelight.utils.phases import phase

FORMAT = 1
"""The version of the layout of a checkpoint."""


@phase("save checkpoints")
def save_checkpoint(path: Path, state: dict[str, Any], identity: str) -> None:
    """Write a checkpoint to a temporary file, flush it to disk, and rename it.

    Args:
        path: the file.
        state: tensors, numbers, strings and containers of these.
        identity: what the checkpoint belongs to, such as a job and stage.

    Raises:
        DiskError: the disk is full or not writable; the previous checkpoint is untouched.
    """
    # A kill while writing leaves the previous checkpoint as it is.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # a resumed run removes such names
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as f:
            torch.save({"format": FORMAT, "identity": identity, "sha256": compute_digest(state), "state": state}, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DiskError(f"could not write the checkpoint {path}: {error}. Free some space.") from error


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Args:
        path: the file.
        identity: what the checkpoint must have been written for.

    Raises:
        CheckpointError: the file is damaged, is no checkpoint, has another format, or belongs to another job.
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
    if content.get("sha256") not in (None, compute_digest(state)):  # earlier versions stored none
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum. {mend}")
    return dict(state)


def compute_digest(value: Any) -> str:
    """Compute the SHA-256 of a tree of tensors, numbers, strings and containers; equal values have equal digests.

    It is needed because torch.load ignores the checksums of the zip file that torch.save writes.
    """
    sha256 = hashlib.sha256()
    _feed(sha256, value)
    return sha256.hexdigest()


def _feed(sha256: Any, value: Any) -> None:
    """Add a value to the digest, with its type and shape, so that different trees differ."""
    if isinstance(value, Tensor):
        sha256.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
        sha256.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping | list | tuple):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        sha256.update(f"{'mapping' if isinstance(value, Mapping) else 'list'} {len(value)} ".encode())
        for key, item in pairs:
            sha256.update(f"{key!r} ".encode())
            _feed(sha256, item)
    else:
        sha256.update(f"{type(value).__name__} {value!r} ".encode())
