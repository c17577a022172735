"""The commands of the older pages, run where the files that they speak of lie; what trains is asked for its plan.

Pages that are run from top to bottom are in tests/docs/test_blocks.py. tests/docs/test_pages.py reads every command.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Iterator

import pytest

from helpers.pages import ROOT, blocks, pages
from helpers.preludes import CHEAP, TRAINING
from helpers.worlds import NOT_RUN, WORLDS
from sidelight.cli import main

PLANNED = ("run", "sweep", "suite")
"""Verbs that train, of which the plan is asked for."""
SHOWN = re.compile(r"…|\.\.\.|^\|$|\$i")
"""What stands for something else: such a line is no command."""


def commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """The place and the words of each command of sidelight, or of its example of a check, on a page."""
    alone = page.removeprefix("docs/") in (*CHEAP, *TRAINING)
    for block in blocks(ROOT / page, *(("sh", "") if alone else ("bash", "sh", ""))):
        for words in block.commands():
            ours = words[:1] in (["sidelight"], ["torchrun"]) or words[:2] == ["python", "check_onnx.py"]
            if ours and not any(SHOWN.search(word) for word in words):
                yield block.where, words


def why_not(page: str, words: list[str]) -> str:
    """Why a command is read and not run; "" if it is run."""
    return next((why for (name, part), why in NOT_RUN.items() if name == page and part in " ".join(words)), "")


def test_every_command_is_run_or_says_why_not():
    names = [str(page.relative_to(ROOT)) for page in pages()]
    found = [(page, words) for page in names for _, words in commands(page)]
    assert len(found) > 100
    assert [(page, words) for page, words in found if page not in WORLDS and not why_not(page, words)] == []
    used = {(name, part) for name, part in NOT_RUN for page, words in found if name == page and part in " ".join(words)}
    assert used == set(NOT_RUN)


@pytest.mark.slow
@pytest.mark.parametrize("page", WORLDS)
@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
def test_commands_of_a_page_do_what_they_say(page, empty_folder, monkeypatch, capsys):
    WORLDS[page]()
    tried = [(where, words) for where, words in commands(page) if not why_not(page, words)]
    assert tried
    for where, words in tried:
        capsys.readouterr()
        if words[0] == "python":
            monkeypatch.setattr(sys, "argv", words[1:])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(words[1], run_name="__main__")
            assert ended.value.code == 0, where
            continue
        plan = ["--dry-run"] if words[1] in PLANNED and "--dry-run" not in words else []
        code = main([*words[1:], *plan])
        assert code == 0, f"{where}: {' '.join(words)}\n{capsys.readouterr().err}"
        if (of_file := re.search(r"--output (\S+)", " ".join(words))) and not plan and "--dry-run" not in words:
            assert os.path.exists(of_file[1]), where
