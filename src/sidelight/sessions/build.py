"""Recordings of many sessions as a prepared folder of windows: `sidelight windows`."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.raw import MODALITIES_FILE
from sidelight.data.sources.checked_files import END, FILE, START
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.errors import DataError, SidelightWarning
from sidelight.recordings.registry import RecordingType, Rows, recording_type
from sidelight.sessions.cut import Form, SessionWindows, cut_session
from sidelight.sessions.find import Session, find_sessions
from sidelight.sessions.settings import Plan, make_plan, read_plan

CHUNK = 2**20
"""Values that are copied at a time, so that overlapping windows need no second copy of a session."""
DROPPED = "dropped.csv"
"""Lists the windows that were left out."""


@dataclass
class Summary:
    """What was made.

    Args:
        out: the folder.
        sessions: number of sessions with a window.
        rows: number of windows.
        forms: sensor -> rate, unit, channels and number of samples.
        covered: sensor -> number of windows that it covers.
        labels: label -> number of windows; "": those without a label.
        dropped: (sensor, reason) -> number of windows.
        empty: session without a window -> why.
        plan: the settings.
    """

    out: Path
    plan: Plan
    sessions: int = 0
    rows: int = 0
    forms: dict[str, Form] = field(default_factory=dict)
    covered: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    empty: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """Lines for the terminal."""
        settings = self.plan.settings
        every = f" every {self.plan.hop:g} s" if settings.at == "grid" else " at the onset of every label"
        lines = [f"{self.out}: {self.rows} windows of {settings.seconds:g} s{every}, from {self.sessions} sessions"]
        width = max(map(len, self.plan.sensors))
        for m, sensor in self.plan.sensors.items():
            form = self.forms.get(m)
            what = f"{form.rate:g} Hz, {form.width} x {len(form.channels) or 1}" if form else sensor.kind
            unit = f", {form.unit}" if form and form.unit != "1" else ""
            lacking = self.rows - self.covered[m]
            lines.append(f"  {m:{width}}  {what}{unit}" + (f"; {lacking} windows lack it" if lacking else ""))
        if self.plan.labels:
            counts = ", ".join(f"{name} {n}" for name, n in sorted(self.labels.items()) if name)
            lines.append(f"  labels: {counts or 'none'}; without a label {self.labels['']}")
        for (m, reason), n in sorted(self.dropped.items()):
            lines.append(f"  not covered by {m}: {n} windows, {reason} ({DROPPED})")
        lines += [f"  no window in {name}: {why}" for name, why in self.empty.items()]
        return "\n".join([*lines, f"next: {self._next()}"])

    def _next(self) -> str:
        if not self.plan.labels:
            return f"sidelight predict STUDENT {self.out}; or add labels, then: sidelight run {self.out}"
        available, privileged = self.plan.settings.available, self.plan.settings.privileged
        if available and privileged:
            return f"sidelight run {self.out}"
        first, *others = self.plan.sensors
        return f"sidelight run {self.out} --available {first}" + (f" --privileged {' '.join(others)}" if others else "")


class _ArrayFile:
    """An .npy that grows: its header is written last."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.file: IO[bytes] = path.open("wb")
        self.shape, self.rows = shape, 0
        self._header()

    def _header(self) -> None:
        # numpy leaves room in the header for as many rows as there will be.
        about = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, *self.shape)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, about)

    def add(self, values: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        self.rows += len(values)

    def add_absent(self, count: int) -> None:
        for _ in range(count):
            self.add(np.full((1, *self.shape), np.nan, np.float32))

    def close(self) -> None:
        self._header()
        self.file.close()


def build_windows(
    source: str | Path,
    out: str | Path,
    given: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Summary:
    """Cut the recordings of many sessions into labelled windows, as a prepared folder that every verb reads.

    Sensors are aligned by measured time: each keeps its own rate, and a window covers the same time in all of them. A
    window into which a gap falls is left out, and listed in `dropped.csv`. One session is in memory at a time.

    Args:
        source: a YAML file of `WindowSettings`, `sensors` and `labels`; or a folder or file, with settings in `given`.
        out: the folder to write.
        given: settings, which replace those of the file.
        overwrite: whether to replace a prepared folder.
        progress: is called with the number of sessions that are done, and of all.

    Returns:
        What was made.

    Raises:
        DataError: names session, file and line.
        ConfigError: an unknown or impossible setting.
    """
    source, out = Path(source), Path(out)
    if source.suffix.lower() in (".yaml", ".yml"):
        plan = read_plan(source, given or {})
    else:
        plan = make_plan(*_place(source, dict(given or {})))
    sessions = find_sessions(plan, out)
    if out.exists() and not overwrite and (not out.is_dir() or any(out.iterdir())):
        prepared = (out / MODALITIES_FILE).is_file()
        raise DataError(f"{out} exists{' already' * prepared}; delete it, or replace it with --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp") as place:
        return _build(plan, sessions, out, Path(place), overwrite, progress)


def _place(source: Path, given: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Folder and settings for one session, or for the sessions of a folder."""
    if not source.exists():
        raise DataError(f"there is no {source}; expected recordings.yaml, a folder of sessions, or a recording")
    if source.is_file():
        return source.parent, {"sessions": source.name} | given
    return source, given


def _build(
    plan: Plan,
    sessions: list[Session],
    out: Path,
    place: Path,
    overwrite: bool,
    progress: Callable[[int, int], None],
) -> Summary:
    summary = Summary(out, plan)
    arrays: dict[str, _ArrayFile] = {}
    rows: list[dict[str, Any]] = []
    dropped: list[tuple[str, float, str, str]] = []
    for done, session in enumerate(sessions):
        progress(done, len(sessions))
        made = cut_session(session, plan, summary.forms)
        summary.dropped.update((m, reason) for _, m, reason in made.dropped)
        dropped += [(session.name, *entry) for entry in made.dropped]
        if not len(made.starts):
            summary.empty[session.name] = "no window is covered by every sensor, and labelled where labels are demanded"
            continue
        _write(made, summary.forms, arrays, plan, place, len(rows))
        rows += _rows(session, made, plan)
        summary.sessions += 1
        summary.labels.update(made.labels.tolist())
        summary.covered.update({m: int(present.sum()) for m, present in made.present.items()})
        del made  # one session is in memory at a time
    progress(len(sessions), len(sessions))
    for array in arrays.values():
        array.close()
    summary.rows = len(rows)
    if not rows:
        raise DataError(f"no session has a window: {next(iter(summary.empty.items()), '')}")
    types = _types(plan, summary.forms)
    for m in plan.sensors:
        if not summary.covered[m]:
            raise DataError(f"sensor {m!r} covers no window of any session; leave it out")

    def move(folder: Path) -> None:
        for m in arrays:
            shutil.move(place / f"{m}.npy", folder / f"{m}.npy")
        if dropped:
            lines = [f"{name},{start:.6f},{m},{reason}\n" for name, start, m, reason in dropped]
            (folder / DROPPED).write_text("session,start,sensor,reason\n" + "".join(lines), "utf-8")

    write_prepared(out, rows, types, _info(plan, out, rows), files=move, overwrite=overwrite)
    if summary.empty:
        names = ", ".join(list(summary.empty)[:5])
        warnings.warn(f"{len(summary.empty)} sessions have no window: {names}", SidelightWarning, stacklevel=2)
    return summary


def _write(
    made: SessionWindows,
    forms: Mapping[str, Form],
    arrays: dict[str, _ArrayFile],
    plan: Plan,
    place: Path,
    before: int,
) -> None:
    """Append the windows of a session to the files of its sensors; where it lacks a sensor, they are NaN.

    before: the number of windows of earlier sessions, which lack a sensor that is seen first here.
    """
    for m, sensor in plan.sensors.items():
        if sensor.kind or m not in forms:
            continue
        width = forms[m].width
        if m not in arrays:
            arrays[m] = _ArrayFile(place / f"{m}.npy", (width, made.grids[m].values.shape[1]))
            arrays[m].add_absent(before)
        if m not in made.firsts:
            arrays[m].add_absent(len(made.starts))
            continue
        size = max(1, CHUNK // (width * arrays[m].shape[1]))
        for first in range(0, len(made.starts), size):
            arrays[m].add(made.values(m, width, slice(first, first + size)))


def _rows(session: Session, made: SessionWindows, plan: Plan) -> list[dict[str, Any]]:
    rows = []
    length = plan.settings.seconds
    seen: Counter[float] = Counter()
    for i, start in enumerate(made.starts.tolist()):
        seen[start] += 1  # two events may begin at one moment
        again = f" ({seen[start]})" if seen[start] > 1 else ""
        row: dict[str, Any] = {"id": f"{session.name}:{round(start, 6)}{again}"}
        if plan.labels:
            row |= {"label": made.labels[i], "share": round(float(made.share[i]), 6)}
        row |= {"session": session.name, "subject": session.subject or session.name}
        row |= {"start": round(start, 6), "end": round(start + length, 6), **session.columns}
        for m, sensor in plan.sensors.items():
            if sensor.kind:
                row |= {m + FILE: "", m + START: "", m + END: ""}
                if m in made.segments and made.present[m][i]:
                    file, at = made.segments[m]
                    first = round(float(at[i]), 6)
                    row |= {m + FILE: file, m + START: first, m + END: round(first + length, 6)}
        rows.append(row)
    return rows


def _types(plan: Plan, forms: Mapping[str, Form]) -> dict[str, RecordingType]:
    types: dict[str, RecordingType] = {}
    for m, sensor in plan.sensors.items():
        if sensor.kind:
            types[m] = recording_type({"kind": sensor.kind, **sensor.settings}, f"sensors.{m}")
        elif m in forms:
            form = forms[m]
            types[m] = Rows(file=f"{m}.npy", rate=form.rate, unit=form.unit, channels=form.channels)
    return types


def _info(plan: Plan, out: Path, rows: list[dict[str, Any]]) -> DatasetInfo:
    settings = plan.settings
    return DatasetInfo(
        settings.name or out.name,
        source="sidelight windows",
        target=("label",) if plan.labels else (),
        group="subject",
        split="split" if "split" in rows[0] else "",
        available=tuple(settings.available),
        privileged=tuple(settings.privileged),
    )
