"""The blocks of the pages that stand on their own, run from top to bottom in an empty folder.

A block whose first line names a file (`# my_method.py`) is saved as that file. `bash` is run, `sh` is only read
(tests/docs/test_pages.py). Networks train for two epochs.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

import sidelight as sl
from helpers.pages import ROOT, blocks
from helpers.slow import mostly_slow
from sidelight import experiment
from sidelight.cli import main

CHEAP = ("faq.md", "how-to/own-loss.md")
"""Pages that train nothing."""
TRAINING = (
    "index.md", "first-study.md", "coming-from.md", "how-to/own-encoder.md", "how-to/few-labels.md",
    "how-to/missing-sensors.md", "how-to/video.md",
)  # fmt: skip
SHORT = ("training.epochs=2", "training.least_steps=2", "jobs=1")


def run_command(words: list[str]) -> None:
    """Run a line of a `bash` block as a shell would, with short trainings."""
    if words[:1] == ["sidelight"]:
        short = [*SHORT, "--folds", "2", "--seeds", "1", "--quiet"] if words[1] == "run" else []
        assert main([*words[1:], *short]) == 0, " ".join(words)
    elif words[:1] == ["python"]:
        runpy.run_path(words[1], run_name="__main__")
    else:
        assert words[:2] in ([], ["pip", "install"]), f"nothing runs {words}"


@pytest.fixture
def short_studies(monkeypatch):
    """`sl.compare` trains briefly, whatever a page asks for."""
    compare = experiment.compare

    def briefly(*arguments, **settings):
        return compare(
            *arguments, **settings | {"training": {"epochs": 2}, "folds": 2, "seeds": 1, "jobs": 1, "quiet": True}
        )

    monkeypatch.setattr(experiment, "compare", briefly)


@pytest.mark.parametrize("name", mostly_slow([*CHEAP, *TRAINING], CHEAP))
def test_a_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch, short_studies):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    modules = set(sys.modules)
    names: dict = {"__name__": "page"}
    found = blocks(ROOT / "docs" / name, "python", "bash", "yaml")
    assert found
    for block in found:
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, "utf-8")
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(ROOT / block.page), "exec"), names)
        elif block.language == "bash":
            for words in block.commands():
                run_command(words)
    for added in set(sys.modules) - modules:
        if getattr(sys.modules[added], "__file__", None) and Path(sys.modules[added].__file__).parent == tmp_path:
            del sys.modules[added]
    assert sl  # the package that the pages imported is the one that is tested
