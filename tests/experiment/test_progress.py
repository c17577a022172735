"""The progress line: it fits 80 columns on a terminal, and is one dated line at a time in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from sidelight.experiment.progress import Progress


@pytest.fixture
def progress(tmp_path):
    (tmp_path / "jobs").mkdir()
    made = Progress(tmp_path, 10_000, quiet=False)
    made.console = Console(file=io.StringIO(), width=80)
    return made


def test_a_log_gets_one_line_with_the_time_that_is_left(progress):
    progress.start -= 3725
    progress._show(40, last=True)
    progress.say("word " * 40)
    line, said = progress.console.file.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d 40 of 10000 jobs after 1:02:0\d, about 257:3\d:\d\d left", line)
    assert len(line) <= 80
    assert said.count("word") == 40


def test_the_bar_fits_80_columns_with_days_to_go(progress):
    task = progress.bar.tasks[0]
    progress.bar.update(progress.task, completed=9999)
    task.start_time = task.get_time() - 200_000
    shown = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    shown.print(progress.bar.make_tasks_table(progress.bar.tasks))
    (line,) = shown.file.getvalue().splitlines()
    assert "9999/10000" in line
    assert "2 days, 7:33:20" in line
    assert len(line) <= 80
