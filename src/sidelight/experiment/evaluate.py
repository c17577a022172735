"""Tests the network of a finished job, and describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.config import FREE
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.data.overflow import check_output
from sidelight.data.rows import read_into_memory
from sidelight.data.target_values import compute_row_values
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job
from sidelight.export import Student
from sidelight.methods import CONTROLS, MethodSpec
from sidelight.metrics import confusions, first_hits, nearest
from sidelight.networks.network import Network, Output, predict_in_chunks
from sidelight.results.chance import describe_test
from sidelight.tasks import Task
from sidelight.tasks.base import labelled_of
from sidelight.training import History


@dataclass(frozen=True)
class Evaluation:
    """What testing a job's network gives.

    Attributes:
        student: the network with its preprocessing, as it is stored.
        predictions: one line per test row.
        facts: what `job.json` holds beside the job's identity and its history.
        examples: true and predicted maps of a few test rows, of a segmentation.
    """

    student: Student
    predictions: pd.DataFrame
    facts: dict[str, Any]
    examples: dict[str, Tensor]


def evaluate(data: FoldData, job: Job, network: Network, history: History, made_with: Mapping[str, Any]) -> Evaluation:
    """Calibrate a trained network on the select rows, and test it on the test rows.

    Args:
        made_with: the digests of data and code of the whole run.

    Raises:
        DataError: an output that is not finite, with its row.
    """
    config, dataset, fold = data.config, data.dataset, data.fold
    task, test = calibrated_task(data, job, network), data.rows("test")
    on_test = predict_in_chunks(network, test, test.index, _checked(task, data, fold.test))
    facts: dict[str, Any] = {
        "metrics": measured(task, on_test, test),
        "seconds": history.seconds,
        "n_train": len(fold.train),
        "n_labelled": int(data.rows("train", job.labels).labelled.sum()),
        "n_test": len(test),
        "primary": task.primary,
        "task": task.name,
        "kind": task.kind,
        "labels": list(task.class_names),
        "higher_is_better": {name: metric.higher_is_better for name, metric in task.metrics().items()},
    }
    if alone := subsets(network, test, task):
        facts["subsets"] = alone
    facts["made_with"] = _made_with(job, made_with)
    facts["config"] = {name: value for name, value in asdict(config).items() if name not in FREE}
    student = Student(network, data.preprocessor, task, _metadata(data, job, network, facts["metrics"]))
    frame = predictions(dataset, fold.test, on_test, task)
    facts["test"] = describe_test(frame, task.name, task.class_names, task.learnt().get("mean"))
    return Evaluation(student, frame, facts, examples(dataset, fold.test, on_test, task))


def calibrated_task(data: FoldData, job: Job, network: Network) -> Task:
    """The job's task, with what the select rows choose once the network is trained (a threshold)."""
    task, select = data.task_of(job.labels), data.rows("select", control=job.control)
    on_select = predict_in_chunks(network, select, select.index, _checked(task, data, data.fold.select))
    return task.calibrated(on_select, select.target, select.labelled)


def _checked(task: Task, data: FoldData, rows: NDArray) -> Callable[[Output], Tensor]:
    """`task.kept` of the outputs on these rows, one chunk after the other; refuses an answer that is not finite."""
    done = 0

    def kept(output: Output) -> Tensor:
        nonlocal done
        answer = task.answer(output)
        check_output(answer, data.dataset.ids[rows], ", ".join(data.modalities), done)
        done += len(answer)
        return task.kept(output)

    return kept


def _made_with(job: Job, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """The digests that one job depends on: of its own methods' code, those of its terms alone."""
    terms = () if job.method in CONTROLS else MethodSpec.parse(job.method).terms
    methods = {term: code for term, code in made_with["methods"].items() if term in terms}
    return {**made_with, "methods": methods}


def _metadata(data: FoldData, job: Job, network: Network, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What the student's file says of itself."""
    return {
        **vars(job),
        "data": {"name": data.dataset.name, **data.dataset.about},
        "recordings": {m: described for m, described in data.dataset.schema.items() if m in network.reads},
        "metrics": metrics,
        "privileged": data.privileged if job.method != "teacher" else [],
    }


def predictions(dataset: Dataset, rows: NDArray, outputs: Tensor, task: Task) -> pd.DataFrame:
    """One line per row: id, group, target, prediction, and class probabilities where there are classes.

    Of an embedding, the prediction is the class of the nearest other row, and `rank` where the first of the own class
    stands (0: no other row is of it). Of a class per pixel, how many pixels of each true class were given each class:
    `pixels.<true>.<predicted>`.
    """
    frame: dict[str, Any] = {"id": dataset.ids[rows]}
    if dataset.group is not None:
        frame["group"] = dataset.group[rows]
    target, decided = dataset.target[rows], task.decide(outputs)
    names = np.asarray(task.class_names)
    if task.kind == "classification":
        frame["target"] = np.where(target >= 0, names[np.clip(target, 0, None)], "")
    if task.answers == "embedding":
        frame["prediction"] = frame["target"][nearest(decided)]
        frame["rank"] = first_hits(decided, target)
    elif task.answers == "class":
        frame["prediction"] = names[decided]
        frame |= {f"p.{name}": p for name, p in zip(names, outputs.softmax(-1).numpy().T)}
    elif task.name == "segmentation":
        counts = confusions(decided, target, len(names))
        frame |= {f"pixels.{t}.{p}": counts[:, i, j] for i, t in enumerate(names) for j, p in enumerate(names)}
    else:
        frame |= {f"target.{name}": t for name, t in zip(names, target.reshape(len(rows), -1).T)}
        frame |= {f"prediction.{name}": p for name, p in zip(names, decided.T)}
    return pd.DataFrame(frame)


def measured(task: Task, outputs: Tensor, batch: Batch) -> dict[str, float]:
    """Every metric of the task over the labelled rows, as it is usually written (not signed). outputs: `Task.kept`."""
    where = batch.labelled
    return task.measure(task.read(outputs[where]), labelled_of(batch.truth, where))


def subsets(network: Network, test: Batch, task: Task) -> dict[str, dict[str, float]]:
    """modality -> every metric with that one alone, over the test rows that have it; empty where all are needed."""
    if network.completion is None:
        return {}
    found = {}
    for m in network.reads:
        there = test.present.get(m, torch.ones_like(test.labelled))
        rows = test.select_modalities([m]).index_select(there.nonzero()[:, 0])
        if rows.labelled.any() and not task.unmeasurable(rows.target[rows.labelled].numpy()):
            found[m] = measured(task, predict_in_chunks(network, rows, torch.arange(len(rows)), task.kept), rows)
    return found


def examples(dataset: Dataset, rows: NDArray, outputs: Tensor, task: Task) -> dict[str, Tensor]:
    """True and predicted maps (3, H, W) of three test rows, from the least to the most pixels of the rarer classes.

    Empty where the target has no class per pixel. `row` says which rows of the data set they are.
    """
    if task.name != "segmentation":
        return {}
    values = compute_row_values(dataset.target[rows])
    ordered = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    picked = np.unique(ordered[np.linspace(0, len(ordered) - 1, 3).round().astype(int)])
    target = torch.from_numpy(read_into_memory(dataset.target[rows[picked]]))
    decided = torch.from_numpy(task.decide(outputs[torch.from_numpy(picked)])).to(target.dtype)
    return {"row": torch.from_numpy(rows[picked]), "target": target, "prediction": decided}
