#!/usr/bin/env bash
# MNE-Python 1.13.2 (NumPy 2.4.6, SciPy 1.17.1, Python 3.11) changes values of other sensors beside EEG, without an error.
#
#   1. BrainVision, a GSR channel in µS: 5 µS are returned as 5e-6, and the channel is of type "misc" with no unit
#      (FIFF_UNIT_NONE), so that nothing says that they are siemens. A channel in °C beside it is not scaled.
#   2. EDF with a 4 Hz EDA step (1 µS, then 5 µS) beside a 64 Hz signal: all channels have 64 Hz afterwards, resampled
#      with ringing. The EDA goes from 0.44 to 5.56 µS. Expected: no value outside of 1 to 5, or the channel at its own
#      rate.
#
# What helps: read each channel of an EDF file at its own rate (edfio), and divide a BrainVision channel by the prefix of
# raw._orig_units.
# Our side: tests/formats/test_eeg.py::test_microsiemens_stay_microsiemens, test_edf.py::test_each_signal_keeps_its_rate_and_unit.
#
# Exits 0 while both are so, and 1 when one has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" -q install mne==1.13.2 edfio==0.4.18 numpy==2.4.6 scipy==1.17.1
cd "$place"
venv/bin/python - <<'PY'
import sys
import warnings

import edfio
import mne
import numpy as np

warnings.simplefilter("ignore")
open("a.vhdr", "w", encoding="utf-8").write(
    "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=a.eeg\n"
    "DataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\nSamplingInterval=4000\n[Binary Infos]\n"
    "BinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\nCh1=GSR,,1,µS\nCh2=Temp,,1,°C\n"
)
np.tile(np.float32([5, 36.5]), (500, 1)).tofile("a.eeg")
raw = mne.io.read_raw_brainvision("a.vhdr", verbose="ERROR")
gsr, temp = raw.get_data()[:, 0]
print(f"1. 5 µS: {gsr}, {raw.info['chs'][0]['unit']!r}, type {raw.get_channel_types()[0]!r}; 36.5 °C: {temp}")

step = np.repeat([1.0, 5.0], 40)
edfio.Edf([
    edfio.EdfSignal(step, 4, label="EDA", physical_dimension="uS", physical_range=(0, 20)),
    edfio.EdfSignal(np.zeros(1280), 64, label="BVP", physical_range=(-1, 1)),
]).write("a.edf")
edf = mne.io.read_raw_edf("a.edf", verbose="ERROR")
eda = edf.get_data(picks=["EDA"])[0]
eda = eda * 1e6 if np.abs(eda).max() < 1e-3 else eda  # should it be taken as siemens one day
print(f"2. EDA of 4 Hz: {edf.info['sfreq']} Hz, {eda.min():.2f} to {eda.max():.2f} µS; recorded 1 to 5")
sys.exit(0 if abs(gsr - 5e-6) < 1e-9 and edf.info["sfreq"] == 64 and eda.max() > 5.3 else 1)
PY
