"""One vocabulary: the headings of terminal and page are those that the glossary defines, and no others are in use."""

from __future__ import annotations

import re

import pytest

from helpers.pages import ROOT
from sidelight.report.words import CHOSEN, VERDICTS
from sidelight.results.printing import COLUMNS

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
FORMER = ("privileged effect", "gap closed", "best on the select rows", "best on select")
"""What the terminal once said, and the page no longer did."""


def words(column: int, section: str = "") -> set[str]:
    """What stands in a column of the tables of the glossary, or of one of its sections."""
    text = GLOSSARY.partition(f"## {section}\n")[2].partition("\n## ")[0] if section else GLOSSARY
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {word.strip() for cells in lines for word in cells[column].split(",") if column < len(cells)}


def test_headings_of_the_terminal_are_defined():
    shown = {" ".join(heading.split()).replace("/ ", "/") for heading in COLUMNS}
    assert shown <= words(1, "The columns of the table")
    assert "●" in words(1, "The columns of the table")


def test_headings_of_the_page_are_defined():
    template = (ROOT / "src/sidelight/report/templates/comparison.html.j2").read_text("utf-8")
    head = template.partition("<thead>")[2].partition("</thead>")[0]
    shown = [re.sub(r"<small>.*?</small>", "", text) for text in re.findall(r"<th[^>]*>(.*?)</th>", head)]
    plain = {re.sub(r"<[^>]+>", " ", text).replace("&nbsp;", " ") for text in shown}
    names = {" ".join(text.split()) for text in plain if "{{" not in text and text != "row"}
    assert {"vs baseline", "more than its placebo", "of the teacher’s lead, reached"} <= names
    section = GLOSSARY.partition("## The columns of the table\n")[2]
    assert [name for name in names if f"| {name}" not in section and name not in GLOSSARY] == []
    assert f"| {CHOSEN} |" in section


def test_verdicts_are_defined():
    assert set(VERDICTS.values()) <= words(0, "Verdicts")


@pytest.mark.parametrize("former", FORMER)
def test_former_words_are_gone(former):
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.j2"), *(ROOT / "docs").rglob("*.md")]
    files.remove(ROOT / "docs" / "results-earlier.md")  # what earlier versions said
    files += [ROOT / "README.md", *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks").glob("*.md")]
    found = [str(file.relative_to(ROOT)) for file in files if former in " ".join(file.read_text("utf-8").split())]
    assert found == []
