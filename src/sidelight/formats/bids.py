"""BIDS: physiological and other continuous recordings (.tsv.gz beside a .json), and events.tsv."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.utils.delimited import MISSING, read_delimited
from sidelight.utils.files import read_json

NAME = re.compile(r"(_physio|_stim|_events)\.tsv(\.gz)?$")
TRIGGERS = ("trigger", "triggers")


def matches(path: Path) -> bool:
    return NAME.search(path.name) is not None


def read(content: Content) -> None:
    if content.path.name.removesuffix(".gz").endswith("_events.tsv"):
        _read_events(content)
        return
    settings = _read_sidecar(content.path)
    rate, start, columns = (settings.get(k) for k in ("SamplingFrequency", "StartTime", "Columns"))
    missing = [k for k in ("SamplingFrequency", "StartTime", "Columns") if k not in settings]
    if missing or not (_is_number(rate) and _is_number(start) and isinstance(columns, list) and columns):
        raise DataError(
            f"{content.path}: its .json says SamplingFrequency {rate!r}, StartTime {start!r}, Columns {columns!r}; "
            "BIDS demands a rate in Hz, a start in seconds and the names of the columns"
        )
    rate, start = float(settings["SamplingFrequency"]), float(settings["StartTime"])
    values = _read_table(content.path, [str(c) for c in columns])
    for c, name in enumerate(columns):
        about = settings.get(name)
        unit = str(about.get("Units", "")) if isinstance(about, dict) else ""
        content.add(str(name), values[:, c], rate=rate, unit=unit, start=start)
        if str(name).lower() in TRIGGERS:
            high = values[:, c] > 0
            for i in np.flatnonzero(np.diff(high.astype(np.int8), prepend=0) == 1):
                content.add_event(start + i / rate, 0.0, str(name))
    siblings = NAME.sub("_events.tsv", content.path.name)
    for part in (siblings, re.sub(r"_recording-[A-Za-z0-9]+", "", siblings)):
        if content.events_only and (path := content.path.with_name(part)).is_file():
            _read_events(content, path)
            break


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _read_sidecar(path: Path) -> dict[str, Any]:
    """The settings of the .json files that hold for the file, the nearest last (BIDS: the inheritance principle)."""
    stem = path.name.removesuffix(".gz").removesuffix(".tsv")
    *entities, suffix = stem.split("_")
    settings: dict[str, Any] = {}
    found = False
    # The top folder of the data set is the farthest one up to which a sidecar holds.
    folders = [path.parent, *path.parent.parents]
    top = next((i for i, f in enumerate(folders) if (f / "dataset_description.json").is_file()), 0)
    for folder in reversed(folders[: top + 1]):
        near = sorted(folder.glob(f"*{suffix}.json"), key=lambda p: p.name.count("_"))
        for sidecar in near:
            *of, kind = sidecar.name.removesuffix(".json").split("_")
            if kind == suffix and set(of) <= set(entities):
                loaded = read_json(sidecar)
                if not isinstance(loaded, dict):
                    raise DataError(f"{sidecar} holds no settings; expected an object with SamplingFrequency, …")
                settings |= loaded
                found = True
    if not found:
        raise DataError(
            f"{path} needs {stem}.json beside it (or a sidecar further up), which says SamplingFrequency, StartTime "
            "and Columns"
        )
    return settings


def _read_table(path: Path, columns: list[str]) -> np.ndarray:
    """(T, C) numbers of a table without a header; NaN: n/a."""
    import pandas as pd

    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: truncated or not a compressed table ({error})") from None
    lines = text.splitlines()
    widths = {line.count("\t") + 1 for line in lines if line}
    if widths != {len(columns)}:
        raise DataError(
            f"{path} has lines of {sorted(widths)} cells, but its .json names {len(columns)} columns: {columns}"
        )
    table = pd.read_csv(io.StringIO(text), sep="\t", header=None, names=columns, dtype=str, keep_default_na=False)
    out = np.empty((len(table), len(columns)))
    for c in range(len(columns)):
        cells = table.iloc[:, c].str.strip()
        out[:, c] = pd.to_numeric(cells, errors="coerce")
        bad = np.isnan(out[:, c]) & ~cells.str.lower().isin(MISSING).to_numpy()
        for i in np.flatnonzero(bad)[:1]:
            hint = "; BIDS tables of recordings have no header" if i == 0 else ""
            raise DataError(
                f"{path}: line {i + 1}, column {columns[c]!r} is {cells.iloc[i]!r}; expected a number{hint}"
            )
    return out


def _read_events(content: Content, path: Path | None = None) -> None:
    import pandas as pd

    path = path or content.path
    table = read_delimited(path, "\t")
    for column in ("onset", "duration"):
        if column not in table.names:
            raise DataError(
                f"{path}: no column {column!r}; BIDS demands onset and duration in seconds. Columns: {table.names}"
            )
    name = next((c for c in ("trial_type", "value", "event_type", "code") if c in table.names), "")
    onset, duration = (
        np.asarray(pd.to_numeric(table.cells[table.names.index(c)], errors="coerce"), np.float64)
        for c in ("onset", "duration")
    )
    label = table.cells[table.names.index(name)].str.strip() if name else ["event"] * len(onset)
    for line, t, d, text in zip(table.lines, onset, duration, label, strict=True):
        if not np.isfinite(t):
            raise DataError(f"{path}: line {line}: the onset is no number of seconds")
        content.add_event(float(t), float(d) if np.isfinite(d) else 0.0, text)
