"""Phases of a run: each second is counted once, on whatever thread, and a run's table adds up to its time."""

from __future__ import annotations

import json
import re
import threading
import time

import numpy as np
import pytest

from sidelight.cli import main
from sidelight.utils.phases import REST, phase, recording


@phase("inner")
def inner() -> str:
    time.sleep(0.02)
    return "done"


def test_a_phase_inside_another_is_not_counted_to_it(tmp_path):
    assert inner() == "done"  # nothing is recorded
    with recording() as recorder, phase("outer"):
        inner()
        time.sleep(0.01)
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()
        with pytest.raises(ZeroDivisionError), phase("fails"):
            _ = 1 / 0
    inner()
    assert recorder.calls == {"inner": 2, "outer": 1, "fails": 1}
    assert recorder.seconds["inner"] >= 0.04
    assert recorder.seconds["outer"] >= 0.03  # its own pause, and the wait for the thread
    assert recorder.seconds["outer"] < recorder.total - 0.02 + 1e-3
    recorder.write_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["inner", "inner", "fails", "outer"]
    assert len({event["tid"] for event in events}) == 2
    whole = events[-1]
    assert all(whole["ts"] <= e["ts"] and e["ts"] + e["dur"] <= whole["ts"] + whole["dur"] + 1 for e in events)


@pytest.mark.slow  # a run of its own, because a profile is of one process
def test_a_run_says_where_its_time_went(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    np.savez(
        tmp_path / "d.npz", a=rng.normal(size=(40, 2)), b=rng.normal(size=(40, 2)), target=y, group=np.arange(40) // 4
    )
    command = [
        "run",
        str(tmp_path / "d.npz"),
        "--available",
        "a",
        "--privileged",
        "b",
        "--methods",
        "kl",
        "--folds",
        "2",
    ]
    short = ["--seeds", "1", "--placebo", "none", "training.epochs=1", "--output", str(tmp_path / "run"), "--quiet"]
    assert main([*command, *short, "--profile"]) == 0
    said = capsys.readouterr().out
    table = said[said.index("where the time went") :].splitlines()
    rows = {line[:32].strip(): float(line[32:42]) for line in table[1:-1]}
    for name in ("read the data", "prepare rows", "train: gradients, updates", "test", "store jobs", REST):
        assert rows[name] >= 0
    assert sum(seconds for name, seconds in rows.items() if name != "in all") == pytest.approx(rows["in all"], abs=0.1)
    assert all(len(line) < 80 for line in table[:-1])
    assert re.search(r"^statistics and report .* 1$", "\n".join(table), re.M)
    assert json.loads((tmp_path / "run" / "trace.json").read_text())["otherData"] == {"left out": 0}


@pytest.mark.parametrize("word", ["--jobs=2", "--scheduler=local:2"])
def test_what_records_nothing_is_refused(word, capsys):
    assert main(["run", "phone-watch", "--profile", word]) == 2
    assert "--profile measures this process alone" in capsys.readouterr().err
