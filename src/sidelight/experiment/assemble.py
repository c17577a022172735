"""Builds the method of a job from its spec and its context."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sidelight.experiment.artifacts import is_stored
from sidelight.experiment.context import JobContext
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.methods import (
    CONTROLS,
    METHODS,
    Distillation,
    Method,
    MethodSpec,
    MultiStageMethod,
    Teacher,
    options_of,
)
from sidelight.methods.teacher_sets import teacher_sets


def run_job(models: FoldModels, job: Job) -> None:
    """Train, test and store one job, unless it is stored."""
    if is_stored(models.folder, job):
        return
    if job.method in CONTROLS:
        models.supervised(job)
        return
    method, teacher_fold = assemble(MethodSpec.parse(job.method), JobContext(models, job))
    models.train_and_store(method, job, teacher_fold)


def assemble(spec: MethodSpec, context: JobContext) -> tuple[Method, Tensor | None]:
    """Build the method of a job's last stage; its earlier stages are trained here.

    Returns:
        The method, and (N,) int64, the cross-fitted teacher of each train row (None without cross-fitting).

    Raises:
        ConfigError: the task, the settings or the shapes have no meaning for the method.
    """
    spec.check(context.config, context.task, context.models.data.preprocessor.shapes)
    method = METHODS[spec.terms[0]]
    if issubclass(method, MultiStageMethod):
        return method.build(context, **options_of(spec.name, context.config)), None
    return _distillation(spec, context)


def _distillation(spec: MethodSpec, context: JobContext) -> tuple[Method, Tensor | None]:
    """A sum of losses between the student and the fold's teacher (or teachers)."""
    self_distillation = context.job.control == "self"
    teacher = context.teacher(spec.crossfit)
    teachers: Teacher | Mapping[str, Teacher] = teacher
    sets = {} if self_distillation else teacher_sets(context.config)
    if sets:
        teachers = {name: context.teacher_on(members) for name, members in sets.items()}
    start = context.models.supervised(context.teacher_job())
    student = context.student(start, "" if self_distillation else spec.hallucinates(context.config))
    losses = spec.losses(context.config, context.task)
    context.seed()
    return Distillation(student, teachers, context.task, losses, context.rows()), teacher.teacher_fold
