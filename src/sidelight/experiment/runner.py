"""Runs an experiment: its folder, its jobs, and what is resumed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sidelight.config import FREE, Config, difference, dump_config, load_config
from sidelight.data import Dataset
from sidelight.data.order import warn_of_neighbours
from sidelight.data.rows import is_lazy
from sidelight.errors import ConfigError, DataError, RunError, SidelightWarning, unknown
from sidelight.experiment import sources
from sidelight.experiment.cell import Cell, Encoders
from sidelight.experiment.jobs import UNDECIDED, Job, later, plan, without_self_distillation
from sidelight.experiment.pool import MakeCell, run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.study import Study
from sidelight.machine import claim, usable_cores
from sidelight.methods import Recipe, check_options, parse_methods
from sidelight.places import anchored
from sidelight.protocols import resolve, split
from sidelight.results.store import remove_leftovers, write_atomic
from sidelight.strata import warn_of_one_class
from sidelight.tasks import asked_task

ELSEWHERE = "Choose another folder with --output (output=…)."


def settle(config: Config, dataset: Dataset) -> Config:
    """The configuration with every default that depends on the data filled in, and refused where it cannot work."""
    available, privileged = dataset.resolve(config.available, config.privileged)
    (_check_subsets if config.student.drop else _check_available)(config, dataset, available)
    budgets = list(config.label_groups) or list(dataset.question.get("label_groups", [])) or [1.0]
    output = config.output or str(Path("runs") / dataset.name)
    config = replace(
        config,
        available=list(available),
        privileged=list(privileged),
        protocol=resolve(dataset, config.protocol),
        label_groups=budgets,
        impute="mean" if "mean" in (config.impute, dataset.impute) else "no",
        output=output,
    )
    _check_views(config, dataset)
    for setting in ("encoders", "weights"):
        for m in getattr(config.network, setting):
            if m not in dataset.inputs:
                raise ConfigError(f"network.{setting}: {unknown('modality', m, dataset.inputs)}")
    if config.student.freeze and config.student.init == "random":
        raise ConfigError("student.freeze keeps encoders as the teacher left them; it needs student.init=teacher.")
    if config.teacher.crossfit:  # a row's name says what was run
        config = replace(
            config,
            methods=_crossfitted(config.methods),
            placebo=_crossfitted(config.placebo),
            self_distillation=_crossfitted(config.self_distillation),
        )
    task = asked_task(config, dataset)
    check_options(config)
    shapes = {m: dataset.shape(m) for m in (*available, *privileged)}
    for recipe in parse_methods(config.methods):
        recipe.check(config, task, shapes)
    _check_self_distillation(config)
    return config


def _check_self_distillation(config: Config) -> None:
    """A baseline as the teacher needs a method whose teacher it can replace."""
    reasons = {recipe.name: recipe.irreplaceable for recipe in parse_methods(config.methods)}
    for name in config.self_distillation:
        if reasons.get(name):
            raise ConfigError(f"self_distillation: {name!r} {reasons[name]}. Leave it out there.")
    if "none" not in config.self_distillation and all(reasons.values()):
        listed = "; ".join(f"{name!r} {reason}" for name, reason in reasons.items())
        raise ConfigError(f"self_distillation: no method can have it: {listed}. Set self_distillation=none.")


def _check_views(config: Config, dataset: Dataset) -> None:
    """Of a class per pixel, label maps and all images have to be seen in the same view."""
    if not (dataset.size and config.augment.moves):
        return
    rows = {repr(m): dataset.inputs[m] for m in (*config.available, *config.privileged)}
    for what, x in {**rows, "the target": dataset.target}.items():
        pixels = x.ndim >= 4 or what == "the target"
        if pixels and not (is_lazy(x) and x.kind.lazy):
            raise ConfigError(
                f"{dataset.name} has a class per pixel, and {what} is kept in arrays, of which no view is drawn: leave "
                "augment.crop and augment.flip as they are, or give image files (a prepared folder)."
            )


def _crossfitted(names: Sequence[str]) -> list[str]:
    def named(name: str) -> str:
        whole = name in ("best", "all", "none") or "@" in name or Recipe.parse(name).alone
        return name if whole else f"{name}@crossfit"

    return list(dict.fromkeys(map(named, names)))


def _check_available(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """A deployed student reads its modalities in every row, so a row without one is an error unless it is imputed."""
    for m in available:
        missing = np.flatnonzero(~dataset.present[m])
        if len(missing) and dataset.impute == "no":
            raise DataError(
                f"{dataset.name}: {m!r} is available, but {dataset.row(int(missing[0]))} lacks it ({len(missing)} rows "
                "do). Give the values, leave the rows out, fill them with the train rows' mean (--impute mean), or "
                "train one student for any subset of the modalities (student.drop=0.3)."
            )


def _check_subsets(config: Config, dataset: Dataset, available: Sequence[str]) -> None:
    """A student for any subset needs at least two modalities, and of every row at least one of them."""
    if len(available) < 2:
        raise ConfigError(
            f"student.drop leaves available modalities out, but there is only {available[0]!r}. Name another one in "
            "available, or set student.drop=0."
        )
    nothing = np.flatnonzero(~np.any([dataset.present[m] for m in available], axis=0))
    if len(nothing):
        raise DataError(
            f"{dataset.name}: {dataset.row(int(nothing[0]))} has none of the available modalities "
            f"{', '.join(available)} ({len(nothing)} such rows). Leave these rows out."
        )


def jobs_of(config: Config, dataset: Dataset) -> list[Job]:
    """The plan of a settled configuration."""
    folds = split(dataset, config.protocol, config.folds, config.select, config.seed, config.gap)
    warn_of_neighbours(dataset, config.protocol)
    warn_of_one_class(
        dataset, {f"{part} rows of {f.name}": getattr(f, part) for f in folds for part in ("select", "test")}
    )
    return plan(config, len(folds), list(config.label_groups))


def execute(
    config: Config, dataset: Dataset, *, resume: bool = False, quiet: bool = False, encoders: Encoders | None = None
) -> Study:
    """Run every job that is not stored yet, then the controls of the best method; write results and report.

    Raises:
        RunError: the folder holds another configuration, or a finished part of this one without `resume`.
    """
    config = settle(config, dataset)
    for m in encoders or {}:
        if m not in dataset.inputs:
            raise ConfigError(f"encoders: {unknown('modality', m, dataset.inputs)}")
    folder = Path(config.output)
    make_cell = partial(Cell, config, dataset, folder, dict(encoders or {}))
    jobs = jobs_of(config, dataset)
    with _claimed(folder, config, dataset, encoders or {}, resume):
        expected = len(jobs) + len(later(config, jobs, dict.fromkeys(config.label_groups, UNDECIDED)))
        with Progress(folder, expected, quiet) as progress:
            _run_all(make_cell, config, jobs, progress, encoders or {})
            study = Study(folder)
            best = {labels: study.best_method(labels) for labels in config.label_groups}
            extra = later(config, jobs, best)
            progress.expect(len(jobs) + len(extra))
            progress.warn(without_self_distillation(config, best))
            if extra:
                _run_all(make_cell, config, jobs, progress, encoders or {}, extra)
        study = Study(folder)
        study.finish()
        return study


def _run_all(
    make_cell: MakeCell,
    config: Config,
    jobs: list[Job],
    progress: Progress,
    encoders: Encoders,
    extra: list[Job] | None = None,
) -> None:
    """Run `jobs`, or the `extra` ones that follow them."""
    folder = Path(config.output)
    write_atomic(folder / "plan.json", json.dumps({"jobs": [job.id for job in [*jobs, *(extra or [])]]}, indent=0))
    todo = [job for job in (extra or jobs) if not (folder / "jobs" / job.id / "job.json").is_file()]
    run_jobs(make_cell, todo, config.jobs or usable_cores(), progress, encoders)


# the folder ---------------------------------------------------------------------------------------------------------


@contextmanager
def _claimed(folder: Path, config: Config, dataset: Dataset, encoders: Encoders, resume: bool) -> Iterator[None]:
    """The run folder, checked to belong to this configuration and locked against a second process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise RunError(
            f"cannot write the run folder {folder}: {error.strerror}. Choose another with --output."
        ) from error
    with lock:
        try:
            claim(lock)
        except OSError as error:
            raise RunError(
                f"another process is running in {folder}; wait for it or choose another --output."
            ) from error
        now = environment(dataset, encoders, config.methods)
        _check_owner(folder, config, now, resume)
        there = replace(config, data=_from(folder, config, dataset), network=anchored(config.network, folder))
        write_atomic(folder / "config.yaml", dump_config(there))
        write_atomic(folder / "environment.json", json.dumps(now, indent=1))
        if dataset.skipped:
            write_atomic(folder / "skipped.csv", pd.DataFrame(dataset.skipped).to_csv(index=False))
        for place in ("", "jobs", "shared", "checkpoints"):
            (folder / place).mkdir(exist_ok=True)
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


