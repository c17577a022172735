"""EmbracePlus: counts become g, times are exact, a writer's wrong branch of a union is not ours."""

from __future__ import annotations

import numpy as np
import pytest

from sidelight.errors import DataError
from sidelight.formats import read_events, read_recordings

fastavro = pytest.importorskip("fastavro")

START = 1_700_000_000_123_456


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": k, "type": t} for k, t in fields.items()]}


def array(kind):
    return {"type": "array", "items": kind}


def write(path, start="long", change=None):
    imu = record("imu", physicalMin="int", physicalMax="int", digitalMin="int", digitalMax="int")
    axes = {a: array("int") for a in "xyz"}
    timed = {"timestampStart": start, "samplingFrequency": "float"}
    schema = record(
        "file",
        rawData=record(
            "raw",
            accelerometer=record("acc", **timed, imuParams=imu, **axes),
            eda=record("eda", **timed, values=array("float")),
            temperature=record("temp", **timed, values=array("float")),
            tags=record("tags", tagsTimeMicros=array("long")),
            systolicPeaks=record("peaks", peaksTimeNanos=array("long")),
        ),
    )
    raw = {
        "accelerometer": {
            "timestampStart": START,
            "samplingFrequency": 64.0,
            "imuParams": {"physicalMin": -16, "physicalMax": 16, "digitalMin": -32768, "digitalMax": 32768},
            **{a: [2048] * 64 for a in "xyz"},
        },
        "eda": {"timestampStart": START + 500_000, "samplingFrequency": 4.0, "values": [0.5] * 8},
        "temperature": {"timestampStart": 0, "samplingFrequency": 0.0, "values": []},  # not recorded
        "tags": {"tagsTimeMicros": [START + 1_000_000]},
        "systolicPeaks": {"peaksTimeNanos": [START * 1000, START * 1000 + 800_000_000, START * 1000 + 1_600_000_001]},
    } | (change or {})
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), [{"rawData": raw}])
    return path


def test_sensors_have_units_rates_and_starts_in_utc(tmp_path):
    found = read_recordings(write(tmp_path / "a.avro"))
    assert {n: (r.rate, r.unit) for n, r in found.items()} == {
        "accelerometer": (64, "g"),
        "eda": (4, "uS"),
        "IBI": (0, "s"),
    }
    np.testing.assert_allclose(found["accelerometer"].values, 1.0)
    assert found["eda"].start - found["accelerometer"].start == pytest.approx(0.5, abs=1e-6)
    assert round(found["accelerometer"].start * 1e6) == START
    np.testing.assert_allclose(found["IBI"].values[:, 0], [0.8, 0.800000001], rtol=0, atol=1e-12)
    assert (read_events(tmp_path / "a.avro").onset * 1e6).round().tolist() == [START + 1_000_000]


def test_a_long_in_a_union_with_float_is_read_exactly(tmp_path):
    """fastavro *writes* the first branch that fits, float; a file that holds the long is read to the microsecond."""
    path = write(tmp_path / "a.avro", start=["null", "long", "float"])
    assert round(read_recordings(path)["accelerometer"].start * 1e6) == START


def test_broken_files_are_named(tmp_path):
    path = write(tmp_path / "a.avro")
    raw = path.read_bytes()
    path.write_bytes(raw[:-200])
    with pytest.raises(DataError, match=r"cannot read .*a.avro"):
        read_recordings(path)
    path.write_bytes(b"hello")
    with pytest.raises(DataError, match=r"cannot read .*a.avro"):
        read_recordings(path)
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(record("x", a="int")), [{"a": 1}])
    with pytest.raises(DataError, match=r"has no field 'rawData'; expected the raw data of an Empatica EmbracePlus"):
        read_recordings(path)
