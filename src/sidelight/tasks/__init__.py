"""Tasks: the loss, the distance between a student's and a teacher's prediction, and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    return make_task(name, dataset.class_names, **{setting: getattr(config, setting) for setting in own})


def describe_task(task: Task) -> dict[str, Any]:
    """The arguments of `make_task` that make the task again, as JSON."""
    return {"name": task.name, "labels": task.class_names, **task.get_params()}
