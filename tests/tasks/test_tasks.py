"""Tasks and metrics against scikit-learn, closed forms and the reference; loss and metric share one CCC."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk
from torch import Tensor

from helpers.support import make_rows, reference, task_of
from sidelight import metrics
from sidelight.config import Config
from sidelight.errors import ConfigError, RunError
from sidelight.metrics import concordance
from sidelight.results.units import metric_name
from sidelight.tasks import TASKS, Classification, Regression, describe_task, make_task

DOCUMENT = Path(__file__).parents[2] / "docs" / "tasks.md"
ALL = torch.ones(8, dtype=torch.bool)
values = st.floats(-100, 100, width=32)


def column(*x: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(x, dtype=dtype)[:, None]


def lin(x, y) -> float:
    """Lin (1989), from the definitions of the moments."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


# concordance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 128])
def test_concordance_is_that_of_the_reference(size):
    data = reference(size)
    value = concordance(column(*data["va_prediction"]), column(*data["va_target"]))
    assert value.item() == pytest.approx(float(data["ccc_biased"]), rel=1e-10)
    assert metrics.ccc(data["va_prediction"], data["va_target"]) == pytest.approx(float(data["ccc_biased"]), rel=1e-10)


@given(arrays(np.float64, st.tuples(st.just(2), st.integers(2, 30)), elements=values))
def test_concordance_is_lins_and_symmetric_and_bounded(pair):
    x, y = pair
    assume(x.var() + y.var() > 1e-6)
    value = concordance(column(*x), column(*y)).item()
    assert value == pytest.approx(lin(x, y), rel=1e-8, abs=1e-9)
    assert value == pytest.approx(concordance(column(*y), column(*x)).item(), rel=1e-9, abs=1e-12)
    assert abs(value) <= 1 + 1e-9


def test_concordance_has_its_closed_forms():
    x = torch.arange(10, dtype=torch.float64)[:, None]
    variance = x.var(correction=0).item()
    assert concordance(x, x).item() == pytest.approx(1)
    assert concordance(-x + 9, x).item() == pytest.approx(-1)
    assert concordance(x + 3, x).item() == pytest.approx(2 * variance / (2 * variance + 9))
    assert concordance((x - 4.5) * 2, x - 4.5).item() == pytest.approx(4 / 5)  # 2·2v / (4v + v)


@given(values, values, st.integers(1, 30), st.sampled_from([torch.float32, torch.float64]))
def test_a_constant_prediction_is_worth_exactly_nothing(constant, other, n, dtype):
    """Also where the mean of a constant is rounded: then cov/var of the rounding error would be 1."""
    x = torch.full((n, 1), constant, dtype=dtype)
    varying = torch.linspace(-1, 1, n, dtype=dtype)[:, None]
    for target in (x.clone(), torch.full_like(x, other), varying):
        prediction = x.clone().requires_grad_()
        value = concordance(prediction, target)
        value.sum().backward()
        assert value.item() == 0
        assert prediction.grad.isfinite().all()
        assert n == 1 or metrics.ccc(x.numpy(), target.numpy()) == 0


def test_concordance_keeps_its_digits_far_from_zero():
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    x = x + y
    far = concordance(column(*(x + 1000), dtype=torch.float32), column(*(y + 1000), dtype=torch.float32)).item()
    assert far == pytest.approx(lin(x, y), abs=1e-4)


def test_the_gradient_of_concordance_is_that_of_differences():
    torch.manual_seed(0)
    x, y = torch.randn(6, 2, dtype=torch.float64, requires_grad=True), torch.randn(6, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: concordance(p, y), x)


def test_a_column_with_fewer_than_two_targets_says_nothing():
    prediction, target = np.random.default_rng(0).normal(size=(2, 6, 2))
    target[1:, 1] = np.nan
    assert metrics.ccc(prediction, target) == pytest.approx(lin(prediction[:, 0], target[:, 0]))
    assert math.isnan(metrics.ccc(prediction[:, 1:], target[:, 1:]))


# regression ----------------------------------------------------------------------------------------------------------


