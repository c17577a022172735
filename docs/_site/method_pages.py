"""A page for every registered method: what it is, a picture of it, its settings, and what our results say of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

from _site.diagram import draw
from _site.evidence import Row, concerning, read_regimes, read_results
from _site.forest import forest
from _site.networks import describe
from _site.pages import write_pages
from sidelight.methods import METHODS
from sidelight.methods.catalog import MethodSummary, summarize_method
from sidelight.utils.yaml12 import read_yaml

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results.md"
WHEN = Path(__file__).with_name("when_to_use.yaml")


def write(folder: Path) -> None:
    """Write a page for each method."""
    write_pages(folder, {f"{name}.md": text for name, text in pages().items()})


def pages() -> dict[str, str]:
    """Name of a method -> its page."""
    measured, made_up = read_results(RESULTS), read_regimes(tuple(METHODS))
    when = dict(read_yaml(WHEN))
    made = {}
    for name in METHODS:
        found = concerning(name, measured), concerning(name, made_up)
        made[name] = page(summarize_method(name), str(when.get(name, "")), *found)
    return made


def page(method: MethodSummary, when: str, measured: Sequence[Row], made_up: Sequence[Row]) -> str:
    """The page of a method in Markdown."""
    parts = [
        f"# `{method.name}`",
        method.summary,
        *([f"**When to use it.** {when}"] if when else []),
        draw(describe(method.name)),
        "\n".join(facts(method)),
        *(["## What it computes", method.details] if method.details else []),
        "## Settings",
        "\n".join(settings(method)),
        "## What our results say",
        "\n".join(evidence(method.name, measured, made_up)),
        "## Source",
        source(method),
    ]
    return "\n\n".join(parts) + "\n"


def facts(method: MethodSummary) -> Iterator[str]:
    """A table of what a reader compares methods by."""
    cost = "not measured" if method.cost is None else f"{method.cost:.1f} × a step of [`kl`](kl.md)"
    order = "at once" if method.online else "one after the other"
    stacks = "yes" if method.stackable else "no"
    yield "| | |"
    yield "|---|---|"
    yield f"| Paper | {method.paper} |"
    yield f"| [Tasks](../tasks.md) | {', '.join(method.tasks)} |"
    yield f"| Trained | {order}: {' → '.join(method.stages)} |"
    yield f"| In place of the missing encoders | {method.slot or 'nothing'} |"
    yield f"| Cost of a training step | {cost} |"
    yield f"| Trains in [stacks](../stacking.md) | {stacks} |"


def settings(method: MethodSummary) -> Iterator[str]:
    """How to run it, and a table of its settings."""
    yield "```bash"
    yield f"sidelight run phone-watch --methods {method.name}"
    yield "```"
    yield ""
    if not method.described:
        yield "It has no settings."
        return
    if method.fixed:
        yield "It is a named preset, so its settings are fixed:"
        yield ""
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    for one in method.described:
        name, _, default = str(one).partition(": ")[0].partition("=")
        meaning = one.meaning.replace("|", "\\|")
        yield f"| `{name}` | `{default}` | {meaning} |"


def evidence(name: str, measured: Sequence[Row], made_up: Sequence[Row]) -> Iterator[str]:
    """What is known of the gain over the baseline: on real data, then in the regimes."""
    if not measured and not made_up:
        yield "Neither the [results](../results.md) nor the [regime map](../regimes.md) has a row of it yet."
        return
    yield (
        "Differences to the baseline in points (hundredths of the metric) with 95 % intervals. Dashed: the difference "
        "to its placebo, where it was run. Coloured: shown to help, by the rule of the page that is named "
        "([reading a report](../reading-a-report.md))."
    )
    for rows, title, link in (
        (measured, "On real data", "[results](../results.md)"),
        (made_up, "On made-up data", "[regime map](../regimes.md)"),
    ):
        yield ""
        if not rows:
            yield f"**{title}** it has not run ({link})."
            continue
        shown = sum(row.shown for row in rows)
        yield f"**{title}** ({link}): shown to help in {shown} of {len(rows)} rows."
        yield ""
        yield forest(rows, f"{name}, {title.lower()}: gain over the baseline in points")
        yield ""
        yield ":::{dropdown} The figures"
        yield "| question | method | score | − baseline | − its placebo |"
        yield "|---|---|---|---|---|"
        for row in rows:
            effect = row.effect.written if row.effect else ""
            yield f"| {row.question} | `{row.method}` | {row.score} | {row.gain.written} | {effect} |"
        yield ":::"


def source(method: MethodSummary) -> str:
    """Where the formula is from, and the code."""
    kind = METHODS[method.name]
    where = Path(inspect.getsourcefile(kind) or "").resolve().relative_to(ROOT).as_posix()
    code = [
        f":::{{dropdown}} The class, `{where}`",
        "```{literalinclude} ../../" + where,
        ":language: python",
        f":pyobject: {kind.__name__}",
        "```",
        ":::",
    ]
    return f"{method.paper}. In the terminal: `sidelight methods {method.name}`.\n\n" + "\n".join(code)
