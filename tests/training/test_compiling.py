"""`training.compile`: encoders are compiled while they are trained, and are the same modules before and after."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from helpers.support import AVAILABLE, make_network, make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.errors import ConfigError
from sidelight.methods import Supervised
from sidelight.training import compiling, fit
from sidelight.training.compiling import compiled_encoders, explain_uncompilable
from sidelight.utils.device import CPU

SETTINGS = TrainingConfig(2, 2, 8, device="cpu", least_steps=1, compile=True)


def supervised() -> Supervised:
    return Supervised(make_network(AVAILABLE, task_of("classification")), task_of("classification"))


def train(method: Supervised, settings: TrainingConfig) -> dict[str, Tensor]:
    rows = make_rows("classification", "both")
    fit(method, rows, rows, settings, seed=0)
    return method.state_dict()


def test_encoders_are_compiled_in_training_alone(monkeypatch):
    """torch.compile stands for itself here: loading it takes seconds."""
    calls = []

    def translate(function, **options):
        def run(*inputs):
            calls.append(options)
            return function(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", translate)
    method = supervised()
    plain = train(copy.deepcopy(method), replace(SETTINGS, compile=False))
    assert not calls
    compiled = train(method, SETTINGS)
    steps = 2 * -(-len(make_rows("classification", "both")) // 8)
    assert calls == [{"fullgraph": True, "backend": "inductor"}] * steps * len(AVAILABLE)
    assert list(compiled) == list(plain)
    assert all(torch.equal(compiled[name], plain[name]) for name in plain)
    assert all("forward" not in vars(module) for module in method.modules())


class Branching(nn.Module):
    """An encoder that torch.compile cannot translate as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum()) > 0 else self.layer(-x)


class Model(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"eda": encoder})


def test_recurrent_encoders_are_refused():
    with pytest.raises(ConfigError, match=r"the encoder of 'eda' .* recurrent"), compiled_encoders(Model(nn.GRU(3, 8))):
        pass


@pytest.mark.slow
def test_an_encoder_that_cannot_be_compiled_is_named(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    model = Model(Branching())
    with (
        compiled_encoders(model),
        pytest.raises(ConfigError, match=r"the encoder of 'eda' cannot be compiled: .*false"),
    ):
        model.encoders["eda"](torch.ones(2, 3))
    assert model.encoders["eda"](torch.ones(2, 3)).shape == (2, 8)


@pytest.mark.parametrize(
    ("changes", "device", "why"),
    [
        ({"stack": 4}, CPU, "stack=4"),
        ({"accumulate": 2}, CPU, "accumulate=2"),
        ({}, torch.device("mps"), "trained on mps"),
        ({}, CPU, "C\\+\\+ compiler, and finds no no-such-compiler"),
    ],
)
def test_settings_that_do_not_compile_are_refused(monkeypatch, changes, device, why):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=f"training.compile=true: .*{why}.* Set training.compile=false"):
        compiling.check_compile(replace(SETTINGS, **changes), device)
    compiling.check_compile(replace(SETTINGS, compile=False, **changes), device)


@pytest.mark.slow
def test_compiled_training_ends_in_the_weights_of_plain_training():
    """With torch's own compiler, in batches of several sizes; killed and resumed runs load the same names."""
    if why := explain_uncompilable(SETTINGS, CPU):
        pytest.skip(why)
    method = supervised()
    plain = train(copy.deepcopy(method), replace(SETTINGS, compile=False))
    compiled = train(copy.deepcopy(method), SETTINGS)
    assert list(compiled) == list(plain)
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-4, atol=1e-5)
    again = train(method, SETTINGS)
    assert all(torch.equal(again[name], compiled[name]) for name in plain)
