"""A student's file made a student again. Nothing in it is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, RunError, shown
from sidelight.export.file import MEND, locate, read_student
from sidelight.export.student import Student
from sidelight.networks.build import rebuild
from sidelight.networks.fusions import Fusion
from sidelight.tasks import make_task
from sidelight.utils.keywords import known_keywords


@known_keywords
def load_student(
    path: str | Path,
    *,
    task: str | None = None,
    encoders: Mapping[str, nn.Module | Callable[[tuple[int, ...]], nn.Module]] | None = None,
    hallucinators: Mapping[str, nn.Module] | None = None,
) -> Student:
    """The student of a .safetensors file, or of the folder or run folder that holds `student.safetensors`.

    Args:
        task: what the student is expected to be, "classification" or "regression".
        encoders, hallucinators: modality -> module, for those that are not sidelight's own; the weights come from the
            file. An encoder may also be the function from one row's shape to a module that `compare` took.

    Nothing in the file is executed, and its checksum is compared (files of earlier versions have none). Raises RunError
    for a file that is missing, truncated, foreign, written by a newer version, damaged, or of another task.
    """
    path = locate(Path(path))
    tensors, told = read_student(path)
    try:
        learnt = dict(told["task"])
        name, labels = learnt.pop("name"), tuple(learnt.pop("labels"))
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels are {shown(labels)}, which are no texts")
        if task is not None and task != name:
            raise RunError(
                f"{path} holds a {name} student ({', '.join(labels)}), not one for {task}; give another file"
            )
        modules = _modules(encoders or {}, told)
        _check_sizes(told, tensors, modules, hallucinators)
        network = rebuild(told["network"], modules, hallucinators)
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


def _modules(
    encoders: Mapping[str, nn.Module | Callable[[tuple[int, ...]], nn.Module]], told: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """The user's own encoders as modules; a function is called with the shape of the student's rows."""
    made = {m: encoder for m, encoder in encoders.items() if isinstance(encoder, nn.Module)}
    if len(made) < len(encoders):
        with torch.device("meta"):  # only shapes are asked for
            shapes = Preprocessor.from_config(told["preprocessor"]).shapes
        made |= {m: encoder(shapes[m]) for m, encoder in encoders.items() if m not in made and m in shapes}
    return made


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