def random_rows(seed: int, n: int = 40, k: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(n, k, generator=g, dtype=torch.float64)
    prediction = target + torch.randn(n, k, generator=g, dtype=torch.float64)
    return prediction, target, torch.rand(n, generator=g) < 0.6


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3]))
def test_loss_and_metric_are_one_definition(seed, missing):
    """1 − loss is the metric over the labelled rows, whichever target values are missing."""
    prediction, target, labelled = random_rows(seed)
    target[torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) < missing] = torch.nan
    task = task_of("regression")
    loss = task.loss(prediction, target, labelled).item()
    assert 1 - loss == pytest.approx(task.score(prediction, target, labelled), rel=1e-9, abs=1e-12)
    columns = []
    for p, t in zip(prediction[labelled].T.numpy(), target[labelled].T.numpy()):
        columns.append(lin(p[np.isfinite(t)], t[np.isfinite(t)]))
    assert 1 - loss == pytest.approx(np.mean(columns), rel=1e-9, abs=1e-12)


def test_targets_that_are_missing_move_nothing():
    prediction, target, labelled = random_rows(3)
    target[0:6, 0] = torch.nan
    target[~labelled] = torch.nan
    prediction.requires_grad_()
    task_of("regression").loss(prediction, target, labelled).backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad[:6, 0].abs().max() == 0
    assert prediction.grad[~labelled].abs().max() == 0
    assert prediction.grad[labelled][10:].abs().min() > 0


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_without_labels_the_regression_loss_is_zero_with_a_gradient_of_zero(rows):
    """One labelled row has no concordance either."""
    for labelled in (torch.zeros(rows, dtype=torch.bool), torch.arange(rows) < 1):
        for hidden in (0.5, torch.nan):
            prediction = torch.randn(rows, 2, requires_grad=True)
            target = torch.full((rows, 2), hidden)
            loss = task_of("regression").loss(prediction, target, labelled)
            assert loss.item() == 0
            loss.backward()
            assert prediction.grad.abs().sum() == 0


def test_a_target_column_without_a_value_is_left_out():
    prediction, target, labelled = random_rows(4)
    target[:, 1] = torch.nan
    task = task_of("regression")
    alone = Regression(("valence",)).loss(prediction[:, :1], target[:, :1], labelled)
    assert task.loss(prediction, target, labelled).item() == pytest.approx(alone.item())


def test_regression_errors_are_those_of_scikit_learn():
    prediction, target, _ = (x.numpy() for x in random_rows(5))
    assert metrics.mae(prediction, target) == pytest.approx(sk.mean_absolute_error(target, prediction))
    assert metrics.rmse(prediction, target) == pytest.approx(math.sqrt(sk.mean_squared_error(target, prediction)))
    missing = target.copy()
    missing[:10] = np.nan
    assert metrics.mae(prediction, missing) == pytest.approx(sk.mean_absolute_error(target[10:], prediction[10:]))
    assert metrics.rmse(prediction, missing) == pytest.approx(
        sk.root_mean_squared_error(target[10:].ravel(), prediction[10:].ravel())
    )


def test_regression_trust_is_the_teachers_concordance():
    prediction, target, labelled = random_rows(6)
    task = task_of("regression")
    trust = task.teacher_confidence(prediction, target, labelled)
    assert trust.shape == (40,)
    assert trust[0].item() == pytest.approx(task.score(prediction, target, labelled))
    assert task.teacher_confidence(-prediction, target, labelled).max() == 0  # worse than nothing is not negative
    assert task.teacher_confidence(prediction, target, labelled & False).min() == 1


@given(st.floats(-1000, 1000), st.floats(0.01, 1000), st.integers(0, 100))
def test_units_learnt_from_the_train_rows_change_neither_loss_nor_score(mean, scale, seed):
    prediction, target, labelled = random_rows(seed)
    plain = task_of("regression")
    loss = plain.loss(prediction, target, labelled).item()
    scores = {name: plain.score(prediction, target, labelled, name) for name in plain.metrics()}
    moved = target * scale + mean
    moved[~labelled] = torch.nan
    task = plain.fit(moved, labelled)
    in_units = (prediction * scale + mean - torch.tensor(task.mean)) / torch.tensor(task.scale)
    tolerance = {"rel": 1e-4, "abs": 1e-4 * (1 + abs(mean) / scale)}  # the units are kept in single precision
    assert task.loss(in_units, moved, labelled).item() == pytest.approx(loss, **tolerance)
    assert task.score(in_units, moved, labelled) == pytest.approx(scores["ccc"], **tolerance)
    for error in ("mae", "rmse"):
        assert task.score(in_units, moved, labelled, error) / scale == pytest.approx(scores[error], **tolerance)
    np.testing.assert_allclose(task.decide(in_units) / scale, (prediction * scale + mean) / scale, rtol=1e-4, atol=1e-3)


