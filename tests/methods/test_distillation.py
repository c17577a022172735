"""Losses compare, and T-Nets read, in training what is deployed: dropout stands before the head and nowhere else."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from helpers.support import (
    AT_ONCE,
    AVAILABLE,
    DENSE_SHAPES,
    PRIVILEGED,
    SHAPES,
    build_standalone,
    distillation_subject,
    make_rows,
    standalone_parts,
    task_of,
)
from sidelight.config import Config, NetworkConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods import METHODS, CachedOutputs, DistillationLoss, MethodSpec, Supervised, Teacher, TrainState
from sidelight.networks.build import build_network, describe, rebuild
from sidelight.networks.fusions import FUSIONS, MAP_FUSIONS
from sidelight.networks.network import Network, Output, compute_outputs
from sidelight.training import fit

TASK = task_of("classification")
ROWS = make_rows("classification", n=96)
TERMS = [name for name, method in METHODS.items() if issubclass(method, DistillationLoss)]
OF_PREDICTIONS = ["kl", "mse", "dkd", "dist", "wkd-l"]
"""Terms that match predictions, which dropout precedes, as in any network."""
PARTS_OF_PREDICTIONS = ("labels", "jsd", "classes")
"""Of terms of several scalars, those that do."""


def network(seed: int, fusion: str = "concat", dropout: float = 0.5) -> Network:
    torch.manual_seed(seed)
    config = NetworkConfig(width=32, dropout=dropout, fusion=fusion, encoder="cnn", tokens=2)
    return build_network(SHAPES, tuple(SHAPES), TASK.outputs, config)


@functools.cache
def trained() -> Network:
    method = Supervised(network(0), TASK)
    fit(method, ROWS, ROWS, TrainingConfig(epochs=40, patience=40, learning_rate=0.01, least_steps=1), seed=0)
    return method.network


class Encoded(nn.Module):
    """A perfect hallucinator: the privileged modality's own features."""

    reads_inputs = True

    def __init__(self, m: str, encoder: nn.Module):
        super().__init__()
        self.m, self.encoder = m, encoder

    def forward(self, batch: Batch) -> Tensor:
        features: Tensor = self.encoder(batch.inputs[self.m])
        return features.unsqueeze(1) if features.dim() == 2 else features


def as_student(source: Network) -> Network:
    """The same network with hallucinated slots, which terms on hallucinated features need."""
    made = copy.deepcopy(source)
    slots = {m: Encoded(m, made.encoders[m]) for m in PRIVILEGED}
    return Network({m: made.encoders[m] for m in AVAILABLE}, made.fusion, made.head, slots)


class DroppedOut(Network):
    """A network whose fused embedding and features stand after dropout, as they once did."""

    def forward(self, batch: Batch) -> Output:
        said = super().forward(batch)
        features = {m: nn.functional.dropout(f, 0.5, self.training) for m, f in said.features.items()}
        return Output(said.prediction, nn.functional.dropout(said.fused, 0.5, self.training), features)


def value(term: DistillationLoss, student: Network, teacher: Teacher, training: bool) -> float:
    """The term of a network on all rows, in training or in evaluation mode."""
    with torch.no_grad():
        said = student.train(training)(ROWS)
        torch.manual_seed(7)  # the same anchors, negatives and positions
        made = term.eval()(said, teacher(ROWS), ROWS, TASK)
    if isinstance(made, Tensor):
        return float(made)
    return float(sum(x for name, x in made.items() if name not in PARTS_OF_PREDICTIONS))


def left_over(name: str, student: type[Network] = Network) -> float:
    """How far training mode takes a term from its value on the teacher's own network: a share of what it loses to an
    untrained network."""
    teacher, own, other = (
        Teacher(CachedOutputs(compute_outputs(trained(), ROWS, ROWS.index))),
        as_student(trained()),
        network(1),
    )
    term = MethodSpec.parse(name).losses(Config(), TASK)[name]
    torch.manual_seed(0)
    term.prepare(own, teacher, ROWS, TASK)
    if name in ("fitnet", "autoencoder", "crd", "gmc", "ccl"):
        learn_its_own(term, own, teacher)
    own.__class__ = student
    least = value(term, own, teacher, training=False)
    return (value(term, own, teacher, training=True) - least) / (value(term, as_student(other), teacher, False) - least)


def learn_its_own(term: DistillationLoss, own: Network, teacher: Teacher) -> None:
    """Trains the regressors and maps of a term on the teacher's own network, so that there it is near its minimum."""
    term.eval()
    optimiser = torch.optim.Adam(term.parameters(), lr=0.01)
    with torch.no_grad():
        said = own.eval()(ROWS)
    for _ in range(60):
        made = term(said, teacher(ROWS), ROWS, TASK)
        optimiser.zero_grad()
        (made if isinstance(made, Tensor) else torch.stack(list(made.values())).sum()).backward()
        optimiser.step()


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_near_its_minimum_on_the_teachers_own_network_in_training_mode(name):
    if name in OF_PREDICTIONS:
        assert left_over(name) > 0
        return
    assert abs(left_over(name)) <= 1e-4


