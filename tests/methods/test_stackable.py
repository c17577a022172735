"""Every method that says that it can be trained stacked keeps to it, closely; and which methods do not say so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers.slow import mostly_slow
from sidelight.losses import squared_error
from sidelight.methods import METHODS, DistillationLoss, Hallucination
from sidelight.methods.teacher_outputs import CachedOutputs
from sidelight.networks.build import feature_shape
from sidelight.networks.hallucination import make_hallucinators
from sidelight.networks.network import Output, compute_outputs
from sidelight.testing import ContractError, Subject, check_stacked_models_do_not_mix, make_subject, stack_checks
from sidelight.testing.subjects import distillation_subject, tasks_of
from sidelight.testing.synthetic import AVAILABLE, PRIVILEGED, make_rows, task_of, trained_teacher

ALONE = {
    "crd": "its memory bank holds and changes the rows of one model",
    "crcd": "it draws anchors at random",
    "admd": "its critics step before the student",
    "amid": "its discriminators step before the student",
    "osmd": "it draws the positions that it compares at random",
    "c2kd": "it keeps rows by their values, and its proxies normalise over the batch",
    "mmanet": "it looks for weak rows by their values",
    "mst": "it routes rows by their values",
    "mtnet": "a method of several stages",
    "mt-pkdot": "it chooses a teacher for each batch by its values",
    "mt-pkdot-released": "it chooses a teacher for each batch by its values",
}
"""Methods that are trained one by one, and why."""
STACKABLE = [name for name in METHODS if name not in ALONE]
CLOSE = {"dask": 1e-7}
"""Where rounding is larger: two rows of the teacher are almost equal, and angles divide by their distance."""


def test_the_methods_that_can_be_trained_stacked_say_so():
    assert {name for name, method in METHODS.items() if not method.stackable} == set(ALONE)


STACKED = [
    (name, task)
    for name in (*STACKABLE, "pkdot+kl", "mse+rkd")
    for task in ("classification", "regression", "segmentation")
    if task in tasks_of(name)
]
ON_EVERY_TASK = ("mse+rkd",)


@pytest.mark.parametrize(
    ("name", "task"), mostly_slow(STACKED, lambda case: case[1] == tasks_of(case[0])[0] or case[0] in ON_EVERY_TASK)
)
def test_a_model_of_a_stack_is_what_it_is_alone(name, task, monkeypatch):
    monkeypatch.setattr(stack_checks, "TOLERANCE", CLOSE.get(name, 1e-10))
    left_out = check_stacked_models_do_not_mix(make_subject(name, task))
    assert left_out is None or not task_of(task).stackable


@pytest.mark.parametrize("name", ["kl", "pkdot", "rkd"])
def test_rows_of_another_fold_of_a_crossfitted_teacher_do_not_count(name, monkeypatch):
    monkeypatch.setattr(stack_checks, "TOLERANCE", 1e-10)
    subject = distillation_subject(name, "classification", "both", crossfit=True)

    def with_mask(dtype):
        method = subject.fresh(dtype)
        ((named, teacher),) = method.teachers.items()
        fold = teacher.teacher_fold.clone()
        fold[::5] = -1
        method.teachers[named] = type(teacher)(teacher.outputs, fold, torch.arange(24) % 7 != 2)
        return method

    masked = Subject(with_mask, subject.rows, AVAILABLE, PRIVILEGED)
    assert check_stacked_models_do_not_mix(masked) is None
    terms = with_mask(torch.float64).terms(masked.used(method := with_mask(torch.float64)).to(torch.float64), None)
    assert terms.keys() == {"task", name}
    assert method.stackable


@pytest.mark.parametrize("loss", ["mse", "cosine", "mmd"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_tnets_are_trained_stacked(loss, task, monkeypatch):
    monkeypatch.setattr(stack_checks, "TOLERANCE", 1e-10)
    rows = make_rows(task, "both")
    network = trained_teacher(task)

    def made(dtype):
        torch.manual_seed(0)
        tnets = make_hallucinators(feature_shape(network), AVAILABLE, PRIVILEGED)
        cached = CachedOutputs(compute_outputs(network, rows, rows.index))
        return Hallucination(tnets, cached, cached, task_of(task), loss).to(dtype)

    assert check_stacked_models_do_not_mix(Subject(made, rows, AVAILABLE, PRIVILEGED, exports=False)) is None


class OfAllRows(DistillationLoss):
    """A loss of a user that ignores padding."""

    stackable = True

    def forward(self, student: Output, teacher: Output, batch, task) -> Tensor:
        return squared_error(student.embedding, teacher.embedding)


class OfRealRows(OfAllRows):
    """The same loss, which reads `Batch.valid`."""

    def forward(self, student: Output, teacher: Output, batch, task) -> Tensor:
        return squared_error(student.embedding, teacher.embedding, batch.valid)


class OfModality(OfAllRows):
    """A loss that reads `Batch.present` but not which rows are padding."""

    def forward(self, student: Output, teacher: Output, batch, task) -> Tensor:
        return squared_error(student.embedding, teacher.embedding, batch.present["watch"])


def test_a_loss_of_a_user_is_held_to_what_it_says():
    assert check_stacked_models_do_not_mix(make_subject(OfRealRows, "classification")) is None
    for broken in (OfAllRows, OfModality):
        with pytest.raises(ContractError, match=f"term '{broken.__name__.lower()}' of model . with .* padding rows"):
            check_stacked_models_do_not_mix(make_subject(broken, "classification"))
