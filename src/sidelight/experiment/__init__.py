"""Experiments: folds × seeds × methods. Each job is stored when it ends; the result is a table and a report."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidelight.config import Config, load_config
from sidelight.data import Dataset
from sidelight.data.lengths import warn_long_rows
from sidelight.data.load import load_for
from sidelight.errors import ConfigError, shown
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.provenance import Encoders
from sidelight.experiment.resolve import resolve
from sidelight.experiment.runner import execute, plan_jobs
from sidelight.experiment.study import Study
from sidelight.methods import parse_methods
from sidelight.tracking import Logger, LoggerMaker
from sidelight.utils.keywords import known_keywords


def plan(config: Config) -> tuple[Config, list[Job]]:
    """Plan an experiment without running it.

    Returns:
        The configuration with its defaults filled in from the data, and every job that is known before the first
        result.

    Raises:
        ConfigError, DataError: as `run`.
        RunError: `network.weights` are missing, damaged, or belong to another network.
    """
    dataset = load_for(config)
    config = resolve(config, dataset)
    jobs = plan_jobs(config, dataset, parse_methods(config.methods))
    if config.network.weights:
        models = FoldModels(config, dataset, Path(config.output), {}, jobs[0].fold, jobs[0].seed)
        models.builder.network(models.data.modalities)
    return config, jobs


@known_keywords
def run(
    config: Config,
    *,
    resume: bool = False,
    quiet: bool = False,
    encoders: Encoders | None = None,
    imports: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    executor: Executor | str | None = None,
    time_limit: float | None = None,
    loggers: Sequence[Logger | LoggerMaker] = (),
) -> Study:
    """Run (or resume) an experiment.

    Args:
        config: the settings. The run folder is `config.output`, by default `runs/<data name>`.
        resume: continue the run that the folder holds.
        quiet: show no progress.
        encoders: modality -> your own encoder, as in `compare`.
        imports: file or module of your own code -> SHA-256 of its source, for environment.json.
        only: ids of jobs, as `jobs/` and `sidelight status` name them; the others are left as they are.
        executor: where the jobs run, as in `compare`.
        time_limit: seconds after which the run has saved its state and stops, as in `compare`.
        loggers: objects with the methods `log_hyperparams`, `log_metrics` and `finalize` of Lightning's loggers, or
            functions that make one from the name of a training; docs/tracking.md.

    Raises:
        ConfigError, DataError, RunError: name what is wrong, and the mend.
        UnfinishedError: the run was stopped, and can be resumed.
    """
    given: dict[str, Any] = {"encoders": encoders, "imports": imports, "only": only, "loggers": loggers}
    until = find_stop_time(config, time_limit)
    return execute(config, load_for(config), resume=resume, quiet=quiet, executor=executor, until=until, **given)


def compare(
    data: Dataset | str | Path | Mapping[str, Any] | Any,
    available: Sequence[str] = (),
    privileged: Sequence[str] = (),
    methods: Sequence[str] = ("auto", "pkdot"),
    *,
    encoders: Encoders | None = None,
    resume: bool = False,
    quiet: bool = False,
    only: Collection[str] = (),
    executor: Executor | str | None = None,
    time_limit: float | None = None,
    loggers: Sequence[Logger | LoggerMaker] = (),
    **settings: Any,
) -> Study:
    """Compare methods on a data set, from Python.

    Args:
        data: a `Dataset`, or anything that `sidelight.load` takes.
        available: the modalities that the deployed student reads.
        privileged: the modalities that exist in training only.
        methods: names of methods; `sidelight methods` lists them.
        resume: continue the run that the output folder holds.
        quiet: show no progress.
        encoders: modality -> your own encoder: a function from the shape of one row to a fresh `nn.Module` that returns
            (B, D) or (B, T, D). Define it in a module, so that worker processes can import it. With
            `network={"encoder": "cnn"}` it reads signals, otherwise their statistics.
        only: ids of jobs, as `jobs/` and `sidelight status` name them; the others are left as they are.
        executor: where the jobs run: by default in processes of this machine; on an object with the methods of
            `concurrent.futures.Executor`, whose workers see the run folder under the same path; or on the Dask
            scheduler of an address, "tcp://host:8786" ("local:3" starts one with three workers on this machine).
        time_limit: seconds after which the run has saved its state and stops.
        loggers: objects with the methods `log_hyperparams`, `log_metrics` and `finalize` of Lightning's loggers, or
            functions that make one from the name of a training; docs/tracking.md.
        settings: any setting of `Config`, nested ones as dicts (`training={"epochs": 30}`).

    Raises:
        ConfigError, DataError, RunError: name what is wrong, and the mend.
        UnfinishedError: the run was stopped, and can be resumed.
    """
    named = data if isinstance(data, (str, Path)) else ""
    config = load_config(
        {
            "data": str(named) or "(in memory)",
            "available": _names(available),
            "privileged": _names(privileged),
            "methods": _names(methods),
            **settings,
        }
    )
    if isinstance(data, Dataset):
        for name in ("target", "group", "split", "time", "longest"):
            if getattr(config, name):
                raise ConfigError(f"{name}: a Dataset has its own; say it where the data are loaded.")
        warn_long_rows(data.name, data.lengths, data.ids)
    if encoders is not None and not (isinstance(encoders, Mapping) and all(map(callable, encoders.values()))):
        raise ConfigError(f"encoders: expected a mapping from modalities to functions, not {shown(encoders)}.")
    dataset = data if isinstance(data, Dataset) else load_for(config, data)
    if not named:
        config = replace(config, data=dataset.name)
    given: dict[str, Any] = {"encoders": encoders, "only": only, "loggers": loggers}
    until = find_stop_time(config, time_limit)
    return execute(config, dataset, resume=resume, quiet=quiet, executor=executor, until=until, **given)


def find_stop_time(config: Config, time_limit: float | None) -> float:
    """When a run has to begin to stop, in seconds since the epoch, so that it has ended when its time is over."""
    if time_limit is None:
        return math.inf
    if not time_limit > 0:
        raise ConfigError(f"time_limit: expected seconds above 0, or None, not {shown(time_limit)}.")
    return time.time() + time_limit - min(config.checkpoint_seconds, time_limit / 10)


def _names(given: Any) -> Any:
    """Names as a list; anything else is left to `load_config`, which raises the error."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else given


__all__ = ["Config", "Job", "Study", "compare", "execute", "find_stop_time", "plan", "run"]
