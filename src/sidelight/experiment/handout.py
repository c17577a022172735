"""What workers elsewhere open: settings and rows in the run folder, found by its path and a digest."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sidelight.config import Config
from sidelight.config.io import build, flatten
from sidelight.config.paths import BUILT_IN, anchor_paths
from sidelight.data import Dataset
from sidelight.data.load import load_for
from sidelight.data.rows import is_lazy
from sidelight.data.stored_set import open_rows, store_rows
from sidelight.errors import ConfigError, DataError, RunError, SidelightError
from sidelight.experiment import code_digest
from sidelight.experiment.cells import Cell, MakeModels, Outcome, run_cell, run_quietly
from sidelight.experiment.leases import work_folder
from sidelight.experiment.mirror import mirror_of, open_in_worker
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.pool import own_methods, uses_script
from sidelight.experiment.provenance import Encoders, compute_fingerprint, describe_versions, select_digests
from sidelight.experiment.workers import Limits
from sidelight.methods import METHODS, parse_methods
from sidelight.sweeps import Sweep
from sidelight.tracking import Tracking
from sidelight.utils.atomic import write_atomic


@dataclass(frozen=True)
class Handout:
    """A study as a worker gets it with every cell: a few hundred bytes, however large the study.

    Attributes:
        folder: the run folder: an absolute path that leads every worker to the same folder, or a URL.
        digest: SHA-256 of the file in it that holds settings, versions and the place of the data.
        own: the user's encoders, methods and trackers, pickled; their modules are imported by name.
    """

    folder: str
    digest: str
    own: bytes


def hand_out(
    folder: Path,
    config: Config,
    dataset: Dataset,
    now: Mapping[str, Any],
    encoders: Encoders,
    imports: Mapping[str, str],
    tracking: Tracking,
    sweep: Sweep | None = None,
) -> Handout:
    """Write what workers need into the run folder.

    Args:
        folder: the run folder.
        config: the experiment's settings, with every default filled in.
        dataset: all rows.
        now: `describe_environment` of this process.
        encoders: modality -> the user's own encoder.
        imports: file or module of `--import` -> SHA-256 of its source.
        tracking: the trackers of the run.
        sweep: the sweep of which each job is the best draw.

    Raises:
        ConfigError: an encoder or method cannot be sent, or the rows cannot.
        DiskError: the rows do not fit on the disk.
    """
    methods = own_methods()
    if any(uses_script(*own) for own in (("encoders", encoders), ("methods", methods), ("loggers", tracking.own))):
        raise ConfigError(
            "workers on other machines cannot import the script that runs. Move your encoders, methods and loggers to "
            "a module that every worker can import."
        )
    folder = Path(os.path.abspath(folder))
    mirror = mirror_of(folder)
    facts = {
        "settings": asdict(replace(config, network=anchor_paths(config.network))),
        "data": _place_rows(folder, config, dataset, now["data"]["sha256"]),
        "made_with": select_digests(now),
        "versions": describe_versions(),
        "imports": {_find_source(name): digest for name, digest in imports.items()},
        "sweep": sweep.to_dict() if sweep else None,
    }
    text = json.dumps(facts, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_atomic(_file(folder, digest), text)
    if mirror:
        mirror.push_work()
    return Handout(mirror.url if mirror else str(folder), digest, pickle.dumps((dict(encoders), methods, tracking)))


def _place_rows(folder: Path, config: Config, dataset: Dataset, digest: str) -> dict[str, str]:
    """Where workers find the rows: in the run folder or, if they are files of their own, where the user has them."""
    if any(is_lazy(x) for x in (dataset.target, *dataset.inputs.values())):
        if dataset.about.get("source") != config.data:
            raise ConfigError(
                f"{dataset.name}: its rows are files, which workers on other machines have to find by its path. Name "
                "the folder of the data set, not a data set that is loaded already."
            )
        return {"load": config.data if config.data in BUILT_IN else os.path.abspath(config.data)}
    name = f"rows-{digest[:16]}"
    store_rows(dataset, work_folder(folder) / name)
    return {"rows": name}


def _file(folder: Path, digest: str) -> Path:
    return work_folder(folder) / f"{digest[:16]}.json"


def _find_source(name: str) -> str:
    """The path of a file of `--import`; a module keeps its dotted name."""
    module = sys.modules.get(name.removesuffix(".py"))
    return str(Path(str(module.__file__)).resolve()) if name.endswith(".py") and module else name


# in a worker --------------------------------------------------------------------------------------------------------

_opened: dict[Handout, tuple[Path, MakeModels]] = {}
"""The study that was opened last: its folder, and what builds its models."""


def run_handed_out(
    handout: Handout, jobs: tuple[tuple[str, str, float, int, int], ...], limits: Limits, _call: int
) -> Outcome:
    """Run a cell in a worker: what executors call.

    Args:
        handout: the study.
        jobs: the jobs of the cell: method, control, label fraction, fold and seed of each.
        limits: when to stop.
        _call: the number of the call. No two calls are equal, because some executors run equal calls once.

    Raises:
        SidelightError: the study cannot be opened here, or what ends every job; it names this worker.
    """
    cell = Cell(tuple(Job(*job) for job in jobs))
    try:
        if handout not in _opened:
            study = open_study(handout)
            _opened.clear()
            _opened[handout] = study
        folder, make_models = _opened[handout]
        run = partial(run_cell, make_models, folder, cell, limits.name, limits.until)
        return run_quietly(run)
    except SidelightError as error:
        raise type(error)(f"on {name_worker()}: {error}") from error


def name_worker() -> str:
    """This worker, for errors."""
    return f"the worker {os.getpid()} of {socket.gethostname()}"


def open_study(handout: Handout) -> tuple[Path, MakeModels]:
    """Open a study in a worker, and check that versions, code and data are those of the process that started it.

    Returns:
        The run folder, or this worker's copy of it, and what builds the models of a fold and seed.

    Raises:
        RunError: the run folder is another one here, versions or code differ.
        DataError: the data are missing, or others.
    """
    folder = _open_folder(handout.folder)
    facts = _read_facts(folder, handout.digest)
    _check_versions(facts["versions"])
    _import_own(facts["imports"])
    try:
        encoders, methods, tracking = pickle.loads(handout.own)  # sent by the process that started the study
    except Exception as error:
        raise RunError(
            f"your encoders or methods cannot be imported here ({type(error).__name__}: {error}). Install their module "
            "where workers find it, or name its file with --import."
        ) from error
    METHODS.update(methods)
    config = build(Config, dict(flatten(Config, facts["settings"], warn=False)))
    made_with = facts["made_with"]
    if code_digest.digest_own_methods(parse_methods(config.methods).values()) != made_with["methods"]:
        raise RunError("the code of your methods differs here from that of the process that started the study.")
    dataset = _open_rows(folder, config, facts["data"], made_with["data"])
    sweep = Sweep.from_dict(facts["sweep"], config) if facts["sweep"] else None
    given: dict[str, Any] = {"made_with": made_with, "tracking": tracking, "sweep": sweep}
    return folder, partial(FoldModels, config, dataset, folder, encoders, **given)


def _open_folder(folder: str) -> Path:
    """The run folder or, if it is at a URL, a copy with what a worker needs first."""
    if "://" not in folder:
        return Path(folder)
    mirror = open_in_worker(folder)
    mirror.pull_work()
    return mirror.folder


def _read_facts(folder: Path, digest: str) -> dict[str, Any]:
    file = _file(folder, digest)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunError(
            f"{file} cannot be read ({error.strerror or error}). The run folder must be on a file system that every "
            "worker sees under the same path: choose such a folder with --output."
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise RunError(f"{file} is not what the process that started the study has written.")
    facts: dict[str, Any] = json.loads(content)
    return facts


def _check_versions(then: Mapping[str, str]) -> None:
    here = describe_versions()
    differ = [f"{name} {here.get(name)} instead of {v}" for name, v in then.items() if here.get(name) != v]
    if differ:
        raise RunError(
            f"versions differ from those of the process that started the study: {', '.join(differ)}. Results would "
            "not be comparable; install the same versions."
        )


def _import_own(imports: Mapping[str, str]) -> None:
    """Import what `--import` named, so that it registers here what it registered there."""
    for name, digest in imports.items():
        try:
            if name.endswith(".py"):
                sys.path.append(str(Path(name).parent))
            module = importlib.import_module(Path(name).stem if name.endswith(".py") else name)
            source = Path(str(module.__file__)).read_bytes()
        except (ImportError, OSError) as error:
            raise RunError(f"{name} (--import) cannot be imported here: {error}.") from error
        if hashlib.sha256(source).hexdigest() != digest:
            raise RunError(f"{name} (--import) differs here from the file of the process that started the study.")


def _open_rows(folder: Path, config: Config, place: Mapping[str, str], digest: str) -> Dataset:
    where = place.get("load") or str(work_folder(folder) / place["rows"])
    try:
        if "load" in place:
            dataset = load_for(replace(config, data=where))
        else:
            dataset = open_rows(work_folder(folder) / place["rows"])
    except (OSError, DataError) as error:
        raise DataError(f"the data cannot be read here: {error}") from error
    if compute_fingerprint(dataset) != digest:
        raise DataError(f"{where} holds other data here than where the study was started (their SHA-256 differs).")
    return dataset
