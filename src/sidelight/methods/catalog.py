"""What the code says of its methods, for `sidelight methods` and for the tables of docs/methods.md."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sidelight.methods import METHODS, MultiStageMethod
from sidelight.tasks import TASKS

SLOTS = {"": "", "t-net": "T-Net", "encoder": "own encoder"}


@dataclass(frozen=True)
class Facts:
    """One method, read off its class.

    cost: time of a training step relative to `kl` on the same networks (benchmarks/methods.py); None: not measured.
    settings: argument -> default, set by `options.<name>.<argument>`.
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


def facts(name: str) -> Facts:
    """What the registry knows of a method."""
    method = METHODS[name]
    summary = " ".join((method.__doc__ or "").partition("\n\n")[0].split())
    taken = inspect.signature(method.build if issubclass(method, MultiStageMethod) else method).parameters.values()
    settings = {p.name: p.default for p in taken if p.default is not p.empty and not method.section}
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
        settings,
    )


@cache
def costs() -> dict[str, float]:
    """Measured step times relative to `kl`; written by benchmarks/methods.py."""
    stored = files("sidelight.methods") / "costs.json"
    return dict(json.loads(stored.read_text())["relative"]) if stored.is_file() else {}


def documentation() -> str:
    """The generated part of docs/methods.md."""
    return "\n".join(_lines())


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
    yield "Settings, `options.<name>.<setting>`; those of `pkdot` are called `transport.<setting>`:"
    yield ""
    yield "| method | settings |"
    yield "|---|---|"
    for one in every:
        if one.settings:
            yield f"| `{one.name}` | " + ", ".join(f"`{n}={v}`" for n, v in one.settings.items()) + " |"
