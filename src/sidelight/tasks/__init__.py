"""What is predicted: the loss, how a student matches a teacher's prediction, and what is measured."""

from __future__ import annotations

from typing import Any

from sidelight.errors import ConfigError, unknown
from sidelight.tasks.base import Task
from sidelight.tasks.classification import Classification
from sidelight.tasks.regression import Regression
from sidelight.tasks.segmentation import Segmentation

__all__ = ["TASKS", "Classification", "Regression", "Segmentation", "Task", "describe_task", "make_task"]

TASKS: dict[str, type[Classification] | type[Regression] | type[Segmentation]] = {
    "classification": Classification,
    "regression": Regression,
    "segmentation": Segmentation,
}


def make_task(name: str, labels: tuple[str, ...], **learnt: Any) -> Task:
    """The task of that name; `labels` are class names or target names, `learnt` what `describe_task` said."""
    if name not in TASKS:
        raise ConfigError(unknown("task", name, TASKS))
    return TASKS[name](labels, **learnt)


def describe_task(task: Task) -> dict[str, Any]:
    """What `make_task` needs to make the task again, as JSON can hold it."""
    told: dict[str, Any] = {"name": task.name, "labels": task.labels}
    return told | {"mean": task.mean, "scale": task.scale} if isinstance(task, Regression) else told
