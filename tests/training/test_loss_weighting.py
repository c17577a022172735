"""How terms are weighed: closed forms of every schedule, and that resuming continues them to the bit."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from helpers.small import fold_models, make_data
from helpers.support import SHAPES, distillation_subject, standalone_subject, task_of
from sidelight.config import BalanceConfig, TrainingConfig, load_config
from sidelight.errors import ConfigError
from sidelight.experiment.assemble import run_job
from sidelight.experiment.plan import Job
from sidelight.methods import METHODS, MethodSpec, TrainState
from sidelight.training import fit
from sidelight.training.loss_weighting import (
    GradientRatio,
    GradNorm,
    LossWeighting,
    TargetRatio,
    build_loss_weighting,
)  # fmt: skip

WEIGHTS = {"kl": 0.5}


def terms(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def test_constant_weights_and_one_where_none_is_named():
    balance = LossWeighting(WEIGHTS, BalanceConfig("fixed"))
    assert balance.combine(terms(task=1.0, kl=2.0, other=3.0), TrainState()).item() == 1 + 0.5 * 2 + 3


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.0), (1, 0.25), (4, 1.0), (9, 1.0)])
def test_warm_up_spares_the_task_loss_and_critics(epoch, share):
    balance = LossWeighting(WEIGHTS, BalanceConfig("fixed", warmup=4))
    assert balance.combine(terms(task=1.0, kl=2.0), TrainState(epoch)).item() == 1 + share
    assert balance.combine(terms(critic=3.0), TrainState(epoch)).item() == 3


def test_target_ratio_holds_every_other_term_at_its_share_of_the_task_loss():
    balance = TargetRatio({}, BalanceConfig("target-ratio", ratio=0.1))
    values = terms(task=2.0, near=0.01, far=-40.0)
    loss = balance.combine(values, TrainState())
    assert loss.item() == pytest.approx(2.0 + 0.2 - 0.2)
    loss.backward()
    assert values["near"].grad.item() == pytest.approx(0.2 / 0.01)  # the factor is a constant
    assert balance.combine(terms(task=0.0, near=1.0), TrainState()).item() == pytest.approx(
        0.2
    )  # no labelled row: the last
    assert balance.combine(terms(task=1.0, near=0.0), TrainState()).item() == pytest.approx(1.0)
    assert balance.compute_factors(terms(task=1.0, near=1e-9))["near"] == 1000.0


class Two(nn.Module):
    """Two terms whose gradients on the shared weight are `sizes` long."""

    def __init__(self, *sizes: float):
        super().__init__()
        self.shared, self.sizes = nn.Parameter(torch.ones(1)), sizes

    def terms(self) -> dict[str, torch.Tensor]:
        return {name: size * self.shared.sum() for name, size in zip(("task", "kl"), self.sizes)}


def test_gradient_ratio_holds_every_other_gradient_at_its_share_of_the_tasks():
    two = Two(2.0, 50.0)
    balance = GradientRatio({"kl": 0.4}, BalanceConfig("gradient-ratio", ratio=0.5), lambda: [two.shared])
    other = torch.ones(1, requires_grad=True)
    combined = balance.combine(two.terms() | {"aside": 9 * other.sum()}, TrainState())
    combined.backward()
    assert two.shared.grad.item() == pytest.approx(2.0 * 1.5)  # whatever the weight
    assert other.grad.item() == 9  # what does not reach the shared weights keeps its weight
    unlabelled = {"task": torch.zeros(()), "kl": two.terms()["kl"]}
    assert balance.compute_factors(unlabelled)["kl"] == pytest.approx(0.5 * 2.0 / (0.4 * 50.0))  # the last task's
    two.sizes = (2.0, 1e-9)
    assert balance.compute_factors(two.terms())["kl"] == 1000.0


def test_gradnorm_brings_gradients_to_one_size():
    """Losses that do not fall have the same pace, so the factors' fixed point is w_i ∝ 1 / |∇L_i|, of sum 2."""
    two = Two(1.0, 4.0)
    balance = GradNorm({}, BalanceConfig("gradnorm", alpha=1.5), lambda: [two.shared])
    for _ in range(400):
        balance.compute_factors(two.terms())
    assert balance.current_factors["task"] == pytest.approx(1.6, abs=0.05)
    assert balance.current_factors["kl"] == pytest.approx(0.4, abs=0.05)


