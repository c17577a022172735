"""The run folder: entered by processes of one study, and checked to belong to its settings, data and code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from sidelight.config import FREE, Config, difference, dump_config, load_config
from sidelight.config.io import build, flatten
from sidelight.config.paths import LOCAL, anchor_paths
from sidelight.data import Dataset
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.experiment import code_digest
from sidelight.experiment.leases import DURATION, PLACES, START, clear_leftovers, forget_work, hold, is_used, present
from sidelight.experiment.mirror import mirror_of
from sidelight.methods import MethodSpec
from sidelight.results.job import DRAWS, RECORD, read_record, seal_record
from sidelight.utils.atomic import write_atomic

ELSEWHERE = "Choose another folder with --output (output=…)."
OF_A_PROCESS = ("output", "jobs", "checkpoint_seconds", "max_failures", "training.device", "training.stack")
"""Settings that may differ between processes that run one study together."""


@contextmanager
def enter_run_folder(
    folder: Path,
    config: Config,
    methods: Collection[MethodSpec],
    dataset: Dataset,
    now: dict[str, Any],
    resume: bool,
    check: Callable[[bool], None] = lambda joins: None,
) -> Iterator[None]:
    """Check that the run folder belongs to this run, write its settings, and show that this process runs there.

    Several processes may run the same study in one folder: each works on folds that no other one works on.

    Args:
        folder: the run folder; created if it does not exist.
        config: the experiment's settings, with every default filled in.
        methods: the methods of the run.
        dataset: all rows.
        now: `describe_environment` of this call.
        resume: whether finished jobs of the same run, or another process that runs it, may be in the folder.
        check: is told whether another process runs there, and raises an error if this one may not.

    Raises:
        RunError: the folder cannot be written, holds another run, or another process runs another one there.
    """
    with ExitStack() as here:
        here.callback(_leave, folder)
        with _starting(folder):
            mirror = mirror_of(folder)
            if mirror:
                mirror.pull()
            joins = is_used(folder)
            if joins:
                _check_joined(folder, config, now, resume)
            _check_same_run(folder, config, methods, now, resume)
            check(joins)
            _make_places(folder)
            if not joins:
                clear_leftovers(folder)
                _write_settings(folder, config, dataset, now)
            here.enter_context(present(folder))
            if mirror:
                mirror.push()
        del dataset  # a run moves the rows to files, so nothing else may hold them
        yield


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """Hold the lease of whoever prepares the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease = hold(folder, [START], seconds=2 * DURATION)
        held = lease.__enter__()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"cannot write the run folder {str(folder)!r}: {reason}. Choose another with --output."
        ) from error
    try:
        if not held:
            raise RunError(f"another process has been preparing {folder} for minutes; wait for it. {ELSEWHERE}")
        yield
    finally:
        lease.__exit__(None, None, None)


def _make_places(folder: Path) -> None:
    for place in PLACES:
        try:
            (folder / place).mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{folder / place} is not a folder, but a run needs a folder there: move it away."
            ) from error


def _write_settings(folder: Path, config: Config, dataset: Dataset, now: dict[str, Any]) -> None:
    # Paths are stored relative to the folder, so that it can be moved together with the data.
    stored = replace(config, data=_data_path(folder, config, dataset), network=anchor_paths(config.network, folder))
    settings = dump_config(stored)
    write_atomic(folder / "config.yaml", settings)
    files = {"config.yaml": hashlib.sha256(settings.encode()).hexdigest()}
    write_atomic(folder / "environment.json", seal_record(now, files))
    if dataset.skipped:
        write_atomic(folder / "skipped.csv", pd.DataFrame(dataset.skipped).to_csv(index=False))


def _leave(folder: Path) -> None:
    """Remove what only running processes need, unless another one is running."""
    with suppress(OSError):  # a full or broken disk has been told of already
        forget_work(folder)


def _check_joined(folder: Path, config: Config, now: dict[str, Any], resume: bool) -> None:
    """Check that this run is the one that another process runs in the folder.

    Raises:
        RunError: it is another one, or nobody has asked to go on with it.
    """
    busy = f"another process is running in {folder}"
    if not resume:
        raise RunError(f"{busy}; help it with --resume (resume=True), wait for it, or choose another --output.")
    then, _ = load_environment(folder)
    same = then.get("data", {}).get("sha256") == now["data"]["sha256"]
    stored = load_config(folder / "config.yaml")
    stored = replace(stored, network=anchor_paths(stored.network))
    current = replace(config, network=anchor_paths(config.network))
    if differs := difference(stored, current, (*OF_A_PROCESS, "data") if same else OF_A_PROCESS):
        raise RunError(f"{busy} with other settings:\n{_format_differences(differs)}\nWait for it. {ELSEWHERE}")


