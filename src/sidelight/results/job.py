"""One finished job on disk: how it is called, what seals it, and whether it still is what was stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.errors import RunError

RECORD = "job.json"
SEAL = "this"
"""The name of a record's own checksum."""
COSTS = ["seconds", "n_train", "n_test"]
NEEDED = ("model.safetensors", "predictions.csv", "curves.csv", "similarity.safetensors")
"""What every job leaves beside its record; records of earlier versions do not list it."""


def job_id(method: str, control: str, labels: float, fold: int, seed: int) -> str:
    """The name of a job's folder."""
    return f"{method}{f'~{control}' if control else ''}-l{labels:g}-f{fold}-s{seed}"


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write job.json, with the SHA-256 of itself and of every other file that is in the folder by now."""
    files = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / RECORD).write_text(sealed(record, files), encoding="utf-8")


def sealed(record: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """A record as JSON, with the SHA-256 of other files, and of itself with theirs."""
    plain = json.loads(json.dumps(record))  # as it will be read
    return json.dumps({**plain, "sha256": {**files, SEAL: _seal(plain, files)}}, indent=1)


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record is what was written; of earlier versions, which wrote no checksum, True."""
    if not isinstance(record.get("sha256", {}), dict):
        return False
    if "sha256" not in record:
        return True
    files = {name: digest for name, digest in record["sha256"].items() if name != SEAL}
    seal = _seal({name: value for name, value in record.items() if name != "sha256"}, files)
    return bool(record["sha256"].get(SEAL) == seal)


def read_record(folder: Path) -> dict[str, Any]:
    """What job.json says, with numbers and names of the right types.

    Raises:
        RunError: it is missing, not whole, of another job than its folder's name says, or its checksum does not match.
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
        raise RunError(f"{file} is not a whole job file ({reason}).") from error
    if name != folder.name:
        raise RunError(f"{file} is of the job {name!r}, not of {folder.name!r}: its folder was renamed or copied.")
    return record


def changed_files(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """The files of a job that are missing, or not what was stored; of a job without checksums, missing or empty."""
    names = record.get("sha256", NEEDED)
    return [name for name in names if name != SEAL and not is_whole(folder / name, record)]


def is_whole(file: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file of a job is what was stored; of a job without checksums, whether it is there and not empty."""
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
