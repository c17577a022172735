"""The files of a finished job: model, predictions, curves, similarity matrices and `job.json`."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.data.target_values import compute_row_values
from sidelight.errors import RunError, SidelightWarning
from sidelight.experiment.evaluate import Columns, Evaluation
from sidelight.experiment.plan import Job
from sidelight.export.file import write_description
from sidelight.losses.cosine import cosine_similarity_matrix
from sidelight.methods import Method
from sidelight.networks.network import Network, predict_in_chunks
from sidelight.results.budget import REFERENCES
from sidelight.results.job import changed_files, read_record, write_record
from sidelight.training import History
from sidelight.utils.atomic import write_folder_atomic
from sidelight.utils.distributed import from_first, is_first
from sidelight.utils.phases import phase
from sidelight.utils.tensorfile import read_metadata, write_tensors

DESCRIPTION = "model.json"
"""A readable copy of the metadata of a model; no code reads it."""
CHOSEN_EPOCHS = frozenset({0, 1, 2, 5, 10, 20, 40, 80, 160, 320})
"""The epochs whose similarity matrices are stored."""
LINES_AT_ONCE = 2**15
"""Lines of predictions.csv that are made at a time."""


class Similarities:
    """Training callback: cosine similarities of the fused embeddings of a fixed probe batch (PKDOT Fig. 5).

    Args:
        probe: the rows whose similarities are computed after each of `CHOSEN_EPOCHS`.
    """

    def __init__(self, probe: Batch):
        self.probe = probe
        self.matrices: dict[str, Tensor] = {}

    def __call__(self, method: Method, epoch: int) -> None:
        if epoch in CHOSEN_EPOCHS:
            self.add(method.deployed_network(), epoch)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.matrices)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.matrices = dict(state)

    def add(self, network: Network, epoch: int) -> None:
        """Compute the similarity matrix of a network and store it under the number of finished epochs."""
        embedding = predict_in_chunks(
            network, self.probe, torch.arange(len(self.probe)), lambda output: output.embedding
        )
        self.matrices[f"epoch_{epoch:04d}"] = cosine_similarity_matrix(embedding).half()


@phase("store jobs")
def store_job(folder: Path, job: Job, evaluation: Evaluation, history: History, similarities: Similarities) -> None:
    """Write the folder of a job under a temporary name, and rename it when it is complete.

    Args:
        folder: the run folder.
        job: the job.
        evaluation: the tested network with its predictions.
        history: how the network was trained.
        similarities: the similarity matrices of the training.
    """
    # The folder appears under its name when it is complete: a killed run leaves no half job. Of two processes that
    # train the same job, which leases prevent unless a machine stands still for minutes, the first one stores it.
    # Storing one does not list the others: what killed runs left is removed when a run begins.
    with write_folder_atomic(folder / "jobs" / job.id, keep=True) as place:
        evaluation.student.save(place / "model.safetensors")
        write_predictions(place / "predictions.csv", evaluation.predictions)
        pd.DataFrame(history.epochs).to_csv(place / "curves.csv", index=False)
        # The report orders the matrices by class or target value.
        truth = similarities.probe.truth
        values = compute_row_values(truth.numpy() if isinstance(truth, Tensor) else truth)
        order = torch.from_numpy(np.ascontiguousarray(values))
        write_tensors(place / "similarity.safetensors", {**similarities.matrices, "group": order}, finite=False)
        if evaluation.examples:
            write_tensors(place / "examples.safetensors", evaluation.examples)
        record = {
            "job": job.to_dict(),
            "select": history.best_score,
            "best_epoch": history.best_epoch,
            "stopped_epoch": len(history.epochs),
            "ended": describe_end(history, evaluation.facts["config"]["training"]["epochs"]),
            **evaluation.facts,
        }
        write_record(place, record)


def write_predictions(path: Path, columns: Columns) -> None:
    """Write columns of one length as a table, some lines at a time: a table of all would take several times as much."""
    rows = len(next(iter(columns.values())))
    with path.open("w", encoding="utf-8", newline="") as file:
        for start in range(0, max(rows, 1), LINES_AT_ONCE):
            some = pd.DataFrame({name: x[start : start + LINES_AT_ONCE] for name, x in columns.items()})
            some.to_csv(file, index=False, header=not start, float_format="%.6g")


@phase("store jobs")
def store_answers(folder: Path, job: Job, predictions: Columns, facts: dict[str, Any]) -> None:
    """Write the folder of a job that is no network: its answers on the test rows and `job.json`.

    Args:
        folder: the run folder.
        job: the job.
        predictions: the columns of its answers on the test rows.
        facts: the entries of `job.json` beside the job's identity.
    """
    with write_folder_atomic(folder / "jobs" / job.id, keep=True) as place:
        write_predictions(place / "predictions.csv", predictions)
        # It has no select score: nothing is chosen among reference rows.
        write_record(place, {"job": job.to_dict(), "select": math.nan, "best_epoch": 0, "ended": "", **facts})


def load_history(folder: Path, job: Job) -> History:
    """How the network of a stored job was trained."""
    place = folder / "jobs" / job.id
    record = read_record(place)
    table = pd.read_csv(place / "curves.csv", dtype=str).astype(float)
    epochs = [{str(name): float(value) for name, value in line.items()} for line in table.to_dict("records")]
    best_epoch, best_score = int(record["best_epoch"]), float(record["select"])
    return History(epochs, best_epoch, best_score, record["seconds"], record.get("stacked", 1))


def describe_end(history: History, epochs: int) -> str:
    """Where the chosen epoch of a training lies: "cap", if it is the last one allowed, "first" or "inside".

    Args:
        history: the record of the training.
        epochs: the largest number of epochs.
    """
    if history.best_epoch >= epochs:
        return "cap"
    return "first" if history.best_epoch == 1 else "inside"


def is_stored(folder: Path, job: Job) -> bool:
    """Whether a job is stored and its files are unchanged; process 0 decides for all. A damaged one is removed."""
    return from_first(is_first() and _is_stored(folder, job))


def _is_stored(folder: Path, job: Job) -> bool:
    """Whether a job is stored and its files are unchanged. A damaged job is removed with a warning.

    If the readable copy of the model's metadata is the only damaged file, it is written again.
    """
    place = folder / "jobs" / job.id
    if not place.exists():
        return False
    try:
        changed = changed_files(place, read_record(place))
        model = place / "model.safetensors"
        if changed == [DESCRIPTION]:
            write_description(model)
            changed = []
        elif not changed and (model.exists() or job.method not in REFERENCES):
            read_metadata(model)
        if not changed:
            return True
        reason = f"{place / changed[0]} is missing or was changed."
    except RunError as error:
        reason = str(error)
    warnings.warn(f"{reason} The job is trained again.", SidelightWarning, stacklevel=2)
    shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink()
    return False
