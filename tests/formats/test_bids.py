"""BIDS: continuous recordings with their sidecars, and events."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings

SIDECAR = {
    "SamplingFrequency": 10.0,
    "StartTime": -2.5,
    "Columns": ["cardiac", "respiratory", "trigger"],
    "cardiac": {"Units": "mV"},
    "respiratory": {"Units": "a.u."},
}


def write(folder, text=None, sidecar=SIDECAR, name="sub-1_task-rest_physio"):
    rows = text or "".join(f"{i}\t{i / 2}\t{int(i in (3, 4, 8))}\n" for i in range(10))
    path = folder / f"{name}.tsv.gz"
    path.write_bytes(gzip.compress(rows.encode()))
    if sidecar is not None:
        (folder / f"{name}.json").write_text(json.dumps(sidecar))
    return path


def test_columns_keep_rate_start_and_unit(tmp_path):
    found = read_recordings(write(tmp_path))
    assert {n: (r.rate, r.start, r.unit) for n, r in found.items()} == {
        "cardiac": (10, -2.5, "mV"),
        "respiratory": (10, -2.5, "1"),
        "trigger": (10, -2.5, "1"),
    }
    np.testing.assert_array_equal(found["respiratory"].values[:, 0], np.arange(10) / 2)  # the first row is a sample


def test_triggers_and_the_events_of_the_run_are_on_one_clock(tmp_path):
    path = write(tmp_path, name="sub-1_task-rest_recording-eda_physio")
    (tmp_path / "sub-1_task-rest_events.tsv").write_text("onset\tduration\ttrial_type\n1.5\t2\tpain\n0.5\tn/a\tcue\n")
    events = read_events(path)
    assert list(zip(events.onset, events.duration, events.label)) == [
        (-2.2, 0, "trigger"), (-1.7, 0, "trigger"), (0.5, 0, "cue"), (1.5, 2, "pain"),
    ]  # fmt: skip
    assert len(read_events(tmp_path / "sub-1_task-rest_events.tsv")) == 2


def test_sidecars_further_up_hold_and_nearer_ones_win(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "task-rest_physio.json").write_text(json.dumps(SIDECAR | {"SamplingFrequency": 5}))
    (tmp_path / "task-play_physio.json").write_text(json.dumps(SIDECAR | {"SamplingFrequency": 7}))
    folder = tmp_path / "sub-1" / "func"
    folder.mkdir(parents=True)
    path = write(folder, sidecar=None)
    assert read_recordings(path)["cardiac"].rate == 5
    (folder / "sub-1_task-rest_physio.json").write_text('{"StartTime": 1}')
    assert read_recordings(path)["cardiac"].start == 1


def test_missing_samples_leave_a_gap(tmp_path):
    path = write(tmp_path, "1\t2\t0\nn/a\t3\t0\n2\t4\t0\n")
    with pytest.warns(SidelightWarning, match=r"cardiac \(1 of 3, the first at 0.1 s\)"):
        found = read_recordings(path)
    np.testing.assert_allclose(found["cardiac"].times, [-2.5, -2.3])
    assert found["respiratory"].times is None


@pytest.mark.parametrize(
    ("text", "sidecar", "says"),
    [
        (None, None, r"needs sub-1_task-rest_physio.json beside it"),
        (None, {"SamplingFrequency": 10}, r"StartTime None, Columns None; BIDS demands"),
        (None, SIDECAR | {"SamplingFrequency": "10"}, r"SamplingFrequency '10'"),
        (None, SIDECAR | {"Columns": ["a", "b"]}, r"lines of \[3\] cells, but its .json names 2 columns"),
        ("cardiac\tresp\ttrigger\n1\t2\t3\n", SIDECAR, r"line 1, column 'cardiac' is 'cardiac'.*have no header"),
        ("1\t2\t3\n1\t2", SIDECAR, r"lines of \[2, 3\] cells"),
    ],
)
def test_bad_files_are_named(tmp_path, text, sidecar, says):
    with pytest.raises(DataError, match=f"(?s){says}"):
        read_recordings(write(tmp_path, text, sidecar))


def test_truncated_archives_are_named(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"truncated or not a compressed table"):
        read_recordings(path)
    (tmp_path / "sub-1_events.tsv").write_text("time\tlabel\n1\tx\n")
    with pytest.raises(DataError, match=r"no column 'onset'; BIDS demands"):
        read_events(tmp_path / "sub-1_events.tsv")