@pytest.mark.parametrize("name", [name for name in TERMS if name not in OF_PREDICTIONS])
def test_that_check_bites_where_dropout_stands_before_what_is_compared(name):
    assert abs(left_over(name, DroppedOut)) > 0.1


def still(module: nn.Module) -> nn.Module:
    """In training mode, but for batch normalisation, whose statistics are no dropout."""
    module.train()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
    return module


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[m], b[m]) for m in a)


def dense(fusion: str) -> tuple[Network, Batch]:
    shapes = {m: DENSE_SHAPES[m] for m in ("phone", "watch")}
    encoder = "resnet34-pyramid" if fusion == "squeeze-excitation" else "auto"
    config = NetworkConfig(width=8, dropout=0.5, fusion=fusion, encoder=encoder)
    return build_network(shapes, tuple(shapes), 3, config, size=(8, 12)), make_rows("segmentation", n=4)


@pytest.mark.parametrize("fusion", [*FUSIONS, *(f"maps: {name}" for name in MAP_FUSIONS)])
def test_features_and_fused_embedding_are_the_same_in_training_and_the_prediction_is_not(fusion):
    torch.manual_seed(0)
    kind, _, name = fusion.rpartition(": ")
    net, rows = dense(name) if kind else (network(0, name), ROWS)
    with torch.no_grad():
        deployed, training = net.eval()(rows), still(net)(rows)
    assert same(training.features, deployed.features)
    assert torch.equal(training.fused, deployed.fused)
    assert not torch.allclose(training.prediction, deployed.prediction)
    half = net.fusion.head_dropout(torch.ones(64, 32))
    assert set(half.unique().tolist()) == {0.0, 2.0}  # the configured rate, and what stays is scaled up


def test_dropout_before_the_head_leaves_out_whole_channels_of_a_map():
    torch.manual_seed(0)
    net, _ = dense("concat")
    dropped = net.train().fusion.head_dropout(torch.ones(16, 8, 2, 3))
    assert (dropped == dropped[:, :, :1, :1]).all()
    assert 0 < (dropped == 0).float().mean() < 1


def test_what_a_t_net_reads_in_the_student_is_what_it_was_trained_on():
    subject = distillation_subject("pkdot", "classification", "complete", tnet=True)
    student = subject.factory(torch.float32).student
    student.fusion.head_dropout.p = 0.5
    read: list[dict[str, Tensor]] = []
    for tnet in student.hallucinators.values():
        tnet.register_forward_pre_hook(lambda _, inputs: read.append(dict(inputs[0])))
    with torch.no_grad():
        deployed, training = student.eval()(subject.rows), student.train()(subject.rows)
    n = len(student.hallucinators)
    assert len(read) == 2 * n
    assert all(same(read[0], other) for other in read[1:])
    assert same(training.features, deployed.features)


@pytest.mark.parametrize(
    ("method", "options", "dropped"),
    [
        ("amid", AT_ONCE["amid"], {"task", "teacher", "jsd"}),
        ("amid", AT_ONCE["amid"] | {"fixed_auxiliary": False}, {"task", "teacher", "jsd"}),
        ("osmd", {"jdn": "feature"}, {"task"}),
        ("osmd", {"jdn": "relation", "ctn": "autoencoder"}, {"task"}),
        ("osmd", {}, {"task", "jdn"}),  # whose second half is a divergence of predictions
        ("mtnet", {}, {"task"}),
        ("mt-pkdot", {}, {"task"}),
        ("mst", {}, {"task", "distil", "balance", "gate"}),  # the gate reads the student's prediction
        ("c2kd", {}, {"task", "teacher", "student proxy", "teacher proxy"}),
    ],
    ids=[
        "amid",
        "amid, learning auxiliary",
        "osmd, features",
        "osmd, relations",
        "osmd",
        "mtnet",
        "mt-pkdot",
        "mst",
        "c2kd",
    ],
)
def test_of_methods_of_their_own_stages_only_terms_on_predictions_meet_dropout(method, options, dropped):
    made = still(build_standalone(method, "classification", "complete", **options))
    for module in made.modules():
        if hasattr(module, "head_dropout"):
            module.head_dropout.p = 0.5
    rows = standalone_parts(method, "classification", "complete").rows().materialize()
    drawn: list[dict[str, Tensor]] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        with torch.no_grad():
            steps = [step.terms for step in made.steps(rows, TrainState(0, 10, 0))]
        drawn.append({name: x for terms in steps for name, x in terms.items()})
    moved = {name for name in drawn[0] if not torch.equal(drawn[0][name], drawn[1][name])}
    assert moved == dropped


def test_a_network_from_before_is_built_from_its_description():
    """Encoders once had dropout of their own: layers keep the numbers under which files from then hold weights."""
    net = network(0)
    described = describe(net)
    for entry in described["encoders"]:
        entry["dropout"] = 0.5
    made = rebuild(described)
    made.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(made.eval()(ROWS).prediction, net.eval()(ROWS).prediction)
    assert {f"encoders.phone.layers.{i}.weight" for i in (0, 3)} <= set(net.state_dict())
