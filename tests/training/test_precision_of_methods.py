"""Every method in bfloat16: what must be float32 is, every weight still learns, and training ends where it would."""

from __future__ import annotations

import copy
import math
import statistics
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.support import hallucination_subject, supervised_subject
from sidelight.config import TrainingConfig
from sidelight.methods import METHODS, Distillation, DistillationLoss, Method, TrainState
from sidelight.tasks import TASKS
from sidelight.testing import Subject, make_subject
from sidelight.testing.subjects import tasks_of
from sidelight.training import fit
from sidelight.training.precision import Precision
from sidelight.utils.device import CPU

pytestmark = pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning")
HALF = (torch.bfloat16, torch.float16)
EXACT = {
    "_softmax", "_log_softmax", "softmax", "logsumexp", "exp", "exp_", "exp2", "expm1", "log", "log1p", "log2",
    "log_sigmoid_forward", "softplus", "xlogy", "kl_div", "nll_loss_forward", "nll_loss2d_forward",
    "binary_cross_entropy", "mse_loss", "smooth_l1_loss", "huber_loss", "var", "var_mean", "std", "std_mean",
    "linalg_vector_norm", "norm", "pow", "square", "sqrt", "rsqrt", "cdist", "_cdist_forward", "_euclidean_dist",
    "cosine_similarity",
}  # fmt: skip
"""Operators of similarities, distances, probabilities and variances, which half precision must not reach."""


class Watch(TorchDispatchMode):
    """Counts the operators of `EXACT` that read half precision, and the products that are computed in it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: Counter[str] = Counter()
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        half = any(isinstance(x, torch.Tensor) and x.dtype in HALF for x in args)
        if half and name in EXACT:
            self.wrong[name] += 1
        self.products += half and name in ("mm", "addmm", "bmm", "convolution", "linear")
        return func(*args, **(kwargs or {}))


def subjects() -> Iterator:
    """Every method on one of its tasks; on the others too in the slow set."""
    for task in TASKS:
        yield pytest.param("supervised", task, id=f"supervised-{task}")
    for loss in ("mse", "cosine", "mmd"):
        yield pytest.param(f"t-net {loss}", "classification", id=f"t-net-{loss}")
    for name in METHODS:
        for i, task in enumerate(tasks_of(name)):
            yield pytest.param(name, task, id=f"{name}-{task}", marks=[pytest.mark.slow] * (i > 0))


def subject_of(name: str, task: str) -> Subject:
    if name == "supervised":
        return supervised_subject("teacher", task, "both")
    if name.startswith("t-net"):
        return hallucination_subject(task, "both", name.split()[1])
    return make_subject(name, task)


def step(method: Method, subject: Subject, precision: Precision) -> tuple[dict, set[str], Watch]:
    """The terms of a batch, the parameters that get a gradient, and what was watched."""
    torch.manual_seed(0)
    method.train()
    terms, moved, groups = {}, set(), method.groups()
    names = {id(p): name for name, p in method.named_parameters()}
    batch = subject.used(method)
    with Watch() as watch:
        for group, values in precision.steps(method, batch, TrainState()):
            assert not torch.is_autocast_enabled("cpu")
            terms |= values
            loss = torch.stack(list(values.values())).sum()
            grads = precision.gradients(loss, groups[group], retain_graph=True)
            for p, g in zip(groups[group], grads, strict=True):
                if g is not None and bool(g.count_nonzero()):
                    assert g.dtype == torch.float32
                    moved.add(names[id(p)])
    return terms, moved, watch


@pytest.mark.parametrize(("name", "task"), [*subjects()])
def test_half_precision_reaches_no_similarity_and_every_weight_learns(name, task):
    subject = subject_of(name, task)
    method = subject.fresh()
    expected, moved, plain = step(copy.deepcopy(method), subject, Precision())
    terms, also, watch = step(method, subject, Precision("bf16", CPU))
    assert not watch.wrong
    assert plain.products == 0 < watch.products
    assert {value.dtype for value in terms.values()} == {torch.float32}
    assert also == moved
    for term, value in terms.items():
        assert value.item() == pytest.approx(expected[term].item(), rel=0.2, abs=0.02), term


LOSSES = [name for name, method in METHODS.items() if issubclass(method, DistillationLoss)]


@pytest.mark.parametrize("name", LOSSES)
def test_terms_of_half_precision_outputs_are_those_of_the_same_outputs_in_float32(name):
    subject = make_subject(name, tasks_of(name)[0])
    method = subject.fresh()
    assert isinstance(method, Distillation)
    batch = subject.used(method)
    with torch.autocast("cpu", torch.bfloat16):
        student = method.student(batch)
    assert student.fused.dtype == torch.bfloat16
    found = []
    for autocast in (True, False):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = student if autocast else student.to_float32()
            found.append(copy.deepcopy(method)._teacher_terms("", method.teachers[""], output, batch))
    one, two = found
    assert {value.dtype for value in one.values()} == {torch.float32}
    assert {k: v.item() for k, v in one.items()} == {k: v.item() for k, v in two.items()}


FLOOR = 0.02
"""A difference of task losses that is no difference: rows, classes and an untrained network are of the size of 1."""


def final_losses(name: str, task: str, steps: int, seeds: int, kind: str) -> list[float]:
    """The task loss of several trainings over the last tenth of their epochs; seeds change the order and the masks."""
    subject = make_subject(name, task)
    per_epoch = -(-len(subject.rows) // 16)
    epochs = steps // per_epoch
    settings = TrainingConfig(epochs, epochs, 16, 1e-3, device="cpu", precision=kind, least_steps=1)
    select = subject.rows.index_select(subject.rows.labelled.nonzero()[:8, 0])
    found = []
    for seed in range(seeds):
        history = fit(subject.fresh(), subject.rows, select, settings, seed=seed, teacher_fold=subject.teacher_fold)
        assert len(history.epochs) == epochs
        last = history.epochs[-max(epochs // 10, 1) :]
        found.append(statistics.mean(epoch["task"] for epoch in last))
    return found


def assert_within_noise(name: str, task: str, steps: int, seeds: int) -> None:
    """The mean over seeds in bfloat16 differs from that in float32 by at most 5 standard errors, or the floor."""
    exact, half = (final_losses(name, task, steps, seeds, kind) for kind in ("32", "bf16"))
    difference = statistics.mean(half) - statistics.mean(exact)
    error = math.sqrt((statistics.variance(exact) + statistics.variance(half)) / seeds)
    print(
        f"| {name} | {task} | {statistics.mean(exact):.4f} ± {statistics.stdev(exact):.4f} "
        f"| {statistics.mean(half):.4f} ± {statistics.stdev(half):.4f} | {difference:+.4f} |"
    )
    assert abs(difference) <= max(5 * error, FLOOR)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kl", "pkdot-sidelight"])
def test_a_hundred_steps_in_bfloat16_end_within_the_noise_of_float32(name):
    assert_within_noise(name, "classification", 100, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_thousand_steps_in_bfloat16_end_within_the_noise_of_float32(name):
    """`-s` prints the table of docs/training.md."""
    assert_within_noise(name, tasks_of(name)[0], 1000, 3)
