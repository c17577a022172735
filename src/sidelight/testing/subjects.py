"""Makes the subjects of the checks: a method by its name or class, on synthetic rows, beside a trained teacher."""

from __future__ import annotations

import atexit
import copy
import functools
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from sidelight.config import Config, load_config
from sidelight.config.io import read_arguments
from sidelight.data import Dataset
from sidelight.errors import ConfigError
from sidelight.experiment.context import JobContext
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.resolve import resolve
from sidelight.methods import (
    METHODS,
    Distillation,
    DistillationLoss,
    Method,
    MethodSpec,
    MultiStageMethod,
    Supervised,
    read_options,
)
from sidelight.tasks import TASKS
from sidelight.testing.subject import Subject
from sidelight.testing.synthetic import (
    AVAILABLE,
    PRIVILEGED,
    cast,
    make_network,
    make_rows,
    make_teacher,
    privileged_slots,
    task_of,
)

MethodClass = type[DistillationLoss] | type[MultiStageMethod]
Losses = Callable[[], dict[str, DistillationLoss]]


def tasks_of(method: str | MethodClass) -> list[str]:
    """The names of the tasks that a method (or every term of a sum) suits."""
    classes = [METHODS[term] for term in MethodSpec.parse(method).terms] if isinstance(method, str) else [method]
    return [name for name, task in TASKS.items() if all(c.supports_task(task) for c in classes)]


def make_subject(
    method: str | MethodClass, task: str, kind: str = "both", options: Mapping[str, Any] | None = None
) -> Subject:
    """A method with settings as the subject of the checks.

    Args:
        method: a name as in an experiment (`kl`, `pkdot+kl`), or a class that need not be registered.
        task: the name of a task that it suits.
        kind: one of `sidelight.testing.synthetic.KINDS`; by default some rows lack a label, and some a privileged
            modality.
        options: the method's settings by name (of `pkdot`: those of `transport`).

    Raises:
        ConfigError: an unknown name, or settings or a task without meaning for the method.
    """
    options = dict(options or {})
    if not isinstance(method, str):
        registered = next((name for name, known in METHODS.items() if known is method), None)
        if registered is None:
            return _class_subject(method, task, kind, options)
        method = registered
    spec = MethodSpec.parse(method)
    if options and len(spec.terms) > 1:
        raise ConfigError(f"{method!r} joins several terms: check each alone to give it settings.")
    config = _config(spec.terms[0], METHODS[spec.terms[0]], options)
    if spec.multi_stage:
        return _multi_stage_subject(METHODS[method], task, kind, read_options(method, config))
    return _distillation_subject(
        lambda: spec.losses(config, task_of(task)), task, kind, spec.hallucinates(config), spec.crossfit
    )


def _class_subject(method: MethodClass, task: str, kind: str, options: dict[str, Any]) -> Subject:
    """A class that is not registered."""
    name = method.__name__.lower()
    if issubclass(method, MultiStageMethod):
        settings = read_arguments(method.build, {**method.check_settings, **options}, name)
        return _multi_stage_subject(method, task, kind, settings)
    loss = method
    config = _config(name, loss, options) if loss.section else Config()
    settings = {} if loss.section else read_arguments(loss, {**loss.check_settings, **options}, name)

    def losses() -> dict[str, DistillationLoss]:
        made = loss.from_config(config, **settings)
        made.check(task_of(task), name)
        return {name: made}

    return _distillation_subject(losses, task, kind, loss.hallucinates)


def _config(name: str, method: MethodClass, options: dict[str, Any]) -> Config:
    """Settings in which a method has its options, whatever section they belong to."""
    values = {**method.check_settings, **options}
    if not values:
        return Config()
    section = {method.section: values} if method.section else {"options": {name: values}}
    return load_config({"data": "synthetic", **section})


def distillation_subject(
    method: str, task: str, kind: str, *, tnet: bool | str = "", crossfit: bool = False, config: Config | None = None
) -> Subject:
    """A sum of losses by its name, with the privileged slots and the teacher that the test asks for.

    Args:
        tnet: True or "t-net" for frozen T-Nets, "encoder" for networks on the available modalities, "" for nothing.
        crossfit: whether two teachers share the rows.
        config: the settings; by default the defaults, with a method's own for checks.
    """
    spec = MethodSpec.parse(method)
    config = config or (_config(method, METHODS[method], {}) if method in METHODS else Config())
    slots = "t-net" if tnet is True else tnet or ""
    return _distillation_subject(lambda: spec.losses(config, task_of(task)), task, kind, slots, crossfit)


