"""Read the finished jobs of a run folder as one table."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sidelight.errors import RunError, SidelightWarning
from sidelight.results.chance import load_tests
from sidelight.results.group_scores import load_group_scores
from sidelight.results.job import CHOSEN, DRAWS, RECORD, SEEN, job_id, read_facts, read_record, read_seen
from sidelight.results.job import COSTS as COSTS
from sidelight.results.job import FACTS as FACTS
from sidelight.runs.failures import load_failures
from sidelight.runs.plan import read_plan
from sidelight.utils.atomic import write_atomic

KEYS = ["method", "control", "labels", "fold", "seed", "select"]
SUITE = "suite.json"
YAML: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads plain YAML, with libyaml where PyYAML has it: settings of a few hundred lines ten times faster."""


def is_suite(folder: str | Path) -> bool:
    """Whether a folder is that of a suite, which holds a run folder for each of its data sets."""
    return (Path(folder) / SUITE).is_file()


def load_results(run: str | Path, rebuild: bool = True) -> pd.DataFrame:
    """One row per finished job: `method, control, labels, fold, seed, select, <metrics>, seconds, n_train, n_test`.

    The columns `FACTS` follow. Where test rows lack every privileged modality, columns `seen.<metric>` hold the metrics
    over the others. Jobs that the plan does not name (from an earlier plan with more methods or seeds) are left out. So
    are jobs whose file is damaged or belongs to another job, with a warning that names them.

    Args:
        run: the run folder.
        rebuild: rewrite `results.csv` if it differs.

    Returns:
        The table, in the plan's order if there is a plan. Its `attrs` hold `primary`, `task`, the task's `kind`,
        `class_names` (or names of targets), `higher_is_better` (metric -> bool), `protocol` (from config.yaml, else
        from the jobs), `tests` ((fold, seed) -> `TestSet` with the chance levels), `groups` (with an official split:
        job id -> `GroupScores`), `failures` (the `Failure`s of the planned jobs), `faults` (the texts of the warnings)
        and `data_sha256`.

    Raises:
        RunError: `run` is not a run folder.
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError(f"{run} is not a folder. Expected a run folder, which `sidelight run` writes (runs/<name>).")
    if is_suite(run):
        raise RunError(f"{run} is the folder of a suite. Name the run of one of its data sets, a folder in it.")
    if not (run / "jobs").is_dir() and not (run / "config.yaml").is_file():
        raise RunError(f"{run} is not a run folder: it has neither jobs/ nor config.yaml. Name the folder itself.")
    records, faults = [], []
    for folder in list_job_folders(run):
        try:
            records.append(read_record(folder))
        except RunError as error:
            faults.append(f"{error} The job is left out; resume the run to train it again.")
    faults += _check_same_data(records)
    results = _build_frame(records)
    protocol, unread = _read_protocol(run, records)
    results.attrs |= protocol | {"tests": load_tests(run, records), "faults": [*faults, *unread]}
    planned = set(read_plan(run))
    results.attrs["failures"] = [f for f in load_failures(run).values() if f.job in planned or not planned]
    if protocol.get("protocol") == "official":  # one test set: what it says of other people is in its predictions
        results.attrs["groups"] = load_group_scores(run, records)
    for fault in results.attrs["faults"]:
        warnings.warn(fault, SidelightWarning, stacklevel=2)
    if rebuild:
        store_results(run, results)
    return results


def list_job_folders(run: Path) -> list[Path]:
    """The folders of finished jobs, in the plan's order; without a plan, by name."""
    order = {job: i for i, job in enumerate(read_plan(run))}
    folders = []
    for file in (run / "jobs").glob(f"*/{RECORD}"):
        name = file.parent.name
        if not name.startswith(".") and (name in order or not order):
            folders.append(file.parent)
    return sorted(folders, key=lambda folder: (order.get(folder.name, len(order)), folder.name))


def _check_same_data(records: list[dict[str, Any]]) -> list[str]:
    """A warning if jobs were trained on different data; jobs of earlier versions do not store on which."""
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
    """Write `results.csv` if it differs; a run without a finished job gets none."""
    stored, content = Path(run) / "results.csv", results.to_csv(index=False).encode()
    if (len(results) or stored.exists()) and not (stored.is_file() and stored.read_bytes() == content):
        write_atomic(stored, content)


def _read_protocol(run: Path, records: list[dict[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """{"protocol": …} from config.yaml, else from the jobs with a warning; {} if neither names one."""
    file = run / "config.yaml"
    try:
        protocol = yaml.load(file.read_text("utf-8"), Loader=YAML)["protocol"]
        if isinstance(protocol, str):
            return {"protocol": protocol}, []
        reason = "it names no protocol"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = "it names no protocol" if isinstance(error, KeyError | TypeError) else type(error).__name__
    if not file.exists():
        reason = "it is missing"
    named = {c.get("protocol") for r in records if isinstance(c := r.get("config"), dict)}
    if len(named) == 1 and isinstance(protocol := named.pop(), str):
        return {"protocol": protocol}, [f"{file} cannot be used ({reason}); the protocol is taken from the jobs."]
    return {}, [f"{file} cannot be used ({reason}); the protocol is unknown, so each fold and seed counts as a pair."]


def _build_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    metrics = list(dict.fromkeys(name for r in records for name in r["metrics"]))
    rows = []
    for r in records:
        # A test set whose rows all have a privileged modality is seen as it is.
        seen_of = read_seen(r) or {f"{SEEN}{name}": value for name, value in r["metrics"].items()}
        rows.append({**r["job"], **r["metrics"], **{k: r[k] for k in ("select", *COSTS)}, **read_facts(r), **seen_of})
    seen = [f"{SEEN}{metric}" for metric in metrics if any(read_seen(r) for r in records)]
    chosen = [name for name in (CHOSEN, DRAWS) if any(name in row for row in rows)]
    results = pd.DataFrame(rows, columns=[*KEYS, *metrics, *COSTS, *FACTS, *chosen, *seen])
    if records:
        made = records[0].get("made_with")
        results.attrs = {"data_sha256": made.get("data")} if isinstance(made, dict) else {}
        for attr, key in (
            ("primary", "primary"),
            ("task", "task"),
            ("kind", "kind"),
            ("class_names", "labels"),
            ("metric_note", "metric_note"),
        ):
            if key in records[0]:
                results.attrs[attr] = records[0][key]
        directions: dict[str, bool] = {}
        for record in records:
            stored = record.get("higher_is_better")
            if isinstance(stored, dict):
                directions |= {str(metric): bool(higher) for metric, higher in stored.items()}
        results.attrs["higher_is_better"] = directions
        settings = records[0].get("config")
        training = settings.get("training") if isinstance(settings, dict) else None
        if isinstance(training, dict) and isinstance(epochs := training.get("epochs"), int):
            results.attrs["epochs"] = epochs
    return results
