"""Optimisers and schedules: torch's own, the same after a resume, and nothing changes at the defaults."""

from __future__ import annotations

import warnings
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from helpers.support import AVAILABLE, make_network, make_rows, task_of
from sidelight.config import BalanceConfig, TrainingConfig, load_config
from sidelight.config.encoder_names import PARTS
from sidelight.errors import ConfigError
from sidelight.methods import Method, Step, Supervised, TrainState
from sidelight.networks.network import Network
from sidelight.training import fit
from sidelight.training.loop import TrainingLoop
from sidelight.training.optimizers import build_optimizer, map_parameters_to_parts

ROWS = make_rows("classification", "both")
HINTS = get_type_hints(TrainingConfig)
OPTIMIZERS, SCHEDULES = get_args(HINTS["optimizer"]), get_args(HINTS["schedule"])
SIZE, EPOCHS = 8, 5
STEPS = EPOCHS * -(-len(ROWS) // SIZE)


def settings(**more) -> TrainingConfig:
    return TrainingConfig(**{"epochs": EPOCHS, "patience": EPOCHS, "batch_size": SIZE} | more, least_steps=1)


class Bowl(Method):
    """A point that rolls towards another, whatever the rows are: a loop of plain torch can repeat it exactly."""

    def __init__(self):
        super().__init__(task_of("classification"))
        self.point = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))

    def loss(self) -> torch.Tensor:
        return (self.point * torch.tensor([1.0, 0.5, 2.0]) - 0.3).square().sum()

    def terms(self, batch, state):
        return {"task": self.loss()}

    def score(self, select):
        return -float(self.loss().detach())  # the last epoch need not be the best: the path is compared

    def deployed_network(self):
        raise NotImplementedError


