"""OS-MD: its equations on hand-computed cases, its branches and ablations, and what reaches what."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from helpers.slow import mostly_slow
from helpers.small import fold_models, make_data
from helpers.support import AVAILABLE, PRIVILEGED, build_standalone, standalone_parts, task_of
from sidelight.config import BalanceConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.export import Student
from sidelight.losses import gaussian_mmd, joint_adaptation, rkd, squared_error
from sidelight.methods import CachedOutputs, TrainState
from sidelight.methods.osmd import OSMD, Adaptation
from sidelight.networks.build import describe, feature_shape, make_head, rebuild
from sidelight.networks.cross_translation import TransformBlocks
from sidelight.networks.fusions import CrossTranslation, MapCrossTranslation, make_fusion
from sidelight.networks.network import Network, Output, compute_outputs
from sidelight.testing import (
    CHECKS,
    Subject,
    check_nothing_frozen_untrained,
    check_steps_move_their_group_only,
    check_terms_are_finite_scalars,
)
from sidelight.training import fit
from sidelight.training.loss_weighting import build_loss_weighting

ABLATIONS = {
    "-JDN": {"jdn": "none"},
    "-JDN+FKD": {"jdn": "feature"},
    "-JDN+RKD": {"jdn": "relation"},
    "-CTN": {"ctn": "none"},
    "-CTN+AE": {"ctn": "autoencoder"},
}


def osmd(kind: str = "complete", task: str = "classification", **options) -> OSMD:
    method = build_standalone("osmd", task, kind, **options)
    assert isinstance(method, OSMD)
    return method


def rows(kind: str = "complete", task: str = "classification") -> Batch:
    return standalone_parts("osmd", task, kind).rows().materialize()


def terms_of(method: OSMD, batch: Batch) -> dict[str, torch.Tensor]:
    """In evaluation mode: without dropout, by running statistics."""
    return method.eval().terms(batch, TrainState())


class Same(nn.Module):
    """Says the mean of the only slot's tokens."""

    def forward(self, features):
        return next(iter(features.values())).mean(1)


def heard(features: torch.Tensor, prediction: torch.Tensor, task: str = "classification") -> Adaptation:
    """L_JDN against a branch that said this of every row; a hallucinated feature is its own prediction."""
    branch = Network({"watch": nn.Identity()}, Same(), nn.Identity())
    said = CachedOutputs(Output(prediction, features[:, 0], {"watch": features}))
    return Adaptation("joint", branch, said, task_of(task), positions=256)


def a_batch(n: int, present: torch.Tensor | None = None) -> Batch:
    there = {} if present is None else {"watch": present}
    return Batch({}, torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.bool), there, torch.arange(n), {})


# the equations ------------------------------------------------------------------------------------------------------


def test_equation_2_by_hand():
    """Two rows each, of one number: every pair's kernel written out."""
    s, p = [0.0, 2.0], [1.0, 5.0]
    every = s + p
    sigma = sum((u - v) ** 2 for u, v in product(every, every)) / (4 * 3) / 4

    def k(u: float, v: float) -> float:
        return sum(math.exp(-((u - v) ** 2) / (sigma * 2**i)) for i in range(5))

    def mean(a: list[float], b: list[float]) -> float:
        return sum(k(u, v) for u, v in product(a, b)) / 4

    expected = mean(s, s) - 2 * mean(s, p) + mean(p, p)
    made, real = torch.tensor(s)[:, None, None], torch.tensor(p)[:, None, None]
    adaptation = heard(real, torch.zeros(2, 1))
    assert adaptation.distance(made, real).item() == pytest.approx(expected, rel=1e-5)


def test_equation_5_by_hand():
    """p = (¾, ¼) and (½, ½), q = (½, ½) and (¼, ¾), a mean over rows."""
    p = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
    q = torch.tensor([[1.0, 1.0], [1.0, 3.0]]).log()[:, None]
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = 0.5 * math.log(2.0) + 0.5 * math.log(2 / 3)
    adaptation = heard(q, p)
    value = adaptation.conditional({"watch": q}, p, None)
    assert value.item() == pytest.approx((first + second) / 2, rel=1e-6)
    alone = adaptation.conditional({"watch": q}, p, torch.tensor([1]))
    assert alone.item() == pytest.approx(second, rel=1e-6)


def test_equation_5_of_values_is_their_squared_error():
    said = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    made = said[:, None] + torch.tensor([[[1.0, 0.0]], [[3.0, 2.0]]])
    value = heard(made, said, "regression").conditional({"watch": made}, said, None)
    assert value.item() == pytest.approx((1 + 0 + 9 + 4) / 4)


