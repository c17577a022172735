#!/usr/bin/env bash
# torch 2.13.0 (Python 3.11): torch.load reads a file with a flipped byte without a word, and the weights are other ones.
#
# torch.save writes a zip archive, and zip keeps a CRC-32 of each member, so one would guess that damage (a bad disk, a
# broken copy, a sync tool) is found when a checkpoint is loaded. Python's zipfile finds it in the same file
# ("Bad CRC-32 for file 'x/data/0'"); torch.load does not compare it and returns the changed tensor, also with
# weights_only=True and with mmap=True.
#
# Seen: 1000 float32 numbers, bit 6 of one byte flipped: torch.load returns 999 of them right, 100.0 as 2.9e-37,
# and raises nothing; zipfile.ZipFile(...).testzip() names the member.
#
# Our side: checkpoints hold a SHA-256 of their state, which is compared
# (tests/test_integrity.py::test_a_flipped_byte_in_a_checkpoint_is_found).
#
# Exits 0 while this is so, and 1 if torch.load has begun to refuse such a file. Installs torch (a large download).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$place/venv/bin/python" - "$place/x.pt" <<'PY'
import sys
import zipfile

import torch

file, numbers = sys.argv[1], torch.arange(1000.0)
torch.save({"weights": numbers}, file)
content = bytearray(open(file, "rb").read())
content[content.find(numbers.numpy().tobytes()) + 403] ^= 0x40
open(file, "wb").write(content)
print("zipfile:", zipfile.ZipFile(file).testzip() or "no fault", "is damaged")
silent = 0
for how in ({}, {"mmap": True}):
    try:
        found = torch.load(file, weights_only=True, **how)["weights"]
    except Exception as error:
        print("torch.load", how, "refuses:", type(error).__name__)
        continue
    wrong = (found != numbers).nonzero()[:, 0]
    print("torch.load", how, "returns", len(wrong), "wrong number:", numbers[wrong].tolist(), "as", found[wrong].tolist())
    silent += len(wrong) == 1
sys.exit(0 if silent == 2 else 1)
PY
