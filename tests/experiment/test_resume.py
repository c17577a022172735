"""A run that is killed at any moment and resumed is the run that was not (DESIGN invariant 6).

As a script (`python test_resume.py how folder kills`) it is a run that is killed: see `main`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from helpers.slow import mostly_slow
from helpers.small import FILES, differing, make_data, outcome, study, table

SETTINGS: dict[str, Any] = {
    "methods": ["kl", "pkdot", "mse@crossfit"],
    "placebo": ["pkdot"],
    "self_distillation": ["kl"],
    "teacher": {"hallucination": "cosine"},
}


def run(folder: Path, jobs: int = 1, checkpoint_seconds: float = 0.0) -> None:
    settings = SETTINGS | {"jobs": jobs, "checkpoint_seconds": checkpoint_seconds}
    study(folder, make_data(n=96, groups=8), resume=True, **settings)


# run as a script ----------------------------------------------------------------------------------------------------


def main(how: str, folder: Path, most: int) -> None:
    """Prints what happened as JSON.

    "moments": children run until they are killed after a random while; "writes": until they kill themselves at a random
    write, sync, renaming or removal; each goes on where the last one ended, until one does. After `most` of them it may
    end. "pool": runs once, with two workers.
    """
    if how == "pool":
        run(folder, jobs=2)
        return
    # Pages are written and not drawn, which would take longer than all of the training.
    Figure.savefig = lambda self, file, **_: file.write('<svg viewBox="0 0 1 1"></svg>')  # type: ignore[method-assign]
    study(
        folder.with_name("imports"), make_data(n=96, groups=8), methods=["kl"]
    )  # everything is loaded once, and not in every child
    rng = random.Random(most)
    if how == "moments":
        seconds, began = time_of_a_run(folder.with_name("timed"))
    kills, whole_jobs = 0, 0
    while True:
        limit = rng.randint(1, max(1200 // most, 60)) if kills < most else 10**6
        pid = fork(lambda n=limit: (die_at_write(n) if how == "writes" else None, run(folder)))  # type: ignore[misc]
        if how == "moments" and kills < most:
            time.sleep(rng.uniform(0, 2) * (began + seconds / most))  # each life begins anew
            os.kill(pid, signal.SIGKILL)
        if finish(pid):
            break
        kills += 1
        for job in folder.glob("jobs/[!.]*"):  # what looks whole is whole
            json.loads((job / "job.json").read_text())
            assert {p.name for p in job.iterdir()} >= {*FILES, "curves.csv"}, job
            whole_jobs += 1
    print(json.dumps({"kills": kills, "whole jobs seen": whole_jobs}))


def time_of_a_run(folder: Path) -> tuple[float, float]:
    """Seconds of a whole run in a process of its own, and until its first checkpoint is there."""
    start = time.perf_counter()
    pid = fork(lambda: run(folder))
    until(lambda: any(folder.glob("checkpoints/*")), 60, "no checkpoint")
    began = time.perf_counter() - start
    finish(pid)
    return time.perf_counter() - start, began


def fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    return pid


def finish(pid: int) -> bool:
    """Whether it ended by itself (and well), or was killed."""
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), f"failed by itself: {status}"
    return status == 0


def die_at_write(count: int) -> None:
    """From now on, the count-th call that changes what is on the disk is the last thing that happens."""
    left = [count]

    def deadly(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    for name in ("fsync", "replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, deadly(name, getattr(os, name)))


# tests --------------------------------------------------------------------------------------------------------------


def script(*words: object) -> list[str]:
    return [sys.executable, __file__, *map(str, words)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nobody disturbed, and that keeps no checkpoint."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, checkpoint_seconds=1e6)
    return folder


def check(folder: Path, whole: Path) -> None:
    assert differing(outcome(folder), outcome(whole)) == []
    assert table(folder).equals(table(whole))
    assert (folder / "plan.json").read_text() == (whole / "plan.json").read_text()
    assert (folder / "report.html").is_file()
    student = [path / "student" / "student.safetensors" for path in (folder, whole)]
    assert student[0].read_bytes() == student[1].read_bytes()
    assert not [p for p in folder.rglob("*") if p.name.endswith(".tmp")]
    assert not list((folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("how", "kills"),
    [
        pytest.param("writes", 3, marks=pytest.mark.slow),  # a killed training, stack and writer remain
        *(pytest.param(how, n, marks=pytest.mark.slow) for how in ("writes", "moments") for n in (20, 30, 40)),
    ],
)
def test_killed_again_and_again(how, kills, whole, tmp_path):
    folder = tmp_path / "run"
    done = subprocess.run(script(how, folder, kills), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= 2
    assert told["whole jobs seen"] > 0
    check(folder, whole)
    print(told)


def children(pid: int) -> list[int]:
    """The process ids of all that a process started, and they in turn."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def wait_for_jobs(folder: Path, count: int, pool: subprocess.Popen) -> None:
    """Until more than so many jobs are stored, or the run has ended."""
    until(lambda: len(list(folder.glob("jobs/[!.]*"))) > count or pool.poll() is not None, 90, "no job ended")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 4])