def test_equation_7_is_the_sum_over_the_rows_that_have_the_modality():
    g = torch.Generator().manual_seed(0)
    made, real, logits = (torch.randn(6, 3, generator=g) for _ in range(3))
    there = torch.tensor([True, True, False, True, False, True])
    value = heard(real[:, None], logits)({"watch": made[:, None]}, a_batch(6, there))
    marginal, conditional = joint_adaptation(made[there], real[there], made[there], logits[there])
    assert value.item() == pytest.approx((marginal + conditional).item(), rel=1e-6)
    nobody = heard(real[:, None], logits)({"watch": made[:, None]}, a_batch(6, there & False))
    assert nobody.item() == 0.0


def tiny() -> Network:
    """Two slots of two numbers as they are; T₁ = ReLU(x₁ − x₂) and T₂ = ReLU(2 x₂), not normalised."""
    shapes = {"phone": (1, 2), "watch": (1, 2)}
    fusion = make_fusion("cross-translation", shapes, 2, 0.0)
    assert isinstance(fusion, CrossTranslation)
    for (convolution, norm, _), weight in zip(fusion.blocks.blocks, ([[1.0, -1.0]], [[0.0, 2.0]])):
        convolution.weight.data = torch.tensor(weight)
        norm.eps = 0.0
    return Network({"phone": nn.Identity()}, fusion, nn.Linear(2, 3), {"watch": Doubled()})


class Doubled(nn.Module):
    def forward(self, features):
        return 2 * features["phone"]


def test_equation_8_by_hand():
    """φ_o = (3, 1), (1, 4) and φ_s = 2 φ_o: T₁ says 2, 0 and 4, 0; T₂ says 2, 8 and 4, 16."""
    method = OSMD(tiny(), task_of("classification"), None, {}).eval()
    batch = replace(a_batch(2), inputs={"phone": torch.tensor([[3.0, 1.0], [1.0, 4.0]])})
    expected = (2**2 + 0) / 2 + (2**2 + 8**2) / 2
    assert method.terms(batch, TrainState())["ctn"].item() == pytest.approx(expected)


def test_what_is_fused_are_all_four_maps():
    network = tiny().eval()
    features = network.encode(replace(a_batch(1), inputs={"phone": torch.tensor([[3.0, 1.0]])})).features
    weight, bias = network.fusion.out[0].weight, network.fusion.out[0].bias
    expected = (weight @ torch.tensor([2.0, 2.0, 4.0, 4.0]) + bias).relu()
    assert torch.allclose(network.fusion(features)[0], expected)


def test_equation_9_keeps_both_terms_at_a_tenth_of_the_task():
    method, batch = osmd(), rows()
    terms = terms_of(method, batch)
    total = build_loss_weighting(method, BalanceConfig()).combine(terms, TrainState())
    assert total.item() == pytest.approx(1.2 * terms["task"].item(), rel=1e-5)
    fixed = build_loss_weighting(method, BalanceConfig(kind="fixed")).combine(terms, TrainState())
    assert fixed.item() == pytest.approx(sum(t.item() for t in terms.values()), rel=1e-5)


# the transform blocks -------------------------------------------------------------------------------------------------

