"""Experiments: folds × seeds × methods. Each job is stored when it ends; the result is a table and a report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.load import load_for
from sidelight.experiment.dry_run import build_on_one_row
from sidelight.experiment.inputs import read_inputs, stop_time
from sidelight.experiment.plan import Job
from sidelight.experiment.provenance import Encoders
from sidelight.experiment.resolve import resolve
from sidelight.experiment.runner import execute, plan_jobs
from sidelight.experiment.study import Study
from sidelight.methods import parse_methods
from sidelight.tracking import Logger, LoggerMaker
from sidelight.utils.keywords import known_keywords


def plan(config: Config, encoders: Encoders | None = None) -> tuple[Config, list[Job]]:
    """Plan an experiment without running it, and build its encoders on one row of each modality.

    Args:
        config: the settings.
        encoders: modality -> your own encoder, as in `compare`.

    Returns:
        The configuration with its defaults filled in from the data, and every job that is known before the first
        result.

    Raises:
        ConfigError, DataError: as `run`; or an encoder fails on a row.
        RunError: `network.weights` are missing, damaged, or belong to another network.
    """
    dataset = load_for(config)
    config = resolve(config, dataset)
    jobs = plan_jobs(config, dataset, parse_methods(config.methods))
    build_on_one_row(config, dataset, encoders)
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
    until = stop_time(config, time_limit)
    # Not with `**`: Python then keeps a tuple of the arguments, and with it the rows, until the run ends.
    return execute(
        config, load_for(config), resume=resume, quiet=quiet, encoders=encoders, imports=imports, only=only,
        executor=executor, until=until, loggers=loggers,
    )  # fmt: skip


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
    config, dataset = read_inputs(data, available, privileged, methods, encoders, settings)
    rows = [dataset]
    del dataset  # rows that were read from a file are held by nobody else, and the run frees them
    until = stop_time(config, time_limit)
    return execute(
        config, rows.pop(), resume=resume, quiet=quiet, encoders=encoders, only=only, executor=executor, until=until,
        loggers=loggers,
    )  # fmt: skip


__all__ = ["Config", "Job", "Study", "compare", "execute", "plan", "run", "stop_time"]
