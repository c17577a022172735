"""An inspection as tables for the terminal."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight.inspection.coverage import Coverage
from sidelight.results.units import metric_name

if TYPE_CHECKING:
    from sidelight.inspection.inspection import Inspection
    from sidelight.inspection.modalities import ModalityInfo

LEAST = 5
"""Groups with the least coverage that are named."""
MANY_CLASSES = 30
"""Classes that are listed."""
WIDEST = 8
"""Columns of modalities in a table."""
FOLDS = {"group-kfold": "disjoint groups", "blocks": "contiguous blocks"}


def format_inspection(found: Inspection, width: int) -> str:
    """Format an inspection for a terminal of this width."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, force_terminal=False)

    def write(text: str, first: str = "", rest: str = "  ") -> None:
        filled = textwrap.fill(
            text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
        )
        console.print(filled, markup=False, highlight=False, soft_wrap=True)

    write(f"{found.name}: {found.rows} rows ({found.unlabelled} unlabelled), {found.task}")
    for line in found.read:
        write(line, "  ", "    ")
    for title, table, note in _build_parts(found):
        console.print()
        write(title)
        if table is not None:
            console.print(table)
        if note:
            write(note)
    if found.remarks:
        console.print()
    for remark in found.remarks:
        write(remark, "! ")
    if found.commands:
        console.print("\nnext", highlight=False)
    for command, why in found.commands:
        # Not wrapped, so that it can be copied.
        console.print(f"  {command}\n      # {why}", markup=False, highlight=False, soft_wrap=True)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _new_table(*columns: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    new = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, c in enumerate(columns):
        new.add_column(Text(c), justify="left" if i == 0 else "right")
    return new


def _add(table: Any, *cells: str) -> None:
    """Add a row. Names of the data are no markup, whatever they hold."""
    from rich.text import Text

    table.add_row(*map(Text, cells))


Part = tuple[str, Any, str]
"""A title, a table (or None) and a note below it (or "")."""


def _build_parts(found: Inspection) -> Iterator[Part]:
    """The parts in their order."""
    yield "modalities", _build_modalities(found), ""
    yield _build_coverage(found)
    if found.times is not None:
        t = found.times
        yield f"times: {t.first:g} to {t.last:g}; neighbouring rows are {t.step:g} apart", None, ""
    yield from _build_target(found)
    if found.groups:
        sizes = np.array(list(found.groups.values()))
        groups = _new_table("groups", "fewest rows", "median", "most rows")
        _add(groups, str(len(sizes)), str(sizes.min()), f"{np.median(sizes):g}", str(sizes.max()))
        yield "groups", groups, ""
    if found.split:
        split = _new_table("", *found.split)
        _add(split, "rows", *map(str, found.split.values()))
        _add(split, "labelled", *map(str, found.coverage["split"].labelled))
        yield "official split", split, ""
    if found.strengths:
        title = f"strength of a linear model ({metric_name(found.metric)}; {describe_folds(found)})"
        yield title, _build_strengths(found), ""


def _build_modalities(found: Inspection) -> Any:
    optional: dict[str, dict[str, str]] = {
        "role": {m.name: m.role for m in found.modalities},
        "unit": {m.name: m.unit for m in found.modalities},
        "rate": {m.name: f"{m.rate:g} Hz" if m.rate else "" for m in found.modalities},
        "lengths": {m.name: "–".join(map(str, m.lengths)) if m.lengths else "" for m in found.modalities},
    }
    shown = {title: cells for title, cells in optional.items() if any(cells.values())}
    table = _new_table("modality", *shown, "row", "missing", "NaN", "min", "max")
    for m in found.modalities:
        cells = (describe_shape(m), str(m.missing), str(m.nan), f"{m.minimum:.4g}", f"{m.maximum:.4g}")
        _add(table, m.name, *(column[m.name] for column in shown.values()), *cells)
    return table


def describe_shape(m: ModalityInfo) -> str:
    """`signal 64 × 3`."""
    return f"{m.kind} {' × '.join(map(str, m.shape))}".strip()


def _build_coverage(found: Inspection) -> Part:
    """Shares of rows with each modality that some row lacks: in all, by split, and in the groups that have least."""
    lacking = [m.name for m in found.modalities if m.missing]
    if not lacking:
        return "coverage: every row has every modality", None, ""
    columns = lacking[:WIDEST]
    more = f", and {len(lacking) - WIDEST} more modalities" if len(lacking) > WIDEST else ""
    table = _new_table("", "rows", *columns)

    def add(name: str, c: Coverage, i: int) -> None:
        counts = [c.present[m][i] for m in columns]
        _add(table, name, str(c.rows[i]), *(f"{n} ({n / max(c.rows[i], 1):.0%})" for n in counts))

    for of, c in found.coverage.items():
        if of != "group":
            for i, part in enumerate(c.parts):
                add(part if of == "all" else f"{of} {part}", c, i)
            continue
        least = c.shares.min(1)
        for i in np.argsort(least, kind="stable")[:LEAST]:
            if least[i] < 1:
                add(f"group {c.parts[i]}", c, int(i))
    note = ""
    if groups := found.coverage.get("group"):
        without = [f"{m} in {n}" for m in columns if (n := sum(count == 0 for count in groups.present[m]))]
        whole = int((groups.shares.min(1) == 1).sum())
        none = f"; no row has {', '.join(without)}" if without else ""
        note = f"of {len(groups.parts)} groups, {whole} have every modality in every row{none}"
    return f"coverage: rows that have what others lack{more}", table, note


def _build_target(found: Inspection) -> Iterator[Part]:
    majority = describe_majority(found)
    if found.classes:
        splits, of_group = found.balance.get("split", {}), found.balance.get("group")
        counts = None if of_group is None else (np.array(list(of_group.values())) > 0).sum(0)
        names = list(found.classes.items())
        what = "pixels" if found.task == "segmentation" else "rows"
        extra = [*splits, *([] if counts is None else ["groups"])]
        classes = _new_table("class", what, "share", *extra)
        total = max(sum(found.classes.values()), 1)
        shown, left_out = _choose_classes(found)
        for k in shown:
            name, n = names[k]
            cells = [*(str(c[k]) for c in splits.values()), *([] if counts is None else [str(counts[k])])]
            _add(classes, name, str(n), f"{n / total:.1%}", *cells)
        title = f"classes (of {len(names)}, the {len(shown)} most and least common)" if left_out else "classes"
        yield title, classes, majority
    if found.targets:
        targets = _new_table("target", "rows", "min", "mean", "max", "std")
        for name, r in found.targets.items():
            spread = (f"{r[k]:.4g}" if k in r else "" for k in ("min", "mean", "max", "std"))
            _add(targets, name, f"{r['rows']:.0f}", *spread)
        yield "targets", targets, majority


def _choose_classes(found: Inspection) -> tuple[list[int], bool]:
    """The numbers of the classes to list, and whether others are left out."""
    counts = np.array(list(found.classes.values()))
    if len(counts) <= MANY_CLASSES:
        return list(range(len(counts))), False
    order = np.argsort(-counts, kind="stable")
    return [*order[: MANY_CLASSES // 2].tolist(), *order[-(MANY_CLASSES // 2) :].tolist()], True


def describe_majority(found: Inspection) -> str:
    """What an answer scores that looks at no row: the most common class, or the mean."""
    if not found.majority:
        return ""
    answer = f"class {max(found.classes, key=lambda c: found.classes[c])!r}" if found.classes else "the mean"
    return f"always {answer}: " + ", ".join(f"{metric_name(m)} {v:.3f}" for m, v in found.majority.items())


def describe_folds(found: Inspection) -> str:
    """`5 folds of disjoint groups; official test rows left out`."""
    hidden = "; official test rows left out" if found.test_hidden else ""
    return f"{found.n_folds} folds of {FOLDS.get(found.folds, 'rows drawn at random')}{hidden}"


def _build_strengths(found: Inspection) -> Any:
    partial = any(s.with_all < s.rows for s in found.strengths)
    columns = ("with it", "mean on these") if partial else ()
    table = _new_table("modalities", "mean", "std of folds", "test rows", *columns)
    for s in found.strengths:
        label = "all" if len(s.modalities) > 1 else s.modalities[0]
        there = [str(s.with_all), f"{s.there:.3f}" if math.isfinite(s.there) else ""] if partial else []
        _add(table, label, f"{s.mean:.3f}", f"{s.std:.3f}", str(s.rows), *there)
    _add(table, "chance", f"{found.chance:.3f}")
    return table
