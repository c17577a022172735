"""AcqKnowledge: own rates, scales of whole numbers, markers, truncation."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from sidelight.errors import DataError
from sidelight.formats import read_events, read_recordings

headers = pytest.importorskip("bioread.headers")

REVISION = 38
"""AcqKnowledge 3.7: the first in which channels may be sampled more slowly."""


def header(kind, **fields):
    """Bytes of a header, laid out by bioread's own description of the format."""
    laid = kind.for_revision(REVISION, "<")
    base = ctypes.LittleEndianStructure
    layout = type("Layout", (base,), {"_pack_": 1, "_fields_": laid._fields_for_current_version()})
    return bytes(layout(**fields))


def write(path, cut=0):
    eda = np.arange(100, dtype="<i2")  # 0.1 µS a step from 1 µS on
    resp = np.arange(50, dtype="<f8")  # at half the rate
    size = len(header(headers.ChannelHeader))

    def channel(name, unit, count, scale, offset, divider):
        return header(
            headers.ChannelHeader, lChanHeaderLen=size, szCommentText=name, szUnitsText=unit, lBufLength=count,
            dAmplScale=scale, dAmplOffset=offset, nVarSampleDivider=divider,
        )  # fmt: skip

    graph = header(headers.GraphHeader)
    parts = [
        header(headers.GraphHeader, lVersion=REVISION, lExtItemHeaderLen=len(graph), nChannels=2, dSampleTime=10.0),
        channel(b"EDA", b"microsiemens", 100, 0.1, 1.0, 1),
        channel(b"Resp", b"Volts", 50, 7.0, 7.0, 2),
        header(headers.ForeignHeader, nLength=4),
        header(headers.ChannelDTypeHeader, nSize=2, nType=2),
        header(headers.ChannelDTypeHeader, nSize=8, nType=1),
        # Samples in the order of their times: two of EDA, one of Resp.
        b"".join(eda[2 * i].tobytes() + resp[i].tobytes() + eda[2 * i + 1].tobytes() for i in range(50)),
        header(headers.MarkerHeader, lLength=8, lMarkers=1),
        header(headers.MarkerItemHeader, lSample=25, nTextLength=4) + b"pain\0",
        b"\x44\x33\x22\x11" + bytes(6),
    ]  # fmt: skip
    raw = b"".join(parts)
    path.write_bytes(raw[: len(raw) - cut])
    return path


def test_channels_keep_rate_scale_and_unit(tmp_path):
    found = read_recordings(write(tmp_path / "a.acq"))
    assert {n: (r.rate, r.unit, len(r.values)) for n, r in found.items()} == {
        "EDA": (100, "uS", 100),
        "Resp": (50, "V", 50),
    }
    np.testing.assert_allclose(found["EDA"].values[:, 0], 1 + 0.1 * np.arange(100))
    np.testing.assert_array_equal(found["Resp"].values[:, 0], np.arange(50))


def test_markers_are_events(tmp_path):
    events = read_events(write(tmp_path / "a.acq"))
    assert (events.onset.tolist(), events.label.tolist()) == ([0.25], ["pain"])


def test_broken_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a.acq.*truncated"):
        read_recordings(write(tmp_path / "a.acq", cut=200))
    (tmp_path / "b.acq").write_bytes(b"hello" * 20)
    with pytest.raises(DataError, match=r"cannot read .*b.acq"):
        read_recordings(tmp_path / "b.acq")
