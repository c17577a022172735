"""C3D: unseen markers are gaps. FIT: times are UTC."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings


def write_c3d(path, unseen):
    ezc3d = pytest.importorskip("ezc3d")
    file = ezc3d.c3d()
    points, analog = file["parameters"]["POINT"], file["parameters"]["ANALOG"]
    points["RATE"]["value"], points["LABELS"]["value"], points["UNITS"]["value"] = [100], ("A", "B"), ["mm"]
    analog["RATE"]["value"], analog["LABELS"]["value"], analog["UNITS"]["value"] = [1000], ("EMG",), ["V"]
    x = np.ones((4, 2, 20))
    x[0] = np.arange(20)
    residuals = np.zeros((1, 2, 20))
    if unseen == "nan":
        x[:3, 1, 5:8] = np.nan
    else:
        x[:3, 1, 5:8], residuals[0, 1, 5:8] = 0, -1
    file["data"]["points"] = x
    file["data"]["meta_points"]["residuals"] = residuals
    file["data"]["meta_points"]["camera_masks"] = np.zeros((7, 2, 20), bool)
    file["data"]["analogs"] = np.arange(200.0).reshape(1, 1, 200)
    file.add_parameter("EVENT", "CONTEXTS", ["Left"])
    file.add_parameter("EVENT", "LABELS", ["Foot Strike"])
    file.add_parameter("EVENT", "TIMES", np.array([[1.0], [2.5]]))  # minutes, seconds
    file.write(str(path))
    return path


@pytest.mark.parametrize("unseen", ["nan", "zero with residual -1"])
def test_unseen_markers_are_gaps_not_the_origin_of_the_room(tmp_path, unseen):
    path = write_c3d(tmp_path / "a.c3d", unseen)
    with pytest.warns(SidelightWarning, match=r"B \(3 of 20, the first at 0.05 s\)"):
        found = read_recordings(path)
    assert {n: (r.rate, r.unit, r.channels) for n, r in found.items()} == {
        "A": (100, "mm", ("x", "y", "z")), "B": (100, "mm", ("x", "y", "z")), "EMG": (1000, "V", ()),
    }  # fmt: skip
    np.testing.assert_allclose(found["B"].times, np.delete(np.arange(20), [5, 6, 7]) / 100)
    assert found["B"].values.min() >= 0
    assert found["A"].times is None
    np.testing.assert_allclose(found["EMG"].values[:, 0], np.arange(200))


def test_c3d_events_count_minutes_and_seconds(tmp_path):
    events = read_events(write_c3d(tmp_path / "a.c3d", "nan"))
    assert (events.onset.tolist(), events.label.tolist()) == ([62.5], ["Left Foot Strike"])


def test_broken_c3d_files_are_named(tmp_path):
    path = write_c3d(tmp_path / "a.c3d", "nan")
    raw = path.read_bytes()
    path.write_bytes(raw[:-1024])
    with pytest.raises(DataError, match=r"a.c3d.*truncated"):
        read_recordings(path)
    path.write_bytes(b"hello" * 300)
    with pytest.raises(DataError, match=r"cannot read .*a.c3d: truncated or no C3D file"):
        read_recordings(path)


def test_damage_that_ends_the_process_in_ezc3d_is_an_error(tmp_path):
    raw = write_c3d(tmp_path / "a.c3d", "nan").read_bytes()
    at = raw.index(b"OFFSET")
    for damaged, says in (
        (raw[:at] + b"#" + raw[at + 1 :], "it has no parameter ANALOG:OFFSET"),
        (raw[: at + 6] + b"\xff\x7f" + raw[at + 8 :], "cannot read"),
        (raw[:514] + b"\xff" + raw[515:], "its parameters are not there"),
        (raw[:2] + b"\x09" + raw[3:], "its header and its parameters contradict each other"),
    ):
        (tmp_path / "b.c3d").write_bytes(damaged)
        with pytest.raises(DataError, match=f"b.c3d.*{says}" if says != "cannot read" else "cannot read .*b.c3d"):
            read_recordings(tmp_path / "b.c3d")


CRC = (
    0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
    0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400,
)  # fmt: skip
"""Table of FIT's check sum."""


def checksum(data):
    crc = 0
    for byte in data:
        for half in (byte & 15, byte >> 4):
            crc = ((crc >> 4) & 0x0FFF) ^ CRC[crc & 15] ^ CRC[half]
    return crc


def write_fit(path, rows, body=b""):
    """Records (message 20) of time (253), heart rate (3), latitude (0) and power (7); an event (21) in between."""
    fields = [(253, 4, 0x86), (3, 1, 0x02), (0, 4, 0x85), (7, 2, 0x84)]
    body += struct.pack("<BBBHB", 0x40, 0, 0, 20, len(fields)) + b"".join(struct.pack("BBB", *f) for f in fields)
    for row in rows:
        body += struct.pack("<BIBiH", 0, *row)
    body += struct.pack("<BBBHB", 0x41, 0, 0, 21, 3) + b"".join(
        struct.pack("BBB", *f) for f in [(253, 4, 0x86), (0, 1, 0), (1, 1, 0)]
    )
    body += struct.pack("<BIBB", 1, rows[0][0] + 1, 0, 0)  # timer start
    head = struct.pack("<BBHI4s", 14, 0x20, 2132, len(body), b".FIT")
    head += struct.pack("<H", checksum(head))
    path.write_bytes(head + body + struct.pack("<H", checksum(head + body)))
    return path


EPOCH = int(datetime(1989, 12, 31, tzinfo=UTC).timestamp())
NONE = 0xFFFF
"""What FIT stores for a field without a value (16 bits)."""


def test_fit_times_are_utc_and_missing_values_are_gaps(tmp_path):
    pytest.importorskip("fitdecode")
    start = int(datetime(2026, 3, 29, 1, 0, tzinfo=UTC).timestamp())  # an hour that local clocks in Europe skip
    rows = [(start - EPOCH + i, 60 + i, 2**29, 200 if i != 2 else NONE) for i in range(5)]
    path = write_fit(tmp_path / "a.fit", rows)
    found = read_recordings(path)
    hr, power = found["heart_rate"], found["power"]
    np.testing.assert_array_equal(hr.times, start + np.arange(5))
    assert (hr.unit, hr.origin, hr.values[:, 0].tolist()) == (
        "bpm",
        datetime(1970, 1, 1, tzinfo=UTC),
        [60, 61, 62, 63, 64],
    )
    np.testing.assert_array_equal(power.times, start + np.array([0, 1, 3, 4]))
    assert power.unit == "W"
    assert (found["position_lat"].values[0, 0], found["position_lat"].unit) == (45, "deg")
    events = read_events(path)
    assert (events.onset.tolist(), events.label.tolist()) == ([start + 1], ["timer start"])


def test_broken_fit_files_are_named(tmp_path):
    pytest.importorskip("fitdecode")
    path = write_fit(tmp_path / "a.fit", [(10**9 + i, 60, 0, 0) for i in range(5)])
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[:-9])
    with pytest.raises(DataError, match=r"cannot read .*a.fit"):
        read_recordings(path)
    raw[40] ^= 255
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"cannot read .*a.fit.*[Cc][Rr][Cc]"):
        read_recordings(path)
    path.write_bytes(b"hello" * 30)
    with pytest.raises(DataError, match=r"cannot read .*a.fit"):
        read_recordings(path)