def test_several_targets_have_a_ccc_each_and_one_has_none():
    prediction, target, labelled = random_rows(3)
    target[:4, 0] = torch.nan
    task = task_of("regression")
    measured = task.measure(task.decide(prediction[labelled]), target[labelled].numpy())
    each = [measured[f"ccc_{name}"] for name in task.class_names]
    known = labelled & target[:, 0].isfinite()
    assert each[0] == pytest.approx(concordance(prediction[known, :1].double(), target[known, :1].double()).item())
    assert each[0] != pytest.approx(each[1])
    assert measured["ccc"] == pytest.approx(np.mean(each))
    assert metric_name(f"ccc_{task.class_names[0]}") == f"CCC of {task.class_names[0]}"
    assert set(Regression(("pain",)).metrics()) == {"ccc", "mae", "rmse"}


def test_units_are_those_of_the_labelled_finite_targets():
    _, target, labelled = random_rows(7)
    target[~labelled] = 1e6
    target[:4, 0] = torch.nan
    target[:, 1] = 5.0
    task = task_of("regression").fit(target, labelled)
    known = target[labelled & target[:, 0].isfinite(), 0]
    assert task.mean == pytest.approx((known.mean().item(), 5.0))
    assert task.scale == pytest.approx((known.std(correction=0).item(), 1.0))  # a constant has no spread


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_made_again_from_its_description(name):
    target, answer = right(name)
    known = torch.ones(len(target), dtype=torch.bool)
    task = task_of(name).fit(target, known).calibrate(answer, target, known)
    told = json.loads(json.dumps(describe_task(task)))
    again = make_task(told.pop("name"), tuple(told.pop("labels")), **told)
    assert vars(again).keys() == vars(task).keys()
    prediction = torch.randn(5, task.outputs, 2, 3) if name == "segmentation" else torch.randn(5, task.outputs)
    assert again.class_names == task.class_names
    assert np.array_equal(again.decide(prediction), task.decide(prediction))
    assert torch.equal(again.to_target_units(prediction), task.to_target_units(prediction))


# classification ------------------------------------------------------------------------------------------------------

codes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50)


@given(codes)
def test_classification_metrics_are_those_of_scikit_learn(pairs):
    prediction, target = (np.array(x) for x in zip(*pairs))
    assert metrics.accuracy(prediction, target) == pytest.approx(sk.accuracy_score(target, prediction))
    recalls = [np.mean(prediction[target == c] == c) for c in np.unique(target)]
    assert metrics.unweighted_accuracy(prediction, target) == pytest.approx(np.mean(recalls))
    known = {"labels": np.unique(target), "average": "macro", "zero_division": 0}
    assert metrics.unweighted_accuracy(prediction, target) == sk.recall_score(target, prediction, **known)
    f1 = []
    for c in np.union1d(prediction, target):
        hit = np.sum((prediction == c) & (target == c))
        f1.append(2 * hit / (np.sum(prediction == c) + np.sum(target == c)))
    assert metrics.macro_f1(prediction, target) == pytest.approx(np.mean(f1))
    assert metrics.macro_f1(prediction, target) == sk.f1_score(target, prediction, average="macro", zero_division=0)


@given(st.integers(0, 1000))
def test_cross_entropy_is_over_the_labelled_rows(seed):
    g = torch.Generator().manual_seed(seed)
    prediction = torch.randn(9, 3, generator=g, dtype=torch.float64, requires_grad=True)
    target, labelled = torch.randint(3, (9,), generator=g), torch.rand(9, generator=g) < 0.7
    labelled[0] = True
    task = task_of("classification")
    loss = task.loss(prediction, target.where(labelled, -1), labelled)
    assert task.loss(prediction, target.where(labelled, 99), labelled).item() == loss.item()
    p = prediction.detach().softmax(1).numpy()[labelled]
    assert loss.item() == pytest.approx(sk.log_loss(target[labelled], p, labels=[0, 1, 2]))
    loss.backward()
    one_hot = torch.nn.functional.one_hot(target, 3)
    expected = (prediction.detach().softmax(1) - one_hot) * labelled[:, None] / labelled.sum()
    torch.testing.assert_close(prediction.grad, expected)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_without_labels_cross_entropy_is_zero_with_a_gradient_of_zero(rows):
    prediction = torch.randn(rows, 3, requires_grad=True)
    loss = task_of("classification").loss(prediction, torch.full((rows,), -1), torch.zeros(rows, dtype=torch.bool))
    assert loss.item() == 0
    loss.backward()
    assert prediction.grad.abs().sum() == 0


