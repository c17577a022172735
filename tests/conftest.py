"""One thread per test process, no deadlines for property tests on a busy machine, no colours."""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before anything imports torch or numpy
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["NO_COLOR"] = "1"

from hypothesis import settings  # noqa: E402

settings.register_profile("sidelight", deadline=None, max_examples=40)
settings.load_profile("sidelight")