SHAPES = {
    "vectors": {"a": (1, 8), "b": (1, 8)},
    "vectors of two widths": {"a": (1, 8), "b": (1, 5), "c": (1, 8)},
    "sequences": {"a": (4, 8), "b": (1, 5)},
    "maps": {"a": (8, 4, 6), "b": (6, 2, 3), "c": (3, 5)},
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_slots_of_any_shape_become_alike(shapes):
    torch.manual_seed(0)
    blocks = TransformBlocks(shapes, 8)
    made = blocks({m: torch.randn(5, *shape) for m, shape in shapes.items()})
    (shape,) = {tuple(x.shape) for of_slot in made.values() for x in of_slot}
    assert shape[:2] == (5, 4)
    assert list(made) == list(shapes)
    assert all(len(of_slot) == 2 for of_slot in made.values())


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_running_statistics_say_what_training_saw(shapes):
    """Over the same rows again and again, evaluation comes to the same as training: one statistic for all slots."""
    torch.manual_seed(0)
    blocks = TransformBlocks(shapes, 8)
    features = {m: 3 * i + torch.randn(64, *shape) for i, (m, shape) in enumerate(shapes.items())}
    for _ in range(200):
        trained = blocks(features)
    said = blocks.eval()(features)
    for m, b in product(shapes, range(2)):
        assert torch.allclose(said[m][b], trained[m][b], atol=0.05)
    apart = [float((said["a"][b] - said["b"][b]).abs().mean().detach()) for b in range(2)]
    assert min(apart) > 0.2  # normalised apart, both would have the same mean


def test_a_block_is_shared_by_the_slots():
    torch.manual_seed(0)
    blocks = TransformBlocks({"a": (4, 8), "b": (4, 8)}, 8).eval()
    x = torch.randn(3, 4, 8)
    made = blocks({"a": x, "b": x})
    assert all(torch.equal(one, two) for one, two in zip(made["a"], made["b"]))
    assert not torch.equal(made["a"][0], made["a"][1])


def test_a_single_value_is_normalised_by_running_statistics():
    blocks = TransformBlocks({"a": (1, 8)}, 8)
    before = copy.deepcopy(blocks.state_dict())
    assert all(x.isfinite().all() for x in blocks({"a": torch.randn(1, 1, 8)})["a"])
    assert all(torch.equal(before[name], value) for name, value in blocks.state_dict().items())


def test_of_maps_a_map_is_fused():
    shapes = SHAPES["maps"]
    fusion = make_fusion("cross-translation", shapes, 8, 0.1)
    assert isinstance(fusion, MapCrossTranslation)
    fused = fusion({m: torch.randn(2, *shape) for m, shape in shapes.items()})
    assert fused.shape == (2, 8, 4, 6)
    assert make_head(fusion, 3, (16, 24))(fused).shape == (2, 3, 16, 24)


# the branches ---------------------------------------------------------------------------------------------------------


def test_both_encoders_begin_where_the_ordinary_branch_ended_and_the_head_where_the_privileged_did():
    method, parts = osmd(), standalone_parts("osmd", "classification", "complete")
    ordinary, branch = parts.trained_network(AVAILABLE), parts.trained_network(PRIVILEGED)
    wanted = ordinary.encoders["phone"].state_dict()
    for begun in (method.student.encoders["phone"], *(h.encoders["phone"] for h in slots_of(method))):
        assert all(torch.equal(wanted[name], value) for name, value in begun.state_dict().items())
    for part in ("fusion", "head"):
        wanted = getattr(branch, part).state_dict()
        begun = getattr(method.adaptation, part).state_dict()
        assert all(torch.equal(wanted[name], value) for name, value in begun.items())
    shapes = feature_shape(branch)
    assert {m: h.out_shape for m, h in method.student.hallucinators.items()} == shapes


def slots_of(method: OSMD) -> list:
    return list(method.student.hallucinators.values())


def test_what_the_privileged_branch_said_is_fixed_and_no_part_of_the_state():
    method, batch = osmd(), rows()
    parts = standalone_parts("osmd", "classification", "complete")
    said = compute_outputs(parts.trained_network(PRIVILEGED), batch, batch.index)
    assert method.reads == AVAILABLE
    fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=16, least_steps=1), seed=0)
    assert torch.equal(method.adaptation.outputs(batch).prediction, said.prediction)
    for m in PRIVILEGED:
        assert torch.equal(method.adaptation.outputs(batch).features[m], said.features[m])
    assert not [name for name in method.state_dict() if "kept_" in name]
    doubled = copy.deepcopy(method).double().adaptation.outputs(batch)
    assert all(x.dtype == torch.float64 for x in doubled.features.values())


def test_building_it_again_gives_the_same_bits():
    first, second = osmd(), osmd()
    for one, two in (
        (first.state_dict(), second.state_dict()),
        (dict(first.named_buffers()), dict(second.named_buffers())),
    ):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


# the ablations --------------------------------------------------------------------------------------------------------


@cache
def ablated(name: str) -> OSMD:
    return osmd("both", **ABLATIONS[name])


OF_AN_ABLATION = (check_steps_move_their_group_only, check_nothing_frozen_untrained, check_terms_are_finite_scalars)
"""What an ablation changes: which parts are trained, and the terms. `test_registry.py` has all checks of the whole."""


@pytest.mark.parametrize(
    "check", mostly_slow(CHECKS, OF_AN_ABLATION), ids=lambda check: check.__name__.removeprefix("check_")
)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_keeps_the_contract(ablation, check):
    built = ablated(ablation)
    check(Subject(lambda dtype: copy.deepcopy(built).to(dtype), rows("both"), AVAILABLE, PRIVILEGED))


