"""How far a run is: counts, time left, failures and their commands, read beside a run that goes on."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pandas as pd
import pytest

from helpers.synthetic_run import make_run
from sidelight.cli import main
from sidelight.errors import RunError
from sidelight.report import write_report
from sidelight.results.job import job_id, parse_job_id
from sidelight.results.parquet import write_parquet
from sidelight.runs import status as status_module
from sidelight.runs.failures import Failure, load_failures, store_failure
from sidelight.runs.plan import read_plan, split_id
from sidelight.runs.status import format_seconds, read_status
from sidelight.utils.machine import claim

NOW = 1_800_000_000.0


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """Half of two methods on two folds: 5 of 10 jobs, the last four of them since the run was resumed."""
    made = make_run(tmp_path / "run", methods=("kl", "pkdot"), controls=(), folds=2, seeds=1, finished=0.5)
    started = time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(NOW - 100))
    (made / "environment.json").write_text(json.dumps({"started": started}))
    for number, job in enumerate(read_plan(made)[:5]):
        when = NOW - 500 if number == 0 else NOW - 100 + 20 * number
        os.utime(made / "jobs" / job, (when, when))
    monkeypatch.setattr(status_module.time, "time", lambda: NOW)
    return made


def fail(run: Path, place: int, needs: str = "") -> str:
    job = read_plan(run)[place]
    store_failure(run, Failure(job, "RunError", "the loss became nan.", needs, ("own.py:3 in step",), NOW + place))
    return job


def test_counts_and_the_time_that_is_left(run):
    status = read_status(run)
    assert status.counts == {"finished": 5, "failed": 0, "skipped": 0, "waiting": 5}
    assert status.fresh == 4
    assert status.seconds_per_job == pytest.approx(20)
    assert status.seconds_left == pytest.approx(100)
    said = status.to_text()
    assert "5 of 10 jobs finished, 5 waiting" in said
    assert "the last job was stored 20 s ago; about 2 min left, at 20 s a job" in said
    assert [line.split()[-2:] for line in said.splitlines() if line.startswith("  kl")] == [["1", "1"]]


def test_failures_and_the_command_that_repeats_each(run, capsys):
    first = fail(run, 7)
    fail(run, 8, needs=first)
    stored = fail(run, 0)  # and was repeated since
    status = read_status(run)
    assert stored not in load_failures(run)
    assert status.counts == {"finished": 5, "failed": 1, "skipped": 1, "waiting": 3}
    said = status.to_text()
    assert f"{first} failed: the loss became nan." in said
    assert "own.py:3 in step" in said
    assert "skipped because they need it: 1" in said
    command = f"sidelight run {run}/config.yaml --resume --only {first}"
    assert f"repeat: {command}\n" in said
    told = status.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [f["command"] for f in told["failures"]] == [command, command]  # what was skipped needs the first
    assert main(["status", str(run), "--state", "skipped"]) == 1
    assert capsys.readouterr().out == f"{read_plan(run)[8]}\n"
    assert main(["status", str(run), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == 1


def test_what_lies_in_python_alone_is_repeated_there(run):
    job = fail(run, 9)
    text = (run / "config.yaml").read_text().replace("data: phone-watch", "data: faces")
    (run / "config.yaml").write_text(text)
    assert read_status(run).command(job) == f"sl.compare(..., output='{run}', resume=True, only=['{job}'])"


def test_a_run_that_goes_on_can_be_asked(run, capsys):
    with (run / ".lock").open("a") as lock:
        claim(lock)
        assert main(["status", str(run)]) == 0
    assert "5 of 10 jobs finished" in capsys.readouterr().out


def test_damaged_and_missing_files(run, tmp_path):
    (run / "environment.json").write_text("{")
    job = fail(run, 9)
    (run / "failed" / f"{job}.json").write_text('{"error": 3')
    status = read_status(run)
    assert status.failures[0].message == f"{job}.json in failed/ cannot be read"
    assert status.to_dict()["seconds_left"] is None
    assert "left" not in status.to_text()
    (run / "plan.json").unlink()
    for folder in (run, tmp_path / "none"):
        with pytest.raises(RunError, match="is not a run folder with a plan"):
            read_status(folder)


def test_names_of_jobs_are_read_back():
    for parts in (
        ("pkdot+kl@crossfit", "placebo", 0.125, 3, 14),
        ("my-l2-f3", "", 1.0, 0, 0),
        ("a", "self", 1e-5, 1, 2),
    ):
        job = job_id(*parts)
        assert parse_job_id(job) == dict(zip(("method", "control", "labels", "fold", "seed"), parts))
        assert split_id(job) == (job.rpartition("-l")[0], parts[2])
    assert parse_job_id("nonsense") == {}


def test_format_seconds():
    said = [format_seconds(s) for s in (0, 89, 90, 5000, 6000, 200_000)]
    assert said == ["0 s", "89 s", "2 min", "83 min", "1 h 40 min", "2 days 7 h"]


def test_failed_jobs_in_the_page_and_in_the_parquet_file(run, no_figures):
    for place in range(5, 9):
        fail(run, place)
    page = write_report(run).read_text()
    assert "In progress: 5 of 10 jobs done, 4 failed." in page
    assert "4 jobs failed" in page
    assert "the loss became nan." in page
    fail(run, 9, needs=read_plan(run)[5])
    assert "In progress" not in write_report(run).read_text()

    table = pd.read_parquet(write_parquet(run, run / "all.parquet"))
    assert table["job"].tolist() == read_plan(run)
    assert table["state"].tolist() == ["finished"] * 5 + ["failed"] * 4 + ["skipped"]
    assert table["accuracy"].notna().tolist() == [True] * 5 + [False] * 5
    assert table["seed"].dtype == table["fold"].dtype == "int64"
    assert table["message"].iloc[-1] == "the loss became nan."
    with pytest.raises(RunError, match=r"expected a name that ends with \.parquet"):
        write_parquet(run, run / "all.csv")
