"""NWB: time series with rate or time stamps, conversion, intervals, links."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings

h5py = pytest.importorskip("h5py")


def write(path):
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        file["session_start_time"] = "2026-01-02T03:04:05.5+02:00"
        eda = file.create_group("acquisition/eda")
        eda["data"] = np.arange(8, dtype=np.int16)
        eda["data"].attrs.update({"unit": "microsiemens", "conversion": 0.5, "offset": 1.0})
        eda["starting_time"] = 2.5
        eda["starting_time"].attrs["rate"] = 4.0
        pose = file.create_group("processing/behavior/position/head")
        pose["data"] = np.arange(12.0).reshape(6, 2)
        pose["data"].attrs["unit"] = "meters"
        pose["timestamps"] = np.array([0, 0.1, 0.2, 5, 5.1, 5.2])
        notes = file.create_group("acquisition/notes")
        notes.create_dataset("data", data=["a", "b"], dtype=text)
        notes["timestamps"] = [1.0, 3.0]
        frames = file.create_group("acquisition/camera")
        frames["data"] = np.zeros((3, 4, 5))
        frames["timestamps"] = [0.0, 1.0, 2.0]
        file["acquisition/far"] = h5py.ExternalLink("other.nwb", "/acquisition/eda")
        trials = file.create_group("intervals/trials")
        trials["start_time"], trials["stop_time"] = [1.5, 10.0], [4.0, 12.0]
        trials.create_dataset("condition", data=["calm", "stress"], dtype=text)
    return path


def test_series_keep_rate_or_times_and_are_converted(tmp_path):
    with pytest.warns(SidelightWarning) as said:
        found = read_recordings(write(tmp_path / "a.nwb"))
    assert any("camera has 3 axes" in str(w.message) for w in said)
    assert any("far is a link to another file, which is not followed" in str(w.message) for w in said)
    eda, head = found["eda"], found["head"]
    assert (eda.rate, eda.start, eda.unit) == (4, 2.5, "uS")
    np.testing.assert_allclose(eda.values[:, 0], 1 + 0.5 * np.arange(8))
    assert eda.origin == datetime(2026, 1, 2, 3, 4, 5, 500_000, timezone(timedelta(hours=2)))
    assert (head.unit, head.rate, head.times.tolist()) == ("m", pytest.approx(10), [0, 0.1, 0.2, 5, 5.1, 5.2])


def test_intervals_and_annotations_are_events(tmp_path):
    events = read_events(write(tmp_path / "a.nwb"))
    assert list(zip(events.onset, events.duration, events.label)) == [
        (1.0, 0, "a"), (1.5, 2.5, "calm"), (3.0, 0, "b"), (10.0, 2.0, "stress"),
    ]  # fmt: skip


def test_broken_files_are_named(tmp_path):
    path = write(tmp_path / "a.nwb")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cannot read .*a.nwb"):
        read_recordings(path)
    with h5py.File(tmp_path / "b.nwb", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match=r"is HDF5, but no NWB file"):
        read_recordings(tmp_path / "b.nwb")
