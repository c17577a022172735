"""OpenSignals and BioSPPy text: formulas of sensors, counts where none is known, lost samples."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_recordings

ABOUT = {
    "sensor": ["EDA", "ECG", "LUX"],
    "device name": "BITalino",
    "column": ["nSeq", "I1", "A1", "A2", "A3"],
    "time": "15:40:38.4",
    "date": "2026-02-28",
    "device": "bitalino_rev",
    "sampling rate": 100,
    "label": ["A1", "A2", "A3"],
    "resolution": [4, 1, 10, 10, 6],
}


def write(path, about=ABOUT, rows=40, skip=(), address="20:16", header=True):
    lines = [
        "# OpenSignals Text File Format",
        "# " + json.dumps({address: about}),
        *(["# EndOfHeader"] if header else []),
        *(f"{i % 16}\t0\t512\t{600 + i}\t{i % 64}\t" for i in range(rows) if i not in skip),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_counts_become_units_by_the_sensors_formula_or_stay_counts(tmp_path):
    with pytest.warns(SidelightWarning, match=r"'LUX' stays in counts of 6 bits"):
        found = read_recordings(write(tmp_path / "a.txt"))
    assert {n: (r.rate, r.unit) for n, r in found.items()} == {
        "EDA": (100, "uS"),
        "ECG": (100, "mV"),
        "LUX": (100, "counts"),
    }
    assert found["EDA"].values[0, 0] == pytest.approx(512 / 1024 * 3.3 / 0.132)  # 12.5 µS, not 512
    assert found["ECG"].values[0, 0] == pytest.approx((600 / 1024 - 0.5) * 3.3 / 1100 * 1000)
    assert found["LUX"].values[5, 0] == 5
    assert found["EDA"].origin == datetime(2026, 2, 28, 15, 40, 38, 400_000)
    assert found["EDA"].times is None


@pytest.mark.filterwarnings("ignore:.*stays in counts")
def test_the_first_bitalino_has_other_sensors(tmp_path):
    eda = read_recordings(write(tmp_path / "a.txt", ABOUT | {"device": "bitalino"}))["EDA"]
    assert (eda.unit, eda.values[0, 0]) == ("counts", 512)


def test_biosignalsplux_and_converted_files(tmp_path):
    about = ABOUT | {"device": "biosignalsplux", "sensor": ["EDA", "ECG", "EMG"], "resolution": [16, 16, 16]}
    found = read_recordings(write(tmp_path / "a.txt", about))
    assert found["EDA"].values[0, 0] == pytest.approx(512 / 65536 * 3 / 0.12)
    found = read_recordings(write(tmp_path / "b.txt", about | {"convertedValues": 1}))
    assert (found["EDA"].values[0, 0], found["EDA"].unit) == (512, "uS")


@pytest.mark.filterwarnings("ignore:.*stays in counts")
def test_lost_samples_leave_gaps_by_the_sequence_numbers(tmp_path):
    path = write(tmp_path / "a.txt", rows=60, skip=(20, 21, 22))
    with pytest.warns(SidelightWarning, match=r"3 samples were lost on the way"):
        eda = read_recordings(path)["EDA"]
    np.testing.assert_allclose(eda.times, np.delete(np.arange(60), [20, 21, 22]) / 100)


@pytest.mark.filterwarnings("ignore:.*stays in counts")
def test_two_devices_in_one_file(tmp_path):
    one = {
        "sensor": ["EDA"],
        "column": ["nSeq", "A1"],
        "label": ["A1"],
        "resolution": [4, 10],
        "device": "bitalino_rev",
    }
    about = {"20:16": one | {"sampling rate": 10}, "20:17": one | {"sampling rate": 10}}
    lines = ["# OpenSignals Text File Format", "# " + json.dumps(about), "# EndOfHeader", "0\t1\t0\t2", "1\t3\t1\t4"]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n")
    found = read_recordings(tmp_path / "a.txt")
    assert list(found) == ["20:16.EDA", "20:17.EDA"]
    np.testing.assert_allclose(found["20:17.EDA"].values[:, 0], np.array([2, 4]) / 1024 * 25)


def test_broken_opensignals_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"truncated: its header has no end"):
        read_recordings(write(tmp_path / "a.txt", header=False))
    with pytest.raises(DataError, match=r"its header lacks or garbles 'sampling rate'"):
        read_recordings(write(tmp_path / "a.txt", {k: v for k, v in ABOUT.items() if k != "sampling rate"}))
    path = write(tmp_path / "a.txt")
    path.write_text(path.read_text()[:-8])
    with pytest.raises(DataError, match=r"line 43 has .* cells.*is the file truncated"):
        read_recordings(path)


def biosppy(path, text="0.5\t-1\n1.5\t-2\n"):
    head = "# Simple Text Format\n# Sampling Rate (Hz):= 1000.00\n# Resolution:= 12\n# Labels:= ECG\tEDA\n"
    path.write_text(head + text)
    return path


def test_biosppy(tmp_path):
    found = read_recordings(biosppy(tmp_path / "a.txt"))
    assert {n: (r.rate, r.values[:, 0].tolist()) for n, r in found.items()} == {
        "ECG": (1000, [0.5, 1.5]),
        "EDA": (1000, [-1, -2]),
    }
    with pytest.raises(DataError, match=r"line 6 has 1 cells, but 2 columns .*truncated"):
        read_recordings(biosppy(tmp_path / "b.txt", "0.5\t-1\n1.5"))
    (tmp_path / "c.txt").write_text("# Simple Text Format\n# Labels:= ECG\n1\n")
    with pytest.raises(DataError, match=r"expected 'Sampling Rate \(Hz\):=' and 'Labels:='"):
        read_recordings(tmp_path / "c.txt")
