"""What a job leaves behind: predictions, curves, similarity matrices, model and metrics."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.data.dataset import row_values
from sidelight.data.rows import in_memory
from sidelight.errors import RunError, SidelightWarning
from sidelight.experiment.jobs import Job
from sidelight.export.file import write_description
from sidelight.losses.structural import cosine_similarity_matrix
from sidelight.methods import Method
from sidelight.metrics import confusions, first_hits, nearest
from sidelight.networks.network import Network, gathered
from sidelight.results.job import changed_files, read_record, write_record
from sidelight.results.store import write_folder_atomic
from sidelight.tasks import Task
from sidelight.tasks.base import labelled_of
from sidelight.training import History
from sidelight.utils.tensorfile import read_metadata, write_tensors

DESCRIPTION = "model.json"
"""Beside a model, for people: nothing reads it."""
CHOSEN_EPOCHS = frozenset({0, 1, 2, 5, 10, 20, 40, 80, 160, 320})


class Similarities:
    """Cosine similarity of the fused embeddings of a fixed probe batch, at chosen epochs (PKDOT Fig. 5).

    Called by the loop with the method and the number of finished epochs.
    """

    def __init__(self, probe: Batch):
        self.probe = probe
        self.matrices: dict[str, Tensor] = {}

    def __call__(self, method: Method, epoch: int) -> None:
        if epoch in CHOSEN_EPOCHS:
            self.add(method.export(), epoch)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.matrices)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.matrices = dict(state)

    def add(self, network: Network, epoch: int) -> None:
        embedding = gathered(network, self.probe, torch.arange(len(self.probe)), lambda said: said.embedding)
        self.matrices[f"epoch_{epoch:04d}"] = cosine_similarity_matrix(embedding).half()


def predictions(dataset: Dataset, rows: NDArray, said: Tensor, task: Task) -> pd.DataFrame:
    """One line per row: id, group, target, prediction, and class probabilities where there are classes.

    Of an embedding, the prediction is the class of the nearest other row, and `rank` where the first of the own class
    stands (0: no other row is of it). Of a class per pixel, how many pixels of each true class were given each class:
    `pixels.<true>.<predicted>`.
    """
    frame: dict[str, Any] = {"id": dataset.ids[rows]}
    if dataset.group is not None:
        frame["group"] = dataset.group[rows]
    target, decided = dataset.target[rows], task.decide(said)
    names = np.asarray(task.labels)
    if task.kind == "classification":
        frame["target"] = np.where(target >= 0, names[np.clip(target, 0, None)], "")
    if task.answers == "embedding":
        frame["prediction"] = frame["target"][nearest(decided)]
        frame["rank"] = first_hits(decided, target)
    elif task.answers == "class":
        frame["prediction"] = names[decided]
        frame |= {f"p.{name}": p for name, p in zip(names, said.softmax(-1).numpy().T)}
    elif task.name == "segmentation":
        counts = confusions(decided, target, len(names))
        frame |= {f"pixels.{t}.{p}": counts[:, i, j] for i, t in enumerate(names) for j, p in enumerate(names)}
    else:
        frame |= {f"target.{name}": t for name, t in zip(names, target.reshape(len(rows), -1).T)}
        frame |= {f"prediction.{name}": p for name, p in zip(names, decided.T)}
    return pd.DataFrame(frame)


def measured(task: Task, said: Tensor, batch: Batch) -> dict[str, float]:
    """Every metric of the task over the labelled rows, as it is usually written (not signed); said: `Task.kept`."""
    where = batch.labelled
    return task.measure(task.read(said[where]), labelled_of(batch.truth, where))


def subsets(network: Network, test: Batch, task: Task) -> dict[str, dict[str, float]]:
    """modality -> every metric with that one alone, over the test rows that have it; empty where all are needed."""
    if network.completion is None:
        return {}
    found = {}
    for m in network.reads:
        there = test.present.get(m, torch.ones_like(test.labelled))
        rows = test.only([m]).take(there.nonzero()[:, 0])
        if rows.labelled.any() and not task.unmeasurable(rows.target[rows.labelled].numpy()):
            found[m] = measured(task, gathered(network, rows, torch.arange(len(rows)), task.kept), rows)
    return found


def examples(dataset: Dataset, rows: NDArray, said: Tensor, task: Task) -> dict[str, Tensor]:
    """True and predicted maps (3, H, W) of three test rows, from the least to the most pixels of the rarer classes.

    Empty where the target has no class per pixel. `row` says which rows of the data set they are.
    """
    if task.name != "segmentation":
        return {}
    values = row_values(dataset.target[rows])
    ordered = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    picked = np.unique(ordered[np.linspace(0, len(ordered) - 1, 3).round().astype(int)])
    target = torch.from_numpy(in_memory(dataset.target[rows[picked]]))
    decided = torch.from_numpy(task.decide(said[torch.from_numpy(picked)])).to(target.dtype)
    return {"row": torch.from_numpy(rows[picked]), "target": target, "prediction": decided}


def store_job(
    folder: Path,
    job: Job,
    model: Any,
    history: History,
    similar: Similarities,
    tested: pd.DataFrame,
    facts: dict[str, Any],
    shown: dict[str, Tensor],
) -> None:
    """Write a job's folder under a temporary name and rename it when it is whole.

    model: anything with `save(path)`. facts: what job.json says beside the job's identity and the history. shown: the
    `examples`.
    """
    with write_folder_atomic(folder / "jobs" / job.id) as place:
        model.save(place / "model.safetensors")
        tested.to_csv(place / "predictions.csv", index=False, float_format="%.6g")
        pd.DataFrame(history.epochs).to_csv(place / "curves.csv", index=False)
        truth = similar.probe.truth
        values = row_values(truth.numpy() if isinstance(truth, Tensor) else truth)
        order = torch.from_numpy(np.ascontiguousarray(values))
        write_tensors(place / "similarity.safetensors", {**similar.matrices, "group": order}, finite=False)
        if shown:
            write_tensors(place / "examples.safetensors", shown)
        record = {
            "job": vars(job),
            "select": history.best_score,
            "best_epoch": history.best_epoch,
            "stopped_epoch": len(history.epochs),
            **facts,
        }
        write_record(place, record)


def is_stored(folder: Path, job: Job) -> bool:
    """Whether a job is stored as it was written; what is left of a damaged one is removed, and named in a warning.

    The readable copy of the model's description is written again where it alone is damaged.
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
        elif not changed:
            read_metadata(model)
        if not changed:
            return True
        reason = f"{place / changed[0]} is missing, or not what was stored."
    except RunError as error:
        reason = str(error)
    warnings.warn(f"{reason} The job is trained again.", SidelightWarning, stacklevel=2)
    shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink()
    return False
