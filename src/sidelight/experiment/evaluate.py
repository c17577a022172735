"""Tests the network of a trained job, and describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

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
from sidelight.experiment.coverage import compute_lacks, score_seen
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job
from sidelight.export import Student
from sidelight.metrics import count_confusions, first_hit_ranks, nearest_neighbours
from sidelight.networks.network import Network, Output, predict_in_chunks
from sidelight.results.chance import describe_test
from sidelight.tasks import Task
from sidelight.tasks.base import select_labelled
from sidelight.training import History
from sidelight.utils.device import describe_device
from sidelight.utils.phases import phase

ROW_NAMES = ("id", "group")
"""Columns of predictions.csv that say whose row it is. They become Python's texts a few rows at a time."""
Columns = dict[str, NDArray | pd.Categorical]
"""The columns of a table, by name and in order."""


class Answers(NamedTuple):
    """(B, …) compact answers of a network, their targets, and (B,) bool, whether the targets are known."""

    answer: Tensor
    target: Tensor
    labelled: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The result of testing the network of a job.

    Attributes:
        student: the network with its preprocessing, as it is stored.
        predictions: column -> one value per test row, as `build_predictions` returns them.
        facts: the entries of `job.json` beside the job's identity and its history.
        examples: in a segmentation, true and predicted maps of a few test rows.
    """

    student: Student
    predictions: Columns
    facts: dict[str, Any]
    examples: dict[str, Tensor]


@phase("test")
def evaluate(
    data: FoldData,
    job: Job,
    network: Network,
    history: History,
    made_with: Mapping[str, Any],
    inner: Sequence[Answers] = (),
    task: Task | None = None,
) -> Evaluation:
    """Calibrate a trained network on the select rows, and test it on the test rows.

    Args:
        data: the rows of the fold. Without test rows nothing is tested, and the evaluation has no metrics.
        job: the job.
        network: its trained network.
        history: how it was trained.
        made_with: the digests of data and code of the whole run.
        inner: the answers of the inner trainings on the rows that each held out, which calibrate in place of select
            rows.
        task: the task, if it is calibrated already.

    Raises:
        DataError: an output is not finite; names the row.
    """
    dataset, fold, budget = data.dataset, data.fold, data.budget(job.label_fraction)
    test = data.rows("test")
    if task is None and budget.inner is None:
        task = calibrate_task(data, job, network)
    elif task is None:
        task = data.fit_task(job.label_fraction)
        if inner:
            task = task.calibrate(*map(torch.cat, zip(*inner)))
    trained: dict[str, Any] = {"seconds": history.seconds, "device": describe_device(network.device)}
    if history.stacked > 1:
        trained["stacked"] = history.stacked
    if not len(fold.test):
        facts = {"metrics": {}} | describe_fold(data, job, task, made_with) | trained
        student = Student(network, data.preprocessor, task, _metadata(data, job, network, {}))
        return Evaluation(student, {"id": dataset.ids[fold.test]}, facts, {})
    on_test = predict_in_chunks(network, test, test.index, _check_finite(task, data, fold.test))
    columns, facts = test_answers(data, job, task, on_test, test, made_with)
    facts |= trained
    # Only a student for any subset can be tested on single modalities.
    if alone := evaluate_single_modalities(network, test, task):
        facts["subsets"] = alone
    student = Student(network, data.preprocessor, task, _metadata(data, job, network, facts["metrics"]))
    return Evaluation(student, columns, facts, pick_example_maps(dataset, fold.test, on_test, task))


def test_answers(
    data: FoldData, job: Job, task: Task, on_test: Tensor, test: Batch, made_with: Mapping[str, Any]
) -> tuple[Columns, dict[str, Any]]:
    """Score answers on the test rows.

    Args:
        data: the rows of the fold.
        job: the job.
        task: the calibrated task.
        on_test: `Task.compact_answer` of the test rows.
        test: the test rows.
        made_with: the digests of data and code of the whole run.

    Returns:
        The columns of the table of predictions, and what `job.json` says of any answers.
    """
    columns = build_predictions(data.dataset, data.fold.test, on_test, task)
    labels = pd.DataFrame({name: x for name, x in columns.items() if name not in ROW_NAMES})
    facts: dict[str, Any] = {
        "metrics": compute_metrics(task, on_test, test),
        "test": describe_test(labels, task.name, task.class_names, task.get_params().get("mean")),
        **describe_fold(data, job, task, made_with),
    }
    if seen := score_seen(data, task, on_test, test):
        facts["seen"] = seen
    return columns, facts


def describe_fold(data: FoldData, job: Job, task: Task, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """What `job.json` says of the rows, the task and the settings, without any answer.

    Args:
        data: the rows of the fold.
        job: the job.
        task: the calibrated task.
        made_with: the digests of data and code of the whole run.
    """
    budget = data.budget(job.label_fraction)
    facts: dict[str, Any] = {
        "n_train": len(budget.train),
        "n_labelled": int(budget.kept[budget.train].sum()),
        "n_select": len(budget.select) if budget.inner is None else 0,
        "select_labels": budget.way,
        "lacks": compute_lacks(data, job.label_fraction),
        "n_test": len(data.fold.test),
        "primary": task.primary,
        "task": task.name,
        "kind": task.kind,
        "labels": list(task.class_names),
        "higher_is_better": {name: metric.higher_is_better for name, metric in task.metrics().items()},
        "made_with": _made_with(job, made_with),
        # Settings that do not change a result (`FREE`) may differ when the run is resumed.
        "config": {name: value for name, value in asdict(data.config).items() if name not in FREE},
    }
    if task.metric_note:
        facts["metric_note"] = task.metric_note
    return facts


def calibrate_task(data: FoldData, job: Job, network: Network) -> Task:
    """Calibrate the task (e.g. choose its threshold) on the select rows.

    Args:
        data: the rows of the fold.
        job: the job.
        network: its trained network.
    """
    return data.fit_task(job.label_fraction).calibrate(*answer_select(data, job, network))


def answer_select(data: FoldData, job: Job, network: Network) -> Answers:
    """The answers of a network on the select rows, for the calibration of the task.

    Args:
        data: the rows of the fold.
        job: the job.
        network: its trained network.
    """
    task, select = data.fit_task(job.label_fraction), data.rows("select", job.label_fraction, job.control)
    rows = data.budget(job.label_fraction).select
    on_select = predict_in_chunks(network, select, select.index, _check_finite(task, data, rows))
    return Answers(on_select, select.target, select.labelled)


def _check_finite(task: Task, data: FoldData, rows: NDArray) -> Callable[[Output], Tensor]:
    """Wrap `task.compact_answer` for chunks of outputs on these rows: a non-finite answer raises DataError."""
    done = 0

    def check_and_reduce(output: Output) -> Tensor:
        nonlocal done
        answer = task.answer(output)
        some = rows[done : done + len(answer)]
        check_output(answer, data.dataset.ids[some], ", ".join(data.modalities))
        done += len(answer)
        return task.compact_answer(output)

    return check_and_reduce


def _made_with(job: Job, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """The digests that one job depends on: among the code of the user's methods, that of its own terms alone."""
    terms = job.spec.terms if job.spec else ()
    methods = {term: code for term, code in made_with["methods"].items() if term in terms}
    return {**made_with, "methods": methods}


