"""The metadata of methods, read from their classes: for `sidelight methods` and the tables of docs/methods.md."""

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
    """A setting of a method.

    Attributes:
        name: its full name in an experiment.
        default: its default.
        meaning: its description.
    """

    name: str
    default: object
    meaning: str

    def __str__(self) -> str:
        # As YAML writes them.
        default = self.default
        if default is None:
            default = "null"
        elif isinstance(default, bool):
            default = str(default).lower()
        return f"{self.name}={default}: {self.meaning}"


@dataclass(frozen=True)
class MethodSummary:
    """The metadata of a method, read from its class.

    Attributes:
        name: its registered name.
        summary: the first sentence of its docstring.
        paper: its source.
        tasks: the tasks that it supports.
        stages: the networks that are trained, in order.
        online: whether teacher and student are trained together.
        stackable: whether several of its students can be trained as one model (`training.stack`).
        slot: what fills the privileged slots of the student; "" for none.
        cost: the time of a training step relative to `kl` (benchmarks/methods.py); None if it was not measured.
        settings: argument -> default, set by `options.<name>.<argument>`.
        described: every setting by its full name, with default and meaning.
        fixed: whether the settings cannot be changed.
        details: the docstring after its first sentence.
    """

    name: str
    summary: str
    paper: str
    tasks: tuple[str, ...]
    stages: tuple[str, ...]
    online: bool
    stackable: bool
    slot: str
    cost: float | None
    settings: dict[str, object]
    described: tuple[MethodSetting, ...]
    fixed: bool
    details: str

    def about(self) -> list[str]:
        """Lines that describe the method in short."""
        cost = "not measured" if self.cost is None else f"{self.cost:.1f} × a step of kl"
        cost += "; trained in stacks" if self.stackable else ""
        lines = [
            f"{self.paper}; {'online' if self.online else 'offline'}: {' → '.join(self.stages)}; {cost}",
            f"tasks: {', '.join(self.tasks)}",
        ]
        if self.settings:
            shown = ", ".join(f"{name}={value}" for name, value in self.settings.items())
            lines.append(f"settings (options.{self.name}.…): {shown}")
        return lines

    def whole(self) -> list[str]:
        """Paragraphs that describe the method in full."""
        lines = [*filter(None, self.details.split("\n\n")), *self.about()[:2]]
        if self.fixed:
            lines.append("its settings are fixed:")
        return [*lines, *(str(setting) for setting in self.described)]


def summarize_method(name: str) -> MethodSummary:
    """Read the metadata of a registered method."""
    method = METHODS[name]
    summary = " ".join((method.__doc__ or "").partition("\n\n")[0].split())
    arguments = {} if method.section else method.defaults()
    stages = (*method.stages[:-1], "T-Net", method.stages[-1]) if method.hallucinates == "t-net" else method.stages
    return MethodSummary(
        name,
        summary,
        method.paper,
        tuple(task for task, kind in TASKS.items() if method.supports_task(kind)),
        stages,
        method.online,
        method.stackable,
        SLOTS[method.hallucinates],
        costs().get(name),
        arguments,
        tuple(_described(name)),
        method.fixed(),
        _details(method),
    )


def _described(name: str) -> Iterator[MethodSetting]:
    """Describe the settings of a method.

    The descriptions come from `Args:` of the class, of its bases or of `build`; those of a section from its schema.
    """
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
    """The docstring of a class between its first sentence and `Args:`; that of its base if it has none."""
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
    """Write the generated part into a page, between its two comments."""
    text = page.read_text("utf-8")
    made = re.sub(
        r"(<!-- made by [^\n]*-->\n).*?(\n?<!-- end -->)", lambda m: m[1] + documentation() + m[2], text, flags=re.S
    )
    if made != text:
        page.write_text(made, "utf-8")


def _lines() -> Iterator[str]:
    every = [summarize_method(name) for name in METHODS]
    yield "| name | what | paper | stages | privileged slots of the student | step, × kl | in stacks |"
    yield "|---|---|---|---|---|---|---|"
    for one in every:
        kind = "online: " if one.online else ""
        cost = "" if one.cost is None else f"{one.cost:.1f}"
        stages, stacks = " → ".join(one.stages), "yes" if one.stackable else "–"
        about = f"{one.summary} | {one.paper} | {kind}{stages} | {one.slot or 'none'}"
        yield f"| `{one.name}` | {about} | {cost} | {stacks} |"
    yield ""
    yield "The tasks that each method supports. On another task a run stops with an error that names an alternative:"
    yield ""
    yield "| method | " + " | ".join(TASKS) + " |"
    yield "|---|" + "---|" * len(TASKS)
    for one in every:
        yield f"| `{one.name}` | " + " | ".join("yes" if task in one.tasks else "–" for task in TASKS) + " |"
    yield ""
    yield "Settings, `options.<name>.<setting>`; `sidelight methods NAME` describes each:"
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
