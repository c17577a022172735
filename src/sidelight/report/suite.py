"""The page of a suite: a table of methods and data sets, what to expect on a next set, and average ranks."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sidelight.errors import RunError, SidelightWarning
from sidelight.report.page import read_style
from sidelight.report.style import COLOUR, WIDTH, hide_frame, new_figure, to_svg
from sidelight.results import Comparison, budgets, compare, load_results, metric_columns
from sidelight.results.across import (
    FEWEST_RANKED,
    Across,
    Line,
    compare_sets,
    describe,
    list_lines,
    list_rows,
    summarize,
    table_of_sets,
)
from sidelight.results.budget import ALL_LABELS, BASELINE, REFERENCES, TEACHER
from sidelight.results.formulas import escape_formulas
from sidelight.results.store import SUITE
from sidelight.results.units import labels_phrase, metric_name, number, percent, unit
from sidelight.results.verdict import span
from sidelight.runs.failures import load_failures
from sidelight.runs.plan import read_plan
from sidelight.utils.atomic import write_atomic


@dataclass
class StoredSuite:
    """The folder of a suite.

    Args:
        folder: the folder, which holds a run folder for each set.
        sets: names of the sets.
        failures: set -> the error that ended its run.
        left_out: set -> shared method that it cannot have -> why.
    """

    folder: Path
    sets: list[str]
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path) -> StoredSuite:
        """Read the folder of a suite; RunError if it is none."""
        file = Path(folder) / SUITE
        try:
            read = json.loads(file.read_text("utf-8"))
            sets = [str(name) for name in read["sets"]]
            failures = {str(k): str(v) for k, v in read.get("failures", {}).items()}
            left_out = {str(k): {str(m): str(w) for m, w in v.items()} for k, v in read.get("left_out", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(f"{folder} is not the folder of a suite: {SUITE} cannot be read ({error}).") from None
        return cls(Path(folder), sets, failures, left_out)

    def save(self) -> None:
        """Write suite.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"sets": self.sets, "failures": self.failures, "left_out": self.left_out}
        write_atomic(self.folder / SUITE, json.dumps(content, indent=1))

    @cached_property
    def compared(self) -> dict[str, Comparison]:
        """Data set -> its comparison at its smallest label fraction; only sets where baseline and a method have run."""
        found: dict[str, Comparison] = {}
        self.fractions: dict[str, list[float]] = {}
        self.progress: dict[str, tuple[int, int]] = {}
        for name in self.sets:
            if not (self.folder / name / "jobs").is_dir():
                continue
            results = load_results(self.folder / name)
            self.progress[name] = (len(results), max(len(read_plan(self.folder / name)), len(results)))
            if not len(results) or not metric_columns(results):
                continue
            c = compare(results)
            if BASELINE in c.rows and c.budget.methods:
                found[name] = c
                self.fractions[name] = budgets(results)
        return found

    @cached_property
    def across(self) -> Across:
        """The comparison over the sets."""
        return compare_sets(self.compared)


