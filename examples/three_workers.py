"""A study on a Dask cluster of three workers: here processes of this machine; elsewhere only the cluster differs.

python examples/three_workers.py            # from the shell: sidelight run phone-watch --scheduler local:3
"""

from __future__ import annotations

import sys
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

import sidelight as sl


def compare(folder: Path, executor: Executor | None = None) -> sl.Study:
    """Run a small study, or go on with it.

    Args:
        folder: the run folder, which every worker has to see under the same path.
        executor: where its jobs run; by default in processes of this machine.
    """
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    rows = {"cheap": rng.normal(size=(240, 4)) + y[:, None] / 2, "lab": rng.normal(size=(240, 2)) + 2 * y[:, None]}
    data = sl.load({**rows, "target": y, "group": np.arange(240) // 12}, name="two sensors")
    return sl.compare(
        data, ["cheap"], ["lab"], ["kl"], output=str(folder), resume=True, folds=3, seeds=1, placebo=["none"],
        training={"epochs": 5}, executor=executor, jobs=1, quiet=True,
    )  # fmt: skip


def main(folder: Path) -> sl.Study:
    """Run the study on three workers, each of one thread: a worker trains one network at a time."""
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        return compare(folder, client.get_executor(pure=False))


if __name__ == "__main__":  # workers import this file
    main(Path(sys.argv[1]) if sys.argv[1:] else Path("runs/three-workers")).print()
