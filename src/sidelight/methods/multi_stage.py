"""Methods of several stages: online, adversarial, or with networks beside the student."""

from __future__ import annotations

from typing import Any, ClassVar

from sidelight.methods.base import Method, MethodInfo, keyword_defaults
from sidelight.methods.context import TrainingContext


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
