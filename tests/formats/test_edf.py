"""EDF and BDF: own rates and units, every annotation, discontinuous records, padding, truncation."""

from __future__ import annotations

import datetime
import warnings

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings

edfio = pytest.importorskip("edfio")


def signal(values, rate, label="eda", unit="uS", low=0.0, high=20.0, kind="EdfSignal"):
    return getattr(edfio, kind)(
        np.asarray(values, float), rate, label=label, physical_dimension=unit, physical_range=(low, high)
    )


def write(path, *signals, annotations=(), **more):
    notes = [edfio.EdfAnnotation(*a) for a in annotations]
    edfio.Edf(signals, annotations=notes, **more).write(path)
    return path


@pytest.fixture
def two_rates(tmp_path):
    return write(
        tmp_path / "a.edf",
        signal(np.linspace(1, 10, 40), 4),
        signal(np.sin(np.arange(640)), 64, "bvp", "", -1, 1),
        annotations=[(0.4 * i, None, f"e{i}") for i in range(25)] + [(1.0, 2.5, "stress")],
        starttime=datetime.time(1, 2, 3, 500_000),
        recording=edfio.Recording(startdate=datetime.date(2026, 1, 2)),
    )


def test_each_signal_keeps_its_rate_and_unit(two_rates):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_recordings(two_rates)
    assert {n: (r.rate, r.unit, len(r.values)) for n, r in found.items()} == {
        "eda": (4, "uS", 40),
        "bvp": (64, "1", 640),
    }
    np.testing.assert_allclose(found["eda"].values[:, 0], np.linspace(1, 10, 40), atol=20 / 65535)
    assert found["bvp"].values.max() <= 1 + 1e-4  # no ringing above what was recorded
    assert found["eda"].origin == datetime.datetime(2026, 1, 2, 1, 2, 3, 500_000)
    assert found["eda"].times is None


def test_every_annotation_is_read_also_25_in_10_seconds(two_rates):
    events = read_events(two_rates)
    assert len(events) == 26
    i = events.label.tolist().index("stress")
    assert (events.onset[i], events.duration[i]) == (1.0, 2.5)
    np.testing.assert_allclose(events.onset[events.label != "stress"], 0.4 * np.arange(25), atol=1e-9)


def test_records_of_a_discontinuous_file_keep_their_times(tmp_path):
    path = write(tmp_path / "d.edf", signal(np.arange(12.0), 4), annotations=[(0.5, None, "x")])
    raw = path.read_bytes().replace(b"EDF+C", b"EDF+D")
    # The three records begin at 0, 1 and 31 s.
    path.write_bytes(raw.replace(b"+2\x14\x14\x00", b"+31\x14\x14"))
    eda = read_recordings(path)["eda"]
    np.testing.assert_allclose(eda.times, np.r_[np.arange(8) / 4, 31 + np.arange(4) / 4])
    np.testing.assert_allclose(eda.values[:, 0], np.arange(12), atol=1e-3)
    with pytest.raises(DataError, match=r"29.25 s after the row before"):
        eda.evenly_sampled()


@pytest.mark.parametrize("end", [[(10.5, None, "Recording ends")], [(10.5, 0.5, "BAD_ACQ_SKIP")]])
def test_padding_is_cut_where_the_file_marks_the_end(tmp_path, end):
    x = np.r_[np.linspace(1, 10, 42), 0, 0]
    path = write(tmp_path / "p.edf", signal(x, 4), annotations=end, data_record_duration=1)
    eda = read_recordings(path)["eda"]
    assert len(eda.values) == 42
    assert eda.seconds == 10.5


def test_padding_that_nothing_marks_is_said(tmp_path):
    x = np.r_[np.linspace(1, 10, 42), 0, 0]
    path = write(tmp_path / "p.edf", signal(x, 4), data_record_duration=1)
    with pytest.warns(
        SidelightWarning, match=r"last data record ends in 2 of 4 samples of 'eda' at the physical minimum"
    ):
        assert len(read_recordings(path)["eda"].values) == 44


def test_bdf_and_latin_1_units(tmp_path):
    bdf = edfio.Bdf([signal(np.arange(20.0) * 1000, 10, "EXG1", "uV", -262144, 262143, "BdfSignal")])
    bdf.write(tmp_path / "a.bdf")
    raw = (tmp_path / "a.bdf").read_bytes().replace(b"uV      ", b"\xb5V      ")
    (tmp_path / "a.bdf").write_bytes(raw)
    found = read_recordings(tmp_path / "a.bdf")["EXG1"]
    np.testing.assert_allclose(found.values[:, 0], np.arange(20) * 1000, atol=0.05)
    assert found.to("mV").values[1] == pytest.approx(1, abs=1e-4)


def test_two_signals_of_one_name_and_an_unknown_unit(tmp_path):
    path = write(tmp_path / "a.edf", signal(np.ones(8), 4), signal(np.zeros(8) + 2, 4, unit="bananas"))
    with pytest.warns(SidelightWarning, match="'eda.2' in 'bananas'"):
        found = read_recordings(path)
    assert [found[n].values[0, 0] for n in ("eda", "eda.2")] == pytest.approx([1, 2], abs=1e-3)
    assert read_recordings(path, units={"eda.2": "uS"})["eda.2"].unit == "uS"


def test_broken_files_are_named(tmp_path, two_rates):
    raw = two_rates.read_bytes()
    (tmp_path / "cut.edf").write_bytes(raw[:-100])
    with pytest.raises(DataError, match=r"cut.edf is truncated: 9 of 10 data records"):
        read_recordings(tmp_path / "cut.edf")
    (tmp_path / "cut.edf").write_bytes(raw[:300])
    with pytest.raises(DataError, match=r"cut.edf is truncated: its header"):
        read_recordings(tmp_path / "cut.edf")
    (tmp_path / "other.edf").write_bytes(b"hello" * 100)
    with pytest.raises(DataError, match=r"other.edf is no EDF or BDF file"):
        read_events(tmp_path / "other.edf")
    (tmp_path / "letters.edf").write_bytes(raw[:244] + b"one sec " + raw[252:])
    with pytest.raises(DataError, match=r"cannot read .*letters.edf"):
        read_recordings(tmp_path / "letters.edf")


def test_a_file_that_was_never_closed_is_read_whole(tmp_path, two_rates):
    raw = two_rates.read_bytes()
    (tmp_path / "open.edf").write_bytes(raw[:236] + b"-1      " + raw[244:])
    assert len(read_recordings(tmp_path / "open.edf")["eda"].values) == 40


def test_a_file_of_annotations_alone_has_events_and_no_recording(tmp_path):
    """As sleep laboratories distribute hypnograms."""
    notes = [edfio.EdfAnnotation(30.0 * i, 30.0, f"Sleep stage {i}") for i in range(40)]
    edfio.Edf([], annotations=notes).write(tmp_path / "hypnogram.edf")
    events = read_events(tmp_path / "hypnogram.edf")
    assert (len(events), events.onset[-1], events.duration[-1], events.label[-1]) == (40, 1170, 30, "Sleep stage 39")
    with pytest.raises(DataError, match=r"holds no recording; read_events reads its events"):
        read_recordings(tmp_path / "hypnogram.edf")
