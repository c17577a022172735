"""The jobs of a run that failed: `failed/<job>.json` holds the error of each, until the job is stored."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sidelight.runs.plan import split_id
from sidelight.utils.atomic import write_atomic

FOLDER = "failed"


@dataclass(frozen=True)
class Failure:
    """A job that is not stored, because an error ended it or because it needs a job that failed.

    Attributes:
        job: the id of the job, as its folder would be named.
        error: the type of the error.
        message: what the error says.
        needs: the id of the failed job that this one needs, so that it was skipped; "" if it failed itself.
        trace: the innermost calls in which the error was raised, "file:line in function", the innermost last.
        time: when, in seconds since 1970.
    """

    job: str
    error: str
    message: str
    needs: str = ""
    trace: tuple[str, ...] = field(default=())
    time: float = 0.0

    @property
    def row(self) -> tuple[str, float]:
        """The row of the table that the job belongs to, e.g. `kl~placebo`, and its label fraction."""
        return split_id(self.job)

    @property
    def state(self) -> str:
        """ "skipped" if the job waits for another that failed, else "failed"."""
        return "skipped" if self.needs else "failed"


def failure_file(run: Path, job: str) -> Path:
    """Where the failure of a job is stored."""
    return run / FOLDER / f"{job}.json"


def store_failure(run: Path, failure: Failure) -> None:
    """Write the file of a failure."""
    write_atomic(failure_file(run, failure.job), json.dumps(asdict(failure), indent=1))


def read_failure(run: Path, job: str) -> Failure | None:
    """The failure of a job; None if it has not failed."""
    try:
        return _parse(failure_file(run, job).read_text("utf-8"), job)
    except OSError:
        return None


def load_failures(run: str | Path) -> dict[str, Failure]:
    """The failures of the jobs that are not stored, by job, in the order in which they failed."""
    run = Path(run)
    try:
        with os.scandir(run / FOLDER) as entries:
            names = [e.name.removesuffix(".json") for e in entries if not e.name.startswith(".")]
    except OSError:
        return {}
    # A job that was repeated with success may leave the file of its failure if the process was killed just then.
    found = [read_failure(run, name) for name in names if not (run / "jobs" / name).exists()]
    return {f.job: f for f in sorted((f for f in found if f), key=lambda f: (f.time, f.job))}


def _parse(text: str, job: str) -> Failure:
    """The failure that a file describes; a damaged file still says that the job failed."""
    try:
        stored = json.loads(text)
        texts = {name: str(stored[name]) for name in ("error", "message", "needs")}
        trace = tuple(str(line) for line in stored["trace"])
        return Failure(job, **texts, trace=trace, time=float(stored["time"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Failure(job, "", f"{job}.json in {FOLDER}/ cannot be read")