def _distillation_subject(losses: Losses, task: str, kind: str, slots: str, crossfit: bool = False) -> Subject:
    losses()  # refuses settings and task here, not in the factory

    @functools.cache
    def built(dtype: torch.dtype, first: int) -> Distillation:
        student = make_network(AVAILABLE, task_of(task), privileged_slots(task, kind, slots), seed=3).to(dtype)
        teacher, rows = make_teacher(task, kind, crossfit, first), make_rows(task, kind).to(dtype)
        return Distillation(student, cast(teacher, dtype), task_of(task), losses(), rows).to(dtype)

    def factory(dtype: torch.dtype, first: int = 0) -> Distillation:
        return copy.deepcopy(built(dtype, first))

    fold = make_teacher(task, kind, crossfit).teacher_fold
    other = functools.partial(factory, first=1)
    return Subject(factory, make_rows(task, kind), AVAILABLE, PRIVILEGED, teacher_fold=fold, other=other)


def _multi_stage_subject(method: MethodClass, task: str, kind: str, settings: dict[str, Any]) -> Subject:
    """A method of several stages, all but the last one done; each subject is a copy of one that was built once.

    What it keeps of finished networks must go along with `Module.to`: buffers, not plain tensors.
    """
    assert issubclass(method, MultiStageMethod)
    method.check_task(task_of(task), method.__name__)
    built = functools.cache(lambda control: method.build(job_context(method, task, kind, control), **settings))

    def factory(dtype: torch.dtype, control: str = "") -> Method:
        return copy.deepcopy(built(control)).to(dtype)

    context = job_context(method, task, kind)
    rows = context.rows().materialize()
    built("")
    reads = tuple(context.available), tuple(context.privileged)
    return Subject(factory, rows, *reads, other=functools.partial(factory, control="placebo"))


@functools.cache
def _folder() -> Path:
    folder = Path(mkdtemp(prefix="sidelight-testing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def job_context(method: MethodClass, task: str, kind: str, control: str = "") -> JobContext:
    """The context of a job on synthetic rows, whose earlier stages take three epochs.

    Args:
        method: the class of the method, which may ask for another study (`MethodInfo.check_study`).
        control: "placebo" permutes the privileged rows.
    """
    return _job_context(method, task, kind, control)


def _make_job_context(method: MethodClass, task: str, kind: str, control: str) -> JobContext:
    rows, name = make_rows(task, kind, n=72), method.__name__
    data = Dataset(
        name="synthetic",
        inputs={m: x.numpy() for m, x in rows.inputs.items()},
        target=rows.target.numpy(),
        labelled=rows.labelled.numpy(),
        task=task_of(task).kind,
        class_names=task_of(task).class_names,
        present={m: there.numpy() for m, there in rows.present.items()},
        group=np.array([f"g{i // 6}" for i in range(len(rows))]),
    )
    folder = _folder() / f"{name}-{task}-{kind}-{control}"
    settings = {
        "data": data.name,
        "output": str(folder),
        "task": task,
        "live": getattr(task_of(task), "live", ""),
        "available": list(AVAILABLE),
        "privileged": list(PRIVILEGED),
        "methods": ["kl" if task_of(task).kind != "regression" else "mse"],
        "protocol": "group-kfold",
        "folds": 2,
        "seeds": 1,
        "placebo": ["none"],
        "jobs": 1,
        "network": {"width": 8, "dropout": 0.2},
        "training": {"epochs": 3, "patience": 3, "batch_size": 32, "learning_rate": 0.01, "least_steps": 1},
        "transport": {"k": 8},
        **method.check_study,
    }
    models = FoldModels(resolve(load_config(settings), data), data, folder, {}, 0, 0)
    return _TaughtContext(models, Job(name, control, 1.0, 0, 0))


class _TaughtContext(JobContext):
    """A context in which no baseline is as good as a student: the method under check is one that a teacher teaches."""

    def baseline(self) -> tuple[Method, float]:
        return Supervised(self.network(self.available), self.task), -math.inf


_job_context: Callable[[Any, str, str, str], JobContext] = functools.cache(_make_job_context)
"""The contexts that were made: the earlier stages of a method are trained once in a process."""
