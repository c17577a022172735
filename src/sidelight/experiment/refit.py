"""One more training of the chosen method, on every row: a student to deploy once the comparison is done."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.load import load_for
from sidelight.errors import DataError, RunError
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.pool import run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.provenance import Encoders, environment, made_with
from sidelight.experiment.run_folder import begun_with, records
from sidelight.experiment.study import Study
from sidelight.export import load_student
from sidelight.methods import parse_methods
from sidelight.protocols import WHOLE
from sidelight.results import metric_columns
from sidelight.results.job import read_record
from sidelight.utils.atomic import write_folder_atomic
from sidelight.utils.keywords import known_keywords
from sidelight.utils.machine import claim

NO_TEST = "Trained on all rows, so that no row is left to test it: its figures are those of the cross-validation."


@known_keywords
def refit(run: str | Path, data: Dataset | None = None, *, encoders: Encoders | None = None) -> Path:
    """Train a run's best method once more, its teacher too, on the rows of all folds; returns `<run>/refit`.

    The method is the one that was best on the select rows at the largest share of labels that was compared, and that
    share keeps its labels. A share `select` of the groups still chooses the epoch. There are no test rows: `meta` of
    the student holds what cross-validation measured, as such. What was finished is kept when it is interrupted.

    Args:
        data, encoders: those of the run, where it was begun in Python with data in memory or encoders of one's own.

    Raises:
        RunError: no method has finished, a job is damaged (the choice of the method would lack it), the data cannot be
            read or are not the run's, or it is running.
    """
    study = Study(run)
    if faults := study.results.attrs["faults"]:
        raise RunError(f"refit needs a whole run: {' '.join(faults)}")
    config, labels = study.config, study.budgets[-1]
    job = Job(study.best_method(labels), "", labels, WHOLE, config.seed)
    with (study.folder / ".lock").open("a") as lock:
        try:
            claim(lock)
        except OSError as error:
            raise RunError(f"another process is running in {study.folder}; wait for it.") from error
        dataset = _data_of(study.folder, config, data)
        now = made_with(environment(dataset, encoders or {}, parse_methods(config.methods).values()))
        _check_same(study.folder, now["data"])
        work = study.folder / "refit-work"
        if any(r.get("made_with", now)["data"] != now["data"] for r in records(work).values()):
            shutil.rmtree(work)  # of an earlier try with other data
        make_models = partial(FoldModels, config, dataset, work, dict(encoders or {}), made_with=now)
        run_jobs(make_models, [job], 1, Progress(work, 1, quiet=True), {})
        own = make_models(WHOLE, job.seed).build.own_encoders(config.available)
        stored = work / "jobs" / job.id
        student = load_student(stored / "model.safetensors", encoders=own)
        student.meta = _told(study, job, student.meta, read_record(stored))
        with write_folder_atomic(study.folder / "refit") as place:
            student.save(place)
        shutil.rmtree(work)
    return study.folder / "refit"


def _data_of(folder: Path, config: Config, data: Dataset | None) -> Dataset:
    """The data set of the run, read again unless it is given."""
    try:
        return load_for(config) if data is None else data
    except DataError as error:
        raise RunError(f"the data of {folder} cannot be read: {error} In Python: sl.refit(run, data).") from error


def _check_same(folder: Path, digest: str) -> None:
    then, _ = begun_with(folder)
    if not then:
        raise RunError(
            f"{folder / 'environment.json'} cannot be read, and the jobs do not say which data they are of, so whether "
            "these are the same data cannot be told. Restore it from a copy."
        )
    if then["data"].get("sha256") != digest:
        raise RunError(f"the data changed since {folder} was begun, so its comparison chose for other rows.")


def _told(study: Study, job: Job, meta: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What the student says of itself: nothing that looks like a test of this network."""
    r = study.results
    rows = r[(r.labels == job.labels) & (r.control == "") & (r.method == job.method)]
    measured = {m: {"mean": float(rows[m].mean()), "sd": float(rows[m].std())} for m in metric_columns(r)}
    return {
        **{name: value for name, value in meta.items() if name not in ("fold", "metrics")},
        "refit": NO_TEST,
        "cross_validated": {"networks": len(rows), "protocol": study.config.protocol, **measured},
        "rows": {"train": record["n_train"], "labelled": record["n_labelled"], "select": record["n_test"]},
    }