def test_a_killed_pool_leaves_no_worker_and_is_resumed_to_the_bit(kills, whole, tmp_path, drawn):
    folder, rng = tmp_path / "run", random.Random(kills)
    for kill in range(kills):
        before = len(list(folder.glob("jobs/[!.]*")))
        pool = subprocess.Popen(script("pool", folder, 0), stderr=subprocess.PIPE, text=True)
        try:
            wait_for_jobs(folder, before, pool)
            time.sleep(rng.uniform(0, 0.3))
            started = children(pool.pid)
        finally:
            pool.kill()
        pool.wait()
        until(lambda mine=started: not any(map(lives, mine)), 10, "a worker outlives its parent")
        assert kill or len(started) >= 2
        assert pool.returncode in (0, -signal.SIGKILL), pool.stderr and pool.stderr.read()
        for job in folder.glob("jobs/[!.]*"):
            json.loads((job / "job.json").read_text())
    if kills == 1:  # by one process, what two began
        run(folder)
    else:
        subprocess.run(script("pool", folder, 0), check=True, timeout=300)
    check(folder, whole)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_dies_and_a_run_that_is_stopped(blow, whole, tmp_path, drawn):
    """A dead worker ends the run with a word; Ctrl-C and a polite kill end the workers too."""
    folder = tmp_path / "run"
    pool = subprocess.Popen(script("pool", folder, 0), stderr=subprocess.PIPE, text=True)
    try:
        wait_for_jobs(folder, 0, pool)
        started = children(pool.pid)
        # The server, then the workers that were forked from it and have its command line.
        _, *workers = [pid for pid in started if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(workers[0] if blow == signal.SIGKILL else pool.pid, blow)
        _, said = pool.communicate(timeout=60)
    finally:
        pool.kill()
    until(lambda: not any(map(lives, started)), 10, "a worker outlives its parent")
    if blow == signal.SIGKILL:
        assert "A worker process died" in said
    run(folder)
    check(folder, whole)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))


@pytest.mark.parametrize("method", mostly_slow(["dask", "osmd", "mtnet", "admd"], ["dask", "mtnet"]))
def test_what_a_student_trains_of_a_network_that_was_read_back_is_what_it_was(method, tmp_path):
    """Hallucination encoders are copies of the teacher's or baseline's, which a resumed run reads from its folder."""
    data, settings = make_data(n=96, groups=8), {"methods": [method], "protocol": "official"}
    study(tmp_path / "whole", data, **settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for lost in (tmp_path / "again" / "jobs").glob(f"{method}-*"):
        shutil.rmtree(lost)
    study(tmp_path / "again", data, resume=True, **settings)
    assert differing(outcome(tmp_path / "whole"), outcome(tmp_path / "again")) == []
