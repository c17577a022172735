"""XDF (Lab Streaming Layer), by pyxdf, which reads chunks and synchronizes clocks.

Its removal of jitter is left out: by default it takes a pause of up to 500 samples for jitter and closes it, so that
30 s of a 4 Hz stream vanish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.formats.logged import logged_errors
from sidelight.signals.stamps import remove_jitter
from sidelight.utils.extras import optional

MARKERS = ("markers", "marker", "events", "event", "stim", "trigger", "triggers", "annotations")
"""Types of streams whose numbers are events."""
TOLERANCE = 0.05
"""Largest difference of the measured rate from the one that the device declares, as a share of it."""


def read(content: Content) -> None:
    pyxdf = optional("pyxdf", "recordings", "reading XDF files")
    with logged_errors("pyxdf") as faults:
        streams, _ = pyxdf.load_xdf(str(content.path), dejitter_timestamps=False)
    if faults:
        raise DataError(f"{content.path} is truncated or damaged: {faults[0]}")
    for stream in streams:
        _read_stream(content, stream)


def _read_stream(content: Content, stream: dict[str, Any]) -> None:
    info = stream["info"]
    name, kind = _text(info, "name") or f"stream {info['stream_id']}", _text(info, "type").lower()
    times, nominal = np.asarray(stream["time_stamps"], np.float64), float(_text(info, "nominal_srate") or 0)
    if "footer" not in stream:
        content.warn(f"stream {name!r} has no end: the recorder was interrupted, so that samples may be missing")
    elif (declared := _text(stream["footer"]["info"], "sample_count")) and int(declared) > len(times):
        raise DataError(f"{content.path} is truncated: stream {name!r} has {len(times)} of {declared} samples")
    if _text(info, "channel_format") == "string" or (nominal == 0 and kind in MARKERS):
        for t, row in zip(times, stream["time_series"], strict=True):
            for value in row:
                if (label := str(value).strip()) != "":
                    content.add_event(float(t), 0.0, label)
        return
    values = np.asarray(stream["time_series"])
    rate, start = nominal, 0.0
    stamps: NDArray[np.float64] | None = times
    if nominal > 0 and len(times) > 1:
        even, rate, gaps = remove_jitter(times)
        if abs(rate / nominal - 1) > TOLERANCE:
            content.warn(
                f"stream {name!r} has {rate:.6g} samples a second, but declares {nominal:g} Hz; its times are kept"
            )
        start = float(even[0])
        stamps = None if not gaps and np.ptp(np.diff(even)) < 1e-6 else even  # without gaps the rate says it all
    channels, units = _channels(info, values.shape[1])
    content.add_channels(name, values, channels, units, rate=rate, start=start, times=stamps)


def _channels(info: dict[str, Any], count: int) -> tuple[list[str], list[str]]:
    """Names and units of the channels; numbers and "" where the stream describes none, or another number of them."""
    try:
        described = [channel or {} for channel in info["desc"][0]["channels"][0]["channel"]]
    except (KeyError, IndexError, TypeError):
        described = []
    if len(described) != count:
        described = [{}] * count
    names = [_text(channel, "label") or str(c) for c, channel in enumerate(described)]
    return names, [_text(channel, "unit") for channel in described]


def _text(info: dict[str, Any], key: str) -> str:
    """The text of an element of the stream's XML, "" if it is absent or empty."""
    found = info.get(key) or [""]
    return str((found[0] if isinstance(found, list) else found) or "").strip()
