"""Trains the best method once more, on every row: a student to deploy when the comparison is finished."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.load import load_for
from sidelight.errors import DataError, RunError
from sidelight.experiment.leases import forget_work, hold, is_used
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.pool import run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import Encoders, describe_environment, select_digests
from sidelight.experiment.run_folder import load_environment, load_job_records
from sidelight.experiment.study import Study
from sidelight.export import load_student
from sidelight.methods import parse_methods
from sidelight.protocols import WHOLE
from sidelight.results import metric_columns
from sidelight.results.draws import COLUMNS, score_settings
from sidelight.results.job import read_record
from sidelight.sweeps.space import with_settings
from sidelight.utils.atomic import write_folder_atomic
from sidelight.utils.device import choose_device
from sidelight.utils.keywords import known_keywords

NO_TEST = (
    "Every row trained it or chose its epochs, so none is left to test it: its figures are those of the "
    "cross-validation."
)
"""The note in the metadata of a refitted student."""


@known_keywords
def refit(run: str | Path, data: Dataset | None = None, *, encoders: Encoders | None = None, device: str = "") -> Path:
    """Train the best method of a run, and its teacher, once more on the rows of all folds.

    The method is the one that is chosen (the best mean select score) at the largest label_fraction of the
    comparison; the refit uses the same label_fraction. Of a sweep it uses the settings with the best mean score on
    the select rows of all folds and seeds. The epoch is chosen as in the folds: on a share `select` of the groups,
    or by inner cross-validation (`select_labels`). There are no test rows: `meta` of the student holds the figures
    of the cross-validation, marked as such. An interrupted refit continues where it stopped.

    Args:
        run: the run folder.
        data: the data of the run, if it was started in Python with data in memory.
        encoders: the user's own encoders of the run, if it has any.
        device: where to train, as `training.device`; "" for the setting of the run.

    Returns:
        The folder of the student, `<run>/refit`.

    Raises:
        RunError: no method has finished, a job is damaged (the best method cannot be chosen without it), the data
            cannot be read or differ from those of the run, or the run is in use.
    """
    study = Study(run)
    if faults := study.results.attrs["faults"]:
        raise RunError(f"refit needs a complete run: {' '.join(faults)}")
    config, labels = study.config, study.budgets[-1]
    config = replace(config, max_failures=0)
    if device:
        choose_device(device, "device")
        config = replace(config, training=replace(config.training, device=device))
    job = Job(study.best_method(labels), "", labels, WHOLE, config.seed)
    settings = choose_settings(study, job.method, labels)
    config = with_settings(config, settings)
    with hold(study.folder, ["refit"]) as held:
        if not held or is_used(study.folder, but="refit"):
            raise RunError(f"another process is running in {study.folder}; wait for it.")
        # Loaded after the lease is held: loading may take minutes.
        dataset = _load_run_data(study.folder, config, data)
        now = select_digests(describe_environment(dataset, encoders or {}, parse_methods(config.methods).values()))
        _check_same_data(study.folder, now["data"])
        work = study.folder / "refit-work"
        if any(r.get("made_with", now)["data"] != now["data"] for r in load_job_records(work).values()):
            shutil.rmtree(work)  # left by an interrupted refit with other data
        make_models = partial(FoldModels, config, dataset, work, dict(encoders or {}), made_with=now)
        run_jobs(make_models, work, [job], 1, Progress(work, 1, quiet=True), {})
        # An encoder of the user's is code, which a model file does not hold.
        own = make_models(WHOLE, job.seed).builder.own_encoders(config.available)
        stored = work / "jobs" / job.id
        student = load_student(stored / "model.safetensors", encoders=own)
        student.meta = _refit_metadata(study, job, student.meta, read_record(stored))
        if settings:
            student.meta["settings"] = settings
        with write_folder_atomic(study.folder / "refit") as place:
            student.save(place)
        shutil.rmtree(work)
    forget_work(study.folder)
    return study.folder / "refit"


def choose_settings(study: Study, method: str, label_fraction: float) -> dict[str, Any]:
    """The swept settings with the best mean score of a method over the select rows of all folds and seeds.

    Args:
        study: the results.
        method: the method.
        label_fraction: the share of the labelled groups that keep their labels.

    Returns:
        Dotted name -> value; {} for a run without a sweep.

    Raises:
        RunError: no settings were drawn in every fold and seed.
    """
    draws = study.draws
    if not len(draws):
        return {}
    draws = draws[(draws["method"] == method) & (draws["control"] == "") & (draws["labels"] == label_fraction)]
    names = [name for name in draws.columns if name not in COLUMNS and draws[name].notna().any()]
    if not names:
        return {}
    pairs = len(draws.groupby(["fold", "seed"]))
    means = {point: interval.mean for point, interval in score_settings(draws, names) if interval.n == pairs}
    if not means:
        raise RunError(
            f"{study.folder}: no settings of {method!r} were drawn in every fold and seed, so none is the best over "
            "all of them. Run the settings of your choice with `sidelight run`, and refit that run."
        )
    best = max(means.items(), key=lambda one: one[1])
    return dict(zip(names, best[0]))


def _load_run_data(folder: Path, config: Config, data: Dataset | None) -> Dataset:
    """The data set of the run: `data`, or loaded again."""
    try:
        return load_for(config) if data is None else data
    except DataError as error:
        raise RunError(f"the data of {folder} cannot be read: {error} In Python: sl.refit(run, data).") from error


def _check_same_data(folder: Path, digest: str) -> None:
    """Check that the data have the digest of the run."""
    then, _ = load_environment(folder)
    if not then:
        raise RunError(
            f"{folder / 'environment.json'} cannot be read, and the jobs store no digest of their data, so these data "
            "cannot be compared with those of the run. Restore the file from a copy."
        )
    if then["data"].get("sha256") != digest:
        raise RunError(f"the data changed since {folder} was started: its comparison chose a method for other rows.")


def _refit_metadata(study: Study, job: Job, meta: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the refitted student, without figures that look like a test of this network."""
    r = study.results
    rows = r[(r.labels == job.label_fraction) & (r.control == "") & (r.method == job.method)]
    measured = {}
    for m in metric_columns(r):
        measured[m] = {"mean": float(rows[m].mean()), "sd": float(rows[m].std())}
    # Its "metrics" are those of a test without rows.
    remaining = {name: value for name, value in meta.items() if name not in ("fold", "metrics")}
    return {
        **remaining,
        "refit": NO_TEST,
        "cross_validated": {"networks": len(rows), "protocol": study.config.protocol, **measured},
        "rows": {"train": record["n_train"], "labelled": record["n_labelled"], "select": record["n_select"]},
    }