def test_an_ablation_of_the_adaptation_changes_that_term_alone():
    batch, full = rows(), terms_of(osmd(), rows())
    assert list(full) == ["task", "jdn", "ctn"]
    for name in ("-JDN", "-JDN+FKD", "-JDN+RKD"):
        method = osmd(**ABLATIONS[name])
        found = terms_of(method, batch)
        assert torch.equal(found["task"], full["task"])
        assert torch.equal(found["ctn"], full["ctn"])
        said = compute_outputs(
            standalone_parts("osmd", "classification", "complete").trained_network(PRIVILEGED), batch, batch.index
        )
        made = method.student.encode(batch).features
        pairs = [(made[m], said.features[m]) for m in PRIVILEGED]
        if name == "-JDN+FKD":
            assert torch.allclose(found["jdn"], torch.stack([squared_error(s, p) for s, p in pairs]).mean())
        elif name == "-JDN+RKD":
            assert torch.allclose(found["jdn"], torch.stack([rkd(s.mean(1), p.mean(1)) for s, p in pairs]).mean())
        else:
            assert "jdn" not in found
        assert not any(name.startswith("adaptation") for name, _ in method.named_parameters())


def test_an_ablation_of_the_translation_fuses_by_concatenation():
    batch, full = rows(), terms_of(osmd(), rows())
    for name in ("-CTN", "-CTN+AE"):
        method = osmd(**ABLATIONS[name])
        found = terms_of(method, batch)
        assert torch.equal(found["jdn"], full["jdn"])
        assert method.student.fusion.name == "concat"
        assert ("ctn" in found) == (name == "-CTN+AE")
    made = method.student.encode(batch).features
    expected = nn.functional.mse_loss(method.decoders["phone"](made), made["phone"])
    assert torch.allclose(found["ctn"], expected)
    assert set(method.decoders["phone"].sources) == set(PRIVILEGED)


def test_a_tenth_of_nothing_is_asked_of_what_is_left_out():
    method = osmd(jdn="none", ctn="none")
    assert list(terms_of(method, rows())) == ["task"]


# what reaches what ----------------------------------------------------------------------------------------------------