def test_classification_trust_is_a_probability():
    teacher = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 5.0]], dtype=torch.float64, requires_grad=True)
    trust = task_of("classification").teacher_confidence(
        teacher, torch.tensor([1, 1, -1]), torch.tensor([True, True, False])
    )
    p = teacher.detach().softmax(1)
    torch.testing.assert_close(trust, torch.stack([p[0, 1], p[1, 1], p[2, 2]]))  # true class, true class, own choice
    assert not trust.requires_grad


# all ----------------------------------------------------------------------------------------------------------------


def right(name: str) -> tuple[Tensor, Tensor]:
    """Targets, and an answer that is nearly right about every row."""
    target = make_rows(name).target
    g = torch.Generator().manual_seed(0)
    if name == "regression":
        return target, target + 0.01 * torch.randn(target.shape, generator=g)
    answer = 9.0 * torch.nn.functional.one_hot(target.clamp(min=0), task_of(name).outputs).movedim(-1, 1)
    return target, answer + torch.rand(answer.shape, generator=g)


@pytest.mark.parametrize("name", TASKS)
def test_the_primary_metric_is_the_first_and_scores_are_signed(name):
    task = task_of(name)
    assert next(iter(task.metrics())) == task.primary
    target, answer = right(name)
    labelled, best = torch.ones(len(target), dtype=torch.bool), task.measure(task.metric_input(answer), target.numpy())
    assert list(best) == list(task.metrics())
    for metric, known in task.metrics().items():
        score = task.score(answer, target, labelled, metric)
        assert score > task.score(answer.flip(0), target, labelled, metric)
        assert abs(score) == pytest.approx(abs(best[metric]))
        assert (score >= 0) is known.higher_is_better or score == 0


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_over_labelled_rows_and_need_one(name):
    task = task_of(name)
    target, answer = right(name)
    some = torch.arange(len(target)) < 12
    whole = task.score(answer[some], target[some], some[some])
    target[~some] = 50.0 if name == "regression" else -1
    assert task.score(answer, target, some) == pytest.approx(whole)
    with pytest.raises(RunError, match="no labelled row"):
        task.score(answer, target, some & False)


@pytest.mark.parametrize("name", TASKS)
def test_match_is_least_at_the_teacher_which_gets_no_gradient(name):
    task = task_of(name)
    size = (8, task.outputs, 2, 3) if name == "segmentation" else (8, task.outputs)
    teacher, other = (torch.randn(size, requires_grad=True) for _ in range(2))
    assert task.match(teacher.detach(), teacher).item() == pytest.approx(0, abs=1e-6)
    loss = task.match(other, teacher)
    assert loss.item() > 0
    loss.backward()
    assert teacher.grad is None
    assert other.grad.abs().max() > 0


def test_groups_are_classes_where_there_are_classes():
    target = torch.tensor([2, 0, 2])
    assert torch.equal(Classification(("a", "b", "c")).class_codes(target), target)
    assert Regression(("v",)).class_codes(torch.zeros(3, 1)) is None


def test_what_is_decided():
    task = task_of("classification")
    assert task.decide(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])).tolist() == [1, 0]
    values = task_of("regression").decide(torch.tensor([[0.5, 1.5]], requires_grad=True))
    assert values.dtype == np.float64
    assert values.tolist() == [[0.5, 1.5]]


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"unknown task 'regresion'. Did you mean 'regression'"):
        make_task("regresion", ("v",))


@pytest.mark.parametrize("name", TASKS)
def test_the_documents_say_what_every_task_measures(name):
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    assert metric_name(task_of(name).primary).lower() in row.lower()
    assert f'"{name}"' in Config.__doc__
