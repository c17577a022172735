"""BrainVision (by hand) and FIF through MNE-Python: units, markers, segments, truncation."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from sidelight.errors import DataError, SidelightWarning
from sidelight.formats import read_events, read_recordings

mne = pytest.importorskip("mne")

HEADER = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=a.eeg
MarkerFile=a.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=4
SamplingInterval=4000
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
Ch1=GSR,,0.01,µS
Ch2=Fz,,0.5,µV
Ch3=Temp,,0.1,C
Ch4=Resp,,1,ARU
"""
MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0
[Common Infos]
Codepage=UTF-8
DataFile=a.eeg
[Marker Infos]
Mk1=New Segment,,1,1,0,20260102030405500000
Mk2=Stimulus,S  1,101,1,0
Mk3=Comment,calm,201,50,0
"""


def write(folder, markers=MARKERS, header=HEADER, samples=500):
    x = np.stack([np.full(samples, 500), np.arange(samples), np.full(samples, 365), np.ones(samples)], 1)
    (folder / "a.vhdr").write_text(header)
    (folder / "a.vmrk").write_text(markers)
    x.astype("<i2").tofile(folder / "a.eeg")
    return folder / "a.vhdr"


def test_microsiemens_stay_microsiemens(tmp_path):
    with pytest.warns(SidelightWarning, match=r"'Resp' in 'ARU'"):
        found = read_recordings(write(tmp_path))
    assert {n: (r.rate, r.unit) for n, r in found.items()} == {
        "GSR": (250, "µS"), "Fz": (250, "µV"), "Temp": (250, "degC"), "Resp": (250, "1"),
    }  # fmt: skip
    np.testing.assert_allclose(found["GSR"].values[:, 0], 5.0)  # MNE-Python: 5e-6
    np.testing.assert_allclose(found["Fz"].values[:, 0], 0.5 * np.arange(500))
    np.testing.assert_allclose(found["Temp"].values[:, 0], 36.5)
    assert found["GSR"].origin == datetime(2026, 1, 2, 3, 4, 5, 500_000)


def test_markers_are_events(tmp_path):
    events = read_events(write(tmp_path))
    assert list(zip(events.onset, events.duration, events.label)) == [
        (0.4, 0, "Stimulus/S  1"),
        (0.8, 0.2, "Comment/calm"),
    ]


@pytest.mark.filterwarnings("ignore:.*ARU")
def test_segments_of_an_interrupted_recording_keep_their_times(tmp_path):
    path = write(tmp_path, MARKERS + "Mk4=New Segment,,251,1,0,20260102030436500000\nMk5=Stimulus,S  2,252,1,0\n")
    gsr = read_recordings(path)["GSR"]
    np.testing.assert_allclose(gsr.times[[0, 249, 250, 499]], [0, 249 / 250, 31, 31 + 249 / 250])
    assert read_events(path).onset.tolist() == pytest.approx([0.4, 0.8, 31.004])


def test_broken_brainvision_files_are_named(tmp_path):
    path = write(tmp_path)
    data = tmp_path / "a.eeg"
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"a.eeg is truncated: its 3997 bytes are 499.62 samples of 4 channels"):
        read_recordings(path)
    write(tmp_path, header=HEADER.replace("[Binary", "DataPoints=600\n[Binary"))
    with pytest.raises(DataError, match=r"500.00 samples of 4 channels, of 600"):
        read_recordings(path)
    data.unlink()
    with pytest.raises(DataError, match=r"names DataFile a.eeg, which is not beside it: was it renamed"):
        read_recordings(path)
    path.write_text("Brain Vision Data")
    with pytest.raises(DataError, match=r"names no DataFile"):
        read_recordings(path)


def test_fif_keeps_volts_rate_and_annotations(tmp_path):
    info = mne.create_info(["Fz", "resp"], 100.0, ["eeg", "misc"])
    raw = mne.io.RawArray(np.stack([np.full(200, 5e-6), np.arange(200.0)]), info, first_samp=50, verbose="ERROR")
    raw.set_annotations(mne.Annotations([0.5], [0.25], ["x"]))
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    found = read_recordings(tmp_path / "a_raw.fif")
    assert (found["Fz"].unit, found["Fz"].rate, found["Fz"].start) == ("V", 100, 0.5)
    np.testing.assert_allclose(found["Fz"].to("uV").values, 5, rtol=1e-6)
    events = read_events(tmp_path / "a_raw.fif")
    assert (events.onset.tolist(), events.duration.tolist()) == ([1.0], [0.25])