def moved(method: OSMD, value: torch.Tensor) -> set[str]:
    named = {name: p for name, p in method.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(value, list(named.values()), retain_graph=True, allow_unused=True)
    found = {name for name, g in zip(named, grads) if g is not None and g.abs().sum() > 0}
    return {".".join(name.split(".")[:2]) for name in found}


def test_what_each_loss_moves():
    """L_JDN moves φ_s and its head; L_CTN both encoders and the blocks; the task everything that leaves."""
    method = osmd()
    terms = terms_of(method, rows())
    hallucination = {"adaptation.fusion", "adaptation.head", "student.hallucinators"}
    assert moved(method, terms["jdn"]) == hallucination
    assert moved(method, terms["ctn"]) == {"student.encoders", "student.hallucinators", "student.fusion"}
    leaving = {"student.encoders", "student.hallucinators", "student.fusion", "student.head"}
    assert moved(method, terms["task"]) == leaving
    for value in terms.values():  # what gradients are compared on
        grads = torch.autograd.grad(value, method.shared_parameters(), retain_graph=True)
        assert all(g.isfinite().all() for g in grads)


def test_rows_without_a_privileged_modality_are_masked_out_of_the_adaptation():
    method, batch = osmd(), rows()
    lacks = torch.arange(len(batch)) < 5
    for absent, masked in ((PRIVILEGED, True), (("watch",), False)):
        inputs = batch.inputs | {"phone": batch.inputs["phone"].clone().requires_grad_()}
        here = replace(batch, inputs=inputs, present=dict.fromkeys(absent, ~lacks))
        for name, value in terms_of(method, here).items():
            grad = torch.autograd.grad(value, inputs["phone"], retain_graph=True)[0]
            assert bool(grad[lacks].abs().sum() > 0) is not (name == "jdn" and masked)
            assert grad[~lacks].abs().sum() > 0


def test_rows_without_a_label_take_part_in_what_needs_none():
    method, batch = osmd("partly labelled"), rows("partly labelled")
    inputs = batch.inputs | {"phone": batch.inputs["phone"].clone().requires_grad_()}
    for name, value in terms_of(method, replace(batch, inputs=inputs)).items():
        grad = torch.autograd.grad(value, inputs["phone"], retain_graph=True)[0]
        assert bool(grad[~batch.labelled].abs().sum() > 0) is (name != "task")
        assert grad[batch.labelled].abs().sum() > 0


def test_it_learns():
    method, batch = osmd(), rows()
    settings = TrainingConfig(epochs=60, patience=60, learning_rate=0.003, batch_size=16, least_steps=1)
    history = fit(method, batch, batch, settings, seed=0)
    first, last = history.epochs[0], history.epochs[-1]
    assert all(last[name] < first[name] for name in ("task", "jdn", "ctn"))
    assert history.best_score > 0.6 > history.epochs[0]["select"]


def test_true_gradnorm_is_at_hand():
    method, batch = osmd("both"), rows("both")
    settings = TrainingConfig(epochs=2, patience=2, batch_size=16, least_steps=1)
    history = fit(method, batch, batch, settings, seed=0, balance=BalanceConfig(kind="gradnorm"))
    assert len(history.epochs) == 2


# maps, sequences, several modalities ----------------------------------------------------------------------------------


def test_of_maps_some_positions_are_compared():
    """MMD sees as many positions as the setting says; with at least all of them it is that of every position."""
    method, batch = osmd(task="segmentation", positions=40), rows(task="segmentation")
    made = method.student.encode(batch).features["watch"]
    real = method.adaptation.outputs(batch).features["watch"]
    n = made.shape[0] * made.shape[2] * made.shape[3]
    torch.manual_seed(0)
    some = [method.adaptation.distance(made, real) for _ in range(2)]
    assert some[0] != some[1]
    torch.manual_seed(0)
    picked = torch.randperm(n)[:40]
    flat = [x.movedim(1, -1).reshape(n, -1) for x in (made, real)]
    assert torch.allclose(some[0], gaussian_mmd(flat[0][picked], flat[1][picked]))
    method.adaptation.positions = n
    assert torch.allclose(method.adaptation.distance(made, real), gaussian_mmd(*flat))
    with pytest.raises(ConfigError, match=r"options\.osmd\.positions: expected a whole number of at least 2, not 1"):
        osmd(positions=1)


def test_vectors_are_compared_in_every_row():
    method, batch = osmd(positions=2), rows()
    made, real = method.student.encode(batch).features["watch"], method.adaptation.outputs(batch).features["watch"]
    assert torch.equal(method.adaptation.distance(made, real), gaussian_mmd(made[:, 0], real[:, 0]))


@pytest.mark.parametrize(
    ("task", "available", "privileged"),
    [
        ("classification", ["phone", "pulse"], ["watch"]),  # a vector and tokens, a vector that some rows lack
        pytest.param("regression", ["pulse"], ["watch", "phone"], marks=pytest.mark.slow),
        pytest.param("classification", ["phone"], ["pulse"], marks=pytest.mark.slow),
        # a map and tokens, a map: below
    ],
)
def test_several_modalities_of_any_kind(task, available, privileged, tmp_path):
    """Built, trained, described and made again."""
    built_of_several(task, available, privileged, tmp_path)


@pytest.mark.parametrize(
    ("task", "available", "privileged"),
    [
        pytest.param("classification", ["phone", "pulse"], ["watch"], marks=pytest.mark.slow),
        pytest.param("regression", ["pulse"], ["watch", "phone"], marks=pytest.mark.slow),
        pytest.param("classification", ["phone"], ["pulse"], marks=pytest.mark.slow),
        pytest.param("segmentation", ["phone", "pulse"], ["watch"], marks=pytest.mark.slow),
    ],
)
def test_the_graph_of_several_modalities_says_what_torch_says(task, available, privileged, tmp_path):
    made, place, parts, exported = built_of_several(task, available, privileged, tmp_path)
    student = Student(exported, place.data.preprocessor, parts.task, {"privileged": privileged})
    inputs = {m: made.inputs[m][:7] for m in available}
    path, ort = student.export(tmp_path / "student.onnx"), pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    said = session.run(None, {m: x.astype(np.float32) for m, x in inputs.items()})[0]
    expected = student.predict(inputs) if task == "regression" else student.predict_proba(inputs)
    assert np.allclose(said, expected, atol=1e-4)


def built_of_several(task, available, privileged, folder):
    made = make_data(task, lengths={})
    network = {"encoder": "cnn", "tokens": 3}
    place = fold_models(folder, made, methods=["osmd"], available=available, privileged=privileged, network=network)
    parts = JobContext(place, Job("osmd", "", 1.0, 0, 0))
    method = OSMD.build(parts, positions=32)
    batch = parts.rows()
    settings = TrainingConfig(epochs=2, patience=2, batch_size=16, least_steps=1)
    history = fit(method, batch, parts.rows("select"), settings, seed=0)
    assert all(math.isfinite(history.epochs[-1][name]) for name in ("task", "jdn", "ctn"))
    exported = method.deployed_network()
    again = rebuild(describe(exported))
    again.load_state_dict(exported.state_dict())
    one, two = (compute_outputs(n, batch, batch.index).prediction for n in (exported, again))
    assert torch.equal(one, two)
    return made, place, parts, exported
