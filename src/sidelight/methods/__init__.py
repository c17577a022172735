"""The methods by name, and how a method's name in an experiment is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sidelight.config import Config
from sidelight.errors import ConfigError, unknown
from sidelight.methods.base import Clock, Method, Step, Supervised
from sidelight.methods.distillation import Distillation, Hallucination, Teacher, Term
from sidelight.methods.pointwise import KL, MSE, Cosine
from sidelight.methods.structural import PKDOT, PKDOTReleased, PKDOTSidelight
from sidelight.tasks import Task

METHODS: dict[str, type[Term]] = {
    "kl": KL,
    "mse": MSE,
    "cosine": Cosine,
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
        body, _, suffix = name.partition("@")
        if suffix not in ("", "crossfit"):
            raise ConfigError(unknown("method suffix", "@" + suffix, ["@crossfit"]))
        terms = tuple(body.split("+"))
        for term in terms:
            if term in CONTROLS:
                raise ConfigError(f"{term!r} is part of every comparison; leave it out of `methods`.")
            if term not in METHODS:
                raise ConfigError(unknown("method", term, METHODS))
        if len(set(terms)) < len(terms):
            raise ConfigError(f"method {name!r} names a term twice; set its weight instead.")
        return cls(name, terms, bool(suffix))

    def build(self, config: Config, task: Task) -> dict[str, Term]:
        """The terms with the experiment's settings, refused where they have no meaning for the task."""
        terms = {name: METHODS[name].from_config(config) for name in self.terms}
        for name, term in terms.items():
            term.check(task, name)
        return terms

    def hallucinates(self, config: Config) -> bool:
        """Whether the student has T-Nets in the place of the privileged encoders."""
        choice = config.student.hallucinate
        return choice == "yes" or (choice == "auto" and any(METHODS[t].hallucinates for t in self.terms))


def parse_methods(names: Iterable[str]) -> list[Recipe]:
    """Every name read, each once."""
    return [Recipe.parse(name) for name in dict.fromkeys(names)]


__all__ = [
    "CONTROLS", "METHODS", "Clock", "Distillation", "Hallucination", "Method", "Recipe", "Step", "Supervised",
    "Teacher", "Term", "parse_methods",
]  # fmt: skip
