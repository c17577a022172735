"""Workers, schedulers and clients are killed while a study runs on a Dask cluster; nothing of the result changes.

As a script (`python test_chaos.py FOLDER ADDRESS METHODS FOLDS SEEDS`): the client.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers import cluster
from helpers.processes import free_port
from helpers.small import differing, make_data, outcome, study, table

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

SMALL = {"methods": 1, "folds": 2, "seeds": 1}
LARGE = {"methods": 4, "folds": 5, "seeds": 2}
METHODS = ["kl", "mse", "pkdot", "kl+mse"]


def run(folder: Path, executor: str | None = None, methods: int = 1, **size: int) -> None:
    size |= {"jobs": 1}
    few = {"self_distillation": ["none"], "checkpoint_seconds": 0.0}
    study(folder, make_data(n=96, groups=10), resume=True, executor=executor, methods=METHODS[:methods], **size, **few)


def start_client(folder: Path, address: str, size: dict[str, int]) -> subprocess.Popen[str]:
    words = [sys.executable, __file__, str(folder), address, *(f"{k}={v}" for k, v in size.items())]
    return subprocess.Popen(words, env=cluster.environment(), stderr=subprocess.PIPE, text=True)


def check(folder: Path, whole: Path, jobs: int) -> None:
    assert len(table(whole)) == jobs
    assert differing(outcome(folder), outcome(whole)) == []
    assert table(folder).equals(table(whole))
    assert not [p for p in folder.rglob("*") if p.name.endswith(".tmp")]
    assert not list((folder / "checkpoints").iterdir())


def test_a_killed_worker_costs_nothing_but_time(tmp_path):
    run(tmp_path / "whole", **SMALL)
    port, killed = free_port(), []
    here = cluster.start(port, 1)

    def kill() -> None:
        end = time.monotonic() + 200
        while not any((tmp_path / "run").glob("checkpoints/*")) and time.monotonic() < end:
            time.sleep(0.02)
        killed.extend(cluster.workers_of(here.pid))
        for pid in killed:
            cluster.kill(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run(tmp_path / "run", f"tcp://127.0.0.1:{port}", **SMALL)
    finally:
        killer.join()
        stop(here)
    assert killed
    check(tmp_path / "run", tmp_path / "whole", 6)


def stop(here: subprocess.Popen[str]) -> None:
    started = cluster.children(here.pid)
    here.kill()
    here.wait()
    for pid in started:
        cluster.kill(pid)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_twenty_kills_of_workers_scheduler_and_client(seed, tmp_path):
    """60 jobs on three workers. Whoever runs it starts again what was killed, with the same command."""
    run(tmp_path / "whole", **LARGE)
    folder, rng, port, kills = (
        tmp_path / "run",
        random.Random(seed),
        free_port(),
        {"worker": 0, "scheduler": 0, "client": 0},
    )
    address, here, client = f"tcp://127.0.0.1:{port}", None, None
    end = time.monotonic() + 1500
    try:
        while True:
            assert time.monotonic() < end, kills
            if here is None:
                here = cluster.start(port, 3)
            if client is None:
                client = start_client(folder, address, LARGE)
            try:
                _, said = client.communicate(timeout=rng.uniform(2, 10) if sum(kills.values()) < 20 else 600)
            except subprocess.TimeoutExpired:
                who = rng.choices(["worker", "scheduler", "client"], [14, 3, 3])[0]
                kills[who] += 1
                if who == "worker" and (there := cluster.workers_of(here.pid)):
                    cluster.kill(rng.choice(there))
                elif who == "scheduler":
                    stop(here)
                    here = None
                elif who == "client":
                    client.kill()
                    client.communicate()
                    client = None
                continue
            if client.returncode == 0:
                break
            assert client.returncode == 75, said
            client = None
    finally:
        if client is not None:
            client.kill()
        if here is not None:
            stop(here)
    print(kills)
    check(folder, tmp_path / "whole", 60)


if __name__ == "__main__":
    from sidelight.errors import UnfinishedError
    from sidelight.experiment.study import Study

    Study.report = lambda self, path=None: self.folder / "report.html"  # type: ignore[method-assign]
    given = dict(word.split("=") for word in sys.argv[3:])
    try:
        run(Path(sys.argv[1]), sys.argv[2], **{name: int(value) for name, value in given.items()})
    except UnfinishedError as error:
        print(error, file=sys.stderr)
        sys.exit(75)
