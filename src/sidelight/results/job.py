"""A finished job on disk: its name, its record job.json, and the checksums of its files."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.errors import RunError

RECORD = "job.json"
SEAL = "this"
"""Key of a record's own checksum."""
COSTS = ["seconds", "n_train", "n_test"]
FACTS = ["select_labels", "best_epoch", "ended", "lacks_train", "lacks_select", "lacks_test"]
"""Columns of `results.csv` that are no scores; records of earlier versions lack them."""
CHOSEN = "chosen"
"""The column of the weight that a method chose inside the fold, where one did."""
DRAWS = "draws"
"""The column of the number of draws of which a row of a sweep is the best one on the select rows."""
SEEN = "seen."
"""Before the name of a metric: its value over the test rows that have a privileged modality."""
NEEDED = ("model.safetensors", "predictions.csv", "curves.csv", "similarity.safetensors")
"""Files that every job stores beside its record; records of earlier versions do not list them."""


def job_id(method: str, control: str, labels: float, fold: int, seed: int) -> str:
    """The name of a job's folder.

    Args:
        method, control: the method's name, and "", "placebo" or "self".
        labels: the label fraction, in (0, 1].
        fold, seed: its fold and seed.
    """
    return f"{method}{f'~{control}' if control else ''}-l{labels:g}-f{fold}-s{seed}"


def parse_job_id(job: str) -> dict[str, Any]:
    """The method, control, labels, fold and seed that the name of a job's folder tells; {} if it is none."""
    found = re.fullmatch(r"(.+?)(?:~(\w+))?-l([\d.e-]+)-f(\d+)-s(\d+)", job)
    if not found:
        return {}
    method, control, labels, fold, seed = found.groups()
    return {"method": method, "control": control or "", "labels": float(labels), "fold": int(fold), "seed": int(seed)}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write job.json with its own SHA-256 and that of every other file in the folder."""
    files = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / RECORD).write_text(seal_record(record, files), encoding="utf-8")


def seal_record(record: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Write a record as JSON with checksums.

    Args:
        record: what to store; anything that JSON can hold.
        files: file name -> its SHA-256.

    Returns:
        JSON of the record, the files' SHA-256, and the SHA-256 of both.
    """
    plain = json.loads(json.dumps(record))  # as it will be read back
    return json.dumps({**plain, "sha256": {**files, SEAL: _seal(plain, files)}}, indent=1)


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record matches its checksum; True for earlier versions, which wrote none."""
    if not isinstance(record.get("sha256", {}), dict):
        return False
    if "sha256" not in record:
        return True
    files = {name: digest for name, digest in record["sha256"].items() if name != SEAL}
    seal = _seal({name: value for name, value in record.items() if name != "sha256"}, files)
    return bool(record["sha256"].get(SEAL) == seal)


def read_record(folder: Path) -> dict[str, Any]:
    """Read a job's job.json, with numbers and texts of the right types.

    Raises:
        RunError: the file is missing or incomplete, its checksum does not match, or it belongs to another job than the
            folder's name says.
    """
    file = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it holds no JSON object")
        if not is_sealed(record):
            raise ValueError("its content does not match its checksum")
        job = record["job"]
        record["job"] = {k: job[k] for k in ("method", "control", "labels", "fold", "seed")}
        record["job"]["labels"] = float(job["labels"])
        record["job"]["control"] = str(job["control"] or "")
        record["metrics"] = {str(k): float(v) for k, v in record["metrics"].items()}
        record["select"] = float(record["select"])
        for key in COSTS:
            record[key] = float(record[key]) if key == "seconds" else int(record[key])
        name = job_id(**record["job"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else getattr(error, "strerror", "") or str(error)
        raise RunError(f"{file} is not a complete job file ({reason}).") from error
    if name != folder.name:
        raise RunError(f"{file} belongs to the job {name!r}, not to {folder.name!r}: its folder was renamed or copied.")
    return record


def read_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """The `FACTS` of a record; NaN or "" for those that an earlier version did not store.

    Earlier versions kept all labels of select rows.
    """
    lacks = record.get("lacks") if isinstance(record.get("lacks"), dict) else {}
    assert isinstance(lacks, dict)
    few = record["job"]["labels"] < 1
    facts = {
        "select_labels": record.get("select_labels", "extra" if few else "part"),
        "best_epoch": record.get("best_epoch", math.nan),
        "ended": record.get("ended", ""),
    }
    if isinstance(chosen := record.get(CHOSEN), dict):
        facts[CHOSEN] = chosen.get("weight", math.nan)
    if isinstance(drawn := record.get(DRAWS), dict):
        facts[DRAWS] = drawn.get("count", math.nan)
    return facts | {f"lacks_{part}": lacks.get(part, {}).get("any", math.nan) for part in ("train", "select", "test")}


def read_seen(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a record over the test rows that have a privileged modality, by column; {} if all have one."""
    seen = record.get("seen")
    metrics = seen.get("metrics") if isinstance(seen, dict) else None
    if not isinstance(metrics, dict):
        return {}
    return {f"{SEEN}{name}": math.nan if v is None else float(v) for name, v in metrics.items()}


def changed_files(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The files of a job that are missing or changed since they were stored; without checksums, missing or empty."""
    names = record.get("sha256", NEEDED)
    return [name for name in names if name != SEAL and not is_whole(folder / name, record)]


def is_whole(file: Path, record: Mapping[str, Any]) -> bool:
    """Whether a job's file matches its checksum; without checksums, whether it exists and is not empty."""
    stored = record.get("sha256", {}).get(file.name)
    try:
        return file.is_file() and (_sha256(file) == stored if stored else file.stat().st_size > 0)
    except OSError:
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _seal(record: Mapping[str, Any], files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([record, files], sort_keys=True).encode()).hexdigest()
