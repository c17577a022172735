"""WFDB records: own rates, invalid samples, annotations."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings

wfdb = pytest.importorskip("wfdb")


def write(folder):
    """A frame every 10 ms: one sample of resp, two of ecg, as interleaved 16-bit numbers."""
    x = np.arange(200, dtype="<i2").reshape(100, 2)
    resp = np.arange(100, dtype="<i2")[:, None]
    resp[40] = -32768  # WFDB: not a valid sample
    np.concatenate([x, resp], 1).tofile(folder / "r.dat")
    (folder / "r.hea").write_text(
        "r 2 100 100 12:30:15.5 02/01/2026\nr.dat 16x2 100(0)/mV 16 0 0 0 0 ECG\nr.dat 16 10(0)/pm 16 0 0 0 0 RESP\n"
    )
    wfdb.wrann("r", "atr", np.array([10, 50]), ["N", "+"], aux_note=["", "(AFIB"], fs=100, write_dir=str(folder))
    return folder / "r.hea"


def test_signals_of_different_rates_and_invalid_samples(tmp_path):
    path = write(tmp_path)
    with pytest.warns(SidelightWarning) as said:
        found = read_recordings(path)
    assert any("RESP (1 of 100, the first at 0.4 s)" in str(w.message) for w in said)
    assert any("'RESP' in 'pm'" in str(w.message) for w in said)
    ecg, resp = found["ECG"], found["RESP"]
    assert (ecg.rate, ecg.unit, ecg.origin) == (200, "mV", datetime(2026, 1, 2, 12, 30, 15, 500_000))
    np.testing.assert_allclose(ecg.values[:, 0], np.arange(200) / 100)  # not the mean of each frame
    np.testing.assert_allclose(resp.times, np.delete(np.arange(100), 40) / 100)


def test_annotations_are_events(tmp_path):
    events = read_events(write(tmp_path).with_suffix(".dat"))
    assert list(zip(events.onset, events.label)) == [(0.1, "N"), (0.5, "(AFIB")]


def test_broken_records_are_named(tmp_path):
    path = write(tmp_path)
    data = tmp_path / "r.dat"
    data.write_bytes(data.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"cannot read .*r.hea"):
        read_recordings(path)
    data.unlink()
    with pytest.raises(DataError, match=r"names r.dat, which is not beside it"):
        read_recordings(path)
    (tmp_path / "b.dat").write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match=r"needs b.hea beside it"):
        read_recordings(tmp_path / "b.dat", format="wfdb")
