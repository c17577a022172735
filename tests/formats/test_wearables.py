"""Shimmer (Consensys) and Polar text files."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from sidelight.errors import DataError
from sidelight.formats import read_recordings

SHIMMER = [
    '"sep=\t"',
    "S1_Timestamp_Unix_CAL\tS1_Accel_LN_X_CAL\tS1_Accel_LN_Y_CAL\tS1_Accel_LN_Z_CAL\tS1_GSR_Skin_Conductance_CAL\t",
    "ms\tm/(s^2)\tm/(s^2)\tm/(s^2)\tuS\t",
]


def shimmer(path, rows, head=SHIMMER):
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


def shimmer_rows(n=20, gap=0):
    return [f"{1.7e12 + 1000 * i / 64 + (gap if i >= 10 else 0)!r}\t{i}\t0\t9.81\t{i / 10}\t" for i in range(n)]


def test_shimmer_groups_axes_and_keeps_measured_times(tmp_path):
    found = read_recordings(shimmer(tmp_path / "a.csv", shimmer_rows(gap=5000)))
    acc, gsr = found["Accel_LN"], found["GSR_Skin_Conductance"]
    assert (acc.unit, acc.channels, gsr.unit) == ("m/s2", ("X", "Y", "Z"), "uS")
    assert gsr.rate == pytest.approx(64, rel=1e-4)
    assert gsr.times[10] - gsr.times[9] == pytest.approx(5 + 1 / 64, abs=1e-6)
    assert (gsr.start, gsr.origin) == (1.7e9, datetime(1970, 1, 1, tzinfo=UTC))


def test_bad_shimmer_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"line 3 has 1 units, but line 2 names 5"):
        read_recordings(shimmer(tmp_path / "a.csv", [], [*SHIMMER[:2], "ms"]))
    with pytest.raises(DataError, match=r"line 4 has 2 cells.*truncated"):
        read_recordings(shimmer(tmp_path / "a.csv", ["1\t2"]))
    head = [line.replace("Timestamp_Unix_CAL", "Timestamp_RAW") for line in SHIMMER]
    with pytest.raises(DataError, match=r"no calibrated time stamps in ms"):
        read_recordings(shimmer(tmp_path / "a.csv", shimmer_rows(), head))


def test_polar_packets_are_placed_by_the_sensors_clock(tmp_path):
    """Packets of 5 samples arrive 0.1 to 0.3 s late; the sensor's own clock is 20 years behind."""
    lines = ["Phone timestamp;sensor timestamp [ns];X [mg];Y [mg];Z [mg]"]
    first = 600_000_000_123_456_789
    for i in range(20):
        arrival = np.datetime64("2026-02-28T11:00:00") + np.timedelta64(
            int(100 + (i // 5) * 66 + 20 * (i // 5 * 5 + 4)), "ms"
        )
        lines.append(f"{arrival};{first + i * 20_000_000};{i};0;1000")
    (tmp_path / "H10_ACC.txt").write_text("\n".join(lines) + "\n")
    acc = read_recordings(tmp_path / "H10_ACC.txt")["ACC"]
    assert (acc.unit, acc.channels, acc.rate) == ("mg", ("X", "Y", "Z"), pytest.approx(50))
    np.testing.assert_allclose(np.diff(acc.times), 0.02, atol=1e-6)
    noon = datetime(2026, 2, 28, 11).replace(tzinfo=UTC).timestamp()
    assert acc.start == pytest.approx(noon + 0.1, abs=1e-3)  # later by the delay of the fastest packet
    assert acc.origin == datetime(1970, 1, 1)  # local time: the file has no zone


def test_polar_heart_rates_with_whole_and_fractional_seconds(tmp_path):
    """pandas gives ISO texts another unit of time by their digits; both must be the same clock."""
    text = "Phone timestamp;HR [bpm];HRV [ms];\n2026-02-28T11:00:00.000;60;;\n2026-02-28T11:00:01.000;61;12.5;\n"
    (tmp_path / "HR.txt").write_text(text)
    (tmp_path / "HR2.txt").write_text(text.replace(".000", ""))
    with pytest.warns(match=r"HRV \(1 of 2"):
        a, b = (read_recordings(tmp_path / f"{n}.txt") for n in ("HR", "HR2"))
    np.testing.assert_array_equal(a["HR"].times, b["HR"].times)
    assert (a["HR"].unit, a["HR"].values[:, 0].tolist(), a["HRV"].unit) == ("bpm", [60, 61], "ms")


def test_bad_polar_files_are_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Phone timestamp;HR [bpm]\nyesterday;60\n")
    with pytest.raises(DataError, match=r"column 'Phone timestamp' begins with 'yesterday'; expected ISO 8601"):
        read_recordings(path)
    path.write_text("Phone timestamp;HR [bpm]\n2026-02-28T11:00:00.000;60\n2026-02-28T11")
    with pytest.raises(DataError, match=r"line 3 has 1 cells.*truncated"):
        read_recordings(path)


FLOW = """Name,Sport,Date,Start time,Duration
Ann,RUNNING,28-02-2026,11:00:05,00:00:03
Sample rate,Time,HR (bpm),Speed (km/h),Pace (min/km),Cadence,
1,00:00:00,90,8.5,07:03,,
,00:00:01,91,8.6,06:58,,
,00:00:02,92,8.7,06:53,,
"""


def test_polar_flow(tmp_path):
    (tmp_path / "a.csv").write_text(FLOW)
    found = read_recordings(tmp_path / "a.csv")
    assert {n: r.unit for n, r in found.items()} == {"HR": "bpm", "Speed": "km/h"}
    assert (found["HR"].rate, found["HR"].origin) == (1, datetime(2026, 2, 28, 11, 0, 5))
    (tmp_path / "a.csv").write_text(FLOW.replace("00:00:01", "soon"))
    with pytest.raises(DataError, match=r"line 5: the time is 'soon'"):
        read_recordings(tmp_path / "a.csv")
