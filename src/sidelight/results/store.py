"""The run folder on disk: its finished jobs read back as one table."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sidelight.errors import RunError, SidelightWarning
from sidelight.results.chance import stored_tests
from sidelight.results.job import COSTS as COSTS
from sidelight.results.job import RECORD, job_id, read_record
from sidelight.utils.atomic import write_atomic

KEYS = ["method", "control", "labels", "fold", "seed", "select"]
PLAN = "plan.json"


def read_plan(run: str | Path) -> list[str]:
    """The job ids that the run means to finish, in order; empty where no plan was stored."""
    try:
        return [str(job) for job in json.loads((Path(run) / PLAN).read_text("utf-8"))["jobs"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def load_results(run: str | Path, rebuild: bool = True) -> pd.DataFrame:
    """One row per finished job: `method, control, labels, fold, seed, select, <metrics>, seconds, n_train, n_test`.

    Reads `jobs/*/job.json`, in the plan's order where there is one, and rewrites `results.csv` where it differs. A job
    that the plan does not name (of an earlier plan with more methods or seeds) is left out. So is a job whose file is
    damaged or of another job, with a warning that names it. `attrs` carries `primary`, `task`, its `kind`, `labels`
    (names), `higher_is_better` (of every metric), `protocol` (which decides what a pair is; where config.yaml cannot be
    read, that of the jobs), `tests` (the chance levels of every fold and seed's test rows, `TestSet`), `faults` (the
    sentences of the warnings) and `data_sha256`.
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError(f"{run} is not a folder. Expected a run folder, which `sidelight run` writes (runs/<name>).")
    if not (run / "jobs").is_dir() and not (run / "config.yaml").is_file():
        raise RunError(f"{run} is not a run folder: it has neither jobs/ nor config.yaml. Name the folder itself.")
    order = {job: i for i, job in enumerate(read_plan(run))}
    files = [f for f in (run / "jobs").glob(f"*/{RECORD}") if not f.parent.name.startswith(".")]
    files = [f for f in files if not order or f.parent.name in order]
    files.sort(key=lambda f: (order.get(f.parent.name, len(order)), f.parent.name))
    records, faults = [], []
    for file in files:
        try:
            records.append(read_record(file.parent))
        except RunError as error:
            faults.append(f"{error} The job is left out; resume the run to train it again.")
    faults += _mixed(records)
    results = _frame(records)
    protocol, unread = _protocol(run, records)
    results.attrs |= protocol | {"tests": stored_tests(run, records), "faults": [*faults, *unread]}
    for fault in results.attrs["faults"]:
        warnings.warn(fault, SidelightWarning, stacklevel=2)
    if rebuild:
        store_results(run, results)
    return results


def _mixed(records: list[dict[str, Any]]) -> list[str]:
    """A sentence where jobs were trained on different data; those of earlier versions do not say on which."""
    data = {job_id(**r["job"]): r["made_with"].get("data") for r in records if isinstance(r.get("made_with"), dict)}
    first = next(iter(data), "")
    other = [name for name, digest in data.items() if digest != data[first]]
    if not other:
        return []
    return [
        f"{len(other)} of {len(data)} jobs were trained on other data than {first} ({', '.join(other[:3])}"
        f"{', …' * (len(other) > 3)}): they cannot be compared. Remove the folders of those that do not belong here."
    ]


def store_results(run: str | Path, results: pd.DataFrame) -> None:
    """Write `results.csv` where it differs; without a finished job none is begun."""
    stored, content = Path(run) / "results.csv", results.to_csv(index=False).encode()
    if (len(results) or stored.exists()) and not (stored.is_file() and stored.read_bytes() == content):
        write_atomic(stored, content)


def _protocol(run: Path, records: list[dict[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """{"protocol": …} of config.yaml, or of the jobs where that says none; and a sentence where they were asked."""
    file = run / "config.yaml"
    try:
        protocol = yaml.safe_load(file.read_text("utf-8"))["protocol"]
        if isinstance(protocol, str):
            return {"protocol": protocol}, []
        reason = "it names no protocol"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = "it names no protocol" if isinstance(error, KeyError | TypeError) else type(error).__name__
    if not file.exists():
        reason = "it is missing"
    named = {c.get("protocol") for r in records if isinstance(c := r.get("config"), dict)}
    if len(named) == 1 and isinstance(protocol := named.pop(), str):
        return {"protocol": protocol}, [f"{file} cannot be used ({reason}); the protocol is that of the jobs."]
    return {}, [f"{file} cannot be used ({reason}); what a pair is cannot be told, so folds × seeds count as pairs."]


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    metrics = list(dict.fromkeys(name for r in records for name in r["metrics"]))
    rows = [{**r["job"], **r["metrics"], **{k: r[k] for k in ("select", *COSTS)}} for r in records]
    results = pd.DataFrame(rows, columns=[*KEYS, *metrics, *COSTS])
    if records:
        made = records[0].get("made_with")
        results.attrs = {"data_sha256": made.get("data")} if isinstance(made, dict) else {}
        results.attrs |= {k: records[0][k] for k in ("primary", "task", "kind", "labels") if k in records[0]}
        said = [r["higher_is_better"] for r in records if isinstance(r.get("higher_is_better"), dict)]
        results.attrs["higher_is_better"] = {str(m): bool(higher) for each in said for m, higher in each.items()}
    return results
