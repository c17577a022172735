"""The plan of a run: the ids of its jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path

PLAN = "plan.json"


def read_plan(run: str | Path) -> list[str]:
    """The ids of the planned jobs, in order; empty if no plan is stored."""
    try:
        return [str(job) for job in json.loads((Path(run) / PLAN).read_text("utf-8"))["jobs"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def list_stored(run: str | Path) -> list[os.DirEntry[str]]:
    """The folders of the stored jobs, as they lie in `jobs/`; their names are ids."""
    try:
        with os.scandir(Path(run) / "jobs") as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def split_id(job: str) -> tuple[str, float]:
    """The row of the table that a job belongs to, e.g. `kl~placebo`, and its label fraction; NaN if it is no id."""
    name, _, share = job.rpartition("-f")[0].rpartition("-l")
    try:
        return name, float(share)
    except ValueError:
        return job, float("nan")
