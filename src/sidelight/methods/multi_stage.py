"""Methods of several stages: online, adversarial, or with networks beside the student."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sidelight.config import Config
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.methods.base import Method, MethodInfo, keyword_defaults
from sidelight.methods.context import TrainingContext
from sidelight.tasks import Task


class MultiStageMethod(MethodInfo, Method):
    """A method of several stages, not a sum of losses: online, adversarial, or with networks beside the student.

    A subclass writes `build`. The keyword arguments of `build` that have defaults are the method's settings
    (`options.<name>.<argument>`).
    """

    hallucinates: ClassVar[str] = ""
    """What fills the student's privileged slots: nothing, a "t-net" or an "encoder"."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return keyword_defaults(cls.build)

    @classmethod
    def build(cls, context: TrainingContext) -> Method:
        """Train the earlier stages with `context.fit`, and return the method of the last stage.

        Raises:
            ConfigError: a setting outside of its range.
        """
        raise TypeError(f"{cls.__name__} must define build()")


def require_privileged_images(name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a segmentation whose privileged modalities hold no image, for a teacher that reads them alone.

    Args:
        name: the method's name.
        config: the settings.
        task: the task.
        shapes: modality -> shape of a row.

    Raises:
        ConfigError: no privileged modality is an image.
    """
    if task.kind == "segmentation" and all(len(shapes[m]) != 3 for m in config.privileged):
        raise ConfigError(
            f"method {name!r} trains a teacher on the privileged modalities alone, and a segmentation needs "
            f"images; {', '.join(config.privileged)} has none: use 'kl', or name privileged images."
        )


def warn_of_late_start(name: str, setting: str, default: int, config: Config, what: str) -> None:
    """Warn if the epochs before which a part of a method rests are all epochs.

    Args:
        name: the method's name.
        setting: its setting with the number of these epochs.
        default: the setting's default.
        config: the settings.
        what: the part that is never trained, and the fix: "… to its two terms; train longer".
    """
    begin, epochs = config.options.get(name, {}).get(setting, default), config.training.epochs
    if begin >= epochs:
        warnings.warn(
            f"options.{name}.{setting}={begin} leaves none of {epochs} epochs to {what}", SidelightWarning, stacklevel=3
        )