def _check_owner(folder: Path, config: Config, now: dict[str, Any], resume: bool) -> None:
    if not (folder / "config.yaml").exists():
        if any(not p.name.startswith((".lock", ".config.yaml.")) for p in folder.iterdir()):  # killed as it began
            raise RunError(f"{folder} is not empty and not a run folder. Choose another with --output.")
        return
    then = _environment_of(folder)
    same = then.get("data", {}).get("sha256") == now["data"]["sha256"]  # by whatever path they are named
    of_folder, of_now = (replace(c, network=anchored(c.network)) for c in (load_config(folder / "config.yaml"), config))
    differs = difference(of_folder, of_now, (*FREE, *(["data"] if same else [])))
    if differs and not any(folder.glob("jobs/[!.]*/job.json")):
        for place in ("shared", "checkpoints"):  # nothing was finished: what was begun here may be begun otherwise
            shutil.rmtree(folder / place, ignore_errors=True)
        return
    if differs:
        listed = "\n  ".join(f"{name}: {there!r} there, {here!r} here" for name, (there, here) in differs.items())
        raise RunError(f"{folder} belongs to another configuration:\n  {listed}\n{ELSEWHERE}")
    if not resume:
        raise RunError(f"{folder} holds this run already. Continue it with --resume (resume=True). {ELSEWHERE}")
    if not then:
        return
    encoders, versions = then["encoders"], then["versions"]
    if not same:
        raise RunError(f"the data changed since {folder} was begun; its jobs cannot be mixed with new ones.")
    if encoders != now["encoders"]:
        raise RunError(f"{folder} was begun with the encoders {encoders}, not {now['encoders']}; give the same ones.")
    now["methods"] = sources.checked(folder, config.methods, then["methods"], now["methods"])
    changed = [f"{name} {versions.get(name)} → {v}" for name, v in now["versions"].items() if versions.get(name) != v]
    if changed:
        warnings.warn(
            f"{folder} was begun with other versions ({', '.join(changed)}): new jobs may differ from the stored ones.",
            SidelightWarning,
            stacklevel=2,
        )


