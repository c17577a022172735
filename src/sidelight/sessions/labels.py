"""The labels of a session as spans of time, and the label of each window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.formats import read_events
from sidelight.formats.registry import find_format
from sidelight.sessions.settings import LabelSource
from sidelight.sessions.times import column, parse_times
from sidelight.signals.events import Events
from sidelight.utils.delimited import MISSING, Delimited, read_delimited

ONSETS = ("onset", "start", "begin", "start_time", "time", "timestamp")
ENDS = ("end", "offset", "stop", "end_time")
LABELS = ("label", "trial_type", "event", "class", "emotion", "condition", "annotation", "value")
SLACK = 1e-9
"""Share of a window below which an overlap is rounding."""


@dataclass(frozen=True, eq=False)
class Spans:
    """N labels, each from an onset until an end.

    Args:
        onset: (N,) seconds.
        end: (N,) seconds, above the onset; equal for a moment.
        label: (N,) texts.
        source: the file.
        origin: the moment at which the clock of the times reads 0; None: unknown.
    """

    onset: NDArray[np.float64]
    end: NDArray[np.float64]
    label: NDArray[np.str_]
    source: str
    origin: datetime | None = None

    def __len__(self) -> int:
        return len(self.onset)


def read_spans(path: Path, source: LabelSource, session: str = "") -> Spans:
    """Read the labels of a session.

    Args:
        path: the file.
        source: its settings.
        session: the session, where one file holds the labels of all.

    Raises:
        DataError: a missing column, or a cell that is no time; names file, line and column.
    """
    if not (source.onset or source.label or source.rate) and _has_format(path, source):
        events = _choose_tier(read_events(path, format=source.format), source.tier)
        spans = Spans(events.onset, events.onset + events.duration, events.label, str(path), events.origin)
    elif source.tier:
        raise ConfigError(f"{path} is a table and has no tiers; leave labels.tier out")
    else:
        spans = _read_table(path, source, session)
    return _name(_close(spans, source), source)


def _has_format(path: Path, source: LabelSource) -> bool:
    if source.format:
        return True
    try:
        find_format(path)
    except DataError:
        return False
    return True


def _choose_tier(events: Events, tier: str) -> Events:
    """The events of one tier, where there are tiers."""
    assert events.tier is not None
    tiers = list(dict.fromkeys(name for name in events.tier.tolist() if name))
    if tier and tier not in tiers:
        raise ConfigError(f"{events.source}: {unknown('tier', tier, tiers)}")
    if not tier and len(tiers) > 1:
        raise ConfigError(f"{events.source} has {len(tiers)} tiers; name one (tier: …): {listed(tiers)}")
    kept = events.tier == tier if tier else np.ones(len(events), bool)
    of_tier = {name: getattr(events, name)[kept] for name in ("onset", "duration", "label", "tier")}
    return replace(events, **of_tier)


def _read_table(path: Path, source: LabelSource, session: str) -> Spans:
    table = read_delimited(path)
    label = _find(table, source.label, LABELS, "label")
    rows = np.ones(len(table), bool)
    if source.session:
        rows = column(table, source.session).astype(str).str.strip().to_numpy() == session
        if not rows.any():
            raise DataError(f"{path}: no line has {session!r} in column {source.session!r}")
    text = column(table, label)[rows].astype(str).str.strip()
    lines = table.lines[rows]
    onset_name = source.onset or next((name for name in ONSETS if name in table.names), "")
    if not onset_name:
        if not source.rate:
            raise DataError(
                f"{path}: no column of onsets; name it (onset: …), or the labels per second of a track (rate: 4). "
                f"Columns: {listed(table.names)}"
            )
        onset, origin = np.arange(len(text)) / source.rate, None
    else:
        onset, origin = _times(table, onset_name, rows, source)
        for i in np.flatnonzero(np.isnan(onset))[:1]:
            raise DataError(f"{path}: line {lines[i]}, column {onset_name!r} is empty; every label needs its onset")
    end = _read_ends(table, rows, onset, origin, source)
    for i in np.flatnonzero(end < onset)[:1]:
        raise DataError(f"{path}: line {lines[i]}: the label ends {onset[i] - end[i]:g} s before it begins")
    empty = text.str.lower().isin(MISSING).to_numpy()
    order = np.argsort(onset, kind="stable")
    label_text = np.where(empty, "", text.to_numpy(str))
    return Spans(onset[order], end[order], label_text[order], str(path), origin)


def _find(table: Delimited, given: str, usual: tuple[str, ...], what: str) -> str:
    if given:
        return given
    found = [name for name in usual if name in table.names]
    if not found:
        raise DataError(f"{table.path}: no column of {what}s; name it ({what}: …). Columns: {listed(table.names)}")
    return found[0]


def _times(
    table: Delimited, name: str, rows: NDArray[np.bool_], source: LabelSource
) -> tuple[NDArray[np.float64], datetime | None]:
    where = f"{table.path}: column {name!r}"
    return parse_times(column(table, name)[rows], where, table.lines[rows], source.time_unit, source.rate)


def _read_ends(
    table: Delimited,
    rows: NDArray[np.bool_],
    onset: NDArray[np.float64],
    origin: datetime | None,
    source: LabelSource,
) -> NDArray[np.float64]:
    """(N,) ends; NaN where the table states none."""
    duration = source.duration or ("duration" if "duration" in table.names and not source.end else "")
    if duration:
        seconds, _ = _times(table, duration, rows, source)
        return onset + np.where(np.isnan(seconds), 0.0, seconds)
    end = source.end or next((name for name in ENDS if name in table.names), "")
    if not end:
        return np.full(len(onset), np.nan)
    seconds, of_end = _times(table, end, rows, source)
    if (of_end is None) != (origin is None) and not np.isnan(seconds).all():
        raise DataError(f"{table.path}: onsets and ends (column {end!r}) are not on one clock")
    return seconds + ((of_end - origin).total_seconds() if of_end and origin else 0.0)


def _close(spans: Spans, source: LabelSource) -> Spans:
    """End labels that have no duration: at the next one, or at once."""
    open_ = np.isnan(spans.end) | (spans.end <= spans.onset)
    if not open_.any() or source.until == "moment":
        return replace(spans, end=np.where(open_, spans.onset, spans.end))
    # The last label of a track holds as long as the others; of single ones, until the recording ends.
    steps = np.diff(spans.onset)
    is_track = len(steps) > 1 and bool(steps.max() <= 1.5 * float(np.median(steps)))
    last = float(np.median(steps)) if is_track else np.inf
    following = np.append(spans.onset[1:], spans.onset[-1:] + last)
    if source.longest:
        following = np.minimum(following, spans.onset + source.longest)
    return replace(spans, end=np.where(open_, following, spans.end))


def _name(spans: Spans, source: LabelSource) -> Spans:
    """The labels by their names; those without one become empty."""
    if not source.names:
        return spans
    known = set(spans.label.tolist())
    for label in source.names:
        if label not in known:
            raise ConfigError(f"{spans.source}: labels.names: {unknown('label', label, sorted(known))}")
    return replace(spans, label=np.array([source.names.get(str(label), "") for label in spans.label], str))


def label_starts(
    spans: Spans, starts: NDArray[np.float64], seconds: float, source: LabelSource
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Label windows by the time for which each label holds in them.

    A label holds from its onset up to, not including, its end. By the rule "majority" a window gets the label that
    holds longest in it, of equal ones the first in the alphabet.

    Args:
        spans: the labels, on the clock of the windows.
        starts: (N,) first seconds of the windows.
        seconds: length of a window.
        source: rule and threshold.

    Returns:
        (N,) labels, "" for none, and (N,) shares of the window for which the label holds.
    """
    if not len(spans):
        return np.full(len(starts), "", dtype="<U1"), np.zeros(len(starts))
    if source.rule == "centre":
        return _label_centres(spans, starts + seconds / 2)
    named = spans.label != ""
    if source.rule == "mean":
        return _average(spans, named, starts, seconds, source.threshold)
    labels, best = np.full(len(starts), "", dtype=object), np.zeros(len(starts))
    for name in sorted(set(spans.label[named].tolist())):
        mine = spans.label == name
        share = _cover(spans.onset[mine], spans.end[mine], starts, seconds)
        longer = share > best + SLACK
        labels[longer], best[longer] = name, share[longer]
    labels[(best < source.threshold - SLACK) | (best <= SLACK)] = ""
    return labels.astype(str), best


