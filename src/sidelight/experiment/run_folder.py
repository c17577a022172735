"""The run folder: claimed by one process, and checked to belong to this configuration, these data and this code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from sidelight.config import FREE, Config, difference, dump_config, load_config
from sidelight.config.io import build, flatten
from sidelight.config.paths import LOCAL, anchored
from sidelight.data import Dataset
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment import code_digest
from sidelight.methods import MethodSpec
from sidelight.results.job import RECORD, read_record, sealed
from sidelight.utils.atomic import remove_leftovers, write_atomic
from sidelight.utils.machine import claim

ELSEWHERE = "Choose another folder with --output (output=…)."


@contextmanager
def claimed(
    folder: Path, config: Config, methods: Collection[MethodSpec], dataset: Dataset, now: dict[str, Any], resume: bool
) -> Iterator[None]:
    """The run folder, checked to belong to this configuration and locked against a second process.

    now: the `environment` of this call.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"cannot write the run folder {str(folder)!r}: {reason}. Choose another with --output."
        ) from error
    with lock:
        try:
            claim(lock)
        except OSError as error:
            raise RunError(
                f"another process is running in {folder}; wait for it or choose another --output."
            ) from error
        _check_owner(folder, config, methods, now, resume)
        there = replace(config, data=_from(folder, config, dataset), network=anchored(config.network, folder))
        settings = dump_config(there)
        write_atomic(folder / "config.yaml", settings)
        files = {"config.yaml": hashlib.sha256(settings.encode()).hexdigest()}
        write_atomic(folder / "environment.json", sealed(now, files))
        if dataset.skipped:
            write_atomic(folder / "skipped.csv", pd.DataFrame(dataset.skipped).to_csv(index=False))
        for place in ("", "jobs", "shared", "checkpoints"):
            try:
                (folder / place).mkdir(exist_ok=True)
            except OSError as error:
                raise RunError(f"{folder / place} is not a folder, and a run keeps one there: move it away.") from error
            remove_leftovers(folder / place)
        yield


def _from(folder: Path, config: Config, dataset: Dataset) -> str:
    """`config.data`; of a path, how it is found from the run folder, wherever a later process is."""
    if dataset.about.get("source") != config.data:
        return config.data
    try:
        return os.path.relpath(config.data, folder)
    except ValueError:  # another drive
        return os.path.abspath(config.data)


def _check_owner(
    folder: Path, config: Config, methods: Collection[MethodSpec], now: dict[str, Any], resume: bool
) -> None:
    finished = any(folder.glob(f"jobs/[!.]*/{RECORD}"))
    if not (folder / "config.yaml").exists() and not finished:
        if any(not p.name.startswith((".lock", ".config.yaml.")) for p in folder.iterdir()):  # killed as it began
            raise RunError(f"{folder} is not empty and not a run folder. Choose another with --output.")
        return
    then, faults = begun_with(folder)
    same = then.get("data", {}).get("sha256") == now["data"]["sha256"]  # by whatever path they are named
    try:
        of_folder, of_now = (
            replace(c, network=anchored(c.network)) for c in (load_config(folder / "config.yaml"), config)
        )
        differs = difference(of_folder, of_now, (*FREE, *(["data"] if same else [])))
    except ConfigError as error:
        if not finished:
            raise
        differs = {}  # every job has the settings that it depends on
        faults.append(f"{error} It is written anew.")
    if not finished and (differs or not same):
        for place in ("shared", "checkpoints"):  # nothing was finished: what was begun here may be begun otherwise
            shutil.rmtree(folder / place, ignore_errors=True)
        return
    if differs and _jobs_agree(folder, config) and not any(_is_place(name, pair) for name, pair in differs.items()):
        faults.append(
            f"{folder / 'config.yaml'} does not say what the jobs were trained with ({', '.join(differs)}). It is "
            "written anew."
        )
        differs = {}
    if differs:
        raise RunError(f"{folder} belongs to another configuration:\n{_listed(differs)}\n{ELSEWHERE}")
    if not resume:
        raise RunError(f"{folder} holds this run already. Continue it with --resume (resume=True). {ELSEWHERE}")
    if not same and then:
        raise RunError(f"the data changed since {folder} was begun; its jobs cannot be mixed with new ones.")
    for fault in faults:
        warnings.warn(fault, SidelightWarning, stacklevel=2)
    if not then:
        raise RunError(
            f"{folder / 'environment.json'} cannot be read, and the jobs (of an earlier version) do not say which data "
            f"they are of, so they cannot be gone on with. Restore it from a copy. {ELSEWHERE}"
        )
    _check_code(folder, methods, then, now)
    _check_jobs(folder, config, now)