def _environment_of(folder: Path) -> dict[str, Any]:
    """What `environment` said when the run was begun; empty where that cannot be read."""
    try:
        then = json.loads((folder / "environment.json").read_text())
        known = {name: dict(then[name]) for name in ("data", "encoders", "versions")}
        return known | {"methods": dict(then["methods"]) if "methods" in then else None}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of everything in the data set that a job can read."""
    digest = hashlib.sha256(f"{dataset.task} {dataset.labels}".encode())
    scored = {"target": dataset.target, "labelled": dataset.labelled}
    kinds: tuple[dict[str, Any], ...] = (dataset.inputs, dataset.present, dataset.lengths, scored)
    for kind in kinds:
        for name, array in kind.items():
            content = array.fingerprint() if is_lazy(array) else array.tobytes()
            digest.update(f"{name} {array.dtype} {array.shape} ".encode() + content)
    for column in (dataset.ids, dataset.group, dataset.split):
        digest.update(b"-" if column is None else "\0".join(column).encode())
    if dataset.time is not None:
        digest.update(b"time " + dataset.time.tobytes())
    return digest.hexdigest()


def gaps(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Rows without a modality ("missing"), and single values that are imputed ("imputed"), where there are any."""
    missing = {m: int((~here).sum()) for m, here in dataset.present.items()}
    held = {m: x for m, x in dataset.inputs.items() if m not in dataset.lazy}
    nan = {m: int(np.isnan(x).sum()) for m, x in held.items() if x.dtype.kind == "f"}
    found = {"missing": missing, "imputed": nan}
    return {kind: counts for kind, each in found.items() if (counts := {m: n for m, n in each.items() if n})}


def _name_of(make: Any) -> str:
    """module.function; of a `functools.partial`, with what it fixes; of another callable object, its class."""
    if isinstance(make, partial):
        fixed = [*map(repr, make.args), *(f"{k}={v!r}" for k, v in make.keywords.items())]
        return f"{_name_of(make.func)}({', '.join(fixed)})"
    named = make if hasattr(make, "__qualname__") else type(make)
    return f"{named.__module__}.{named.__qualname__}"


def environment(dataset: Dataset, encoders: Encoders, methods: Sequence[str] = ()) -> dict[str, Any]:
    """Versions, machine, data and the user's own encoders and methods of a run."""
    data: dict[str, Any] = {"name": dataset.name, "rows": len(dataset)}
    if dataset.skipped:
        data["skipped"] = len(dataset.skipped)
    packages = ("sidelight", "torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "machine": {"system": platform.platform(terse=True), "processor": platform.machine(), "cores": usable_cores()},
        "data": {**data, **dataset.about, **gaps(dataset), "sha256": fingerprint(dataset)},
        "encoders": {m: _name_of(make) for m, make in encoders.items()},
        "methods": sources.own_methods(methods),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
