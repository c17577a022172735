"""Empatica E4: headerless files with start and rate, ACC in 1/64 g, beats and tags."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from sidelight.errors import DataError
from sidelight.formats import read_events, read_recordings

START = 1544027337.0


@pytest.fixture
def folder(tmp_path):
    def sensor(name, rate, rows, start=START, columns=1):
        head = [", ".join([f"{start:.6f}"] * columns), ", ".join([f"{rate:.6f}"] * columns)]
        (tmp_path / f"{name}.csv").write_text("\n".join([*head, *rows]) + "\n")

    sensor("ACC", 32, [f"{i},{-i},64" for i in range(96)], columns=3)
    sensor("BVP", 64, [f"{i / 10:.2f}" for i in range(192)])
    sensor("EDA", 4, [f"{0.1 * i:.6f}" for i in range(12)])
    sensor("TEMP", 4, ["382.21" if i < 2 else "31.5" for i in range(12)])
    sensor("HR", 1, ["71.00", "72.50"], start=START + 10)
    (tmp_path / "IBI.csv").write_text(f"{START:.6f}, IBI\n1.5,0.80\n2.3,0.81\n9.0,0.79\n")
    (tmp_path / "tags.csv").write_text(f"{START + 2:.2f}\n{START + 1:.2f}\n")
    (tmp_path / "info.txt").write_text("1. ACC.csv …")
    return tmp_path


def test_every_sensor_keeps_its_rate_unit_and_start(folder):
    found = read_recordings(folder)
    assert {n: (r.rate, r.unit, r.start) for n, r in found.items() if n != "IBI"} == {
        "ACC": (32, "g", START),
        "BVP": (64, "1", START),
        "EDA": (4, "uS", START),
        "HR": (1, "bpm", START + 10),
        "TEMP": (4, "degC", START),
    }
    np.testing.assert_array_equal(found["ACC"].values[:3], [[0, 0, 1], [1 / 64, -1 / 64, 1], [2 / 64, -2 / 64, 1]])
    assert found["ACC"].channels == ("x", "y", "z")
    assert len(found["EDA"].values) == 12  # neither start nor rate is taken as a sample
    assert found["EDA"].origin == datetime(1970, 1, 1, tzinfo=UTC)


def test_beats_keep_their_times(folder):
    beats = read_recordings(folder)["IBI"]
    assert (beats.rate, beats.unit) == (0, "s")
    np.testing.assert_allclose(beats.times, START + np.array([1.5, 2.3, 9.0]), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(beats.values[:, 0], [0.8, 0.81, 0.79])


def test_tags_are_events_in_order(folder):
    events = read_events(folder)
    np.testing.assert_allclose(events.onset, [START + 1, START + 2], atol=1e-6)
    assert events.label.tolist() == ["tag", "tag"]
    (folder / "tags.csv").write_text("")
    assert len(read_events(folder)) == 0


def test_starts_written_as_text_are_utc(folder):
    (folder / "EDA.csv").write_text("2018-12-05 16:28:57\n4\n0.1\n0.2\n")
    assert read_recordings(folder)["EDA"].start == START


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("EDA", "1544027337.0\n4.0\n", "EDA.csv has 2 lines"),
        ("EDA", "time,eda\n0,1\n1,2\n", "EDA.csv: line 1 is 'time'; expected a time in seconds since 1970"),
        ("EDA", f"{START}\n4\n0.1\n0.2x\n0.3\n", "EDA.csv: line 4 is '0.2x'; expected 1 number"),
        ("EDA", f"{START}\n0\n0.1\n", "EDA.csv: line 2 is '0'; expected the sampling rate"),
        ("ACC", f"{START},{START},{START}\n32,32,32\n1,2,3\n1,2", "ACC.csv: line 4 is '1,2'; expected 3.*truncated"),
        ("ACC", f"{START},{START},{START}\n32,32,16\n1,2,3\n", "ACC.csv: line 2 is '32,32,16'"),
        ("IBI", f"{START}, IBI\n1.5\n", "IBI.csv: line 2 is '1.5'; expected 2"),
        ("tags", "yesterday\n", "tags.csv: line 1 is 'yesterday'"),
    ],
)
def test_bad_files_are_named(folder, name, text, says):
    (folder / f"{name}.csv").write_text(text)
    with pytest.raises(DataError, match=f"(?s){says}"):
        read_recordings(folder)
