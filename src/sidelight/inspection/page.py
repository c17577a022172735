"""The page of `sidelight inspect --html`: one self-contained file with pictures of the data."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sidelight.data.dataset import Dataset
from sidelight.inspection.examples import draw_examples
from sidelight.inspection.figures import is_whole, plot_lengths, plot_parts, plot_strengths, plot_target
from sidelight.inspection.inspection import SAMPLE_ROWS, Inspection
from sidelight.inspection.modalities import OUTLYING, ModalityInfo
from sidelight.inspection.text import describe_folds, describe_majority, describe_shape
from sidelight.report.page import read_style


def render_page(dataset: Dataset, found: Inspection) -> str:
    """Render the page as HTML.

    Args:
        dataset: the data.
        found: what `inspect` returned for them.
    """
    env = Environment(loader=PackageLoader("sidelight.inspection"), autoescape=True, undefined=StrictUndefined)
    env.trim_blocks = env.lstrip_blocks = True
    parts, left_out = plot_parts(found)
    modalities = [_describe_modality(found, m) for m in found.modalities]
    context: dict[str, Any] = {
        "found": found,
        "style": Markup(read_style()),
        "facts": _list_facts(found),
        "lead": _describe(found),
        "modalities": modalities,
        "columns": [title for title in modalities[0] if any(m[title] for m in modalities)],
        "scope": _describe_scope(dataset, found),
        "example": draw_examples(dataset, found),
        "parts": parts,
        # Not wider than its content needs, and scrolled on a phone.
        "parts_width": f"{min(420 + 46 * (len(found.modalities) + len(found.classes)), 980)}px",
        "parts_least": f"{min(240 + 36 * (len(found.modalities) + len(found.classes)), 640)}px",
        "parts_sub": " ".join(filter(None, (_describe_parts(found, bool(parts)), left_out))),
        "lengths": plot_lengths(dataset, found),
        "outlying": OUTLYING,
        "majority": _capitalise(describe_majority(found)),
        "target": plot_target(dataset, found),
        "strengths": plot_strengths(found) if found.strengths else None,
        "folds": describe_folds(found),
        "partial": any(s.with_all < s.rows for s in found.strengths),
        "scores": list(_list_scores(found)),
    }
    return env.get_template("inspect.html.j2").render(context)


def _list_facts(found: Inspection) -> list[tuple[str, str]]:
    """What was read, in pairs of a name and a value."""
    unlabelled = f", {found.unlabelled:,} of them unlabelled" if found.unlabelled else ""
    facts = [("rows", f"{found.rows:,}{unlabelled}"), ("task", found.task)]
    facts += [("" if i else "read", _capitalise(line)) for i, line in enumerate(found.read)]
    if found.split:
        facts.append(("official split", ", ".join(f"{part} {n:,}" for part, n in found.split.items())))
    if t := found.times:
        facts.append(("times", f"{t.first:g} to {t.last:g}; neighbouring rows are {t.step:g} apart"))
    return facts


def _describe(found: Inspection) -> str:
    """The content in two sentences."""
    groups = f" of {len(found.groups):,} groups" if found.groups else ""
    n = len(found.modalities)
    lacking = [m.name for m in found.modalities if m.missing]
    which = f"{', '.join(lacking[:3])}{' and others' if len(lacking) > 3 else ''}" if lacking else ""
    whole = f"; some lack {which}" if lacking else ", each in every row"
    first = f"{found.rows:,} rows{groups} with {n} modalit{'ies' if n > 1 else 'y'}{whole}."
    if not found.classes:
        return f"{first} {len(found.targets)} target value{'s' * (len(found.targets) > 1)} to predict."
    common = max(found.classes, key=lambda c: found.classes[c])
    share = found.classes[common] / max(sum(found.classes.values()), 1)
    return f"{first} {len(found.classes)} classes, of which {common!r} makes up {share:.1%}."


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def _describe_modality(found: Inspection, m: ModalityInfo) -> dict[str, str]:
    present = found.rows - m.missing
    known = math.isfinite(m.minimum)
    return {
        "modality": m.name,
        "role": m.role,
        "row": describe_shape(m),
        "unit": m.unit,
        "rate": f"{m.rate:g} Hz" if m.rate else "",
        "rows with it": f"{present:,}" + (f" ({present / found.rows:.0%})" if m.missing else ""),
        "NaN": f"{m.nan:,}" if m.nan else "",
        "lengths": "–".join(map(str, m.lengths)) if m.lengths else "",
        "range": f"{m.minimum:.4g} to {m.maximum:.4g}".replace("-", "−") if known else "",
    }


def _describe_scope(dataset: Dataset, found: Inspection) -> str:
    """Over which rows the table of modalities is."""
    if dataset.lazy and len(dataset) > SAMPLE_ROWS:
        return f"NaN and range of {', '.join(dataset.lazy)}: of {SAMPLE_ROWS} rows drawn at random."
    return (
        "Lengths are the shortest, median and longest row in time steps."
        if any(m.lengths for m in found.modalities)
        else ""
    )


def _describe_parts(found: Inspection, drawn: bool) -> str:
    whole = "Every row has every modality." if is_whole(found.coverage["all"]) else ""
    if not drawn:
        return whole
    named = {"split": "part of the official split", "group": "group"}
    of = " and each ".join(named[name] for name in named if name in found.coverage)
    rows = f"All rows, then each {of}" if of else "All rows; there are no groups and no official split"
    shown = ["that have each modality"] * (not whole) + ["of each class"] * bool(found.classes)
    return f"{whole} {rows} (and their number): the shares {' and '.join(shown)}.".strip()


def _list_scores(found: Inspection) -> Any:
    """Cells of the table of strengths."""
    partial = any(s.with_all < s.rows for s in found.strengths)
    for s in found.strengths:
        name = "all" if len(s.modalities) > 1 else s.modalities[0]
        cells = [name, f"{s.mean:.3f}", f"{s.std:.3f}", f"{s.rows:,}"]
        yield cells + ([f"{s.with_all:,}", f"{s.there:.3f}" if math.isfinite(s.there) else ""] if partial else [])
