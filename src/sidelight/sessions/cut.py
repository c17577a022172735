"""Cuts one session into windows that cover the same time in every sensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.sessions.clocks import FileClock, align
from sidelight.sessions.find import Session
from sidelight.sessions.grid import Grid, choose_rate, to_grid
from sidelight.sessions.labels import Spans, label_starts, read_spans
from sidelight.sessions.settings import Plan
from sidelight.sessions.streams import FileStream, Stream, find_file, read_streams
from sidelight.signals.recording import Recording

SLACK = 1e-6
"""Samples by which rounding may miss the edge of a window."""


@dataclass(frozen=True)
class Form:
    """What the windows of a sensor have in common over all sessions."""

    rate: float
    unit: str
    channels: tuple[str, ...]
    width: int


@dataclass(eq=False)
class SessionWindows:
    """The windows of one session.

    Args:
        starts: (N,) first seconds of the windows on the session's clock.
        grids: sensor -> its samples.
        firsts: sensor -> (N,) first sample of each window.
        present: sensor -> (N,) whether it covers the window.
        segments: sensor whose rows stay files -> file and (N,) first seconds on the file's clock.
        labels: (N,) labels, "" for none.
        share: (N,) share of the window for which the label holds.
        dropped: windows that are left out: start, sensor, reason.
        origin: the moment at which the session's clock reads 0, if it is known.
    """

    starts: NDArray[np.float64]
    grids: dict[str, Grid] = field(default_factory=dict)
    firsts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    segments: dict[str, tuple[str, NDArray[np.float64]]] = field(default_factory=dict)
    labels: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, str))
    share: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    dropped: list[tuple[float, str, str]] = field(default_factory=list)
    origin: datetime | None = None

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Keep some of the windows."""
        self.starts, self.labels, self.share = self.starts[rows], self.labels[rows], self.share[rows]
        self.firsts = {m: first[rows] for m, first in self.firsts.items()}
        self.present = {m: present[rows] for m, present in self.present.items()}
        self.segments = {m: (file, at[rows]) for m, (file, at) in self.segments.items()}

    def values(self, m: str, width: int, rows: slice) -> NDArray[np.float32]:
        """(n, T, C) windows of a sensor; NaN where it does not cover them."""
        first, present = self.firsts[m][rows], self.present[m][rows]
        grid = self.grids[m]
        if len(grid.values) < width:
            return np.full((len(first), width, grid.values.shape[1]), np.nan, np.float32)
        views = sliding_window_view(grid.values, width, axis=0)
        out = np.moveaxis(views[np.where(present, first, 0)], 1, 2)
        if not present.all():
            out[~present] = np.nan
        return np.ascontiguousarray(out)


def cut_session(session: Session, plan: Plan, forms: dict[str, Form]) -> SessionWindows:
    """Read a session and find its windows.

    Args:
        session: the session.
        plan: the settings.
        forms: sensor -> rate, unit and channels, of the sessions before; sensors seen first are added.

    Raises:
        DataError: a missing or damaged file, clocks that cannot be aligned, sensors that differ from the sessions
            before, or no window at all.
    """
    streams = read_streams(session.path, plan.sensors)
    spans = _read_labels(session, plan)
    offsets, origin = align(_clocks(streams, spans, plan), plan.settings.timezone)
    grids, files = _make_grids(session, streams, offsets, plan, forms)
    bounds = {m: (g.start, g.end) for m, g in grids.items()} | {
        m: (offsets[m], offsets[m] + f.seconds) for m, f in files.items()
    }
    if spans is not None:
        at = offsets[""]
        spans = Spans(spans.onset + at, spans.end + at, spans.label, spans.source)
    made = SessionWindows(_place(session, plan, bounds, spans), grids, origin=origin)
    length = plan.settings.seconds
    for m, grid in grids.items():
        width = forms[m].width
        first = np.rint((made.starts - grid.start) * grid.rate).astype(np.int64)
        inside = (first >= 0) & (first + width <= len(grid.values))
        whole = grid.is_whole(first.clip(0, len(grid.values)), width)
        made.firsts[m], made.present[m] = first, inside & whole
        _note(made, m, inside, whole, plan)
    for m, file in files.items():
        at_file = made.starts - offsets[m]
        inside = (at_file >= -SLACK) & (at_file + length <= file.seconds + SLACK)
        made.segments[m] = str(file.path.resolve()), at_file.clip(0)
        made.present[m] = inside
        _note(made, m, inside, np.ones(len(inside), bool), plan)
    _label(made, spans, plan)
    required = [made.present[m] for m, s in plan.sensors.items() if not s.optional and m in made.present]
    made.keep(np.logical_and.reduce(required))
    if spans is not None and plan.labels and plan.labels.unlabelled == "drop":
        made.keep(made.labels != "")
    return made


