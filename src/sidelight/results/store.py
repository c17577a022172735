"""The run folder on disk: writing so that nothing half-written looks whole, and reading the finished jobs back."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sidelight.errors import DiskError, RunError, SidelightWarning
from sidelight.files import check_place
from sidelight.results.chance import stored_tests

KEYS = ["method", "control", "labels", "fold", "seed", "select"]
COSTS = ["seconds", "n_train", "n_test"]
PLAN = "plan.json"


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside `path`, then rename it: readers see the old file or the new, whole."""
    path = check_place(path, DiskError)
    temporary = _temporary(path)
    with _writing(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextmanager
def write_folder_atomic(path: str | Path) -> Iterator[Path]:
    """Build a folder under a temporary name; it is renamed to `path` when the block ends without an exception.

    An existing folder of that name is replaced. What a killed process left of earlier attempts at `path` is removed, so
    only one process at a time may write the same folder.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _writing(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{_escaped(path.name)}.*.tmp"):
            _remove(leftover)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            old = _temporary(path)
            os.replace(path, old)
            os.replace(temporary, path)
            _remove(old)
        else:
            os.replace(temporary, path)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files and folders (`.*.tmp`) of killed processes directly inside `folder`."""
    for leftover in Path(folder).glob(".*.tmp"):
        _remove(leftover)


def read_plan(run: str | Path) -> list[str]:
    """The job ids that the run means to finish, in order; empty where no plan was stored."""
    try:
        return [str(job) for job in json.loads((Path(run) / PLAN).read_text())["jobs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def load_results(run: str | Path, rebuild: bool = True) -> pd.DataFrame:
    """One row per finished job: `method, control, labels, fold, seed, select, <metrics>, seconds, n_train, n_test`.

    Reads `jobs/*/job.json`, in the plan's order where there is one, and rewrites `results.csv` where it differs. A job
    that the plan does not name (of an earlier plan with more methods or seeds) is left out; a job file that cannot be
    read too, named in a warning. `attrs` carries `primary`, `task`, its `kind`, `labels` (names) and
    `higher_is_better` (of every metric), `protocol` as config.yaml has it (it decides what a pair is), and `tests`: the
    chance levels of every fold and seed's test rows (`TestSet`).
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError(f"{run} is not a folder. Expected a run folder, which `sidelight run` writes (runs/<name>).")
    if not (run / "jobs").is_dir() and not (run / "config.yaml").is_file():
        raise RunError(f"{run} is not a run folder: it has neither jobs/ nor config.yaml. Name the folder itself.")
    order = {job: i for i, job in enumerate(read_plan(run))}
    files = [f for f in (run / "jobs").glob("*/job.json") if not f.parent.name.startswith(".")]
    files = [f for f in files if not order or f.parent.name in order]
    files.sort(key=lambda f: (order.get(f.parent.name, len(order)), f.parent.name))
    records = [record for file in files if (record := _read_job(file)) is not None]
    results = _frame(records)
    results.attrs |= _protocol(run) | {"tests": stored_tests(run, records)}
    if rebuild:
        store_results(run, results)
    return results


def store_results(run: str | Path, results: pd.DataFrame) -> None:
    """Write `results.csv` where it differs; without a finished job none is begun."""
    stored, text = Path(run) / "results.csv", results.to_csv(index=False)
    if (len(results) or stored.exists()) and not (stored.is_file() and stored.read_text() == text):
        write_atomic(stored, text)


def _protocol(run: Path) -> dict[str, str]:
    try:
        protocol = yaml.safe_load((run / "config.yaml").read_text())["protocol"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}
    return {"protocol": protocol} if isinstance(protocol, str) else {}


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    metrics = list(dict.fromkeys(name for r in records for name in r["metrics"]))
    rows = [{**r["job"], **r["metrics"], **{k: r[k] for k in ("select", *COSTS)}} for r in records]
    results = pd.DataFrame(rows, columns=[*KEYS, *metrics, *COSTS])
    duplicate = results.duplicated(KEYS[:5])
    if duplicate.any():
        row = results[duplicate].iloc[0]
        warnings.warn(
            f"{int(duplicate.sum())} job(s) are stored twice, e.g. {row['method']} fold {row['fold']} "
            f"seed {row['seed']}; the first of each is used.",
            SidelightWarning,
            stacklevel=3,
        )
        results = results[~duplicate].reset_index(drop=True)
    if records:
        results.attrs = {k: records[0][k] for k in ("primary", "task", "kind", "labels") if k in records[0]}
        said = [r["higher_is_better"] for r in records if isinstance(r.get("higher_is_better"), dict)]
        results.attrs["higher_is_better"] = {str(m): bool(higher) for each in said for m, higher in each.items()}
    return results


def _read_job(file: Path) -> dict[str, Any] | None:
    """The record of one job, or None (and a warning that names the file) where it is not whole."""
    try:
        record: dict[str, Any] = json.loads(file.read_text())
        job = record["job"]
        record["job"] = {k: job[k] for k in ("method", "control", "labels", "fold", "seed")}
        record["job"]["labels"] = float(job["labels"])
        record["job"]["control"] = str(job["control"] or "")
        record["metrics"] = {str(k): float(v) for k, v in record["metrics"].items()}
        record["select"] = float(record["select"])
        for key in COSTS:
            record[key] = float(record[key]) if key == "seconds" else int(record[key])
        return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        warnings.warn(
            f"{file} is not a whole job file ({reason}); it is left out. Remove its folder and resume the run.",
            SidelightWarning,
            stacklevel=3,
        )
        return None


@contextmanager
def _writing(path: Path, temporary: Path) -> Iterator[None]:
    """Removes `temporary` when anything goes wrong; failures of the disk become a DiskError that names `path`."""
    try:
        yield
    except BaseException as error:
        _remove(temporary)
        reason = _disk_error(error, temporary)
        if reason is None:
            raise
        raise DiskError(f"cannot write {path}: {reason}") from error


def _disk_error(error: BaseException, temporary: Path) -> str | None:
    """What a failure to write says to the user; None where it is not one (e.g. an input that could not be read)."""
    full = "Free some space or choose another folder."
    other = "Check the folder's permissions, or choose another folder."
    if isinstance(error, OSError):
        if error.filename is not None and not _beside(Path(os.fsdecode(error.filename)), temporary):
            return None
        mend = full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else other
        return f"{error.strerror or error}. {mend}"
    if isinstance(error, Exception) and "os error" in str(error):  # safetensors wraps the system's error in its own
        return f"{error}. {full if 'os error 28' in str(error) else other}"
    return None


def _beside(named: Path, temporary: Path) -> bool:
    """Whether `named` lies in the folder that is written, or is one of the folders above it."""
    named, temporary = Path(os.path.abspath(named)), Path(os.path.abspath(temporary))
    return temporary.parent in named.parents or named in temporary.parents


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.tmp")


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())