def _check_code(folder: Path, methods: Collection[MethodSpec], then: Mapping[str, Any], now: dict[str, Any]) -> None:
    """Compare encoders, methods and versions; sets `now["methods"]` to what the run is to remember."""
    encoders, versions = then["encoders"], then["versions"]
    if encoders != now["encoders"]:
        raise RunError(f"{folder} was begun with the encoders {encoders}, not {now['encoders']}; give the same ones.")
    now["methods"] = code_digest.checked(folder, methods, then["methods"], now["methods"])
    _warn_of_encoders(folder, then.get("imports", {}), now)
    changed = [f"{name} {versions[name]} → {v}" for name, v in now["versions"].items() if versions.get(name, v) != v]
    if changed:
        warnings.warn(
            f"{folder} was begun with other versions ({', '.join(changed)}): new jobs may differ from the stored ones.",
            SidelightWarning,
            stacklevel=3,
        )


def _warn_of_encoders(folder: Path, then: Mapping[str, str], now: Mapping[str, Any]) -> None:
    """Warn of a changed file with encoders, which are compared by their names, where methods are compared by code."""
    changed = [name for name, code in now.get("imports", {}).items() if then.get(name, code) != code]
    if changed and now["encoders"]:
        warnings.warn(
            f"{changed[0]} changed since {folder} was begun. If one of its encoders did, new jobs are not comparable "
            "with the stored ones: choose another folder with --output (output=…).",
            SidelightWarning,
            stacklevel=4,
        )


def _check_jobs(folder: Path, config: Config, now: Mapping[str, Any]) -> None:
    """Raises RunError for a finished job of other data, encoders or settings; what is damaged is seen to later."""
    for name, record in records(folder).items():
        made, which = record.get("made_with"), f"the job {name} in {folder}"
        if made is not None and made["data"] != now["data"]["sha256"]:
            raise RunError(
                f"the data changed since {which} was trained, which cannot be mixed with new jobs. {ELSEWHERE}"
            )
        if made is not None and made["encoders"] != now["encoders"]:
            raise RunError(
                f"{which} was trained with the encoders {made['encoders']}, not {now['encoders']}; give the same ones."
            )
        if differs := _other_settings(record.get("config"), config):
            raise RunError(f"{which} was trained with other settings:\n{_listed(differs)}\n{ELSEWHERE}")


def _jobs_agree(folder: Path, config: Config) -> bool:
    """Whether there are finished jobs, and each says that it was trained with these settings."""
    found = [_other_settings(record.get("config"), config) for record in records(folder).values()]
    return bool(found) and all(differs == {} for differs in found)


def _other_settings(stored: Any, config: Config) -> dict[str, tuple[Any, Any]] | None:
    """The settings of a job that differ, but for places of files; None where it does not say, or says it otherwise."""
    try:
        then = build(Config, dict(flatten(Config, stored)))
    except (ConfigError, AttributeError, TypeError, ValueError):  # of another version
        return None
    found = difference(then, config, (*FREE, "data"))
    return {name: pair for name, pair in found.items() if not _is_place(name, pair)}


def _is_place(name: str, pair: tuple[Any, Any]) -> bool:
    """Whether a setting names a file or folder, which is written differently from different folders."""
    return name == "data" or name.startswith("network.weights") or str(pair[1]).startswith(LOCAL)


def _listed(differs: Mapping[str, tuple[Any, Any]]) -> str:
    return "\n".join(f"  {name}: {there!r} there, {here!r} here" for name, (there, here) in differs.items())


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of the finished jobs by the names of their folders, without those that are damaged."""
    found = {}
    for file in sorted(folder.glob(f"jobs/[!.]*/{RECORD}")):
        try:
            found[file.parent.name] = read_record(file.parent)
        except RunError:
            continue
    return found


def begun_with(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What `environment` said when the run was begun, and what is to be said of it; empty where nobody knows.

    What finished jobs say of their data and code counts before environment.json, which may be missing or damaged.
    """
    file = folder / "environment.json"
    made = [r["made_with"] for r in records(folder).values() if "made_with" in r]
    faults: list[str] = []
    try:
        then = json.loads(file.read_text("utf-8"))
        known: dict[str, Any] = {name: dict(then[name]) for name in ("data", "encoders", "versions")}
        known["methods"] = dict(then["methods"]) if "methods" in then else None
        known["imports"] = dict(then.get("imports", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if not made:
            return {}, []
        known = {"versions": {}, "methods": {}}
        faults.append(f"{file} cannot be read; it is written anew, and the jobs say which data they are of.")
    if made:
        known |= {"data": {"sha256": made[0]["data"]}, "encoders": made[0]["encoders"]}
        known["methods"] = {**(known["methods"] or {}), **{t: code for m in made for t, code in m["methods"].items()}}
    return known, faults


__all__ = ["ELSEWHERE", "begun_with", "claimed", "records"]
