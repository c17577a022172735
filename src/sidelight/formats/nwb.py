"""NWB (Neurodata Without Borders): every time series, by h5py. An NWB file is HDF5, and says where all of it lies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.signals.stamps import usual_rate
from sidelight.utils.extras import optional

PARTS = ("acquisition", "processing", "stimulus", "analysis")


def read(content: Content) -> None:
    h5py = optional("h5py", "recordings", "reading NWB files")
    with h5py.File(content.path, "r") as file:
        if "nwb_version" not in file.attrs:
            raise DataError(f"{content.path} is HDF5, but no NWB file: it has no nwb_version")
        content.origin = _origin(file)
        for part in PARTS:
            if part in file:
                _walk(h5py, content, file[part])
        for table in file.get("intervals", {}).values():
            _add_intervals(content, table)


def _origin(file: Any) -> datetime | None:
    text = next((file[k][()] for k in ("timestamps_reference_time", "session_start_time") if k in file), b"")
    try:
        return datetime.fromisoformat(text.decode() if isinstance(text, bytes) else str(text))
    except ValueError:
        return None


def _walk(h5py: Any, content: Content, group: Any) -> None:
    """Add every time series below a group, without following links to other files."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            content.warn(f"{group.name}/{name} is a link to another file, which is not followed")
            continue
        node = group[name]
        if not isinstance(node, h5py.Group):
            continue
        if isinstance(node.get("data"), h5py.Dataset) and ("timestamps" in node or "starting_time" in node):
            _add_series(h5py, content, name, node)
        else:
            _walk(h5py, content, node)


def _add_series(h5py: Any, content: Content, name: str, node: Any) -> None:
    data = node["data"]
    times = node["timestamps"][()] if "timestamps" in node else None
    rate = float(node["starting_time"].attrs["rate"]) if times is None else 0.0
    start = float(node["starting_time"][()]) if times is None else 0.0
    if data.dtype.kind in "OSU":
        moments = start + np.arange(len(data)) / rate if times is None else times
        for t, text in zip(moments, data.asstr()[()], strict=True):
            content.add_event(float(t), 0.0, str(text))
        return
    if data.ndim > 2:
        content.warn(f"{node.name} has {data.ndim} axes: pictures or volumes, which are left out")
        return
    if times is not None and len(times) > 1:
        rate = usual_rate(times)

    def values() -> np.ndarray:
        # As NWB defines it: data in `unit` is the stored number * conversion + offset.
        return np.asarray(data[()] * float(data.attrs.get("conversion", 1)) + float(data.attrs.get("offset", 0)))

    unit = data.attrs.get("unit", "")
    content.add(name, values, rate=rate, unit=str(unit), start=start, times=times)


def _add_intervals(content: Content, table: Any) -> None:
    """The rows of a table of intervals, e.g. trials: labelled by the first column of text, else by the table's name."""
    if "start_time" not in table or "stop_time" not in table:
        return
    begin, end = table["start_time"][()], table["stop_time"][()]
    texts = [k for k in table if k != "tags" and table[k].dtype.kind in "OSU" and table[k].shape == begin.shape]
    labels = table[texts[0]].asstr()[()] if texts else [table.name.rpartition("/")[2]] * len(begin)
    for t, until, label in zip(begin, end, labels, strict=True):
        content.add_event(float(t), float(until - t), str(label))
