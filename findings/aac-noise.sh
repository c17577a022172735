#!/usr/bin/env bash
# A part of an AAC track, decoded from a seek on, is not the slice of the whole track: not even after any lead-in.
#
# PyAV 18.1.0 (bundled FFmpeg 8.1.2), numpy 2.2.6, Python 3.11, Linux x86_64. The file is made by the same library (44.1 kHz mono, native
# AAC encoder, its default settings). AAC may code bands as noise (perceptual noise substitution), which the decoder draws
# from one running generator: what it draws depends on where decoding began, and it is not set back by a seek.
# Expected: after a lead-in of 2.5 s both agree. Seen: they differ by about 0.04 of full scale for ever; with
# the encoder's noise turned off (aac_pns=0) they agree to the bit. AC-3's decoder does alike.
# What helps: begin decoding at fixed places, so that a part and the whole draw the same noise.
# Exits 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip -q install av==18.1.0 numpy==2.2.6
venv/bin/python - <<'PY'
import sys

import av
import numpy as np

print("PyAV", av.__version__, "FFmpeg", av.ffmpeg_version_info)
rate = 44100
t = np.arange(8 * rate) / rate
x = 0.4 * np.sin(2 * np.pi * 440 * t) + 0.03 * np.random.default_rng(0).standard_normal(len(t))


def decoded(name, start):
    """Samples from `start` seconds on, decoded from 2.5 s before it."""
    with av.open(name) as file:
        stream = file.streams.audio[0]
        if start:
            file.seek(int((start - 2.5) / stream.time_base), stream=stream)
        frames = [(f.pts, f.to_ndarray()[0]) for f in file.decode(stream)]
    first = frames[0][0]
    return np.concatenate([f for _, f in frames])[round(start * rate) - first :]


worst = {}
for noise in ("1", "0"):
    name = f"pns{noise}.mp4"
    with av.open(name, "w") as file:
        stream = file.add_stream("aac", rate=rate, layout="mono", options={"aac_pns": noise})
        frame = av.AudioFrame.from_ndarray((x * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    whole, part = decoded(name, 0), decoded(name, 5.0)
    worst[noise] = float(np.abs(whole[5 * rate : 7 * rate] - part[: 2 * rate]).max())
    print("noise bands", "on: " if noise == "1" else "off:", "largest difference of 2 s from 5 s on:", worst[noise])
sys.exit(not (worst["1"] > 1e-3 and worst["0"] < 1e-4))
PY
