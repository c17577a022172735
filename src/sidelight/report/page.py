"""Puts the page together: what the template shows, section by section."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sidelight.report import comparisons, outcomes, structure, training
from sidelight.report.stored import Stored
from sidelight.report.style import PALETTE, role_colour
from sidelight.report.subsets import Subsets, subsets
from sidelight.results import Comparison, Interval, Row, budgets, compare, metric_columns, verdict
from sidelight.results.budget import BASELINE, BLOCKS, COUNTED, TEACHER
from sidelight.results.chance import DESCRIBED
from sidelight.results.units import Unit, labels_phrase, metric_name, number, percent, unit
from sidelight.results.verdict import span, write_sentence

VERDICTS = {
    "better": "helps",
    "equal": "practically equal",
    "worse": "does not help",
    "unclear": "not shown to help",
    "unknown": "cannot be judged yet",
}

OVERLAP = (
    "The training sets of folds overlap, so {n} {counted} are not {n} independent experiments: intervals are {level:g} "
    "% by the corrected resampled t (Nadeau and Bengio), probabilities by the correlated Bayesian t-test. Both speak "
    "of this data set and this recipe, not of others."
)
PAIRS = {
    "pairs": "A pair is one fold of one seed, trained with and without distillation. " + OVERLAP,
    "folds": "A fold's test rows are the same with every seed, so seeds repeat them: differences are averaged over "
    "seeds, and n counts folds. " + OVERLAP,
    "seeds": "There is one official test set, which every seed repeats: intervals ({level:g} %, plain t over {n} "
    "seeds) and probabilities cover initial weights and what else a seed draws, not other test rows. Even a sure gain "
    "may be one of these test rows only.",
}
EQUAL = (
    "“Equal” means that the true difference is at most {threshold}. The best method is chosen on the select rows; test "
    "rows are read once and choose nothing."
)
MANY = (
    "{count} methods are compared with the baseline, each with its own interval. Of many true zeros one in twenty "
    "looks like an effect: trust the one chosen on select more than the one that happens to lead here."
)
NO_PLACEBO = (
    "No placebo has been run. A gain may then come from distillation itself (softer targets, regularisation, more rows "
    "with a target) and not from the privileged modalities."
)
PLACEBO = (
    "The placebo is the same recipe with the privileged rows shuffled over the training rows, so that they tell "
    "nothing. The privileged effect is the method minus its placebo."
)
UNFINISHED = (
    "The run is not finished. Numbers will move, and whoever stops a run when it looks good makes it look too good: "
    "let it end."
)
MISSING = "Some pairs lack one side (unfinished or unreadable jobs). They are left out of the differences."
SKIPPED_SHOWN = 5
LOWER = "Lower {metric} is better; differences are turned so that positive is better."


@dataclass
class Line:
    """One line of the table as text."""

    name: str
    row: Row
    swatch: str
    mean: str
    sd: str
    difference: str
    interval: str
    odds: list[tuple[str, str, float]]
    gap: str
    gap_interval: str
    effect: str
    effect_interval: str
    seconds: str
    pairs: str


@dataclass
class Section:
    """The answer at one label budget."""

    heading: str
    sentence: str
    kind: str
    verdict: str
    lines: list[Line]
    has_gap: bool
    has_effect: bool
    notes: list[str]
    remarks: list[str]
    counted: str
    dots: str
    wide: Markup
    narrow: Markup
    others: list[tuple[str, list[str]]]


@dataclass
class Evidence:
    """What lies behind the answer at one label budget: who gains, what is confused, the student's space, training."""

    heading: str
    best: str | None
    groups: dict[str, Any] | None
    subsets: Subsets | None
    outcome: list[Markup]
    maps: Markup | None
    structure: structure.Structure | None
    training: list[Markup]


