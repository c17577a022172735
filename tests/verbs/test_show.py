"""`sidelight show`: a student says what it reads and how good it was, and claims nothing that is not its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.students import make_student
from helpers.synthetic_run import make_run
from sidelight.cli import main
from sidelight.results import between, load_results
from sidelight.verbs.show import describe_student, format_student

pytestmark = pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run with the student of one of its jobs."""
    folder = make_run(tmp_path / "run", folds=2, seeds=2, methods=("kl", "pkdot+kl"))
    job = json.loads((folder / "jobs" / "pkdot+kl-l0.2-f1-s0" / "job.json").read_text())
    make_student(**job["job"], metrics=job["metrics"], data={"name": "faces"}).save(folder / "student")
    return folder


@pytest.mark.parametrize("place", ["", "student", "student/student.safetensors"])
def test_the_figures_are_those_of_the_run_with_their_intervals(run, place):
    told = describe_student(run / place)
    results = load_results(run)
    over = between(results, "pkdot+kl", "baseline", 0.2).interval
    assert told["run"]["over_baseline"] == {
        "mean": over.mean, "low": over.low, "high": over.high, "n": over.n, "note": over.note,
    }  # fmt: skip
    assert told["run"]["over_placebo"]["mean"] == between(results, "pkdot+kl", "pkdot+kl~placebo").interval.mean
    baseline = results[(results.method == "baseline") & (results.labels == 0.2)]
    assert told["run"]["baseline"] == pytest.approx(baseline["accuracy"].mean())
    assert told["inputs"]["phone_acc"]["unit"] == "m/s2"


def test_it_is_told_in_words_that_name_the_command(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["show", str(run)]) == 0
    said = capsys.readouterr().out
    for part in ("(rows, 20, 3)", "50 Hz", "m/s2", "sit, walk", "not watch_acc: privileged", "over its placebo"):
        assert part in said
    assert f"sidelight predict {run / 'student' / 'student.safetensors'} NEW_ROWS.csv" in said
    assert main(["show", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "pkdot+kl"


def test_a_student_alone_claims_no_interval(run, tmp_path, capsys):
    alone = tmp_path / "elsewhere" / "student.safetensors"
    alone.parent.mkdir()
    alone.write_bytes((run / "student" / "student.safetensors").read_bytes())
    assert main(["show", str(alone)]) == 0
    said = capsys.readouterr().out
    assert "no run folder beside it" in said
    assert "fold 1" in said
    assert describe_student(alone)["run"] is None


def test_a_student_of_another_run_gets_no_figures_of_this_one(run):
    make_student(method="pkdot+kl", control="", labels=0.2, fold=1, seed=0, metrics={"accuracy": 0.123}).save(
        run / "student"
    )
    assert "no job with this student's figures" in describe_student(run)["run"]["fault"]


def test_a_student_of_windows_names_the_command_that_cuts_new_ones(tmp_path):
    cut = {"recordings": {"phone_acc": {"unit": "m/s2", "final_rate": 50.0}}}
    said = format_student(describe_student(make_student(**cut).save(tmp_path / "windows")))
    use = said.partition("use it\n")[2]
    assert "  sidelight windows NEW/recordings.yaml NEW_WINDOWS\n  sidelight predict " in use
    assert " NEW_WINDOWS --output predictions.csv\n" in use
    assert "NEW_ROWS.csv" not in use
    # A table that names a file for each row has a rate too, and nothing to be cut.
    named = {**cut, "modalities": {"phone_acc": {"kind": "signal"}}}
    assert "NEW_ROWS.csv" in format_student(describe_student(make_student(**named).save(tmp_path / "table")))
