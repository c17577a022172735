"""What to look at before anything is trained: groups, order, spelling, empty classes, ignored pixels, lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sidelight.data.dataset import Dataset
from sidelight.data.similar_names import find_similar_names
from sidelight.inspection.coverage import GAP, TimeInfo
from sidelight.inspection.modalities import NAMED, OUTLYING, ModalityInfo
from sidelight.protocols import describe_straddling_group
from sidelight.protocols.neighbours import NeighbourSimilarity, describe_blocks_option


def collect_remarks(
    dataset: Dataset,
    classes: dict[str, int],
    groups: dict[str, int],
    modalities: tuple[ModalityInfo, ...],
    times: TimeInfo | None,
) -> list[str]:
    """Sentences on what is unusual in counts, names and lengths.

    Args:
        dataset: the rows.
        classes: class -> rows or pixels.
        groups: group -> rows; {} without groups.
        modalities: what each modality holds.
        times: the times of the rows; None without times.
    """
    out = []
    if dataset.group is None:
        out.append(
            "no groups: if several rows come from one person or session, name their column, or scores will be too good"
        )
    elif len(groups) == len(dataset):
        out.append("every row is its own group")
    if straddles := describe_straddling_group(dataset):
        out.append(straddles)
    out += _describe_spelling("groups", groups, "one person may be on both sides of a fold")
    if dataset.task != "regression":
        out += _describe_spelling("classes", dataset.class_names, "one class is learnt as several")
    for name, n in classes.items():
        if n == 0:
            out.append(f"class {name!r} has no {'pixel' if dataset.size else 'row'}")
    pixels = int(dataset.labelled.sum()) * math.prod(dataset.size)
    ignored = 1 - float(dataset.class_counts().sum()) / pixels if dataset.size else 0.0
    if ignored:
        out.append(f"{ignored:.1%} of the labelled rows' pixels are ignored")
    for info in modalities:
        out += _describe_modality(dataset, info)
    return out + _describe_gaps(times)


def _describe_spelling(what: str, names: Iterable[str], then: str) -> list[str]:
    """Names that differ only in how they are written."""
    pairs = find_similar_names(names)
    shown = "; ".join(" and ".join(map(repr, spellings)) for spellings in pairs[:NAMED])
    more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return [f"{what} {shown}{more} differ only in how they are written: if they are one, {then}"] if pairs else []


def _describe_modality(dataset: Dataset, info: ModalityInfo) -> list[str]:
    out = []
    if info.constant:
        what = f"{info.shape[0]} channels" if len(info.shape) >= 3 else f"{info.shape[-1]} columns"
        out.append(f"{info.name}: {info.constant} of {what} are constant and will be ignored")
    if dataset.task == "classification" and info.lengths and info.lengths[0] < info.lengths[2]:
        out.append(f"{info.name}: rows differ in length; check that length does not give the class away")
    if info.lengths and info.odd_rows:
        named = ", ".join(f"{row} ({steps})" for row, steps in info.odd_rows.items())
        more = ", …" if info.odd_lengths > len(info.odd_rows) else ""
        out.append(
            f"{info.name}: {info.odd_lengths} unusually long or short row{'s' * (info.odd_lengths > 1)} (beyond "
            f"{OUTLYING} times, or 1/{OUTLYING} of, the median of {info.lengths[1]} time steps): {named}{more}"
        )
    return out


def _describe_gaps(times: TimeInfo | None) -> list[str]:
    """Gaps between neighbouring rows, and rows of one time."""
    if times is None:
        return []
    out = []
    if times.gaps:
        out.append(
            f"times: {times.gaps} gap{'s' * (times.gaps > 1)} of more than {GAP} times the usual step of "
            f"{times.step:g}; the largest, {times.largest:g}, is between rows {times.after} and {times.before}"
        )
    if times.repeated:
        out.append(f"times: {times.repeated} rows have the time of the row before them")
    return out


def describe_order(dataset: Dataset, in_classes: bool, similarity: NeighbourSimilarity | None) -> list[str]:
    """Remarks on the order of rows without groups, which limits how they may be split.

    Args:
        dataset: the rows.
        in_classes: whether they stand one class after the other.
        similarity: by how much neighbours resemble each other; None if they do not.
    """
    if in_classes:
        return [
            "rows are sorted by class: this is not an order in time, and contiguous blocks would hold whole classes"
        ]
    if similarity is not None:
        return [
            f"neighbouring rows resemble each other: {similarity}. Drawn one by one, as here, scores are too good: if "
            f"rows follow each other in time, {describe_blocks_option(dataset)}"
        ]
    return []
