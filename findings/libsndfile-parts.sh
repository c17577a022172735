#!/usr/bin/env bash
# Parts of compressed sound files, as libsndfile 1.2.2 (soundfile 0.14.0) reads them, are not slices of the whole file.
#
# soundfile 0.14.0 (bundled libsndfile 1.2.2), numpy 2.2.6, Python 3.11, Linux x86_64. Files are made by soundfile itself.
#   1. Ogg Vorbis: a seek into the last page lands late, without an error. Expected: sample 40000 follows seek(40000).
#      Seen: sample 40032; every read from there on is shifted by 32 samples (8 kHz, 50400 samples).
#   2. Ogg Opus: a file that is read in blocks of 300 samples (soundfile.blocks, SoundFile.read) ends in wrong samples of
#      the right number. Seen: the last 300 of 441000 differ by up to 0.3 of full scale; blocks of 1000 are right.
#   3. MP3: the first samples after a seek are those of a decoder without what came before (the bit reservoir). Seen:
#      up to some hundred samples are wrong by up to 0.3 (22.05 kHz, VBR).
# What helps: decode from before the part, in one read, and cut; of Vorbis from before the last page.
# Exits 0 while all three are so, 1 when one has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip -q install soundfile==0.14.0 numpy==2.2.6
venv/bin/python - 2> /dev/null <<'PY'
import sys
import numpy as np
import soundfile as sf

print("soundfile", sf.__version__, sf.__libsndfile_version__)
noise = np.random.default_rng(0)


def write(name, rate, seconds, **how):
    t = np.arange(round(rate * seconds)) / rate
    x = 0.5 * np.sin(2764 * t) * (0.5 + 0.5 * np.sin(4.4 * t)) + 0.05 * noise.standard_normal(len(t))
    with sf.SoundFile(name, "w", rate, 1, **how) as f:
        for i in range(0, len(x), 4096):
            f.write(x[i : i + 4096].clip(-1, 1))
    return sf.read(name, dtype="float32")[0]


def after(name, first, count):
    with sf.SoundFile(name) as f:
        f.seek(first)
        return f.read(count, dtype="float32")


whole = write("a.ogg", 8000, 6.3, format="OGG", subtype="VORBIS", compression_level=1.0)
late = {}
for first in range(0, len(whole) - 500, 500):
    part = after("a.ogg", first, 400)
    fits = [k for k in range(0, 3000) if first + k + 400 <= len(whole) and np.abs(whole[first + k : first + k + 400] - part).max() < 1e-4]
    late[first] = fits[0] if fits else None
wrong = {f: k for f, k in late.items() if k != 0}
print("1. Vorbis: seeks that land late (sample: by how many):", wrong)

whole = write("a.opus", 48000, 441000 / 48000, format="OGG", subtype="OPUS")
pieces = np.concatenate(list(sf.blocks("a.opus", 300, dtype="float32")))
opus = np.flatnonzero(np.abs(pieces - whole) > 1e-3)
print("2. Opus in blocks of 300:", len(pieces), "of", len(whole), "samples, wrong:", len(opus), "from", opus[:1])

whole = write("a.mp3", 22050, 6.3, format="MP3")
mp3 = [int((np.abs(after("a.mp3", f, 2000) - whole[f : f + 2000]) > 1e-4).sum()) for f in range(3000, 130000, 977)]
print("3. MP3: wrong samples after", sum(n > 0 for n in mp3), "of", len(mp3), "seeks, at most", max(mp3))
sys.exit(not (wrong and len(opus) and any(mp3)))
PY
