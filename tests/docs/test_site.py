"""The site: what is made from code and results says what they say, and the whole builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape

import pytest
import yaml
from _site import api_pages, docstrings, evidence, method_pages, notebooks

import sidelight.experiment
import sidelight.losses
from helpers.pages import ROOT
from sidelight.methods import METHODS
from sidelight.methods.catalog import summarize_method

RESULTS = ROOT / "docs" / "results.md"


@pytest.fixture(scope="module")
def measured():
    return evidence.read_results(RESULTS)


def test_evidence_is_what_the_results_page_says(measured):
    text = RESULTS.read_text("utf-8")
    tables = len(re.findall(r"^\| \| .*− baseline", text, re.M))
    assert len({row.question for row in measured}) == tables > 0
    assert {"kl", "pkdot", "teacher"} <= {row.method for row in measured}
    for row in measured:
        assert re.search(
            rf"^\| {re.escape(row.method)} \| {re.escape(row.score)} \| \**{re.escape(row.gain.written)}", text, re.M
        )
        assert row.gain.low <= row.gain.mean <= row.gain.high


@pytest.mark.parametrize(
    ("cell", "points", "expected"),
    [
        ("**+11.4 [+1.6, +21.3]**", 1, (11.4, 1.6, 21.3)),
        ("−0.5 [−6.9 to +5.9]", 1, (-0.5, -6.9, 5.9)),
        ("+0.010 [−0.079 to +0.098]", 100, (1.0, -7.9, 9.8)),
    ],
)
def test_a_difference_is_read_in_points(cell, points, expected):
    read = evidence.Difference.parse(cell, points)
    assert (read.mean, read.low, read.high) == pytest.approx(expected)


@pytest.mark.parametrize("cell", ["", "–", "78.6 ± 6.5"])
def test_a_cell_without_a_difference_is_none(cell):
    assert evidence.Difference.parse(cell, 1) is None


def test_of_a_sum_each_part_has_the_evidence_and_placebos_have_none(measured):
    sums = {row.method for row in evidence.concerning("kl", measured)}
    assert {"kl", "pkdot+kl"} <= sums
    assert not any("~" in method or method.startswith("pkdot-") for method in sums)


def test_every_method_has_a_sentence_on_when_to_use_it():
    when = yaml.safe_load(method_pages.WHEN.read_text("utf-8"))
    assert list(when) == list(METHODS)
    assert all(str(text).endswith(".") for text in when.values())


def test_a_page_of_a_method_holds_its_docstring_settings_and_evidence(measured):
    method = summarize_method("kl")
    made = method_pages.page(method, "Start here.", evidence.concerning("kl", measured), [])
    for part in (method.summary, method.details, "Start here.", "`options.kl.temperature` | `4.0`", ":pyobject: KL"):
        assert part in made
    assert made.count("<svg") == 2  # of its networks, and of the evidence
    assert evidence.concerning("kl", measured)[0].gain.written in made


def test_the_reference_has_every_public_name():
    losses = api_pages.page(sidelight.losses)
    assert all(f".. autofunction:: {name}" in losses for name in sidelight.losses.__all__ if name.islower())
    assert ".. autofunction:: compare" in api_pages.page(sidelight)
    assert ".. autofunction:: compare" not in api_pages.page(sidelight.experiment)  # once is enough


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a generator of `Step`s: |x| * s_i, x_", r"a generator of ``Step``\ s: \|x\| \* s_i, x\_"),
        ("``a * b`` and `c|d`", "``a * b`` and ``c|d``"),
        ("as in :func:`crd`.", "as in :func:`crd`."),
    ],
)
def test_docstrings_mean_what_they_say(line, expected):
    assert docstrings.plain(line) == expected


def test_an_indented_formula_is_set_as_it_is_written():
    lines = ["The loss:", "", "    L = |a| + b_", "", "Then text."]
    docstrings.to_rst(None, "class", "X", None, None, lines)
    assert lines[:4] == ["The loss:", "", "::", ""]
    assert lines[4] == "    L = |a| + b_"
    assert lines[-1] == "Then text."


def test_every_notebook_is_on_the_page_of_the_examples():
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    shown = [path.name for path in notebooks.NOTEBOOKS.glob("*.ipynb")]
    assert len(shown) >= 4
    assert [name for name in shown if f"(notebooks/{name})" not in page] == []


@pytest.mark.slow  # minutes
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path / "site")]
    built = subprocess.run([*command, "-d", str(tmp_path / "trees")], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for name in METHODS:
        page = unescape((tmp_path / "site" / "methods" / f"{name}.html").read_text("utf-8"))
        assert "What our results say" in page
        assert page.count('<figure class="diagram"') == 1
    for path in notebooks.NOTEBOOKS.glob("*.ipynb"):
        assert "cell_output" in (tmp_path / "site" / "notebooks" / f"{path.stem}.html").read_text("utf-8")
    assert "soft_label_kl" in (tmp_path / "site" / "api" / "sidelight.losses.html").read_text("utf-8")
    assert (
        "http"
        not in re.sub(r'href="[^"]*"', "", (tmp_path / "site" / "index.html").read_text("utf-8")).partition("</head>")[
            0
        ]
    )