def _metadata(data: FoldData, job: Job, network: Network, metrics: Mapping[str, float]) -> dict[str, Any]:
    recipes = {m: recipe for m, recipe in data.dataset.recipes.items() if m in network.reads}
    return {
        **job.to_dict(),
        "data": {"name": data.dataset.name, **data.dataset.about},
        "recordings": {m: described for m, described in data.dataset.schema.items() if m in network.reads},
        "files": {m: settings for m, settings in data.dataset.recordings.items() if m in network.reads},
        "metrics": metrics,
        "privileged": data.privileged if job.method != "teacher" else [],
        **({"modalities": recipes} if recipes else {}),
    }


def build_predictions(dataset: Dataset, rows: NDArray, outputs: Tensor, task: Task) -> Columns:
    """Build the columns of the table of predictions, which has one line per row.

    Every task has the columns id, group, target and prediction. Classes add a probability for each class
    (`p.<class>`). In a retrieval, the prediction is the class of the nearest other row, and `rank` is the rank of the
    first row of the same class (0 if there is none). A segmentation counts the pixels of each true class that are
    predicted as each class (`pixels.<true>.<predicted>`).

    Args:
        dataset: all rows.
        rows: (N,) int64, the positions of the rows in the data set.
        outputs: `Task.compact_answer` of these rows.
        task: the calibrated task.
    """
    frame: dict[str, Any] = {"id": dataset.ids[rows]}
    if dataset.group is not None:
        frame["group"] = dataset.group[rows]
    target, decided = dataset.target[rows], task.decide(outputs)
    names = np.asarray(task.class_names)
    if task.kind == "classification":
        frame["target"] = np.where(target >= 0, names[np.clip(target, 0, None)], "")
    if task.answers == "embedding":
        frame["prediction"] = frame["target"][nearest_neighbours(decided)]
        frame["rank"] = first_hit_ranks(decided, target)
    elif task.answers == "class":
        frame["prediction"] = names[decided]
        frame |= {f"p.{name}": p for name, p in zip(names, outputs.softmax(-1).numpy().T)}
    elif task.name == "segmentation":
        counts = count_confusions(decided, target, len(names))
        for i, true in enumerate(names):
            for j, predicted in enumerate(names):
                frame[f"pixels.{true}.{predicted}"] = counts[:, i, j]
    else:
        frame |= {f"target.{name}": t for name, t in zip(names, target.reshape(len(rows), -1).T)}
        frame |= {f"prediction.{name}": p for name, p in zip(names, decided.T)}
    return {name: values if name in ROW_NAMES else _compact(values) for name, values in frame.items()}


