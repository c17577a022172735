"""The adversarial stage of ADMD: the contract of the stage itself, who moves whom, and what a discriminator sees."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

from helpers.support import AVAILABLE, PRIVILEGED, cast, distillation_subject, make_rows, speech, task_of
from sidelight.methods import TrainState
from sidelight.methods.adversarial import AdversarialHallucination
from sidelight.testing import CHECKS, Subject


@cache
def stage(kind: str = "both") -> AdversarialHallucination:
    student = distillation_subject("mers", "classification", kind, tnet="encoder").fresh().student
    torch.manual_seed(0)
    teacher = speech("classification", kind)
    return AdversarialHallucination(copy.deepcopy(student), teacher, task_of("classification"), hidden=8)


def fresh(dtype: torch.dtype) -> AdversarialHallucination:
    made = copy.deepcopy(stage()).to(dtype)
    made.teacher = cast(made.teacher, dtype)
    return made


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check):
    if check.__name__ == "check_learns":
        pytest.skip("an adversarial step has no loss of its own that must fall; see the tests below")
    check(Subject(fresh, make_rows("classification", "both"), AVAILABLE, PRIVILEGED))


def test_only_hallucination_networks_and_critics_are_trained():
    names = {name.split(".")[1] if name.startswith("student") else "critics"
             for name, p in stage().named_parameters() if p.requires_grad}  # fmt: skip
    assert names == {"hallucinators", "critics"}


def test_the_critic_names_the_teachers_classes_and_what_is_made_up():
    """Trained against a hallucination network that stands still, it tells real features from made-up ones."""
    method, rows = fresh(torch.float32), make_rows("classification", "complete")
    critics = method.groups()["critic"]
    optimiser = torch.optim.Adam(critics, 3e-2)
    for _ in range(150):
        group, terms = next(iter(method.steps(rows, TrainState())))
        assert group == "critic"
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    method.eval()
    made = method.student(rows).vector("watch")
    said = method.teacher(rows).vector("watch")
    critic = method.critics["watch"]
    told = said.abs().sum(1) > 0  # rows of which this teacher's features are all zero are one and the same to anyone
    assert told.sum() >= len(rows) / 2
    assert (critic(said[told]).argmax(1) == rows.target[told]).float().mean() > 0.8
    assert (critic(made).argmax(1) == method.task.outputs).float().mean() > 0.8


def test_fooling_makes_features_of_the_class():
    """Against a critic that stands still, hallucinated features come to be taken for real ones of their class."""
    method, rows = fresh(torch.float32), make_rows("classification", "complete")
    optimisers = {name: torch.optim.Adam(p, 1e-2) for name, p in method.groups().items()}
    for number in range(200):
        for group, terms in method.steps(rows, TrainState(step=number)):
            if (group == "critic") is (number < 100):
                optimisers[group].zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                optimisers[group].step()
    method.eval()
    made = method.student(rows).vector("watch")
    assert (method.critics["watch"](made).argmax(1) == rows.target).float().mean() > 0.7
