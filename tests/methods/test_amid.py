"""AMID: its equations on hand-computed cases, its stages and switches, and what does not reach what."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from helpers.slow import mostly_slow
from helpers.support import AT_ONCE, AVAILABLE, PRIVILEGED, SHAPES, build_standalone, standalone_parts, task_of
from sidelight.config import TrainingConfig, load_config
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.methods import MethodSpec, TrainState
from sidelight.methods.amid import AMID
from sidelight.methods.discriminators import Discriminators
from sidelight.networks.network import compute_outputs
from sidelight.testing import (
    CHECKS,
    Subject,
    check_nothing_frozen_untrained,
    check_steps_move_their_group_only,
    check_terms_are_finite_scalars,
)
from sidelight.training import fit

CLASSES = torch.tensor([0, 0, 0, 1, 2, 2])
SWITCHES = {
    "fixed teacher": {"fixed_teacher": True},
    "auxiliary trained too": {"fixed_auxiliary": False},
    "no D2": {"second_discriminator": False},
    "uniform weights": {"adaptive_weights": False},
    "nce": {"contrast": "nce"},
    "jeffreys": {"divergence": "jeffreys"},
}


def amid(kind: str = "complete", **options) -> AMID:
    method = build_standalone("amid", "classification", kind, **({"warmup": 0} | options))
    assert isinstance(method, AMID)
    return method


def rows(kind: str = "complete"):
    return standalone_parts("amid", "classification", kind).rows()


class Told(nn.Module):
    """A discriminator that says the row's only number."""

    def forward(self, x):
        return x


def told(**options) -> Discriminators:
    made = Discriminators(1, **options)
    made.first = Told()
    made.second = made.second and Told()
    return made


def log_d(x: float) -> float:
    return -math.log1p(math.exp(-x))


# the discriminators -------------------------------------------------------------------------------------------------


def test_equations_12_and_13_by_hand():
    """Six rows of classes 0 0 0 1 2 2: D1 sees all of them, D2 the five that have another of their class."""
    s, m = [0.3, -1.0, 0.5, 2.0, -0.2, 0.1], [1.0, 0.4, -0.6, 0.2, 1.5, -2.0]
    made = told()
    made.smooth.copy_(torch.tensor([math.log(3.0), 0.0]))  # λ = (¾, ¼)
    five = [0, 1, 2, 4, 5]
    fooled = -0.75 / 6 * sum(map(log_d, s)) - 0.25 / 5 * sum(log_d(s[v]) for v in five)
    right = [log_d(m[i]) + log_d(-s[i]) for i in range(6)]
    caught = -0.75 / 6 * sum(right) - 0.25 / 5 * sum(right[v] for v in five)
    student, teacher = torch.tensor(s)[:, None], torch.tensor(m)[:, None]
    assert made.fool(student, CLASSES).item() == pytest.approx(fooled, rel=1e-6)
    assert made.discriminate(student, teacher, CLASSES).item() == pytest.approx(caught, rel=1e-6)


def test_equation_14_by_hand():
    """Two epochs of two batches: λ̃ moves at the first batch of the next epoch, by the mean over pairs, not batches."""
    made = Discriminators(2)
    assert made.weights().tolist() == [0.5, 0.5]
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    pair, alone = torch.tensor([1, 1]), torch.tensor([-1])
    # M and S alike in both rows of one class: Φ(M_i, S_i) = 1, 1; across the rows 0, 0; then one row alone, Φ = 0
    made.observe(3, torch.stack([east, north]), torch.stack([east, north]), pair)
    made.observe(3, east[None], north[None], alone)
    assert made.smooth.tolist() == [0.0, 0.0]
    made.observe(4, east[None], east[None], alone)
    first, second = 0.1 * (1 - 2 / 3), 0.1 * (1 - 0.0)
    assert made.smooth.tolist() == pytest.approx([first, second])
    share = math.exp(first) / (math.exp(first) + math.exp(second))
    assert made.weights().tolist() == pytest.approx([share, 1 - share])
    # epoch 4 had Φ = 1 for D1 and no pair at all: λ̃ of D2 stays
    made.observe(5, east[None], east[None], alone)
    assert made.smooth.tolist() == pytest.approx([0.9 * first, second])


def test_ablations_of_the_weights():
    for made, shares in ((told(second=False), [1.0, 0.0]), (told(adaptive=False), [0.5, 0.5])):
        for epoch in range(3):
            made.observe(epoch, torch.eye(6), torch.eye(6).flip(0), CLASSES)
        assert made.weights().tolist() == shares
    assert told(second=False).fool(torch.tensor([[0.3], [-1.0]]), CLASSES[:2]).item() == pytest.approx(
        -(log_d(0.3) + log_d(-1.0)) / 2
    )


