"""One thread per test process, no deadlines for property tests on a busy machine, no colours, no pages unasked for."""

from __future__ import annotations

import gc
import html
import os
import sys
import tempfile
from io import StringIO
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before anything imports torch or numpy
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["NO_COLOR"] = "1"
# Scripts that tests start as processes import `helpers` too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))

# Small networks, imports and collected tests are many objects: one tenth of the time went into looking for cycles.
gc.set_threshold(100_000, 50, 50)

# Processes that tests start, and the next run, read what was compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("sidelight", deadline=None, max_examples=25)
settings.load_profile("sidelight")

EXPORTERS = (
    "data/test_lengths", "data/test_overflow", "data/test_training_ranges", "experiment/test_segmentation", "export/",
    "networks/test_modality_imputer", "tasks/test_retrieval",
)  # fmt: skip
"""Tests of which some write graphs: what writes them takes seconds to import, so that one worker does."""
TRAINED = ("docs/test_diagrams", "methods/", "testing/", "training/")
"""Tests of subjects of `sidelight.testing`, whose teachers each worker trains once."""

DRAWS: list = []
"""`Study.report` as it is, once something has imported it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers begin with half of the tests each, in order; those that share what takes time are neighbours."""
    folder = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(folder).as_posix()
        return 0 if name.startswith(EXPORTERS) else 2 if name.startswith(TRAINED) else 1

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Studies leave no report.html: drawing it takes longer than training networks as small as those of the tests."""
    gc.collect()
    gc.freeze()  # what was imported and collected stays, and need not be looked through again and again
    os.fsync = lambda file: None  # a power cut in the middle of a test may lose its files
    studies = sys.modules.get("sidelight.experiment.study")
    if studies is not None:
        DRAWS.append(studies.Study.report)
        studies.Study.report = lambda self, path=None: self.folder / "report.html"
    if "torch" in sys.modules:
        seed_only_what_is_there()


def seed_only_what_is_there() -> None:
    """`torch.manual_seed` writes down the whole stack for each kind of accelerator that might still be found."""
    import torch

    for module in (torch.cuda, torch.xpu, torch.mtia):
        if not module.is_available():
            module.manual_seed_all = lambda seed: None


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """What tests, and processes of theirs that are killed, leave in the temporary folder goes with pytest's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp", numbered=False)))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made and not drawn: for tests of what figures must bear."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write('<svg viewBox="0 0 1 1"></svg>'))


@pytest.fixture
def no_figures(monkeypatch):
    """Figures are neither made nor drawn: for tests of what a page says beside them."""
    from helpers.no_figures import leave_out_figures

    leave_out_figures(monkeypatch)


@pytest.fixture
def texts_of_figures(monkeypatch):
    """Of figures only the texts are written, and nothing is drawn."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    def texts(self: Figure, file: StringIO, **_: object) -> None:
        said = [html.escape(t.get_text()) for t in self.findobj(Text)]
        file.write(f'<svg viewBox="0 0 1 1">{"".join(f"<text>{t}</text>" for t in said)}</svg>')

    monkeypatch.setattr(Figure, "savefig", texts)


@pytest.fixture
def drawn(monkeypatch):
    """A study of this test writes its page as it does for users. (`write_report(study.folder)` always does.)"""
    from sidelight.experiment.study import Study

    monkeypatch.setattr(Study, "report", DRAWS[0])
