"""Builds the method of a job from its spec and its context."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

from torch import Tensor

from sidelight.errors import SidelightWarning
from sidelight.experiment.artifacts import is_stored, store_answers
from sidelight.experiment.context import JobContext
from sidelight.experiment.evaluate import test_answers
from sidelight.experiment.inner_folds import LostScoresError
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.reference import fit_reference
from sidelight.methods import (
    CONTROLS,
    METHODS,
    Distillation,
    Method,
    MethodSpec,
    MultiStageMethod,
    Supervised,
    Teacher,
    read_options,
)
from sidelight.results.budget import WITHOUT_NETWORK
from sidelight.utils.distributed import on_first


def run_job(models: FoldModels, job: Job) -> None:
    """Train, test and store one job, unless it is stored already; its inner folds, which choose epochs, come first.

    Of a sweep, its draws come first, of which the best one on the select rows is tested and stored.
    """
    if is_stored(models.folder, job):
        return
    try:
        _run_job(models, job)
    except LostScoresError as error:
        warnings.warn(f"{error} The inner folds are trained again.", SidelightWarning, stacklevel=2)
        on_first(partial(models.inner.forget, job.label_fraction))
        _run_job(models, job)


def _run_job(models: FoldModels, job: Job) -> None:
    if job.method in WITHOUT_NETWORK:
        on_first(partial(_run_reference, models, job))
        return
    if models.draws is not None:
        models.draws.run(job, run_job)
        models.draws.test_chosen(job)
        return
    if job.method in CONTROLS:
        models.control_network(job)
        return
    for inner in models.inner(job.label_fraction):
        run_job(inner, job)
    context = JobContext(models, job)
    if job.spec is None:
        start = models.control_network(replace(job, method="teacher"))
        models.train_and_store(Supervised(context.student(start), context.task), job)
        return
    method, teacher_fold = assemble(job.spec, context)
    models.train_and_store(method, job, teacher_fold, context.histories.get(method))


def _run_reference(models: FoldModels, job: Job) -> None:
    """Fit, test and store a reference row that is no network."""
    answers, task, found = fit_reference(models.data, job)
    columns, facts = test_answers(models.data, job, task, answers, models.data.rows("test"), models.made_with)
    store_answers(models.folder, job, columns, facts | found)


def assemble(spec: MethodSpec, context: JobContext) -> tuple[Method, Tensor | None]:
    """Train the earlier stages of a job, and build the method of its last stage.

    Args:
        spec: the method of the job.
        context: the rows, networks and settings of the job.

    Returns:
        The method, and (N,) int64, the cross-fitted teacher of each train row (None without cross-fitting).

    Raises:
        ConfigError: the method does not support the task, the settings or the shapes.
    """
    spec.check(context.config, context.task, context.models.data.preprocessor.shapes)
    method = METHODS[spec.terms[0]]
    if issubclass(method, MultiStageMethod):
        return method.build(context, **read_options(spec.name, context.config)), None
    return _distillation(spec, context)


def _distillation(spec: MethodSpec, context: JobContext) -> tuple[Method, Tensor | None]:
    """Build a sum of losses between the student and its teacher, or its teachers (`teacher.sets`)."""
    self_distillation = context.job.control == "self"
    teachers = context.teachers(spec.crossfit, spec.reads)
    start = context.models.control_network(context.teacher_job())
    student = context.student(start, "" if self_distillation else spec.hallucinates(context.config))
    losses = spec.losses(context.config, context.task)
    context.seed()  # for the regressors and projections that `Distillation` builds
    method = Distillation(student, teachers, context.task, losses, context.rows())
    return method, teachers.teacher_fold if isinstance(teachers, Teacher) else None
