#!/usr/bin/env bash
# safetensors 0.8.0 (NumPy 2.4.6, Python 3.11): the same tensors and the same metadata give other bytes at every save.
#
# The format is deterministic but for one thing: with two or more entries of metadata, `save` writes them in the order of
# a hash map that is seeded anew in every call, while tensors are sorted. So a file's SHA-256 changes from run to run
# although nothing in it did, even inside one process: hashes in model cards, caches by content, `cmp` of two runs and
# "same seed, same bits" tests fail at random (two entries: every second time). With one entry it cannot be seen.
#
# Seen: 20 saves of one array with 4 entries of metadata gave 13 to 20 different files, with 1 entry one.
#
# Our side: sidelight.tensorfile writes the header itself, with the metadata in the order that it was given
# (tests/test_tensorfile.py::test_the_same_content_gives_the_same_bytes).
#
# Exits 0 while this is so, and 1 if saves with several entries have become equal.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
"$place/venv/bin/python" - <<'PY'
import hashlib
import sys

import numpy as np
from safetensors.numpy import save

x = {"x": np.arange(4, dtype=np.float32)}


def files(entries: int) -> int:
    metadata = {f"key{i}": "value" for i in range(entries)}
    return len({hashlib.sha256(save(x, metadata)).hexdigest() for _ in range(20)})


one, four = files(1), files(4)
print(f"different files among 20 saves of the same content: 1 entry {one}, 4 entries {four}")
sys.exit(0 if one == 1 and four > 1 else 1)
PY