def plain(config: TrainingConfig) -> list[torch.Tensor]:
    """Where the point is after every epoch, by a loop of torch alone."""
    bowl, path = Bowl(), []
    rate, decay = config.learning_rate, config.weight_decay
    optimiser = {
        "adamw": lambda p: optim.AdamW(p, lr=rate, weight_decay=decay, fused=True),
        "adam": lambda p: optim.Adam(p, lr=rate, weight_decay=decay, fused=True),
        "sgd": lambda p: optim.SGD(p, lr=rate, momentum=config.momentum, weight_decay=decay, fused=True),
    }[config.optimizer](bowl.parameters())
    schedule = {
        "constant": lambda o: None,
        "cosine": lambda o: CosineAnnealingLR(o, T_max=STEPS),
        "onecycle": lambda o: OneCycleLR(o, max_lr=rate, total_steps=STEPS, cycle_momentum=config.momentum > 0),
    }[config.schedule](optimiser)
    for step in range(STEPS):
        optimiser.zero_grad()
        bowl.loss().backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()
        if (step + 1) % (STEPS // EPOCHS) == 0:
            path.append(bowl.point.detach().clone())
    return path


class Path:
    """A watch that keeps where the point is."""

    def __init__(self):
        self.points: list[torch.Tensor] = []

    def __call__(self, method, epoch):
        if epoch:
            self.points.append(method.point.detach().clone())

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_loop_is_torchs_own(optimizer, schedule):
    config = settings(optimizer=optimizer, schedule=schedule, learning_rate=0.02, weight_decay=0.01)
    watch = Path()
    fit(Bowl(), ROWS, ROWS, config, seed=0, callback=watch)
    expected = plain(config)
    assert len(watch.points) == len(expected) == EPOCHS
    assert all(torch.equal(a, b) for a, b in zip(watch.points, expected, strict=True))


def test_sgd_without_momentum_has_none_in_a_cycle():
    config = settings(optimizer="sgd", schedule="onecycle", momentum=0, learning_rate=0.02)
    watch = Path()
    fit(Bowl(), ROWS, ROWS, config, seed=0, callback=watch)
    assert all(torch.equal(a, b) for a, b in zip(watch.points, plain(config), strict=True))


def fresh() -> Supervised:
    return Supervised(make_network(AVAILABLE, task_of("classification")), task_of("classification"))


def trained(config: TrainingConfig, **more) -> dict[str, torch.Tensor]:
    method = fresh()
    fit(method, ROWS, ROWS, config, seed=2, checkpoint_seconds=0, **more)
    return method.state_dict()


class Stop(Exception):
    pass


class StopAt(Path):
    def __init__(self, epoch):
        self.epoch = epoch

    def __call__(self, method, epoch):
        if epoch == self.epoch:
            raise Stop


@pytest.mark.parametrize("stop", [2, 4])
@pytest.mark.parametrize(("optimizer", "schedule"), [("sgd", "onecycle"), ("adam", "cosine"), ("adamw", "onecycle")])
def test_a_resumed_run_has_the_same_bits(tmp_path, optimizer, schedule, stop):
    config = settings(optimizer=optimizer, schedule=schedule, learning_rate=0.05, learning_rates={"encoders": 0.01})
    whole, file = trained(config), tmp_path / "state.pt"
    with pytest.raises(Stop):
        trained(config, checkpoint=file, callback=StopAt(stop))
    assert file.exists()
    resumed = trained(config, checkpoint=file, callback=StopAt(-1))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_defaults_make_the_optimiser_that_there_always_was():
    method = fresh()
    params = list(method.parameters())
    made = build_optimizer(params, TrainingConfig(least_steps=1), {})
    assert type(made) is optim.AdamW
    assert [group["params"] for group in made.param_groups] == [params]
    assert made.defaults == optim.AdamW(params, lr=3e-3, weight_decay=1e-4, fused=True).defaults


def test_parts_move_at_their_own_rate():
    method = fresh()
    parts = map_parameters_to_parts(method)
    network = next(m for m in method.modules() if isinstance(m, Network))
    assert {parts[p] for p in network.encoders.parameters()} == {"encoders"}
    assert set(parts) == set(network.parameters())
    config = settings(optimizer="sgd", learning_rate=0.1, learning_rates={"encoders": 0.01})
    made = build_optimizer(list(method.parameters()), config, parts)
    rates = {p: group["lr"] for group in made.param_groups for p in group["params"]}
    assert rates == {p: 0.01 if part == "encoders" else 0.1 for p, part in parts.items()}
    still = trained(settings(learning_rates={"encoders": 1e-30}, weight_decay=0))
    before = fresh().state_dict()
    names = [n for n in before if ".encoders." in n and before[n].is_floating_point()]
    assert names
    for name in names:
        torch.testing.assert_close(still[name], before[name], rtol=0, atol=1e-20)
    assert any(not torch.equal(still[n], before[n]) for n in before if ".head." in n)


class Late(Bowl):
    """A group that is not moved in the first steps, as a critic in its warm-up."""

    def __init__(self):
        super().__init__()
        self.critic = nn.Parameter(torch.ones(2))

    def groups(self):
        return {"main": [self.point], "critic": [self.critic]}

    def steps(self, batch, state):
        if state.step > 3:
            yield Step("critic", {"critic": self.critic.square().sum()})
        yield Step("main", {"task": self.loss()})


def test_a_group_that_moves_late_is_on_the_same_schedule_and_nothing_warns():
    method = Late()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(method, ROWS, ROWS, settings(optimizer="sgd", schedule="onecycle", learning_rate=0.1), seed=0)
    assert not torch.equal(method.critic, torch.ones(2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.optimizer=sdg", "unknown value of training.optimizer 'sdg'. Did you mean 'sgd'"),
        ("training.optimiser=sgd", "unknown setting 'training.optimiser'. Did you mean 'training.optimizer'"),
        ("training.schedule=onecylce", "unknown value of training.schedule 'onecylce'. Did you mean 'onecycle'"),
        ("training.momentum=1", "training.momentum must be at least 0 and below 1, got 1"),
        ("training.learning_rates.encoder=1e-3", "unknown part of training.learning_rates 'encoder'. Did you mean"),
        ("training.learning_rates.encoders=fast", "training.learning_rates.encoders: expected a number, not 'fast'"),
        ("training.learning_rates.encoders=0", "training.learning_rates.encoders: expected a number above 0, not 0"),
        ("training.learning_rates=1e-3", "is a group of settings"),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert message in str(caught.value)


def test_rates_of_parts_are_numbers_however_they_are_written(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text("data: phone-watch\ntraining:\n  learning_rates: {encoders: 1e-3, fusion: 1}\n")
    config = load_config(file, ["training.learning_rates.head=0.1"])
    assert config.training.learning_rates == {"encoders": 1e-3, "fusion": 1.0, "head": 0.1}
    assert set(config.training.learning_rates) <= set(PARTS)


class Filter(Method):
    """A convolution of channels-last rows, whose weight gets a gradient of other strides."""

    def __init__(self):
        super().__init__(task_of("classification"))
        torch.manual_seed(0)
        self.layer = nn.Conv2d(8, 4, 3, bias=False).double()
        self.rows = torch.randn(2, 8, 6, 6, dtype=torch.float64).to(memory_format=torch.channels_last)

    def terms(self, batch, state):
        return {"task": self.layer(self.rows).square().mean()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_of_other_strides_meets_its_own_weight(name):
    method, alone = Filter(), Filter()
    (gradient,) = torch.autograd.grad(alone.terms(None, None)["task"], alone.layer.weight)
    assert gradient.stride() != alone.layer.weight.stride()
    loop = TrainingLoop(method, settings(optimizer=name), 8, 1, BalanceConfig(), None, None, torch.device("cpu"))
    plain = build_optimizer([alone.layer.weight], settings(optimizer=name), {})
    plain.param_groups[0]["fused"] = False
    for _ in range(2):
        loop.update("main", method.terms(None, None), TrainState())
        (alone.layer.weight.grad,) = torch.autograd.grad(alone.terms(None, None)["task"], alone.layer.weight)
        plain.step()
    torch.testing.assert_close(method.layer.weight, alone.layer.weight, rtol=1e-12, atol=1e-12)
