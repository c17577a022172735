"""The methods by name, and how a method's name in an experiment is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sidelight.config import Config
from sidelight.config.io import read_arguments
from sidelight.errors import ConfigError, unknown
from sidelight.methods.adversarial import ADMD
from sidelight.methods.amid import AMID
from sidelight.methods.base import Clock, Method, Standalone, Step, Supervised
from sidelight.methods.contrastive import CCL, CRCD, CRD, GMC, NCE
from sidelight.methods.distillation import Distillation, Hallucination, Teacher, Term, shared_part
from sidelight.methods.hallucinated import CMKD, DASK, MERS
from sidelight.methods.hints import Autoencoder, FitNet
from sidelight.methods.kept import Said
from sidelight.methods.osmd import OSMD
from sidelight.methods.pointwise import KL, MSE, Cosine
from sidelight.methods.ranges import check_ranges
from sidelight.methods.relational import MMD, PKT, RKD, SP
from sidelight.methods.structural import PKDOT, PKDOTReleased, PKDOTSidelight
from sidelight.methods.teachers import teacher_sets
from sidelight.methods.translation import MTNet
from sidelight.tasks import Task

if TYPE_CHECKING:
    from sidelight.experiment.parts import Parts

METHODS: dict[str, type[Term] | type[Standalone]] = {
    "kl": KL,
    "mse": MSE,
    "cosine": Cosine,
    "fitnet": FitNet,
    "rkd": RKD,
    "sp": SP,
    "pkt": PKT,
    "mmd": MMD,
    "nce": NCE,
    "crd": CRD,
    "crcd": CRCD,
    "ccl": CCL,
    "gmc": GMC,
    "autoencoder": Autoencoder,
    "mers": MERS,
    "cmkd": CMKD,
    "dask": DASK,
    "admd": ADMD,
    "mtnet": MTNet,
    "amid": AMID,
    "osmd": OSMD,
    "pkdot": PKDOT,
    "pkdot-released": PKDOTReleased,
    "pkdot-sidelight": PKDOTSidelight,
}
CONTROLS = ("baseline", "teacher")
"""Methods that every comparison has anyway; they are not named in `methods`."""


@dataclass(frozen=True)
class Recipe:
    """A method's name, read: the sum of terms that it is, and whether its teacher is cross-fitted."""

    name: str
    terms: tuple[str, ...]
    crossfit: bool

    @classmethod
    def parse(cls, name: str) -> Recipe:
        """`kl`, `pkdot+kl`, `pkdot+kl@crossfit`.

        Raises:
            ConfigError: an unknown term or suffix, a term given twice, or a control.
        """
        body, at, suffix = name.partition("@")
        if at and suffix != "crossfit":
            raise ConfigError(unknown("method suffix", "@" + suffix, ["@crossfit"]))
        terms = tuple(body.split("+"))
        for term in terms:
            if term in CONTROLS:
                raise ConfigError(f"{term!r} is part of every comparison; leave it out of `methods`.")
            if term not in METHODS:
                raise ConfigError(unknown("method", term, METHODS))
        whole = [t for t in terms if issubclass(METHODS[t], Standalone)]
        if whole and (len(terms) > 1 or suffix):
            raise ConfigError(f"{whole[0]!r} is a method of its own stages: it stands alone, without '+' and '@'.")
        if len(set(terms)) < len(terms):
            raise ConfigError(f"method {name!r} names a term twice; set its weight instead.")
        return cls(name, terms, bool(suffix))

    def make(self, config: Config, task: Task) -> dict[str, Term]:
        """The terms with the experiment's settings, refused where they have no meaning for the task."""
        made = {}
        for name in self.terms:
            method = METHODS[name]
            assert issubclass(method, Term)
            made[name] = method.from_config(config, **options_of(name, config))
            made[name].check(task, name)
        return made

    def check(self, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse a task, settings or rows of these shapes that have no meaning for the method (ConfigError)."""
        if self.alone:
            METHODS[self.name].refuse(task, self.name)
            options_of(self.name, config)
        else:
            self.make(config, task)
            if teacher_sets(config) and self.crossfit:
                raise ConfigError(f"method {self.name!r} is cross-fitted, which teachers of teacher.sets cannot be.")
        for name in self.terms:
            METHODS[name].check_experiment(name, config, task, shapes)
        self._check_balance(config)

    def _check_balance(self, config: Config) -> None:
        """GradNorm needs weights that every term reaches."""
        if config.balance.kind != "gradnorm" or self.alone:
            return
        reached = [method.reaches for t in self.terms if issubclass(method := METHODS[t], Term)]
        if not shared_part(reached, self.hallucinates(config) == "encoder", not config.student.freeze):
            where = " and ".join(dict.fromkeys(reached))
            frozen = ", and student.freeze keeps the encoders" if config.student.freeze else ""
            raise ConfigError(
                f"balance.kind=gradnorm: the terms of method {self.name!r} share no weight that is trained (they reach "
                f"the student's {where}{frozen}). Set balance.kind=fixed or target-ratio."
            )

    @property
    def alone(self) -> bool:
        """Whether it is a whole method, not a sum of terms."""
        return issubclass(METHODS[self.terms[0]], Standalone)

    @property
    def irreplaceable(self) -> str:
        """Why a baseline cannot stand in for its teacher (self-distillation), as a verb's phrase; "" where it can."""
        for name in self.terms:
            method = METHODS[name]
            if issubclass(method, Standalone):
                return "has stages of its own and no teacher to replace"
            if method.compares_privileged:
                of_sum = f" ({name!r} does)" if len(self.terms) > 1 else ""
                return f"compares privileged features{of_sum}, and a baseline as its teacher has none"
        return ""

    def build(self, parts: Parts) -> tuple[Method, Tensor | None]:
        """The method of its last stage, the earlier ones done, and the cross-fitted teacher of each row."""
        self.check(parts.config, parts.task, parts.data.preprocessor.shapes)
        method = METHODS[self.terms[0]]
        if issubclass(method, Standalone):
            return method.build(parts, **options_of(self.name, parts.config)), None
        return self._distillation(parts)

    def _distillation(self, parts: Parts) -> tuple[Method, Tensor | None]:
        alone = parts.job.control == "self"
        taught_by = parts.lent("baseline" if alone else "teacher", "" if alone else parts.job.control)
        slots = "" if alone else self.hallucinates(parts.config)
        teachers: Teacher | dict[str, Teacher] = taught_by.teacher(self.crossfit)
        part = teachers.part if isinstance(teachers, Teacher) else None
        if (sets := teacher_sets(parts.config)) and not alone:
            teachers = {name: parts.teacher_on(members) for name, members in sets.items()}
        student = parts.student(taught_by.network_of_job(), slots)
        terms = self.make(parts.config, parts.task)
        parts.seed()
        return Distillation(student, teachers, parts.task, terms, parts.rows()), part

    def hallucinates(self, config: Config) -> str:
        """What the student has in the place of the privileged encoders: "", "t-net" or "encoder"."""
        choice = config.student.hallucinate
        if choice != "auto":
            return "" if choice == "no" else choice
        kinds = [METHODS[t].hallucinates for t in self.terms]
        return "encoder" if "encoder" in kinds else "t-net" if "t-net" in kinds else ""


def options_of(name: str, config: Config) -> dict[str, Any]:
    """The settings that the experiment gives for one method, checked against what it takes."""
    method, values = METHODS[name], config.options.get(name, {})
    if method.section and values:
        raise ConfigError(f"options.{name}: the settings of {name} are called {method.section}.{next(iter(values))}.")
    taken = method.build if issubclass(method, Standalone) else method
    settings = read_arguments(taken, values, f"options.{name}")
    check_ranges(f"options.{name}", method.ranges, settings)
    return settings


def check_options(config: Config) -> None:
    """Refuse settings of a method that does not exist, or that it does not have (ConfigError)."""
    for name, values in config.options.items():
        if name not in METHODS:
            raise ConfigError(unknown("method of options", name, METHODS))
        if not isinstance(values, dict):
            raise ConfigError(f"options.{name}: expected settings, e.g. options.{name}.weight=0.5, not {values!r}.")
        options_of(name, config)


def parse_methods(names: Iterable[str]) -> list[Recipe]:
    """Every name read, each once."""
    return [Recipe.parse(name) for name in dict.fromkeys(names)]


__all__ = [
    "CONTROLS", "METHODS", "Clock", "Distillation", "Hallucination", "Method", "Recipe", "Said", "Standalone",
    "Step", "Supervised", "Teacher", "Term", "check_options", "options_of", "parse_methods",
]  # fmt: skip