@pytest.mark.parametrize("size", [0, 1, 2])
def test_batches_without_a_pair_are_finite(size):
    torch.manual_seed(0)
    made = Discriminators(4)
    s, nobody = torch.randn(size, 4, requires_grad=True), torch.full((size,), -1)
    made.observe(0, s, s, nobody)
    for loss in (made.fool(s, nobody), made.discriminate(s, s, nobody)):
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(made.parameters()), retain_graph=True))


# the method ---------------------------------------------------------------------------------------------------------


@cache
def switched(name: str) -> AMID:
    return amid("both", **(AT_ONCE["amid"] | SWITCHES[name]))


OF_A_SWITCH = (check_steps_move_their_group_only, check_nothing_frozen_untrained, check_terms_are_finite_scalars)
"""What a switch changes: which parts are trained, and the terms. `test_registry.py` has all checks of the defaults."""


@pytest.mark.parametrize(
    "check", mostly_slow(CHECKS, OF_A_SWITCH), ids=lambda check: check.__name__.removeprefix("check_")
)
@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_keeps_the_contract(switch, check):
    built = switched(switch)
    check(Subject(lambda dtype: copy.deepcopy(built).to(dtype), rows("both"), AVAILABLE, PRIVILEGED))


def terms_of(method, batch, epoch: int = 0):
    """Group -> terms, in evaluation mode: without dropout."""
    return {step.group: step.terms for step in method.eval().steps(batch, TrainState(epoch, 10, 0))}


def test_the_terms_are_those_of_equation_17():
    method = amid()
    steps = terms_of(method, rows())
    assert list(steps) == ["discriminators", "main"]
    assert list(steps["main"]) == ["task", "teacher", "jsd", "mi student", "mi auxiliary", "adversarial"]
    assert method.weights == {"mi student": 4.0, "mi auxiliary": 1.6, "adversarial": 1.0}
    assert list(terms_of(amid(fixed_teacher=True), rows())["main"]) == ["task", "jsd", "mi student", "adversarial"]


def test_warm_up_is_classification_and_divergence_alone_and_leaves_the_discriminators():
    method = amid(warmup=2)
    batch, before = rows(), copy.deepcopy(method.discriminators.state_dict())
    for epoch in (0, 1):
        assert {g: list(t) for g, t in terms_of(method, batch, epoch).items()} == {"main": ["task", "teacher", "jsd"]}
    fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=8, least_steps=1), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in method.discriminators.state_dict().items())
    assert "adversarial" in terms_of(method, batch, 2)["main"]


def test_the_adversarial_loss_moves_no_weight_of_the_teacher_itself():
    """Neither M's MLP, nor the classifier, nor the auxiliary, nor the discriminators that are to be fooled by it."""
    method = amid(fixed_auxiliary=False)
    terms = terms_of(method, rows())["main"]
    named = {name: p for name, p in method.named_parameters() if not name.startswith("discriminators")}
    grads = torch.autograd.grad(terms["adversarial"], list(named.values()), allow_unused=True)
    moved = {name for name, g in zip(named, grads) if g is not None}
    assert moved == {name for name in named if name.startswith(("student.encoders", "student.fusion"))}


def test_teacher_and_student_share_the_encoders_and_the_classifier():
    method = amid()
    terms = terms_of(method, rows())["main"]
    named = dict(method.student.named_parameters())
    grads = torch.autograd.grad(terms["teacher"], list(named.values()), allow_unused=True)
    moved = {name.split(".")[0] for name, g in zip(named, grads) if g is not None and g.abs().sum() > 0}
    assert moved == {"encoders", "head"}


def test_the_auxiliary_is_pretrained_on_the_privileged_modalities_and_fixed():
    """What it says is kept, so that a step neither runs it nor reads what is privileged."""
    method, parts, batch = amid(), standalone_parts("amid", "classification", "complete"), rows()
    said = compute_outputs(parts.trained_network(PRIVILEGED), batch, batch.index)
    fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=8, least_steps=1), seed=0)
    kept = method.auxiliary(batch.index)
    assert torch.equal(kept.pop("embedding"), said.embedding)
    assert {m: torch.equal(x, said.vector(m)) for m, x in kept.items()} == dict.fromkeys(PRIVILEGED, True)
    assert method.reads == AVAILABLE
    assert not [name for name in method.state_dict() if name.startswith("auxiliary")]


