"""Parses the name of a method in an experiment, and checks the method against the experiment before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidelight.config import Config
from sidelight.config.io import read_arguments
from sidelight.errors import ConfigError, unknown
from sidelight.methods.distillation import DistillationLoss, find_shared_part
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.ranges import check_ranges
from sidelight.methods.registry import CONTROLS, METHODS
from sidelight.methods.teacher_sets import parse_teacher_sets
from sidelight.networks.network import OutputParts
from sidelight.tasks import Task

OWN = "A method of your own has to be registered first: --import FILE, or METHODS[...] = ... in Python."


@dataclass(frozen=True)
class MethodSpec:
    """The parsed name of a method: the losses that it sums, and whether its teacher is cross-fitted.

    Attributes:
        name: the name in the experiment, such as "pkdot+kl@crossfit".
        terms: the registered names that it sums, such as ("pkdot", "kl").
        crossfit: whether a teacher that was not trained on the group of a row teaches the row.
    """

    name: str
    terms: tuple[str, ...]
    crossfit: bool

    @classmethod
    def parse(cls, name: str) -> MethodSpec:
        """Parse a name such as `kl`, `pkdot+kl` or `pkdot+kl@crossfit`.

        Raises:
            ConfigError: an unknown method or suffix, a method named twice, or a control.
        """
        # A name such as "pkdot+kl@crossfit".
        body, at, suffix = name.partition("@")
        if at and suffix != "crossfit":
            raise ConfigError(unknown("method suffix", "@" + suffix, ["@crossfit"]))
        terms = tuple(body.split("+"))
        # Names are checked first, so that a misspelt one is named and not a consequence of it.
        for term in terms:
            if term in CONTROLS:
                raise ConfigError(f"{term!r} is part of every comparison; leave it out of `methods`.")
            if term not in METHODS:
                raise ConfigError(f"{unknown('method', term, METHODS)} {OWN}")
        multi_stage = [t for t in terms if issubclass(METHODS[t], MultiStageMethod)]
        if multi_stage and (len(terms) > 1 or suffix):
            raise ConfigError(
                f"{multi_stage[0]!r} is a method of several stages: it cannot be combined with '+' or cross-fitted."
            )
        if len(set(terms)) < len(terms):
            raise ConfigError(f"method {name!r} names a term twice; set its weight instead.")
        return cls(name, terms, bool(suffix))

    @property
    def multi_stage(self) -> bool:
        """Whether it is a method of several stages, not a sum of losses."""
        return issubclass(METHODS[self.terms[0]], MultiStageMethod)

    @property
    def self_distillation_obstacle(self) -> str:
        """Why a baseline cannot replace the teacher, as a verb phrase; "" if it can."""
        for name in self.terms:
            method = METHODS[name]
            if issubclass(method, MultiStageMethod):
                return "has stages of its own and no teacher to replace"
            if method.compares_privileged:
                which = f" ({name!r} does)" if len(self.terms) > 1 else ""
                return f"compares privileged features{which}, and a baseline as its teacher has none"
        return ""

    def losses(self, config: Config, task: Task) -> dict[str, DistillationLoss]:
        """Build the losses of the method with the settings of the experiment.

        Returns:
            Registered name -> loss.

        Raises:
            ConfigError: a loss does not support the task.
        """
        losses = {}
        for name in self.terms:
            method = METHODS[name]
            assert issubclass(method, DistillationLoss)
            losses[name] = method.from_config(config, **read_options(name, config))
            losses[name].check(task, name)
        return losses

    @property
    def reads(self) -> OutputParts:
        """The parts of the teacher's outputs that the losses read."""
        losses = [METHODS[name] for name in self.terms]
        return OutputParts(
            features=any(issubclass(loss, DistillationLoss) and loss.reads_features for loss in losses),
            embedding=any(issubclass(loss, DistillationLoss) and loss.reads_embedding for loss in losses),
        )

    def hallucinates(self, config: Config) -> str:
        """What fills the student's privileged slots: "" (it has none), "t-net" or "encoder"."""
        choice = config.student.hallucinate
        if choice != "auto":
            return "" if choice == "no" else choice
        defaults = {METHODS[term].hallucinates for term in self.terms}
        for kind in ("encoder", "t-net"):
            if kind in defaults:
                return kind
        return ""

    def check(self, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check the method against an experiment, before anything is trained.

        Args:
            config: the settings, with every default filled in.
            task: the task of the experiment.
            shapes: modality -> the shape of one row.

        Raises:
            ConfigError: the method does not support the task, the settings or the shapes.
        """
        if self.multi_stage:
            METHODS[self.name].check_task(task, self.name)
            read_options(self.name, config)
        else:
            self.losses(config, task)
            if parse_teacher_sets(config) and self.crossfit:
                raise ConfigError(f"method {self.name!r} is cross-fitted, which teachers of teacher.sets cannot be.")
        for name in self.terms:
            METHODS[name].check_experiment(name, config, task, shapes)
        self._check_shared(config)

    def _check_shared(self, config: Config) -> None:
        """Check that the terms share trained weights, on which gradients are compared."""
        if config.balance.kind not in ("gradnorm", "gradient-ratio") or self.multi_stage:
            return
        methods = [METHODS[term] for term in self.terms]
        reached = [method.reaches for method in methods if issubclass(method, DistillationLoss)]
        slots_trained = self.hallucinates(config) == "encoder"
        if not find_shared_part(reached, slots_trained, encoders_trained=not config.student.freeze):
            where = " and ".join(dict.fromkeys(reached))
            frozen = ", and student.freeze keeps the encoders" if config.student.freeze else ""
            raise ConfigError(
                f"balance.kind={config.balance.kind}: the terms of method {self.name!r} share no weight that is "
                f"trained (they reach the student's {where}{frozen}). Set balance.kind=fixed or target-ratio."
            )


def parse_methods(names: Iterable[str]) -> dict[str, MethodSpec]:
    """Parse method names: name -> spec, each name once, in order.

    Raises:
        ConfigError: as `MethodSpec.parse`.
    """
    return {name: MethodSpec.parse(name) for name in names}


def read_options(name: str, config: Config) -> dict[str, Any]:
    """Read the settings `options.<name>.*` of a registered method.

    Raises:
        ConfigError: a setting that the method does not have, or a value of another type or outside of its range.
    """
    method, values = METHODS[name], config.options.get(name, {})
    if method.section and values:
        raise ConfigError(f"options.{name}: the settings of {name} are called {method.section}.{next(iter(values))}.")
    signature = method.build if issubclass(method, MultiStageMethod) else method
    settings = read_arguments(signature, values, f"options.{name}")
    check_ranges(f"options.{name}", method.ranges, settings)
    return settings


def check_options(config: Config) -> None:
    """Check every `options.<name>.*` of the settings.

    Raises:
        ConfigError: a method that does not exist, or a setting that it does not have.
    """
    for name, values in config.options.items():
        if name not in METHODS:
            raise ConfigError(unknown("method of options", name, METHODS))
        if not isinstance(values, dict):
            raise ConfigError(f"options.{name}: expected settings, e.g. options.{name}.weight=0.5, not {values!r}.")
        read_options(name, config)
