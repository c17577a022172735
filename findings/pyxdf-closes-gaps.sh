#!/usr/bin/env bash
# pyxdf 1.17.5 (NumPy 2.4.6, Python 3.11): load_xdf with its defaults closes pauses of slow streams, and returns one segment.
#
# The removal of jitter starts a new segment where a step exceeds max(1 s, 500 samples): jitter_break_threshold_seconds=1
# and jitter_break_threshold_samples=500 are joined by "and". For a stream of 4 Hz that is 125 s, so that a 30 s pause (the
# watch was out of reach) is taken for jitter, and one line is fitted through both parts.
#
# Expected: 240 samples of 4 Hz, 30 s + a pause of 30 s + 30 s, keep their stamps and cover 90 s. Seen: one segment of
# 2.286 Hz that covers 104.8 s, every stamp moved, by up to 14.9 s. A warning of the logger says that 2.2857 Hz differ from
# the specified rate; nothing says that times were changed. Samples no longer lie beside the events that they belong to.
#
# What helps: jitter_break_threshold_samples=2 (or dejitter_timestamps=False).
# Our side: tests/formats/test_xdf.py::test_a_gap_of_30_s_in_a_slow_stream_stays.
#
# Exits 0 while this is so, and 1 when it has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" -q install pyxdf==1.17.5 numpy==2.4.6
cd "$place"
venv/bin/python - <<'PY'
import struct
import sys

import numpy as np
import pyxdf


def chunk(tag, content):
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


times = 100 + np.r_[np.arange(120) / 4, 60 + np.arange(120) / 4]
header = (
    "<?xml version='1.0'?><info><name>eda</name><type>EDA</type><channel_count>1</channel_count>"
    "<nominal_srate>4</nominal_srate><channel_format>float32</channel_format></info>"
)
out = b"XDF:" + chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
out += chunk(2, struct.pack("<I", 1) + header.encode())
samples = b"".join(b"\x08" + struct.pack("<df", t, i) for i, t in enumerate(times))
out += chunk(3, struct.pack("<I", 1) + b"\x04" + struct.pack("<I", len(times)) + samples)
open("a.xdf", "wb").write(out)


def load(**how):
    (stream,), _ = pyxdf.load_xdf("a.xdf", **how)
    return stream["time_stamps"], stream["info"]["segments"], stream["info"]["effective_srate"]


found, segments, rate = load()
moved = np.abs(found - times).max()
print(f"defaults: segments {segments}, {rate:.3f} Hz, stamps moved by up to {moved:.2f} s, {np.ptp(found) + 0.25:.1f} s in all")
kept, two, _ = load(jitter_break_threshold_samples=2)
print(f"jitter_break_threshold_samples=2: segments {two}, moved by up to {np.abs(kept - times).max():.1e} s")
sys.exit(0 if len(segments) == 1 and moved > 5 and len(two) == 2 else 1)
PY
