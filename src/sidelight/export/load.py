"""Load a student from its file. Nothing in the file is executed."""

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
    """Load a student.

    Nothing in the file is executed, and its checksum is compared (files of earlier versions have none).

    Args:
        path: the .safetensors file, its folder (as `write_hub_folder` writes it, too), or a run folder.
        task: what the student is expected to be, "classification" or "regression".
        encoders, hallucinators: modality -> module, for those that are not sidelight's own; the weights come from the
            file. An encoder may also be the function from one row's shape to a module that `compare` took.

    Raises:
        RunError: the file is missing, truncated, damaged, not a student, from a newer version, or has another task.
    """
    path = locate(Path(path))
    tensors, description = read_student(path)
    try:
        learnt = dict(description["task"])
        name, labels = learnt.pop("name"), tuple(learnt.pop("labels"))
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels are {shown(labels)}, which are not texts")
        if task is not None and task != name:
            raise RunError(
                f"{path} holds a {name} student ({', '.join(labels)}), not one for {task}; give another file"
            )
        modules = _modules(encoders or {}, description)
        _check_sizes(description, tensors, modules, hallucinators)
        network = rebuild(description["network"], modules, hallucinators)
        preprocessor = Preprocessor.from_config(description["preprocessor"])
        for part, module in (("network", network), ("preprocessor", preprocessor)):
            prefix = f"{part}."
            own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(own)
        student = Student(
            network, preprocessor, make_task(name, labels, **learnt), description["meta"], known_groups=True
        )
        if list(student.reads) != description["reads"]:
            raise ValueError(
                f"it says that it reads {description['reads']}, and its network reads {list(student.reads)}"
            )
    except RunError:
        raise
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        why = f"{type(error).__name__}: {str(error).strip()}"
        raise RunError(f"{path} is damaged: its weights and its description do not agree ({why}). {MEND}") from error
    return student


def _modules(
    encoders: Mapping[str, nn.Module | Callable[[tuple[int, ...]], nn.Module]], description: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """The user's own encoders as modules; a function is called with the shape of the student's rows."""
    made = {m: encoder for m, encoder in encoders.items() if isinstance(encoder, nn.Module)}
    if len(made) < len(encoders):
        with torch.device("meta"):  # only shapes are needed
            shapes = Preprocessor.from_config(description["preprocessor"]).shapes
        made |= {m: encoder(shapes[m]) for m, encoder in encoders.items() if m not in made and m in shapes}
    return made


def _check_sizes(description: Mapping[str, Any], tensors: Mapping[str, Tensor], *modules: Any) -> None:
    """Raise ValueError if the description builds tensors of other shapes than the file's; allocates no memory."""
    try:
        with torch.device("meta"):
            network = rebuild(description["network"], *modules)
            preprocessor = Preprocessor.from_config(description["preprocessor"])
    except NotImplementedError:  # a part that cannot be built without its values
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