def test_an_auxiliary_that_is_not_fixed_starts_there_and_is_trained_on():
    method = amid(fixed_auxiliary=False)
    start = standalone_parts("amid", "classification", "complete").trained_network(PRIVILEGED).state_dict()
    begun = copy.deepcopy(method.auxiliary.state_dict())
    assert begun
    assert all(torch.equal(start[name], value) for name, value in begun.items())
    assert method.reads is None
    fit(method, rows(), rows(), TrainingConfig(epochs=2, batch_size=8, least_steps=1), seed=0)
    assert any(not torch.equal(begun[name], value) for name, value in method.auxiliary.state_dict().items())


def test_a_kept_auxiliary_says_what_the_network_says():
    """The first terms are those of the same network run at every step."""
    batch = rows("both")
    kept, run = terms_of(amid("both"), batch), terms_of(amid("both", fixed_auxiliary=False), batch)
    for name in ("teacher", "jsd", "mi student", "mi auxiliary"):
        assert kept["main"][name].item() == pytest.approx(run["main"][name].item(), rel=1e-5)


def test_a_fixed_teacher_is_the_folds_own():
    method, parts, batch = amid(fixed_teacher=True), standalone_parts("amid", "classification", "complete"), rows()
    said = compute_outputs(parts.trained_network([*AVAILABLE, *PRIVILEGED]), batch, batch.index)
    fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=8, least_steps=1), seed=0)
    kept = method.teacher(batch.index)
    assert torch.equal(kept["embedding"], said.embedding)
    assert torch.equal(kept["prediction"], said.prediction)


def test_building_it_again_gives_the_same_bits():
    first, second = amid().state_dict(), amid().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_without_a_privileged_modality_teach_the_task_alone():
    """What the teacher would say of them must not matter: their inputs move the task loss and nothing else."""
    method, batch = amid(), rows()
    lacks = torch.arange(len(batch)) < 5
    absent = dict.fromkeys(PRIVILEGED, ~lacks)
    inputs = batch.inputs | {"phone": batch.inputs["phone"].clone().requires_grad_()}
    steps = terms_of(method, replace(batch, inputs=inputs, present=absent))
    for name, value in (steps["main"] | steps["discriminators"]).items():
        if not value.requires_grad or name == "discriminate":  # its rows are detached
            continue
        grad = torch.autograd.grad(value, inputs["phone"], retain_graph=True, allow_unused=True)[0]
        assert grad is not None
        assert bool(grad[lacks].abs().sum() > 0) is (name == "task")
        assert grad[~lacks].abs().sum() > 0
    watch_alone = terms_of(method, replace(batch, present={"watch": ~lacks}))  # the pulse is there: they are taught
    every = terms_of(method, batch)
    assert watch_alone["main"]["task"].item() == pytest.approx(every["main"]["task"].item())
    assert watch_alone["main"]["jsd"].item() != pytest.approx(steps["main"]["jsd"].item())


def test_rows_without_a_label_take_part_in_what_needs_none():
    method, batch = amid("partly labelled"), rows("partly labelled")
    inputs = batch.inputs | {"phone": batch.inputs["phone"].clone().requires_grad_()}
    for name, value in terms_of(method, replace(batch, inputs=inputs))["main"].items():
        grad = torch.autograd.grad(value, inputs["phone"], retain_graph=True)[0]
        assert bool(grad[~batch.labelled].abs().sum() > 0) is (name in ("jsd", "adversarial"))
        assert grad[batch.labelled].abs().sum() > 0


@pytest.mark.filterwarnings("ignore:options.amid.warmup:sidelight.errors.SidelightWarning")
def test_it_learns_and_the_teacher_and_the_discriminators_with_it():
    method, batch = amid(warmup=25), rows()
    history = fit(
        method, batch, batch, TrainingConfig(epochs=50, patience=50, learning_rate=0.01, least_steps=1), seed=0
    )
    first, begun, last = history.epochs[0], history.epochs[25], history.epochs[-1]
    assert all(last[name] < 0.9 * first[name] for name in ("task", "teacher"))
    assert last["discriminate"] < 0.8 * begun["discriminate"]
    assert history.best_score > 0.65
    every, own = len(batch), len(batch) // 3  # of one class
    nothing = own * math.log(every) - (every - own) * math.log1p(-1 / every)  # the bound where all rows look the same
    assert sum(e["mi student"] for e in history.epochs[35:]) / 15 < nothing


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"temperature": 0.0}, "temperature"), ({"beta": 1.0}, "beta"), ({"warmup": -1}, "warmup")],
)
def test_settings_that_cannot_work_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=f"options.amid.{sentence}"):
        amid(**options)


def test_a_warm_up_as_long_as_the_training_is_told():
    config = load_config({"options.amid.warmup": 3, "training.epochs": 3})
    with pytest.warns(SidelightWarning, match="warmup=3 leaves none of 3 epochs"):
        MethodSpec.parse("amid").check(config, task_of("classification"), SHAPES)
