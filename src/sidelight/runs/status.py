"""How far a run is: what its jobs are doing, the time that is left, and how to repeat what failed.

It reads the plan, the names of the stored jobs and the failures, and takes no lock, so it works while a run goes on.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sidelight.config import Config, load_config
from sidelight.config.paths import BUILT_IN
from sidelight.errors import ConfigError, RunError
from sidelight.runs.failures import Failure, load_failures
from sidelight.runs.plan import list_stored, read_plan, split_id

STATES = ("finished", "failed", "skipped", "waiting")
"""What a planned job is: stored, ended by an error, without a job that it needs, or none of these yet."""
SHOWN = 20
"""The most failures, and lines of the table of methods, that are printed."""


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        run: the run folder.
        jobs: id of a planned job -> its state, in the order of the plan.
        failures: those of the planned jobs, in the order in which they failed.
        started: when the last `run` of the folder began, in seconds since 1970; NaN if unknown.
        stored: when the last job was stored, in seconds since 1970; NaN if none is.
        fresh: the number of jobs that were stored since `started`.
        repeat: the command that runs a failed job again, up to the id of the job; "" if it needs Python.
    """

    run: Path
    jobs: dict[str, str]
    failures: list[Failure] = field(default_factory=list)
    started: float = math.nan
    stored: float = math.nan
    fresh: int = 0
    repeat: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """State -> number of jobs."""
        counted = Counter(self.jobs.values())
        return {state: counted[state] for state in STATES}

    @property
    def seconds_per_job(self) -> float:
        """Seconds between two stored jobs since the run was started or resumed; NaN if fewer than two were stored."""
        return (self.stored - self.started) / self.fresh if self.fresh > 1 else math.nan

    @property
    def seconds_left(self) -> float:
        """Seconds that the waiting jobs take at this pace; NaN if unknown."""
        return self.counts["waiting"] * self.seconds_per_job if self.counts["waiting"] else 0.0

    def command(self, job: str) -> str:
        """What runs a failed job again."""
        if self.repeat:
            return f"{self.repeat} {shlex.quote(job)}"
        return f"sl.compare(..., output={str(self.run)!r}, resume=True, only=[{job!r}])"

    def of_state(self, state: str) -> list[str]:
        """The ids of the jobs in a state."""
        return [job for job, its in self.jobs.items() if its == state]

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON can hold it; unknown times are None."""
        failures = [
            {"job": f.job, "state": f.state, "error": f.error, "message": f.message, "needs": f.needs}
            | {"trace": list(f.trace), "time": f.time, "command": self.command(f.needs or f.job)}
            for f in self.failures
        ]
        times = {"started": self.started, "stored": self.stored, "seconds_left": self.seconds_left}
        known = {name: value if math.isfinite(value) else None for name, value in times.items()}
        return {"run": str(self.run), "planned": len(self.jobs), **self.counts, **known, "failures": failures}

    def to_text(self) -> str:
        """The status in words."""
        counts = self.counts
        parts = [f"{counts['finished']:,} of {len(self.jobs):,} jobs finished"]
        parts += [f"{counts[state]:,} {state}" for state in STATES[1:] if counts[state]]
        lines = [f"{self.run}: {', '.join(parts)}", *self._pace(), "", *self._table()]
        failed = [f for f in self.failures if not f.needs]
        skipped = Counter(f.needs for f in self.failures if f.needs)
        for f in failed[:SHOWN]:
            lines += ["", f"{f.job} failed: {f.message}", *(f"  {call}" for call in f.trace[-2:])]
            if skipped[f.job]:
                lines.append(f"  skipped because they need it: {skipped[f.job]}")
            lines.append(f"  repeat: {self.command(f.job)}")
        if len(failed) > SHOWN:
            lines += ["", f"… and {len(failed) - SHOWN} more: --state failed names all, --json says all"]
        return "\n".join(lines) + "\n"

    def _pace(self) -> list[str]:
        """When the last job was stored, and how long the rest takes."""
        if not math.isfinite(self.stored):
            return []
        pace = f"  the last job was stored {format_seconds(max(0.0, time.time() - self.stored))} ago"
        if self.counts["waiting"] and math.isfinite(self.seconds_left):
            pace += f"; about {format_seconds(self.seconds_left)} left, at {self.seconds_per_job:.3g} s a job"
        return [pace]

    def _table(self) -> list[str]:
        """The states of the jobs of each row of the comparison."""
        by_row: dict[tuple[str, float], Counter[str]] = {}
        for job, state in self.jobs.items():
            by_row.setdefault(split_id(job), Counter())[state] += 1
        names = [f"{name}, {share:.0%} of the labels" if share < 1 else name for name, share in by_row]
        states = [s for s in STATES if self.counts[s]]
        width = max(map(len, names), default=0)
        lines = [" " * (width + 2) + "".join(f"{s:>10}" for s in states)]
        for name, counted in list(zip(names, by_row.values()))[:SHOWN]:
            lines.append(f"  {name:<{width}}" + "".join(f"{counted[s] or '–':>10}" for s in states))
        return lines + [f"  … {len(names) - SHOWN} more rows"] * (len(names) > SHOWN)


def read_status(run: str | Path) -> Status:
    """Read how far a run is.

    Args:
        run: the run folder.

    Raises:
        RunError: it is no run folder, or has no plan yet.
    """
    run = Path(run)
    plan = read_plan(run)
    if not plan:
        why = "it has no plan.json yet" if (run / "config.yaml").is_file() else "`sidelight run` writes one"
        raise RunError(f"{run} is not a run folder with a plan ({why}).")
    stored = {entry.name: entry for entry in list_stored(run)}
    failures = load_failures(run)
    states = {job: "finished" if job in stored else _state(failures.get(job)) for job in plan}
    started, times = _read_started(run), [stored[job].stat().st_mtime for job in plan if job in stored]
    return Status(
        run,
        states,
        [failures[job] for job in failures if job in states],
        started,
        max(times, default=math.nan),
        sum(when >= started for when in times),
        _repeat(run) if failures else "",
    )


def _state(failure: Failure | None) -> str:
    return failure.state if failure else "waiting"


def _read_environment(run: Path) -> dict[str, Any]:
    try:
        read = json.loads((run / "environment.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _read_started(run: Path) -> float:
    """When the run was started or resumed; to the second, so a job that was stored in the same second counts."""
    try:
        return datetime.strptime(str(_read_environment(run)["started"]), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (KeyError, ValueError):
        return math.nan


def _repeat(run: Path) -> str:
    """The command that repeats a job of a run, up to the job; "" if its data or encoders are in Python alone."""
    file, environment = run / "config.yaml", _read_environment(run)
    try:
        data = load_config(file).data
    except ConfigError:
        data = Config.data
    imports = [word for name in environment.get("imports") or {} for word in ("--import", str(name))]
    if (data not in BUILT_IN and not Path(data).exists()) or (environment.get("encoders") and not imports):
        return ""
    verb = "sweep" if (file.parent / "sweep.json").is_file() else "run"
    return shlex.join(["sidelight", verb, str(file), "--resume", *imports, "--only"])


def format_seconds(seconds: float) -> str:
    """A time as people say it: "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} days {hours % 24} h"