def render(stored: Stored) -> str:
    """The whole page."""
    env = Environment(loader=PackageLoader("sidelight.report"), autoescape=True, undefined=StrictUndefined)
    env.filters["glued"] = lambda text: text.replace(" %", "\u00a0%")
    env.trim_blocks = env.lstrip_blocks = True
    results = stored.results
    usable = len(results) > 0 and len(metric_columns(results)) > 0
    comparisons_ = [compare(results, share) for share in budgets(results)] if usable else []
    main = comparisons_[0] if comparisons_ else None
    unfinished = stored.progress is not None and stored.progress[0] < stored.progress[1]
    context: dict[str, Any] = {
        "title": str(stored.data.get("name") or stored.config.get("data") or stored.run.resolve().name),
        "style": Markup(_style()),
        "question": question(stored),
        "progress": stored.progress,
        "unfinished": unfinished,
        "jobs": len(results),
        "sections": [section(results, c, alone=len(comparisons_) == 1) for c in comparisons_],
        "main": main,
        "several": len(comparisons_) > 1,
        "curve": comparisons.budget_curve(comparisons_) if len(comparisons_) > 1 else None,
        "evidence": [evidence(stored, c) for c in comparisons_],
        "task": stored.task,
        "caveats": caveats(comparisons_, unfinished),
        "config": stored.config_text.strip(),
        "environment": _environment(stored),
    }
    context["notes"] = stored.notes  # last: reading the rest adds to them
    return env.get_template("report.html.j2").render(context)


def question(stored: Stored) -> list[tuple[str, str]]:
    """What was asked, as the configuration says it."""
    config = stored.config

    def names(key: str) -> str:
        value = config.get(key)
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")

    target = names("target") or stored.data.get("target", "")
    target = target or (", ".join(stored.labels) if stored.task == "regression" else "")
    classes = f"one of {', '.join(stored.labels)}" if stored.task != "regression" and stored.labels else ""
    classes = f"of every pixel {classes}" if stored.task == "segmentation" else classes
    asked = config.get("protocol") == BLOCKS or config.get("protocol") not in COUNTED
    folds = config.get("folds") if asked else None  # elsewhere the data say how many, not the setting
    counted = ((folds, "fold"), (config.get("seeds"), "seed"))
    repeated = " × ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counted if isinstance(n, int))
    protocol = ", ".join(p for p in (names("protocol").replace("auto", ""), repeated) if p)
    rows = [
        ("Reads at deployment", names("available")),
        ("In training only", names("privileged")),
        ("Task", _named_task(stored)),
        ("Predicts", ", ".join(p for p in (target, classes) if p)),
        ("Protocol", protocol),
        ("Split by", group_name(stored)),
        ("Rows", _rows(stored)),
        ("Labels kept", _labels_kept(stored)),
    ]
    return [(name, value) for name, value in rows if value]


def _named_task(stored: Stored) -> str:
    """A task that the target alone does not say, with its settings."""
    name, live = str(stored.results.attrs.get("task", "")), stored.config.get("live")
    if name == stored.task:
        return ""
    return f"{name}, live: {live}" if live else name


def group_name(stored: Stored) -> str:
    """What the data call their groups: "subject", "session", …"""
    return str(stored.config.get("group") or stored.data.get("group") or "")


def _rows(stored: Stored) -> str:
    """How many there are, in how many a modality is missing, how many single values are imputed and rows skipped."""
    data, gaps = stored.data, []
    for m, n in dict(data.get("missing") or {}).items():
        gaps.append(f"{n} lack {m}")
    if n := int(data.get("skipped") or 0):
        gaps.append(
            f"{n} more {'was' if n == 1 else 'were'} skipped, whose recordings cannot be read{_named(stored, n)}"
        )
    for m, n in dict(data.get("imputed") or {}).items():
        gaps.append(f"{n} value{'s' * (n != 1)} of {m} imputed (the train rows' mean)")
    return "; ".join([str(data["rows"]), *gaps]) if "rows" in data else ""


def _named(stored: Stored, count: int) -> str:
    """The first skipped rows by id and modality, and where all of them stand with their reasons."""
    table = stored.skipped
    if table is None:
        return " (skipped.csv)"
    first = [f"{row['id']} ({row['modality']})" for _, row in table.head(SKIPPED_SHOWN).iterrows()]
    return f": {', '.join(first)}{', …' * (count > len(first))} (skipped.csv says why)"


