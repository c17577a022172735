"""Read and write student.safetensors: weights, and everything else as JSON in the file's metadata."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError, RunError
from sidelight.utils.atomic import write_atomic
from sidelight.utils.files import check_file, exists, parse_json
from sidelight.utils.tensorfile import read_metadata, read_tensors, write_tensors
from sidelight.utils.version import __version__

KEY = "sidelight"
HUB_FILE = "model.safetensors"
"""The student's file in a job's folder, and in a folder for a model hub."""
FORMAT, FORMAT_VERSION = "sidelight-student", 1
MEND = "Copy it again, or export the student again from its run folder."


@cache
def versions() -> dict[str, str]:
    """Versions of the programs that write the file."""
    return {"sidelight": __version__, "torch": torch.__version__, "python": platform.python_version()}


def to_json(value: Any) -> Any:
    """Convert a value to JSON's types; NaN and infinity become null. Raises ConfigError for other types."""
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise ConfigError(f"a student's meta is stored as JSON, which cannot hold a {type(value).__name__}: {value!r}")


def write_student(path: str | Path, description: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> Path:
    """Write a student's file and the readable JSON beside it (`Student.save`).

    Args:
        path: the .safetensors file, or a folder for `student.safetensors`.
        description: `Student.to_config()`.
        modules: name -> module whose weights are stored.

    Returns:
        The path of the .safetensors file.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        if path.suffix and not path.is_dir():
            raise ConfigError(f"{path}: a student is saved as .safetensors, not {path.suffix}; see also Student.export")
        path = path / "student.safetensors"
    tensors = {}
    for part, module in modules.items():
        for name, tensor in module.state_dict().items():
            tensors[f"{part}.{name}"] = tensor
    write_tensors(path, tensors, {KEY: json.dumps(description, ensure_ascii=False, allow_nan=False)})
    _write_json(path, description)
    return path


def read_student(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a student's file: its tensors by name, and its description."""
    tensors, metadata = read_tensors(path, mend=MEND)
    description = _parse_description(path, metadata)
    if description.get("version") != FORMAT_VERSION:
        _refuse_version(path, description.get("version"))
    return tensors, description


def write_description(path: Path) -> None:
    """Write the readable JSON beside a student's file again, from the file's metadata."""
    _write_json(path, _parse_description(path, read_metadata(path, mend=MEND)))


def _write_json(path: Path, description: Mapping[str, Any]) -> None:
    write_atomic(
        path.with_suffix(".json"), json.dumps(description, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    )


def locate(path: Path) -> Path:
    """Find the student's file for a path to it, to its folder (one for a hub, too) or to a run folder."""
    if not os.path.isdir(path):
        return check_file(
            path, RunError, "; expected a student.safetensors, as `sidelight run` writes to <run>/student"
        )
    for place in (path / "student.safetensors", path / "student" / "student.safetensors", path / HUB_FILE):
        if exists(place):
            return check_file(place, RunError)
    raise RunError(f"{path} holds no student.safetensors; name the file, its folder, or a run folder that finished")


def _parse_description(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The description in a file's metadata; raises RunError if the file is not a student."""
    text = metadata.get(KEY)
    try:
        description = parse_json(text) if text else None
    except ValueError as error:
        raise RunError(f"{path} is damaged: its description is not JSON ({error}). {MEND}") from error
    if (
        isinstance(description, dict)
        and description.get("format") == FORMAT
        and not _is_valid_meta(description.get("meta"))
    ):
        raise RunError(f"{path} is damaged: its description of the run is not as sidelight writes it. {MEND}")
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise RunError(
            f"{path} is a safetensors file, but not a sidelight student: it has weights and no description. "
            "Expected a file that Student.save or `sidelight run` wrote"
        )
    return description


def _is_valid_meta(meta: Any) -> bool:
    """Whether the entries that predictions read have the right types."""
    if not isinstance(meta, dict):
        return False
    privileged = meta.get("privileged", [])
    settings = [meta.get(name, {}) for name in ("recordings", "modalities", "files")]
    return isinstance(privileged, list) and all(
        isinstance(of, dict) and all(isinstance(value, dict) for value in of.values()) for of in settings
    )


def _refuse_version(path: Path, found: Any) -> None:
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise RunError(
            f"{path} was written by a newer sidelight (format {found}; this one reads {FORMAT_VERSION}). "
            "Update it: `pip install .` in a newer checkout"
        )
    raise RunError(f"{path} is damaged: its format version is {found!r}; expected {FORMAT_VERSION}. {MEND}")
