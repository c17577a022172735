"""A class per pixel: the task against torch and scikit-learn, dense networks, and the whole chain on small images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk
from torch.nn import functional as F

from helpers.support import make_rows
from sidelight import metrics
from sidelight.config import NetworkConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses import soft_label_kl
from sidelight.networks.build import build_network, describe, feature_shape, infer_encoder_shape, rebuild
from sidelight.networks.dense import DenseEncoder, num_groups
from sidelight.networks.fusions import MapConcat
from sidelight.networks.hallucination import TNet, make_hallucinators
from sidelight.networks.network import compute_outputs
from sidelight.networks.tokens import pool, to_map, to_tokens
from sidelight.tasks import Segmentation, describe_task, make_task

TASK = Segmentation(("road", "pothole", "sky"))
SHAPES = {"rgb": (3, 9, 13), "depth": (1, 9, 13), "sound": (6, 2), "age": (4,)}
SIZE = (9, 13)
maps = arrays(np.int64, (3, 4, 5), elements=st.integers(0, 2))
targets = arrays(np.int64, (3, 4, 5), elements=st.integers(-1, 2))


# the task -------------------------------------------------------------------------------------------------------------


def said(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(targets)
def test_the_loss_is_torchs_over_pixels_that_have_a_class(target):
    t, labelled = torch.from_numpy(target), torch.tensor([True, False, True])
    known = t[labelled]
    loss = TASK.loss(said(), t, labelled)
    if not (known >= 0).any():
        assert loss == 0
        return
    assert torch.allclose(loss, F.cross_entropy(said()[labelled], known, ignore_index=-1))


def test_ignored_pixels_and_unlabelled_rows_have_no_gradient():
    prediction = said().requires_grad_()
    target = torch.zeros(3, 4, 5, dtype=torch.int64)
    target[0, 1] = -1
    TASK.loss(prediction, target, torch.tensor([True, True, False])).backward()
    moved = prediction.grad.abs().sum(1) > 0
    assert not moved[0, 1].any()
    assert not moved[2].any()
    assert moved[0, 0].all()
    assert moved[1].all()


def test_a_batch_without_a_class_costs_nothing():
    prediction = said().requires_grad_()
    loss = TASK.loss(prediction, torch.full((3, 4, 5), -1), torch.ones(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert not prediction.grad.any()


def test_soft_labels_of_pixels_are_those_of_as_many_rows():
    student, teacher = said(seed=1), said(seed=2)
    rows = [x.movedim(1, -1).reshape(-1, 3) for x in (student, teacher)]
    assert torch.allclose(TASK.match(student, teacher), soft_label_kl(*rows))


def test_trust_is_the_mean_probability_of_the_true_classes():
    p = said().softmax(1)
    target = torch.randint(0, 3, (3, 4, 5), generator=torch.Generator().manual_seed(3))
    target[0, :2] = -1
    trust = TASK.teacher_confidence(said(), target, torch.tensor([True, True, False]))
    true = p.gather(1, target.clamp(min=0)[:, None])[:, 0]
    assert trust[0] == pytest.approx(true[0, 2:].mean().item())
    assert trust[1] == pytest.approx(true[1].mean().item())
    assert trust[2] == pytest.approx(p[2].amax(0).mean().item())  # nobody knows: the teacher's own choice


@example(np.zeros((3, 4, 5), np.int64), np.full((3, 4, 5), -1))
@given(maps, targets)
def test_metrics_are_those_of_scikit_learn(prediction, target):
    known = target >= 0
    counts = metrics.count_confusions(prediction, target, 3)
    for row in range(3):
        t, p = target[row][known[row]], prediction[row][known[row]]
        expected = sk.confusion_matrix(t, p, labels=[0, 1, 2]) if len(t) else np.zeros((3, 3))
        assert np.array_equal(counts[row], expected)
    measured = TASK.measure(prediction, target)
    assert measured.keys() == TASK.metrics().keys()
    for name, metric in TASK.metrics().items():  # counted once for all, or by each
        assert np.array_equal(measured[name], metric.function(prediction, target), equal_nan=True)
    if not known.any():
        assert np.isnan([*measured.values()]).all()
        return
    p, t = prediction[known], target[known]
    each = sk.jaccard_score(t, p, labels=[0, 1, 2], average=None, zero_division=0)
    each = [score if c in p or c in t else np.nan for c, score in enumerate(each)]
    assert [measured[f"iou.{name}"] for name in TASK.class_names] == pytest.approx(each, nan_ok=True)
    assert measured["miou"] == pytest.approx(sk.jaccard_score(t, p, average="macro"))
    assert measured["pixel_accuracy"] == pytest.approx(sk.accuracy_score(t, p))


def test_counting_in_chunks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    prediction, target = rng.integers(0, 3, (7, 8, 9)), rng.integers(-1, 3, (7, 8, 9)).astype(np.int8)
    whole = metrics.count_confusions(prediction, target, 3)
    chunks = []
    bincount = np.bincount
    monkeypatch.setattr(np, "bincount", lambda *a, **k: chunks.append(1) or bincount(*a, **k))
    monkeypatch.setattr(metrics, "PIXELS_AT_ONCE", 3 * 72)
    assert np.array_equal(metrics.count_confusions(prediction, target, 3), whole)
    assert len(chunks) == 3
    assert metrics.count_confusions(prediction[:0], target[:0], 3).shape == (0, 3, 3)


def test_the_task_is_made_again_and_has_no_groups():
    told = describe_task(TASK)
    again = make_task(told["name"], tuple(told["labels"]))
    assert (type(again), again.class_names, again.outputs, again.primary) == (Segmentation, TASK.class_names, 3, "miou")
    assert TASK.class_codes(torch.zeros(2, 4, 5)) is None
    assert TASK.decide(said()).shape == (3, 4, 5)


# networks -------------------------------------------------------------------------------------------------------------


def network(reads=tuple(SHAPES), **more):
    torch.manual_seed(0)
    return build_network(SHAPES, reads, 3, NetworkConfig(width=8, dropout=0.1), size=SIZE, **more).eval()


def batch(n: int = 4) -> Batch:
    g = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(n, *shape, generator=g) for m, shape in SHAPES.items()}
    target = torch.randint(0, 3, (n, *SIZE), generator=g)
    return Batch(inputs, target, torch.ones(n, dtype=torch.bool), {}, torch.arange(n), {})


def test_images_vectors_and_signals_make_a_class_per_pixel():
    out = network()(batch())
    assert out.prediction.shape == (4, 3, *SIZE)
    assert out.fused.shape == (4, 8, 3, 4)
    assert {m: tuple(f.shape[1:]) for m, f in out.features.items()} == {
        "rgb": (8, 3, 4), "depth": (8, 3, 4), "sound": (1, 8), "age": (1, 8)
    }  # fmt: skip
    assert torch.equal(out.embedding, out.fused.mean((2, 3)))
    for m in SHAPES:
        assert out.vector(m).shape == (4, 8)
    assert torch.equal(out.vector("rgb"), out.features["rgb"].mean((2, 3)))
    assert torch.equal(out.index_select(torch.tensor([2])).embedding, out.embedding[[2]])


@pytest.mark.parametrize("size", [(8, 12), (9, 13), (1, 5), (4, 4)])
def test_an_encoder_knows_the_size_of_its_map(size):
    encoder = DenseEncoder((2, *size), 8)
    assert encoder(torch.randn(1, 2, *size)).shape[1:] == encoder.out_shape
    assert infer_encoder_shape("x", encoder, (2, *size)) == encoder.out_shape


@pytest.mark.parametrize("width", [1, 3, 8, 12, 16, 32, 64])
def test_groups_of_channels_divide_them(width):
    assert width % num_groups(width) == 0
    assert num_groups(width) <= 8


def test_nothing_is_normalised_over_the_batch():
    """Not even in training: a row's gradient does not depend on the others."""
    made = network().train()
    for module in made.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    rows = batch()
    together, alone = made(rows).prediction[:1], made(rows.index_select(torch.tensor([0]))).prediction
    assert torch.allclose(together, alone, atol=1e-5)


