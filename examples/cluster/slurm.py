"""Starts Dask workers as SLURM jobs and runs a study on them. PBS and LSF differ in one line, below.

    sbatch examples/cluster/client.sbatch        # this script, in a small job of its own
    python examples/cluster/slurm.py phone-watch --resume --time-limit 3:30:00

The words of the command line are those of `sidelight run`. Needs: pip install dask-jobqueue.
"""

from __future__ import annotations

import sys
from typing import Any

WORKERS = 20
"""Worker processes, each in a job of one core."""


def start_cluster(**changes: Any) -> Any:
    """The cluster of workers; nothing is submitted before `scale` or `adapt`."""
    from dask_jobqueue import SLURMCluster  # or PBSCluster, LSFCluster: `walltime`, `queue` and memory have other forms

    settings: dict[str, Any] = {
        "cores": 1,  # threads of a worker: one cell at a time
        "processes": 1,
        "memory": "4GB",
        "walltime": "04:00:00",
        "job_name": "sidelight",
        "job_script_prologue": ["export OMP_NUM_THREADS=1"],
        # A worker ends by itself before SLURM kills it, and its cell goes on elsewhere.
        "worker_extra_args": ["--lifetime", "225m", "--lifetime-stagger", "10m"],
        "scheduler_options": {"dashboard": False},
        # "queue": "cpu", "account": "my-project", "interface": "ib0",
    }
    return SLURMCluster(**settings | changes)


def main(words: list[str]) -> int:
    """`sidelight run` on the workers; returns its exit code."""
    from sidelight import cli

    with start_cluster() as cluster:
        cluster.adapt(minimum=1, maximum=WORKERS)
        return cli.main(["run", *words, "--scheduler", cluster.scheduler_address])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