def _compact(values: NDArray) -> NDArray | pd.Categorical:
    """A column with its words as categories if they repeat: their text is then in memory once, not once a row."""
    if values.dtype.kind != "U":
        return values
    words, codes = np.unique(values, return_inverse=True)
    return pd.Categorical.from_codes(codes, pd.Index(words)) if len(words) < len(values) else values


def compute_metrics(task: Task, outputs: Tensor, batch: Batch) -> dict[str, float]:
    """Compute every metric of the task over the labelled rows, with its usual sign.

    Args:
        task: the calibrated task.
        outputs: `Task.compact_answer` of the rows.
        batch: the rows.
    """
    where = batch.labelled
    return task.measure(task.metric_input(outputs[where]), select_labelled(batch.truth, where))


def evaluate_single_modalities(network: Network, test: Batch, task: Task) -> dict[str, dict[str, float]]:
    """Test a student for any subset of the modalities on each modality alone.

    Args:
        network: the trained network.
        test: the test rows.
        task: the calibrated task.

    Returns:
        Modality -> metrics over the test rows that have it; {} if the network needs all of its modalities.
    """
    if network.completion is None:
        return {}
    metrics = {}
    for m in network.reads:
        present = test.present.get(m, torch.ones_like(test.labelled))
        rows = test.select_modalities([m]).index_select(present.nonzero()[:, 0])
        if not rows.labelled.any() or task.explain_unmeasurable(rows.target[rows.labelled].numpy()):
            continue
        answers = predict_in_chunks(network, rows, torch.arange(len(rows)), task.compact_answer)
        metrics[m] = compute_metrics(task, answers, rows)
    return metrics


def pick_example_maps(dataset: Dataset, rows: NDArray, outputs: Tensor, task: Task) -> dict[str, Tensor]:
    """Pick three test rows of a segmentation, from the fewest to the most pixels of the rarer classes.

    Args:
        dataset: all rows.
        rows: (N,) int64, the positions of the test rows in the data set.
        outputs: `Task.compact_answer` of these rows.
        task: the calibrated task.

    Returns:
        "target" and "prediction" (3, H, W), and "row" (3,), their positions in the data set; {} for other tasks.
    """
    if task.name != "segmentation":
        return {}
    values = compute_row_values(dataset.target[rows])
    ordered = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    # Few rows may give the same position twice.
    picked = np.unique(ordered[np.linspace(0, len(ordered) - 1, 3).round().astype(int)])
    target = torch.from_numpy(read_into_memory(dataset.target[rows[picked]]))
    decided = torch.from_numpy(task.decide(outputs[torch.from_numpy(picked)])).to(target.dtype)
    return {"row": torch.from_numpy(rows[picked]), "target": target, "prediction": decided}
