"""Writes XDF files byte by byte, as Lab Streaming Layer's recorder does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def _chunk(tag: int, content: bytes) -> bytes:
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def _count(n: int) -> bytes:
    return b"\x04" + struct.pack("<I", n)


def stream(
    name: str,
    times: Sequence[float],
    values: Any,
    rate: float = 0.0,
    channels: Sequence[tuple[str, str]] = (),
    kind: str = "sensor",
    footer: bool = True,
) -> dict[str, Any]:
    """A stream for `write_xdf`; texts make a stream of markers."""
    return {
        "name": name,
        "times": np.asarray(times, float),
        "values": values,
        "rate": rate,
        "channels": channels,
        "kind": kind,
        "footer": footer,
    }


def write_xdf(path: Path, *streams: dict[str, Any], size: int = 16) -> Path:
    """Write streams in chunks of `size` samples."""
    out = [b"XDF:", _chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")]
    for number, s in enumerate(streams, 1):
        text = isinstance(s["values"][0], str)
        x = s["values"] if text else np.asarray(s["values"], "<f4").reshape(len(s["times"]), -1)
        width = 1 if text else x.shape[1]
        described = "".join(f"<channel><label>{n}</label><unit>{u}</unit></channel>" for n, u in s["channels"])
        header = (
            f"<?xml version='1.0'?><info><name>{s['name']}</name><type>{s['kind']}</type>"
            f"<channel_count>{width}</channel_count><nominal_srate>{s['rate']}</nominal_srate>"
            f"<channel_format>{'string' if text else 'float32'}</channel_format>"
            f"<desc><channels>{described}</channels></desc></info>"
        )
        to = struct.pack("<I", number)
        out.append(_chunk(2, to + header.encode()))
        for first in range(0, len(s["times"]), size):
            rows = range(first, min(first + size, len(s["times"])))
            body = _count(len(rows))
            for i in rows:
                value = _count(len(x[i].encode())) + x[i].encode() if text else x[i].tobytes()
                body += b"\x08" + struct.pack("<d", s["times"][i]) + value
            out.append(_chunk(3, to + body))
        if s["footer"]:
            count = f"<info><sample_count>{len(s['times'])}</sample_count></info>"
            out.append(_chunk(6, to + f"<?xml version='1.0'?>{count}".encode()))
    path.write_bytes(b"".join(out))
    return path