def _labels_kept(stored: Stored) -> str:
    """Shares of groups, what they are in rows, and what select rows have to do with it."""
    shares = budgets(stored.results) if len(stored.results) else []
    if not shares:
        return ""
    text = f"of {', '.join(f'{100 * s:g} %' for s in shares)} of the training groups"
    sizes = [size for s in shares if (size := stored.train_rows(s)) is not None]
    if sizes:
        text += f": {', '.join(f'{kept} of {rows}' for kept, rows in sizes)} train rows (median over folds and seeds)"
    return text + "; select rows keep theirs and choose epochs"


def section(results: pd.DataFrame, c: Comparison, alone: bool) -> Section:
    """alone: there is no other label budget."""
    u = unit(c.metric)
    kind = verdict(c.rows[c.best]) if c.best is not None and BASELINE in c.rows else "unknown"
    others = [m for m in metric_columns(results) if m != c.metric]
    table = [[name, *(unit(m).score(c.budget.mean(name, m)) for m in others)] for name in c.rows]
    return Section(
        heading=labels_phrase(c.label_fraction),
        sentence=write_sentence(c, alone),
        kind=kind,
        verdict=VERDICTS[kind],
        lines=[line(name, row, c, u) for name, row in c.rows.items()],
        has_gap=any(r.gap.n for r in c.rows.values()),
        has_effect=any(math.isfinite(r.effect.mean) for r in c.rows.values()),
        notes=_notes(c),
        remarks=[remark.text for remark in c.remarks],
        counted=c.counted,
        dots={"pairs": "fold and seed", "folds": "fold, averaged over seeds", "seeds": "seed"}[c.counted],
        wide=comparisons.forest(c, narrow=False),
        narrow=comparisons.forest(c, narrow=True),
        others=[("", [metric_name(m) for m in others])] + [(r[0], r[1:]) for r in table] if others else [],
    )


def _notes(c: Comparison) -> list[str]:
    """What the protocol limits, the chance level, and what limits single rows, each note once."""
    notes = [f"{c.note[:1].upper()}{c.note[1:]}."] if c.note else []
    if math.isfinite(c.chance):
        told = DESCRIBED.get(c.task, "no input is read")
        notes.append(f"Chance on the same test rows is {unit(c.metric).score(c.chance)}: {told}.")
    of_rows: dict[str, list[str]] = {}
    for name, row in c.rows.items():
        if row.note:
            of_rows.setdefault(row.note, []).append(comparisons.label(name))
    return notes + [f"{', '.join(names)}: {note}." for note, names in of_rows.items()]


def evidence(stored: Stored, c: Comparison) -> Evidence:
    return Evidence(
        heading=labels_phrase(c.label_fraction),
        best=c.best,
        groups=_groups(stored, c),
        subsets=subsets(stored, c),
        outcome=_outcome(stored, c),
        maps=_maps(stored, c),
        structure=structure.structure(stored, c),
        training=training.curves(stored, c),
    )


def line(name: str, row: Row, c: Comparison, u: Unit) -> Line:
    compared = name != BASELINE and row.difference.n > 0
    p = {"better": row.p.better, "equal": row.p.equal, "worse": row.p.worse}
    odds = [(key, number(100 * value, ".0f"), value) for key, value in p.items()]
    gap = row.gap
    return Line(
        name=row.control if row.role == "control" else name,
        row=row,
        swatch=next(key for key, (light, _) in PALETTE.items() if light == role_colour(name, c.best)),
        mean=u.score(row.mean),
        sd=u.score(row.sd),
        difference=u.difference(row.difference.mean) if compared else "",
        interval=_bounds(row.difference, u) if compared else "",
        odds=odds if compared and math.isfinite(row.p.equal) else [],
        gap=percent(gap.mean) if gap.n else "",
        gap_interval=f"{percent(gap.low)} to {percent(gap.high)}" if math.isfinite(gap.low + gap.high) else "",
        effect=u.difference(row.effect.mean) if math.isfinite(row.effect.mean) else "",
        effect_interval=_bounds(row.effect, u),
        seconds=number(row.seconds, ".1f" if row.seconds < 100 else ".0f"),
        pairs=f"{row.n}",
    )


