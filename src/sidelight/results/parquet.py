"""The results of a run as one Parquet file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pandas as pd

from sidelight.errors import RunError
from sidelight.results.job import job_id, parse_job_id
from sidelight.results.store import load_results
from sidelight.utils.atomic import write_atomic


def write_parquet(run: str | Path, path: str | Path) -> Path:
    """Write one row per job of a run: the columns of `load_results`, its id, its state and, if it failed, the error.

    Args:
        run: the run folder.
        path: the file; its name ends with .parquet.

    Returns:
        The path.

    Raises:
        RunError: the name ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise RunError(f"{path}: expected a name that ends with .parquet.")
    content = BytesIO()
    list_jobs(load_results(run, rebuild=False)).to_parquet(content, index=False)
    write_atomic(path, content.getvalue())
    return path


def list_jobs(results: pd.DataFrame) -> pd.DataFrame:
    """`results` with the columns `job`, `state` and `message`, and a row without scores for each job that failed."""
    ids = [job_id(*job) for job in results[["method", "control", "labels", "fold", "seed"]].itertuples(index=False)]
    stored = results.assign(job=ids, state="finished", message="")
    stored.attrs = {}  # objects that no file can hold
    failed = [
        {**parse_job_id(f.job), "job": f.job, "state": f.state, "message": f.message}
        for f in results.attrs.get("failures", ())
    ]
    first = ["job", "state", "message"]
    table = pd.concat([stored, pd.DataFrame(failed)], ignore_index=True) if failed else stored
    return table[[*first, *(c for c in table if c not in first)]]
