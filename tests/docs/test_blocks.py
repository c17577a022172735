"""The blocks of the pages that stand on their own, run from top to bottom in an empty folder.

A block whose first line names a file (`# my_method.py`) is saved as that file. `bash` is run, `sh` is only read
(tests/docs/test_pages.py). Networks train for two epochs.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import ROOT, Block, blocks, pages
from helpers.preludes import BEFORE, CHEAP, NOT_RUN, PRELUDES, TRAINING
from helpers.slow import mostly_slow
from sidelight import experiment
from sidelight.cli import main
from sidelight.experiment import sweep as sweeps

ESTIMATORS = "docs/estimators.md"
"""Run by tests/estimators/test_estimators.py."""
BRIEF = {"training": {"epochs": 2}, "folds": 2, "seeds": 1, "jobs": 1, "quiet": True}
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
    """`sl.compare` and `sl.sweep` train briefly, whatever a page asks for."""
    compare, sweep = experiment.compare, sweeps.sweep

    def briefly(*arguments, **settings):
        return compare(*arguments, **settings | BRIEF)

    def sweep_briefly(*arguments, **settings):
        return sweep(*arguments, **settings | {"trials": 2, **BRIEF})

    monkeypatch.setattr(experiment, "compare", briefly)
    monkeypatch.setattr(sweeps, "sweep", sweep_briefly)


def run_python(block: Block, names: dict) -> None:
    """Run a block; a traceback shows the line of the page."""
    exec(compile("\n" * (block.line - 1) + block.text, str(ROOT / block.page), "exec"), names)


@pytest.mark.parametrize("name", mostly_slow([*CHEAP, *TRAINING], CHEAP))
def test_a_page_runs_from_top_to_bottom(name, empty_folder, short_studies):
    names: dict = {"__name__": "page"}
    found = blocks(ROOT / "docs" / name, "python", "bash", "yaml")
    assert found
    for block in found:
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, "utf-8")
        elif block.language == "python":
            run_python(block, names)
        elif block.language == "bash":
            for words in block.commands():
                run_command(words)


@pytest.mark.parametrize("name", mostly_slow(PRELUDES, ("docs/transport.md", "docs/networks.md")))
def test_the_python_of_a_page_runs_once_its_names_are_there(name, empty_folder, short_studies):
    ran = [block for block in blocks(ROOT / name, "python") if not concerning(block, NOT_RUN)]
    assert ran
    with ExitStack() as ends:
        names: dict = {"__name__": "page", "ends": ends}
        PRELUDES[name](names)
        for block in ran:
            if block.file:
                Path(block.file).write_text(block.text, "utf-8")
            if before := concerning(block, BEFORE):
                before(names)
            run_python(block, names)


def concerning(block: Block, said: Mapping[tuple[str, str], Any]) -> Any:
    """What is said of a block by its page and a part of it; None if nothing is."""
    return next((what for (page, part), what in said.items() if str(block.page) == page and part in block.text), None)


def test_every_python_block_is_run_or_says_why_not():
    run = {*(f"docs/{name}" for name in (*CHEAP, *TRAINING)), *PRELUDES, ESTIMATORS}
    found = [block for page in pages() for block in blocks(page, "python")]
    assert [block.where for block in found if str(block.page) not in run and not concerning(block, NOT_RUN)] == []
    for said in (NOT_RUN, BEFORE):
        assert {(page, part) for page, part in said for b in found if str(b.page) == page and part in b.text} == {*said}