def _data_path(folder: Path, config: Config, dataset: Dataset) -> str:
    """`config.data`; if it is a path, relative to the run folder, so that later processes find it from anywhere."""
    if dataset.about.get("source") != config.data:
        return config.data
    try:
        return os.path.relpath(config.data, folder)
    except ValueError:  # another drive
        return os.path.abspath(config.data)


def _check_same_run(
    folder: Path, config: Config, methods: Collection[MethodSpec], now: dict[str, Any], resume: bool
) -> None:
    """Check that a folder is empty, or holds this run; delete what an unfinished other run started.

    Raises:
        RunError: the folder holds another run, other data, or finished jobs without `resume`.
    """
    # A draw of a sweep is worth as much as a job.
    finished = any(any(folder.glob(f"{place}/[!.]*/{RECORD}")) for place in ("jobs", "draws/*/jobs"))
    if not (folder / "config.yaml").exists() and not finished:
        # Left by a run that was killed at its start.
        begun = (".lock", ".work", ".mirror.json", ".config.yaml.", ".sweep.json.", "sweep.json")
        if any(not p.name.startswith(begun) for p in folder.iterdir()):
            raise RunError(f"{folder} is not empty and not a run folder. Choose another with --output.")
        return

    then, faults = load_environment(folder)
    # The digest counts, not the path: the same data may lie elsewhere now.
    same = then.get("data", {}).get("sha256") == now["data"]["sha256"]
    try:
        stored = load_config(folder / "config.yaml")
        stored = replace(stored, network=anchor_paths(stored.network))
        current = replace(config, network=anchor_paths(config.network))
        differs = difference(stored, current, (*FREE, "data") if same else tuple(FREE))
    except ConfigError as error:
        if not finished:
            raise
        differs = {}  # every finished job stores the settings that it depends on
        faults.append(f"{error} It is written again.")

    if not finished and (differs or not same):
        # Without finished jobs the folder may be used for other settings or data.
        for place in ("shared", "checkpoints", "inner", "draws"):
            shutil.rmtree(folder / place, ignore_errors=True)
        return

    # A damaged config.yaml is mended, if the jobs show that they were trained with the settings of this call. A path
    # is no evidence: jobs do not store where files lay.
    if differs and _jobs_agree(folder, config) and not any(_is_path(name, pair) for name, pair in differs.items()):
        faults.append(
            f"{folder / 'config.yaml'} differs from the settings that the jobs were trained with "
            f"({', '.join(differs)}). It is written again."
        )
        differs = {}
    if differs:
        raise RunError(f"{folder} belongs to another configuration:\n{_format_differences(differs)}\n{ELSEWHERE}")
    if not resume:
        raise RunError(f"{folder} already holds this run. Continue it with --resume (resume=True). {ELSEWHERE}")
    if not same and then:
        raise RunError(f"the data changed since {folder} was started; its jobs cannot be mixed with new ones.")
    for fault in faults:
        warnings.warn(fault, SidelightWarning, stacklevel=2)
    if not then:
        raise RunError(
            f"{folder / 'environment.json'} cannot be read, and the jobs (of an earlier version) do not store a digest "
            f"of their data, so the run cannot be resumed. Restore the file from a copy. {ELSEWHERE}"
        )
    _check_code(folder, methods, then, now)
    _check_jobs(folder, config, now)


def _check_code(folder: Path, methods: Collection[MethodSpec], then: Mapping[str, Any], now: dict[str, Any]) -> None:
    """Compare encoders, methods and versions with those of the run; sets `now["methods"]` to the digests to store."""
    encoders, versions = then["encoders"], then["versions"]
    if encoders != now["encoders"]:
        raise RunError(f"{folder} was started with the encoders {encoders}, not {now['encoders']}; use the same ones.")
    now["methods"] = code_digest.check_code(folder, methods, then["methods"], now["methods"])
    _warn_about_encoders(folder, then.get("imports", {}), now)
    _warn_about_device(folder, then.get("machine", {}), now["machine"])
    changed = []
    for name, version in now["versions"].items():
        # A package that the run did not store has not changed.
        if versions.get(name, version) != version:
            changed.append(f"{name} {versions[name]} → {version}")
    if changed:
        warnings.warn(
            f"{folder} was started with other versions ({', '.join(changed)}): "
            "new jobs may differ from the stored ones.",
            SidelightWarning,
            stacklevel=3,
        )


def _warn_about_encoders(folder: Path, then: Mapping[str, str], now: Mapping[str, Any]) -> None:
    """Warn about a changed file with encoders: a run compares encoders by name, and only methods by their code."""
    changed = [name for name, code in now.get("imports", {}).items() if then.get(name, code) != code]
    if changed and now["encoders"]:
        warnings.warn(
            f"{changed[0]} changed since {folder} was started. If one of its encoders changed, new jobs are not "
            "comparable with the stored ones: choose another folder with --output (output=…).",
            SidelightWarning,
            stacklevel=4,
        )


