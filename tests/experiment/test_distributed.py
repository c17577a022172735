"""`torchrun -m sidelight run`: the run of one process, also when it is killed and resumed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from helpers.processes import free_port, launch, start

RUN = (
    "-m", "sidelight", "run", "phone-watch", "--methods", "kl", "pkdot", "--folds", "2", "--seeds", "1",
    "--placebo", "none", "--jobs", "1", "label_fraction=[1.0]", "training.epochs=5", "training.batch_size=64",
    "checkpoint_seconds=0",
)  # fmt: skip


def results(folder: Path) -> dict[str, pd.DataFrame]:
    """Job -> what each of its epochs gave."""
    found = {path.parent.name: pd.read_csv(path) for path in sorted(folder.glob("jobs/*/curves.csv"))}
    return {name: frame.drop(columns="seconds") for name, frame in found.items()}


def run(count: int, folder: Path, *more: str) -> list[str]:
    ended = launch(count, *RUN, "--output", str(folder), *more, limit=500)
    assert [code for code, _ in ended] == [0] * count, ended
    assert (folder / "report.html").exists()
    assert (folder / "student" / "student.safetensors").exists()
    assert not [*folder.glob("checkpoints/*.pt")]
    return [output for _, output in ended]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A run of two processes, and what they said."""
    folder = tmp_path_factory.mktemp("together") / "run"
    return folder, run(2, folder)


@pytest.mark.slow
def test_two_processes_run_what_one_does(together, tmp_path):
    folder, (output, other) = together
    assert "training on cpu in 2 processes" in output
    assert "report:" in output
    assert other == ""
    run(1, tmp_path / "alone")
    one, two = results(tmp_path / "alone"), results(folder)
    assert one.keys() == two.keys()
    for name in one:  # in float32, so to the rounding of sums
        pd.testing.assert_frame_equal(one[name], two[name], rtol=0.01)


@pytest.mark.slow
def test_a_finished_run_is_not_begun_again_and_one_process_says_so(together):
    ended = launch(2, *RUN, "--output", str(together[0]), limit=300)
    assert [code for code, _ in ended] == [2, 2]
    (said,) = [output for _, output in ended if output]
    assert "already holds this run. Continue it with --resume" in said


@pytest.mark.slow
def test_killed_and_resumed_to_the_bit(together, tmp_path):
    folder = tmp_path / "run"
    port = free_port()
    processes = [start(rank, 2, *RUN, "--output", str(folder), port=port) for rank in range(2)]
    ends = time.monotonic() + 300
    while not [*folder.glob("checkpoints/*.pt")] and time.monotonic() < ends:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    output, _ = processes[0].communicate(timeout=100)
    assert processes[0].returncode == 2
    assert "process 0 of 2 lost the others" in output
    run(2, folder, "--resume")
    uninterrupted, resumed = results(together[0]), results(folder)
    assert uninterrupted.keys() == resumed.keys()
    for name, frame in uninterrupted.items():
        pd.testing.assert_frame_equal(frame, resumed[name], check_exact=True)
        path = Path("jobs") / name / "predictions.csv"
        assert (folder / path).read_bytes() == (together[0] / path).read_bytes()


@pytest.mark.slow
def test_other_verbs_and_settings_are_refused(tmp_path):
    (first, output), (second, other) = launch(2, "-m", "sidelight", "inspect", "phone-watch")
    assert (first, second) == (2, 2)
    assert "2 processes cannot share `sidelight inspect`" in output
    assert other == ""
    ended = launch(3, *RUN, "--output", str(tmp_path / "run"), "training.batch_size=2")
    assert [code for code, _ in ended] == [2, 2, 2]
    (said,) = [output for _, output in ended if "error" in output]
    assert "3 processes cannot share batches of training.batch_size=2 rows" in said
