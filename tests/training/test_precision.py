"""`training.precision`: autocast inside of steps alone, float32 weights and scores, and the scaling of float16."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers.resumed import Killed, Killer, same, trained
from helpers.slow import mostly_slow
from helpers.support import AVAILABLE, make_network, make_rows, task_of
from sidelight.config import BalanceConfig, TrainingConfig, difference, load_config
from sidelight.config.schema import Config
from sidelight.errors import ConfigError, RunError
from sidelight.methods import Method, Step, Supervised, TrainState
from sidelight.networks.network import compute_outputs, predict_in_chunks
from sidelight.testing import make_subject
from sidelight.training import fit, precision
from sidelight.training.precision import Precision, check_precision, explain_unsupported
from sidelight.utils import device as devices
from sidelight.utils.device import CPU

ROWS = make_rows("classification", "both")
SETTINGS = TrainingConfig(3, 3, 8, device="cpu", least_steps=1)
pytestmark = pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning")


@pytest.fixture
def float16_on_the_cpu(monkeypatch):
    """CPUs compute float16 too, only slowly; the settings refuse it."""
    monkeypatch.setattr(precision, "explain_unsupported", lambda name, device: "")


def supervised(task: str = "classification") -> Supervised:
    return Supervised(make_network(AVAILABLE, task_of(task)), task_of(task))


# autocast -----------------------------------------------------------------------------------------------------------


class Twice(Method):
    """Two steps of two groups; notes the type of a product inside of each."""

    def __init__(self):
        super().__init__(task_of("classification"))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.seen = []

    def groups(self):
        return {"first": list(self.first.parameters()), "second": list(self.second.parameters())}

    def steps(self, batch, state):
        with torch.no_grad():
            self.first(torch.ones(2, 4))  # its weights are cast without a gradient
        for name, layer in (("first", self.first), ("second", self.second)):
            made = layer(torch.ones(2, 4))
            self.seen.append(made.dtype)
            yield Step(name, {name: made.float().square().mean()})


@pytest.mark.parametrize(("name", "kind"), [("32", torch.float32), ("bf16", torch.bfloat16), ("16", torch.float16)])
def test_autocast_acts_inside_of_the_method_alone(name, kind):
    method = Twice()
    steps = Precision(name, CPU).steps(method, ROWS, TrainState())
    for step in steps:
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        loss = sum(step.terms.values())
        grads = torch.autograd.grad(loss, method.groups()[step.group])
        assert all(g.dtype == torch.float32 and g.abs().sum() > 0 for g in grads)
    assert method.seen == [kind, kind]
    steps = Precision(name, CPU).steps(method, ROWS, TrainState())
    next(steps)
    steps.close()
    assert not torch.is_autocast_enabled("cpu")


def test_scores_and_stored_outputs_are_those_of_float32():
    method = supervised()
    rows = torch.arange(len(ROWS))
    expected = compute_outputs(method.network, ROWS, rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = compute_outputs(method.network, ROWS, rows)
        answers = predict_in_chunks(method.network, ROWS, rows, lambda output: output.prediction)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert torch.equal(found.fused, expected.fused)
    assert torch.equal(answers, expected.prediction)
    assert answers.dtype == torch.float32


def test_weights_and_optimizer_stay_in_float32_and_the_training_differs(tmp_path):
    plain, half = supervised(), supervised()
    fit(plain, ROWS, ROWS, SETTINGS, seed=1)
    history = fit(
        half, ROWS, ROWS, replace(SETTINGS, precision="bf16"), seed=1, checkpoint=tmp_path / "c", checkpoint_seconds=0
    )
    state = torch.load(tmp_path / "c", weights_only=True)["state"]
    floats = [x for s in state["optimisers"]["main"]["state"].values() for x in s.values() if x.is_floating_point()]
    assert {x.dtype for x in (*floats, *half.state_dict().values())} <= {torch.float32, torch.int64}
    assert not all(torch.equal(a, b) for a, b in zip(plain.parameters(), half.parameters()))
    assert history.best_score == half.score(ROWS)  # of the network that is left, in float32


# scaling ------------------------------------------------------------------------------------------------------------


class Overflow(Method):
    """One number; from step 3 to step 4 its gradient overflows float16 at the scale that scaling starts with."""

    learns_from = "all"

    def __init__(self, size: float = 1e36, steps: tuple[int, ...] = (3, 4)):
        super().__init__(task_of("classification"))
        self.x, self.y = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.size, self.large = size, steps

    def groups(self):
        return {"x": [self.x], "y": [self.y]}

    def steps(self, batch, state):
        yield Step("x", {"x": self.x * (self.size if state.step in self.large else 1.0)})
        yield Step("y", {"y": self.y * 1.0})

    def score(self, select):
        return -self.y.item()


def test_a_step_that_overflows_is_left_out_and_the_scale_is_halved():
    method, settings = Overflow(), TrainingConfig(1, 1, 8, 0.5, 0.0, optimizer="sgd", momentum=0.0, least_steps=1)
    made = Precision("16", CPU)
    optimizers = {name: torch.optim.SGD(p, 0.5) for name, p in method.groups().items()}
    scales = []
    for step in range(6):
        for group, terms in made.steps(method, ROWS, TrainState(step=step)):
            made.update(sum(terms.values()), method.groups()[group], optimizers[group])
        scales.append(made.state_dict()["scale"])
    assert scales == [2.0**16] * 3 + [2.0**15] + [2.0**14] * 2
    assert method.x.item() == -0.5 * 4  # two of six steps are left out
    assert method.y.item() == -0.5 * 6  # those of another group are not
    assert settings.momentum == 0


def test_gradients_that_underflow_float16_are_kept_by_scaling():
    """Of 2⁻²⁶ nothing is left in float16; scaled it is 2⁻¹⁰."""
    layer = nn.Linear(1, 1, bias=False)
    made = Precision("16", CPU)
    with made.autocast():
        loss = layer(torch.ones(1, 1)).float().sum() * 2.0**-26
    (plain,) = torch.autograd.grad(loss, [layer.weight], retain_graph=True)
    (scaled,) = made.gradients(loss, [layer.weight])
    assert (plain.item(), scaled.item()) == (0.0, 2.0**-26)


@pytest.mark.parametrize(
    ("kind", "balance"),
    mostly_slow(
        [(kind, balance) for kind in ("bf16", "16") for balance in ("fixed", "target-ratio", "gradnorm")],
        [("bf16", "fixed"), ("16", "gradnorm")],
    ),
)
def test_killed_and_resumed_is_uninterrupted(kind, balance, tmp_path, float16_on_the_cpu):
    settings = replace(SETTINGS, epochs=6, patience=6, precision=kind)
    subject = make_subject("pkdot+kl", "classification")
    sizes, more = (len(subject.rows) - 12, 12), {"balance": BalanceConfig(balance)}
    whole = trained(subject.fresh(), subject.rows, sizes, settings, **more)
    checkpoint = tmp_path / "state.pt"
    with pytest.raises(Killed):
        trained(subject.fresh(), subject.rows, sizes, settings, checkpoint=checkpoint, callback=Killer(3), **more)
    torch.manual_seed(99)
    assert same(
        trained(subject.fresh(), subject.rows, sizes, settings, checkpoint=checkpoint, callback=Killer(99), **more),
        whole,
    )


def test_the_scale_is_in_the_checkpoint(tmp_path, float16_on_the_cpu):
    settings = TrainingConfig(
        4, 4, 8, 0.5, 0.0, optimizer="sgd", momentum=0.0, precision="16", device="cpu", least_steps=1
    )
    whole = trained(Overflow(), ROWS, (len(ROWS) - 8, 8), settings)
    with pytest.raises(Killed):
        trained(Overflow(), ROWS, (len(ROWS) - 8, 8), settings, checkpoint=tmp_path / "c", callback=Killer(2))
    stored = torch.load(tmp_path / "c", weights_only=True)["state"]["precision"]
    assert stored["scale"] == 2.0**15  # step 3 is done, step 4 is not
    assert same(
        trained(Overflow(), ROWS, (len(ROWS) - 8, 8), settings, checkpoint=tmp_path / "c", callback=Killer(99)), whole
    )


@pytest.mark.parametrize("balance", ["target-ratio", "gradnorm"])
def test_adaptive_weights_are_nearly_those_of_float32(balance, float16_on_the_cpu):
    def curve(name):
        method = make_subject("kl", "classification").fresh()
        rows = make_subject("kl", "classification").rows
        settings = replace(SETTINGS, epochs=2, precision=name)
        return fit(method, rows, rows, settings, seed=1, balance=BalanceConfig(balance)).epochs[-1]

    exact = curve("32")
    for name in ("bf16", "16"):
        assert {
            k: pytest.approx(v, rel=0.1) for k, v in exact.items() if k not in ("seconds", "select")
        }.items() <= curve(name).items()


# refusals -----------------------------------------------------------------------------------------------------------


def test_overflow_in_a_term_advises_bfloat16(float16_on_the_cpu):
    class Large(Supervised):
        def terms(self, batch, state):
            return {"task": super().terms(batch, state)["task"] * torch.full((), 1e5).half()}

    method = Large(make_network(AVAILABLE, task_of("classification")), task_of("classification"))
    with pytest.raises(RunError, match=r"'task' became inf .*float16 ends at 65504: set training.precision=bf16"):
        fit(method, ROWS, ROWS, replace(SETTINGS, precision="16"), seed=1)
    with pytest.raises(RunError, match=r"Lower training\.learning_rate") as error:
        fit(method, ROWS, ROWS, replace(SETTINGS, precision="bf16"), seed=1)
    assert "float16" not in str(error.value)


def test_gradients_that_overflow_at_every_scale_are_an_error(float16_on_the_cpu):
    method = Overflow(3e38, tuple(range(2, 99)))
    method.weights = {"x": 1e3}
    with pytest.raises(RunError, match=r"overflow float16 in epoch \d+ at every scale.*training.precision=bf16"):
        fit(method, ROWS, ROWS, TrainingConfig(9, 9, 4, precision="16", device="cpu", least_steps=1), seed=1)


def test_what_a_device_cannot_is_refused_with_the_mend(monkeypatch):
    with pytest.raises(ConfigError, match=r"training.precision=16: .*CUDA GPU.* trained on cpu. Set bf16"):
        fit(supervised(), ROWS, ROWS, replace(SETTINGS, precision="16"), seed=1)
    assert explain_unsupported("bf16", CPU) == explain_unsupported("32", torch.device("cuda:0")) == ""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(precision, "supports_bf16", lambda device: False)
    assert devices.supports_bf16(CPU)
    with pytest.raises(
        ConfigError, match=r"Tesla V100.* does not multiply bfloat16 .*precision=16 \(with scaling\) or 32"
    ):
        check_precision("bf16", torch.device("cuda:0"))
    assert explain_unsupported("16", torch.device("cuda:0")) == ""
    assert "training.precision=32" in explain_unsupported("bf16", torch.device("cpu"))
    assert "no autocast" in explain_unsupported("bf16", torch.device("meta"))


# settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["32", "bf16", "16", 32, 16])
def test_numbers_and_texts_are_read(given, tmp_path):
    (tmp_path / "e.yaml").write_text(f"data: phone-watch\ntraining: {{precision: {given}}}\n")
    for config in (
        load_config({"data": "x", "training": {"precision": given}}),
        load_config(None, [f"training.precision={given}"]),
        load_config(tmp_path / "e.yaml"),
    ):
        assert config.training.precision == str(given)


def test_precision_belongs_to_the_experiment():
    one, two = Config(), copy.deepcopy(Config())
    two.training.precision = "bf16"
    assert difference(one, two) == {"training.precision": ("32", "bf16")}
    for wrong in ("fp8", 8, True):
        with pytest.raises(ConfigError, match=r"training\.precision.*32, bf16, 16"):
            load_config({"data": "x", "training": {"precision": wrong}})
    with pytest.raises(ConfigError, match=r"training\.precision"):
        load_config({"data": "x", "training": {"amp": True}})