def _read_labels(session: Session, plan: Plan) -> Spans | None:
    source = plan.labels
    if source is None:
        return None
    path = find_file(plan.folder if source.session else session.path, source.file, "labels")
    if path is None:
        where = plan.folder if source.session else session.path
        raise DataError(f"{session.path}: there is no {source.file!r} in {where} (labels.file)")
    return read_spans(path, source, session.name)


def _clocks(streams: dict[str, Stream], spans: Spans | None, plan: Plan) -> dict[str, FileClock]:
    """Stream -> its clock; the labels are called ""."""
    clocks = {}
    for m, stream in streams.items():
        sensor = plan.sensors[m]
        source = stream.source if isinstance(stream, Recording) else str(stream.path)
        own = (stream.origin, stream.start) if isinstance(stream, Recording) else (None, 0.0)
        clocks[m] = FileClock(source, *own, sensor.shift, sensor.zero)
        if sensor.zero and sensor.zero not in streams:
            raise DataError(f"{source}: its clock begins with {sensor.zero!r} (zero), which this session lacks")
    if spans is not None and plan.labels is not None:
        first = float(spans.onset.min()) if len(spans) else 0.0
        clocks[""] = FileClock(spans.source, spans.origin, first, plan.labels.shift, plan.labels.zero)
    return clocks


def _make_grids(
    session: Session, streams: dict[str, Stream], offsets: dict[str, float], plan: Plan, forms: dict[str, Form]
) -> tuple[dict[str, Grid], dict[str, FileStream]]:
    grids, files = {}, {}
    for m in [*streams]:
        stream = streams.pop(m)  # so that a recording is freed once its grid is made
        if isinstance(stream, FileStream):
            files[m] = stream
            continue
        sensor = plan.sensors[m]
        if m not in forms:
            rate = choose_rate(stream, sensor.resample_to)
            width = max(1, round(plan.settings.seconds * rate))
            forms[m] = Form(rate, stream.unit, stream.channels, width)
        form = forms[m]
        for what, has, expected in (
            ("unit", stream.unit, form.unit),
            ("number of channels", stream.values.shape[1], len(form.channels) or stream.values.shape[1]),
        ):
            if has != expected:
                raise DataError(f"{session.name}: {stream.name}: its {what} is {has}, but it was {expected} before")
        if not sensor.resample_to and stream.rate and abs(stream.rate / form.rate - 1) > 0.01:
            raise DataError(
                f"{session.name}: {stream.name} has {stream.rate:g} Hz, but sessions before have {form.rate:g} Hz; "
                f"name one rate for all (sensors.{m}.resample_to)"
            )
        grid = to_grid(stream, form.rate, sensor.largest_gap)
        grids[m] = Grid(grid.values, grid.rate, grid.start + offsets[m], grid.holes)
    return grids, files


def _place(
    session: Session, plan: Plan, bounds: dict[str, tuple[float, float]], spans: Spans | None
) -> NDArray[np.float64]:
    """(N,) starts of windows, within the time that every sensor covers which is not optional."""
    needed = {m: b for m, b in bounds.items() if not plan.sensors[m].optional}
    if plan.settings.at == "events":
        assert spans is not None
        return np.asarray(spans.onset + plan.settings.offset, np.float64)
    late, early = max(needed, key=lambda m: needed[m][0]), min(needed, key=lambda m: needed[m][1])
    start, end = needed[late][0], needed[early][1]
    seconds, hop = plan.settings.seconds, plan.hop
    if end - start < seconds - SLACK:
        raise DataError(
            f"{session.name}: {late!r} begins at {start:g} s and {early!r} ends at {end:g} s: all sensors together "
            f"cover {max(0.0, end - start):g} s, less than one window of {seconds:g} s (are their clocks the same?)"
        )
    count = 1 + int(np.floor((end - start - seconds) / hop + SLACK))
    return np.asarray(start + hop * np.arange(count), np.float64)


def _note(made: SessionWindows, m: str, inside: NDArray[np.bool_], whole: NDArray[np.bool_], plan: Plan) -> None:
    """Note the windows that a sensor does not cover."""
    then = " (kept without it)" if plan.sensors[m].optional else ""
    for i in np.flatnonzero(~(inside & whole)):
        reason = "a gap in its samples" if inside[i] else "outside of its recording"
        made.dropped.append((float(made.starts[i]), m, reason + then))


def _label(made: SessionWindows, spans: Spans | None, plan: Plan) -> None:
    count = len(made.starts)
    if spans is None or plan.labels is None:
        made.labels, made.share = np.full(count, "", dtype="<U1"), np.zeros(count)
    elif plan.settings.at == "events":
        made.labels, made.share = spans.label, np.ones(count)
    else:
        made.labels, made.share = label_starts(spans, made.starts, plan.settings.seconds, plan.labels)
