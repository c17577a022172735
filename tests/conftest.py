"""One thread per test process, no deadlines for property tests on a busy machine, no colours, no pages unasked for."""

from __future__ import annotations

import os
import sys

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before anything imports torch or numpy
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["NO_COLOR"] = "1"

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("sidelight", deadline=None, max_examples=40)
settings.load_profile("sidelight")

DRAWS: list = []
"""`Study.report` as it is, once something has imported it."""


def pytest_collection_finish() -> None:
    """Studies leave no report.html: drawing it takes longer than training networks as small as those of the tests."""
    studies = sys.modules.get("sidelight.experiment.study")
    if studies is not None:
        DRAWS.append(studies.Study.report)
        studies.Study.report = lambda self, path=None: self.folder / "report.html"


@pytest.fixture
def drawn(monkeypatch):
    """A study of this test draws its page as it does for users. (`write_report(study.folder)` always does.)"""
    from sidelight.experiment.study import Study

    monkeypatch.setattr(Study, "report", DRAWS[0])
