"""XDF: gaps stay, jitter goes, markers are events, damage is an error."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("pyxdf")

from helpers.xdf_files import stream, write_xdf
from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_recordings(path)


def test_a_gap_of_30_s_in_a_slow_stream_stays(tmp_path):
    times = 100 + np.r_[np.arange(120) / 4, 60 + np.arange(120) / 4]  # 30 s, a pause of 30 s, 30 s
    path = write_xdf(tmp_path / "a.xdf", stream("eda", times, np.arange(240), 4, [("eda", "microsiemens")]))
    eda = read(path)["eda"]
    assert (eda.rate, eda.unit, eda.channels) == (pytest.approx(4), "uS", ("eda",))
    np.testing.assert_allclose(eda.times, times, atol=1e-9)
    assert eda.seconds == pytest.approx(90)
    with pytest.raises(DataError, match=r"30.25 s after the row before"):
        eda.evenly_sampled()


def test_two_streams_keep_their_rates_and_starts_and_jitter_is_removed(tmp_path):
    jitter = np.random.default_rng(0).normal(0, 0.004, 640)
    path = write_xdf(
        tmp_path / "a.xdf",
        stream("ecg", 50 + np.arange(640) / 64 + jitter, np.arange(640), 64, [("ecg", "mV")]),
        stream("eda", 52 + np.arange(40) / 4, np.arange(40), 4),
    )
    found = read(path)
    ecg, eda = found["ecg"], found["eda"]
    assert ecg.times is None
    assert (ecg.rate, ecg.start) == (pytest.approx(64, rel=1e-3), pytest.approx(50, abs=2e-3))
    assert (eda.rate, eda.start, eda.unit) == (4, 52, "1")


def test_channels_with_units_of_their_own_become_recordings(tmp_path):
    values = np.arange(20).reshape(10, 2)
    described = [("ecg", "mV"), ("temp", "celsius")]
    path = write_xdf(tmp_path / "a.xdf", stream("hub", np.arange(10) / 10, values, 10, described))
    found = read(path)
    assert {n: r.unit for n, r in found.items()} == {"hub.ecg": "mV", "hub.temp": "degC"}
    np.testing.assert_array_equal(found["hub.temp"].values[:, 0], values[:, 1])


def test_markers_are_events_and_irregular_numbers_keep_their_stamps(tmp_path):
    path = write_xdf(
        tmp_path / "a.xdf",
        stream("cues", [3.0, 1.5], ["b", "a"], kind="Markers"),
        stream("codes", [2.0], [7], kind="Markers"),
        stream("ibi", [1.0, 1.8, 2.7], [0.8, 0.81, 0.9], channels=[("ibi", "s")]),
    )
    events = read_events(path)
    assert (events.onset.tolist(), events.label.tolist()) == ([1.5, 2.0, 3.0], ["a", "7.0", "b"])
    ibi = read(path)
    assert list(ibi) == ["ibi"]
    assert (ibi["ibi"].rate, ibi["ibi"].times.tolist()) == (0, [1.0, 1.8, 2.7])


def test_packets_whose_samples_share_a_stamp_get_a_time_each(tmp_path):
    times = np.repeat(10 + np.arange(20) * 0.5, 16)  # packets of 16 samples at 32 Hz
    path = write_xdf(tmp_path / "a.xdf", stream("acc", times, np.arange(320), 32))
    acc = read(path)["acc"]
    assert acc.rate == pytest.approx(32, rel=0.01)
    assert acc.times is None


def test_a_declared_rate_that_is_wrong_is_said_and_the_measured_one_kept(tmp_path):
    path = write_xdf(tmp_path / "a.xdf", stream("acc", np.arange(100) / 30, np.arange(100), 50))
    with pytest.warns(SidelightWarning, match=r"30 samples a second, but declares 50 Hz"):
        assert read_recordings(path)["acc"].rate == pytest.approx(30)


def test_broken_files_are_named(tmp_path):
    whole = write_xdf(tmp_path / "a.xdf", stream("acc", np.arange(100) / 10, np.arange(100), 10))
    raw = whole.read_bytes()
    cut = tmp_path / "cut.xdf"
    cut.write_bytes(raw[:-300])
    with pytest.raises(DataError, match=r"cut.xdf"):
        read_recordings(cut)
    cut.write_bytes(b"not an xdf file")
    with pytest.raises(DataError, match=r"cannot read .*cut.xdf"):
        read_recordings(cut)
    unfinished = write_xdf(tmp_path / "b.xdf", stream("acc", np.arange(100) / 10, np.arange(100), 10, footer=False))
    with pytest.warns(SidelightWarning, match=r"stream 'acc' has no end: the recorder was interrupted"):
        assert len(read_recordings(unfinished)["acc"].values) == 100
    (tmp_path / "fewer.xdf").write_bytes(raw.replace(b"<sample_count>100", b"<sample_count>200"))
    with pytest.raises(DataError, match=r"fewer.xdf is truncated: stream 'acc' has 100 of 200 samples"):
        read_recordings(tmp_path / "fewer.xdf")


def test_a_clock_that_jumps_back_is_an_error(tmp_path):
    times = np.r_[100 + np.arange(50) / 10, 20 + np.arange(50) / 10]
    path = write_xdf(tmp_path / "a.xdf", stream("acc", times, np.arange(100), 10))
    with pytest.raises(DataError, match=r"'acc': sample 50 at 20.000000 s follows one at 104.9"):
        read_recordings(path)