def _label_centres(spans: Spans, centre: NDArray[np.float64]) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """The label that began last before the centre and still holds there."""
    at = np.searchsorted(spans.onset, centre, "right") - 1
    reach = np.maximum.accumulate(spans.end)  # whether any label up to there still holds

    def ended() -> NDArray[np.bool_]:
        return np.asarray((at >= 0) & (spans.end[at] <= centre) & (reach[at] > centre))

    # As many steps as labels lie upon each other.
    while (back := ended()).any():
        at[back] -= 1
    holds = (at >= 0) & (centre < spans.end[at])
    labels = np.where(holds, spans.label[at], "")
    return labels, (labels != "").astype(np.float64)


def _average(
    spans: Spans, named: NDArray[np.bool_], starts: NDArray[np.float64], seconds: float, threshold: float
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    values = np.asarray(pd.to_numeric(pd.Series(spans.label[named]), errors="coerce"), np.float64)
    for i in np.flatnonzero(~np.isfinite(values))[:1]:
        raise DataError(f"{spans.source}: label {spans.label[named][i]!r} is no number; rule 'mean' is for numbers")
    a, b = spans.onset[named], spans.end[named]
    edges = np.unique(np.concatenate([a, b[np.isfinite(b)], starts, starts + seconds]))
    inside = _integral(a, b, np.ones_like(values), edges)
    total = _integral(a, b, values, edges)

    def over(f: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.interp(starts + seconds, edges, f) - np.interp(starts, edges, f))

    held = over(inside)
    share = np.minimum(held / seconds, 1.0)
    known = (share > SLACK) & (share >= threshold - SLACK)
    mean = over(total) / np.where(held > 0, held, 1)
    return np.array([repr(round(float(x), 9)) if k else "" for x, k in zip(mean, known, strict=True)], str), share


def _integral(
    a: NDArray[np.float64], b: NDArray[np.float64], height: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """∫ of the sum of steps of this height from a to b, up to each edge."""
    slope = np.zeros(len(edges) + 1)
    np.add.at(slope, np.searchsorted(edges, a), height)
    finite = np.isfinite(b)
    np.add.at(slope, np.searchsorted(edges, b[finite]), -height[finite])
    out = np.zeros(len(edges))
    np.cumsum(np.cumsum(slope)[: len(edges) - 1] * np.diff(edges), out=out[1:])
    return out


def _cover(
    a: NDArray[np.float64], b: NDArray[np.float64], starts: NDArray[np.float64], seconds: float
) -> NDArray[np.float64]:
    """(N,) share of each window that the union of the spans covers."""
    order = np.argsort(a, kind="stable")
    a, b = a[order], np.maximum.accumulate(b[order])
    # A span begins anew where the ones before it have ended.
    first = np.append(True, a[1:] > b[:-1])
    begin, end = a[first], np.append(b[:-1][first[1:]], b[-1:])
    last = starts.max() + seconds if len(starts) else 0.0
    end = np.minimum(end, max(last, float(begin.max(initial=0.0))) + 1)
    lengths = np.append(0.0, np.cumsum(end - begin))
    points = np.stack([begin, end], 1).ravel()
    reached = np.stack([lengths[:-1], lengths[1:]], 1).ravel()
    covered = np.interp(starts + seconds, points, reached, 0.0) - np.interp(starts, points, reached, 0.0)
    return np.asarray(covered / seconds)
