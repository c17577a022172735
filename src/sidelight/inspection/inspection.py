"""`inspect`: the content of a data set, and how well each modality predicts, before anything is trained."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.data.rows import is_lazy, iterate_slices
from sidelight.inspection.leakage import find_leaks
from sidelight.inspection.strength import Strength, choose_protocol, compute_strengths
from sidelight.protocols.neighbours import describe_blocks_option, find_similar_neighbours, is_sorted_by_class
from sidelight.utils.keywords import known_keywords

SAMPLE_ROWS = 500
"""Rows that are decoded if they are files."""


@dataclass(frozen=True)
class ModalityInfo:
    """One modality: a row's shape, missing rows, NaN values, (shortest, median, longest) length, range of values."""

    name: str
    role: str
    shape: tuple[int, ...]
    missing: int
    nan: int
    lengths: tuple[int, int, int] | None
    minimum: float
    maximum: float
    constant: int


@dataclass(frozen=True)
class Inspection:
    """The tables that `sidelight inspect` prints."""

    name: str
    rows: int
    unlabelled: int
    task: str
    modalities: tuple[ModalityInfo, ...]
    groups: dict[str, int]
    split: dict[str, int]
    classes: dict[str, int]
    targets: dict[str, dict[str, float]]
    metric: str
    chance: float
    strengths: tuple[Strength, ...]
    remarks: tuple[str, ...] = field(default=())
    folds: str = "group-kfold"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)

    def to_text(self, width: int = 100) -> str:
        """The same as tables for a terminal of this width."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=width, force_terminal=False)
        for table in _build_tables(self):
            console.print(table)
        for remark in self.remarks:
            console.print(f"! {remark}", markup=False, highlight=False)
        return str(console.file.getvalue())  # type: ignore[attr-defined]


@known_keywords
def inspect(dataset: Dataset, strength: bool = True, folds: int = 5, seed: int = 0) -> Inspection:
    """Describe a data set: counts, shapes, gaps, balance, and how well each modality and all together predict.

    Scores come from a linear model on standardized features or window statistics, cross-validated with disjoint groups,
    or with blocks of rows in time. They compare the modalities and are no target for a network.

    Args:
        dataset: the data.
        strength: whether to compute scores.
        folds: number of folds of the scores.
        seed: of folds and samples.

    Returns:
        The tables that `sidelight inspect` prints.
    """
    labelled = dataset.labelled
    classes: dict[str, int] = {}
    targets: dict[str, dict[str, float]] = {}
    if dataset.task != "regression":
        classes = dict(zip(dataset.class_names, dataset.class_counts().tolist()))
    else:
        targets = {name: _describe_range(dataset.target[:, k]) for k, name in enumerate(dataset.class_names)}
    # The metrics of a linear model, whatever metric an experiment selects by.
    metric = {"regression": "ccc", "segmentation": "miou"}.get(dataset.task, "accuracy")
    chance = max(classes.values()) / max(sum(classes.values()), 1) if classes else 0.0
    if dataset.size:
        # With the most common class everywhere, its share is its IoU, and the IoU of the others is 0.
        chance /= sum(n > 0 for n in classes.values())
    decoded, sampled = dataset, []
    if dataset.lazy or is_lazy(dataset.target):
        decoded = dataset.sample(SAMPLE_ROWS, seed)
        if len(decoded) < len(dataset):
            sampled = [
                f"{', '.join(dataset.lazy) or 'all'}: values and strengths are those of {len(decoded)} rows "
                "drawn at random"
            ]
    found, remarks = compute_strengths(decoded, folds, seed) if strength else ((), [])
    modalities = tuple(
        _describe_modality(decoded if m in dataset.lazy else dataset, m, dataset) for m in dataset.modalities
    )
    return Inspection(
        name=dataset.name,
        rows=len(dataset),
        unlabelled=int((~labelled).sum()),
        task=dataset.task,
        modalities=modalities,
        groups={} if dataset.group is None else _count_values(dataset.group),
        split={} if dataset.split is None else _count_values(dataset.split),
        classes=classes,
        targets=targets,
        metric=metric,
        chance=chance,
        strengths=found,
        remarks=(
            *_collect_remarks(dataset, classes, modalities),
            *find_leaks(dataset, decoded, found),
            *sampled,
            *remarks,
        ),
        folds=choose_protocol(dataset),
    )


def _count_values(values: NDArray) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist()))


def _describe_range(values: NDArray) -> dict[str, float]:
    v = values[np.isfinite(values)]
    if not len(v):
        return {"rows": 0.0}
    return {
        "rows": float(len(v)),
        "min": float(v.min()),
        "mean": float(v.mean()),
        "max": float(v.max()),
        "std": float(v.std()),
    }


def _describe_modality(dataset: Dataset, m: str, whole: Dataset) -> ModalityInfo:
    """Describe one modality from `dataset`: all rows, or decoded rows of the data set `whole`."""
    from sidelight.data.scaling import find_varying_columns

    x, present = dataset.inputs[m], dataset.present[m]
    # Lowest and highest values of some rows at a time: a copy of all present rows may not fit into memory.
    low, high, nan = np.nan, np.nan, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but NaN
        for some in iterate_slices(x):
            rows = x[some][present[some]]
            if len(rows):
                low, high = float(np.fmin(low, np.nanmin(rows))), float(np.fmax(high, np.nanmax(rows)))
                nan += int(np.isnan(rows).sum()) if rows.dtype.kind == "f" else 0
    length = dataset.lengths.get(m)
    lengths = None
    if length is not None:
        known = length[present]
        lengths = (int(known.min()), int(np.median(known)), int(known.max()))
    role = next((k for k in ("available", "privileged") if m in dataset.default_modalities.get(k, [])), "")
    return ModalityInfo(
        name=m,
        role=role,
        shape=dataset.shape(m),
        missing=int((~whole.present[m]).sum()),
        nan=nan,
        lengths=lengths,
        minimum=low,
        maximum=high,
        constant=int((~find_varying_columns(x, length, present)).sum()),
    )


def _collect_remarks(dataset: Dataset, classes: dict[str, int], modalities: tuple[ModalityInfo, ...]) -> list[str]:
    from sidelight.protocols import describe_straddling_group

    told = {"read_as": "read as: {}", "not_read": "not read: {} (--modality NAME=COLUMN,COLUMN reads them)"}
    out = [text.format(dataset.about[key]) for key, text in told.items() if key in dataset.about]
    if dataset.group is None:
        out.append(
            "no groups: if several rows come from one person or session, name their column, or scores will be too good"
        )
    elif len(np.unique(dataset.group)) == len(dataset):
        out.append("every row is its own group")
    if straddles := describe_straddling_group(dataset):
        out.append(straddles)
    if dataset.group is None:
        out += _describe_order(dataset)
    for name, n in classes.items():
        if n == 0:
            out.append(f"class {name!r} has no {'pixel' if dataset.size else 'row'}")
    pixels = int(dataset.labelled.sum()) * math.prod(dataset.size)
    ignored = 1 - float(dataset.class_counts().sum()) / pixels if dataset.size else 0.0
    if ignored:
        out.append(f"{ignored:.1%} of the labelled rows' pixels are ignored")
    for m, info in zip(dataset.modalities, modalities):
        if info.constant:
            what = f"{info.shape[0]} channels" if len(info.shape) >= 3 else f"{info.shape[-1]} columns"
            out.append(f"{m}: {info.constant} of {what} are constant and will be ignored")
        if dataset.task == "classification" and m in dataset.lengths:
            out.append(f"{m}: rows differ in length; check that length does not give the class away")
    return out


def _describe_order(dataset: Dataset) -> list[str]:
    """Remarks on the order of rows without groups, which limits how they may be split."""
    if is_sorted_by_class(dataset):
        return [
            "rows are sorted by class: this is not an order in time, and contiguous blocks would hold whole classes"
        ]
    if dataset.time is None and (similarity := find_similar_neighbours(dataset)) is not None:
        return [
            f"neighbouring rows resemble each other: {similarity}. Drawn one by one, as here, scores are too good: if "
            f"rows follow each other in time, {describe_blocks_option(dataset)}"
        ]
    return []


def _build_tables(found: Inspection) -> list[Any]:
    """The inspection as rich tables."""
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        new = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for i, c in enumerate(columns):
            new.add_column(c, justify="left" if i == 0 else "right")
        return new

    head = f"{found.name}: {found.rows} rows ({found.unlabelled} unlabelled), {found.task}"
    first = table(head, "modality", "role", "row shape", "missing", "NaN", "lengths", "min", "max")
    for m in found.modalities:
        shape = " × ".join(map(str, m.shape))
        lengths = "–".join(map(str, m.lengths)) if m.lengths else ""
        cells = (m.role, shape, str(m.missing), str(m.nan), lengths, f"{m.minimum:.4g}", f"{m.maximum:.4g}")
        first.add_row(m.name, *cells)
    out = [first]
    if found.classes:
        classes = table("classes", "class", "pixels" if found.task == "segmentation" else "rows", "share")
        total = max(sum(found.classes.values()), 1)
        for name, n in found.classes.items():
            classes.add_row(name, str(n), f"{n / total:.1%}")
        out.append(classes)
    if found.targets:
        targets = table("targets", "target", "rows", "min", "mean", "max", "std")
        for name, r in found.targets.items():
            spread = (f"{r[k]:.4g}" if k in r else "" for k in ("min", "mean", "max", "std"))
            targets.add_row(name, f"{r['rows']:.0f}", *spread)
        out.append(targets)
    if found.groups:
        sizes = np.array(list(found.groups.values()))
        groups = table("groups", "groups", "fewest rows", "median", "most rows")
        groups.add_row(str(len(sizes)), str(sizes.min()), f"{np.median(sizes):g}", str(sizes.max()))
        out.append(groups)
    if found.split:
        split = table("official split", *found.split)
        split.add_row(*map(str, found.split.values()))
        out.append(split)
    if found.strengths:
        how = {"group-kfold": "disjoint groups", "blocks": "contiguous blocks"}.get(found.folds, "random folds")
        strengths = table(f"strength of a linear model ({found.metric}, {how})", "modalities", "mean", "std of folds")
        for s in found.strengths:
            label = "all" if len(s.modalities) > 1 else s.modalities[0]
            strengths.add_row(label, f"{s.mean:.3f}", f"{s.std:.3f}")
        strengths.add_row("chance", f"{found.chance:.3f}", "")
        out.append(strengths)
    return out
