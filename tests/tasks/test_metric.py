"""The choice of the metric, and the weights of classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.small import make_data
from sidelight.config import load_config
from sidelight.errors import ConfigError
from sidelight.tasks import Classification, resolve_task


def task_of(metric="auto", shares=None, task="classification", **settings):
    data = make_data(task)
    if shares is not None:
        data.target[:] = np.repeat(np.arange(3), shares)
        data.labelled[:] = True
    return resolve_task(load_config({"data": "small", "metric": metric, **settings}), data)


@pytest.mark.parametrize(("largest", "expected"), [(86, "accuracy"), (88, "macro_f1")])
def test_auto_compares_macro_f1_where_one_class_has_more_than_60_percent_of_the_rows(largest, expected):
    task = task_of(shares=(10, largest, 134 - largest))  # 86 / 144 = 59.7 %, 88 / 144 = 61.1 %
    assert task.primary == expected
    assert ("61% of the labelled rows are 'middle'" in task.metric_note) == (expected == "macro_f1")


def test_a_named_metric_is_the_primary_one_also_of_the_fitted_task():
    assert task_of("balanced_accuracy").primary == "unweighted_accuracy"
    target = torch.randn(8, 2)
    task = task_of("rmse", task="regression").fit(target, torch.ones(8, dtype=torch.bool))
    prediction = torch.zeros(8, 2)
    rows = torch.ones(8, dtype=torch.bool)
    assert task.primary == "rmse"
    assert task.score(prediction, target, rows) == task.score(prediction, target, rows, "rmse") < 0


def test_a_metric_that_the_task_does_not_have_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="macro_f1"):
        task_of("macro_f2")
    with pytest.raises(ConfigError, match="metric"):
        task_of("accuracy", task="regression")


def test_macro_f1_chooses_another_epoch_than_accuracy():
    target, rows = torch.tensor([0] * 8 + [1] * 2), torch.ones(10, dtype=torch.bool)
    always = [0] * 10  # accuracy .8, macro-F1 .44
    careful = [1] * 3 + [0] * 5 + [1] * 2  # accuracy .7, macro-F1 .67
    curve = [torch.eye(2)[answers] for answers in (always, careful)]
    task = Classification(("a", "b"))
    best = {m: int(np.argmax([task.score(p, target, rows, m) for p in curve])) for m in ("accuracy", "macro_f1")}
    assert best == {"accuracy": 0, "macro_f1": 1}
    task.primary = "macro_f1"
    assert task.score(curve[1], target, rows) > task.score(curve[0], target, rows)


def test_balanced_classes_weigh_the_loss_as_a_hand_sum():
    target, labelled = torch.tensor([0, 0, 0, 1, -1]), torch.tensor([True] * 4 + [False])
    task = task_of(training={"class_weights": "balanced"}).fit(target, labelled)
    assert torch.equal(task.class_weights[:2], torch.tensor([4 / 6, 4 / 2]))
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    each = -logits.log_softmax(1)
    hand = (4 / 6 * each[:3, 0].sum() + 2 * each[3, 1]) / (3 * 4 / 6 + 2)
    torch.testing.assert_close(task.loss(logits, target, labelled), hand)
    assert task.loss(logits, target, labelled & False) == 0


def test_class_weights_of_values_are_refused():
    with pytest.raises(ConfigError, match="class_weights=none"):
        task_of(task="regression", training={"class_weights": "balanced"})