def test_gradnorm_favours_the_term_that_learns_slowly():
    two = Two(1.0, 1.0)
    balance = GradNorm({}, BalanceConfig("gradnorm", alpha=1.5), lambda: [two.shared])
    balance.compute_factors(two.terms())
    two.sizes = (1.0, 0.5)  # the second has halved, the first has not moved
    sizes = {"task": 1.0, "kl": 1.0}
    balance._update_factors(sizes, {"task": 1.0, "kl": 0.5})
    assert balance.current_factors["task"] > 1 > balance.current_factors["kl"]
    assert sum(balance.current_factors.values()) == pytest.approx(2.0)


def test_gradnorm_leaves_out_what_does_not_reach_the_shared_weights():
    two = Two(1.0, 4.0)
    balance = GradNorm({}, BalanceConfig("gradnorm"), lambda: [two.shared])
    other = torch.ones(1, requires_grad=True)
    for _ in range(50):
        factors = balance.compute_factors(two.terms() | {"aside": 9 * other.sum(), "still": torch.zeros(())})
    assert factors["aside"] == factors["still"] == 1.0
    assert sum(balance.current_factors.values()) == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["fixed", "target-ratio", "gradient-ratio", "gradnorm"])
def test_the_loop_weighs_and_resumes_to_the_bit(kind, tmp_path):
    subject = distillation_subject("pkdot+kl", "classification", "both", tnet=True)
    config, settings = BalanceConfig(kind, warmup=2), TrainingConfig(epochs=6, patience=6, batch_size=8, least_steps=1)

    def trained(**more):
        method = subject.fresh()
        fit(method, subject.rows, subject.rows, settings, seed=1, balance=config, **more)
        return method.state_dict()

    class Stop(Exception):
        pass

    class Callback:
        def __call__(self, method, epoch):
            if epoch == 4:
                raise Stop

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    whole, path = trained(), tmp_path / "state.pt"
    with pytest.raises(Stop):
        trained(checkpoint=path, checkpoint_seconds=0, callback=Callback())
    resumed = trained(checkpoint=path)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    other = subject.fresh()
    fit(other, subject.rows, subject.rows, settings, seed=1, balance=BalanceConfig("fixed"))
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in whole.items())


def test_a_method_says_how_it_is_weighed_unless_the_settings_do():
    method = distillation_subject("kl", "classification", "both", tnet=False).fresh()
    assert type(build_loss_weighting(method, BalanceConfig())) is LossWeighting
    method.balance = "target-ratio"
    assert type(build_loss_weighting(method, BalanceConfig(ratio=0.3))) is TargetRatio
    assert type(build_loss_weighting(method, BalanceConfig("fixed"))) is LossWeighting
    assert type(build_loss_weighting(method, BalanceConfig("gradnorm"))) is GradNorm
    assert type(build_loss_weighting(method, BalanceConfig("gradient-ratio"))) is GradientRatio


ALONE = [name for name, method in METHODS.items() if not method.check_study]
"""The methods that suit a student of one available modality."""