def test_t_nets_make_maps_of_maps_and_tokens_of_maps():
    shapes = feature_shape(network())
    made = make_hallucinators(shapes, ["rgb", "age"], ["depth", "sound"])
    features = {m: torch.randn(2, *shape) for m, shape in shapes.items()}
    assert made["depth"](features).shape == (2, *shapes["depth"])
    assert made["sound"](features).shape == (2, *shapes["sound"])
    kernels = [tuple(layer.kernel_size) for layer in made["depth"].layers if isinstance(layer, torch.nn.Conv2d)]
    assert kernels == [(1, 1), (3, 3), (3, 3), (1, 1)]


def test_maps_of_another_size_and_tokens_are_brought_together():
    x, tokens = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 3)
    assert to_map(x, (4, 6)) is x
    assert to_map(x, (8, 12)).shape == (2, 3, 8, 12)
    assert torch.equal(to_map(tokens, (2, 2))[:, :, 1, 0], tokens.mean(1))
    assert torch.equal(to_tokens(x, 2)[:, 1], x.mean((2, 3)))
    assert [pool(y).shape for y in (tokens, x, torch.randn(2, 3))] == [(2, 3)] * 3


def test_a_dense_network_is_described_and_rebuilt():
    tnets = make_hallucinators(feature_shape(network()), ["rgb"], ["depth", "sound"])
    made = network(("rgb", "age"), slots=list(SHAPES), hallucinators=tnets)
    again = rebuild(describe(made)).eval()
    again.load_state_dict(made.state_dict())
    assert isinstance(again.hallucinators["depth"], TNet)
    assert isinstance(again.fusion, MapConcat)
    assert torch.equal(again(batch()).prediction, made(batch()).prediction)


