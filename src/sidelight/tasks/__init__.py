"""Tasks: the loss, the distance between a student's and a teacher's prediction, and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight.errors import ConfigError, unknown
from sidelight.tasks.anti_spoofing import AntiSpoofing
from sidelight.tasks.base import Task
from sidelight.tasks.classification import Classification
from sidelight.tasks.regression import Regression
from sidelight.tasks.retrieval import Retrieval
from sidelight.tasks.segmentation import Segmentation

if TYPE_CHECKING:
    from sidelight.config import Config
    from sidelight.data import Dataset

__all__ = [
    "TASKS",
    "AntiSpoofing",
    "Classification",
    "Regression",
    "Retrieval",
    "Segmentation",
    "Task",
    "describe_task",
    "make_task",
    "resolve_task",
]  # fmt: skip

TASKS: dict[str, type[Classification] | type[Regression] | type[Segmentation]] = {
    "classification": Classification,
    "regression": Regression,
    "segmentation": Segmentation,
    "retrieval": Retrieval,
    "anti-spoofing": AntiSpoofing,
}


METRIC_NAMES = {"balanced_accuracy": "unweighted_accuracy"}
"""Another name of a metric -> its name in tables."""
LARGEST_SHARE = 0.6
"""The largest share of one class at which accuracy is the metric by itself."""


def make_task(name: str, class_names: tuple[str, ...], **params: Any) -> Task:
    """The task of a name; `class_names` are class or target names, `params` what `describe_task` stored."""
    if name not in TASKS:
        raise ConfigError(unknown("task", name, TASKS))
    return TASKS[name](class_names, **params)


def resolve_task(config: Config, dataset: Dataset) -> Task:
    """The task of an experiment: the one that its settings name, or the plain one for the data set's targets.

    Raises:
        ConfigError: The targets do not suit the task, or the task's own settings do not fit.
    """
    name = dataset.task if config.task == "auto" else config.task
    if name in TASKS and TASKS[name].kind != dataset.task:
        raise ConfigError(
            f"task: {name} needs the targets of a {TASKS[name].kind}, but those of {dataset.name} are "
            f"for {dataset.task}."
        )
    own = TASKS[name].settings if name in TASKS else ()
    task = make_task(name, dataset.class_names, **{setting: getattr(config, setting) for setting in own})
    task.primary, task.metric_note = choose_metric(config.metric, task, dataset)
    if config.training.batches == "balanced" and not isinstance(task, Classification):
        raise ConfigError(
            f"training.batches=balanced needs rows that have a class, which those of a {task.name} do not. Set "
            "training.batches=shuffled."
        )
    if config.training.class_weights == "balanced":
        if not isinstance(task, Classification):
            raise ConfigError(
                f"training.class_weights=balanced weighs the classes of rows, which a {task.name} does not have. Set "
                "training.class_weights=none."
            )
        task.balanced = True
    return task


def choose_metric(name: str, task: Task, dataset: Dataset) -> tuple[str, str]:
    """The metric that a setting names for a task, and why it is not the task's own ("" if nothing has to be said).

    "auto" is decided by all labelled rows of the data set, so that every fold has the same metric.

    Raises:
        ConfigError: The task has no such metric.
    """
    if name != "auto":
        found, known = METRIC_NAMES.get(name, name), task.metrics()
        if found not in known:
            names = [*known, *(alias for alias, own in METRIC_NAMES.items() if own in known)]
            raise ConfigError(f"metric: {unknown('metric', name, names)}")
        return found, ""
    if task.name != "classification" or not dataset.labelled.any():
        return task.primary, ""
    counts = np.bincount(dataset.target[dataset.labelled], minlength=task.outputs)
    share = counts.max() / counts.sum()
    if share <= LARGEST_SHARE:
        return task.primary, ""
    label = task.class_names[int(counts.argmax())]
    return "macro_f1", (
        f"macro-F1 is compared, not accuracy: {share:.0%} of the labelled rows are {label!r}, and always answering it "
        "would be right as often (metric=accuracy compares accuracy)"
    )


def describe_task(task: Task) -> dict[str, Any]:
    """The arguments of `make_task` that make the task again, as JSON."""
    return {"name": task.name, "labels": task.class_names, **task.get_params()}
