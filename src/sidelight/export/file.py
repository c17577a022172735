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

from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, RunError, shown
from sidelight.export.student import Student
from sidelight.networks.build import describe, rebuild
from sidelight.networks.fusions import Fusion
from sidelight.tasks import describe_task, make_task
from sidelight.utils.atomic import write_atomic
from sidelight.utils.files import check_file, exists, parse_json
from sidelight.utils.keywords import known_keywords
from sidelight.utils.tensorfile import read_metadata, read_tensors, write_tensors

KEY = "sidelight"
FORMAT, FORMAT_VERSION = "sidelight-student", 1


def description(student: Student) -> dict[str, Any]:
    """Everything but the weights, as JSON can hold it."""
    text: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "task": describe_task(student.task),
            "reads": student.reads,
            "privileged": student.privileged,
            "inputs": student.inputs,
            "network": describe(student.network),
            "preprocessor": student.preprocessor.to_config(),
            "meta": {"versions": versions(), **student.meta},
        }
    )
    return text


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


def save_student(student: Student, path: str | Path) -> Path:
    """See `Student.save`."""
    path = Path(path)
    if path.suffix != ".safetensors":
        if path.suffix and not path.is_dir():
            raise ConfigError(f"{path}: a student is saved as .safetensors, not {path.suffix}; see also Student.export")
        path = path / "student.safetensors"
    told = description(student)
    tensors = {
        f"{part}.{name}": tensor
        for part, module in (("network", student.network), ("preprocessor", student.preprocessor))
        for name, tensor in module.state_dict().items()
    }
    write_tensors(path, tensors, {KEY: json.dumps(told, ensure_ascii=False, allow_nan=False)})
    _describe(path, told)
    return path


def write_description(path: Path) -> None:
    """Write the readable JSON beside a student's file again, from the file."""
    _describe(path, _told(path, read_metadata(path, mend=MEND)))


def _describe(path: Path, told: Mapping[str, Any]) -> None:
    write_atomic(path.with_suffix(".json"), json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


@known_keywords
def load_student(
    path: str | Path,
    *,
    task: str | None = None,
    encoders: Mapping[str, nn.Module] | None = None,
    hallucinators: Mapping[str, nn.Module] | None = None,
) -> Student:
    """The student of a .safetensors file, or of the folder or run folder that holds `student.safetensors`.

    Args:
        task: what the student is expected to be, "classification" or "regression".
        encoders, hallucinators: modality -> module, for those that are not sidelight's own; the weights come from the
            file.

    Nothing in the file is executed, and its checksum is compared (files of earlier versions have none). Raises RunError
    for a file that is missing, truncated, foreign, written by a newer version, damaged, or of another task.
    """
    path = _locate(Path(path))
    tensors, metadata = read_tensors(path, mend=MEND)
    told = _told(path, metadata)
    if told.get("version") != FORMAT_VERSION:
        _refuse_version(path, told.get("version"))
    try:
        learnt = dict(told["task"])
        name, labels = learnt.pop("name"), tuple(learnt.pop("labels"))
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels are {shown(labels)}, which are no texts")
        if task is not None and task != name:
            raise RunError(
                f"{path} holds a {name} student ({', '.join(labels)}), not one for {task}; give another file"
            )
        _check_sizes(told, tensors, encoders, hallucinators)
        network = rebuild(told["network"], encoders, hallucinators)
        preprocessor = Preprocessor.from_config(told["preprocessor"])
        for part, module in (("network", network), ("preprocessor", preprocessor)):
            module.load_state_dict(
                {k.removeprefix(f"{part}."): t for k, t in tensors.items() if k.startswith(f"{part}.")}
            )
        student = Student(network, preprocessor, make_task(name, labels, **learnt), told["meta"], known_groups=True)
        if list(student.reads) != told["reads"]:
            raise ValueError(f"it says that it reads {told['reads']}, and its network reads {list(student.reads)}")
    except RunError:
        raise
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        why = f"{type(error).__name__}: {str(error).strip()}"
        raise RunError(f"{path} is damaged: its weights and its description do not agree ({why}). {MEND}") from error
    return student


def _check_sizes(told: Mapping[str, Any], tensors: Mapping[str, Tensor], *modules: Any) -> None:
    """Raises ValueError where the description would make other tensors than the file has; takes no memory for them."""
    try:
        with torch.device("meta"):
            network = rebuild(told["network"], *modules)
            preprocessor = Preprocessor.from_config(told["preprocessor"])
    except NotImplementedError:  # a part that cannot be made without its numbers
        return
    if isinstance(network.fusion, Fusion) and {*network.fusion.shapes} != {*network.encoders, *network.hallucinators}:
        raise ValueError(f"it fuses {list(network.fusion.shapes)}, and its network makes {list(network.encoders)}")
    for m, plan in preprocessor.plans.items():
        if plan.variable and len(plan.shape) != 2:
            raise ValueError(f"rows of {m!r} have shape {plan.shape}, and only signals (T, C) vary in length")
    for part, module in (("network", network), ("preprocessor", preprocessor)):
        for name, tensor in module.state_dict().items():
            found = tensors.get(f"{part}.{name}")
            if found is not None and found.shape != tensor.shape:
                raise ValueError(f"{name} has shape {tuple(found.shape)}, and should have {tuple(tensor.shape)}")


MEND = "Copy it again, or export the student again from its run folder."


def _locate(path: Path) -> Path:
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
