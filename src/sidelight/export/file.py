"""student.safetensors: weights, and everything else as one JSON text in the file's metadata. Nothing is executed."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError, RunError
from sidelight.utils.atomic import write_atomic
from sidelight.utils.files import check_file, exists, parse_json
from sidelight.utils.tensorfile import read_metadata, read_tensors, write_tensors

KEY = "sidelight"
FORMAT, FORMAT_VERSION = "sidelight-student", 1
MEND = "Copy it again, or export the student again from its run folder."


@cache
def versions() -> dict[str, str]:
    """What wrote the file."""
    return {"sidelight": version("sidelight"), "torch": torch.__version__, "python": platform.python_version()}


def plain(value: Any) -> Any:
    """The value in JSON's types; what is not finite becomes null. Raises ConfigError for what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise ConfigError(f"a student's meta is stored as JSON, which cannot hold a {type(value).__name__}: {value!r}")


def write_student(path: str | Path, told: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> Path:
    """See `Student.save`; told: `Student.to_config()`, modules: those whose weights are stored, by name."""
    path = Path(path)
    if path.suffix != ".safetensors":
        if path.suffix and not path.is_dir():
            raise ConfigError(f"{path}: a student is saved as .safetensors, not {path.suffix}; see also Student.export")
        path = path / "student.safetensors"
    tensors = {
        f"{part}.{name}": tensor for part, module in modules.items() for name, tensor in module.state_dict().items()
    }
    write_tensors(path, tensors, {KEY: json.dumps(told, ensure_ascii=False, allow_nan=False)})
    _describe(path, told)
    return path


def read_student(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a student's file, and its description."""
    tensors, metadata = read_tensors(path, mend=MEND)
    told = _told(path, metadata)
    if told.get("version") != FORMAT_VERSION:
        _refuse_version(path, told.get("version"))
    return tensors, told


def write_description(path: Path) -> None:
    """Write the readable JSON beside a student's file again, from the file."""
    _describe(path, _told(path, read_metadata(path, mend=MEND)))


def _describe(path: Path, told: Mapping[str, Any]) -> None:
    write_atomic(path.with_suffix(".json"), json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def locate(path: Path) -> Path:
    if not os.path.isdir(path):
        return check_file(
            path, RunError, "; expected a student.safetensors, as `sidelight run` leaves in <run>/student"
        )
    for place in (path / "student.safetensors", path / "student" / "student.safetensors"):
        if exists(place):
            return check_file(place, RunError)
    raise RunError(f"{path} holds no student.safetensors; name the file, its folder, or a run folder that finished")


def _told(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The description in a file's metadata; raises RunError for what is no student file."""
    text = metadata.get(KEY)
    try:
        told = parse_json(text) if text else None
    except ValueError as error:
        raise RunError(f"{path} is damaged: its description is not JSON ({error}). {MEND}") from error
    if isinstance(told, dict) and told.get("format") == FORMAT and not _sound_meta(told.get("meta")):
        raise RunError(f"{path} is damaged: its description says nothing sound of where it comes from. {MEND}")
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise RunError(
            f"{path} is a safetensors file, but not a sidelight student: it has weights and no description. "
            "Expected a file that Student.save or `sidelight run` wrote"
        )
    return told


def _sound_meta(meta: Any) -> bool:
    """Whether what predictions read of it is of the right kinds."""
    if not isinstance(meta, dict):
        return False
    recordings, privileged = meta.get("recordings", {}), meta.get("privileged", [])
    return (
        isinstance(recordings, dict)
        and all(isinstance(told, dict) for told in recordings.values())
        and isinstance(privileged, list)
    )


def _refuse_version(path: Path, found: Any) -> None:
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise RunError(
            f"{path} was written by a newer sidelight (format {found}; this one reads {FORMAT_VERSION}). "
            "Update it: `pip install .` in a newer checkout"
        )
    raise RunError(f"{path} is damaged: its format version is {found!r}; expected {FORMAT_VERSION}. {MEND}")
