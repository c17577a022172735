"""What adding costs: a method is a class and a registry line, a setting is a field; the rest follows from the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from helpers.small import make_data, study
from sidelight.cli import main
from sidelight.cli_parser import build_parser
from sidelight.config import Config
from sidelight.config.io import settings
from sidelight.imports import import_own
from sidelight.methods import METHODS, DistillationLoss
from sidelight.methods.catalog import documentation, summarize_method, write_documentation
from sidelight.testing import check_method

ROOT = Path(__file__).parents[2]
MODULE = '''
from sidelight.methods import METHODS, DistillationLoss

class Nearer(DistillationLoss):
    """Absolute difference of the predictions."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, student, teacher, batch, task):
        return (student.prediction - teacher.prediction).abs().mean()

METHODS["nearer"] = Nearer
'''


@pytest.fixture(autouse=True)
def registry_stays():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.fixture
def nearer(tmp_path, monkeypatch):
    """A method that a temporary module registers, with nothing beside its class and its line."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_nearer.py").write_text(MODULE)
    import_own([str(tmp_path / "own_nearer.py")])
    yield METHODS["nearer"]
    sys.modules.pop("own_nearer")


def test_a_new_method_passes_the_checks_and_runs_a_study(nearer, tmp_path):
    assert check_method("nearer", task="classification", verbose=False)
    made = study(tmp_path / "run", make_data(), methods=["nearer"], training={"epochs": 1})
    assert "nearer" in made.table().index


def test_a_new_method_has_its_rows_in_the_tables_and_no_cost(nearer, tmp_path):
    page = tmp_path / "methods.md"
    page.write_text((ROOT / "docs" / "methods.md").read_text())
    write_documentation(page)
    made = page.read_text()
    assert "| `nearer` | Absolute difference of the predictions. |" in made
    assert documentation() in made
    assert summarize_method("nearer").cost is None
    METHODS.pop("nearer")
    write_documentation(page)
    assert page.read_text() == (ROOT / "docs" / "methods.md").read_text()


def test_a_new_method_is_printed_whole(nearer, capsys):
    assert main(["methods", "nearer"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Absolute difference of the predictions." in said
    assert "not measured" in said
    assert "options.nearer.weight=1.0: λ, the weight of the loss beside the task loss." in said


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_of_every_method_has_a_default_and_a_meaning(name, capsys):
    assert main(["methods", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    described = summarize_method(name).described
    assert [one.name.rpartition(".")[2] for one in described] == list(METHODS[name].defaults())
    for one in described:
        assert len(one.meaning) > 10, one.name
        assert f"{one.name}=" in said
    assert summarize_method(name).summary in said


def test_the_settings_of_pkdot_are_those_of_the_transport_with_k_and_lambda(capsys):
    assert main(["methods", "pkdot"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "transport.k=30: number of anchors." in said
    assert "transport.weight=0.4: λ" in said
    assert "fixed" not in said
    assert main(["methods", "pkdot-released"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "its settings are fixed: transport.epsilon=0.01" in said
    assert "transport.weight=0.6" in said


def test_null_transport_settings_are_what_their_help_says():
    """The command line imports no torch for its help, so the schema says what null stands for."""
    told = {name: setting.help for name, setting in settings(Config).items() if name.startswith("transport.")}
    for name, default in METHODS["pkdot"].defaults().items():
        shown = "none of them" if default is None else str(default)
        assert told[f"transport.{name}"].endswith(f"null: {shown}."), name


def test_the_help_of_run_lists_every_default():
    run = next(action.choices for action in build_parser()._actions if isinstance(action.choices, dict))["run"]
    said = " ".join(run.format_help().split())
    assert said.count("Default: ") == sum(not s.is_mapping and n != "data" for n, s in settings(Config).items())
    assert "number of anchors; null: 30. Default: null." in said
    assert "beside the task loss; null: 0.4." in said
    assert "`sidelight methods NAME`" in said


def test_auxiliary_and_check_settings_are_declared_where_they_are_needed_alone():
    auxiliary = [n for n, m in METHODS.items() if issubclass(m, DistillationLoss) and m.auxiliary]
    assert auxiliary == ["fdcmkd", "ccl"]
    assert [n for n, m in METHODS.items() if m.check_settings] == ["dkd", "amid", "mmanet"]
    assert [n for n, m in METHODS.items() if m.check_study] == ["mmanet"]


def test_the_page_of_own_methods_shows_code_that_works(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "methods.md").read_text()
    code = re.search(r"```python\n# my_method.py\n(.*?)```", page, re.DOTALL)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_page.py").write_text(code[1])
    try:
        import_own([str(tmp_path / "own_page.py")])
        assert check_method("huber", task="regression", delta=0.5, verbose=False)
    finally:
        sys.modules.pop("own_page", None)


def test_contributing_shows_each_addition_as_a_diff():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for what in ("**A loss**", "**A method**", "**A reader**", "**A setting**"):
        shown = text.partition(what)[2].partition("```diff\n")[2].partition("```")[0]
        added = [line for line in shown.splitlines() if line.startswith("+")]
        assert 2 <= len(added) <= 20, what
