"""Pyramids of levels, their fusion and their decoder."""

from __future__ import annotations

import json

import pytest
import torch

from sidelight.config import NetworkConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.backbones.weights import load_weights
from sidelight.networks.build import build_network, describe, feature_shape, rebuild
from sidelight.networks.encoders import make_encoder
from sidelight.networks.fusions import SqueezeExcitationFusion
from sidelight.networks.hallucination import make_hallucinators
from sidelight.networks.rgbd import PyramidEncoder, PyramidHead, PyramidPooling, Upsample, split_levels

SIZE = (21, 38)
SHAPES = {"rgb": (3, *SIZE), "depth": (1, *SIZE)}
CONFIG = NetworkConfig(width=8, encoder="resnet34-pyramid", fusion="squeeze-excitation", dropout=0.1)


def a_batch(n: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    inputs = {m: torch.randn(n, *shape, generator=generator) for m, shape in SHAPES.items()}
    everyone = torch.ones(n, dtype=torch.bool)
    return Batch(inputs, torch.zeros(n, *SIZE, dtype=torch.int64), everyone, {}, torch.arange(n), {})


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return build_network(SHAPES, ["rgb", "depth"], 5, CONFIG, size=SIZE)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 70), (7, 130)])
def test_levels_come_apart_as_they_were_put_together(height, width):
    torch.manual_seed(0)
    encoder = PyramidEncoder("resnet34-pyramid", (3, height, width), 8).eval()
    x = torch.randn(2, 3, height, width)
    with torch.no_grad():
        stacked = encoder(x)
        maps = encoder.net.levels(x)[1:]
        assert stacked.shape == (2, *encoder.out_shape)
        for level, m, lateral in zip(split_levels(stacked), maps, encoder.lateral):
            assert torch.equal(level, lateral(m))


def test_the_network_inside_has_the_public_names(tmp_path):
    torch.manual_seed(1)
    source = Backbone("resnet34", (3, 32, 32)).net.state_dict()
    torch.save({f"module.{k}": v for k, v in source.items()} | {"fc.weight": torch.zeros(2)}, tmp_path / "w.pt")
    encoder = PyramidEncoder("resnet34-pyramid", (1, 32, 32), 8)
    report = load_weights(encoder, tmp_path / "w.pt", sum_channels=True)
    assert report.summed == ("conv1.weight",)
    assert not report.missing
    assert report.unexpected == ("fc.weight",)


def test_resnet50_has_wider_levels():
    with torch.device("meta"):
        encoder = PyramidEncoder("resnet50-pyramid", (3, 64, 64), 8)
    assert [lateral[0].in_channels for lateral in encoder.lateral] == [256, 512, 1024, 2048]


def test_a_teacher_and_its_students(teacher):
    batch = a_batch()
    out = teacher.eval()(batch)
    assert out.prediction.shape == (3, 5, *SIZE)
    assert feature_shape(teacher) == {"rgb": (32, 6, 10), "depth": (32, 6, 10)}
    assert isinstance(teacher.head, PyramidHead)
    tnets = make_hallucinators(feature_shape(teacher), ["rgb"], ["depth"])
    student = build_network(SHAPES, ["rgb"], 5, CONFIG, ["rgb", "depth"], tnets, size=SIZE).eval()
    student.fusion.load_state_dict(teacher.fusion.state_dict())
    student.head.load_state_dict(teacher.head.state_dict())
    nan = {**batch.inputs, "depth": torch.full_like(batch.inputs["depth"], torch.nan)}
    blind = Batch(nan, batch.target, batch.labelled, {}, batch.index, {})
    assert torch.equal(student(batch).prediction, student(blind).prediction)


def test_rebuilt_from_json(teacher):
    again = rebuild(json.loads(json.dumps(describe(teacher)))).eval()
    again.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        assert torch.equal(again(a_batch()).prediction, teacher.eval()(a_batch()).prediction)


def test_every_weight_learns_and_a_batch_of_one_row_trains(teacher):
    teacher.train()
    teacher(a_batch()).prediction.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in teacher.parameters())
    before = {k: v.clone() for k, v in teacher.named_buffers()}
    assert teacher(a_batch(1)).prediction.isfinite().all()
    assert all(torch.equal(v, before[k]) for k, v in teacher.named_buffers())
    teacher.zero_grad()


def test_a_prediction_does_not_depend_on_batch_mates(teacher):
    network = build_network(SHAPES, list(SHAPES), 5, CONFIG, size=SIZE).double().eval()
    batch = a_batch().to(torch.float64)
    with torch.no_grad():
        alone = torch.cat([network(batch.index_select(torch.tensor([i]))).prediction for i in range(3)])
        assert torch.allclose(network(batch).prediction, alone, rtol=1e-9, atol=1e-9)


def test_squeeze_excitation_is_its_formula():
    torch.manual_seed(0)
    fusion = SqueezeExcitationFusion({"a": (6, 4, 5), "b": (6, 4, 5)}, 6)
    x = {m: torch.randn(2, 6, 4, 5) for m in "ab"}
    wanted = 0
    for (squeeze, _, excite, _), m in zip(fusion.gates, "ab"):
        gate = torch.sigmoid(excite(torch.relu(squeeze(x[m].mean((2, 3))))))
        wanted = wanted + torch.einsum("bd,bdhw->bdhw", gate, x[m])
    assert torch.allclose(fusion(x), wanted, atol=1e-6)
    assert torch.allclose(fusion({"b": x["b"], "a": x["a"]}), wanted, atol=1e-6)


def test_upsampling_begins_as_bilinear_interpolation():
    x = torch.randn(2, 3, 4, 6)
    wanted = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    said = Upsample(3)(x, (8, 12))
    assert torch.allclose(said, wanted, atol=1e-6)


def test_the_context_of_a_single_position():
    assert PyramidPooling(8)(torch.randn(1, 8, 1, 2)).shape == (1, 8, 1, 2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="for targets with a class per pixel; for others use 'resnet34'"):
        make_encoder("resnet34-pyramid", (3, 32, 32))
    config = NetworkConfig(width=8, fusion="squeeze-excitation", encoders={"rgb": "resnet34-pyramid"})
    with pytest.raises(ConfigError, match="adds maps of one shape"):
        build_network(SHAPES, list(SHAPES), 5, config, size=SIZE)
    with pytest.raises(ConfigError, match="adds maps, but no modality is a map"):
        build_network({"age": (3,)}, ["age"], 2, NetworkConfig(fusion="squeeze-excitation"))
