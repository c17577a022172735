"""What the code says of its methods, for `sidelight methods` and for the tables of docs/methods.md."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from sidelight.config import Config
from sidelight.config.io import arguments_help, settings
from sidelight.methods import METHODS, DistillationLoss, MultiStageMethod
from sidelight.tasks import TASKS

SLOTS = {"": "", "t-net": "T-Net", "encoder": "own encoder"}


@dataclass(frozen=True)
class MethodSetting:
    """A setting of a method: its full name in an experiment, its default, and what it means."""

    name: str
    default: object
    meaning: str

    def __str__(self) -> str:
        default = (
            "null"
            if self.default is None
            else str(self.default).lower()
            if isinstance(self.default, bool)
            else self.default
        )
        return f"{self.name}={default}: {self.meaning}"


@dataclass(frozen=True)
class Facts:
    """One method, read off its class.

    cost: time of a training step relative to `kl` on the same networks (benchmarks/methods.py); None: not measured.
    settings: argument -> default, set by `options.<name>.<argument>`.
    described: every setting by its full name, with default and meaning.
    details: the docstring behind its first sentence.
    """

    name: str
    summary: str
    paper: str
    tasks: tuple[str, ...]
    stages: tuple[str, ...]
    online: bool
    slot: str
    cost: float | None
    settings: dict[str, object]
    described: tuple[MethodSetting, ...]
    fixed: bool
    details: str

    def about(self) -> list[str]:
        """Its facts in words."""
        cost = "not measured" if self.cost is None else f"{self.cost:.1f} × a step of kl"
        lines = [
            f"{self.paper}; {'online' if self.online else 'offline'}: {' → '.join(self.stages)}; {cost}",
            f"tasks: {', '.join(self.tasks)}",
        ]
        if self.settings:
            shown = ", ".join(f"{name}={value}" for name, value in self.settings.items())
            lines.append(f"settings (options.{self.name}.…): {shown}")
        return lines

    def whole(self) -> list[str]:
        """Everything that is known of it, one paragraph each."""
        lines = [*filter(None, self.details.split("\n\n")), *self.about()[:2]]
        if self.fixed:
            lines.append("its settings are fixed:")
        return [*lines, *(str(setting) for setting in self.described)]


def facts(name: str) -> Facts:
    """What the registry knows of a method."""
    method = METHODS[name]
    summary = " ".join((method.__doc__ or "").partition("\n\n")[0].split())
    arguments = {} if method.section else method.defaults()
    stages = (*method.stages[:-1], "T-Net", method.stages[-1]) if method.hallucinates == "t-net" else method.stages
    return Facts(
        name,
        summary,
        method.paper,
        tuple(task for task, kind in TASKS.items() if method.means_something(kind)),
        stages,
        method.online,
        SLOTS[method.hallucinates],
        costs().get(name),
        arguments,
        tuple(_described(name)),
        method.fixed(),
        _details(method),
    )


def _described(name: str) -> Iterator[MethodSetting]:
    """The settings by their full names; their meanings stand under `Args:` of the class, of its bases, or of `build`,
    those of a section in the schema."""
    method = METHODS[name]
    meanings: dict[str, str] = {}
    for documented in (*reversed(method.__mro__), *([method.build] if issubclass(method, MultiStageMethod) else [])):
        meanings |= arguments_help(documented)
    schema = settings(Config)
    for setting, default in method.defaults().items():
        full = f"{method.section or f'options.{name}'}.{setting}"
        meaning = schema[full].help.partition("; null:")[0] + "." if method.section else meanings.get(setting, "")
        yield MethodSetting(full, default, meaning)


def _details(method: type) -> str:
    """The docstring behind its first sentence and before its `Args:`; of a class without one, its base's."""
    for documented in method.__mro__:
        text = inspect.cleandoc(documented.__doc__ or "").partition("\n\n")[2].partition("Args:\n")[0].strip()
        if text or documented is DistillationLoss:
            return text if documented is not DistillationLoss else ""
    return ""


@cache
def costs() -> dict[str, float]:
    """Measured step times relative to `kl`; written by benchmarks/methods.py."""
    stored = files("sidelight.methods") / "costs.json"
    return dict(json.loads(stored.read_text())["relative"]) if stored.is_file() else {}


def documentation() -> str:
    """The generated part of docs/methods.md."""
    return "\n".join(_lines())


def write_documentation(page: Path) -> None:
    """Put the generated part where the page has it, between its two comments."""
    text = page.read_text("utf-8")
    made = re.sub(
        r"(<!-- made by [^\n]*-->\n).*?(\n?<!-- end -->)", lambda m: m[1] + documentation() + m[2], text, flags=re.S
    )
    if made != text:
        page.write_text(made, "utf-8")


def _lines() -> Iterator[str]:
    every = [facts(name) for name in METHODS]
    yield "| name | what | paper | stages | privileged slots of the student | step, × kl |"
    yield "|---|---|---|---|---|---|"
    for one in every:
        kind = "online: " if one.online else ""
        cost = "" if one.cost is None else f"{one.cost:.1f}"
        stages = " → ".join(one.stages)
        yield f"| `{one.name}` | {one.summary} | {one.paper} | {kind}{stages} | {one.slot or 'none'} | {cost} |"
    yield ""
    yield "On which task each has a meaning; elsewhere it is refused with a sentence that says what to use instead:"
    yield ""
    yield "| method | " + " | ".join(TASKS) + " |"
    yield "|---|" + "---|" * len(TASKS)
    for one in every:
        yield f"| `{one.name}` | " + " | ".join("yes" if task in one.tasks else "–" for task in TASKS) + " |"
    yield ""
    yield "Settings, `options.<name>.<setting>`; `sidelight methods NAME` says what each means:"
    yield ""
    yield "| method | settings |"
    yield "|---|---|"
    for one in every:
        section = METHODS[one.name].section
        shown = {s.name if section else s.name.rpartition(".")[2]: s.default for s in one.described}
        if shown:
            fixed = " (fixed)" if one.fixed else ""
            yield f"| `{one.name}` | " + ", ".join(f"`{n}={v}`" for n, v in shown.items()) + f"{fixed} |"


if __name__ == "__main__":
    write_documentation(Path(sys.argv[1]))