def _warn_about_device(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn that new jobs are trained on another device than the stored ones."""
    if then.get("device", now["device"]) != now["device"]:
        warnings.warn(
            f"{folder} was started on {then['device']}, and goes on on {now['device']}: results of different devices "
            "agree only to rounding, so new jobs need not repeat to the bit.",
            SidelightWarning,
            stacklevel=4,
        )


def _check_jobs(folder: Path, config: Config, now: Mapping[str, Any]) -> None:
    """Raise RunError for a finished job with other data, encoders or settings; damaged jobs are trained again later."""
    for name, record in load_job_records(folder).items():
        made, which = record.get("made_with"), f"the job {name} in {folder}"
        if made is not None and made["data"] != now["data"]["sha256"]:
            raise RunError(
                f"the data changed since {which} was trained, so it cannot be mixed with new jobs. {ELSEWHERE}"
            )
        if made is not None and made["encoders"] != now["encoders"]:
            raise RunError(
                f"{which} was trained with the encoders {made['encoders']}, not {now['encoders']}; use the same ones."
            )
        if differs := _find_other_settings(record.get("config"), config, _list_drawn(record)):
            raise RunError(f"{which} was trained with other settings:\n{_format_differences(differs)}\n{ELSEWHERE}")


def _jobs_agree(folder: Path, config: Config) -> bool:
    """Whether there are finished jobs, and each stores that it was trained with these settings."""
    records = load_job_records(folder)
    for record in records.values():
        if _find_other_settings(record.get("config"), config, _list_drawn(record)) != {}:
            return False
    return bool(records)


def _find_other_settings(stored: Any, config: Config, drawn: Collection[str] = ()) -> dict[str, tuple[Any, Any]] | None:
    """The settings of a job that differ, except for paths of files; None if the job does not store readable ones.

    Args:
        stored: the settings that the job stores.
        config: those of the run.
        drawn: the settings that a sweep chose for the job.
    """
    try:
        then = build(Config, dict(flatten(Config, stored, warn=False)))
    except (ConfigError, AttributeError, TypeError, ValueError):  # of another version
        return None
    found = difference(then, config, (*FREE, "data", *drawn))
    return {name: pair for name, pair in found.items() if not _is_path(name, pair)}


def _list_drawn(record: Mapping[str, Any]) -> list[str]:
    """The settings that a sweep chose for a job."""
    drawn = record.get(DRAWS)
    return list(drawn["settings"]) if isinstance(drawn, dict) and isinstance(drawn.get("settings"), dict) else []


def _is_path(name: str, pair: tuple[Any, Any]) -> bool:
    """Whether a setting is the path of a file or folder, whose text depends on the working directory."""
    return name == "data" or name.startswith("network.weights") or str(pair[1]).startswith(LOCAL)


def _format_differences(differs: Mapping[str, tuple[Any, Any]]) -> str:
    return "\n".join(f"  {name}: {there!r} there, {here!r} here" for name, (there, here) in differs.items())


def load_job_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Load the records of the finished jobs: name of the folder -> record; damaged records are left out."""
    found = {}
    for file in sorted(folder.glob(f"jobs/[!.]*/{RECORD}")):
        try:
            found[file.parent.name] = read_record(file.parent)
        except RunError:
            continue
    return found


def load_environment(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Load the environment in which a run was started.

    The digests that finished jobs store take precedence over environment.json, which may be missing or damaged.

    Returns:
        The environment ({} if it is unknown), and warnings about its file.
    """
    file = folder / "environment.json"
    made = [record["made_with"] for record in load_job_records(folder).values() if "made_with" in record]
    faults: list[str] = []
    try:
        then = json.loads(file.read_text("utf-8"))
        known: dict[str, Any] = {name: dict(then[name]) for name in ("data", "encoders", "versions")}
        known["methods"] = dict(then["methods"]) if "methods" in then else None
        known["imports"] = dict(then.get("imports", {}))
        known["machine"] = dict(then.get("machine", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if not made:
            return {}, []
        known = {"versions": {}, "methods": {}}
        faults.append(f"{file} cannot be read. It is written again, from the digests of data that the jobs store.")
    if made:
        known |= {"data": {"sha256": made[0]["data"]}, "encoders": made[0]["encoders"]}
        known["methods"] = dict(known["methods"] or {})
        for digests in made:
            known["methods"] |= digests["methods"]
    return known, faults


__all__ = ["ELSEWHERE", "enter_run_folder", "load_environment", "load_job_records"]