def write_suite_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a suite, finished or not, beside suite.csv (a row per set and row of its table) and across.csv.

    Args:
        folder: the suite's folder.
        out: the HTML file; None: `<folder>/suite.html`.

    Returns:
        The path of the HTML file.
    """
    stored = StoredSuite.load(folder)
    out = Path(out) if out is not None else stored.folder / "suite.html"
    write_atomic(out, render_suite(stored))
    try:
        for name, frame in (("suite.csv", list_rows(stored.compared)), ("across.csv", list_lines(stored.across))):
            write_atomic(stored.folder / name, escape_formulas(frame).to_csv(index=False))
    except RunError as error:
        warnings.warn(f"{out} is written, but {error}", SidelightWarning, stacklevel=2)
    return out


def render_suite(stored: StoredSuite) -> str:
    """Render the page of a suite as HTML."""
    env = Environment(loader=PackageLoader("sidelight.report"), autoescape=True, undefined=StrictUndefined)
    env.filters["glued"] = lambda text: text.replace(" %", "\u00a0%")
    env.trim_blocks = env.lstrip_blocks = True
    a, sets = stored.across, stored.compared
    own = [line for line in a.lines if line.against == BASELINE]
    placebos = {line.method: line for line in a.lines if line.against == "placebo"}
    context: dict[str, Any] = {
        "title": stored.folder.resolve().name,
        "style": Markup(read_style()),
        "facts": _list_facts(stored),
        "lead": summarize(a) if sets else "No data set has results yet, so nothing can be compared.",
        "failures": stored.failures,
        "waiting": [n for n in stored.sets if n not in sets and n not in stored.failures],
        "columns": [_head(stored, name, c) for name, c in sets.items()],
        "rows": _fill_table(sets),
        "lines": [_write_line(line, placebos.get(line.method), a) for line in own if line.posterior is not None],
        "has_placebo": any(line.posterior is not None for line in placebos.values()),
        "sentences": [describe(line, a) for line in own],
        "rope": a.unit.threshold(a.rope),
        "ranks": plot_ranks(a.ranks) if a.ranks else None,
        "ranked": len(sets),
        "fewest_ranked": FEWEST_RANKED,
        "notes": [*a.notes, *_list_notes(stored)],
        "unsuited": [(name, m, why) for name, found in stored.left_out.items() for m, why in found.items()],
    }
    return env.get_template("suite.html.j2").render(context)


def _list_facts(stored: StoredSuite) -> list[tuple[str, str]]:
    sets = stored.compared
    jobs, planned = (sum(pair[i] for pair in stored.progress.values()) for i in (0, 1))
    metrics = dict.fromkeys(metric_name(c.metric) for c in sets.values())
    facts = [
        ("data sets", f"{len(sets)} of {len(stored.sets)} have results"),
        ("methods", str(len(stored.across.methods))),
        ("metric" if len(metrics) == 1 else "metrics", ", ".join(metrics)),
        ("jobs", f"{jobs}" if jobs == planned else f"{jobs} of {planned} finished"),
    ]
    return [(name, value) for name, value in facts if value]


def _head(stored: StoredSuite, name: str, c: Comparison) -> dict[str, str]:
    u = unit(c.metric)
    metric = f"{metric_name(c.metric)}{', %' if u.factor == 100 else ''}"
    return {"name": name, "metric": metric, "labels": "" if c.label_fraction >= 1 else percent(c.label_fraction)}


def _fill_table(sets: Mapping[str, Comparison]) -> list[dict[str, Any]]:
    """A row per method: in each set its mean, and its difference to the baseline with half of its interval."""
    rows = []
    for name in table_of_sets(sets).index:
        cells = []
        for c in sets.values():
            row, u = c.rows.get(name), unit(c.metric)
            if row is None:
                cells.append({"mean": "", "difference": "", "bold": False})
                continue
            d = row.difference
            # One pair has no interval.
            half = f" ± {u.score(d.half)}" if math.isfinite(d.half) else " (one pair)"
            shown = f"{u.difference(d.mean)}{half}" if name != BASELINE and d.n else ""
            cells.append({"mean": u.score(row.mean), "difference": shown, "bold": row.bold})
        role = "reference" if name in (BASELINE, TEACHER, ALL_LABELS, *REFERENCES) else "method"
        rows.append({"name": name, "role": role, "cells": cells})
    return rows


def _write_line(line: Line, placebo: Line | None, a: Across) -> dict[str, Any]:
    assert line.posterior is not None
    u, (average, ahead, p, _) = a.unit, line.posterior
    odds = [(key, number(100 * value, ".0f"), value) for key, value in p._asdict().items()][::-1]
    effect = placebo.posterior.average if placebo is not None and placebo.posterior is not None else None
    return {
        "name": line.method,
        "verdict": line.verdict,
        "average": u.difference(average.mean),
        "average_span": span(u, average),
        "next": u.difference(ahead.mean),
        "next_span": span(u, ahead),
        "odds": odds,
        "effect": "" if effect is None else u.difference(effect.mean),
        "effect_span": "" if effect is None else span(u, effect),
        "sets": len(line.sets),
    }


def _list_notes(stored: StoredSuite) -> list[str]:
    """Sets that have several label fractions, that share their rows, or that some line leaves out."""
    notes = []
    several = [name for name, shares in stored.fractions.items() if len(shares) > 1]
    if several:
        least = ", ".join(f"{n} with {labels_phrase(min(stored.fractions[n]))}" for n in several)
        notes.append(
            f"Of several label fractions the smallest is compared here: {least}. The reports of the sets have all."
        )
    by_data: dict[str, list[str]] = {}
    for name in stored.compared:
        by_data.setdefault(_source(stored.folder / name), []).append(name)
    for source, names in by_data.items():
        if source and len(names) > 1:
            notes.append(
                f"{' and '.join(names)} read the same file: what is found on one is likely on the other, which the "
                "comparison over sets takes to be independent."
            )
    failed = {name: len(load_failures(stored.folder / name)) for name in stored.compared}
    if lost := [f"{count} of {name}" for name, count in failed.items() if count]:
        notes.append(f"Jobs that failed, which the reports of the sets list: {', '.join(lost)}.")
    reasons: dict[str, list[str]] = {}
    for line in stored.across.lines:
        if line.against == BASELINE:
            for name, why in line.left_out.items():
                reasons.setdefault(f"{name}: {why}", []).append(line.method)
    for why, methods in reasons.items():
        if len(methods) < len(stored.across.methods):
            notes.append(f"Left out of the comparison over sets for {', '.join(methods)}: {why}.")
    return notes


def _source(run: Path) -> str:
    """The path or name of a run's data; "" if it is not known."""
    try:
        environment = json.loads((run / "environment.json").read_text("utf-8"))
        return str(environment["data"].get("source", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def plot_ranks(ranks: Mapping[str, float]) -> Markup:
    """Plot average ranks: a dot for each entry, the best at the top."""
    names = [*ranks]
    with new_figure(WIDTH * 1.25, 0.7 + 0.2 * len(names)) as fig:
        axes = fig.add_subplot()
        for y, name in enumerate(names):
            colour = COLOUR["baseline" if name == BASELINE else "student"]
            axes.plot([1, ranks[name]], [y, y], color=COLOUR["line"], linewidth=1, zorder=1)
            axes.plot([ranks[name]], [y], "o", color=colour, markersize=5, zorder=2)
            axes.text(ranks[name] + 0.012 * len(names) + 0.1, y, f"{ranks[name]:.1f}", va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(1, math.ceil(max(ranks.values())) + 1)
        axes.set_xlabel("average rank over the data sets, 1 is best")
        hide_frame(axes, "x")
        return to_svg(fig, "ranks", "Average ranks: " + "; ".join(f"{n} {r:.1f}" for n, r in ranks.items()))