def test_a_public_network_can_be_the_encoder():
    config = NetworkConfig(width=8, dropout=0.1, encoders={"rgb": "resnet18"})
    shapes = {"rgb": (3, 64, 64), "depth": (1, 64, 64)}
    made = build_network(shapes, list(shapes), 2, config, size=(64, 64)).eval()
    assert feature_shape(made)["rgb"] == (8, 2, 2)
    rows = Batch({m: torch.randn(2, *s) for m, s in shapes.items()}, torch.zeros(2), torch.ones(2).bool(), {},
                 torch.arange(2), {})  # fmt: skip
    out = made(rows)
    assert out.prediction.shape == (2, 2, 64, 64)
    assert out.fused.shape == (2, 8, 16, 16)  # the largest map's
    again = rebuild(describe(made)).eval()
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(rows).prediction, out.prediction)


def test_what_cannot_be_dense_is_refused_with_a_sentence():
    config = NetworkConfig(width=8)
    with pytest.raises(ConfigError, match="at least one image modality"):
        build_network(SHAPES, ["age", "sound"], 3, config, size=SIZE)
    with pytest.raises(ConfigError, match=r"network\.fusion=joint-cross-attention attends over time"):
        build_network(SHAPES, ["rgb"], 3, NetworkConfig(fusion="joint-cross-attention"), size=SIZE)
    with pytest.raises(ConfigError, match="'mlp' makes no map"):
        build_network(SHAPES, ["rgb"], 3, NetworkConfig(encoder="mlp"), size=SIZE)
    with pytest.raises(ConfigError, match="which only a target with a class per pixel"):
        build_network(SHAPES, ["rgb"], 3, config, encoders={"rgb": DenseEncoder(SHAPES["rgb"])})
    with pytest.raises(ConfigError, match="reads images of shape"):
        DenseEncoder((4, 5))


def test_many_images_are_said_a_few_at_a_time(monkeypatch):
    made, rows, sizes = network(), batch(6), []
    values = sum(int(np.prod(s)) for s in (*SHAPES.values(), (3, *SIZE)))  # what is read, and what is said of it
    monkeypatch.setattr("sidelight.data.pixels.VALUES_AT_ONCE", 2 * values)
    made.register_forward_hook(lambda module, given, out: sizes.append(len(given[0])))
    parts = compute_outputs(made, rows, rows.index)
    assert sizes == [2, 2, 2]
    monkeypatch.undo()
    assert torch.allclose(parts.prediction, compute_outputs(made, rows, rows.index).prediction, atol=1e-6)


def test_rows_of_support_are_learnable_by_what_is_privileged():
    """So that what the contract's tests say of dense tasks means something."""
    rows = make_rows("segmentation")
    close = [((rows.inputs["watch"][:, 0] > t) == (rows.target > c)).float().mean() for c, t in ((0, -1.2), (1, 1.2))]
    assert min(close) > 0.75