def _bounds(interval: Interval, u: Unit) -> str:
    return span(u, interval) if math.isfinite(interval.low) and math.isfinite(interval.high) else ""


def caveats(found: list[Comparison], unfinished: bool = False) -> list[str]:
    """What keeps the numbers from saying more than they do, for this run."""
    if not found:
        return []
    c, rows = found[0], list(found[0].rows.values())
    u, n = unit(c.metric), max((r.difference.n for r in rows), default=0)
    methods, placebos = [r for r in rows if r.role == "method"], {r.method for r in rows if r.control == "placebo"}
    without = [r.method for r in methods if r.method not in placebos]
    fixed = {
        PAIRS[c.counted].format(n=n, level=100 * c.level, counted=c.counted): True,
        EQUAL.format(threshold=u.threshold(c.rope)): True,
        MANY.format(count=len(methods)): len(methods) > 2,
        NO_PLACEBO: not placebos,
        PLACEBO + (f" Not run for: {', '.join(without)}." if without else ""): bool(placebos),
        UNFINISHED: unfinished,
        MISSING: any(r.missing for r in rows),
        LOWER.format(metric=metric_name(c.metric)): c.sign < 0,
    }
    return [text for text, applies in fixed.items() if applies]


def _outcome(stored: Stored, c: Comparison) -> list[Markup]:
    """Confusion matrices, or scatters per target, of the baseline and the best student."""
    shown = [name for name in (BASELINE, c.best) if name is not None and name in c.rows]
    said = {name: stored.predictions(name, c.label_fraction) for name in shown}
    said = {name: frame for name, frame in said.items() if len(frame)}
    if stored.task != "regression":
        return [
            outcomes.confusion(frame, stored.labels, name, c.label_fraction)
            for name, frame in said.items()
            if "target" in frame or stored.task == "segmentation"
        ]
    targets = [t for t in stored.labels if all(f"target.{t}" in frame for frame in said.values())]
    return [outcomes.scatter(frame, t, name, c.best, c.label_fraction) for t in targets for name, frame in said.items()]


def _maps(stored: Stored, c: Comparison) -> Markup | None:
    """Class maps of a few test rows of the first fold and seed: the truth, baseline, best student and teacher."""
    shown = [name for name in (BASELINE, c.best, TEACHER) if name is not None and name in c.rows]
    for pair in stored.folders(shown[0], c.label_fraction) if shown else ():
        found = {name: stored.examples(name, c.label_fraction, pair) for name in shown}
        found = {name: maps for name, maps in found.items() if maps}
        if found:
            panels = [("truth", next(iter(found.values()))["target"])]
            return outcomes.maps(
                panels + [(n, f["prediction"]) for n, f in found.items()], stored.labels, c.label_fraction
            )
    return None


def _groups(stored: Stored, c: Comparison) -> dict[str, Any] | None:
    if c.best is None or BASELINE not in c.rows:
        return None
    baseline, student = (
        outcomes.group_scores(stored.predictions(name, c.label_fraction), stored.task, stored.labels)
        for name in (BASELINE, c.best)
    )
    facts = outcomes.group_facts(baseline, student)
    if facts is None or facts.groups < 2:
        return None
    metric = {"regression": "ccc", "segmentation": "miou"}.get(stored.task, "accuracy")
    u = unit(metric)
    noun = metric_name(metric) + (", %" if u.factor == 100 else "")
    figure = outcomes.group_spread(baseline, student, c.best, u.factor, noun, c.label_fraction)
    return {"figure": figure, "facts": facts, "unit": u, "noun": group_name(stored) or "group"}


def _environment(stored: Stored) -> list[tuple[str, str]]:
    """The environment's entries as flat lines: `versions.torch`, `2.13.0`."""
    lines: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            lines.append((prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))

    walk("", stored.environment)
    return lines


def _style() -> str:
    from importlib.resources import files

    css = (files("sidelight.report") / "templates" / "report.css").read_text()
    light = "".join(f"--{name}:{value};" for name, (value, _) in PALETTE.items())
    dark = "".join(f"--{name}:{value};" for name, (_, value) in PALETTE.items())
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{css}"
