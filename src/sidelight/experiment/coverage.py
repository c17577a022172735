"""Which rows lack privileged modalities, and how networks score on the test rows where a teacher can see one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.experiment.fold import FoldData
from sidelight.tasks import Task
from sidelight.tasks.base import select_labelled


def compute_lacks(data: FoldData, label_fraction: float) -> dict[str, dict[str, float]]:
    """The shares of rows that lack privileged modalities.

    Args:
        data: the rows of the fold.
        label_fraction: the share of the labelled groups that keep their labels.

    Returns:
        Part -> {"any": the share of its rows that lack at least one, "all": that lack every one, and modality: that
        lack it}; {} for a part without rows.
    """
    budget = data.budget(label_fraction)
    parts = {"train": budget.train, "select": budget.select, "test": data.fold.test}
    if budget.inner is not None:
        parts["select"] = budget.select[:0]  # these rows train
    lacks = {}
    for part, rows in parts.items():
        missing = {m: ~data.dataset.present[m][rows] for m in data.privileged}
        if not len(rows) or not missing:
            lacks[part] = dict[str, float]()
            continue
        each = list(missing.values())
        shares = {"any": sum(each) > 0, "all": sum(x.astype(int) for x in each) == len(each)} | missing
        lacks[part] = {name: float(rows_without.mean()) for name, rows_without in shares.items()}
    return lacks


def score_seen(data: FoldData, task: Task, outputs: Tensor, test: Batch) -> dict[str, Any]:
    """Score a network on the test rows that have a privileged modality, and on the others.

    Args:
        data: the rows of the fold.
        task: the calibrated task.
        outputs: `Task.compact_answer` of the test rows.
        test: the test rows.

    Returns:
        "n", "metrics": of the rows that have one; "unseen": metrics of the others. A metric is None where it cannot be
        measured. {} if every test row has one, or none has.
    """
    seen = torch.zeros(len(test), dtype=torch.bool)
    for m in data.privileged:
        seen |= test.present.get(m, torch.ones_like(seen))
    if bool(seen.all()) or not bool(seen.any()):
        return {}
    return {"n": int(seen.sum()), "metrics": _score(task, outputs, test, seen)} | {
        "unseen": _score(task, outputs, test, ~seen)
    }


def _score(task: Task, outputs: Tensor, test: Batch, where: Tensor) -> dict[str, Any]:
    where = where & test.labelled
    truth = select_labelled(test.truth, where)
    if not bool(where.any()) or (isinstance(truth, Tensor) and task.explain_unmeasurable(truth.numpy())):
        return dict.fromkeys(task.metrics())
    return task.measure(task.metric_input(outputs[where]), truth)
