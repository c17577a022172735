"""The terms of 2022 to 2026: what they refuse, and what their settings change."""

from __future__ import annotations

import pytest
import torch

from helpers.support import distillation_subject, make_network, make_rows, task_of
from sidelight.config import load_config
from sidelight.errors import ConfigError
from sidelight.methods import CachedOutputs, MethodSpec, Teacher, TrainState
from sidelight.methods.wasserstein import WKDF
from sidelight.networks.network import Output
from sidelight.tasks import make_task


@pytest.mark.parametrize(
    ("name", "options", "task", "sentence"),
    [
        (
            "kl",
            {"standardize": True},
            "anti-spoofing",
            "kl.standardize needs three classes or more, and the task has 2",
        ),
        ("dkd", {"standardize": True}, "anti-spoofing", "dkd.standardize needs three classes or more"),
        ("dkd", {}, "one", "'dkd' needs 2 classes or more, and the task has 1"),
        ("dist", {}, "one", "'dist' needs 2 classes or more"),
        ("wkd-l", {}, "one", "'wkd-l' needs 2 classes or more"),
        ("wkd-f", {"over": "positions"}, "classification", "over=positions needs maps"),
        ("dkd", {}, "regression", "use 'mse'"),
        ("mad", {}, "regression", "use 'sp'"),
    ],
)
def test_what_a_term_cannot_do_is_refused_before_training(name, options, task, sentence):
    made = make_task("classification", ("only",)) if task == "one" else task_of(task)
    with pytest.raises(ConfigError, match=sentence):
        MethodSpec.parse(name).losses(load_config({"options": {name: options}}), made)


def test_a_cell_of_one_position_is_refused():
    maps = Teacher(CachedOutputs(Output(torch.zeros(2, 3, 4, 4), torch.zeros(2, 8, 4, 3), {})))
    rows, task = make_rows("segmentation", n=2), task_of("segmentation")
    student = make_network(("phone",), task)
    with pytest.raises(ConfigError, match=r"wkd-f.grid=4: the fused maps have 4×3 positions.* Take a smaller grid"):
        WKDF("positions").prepare(student, maps, rows, task)
    WKDF("positions", grid=2).prepare(student, maps, rows, task)


@pytest.mark.parametrize(
    ("name", "options", "task"),
    [
        ("kl", {"standardize": True}, "classification"),
        pytest.param("kl", {"standardize": True}, "segmentation", marks=pytest.mark.slow),
        ("dkd", {"standardize": True}, "classification"),
        ("wkd-l", {"costs": "centroid"}, "classification"),
        ("wkd-l", {"costs": "uniform"}, "classification"),
        pytest.param("wkd-f", {"over": "positions", "grid": 1}, "segmentation", marks=pytest.mark.slow),
        ("fdcmkd", {"split": "random"}, "classification"),
        ("fdcmkd", {"reduction": "mean"}, "classification"),
        pytest.param("fdcmkd", {"reduction": "mean"}, "segmentation", marks=pytest.mark.slow),
        ("mad", {"weigh": "columns"}, "classification"),
    ],
)
def test_every_setting_changes_what_is_learnt(name, options, task):
    gradients = []
    for chosen in ({}, options):
        subject = distillation_subject(name, task, "both", config=load_config({"options": {name: chosen}}))
        method = subject.fresh().eval()
        terms = method.terms(subject.used(method), TrainState())
        sum(value for term, value in terms.items() if term.startswith(name)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in method.student.parameters() if p.grad is not None]))
    assert all(g.isfinite().all() and g.any() for g in gradients)
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize("crossfit", [False, True])
def test_costs_of_classes_come_from_labelled_rows_of_one_teacher(crossfit):
    subject = distillation_subject("wkd-l", "classification", "both", crossfit=crossfit)
    costs = subject.fresh().parts["wkd-l"].class_costs
    assert costs.shape == (3, 3)
    assert (costs[~torch.eye(3, dtype=torch.bool)] > 0.001).all()