@pytest.mark.parametrize(
    ("kind", "task", "methods"),
    [
        ("gradnorm", "classification", ALONE),
        ("target-ratio", "classification", ["mmanet"]),
        pytest.param("gradnorm", "classification", ["mmanet"], marks=pytest.mark.slow),
        pytest.param("target-ratio", "classification", ALONE, marks=pytest.mark.slow),
        pytest.param("gradnorm", "segmentation", ["pkdot", "osmd"], marks=pytest.mark.slow),
        pytest.param("target-ratio", "segmentation", ["pkdot", "osmd"], marks=pytest.mark.slow),
        ("gradient-ratio", "classification", ["pkdot", "pkdot+kl"]),
        pytest.param("gradient-ratio", "classification", ALONE, marks=pytest.mark.slow),
    ],
)
def test_every_method_is_trained_with_every_balance_through_all_of_its_stages(kind, task, methods, tmp_path):
    made = fold_models(
        tmp_path, make_data(task, n=64, groups=8), methods=methods, balance={"kind": kind}, training={"epochs": 1},
        options={"amid": {"warmup": 0}, "mmanet": {"begin": 0}}, **METHODS[methods[0]].check_study,
    )  # fmt: skip
    for name in methods:
        run_job(made, Job(name, "", 1.0, 0, 0))
    assert {p.parent.name.split("-l1")[0] for p in tmp_path.glob("jobs/*/job.json")} >= {"teacher", *methods}


def lengths(value: torch.Tensor, weights: list[nn.Parameter]) -> float:
    if not value.requires_grad:
        return 0.0
    grads = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    return sum(float(g.norm()) for g in grads if g is not None)


@pytest.mark.parametrize(
    ("name", "slots"),
    [(name, "auto") for name in METHODS]
    + [(name, slots) for name in ("fitnet+kl", "cmkd+mers", "dask+mse", "gmc") for slots in ("t-net", "encoder")],
)
def test_gradnorm_compares_every_term_that_teaches_the_student(name, slots):
    """A factor that never moves would be constant weights under another name."""
    recipe = MethodSpec.parse(name)
    if recipe.multi_stage:
        subject = standalone_subject(name, "classification", "complete")
    else:
        tnet = recipe.hallucinates(load_config({"student.hallucinate": slots}))
        subject = distillation_subject(name, "classification", "complete", tnet=tnet)
    method = subject.fresh().train()
    student = [p for p in method.deployed_network().parameters() if p.requires_grad]
    steps = [step.terms for step in method.steps(subject.rows, TrainState())]
    compared = {
        name: lengths(v, method.shared_parameters()) for terms in steps if "task" in terms for name, v in terms.items()
    }
    reached = {name: lengths(v, student) for terms in steps if "task" in terms for name, v in terms.items()}
    assert compared["task"] > 0
    assert len(compared) > 1 or name == "admd"  # whose last stage is the task loss alone
    # `complete` trains the modules of a student that completes its modalities, which no other term reaches.
    assert [name for name, size in reached.items() if size and not compared[name] and name != "complete"] == []


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("fitnet+cmkd", {}, "reach the student's encoders and hallucinators"),
        ("fitnet", {"student.freeze": True}, "encoders, and student.freeze keeps the encoders"),
        ("cmkd", {"student.freeze": True, "student.hallucinate": "t-net"}, "student.freeze keeps the encoders"),
    ],
)
def test_gradnorm_is_refused_where_terms_share_no_weight(name, settings, sentence):
    config = load_config(settings | {"balance.kind": "gradnorm"})
    with pytest.raises(ConfigError, match=rf"the terms of method '{re.escape(name)}' share no weight.*{sentence}"):
        MethodSpec.parse(name).check(config, task_of("classification"), SHAPES)
    MethodSpec.parse(name).check(load_config(settings), task_of("classification"), SHAPES)
    MethodSpec.parse("cmkd+kl").check(load_config({"balance.kind": "gradnorm"}), task_of("classification"), SHAPES)


def test_gradnorm_says_that_there_is_nothing_to_compare():
    with pytest.raises(ConfigError, match="these terms share none"):
        GradNorm({}, BalanceConfig("gradnorm"), list).combine(terms(task=1.0, kl=2.0), TrainState())


def test_a_balance_out_of_range_is_named():
    with pytest.raises(ConfigError, match=r"balance\.ratio must be a number above 0, got 0"):
        load_config({"balance.ratio": 0})
    with pytest.raises(ConfigError, match=r"unknown value of balance\.kind 'gradnrom'\. Did you mean 'gradnorm'"):
        load_config({"balance": {"kind": "gradnrom"}})
