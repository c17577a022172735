"""Networks from settings: teacher and student share a fusion; a student does not read what it must not."""

import copy
import json
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from sidelight.config import NetworkConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.networks.build import build_network, describe, feature_shape, rebuild
from sidelight.networks.fusions import FUSIONS
from sidelight.networks.hallucination import TNet, freeze, hidden_sizes, make_hallucinators
from sidelight.networks.network import Network, compute_outputs

SHAPES = {"phone": (40, 3), "watch": (24, 2), "age": (7,)}
ALL = list(SHAPES)
ROWS = 9


def a_batch(rows: int = ROWS) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(rows, *shape, generator=generator) for m, shape in SHAPES.items()}
    everyone = torch.ones(rows, dtype=torch.bool)
    lengths = {"phone": torch.randint(1, 41, (rows,), generator=generator)}
    index = torch.arange(rows)
    return Batch(
        inputs, torch.zeros(rows, dtype=torch.int64), everyone, dict.fromkeys(inputs, everyone), index, lengths
    )


def change(batch: Batch, inputs: dict[str, Tensor], **fields: object) -> Batch:
    return Batch(**{**batch.__dict__, "inputs": inputs, **fields})


def settings(fusion: str = "concat", tokens: int = 4) -> NetworkConfig:
    return NetworkConfig(width=12, fusion=fusion, tokens=tokens)


def a_teacher(fusion: str = "concat", tokens: int = 4) -> Network:
    torch.manual_seed(0)
    return build_network(SHAPES, ["watch", "phone", "age"], 5, settings(fusion, tokens)).eval()


def a_student(teacher: Network, fusion: str = "concat", tokens: int = 4) -> Network:
    """Reads the phone; the others are hallucinated; fusion and encoder start from the teacher's."""
    shapes = feature_shape(teacher)
    tnets = make_hallucinators(shapes, ["phone"], ["watch", "age"])
    student = build_network(SHAPES, ["phone"], 5, settings(fusion, tokens), list(shapes), tnets)
    student.fusion.load_state_dict(teacher.fusion.state_dict())
    student.encoders["phone"].load_state_dict(teacher.encoders["phone"].state_dict())
    return student.eval()


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SidelightWarning)
        yield


@pytest.mark.parametrize("fusion", FUSIONS)
class TestEveryFusion:
    def test_teacher_and_student_have_the_same_slots(self, fusion):
        teacher = a_teacher(fusion)
        student = a_student(teacher, fusion)
        assert feature_shape(teacher) == {"watch": (4, 12), "phone": (4, 12), "age": (1, 12)} == feature_shape(student)
        for network in (teacher, student):
            out = network(a_batch())
            assert out.prediction.shape == (ROWS, 5)
            assert {m: tuple(f.shape[1:]) for m, f in out.features.items()} == feature_shape(network)

    def test_the_same_features_fuse_alike_in_teacher_and_student(self, fusion):
        teacher = a_teacher(fusion)
        student = a_student(teacher, fusion)
        features = teacher(a_batch()).features
        shuffled = {m: features[m] for m in ("age", "phone", "watch")}
        assert torch.equal(student.fusion(shuffled), teacher.fusion(features))

    @pytest.mark.parametrize("hallucinate", [True, False])
    def test_a_student_never_reads_a_privileged_modality(self, fusion, hallucinate):
        student = (
            a_student(a_teacher(fusion), fusion)
            if hallucinate
            else build_network(SHAPES, ["phone"], 5, settings(fusion)).eval()
        )
        batch = a_batch()
        expected = student(batch)
        absent = change(batch, {"phone": batch.inputs["phone"]}, present={"phone": batch.present["phone"]})
        nan = change(batch, {m: x if m == "phone" else torch.full_like(x, torch.nan) for m, x in batch.inputs.items()})
        gone = change(batch, batch.inputs, present={**batch.present, "watch": torch.zeros(ROWS, dtype=torch.bool)})
        for other in (absent, nan, gone):
            assert torch.equal(student(other).prediction, expected.prediction)
            assert torch.equal(student(other).fused, expected.fused)

    def test_a_prediction_does_not_depend_on_batch_mates_or_padding(self, fusion):
        teacher = a_teacher(fusion)
        for network in (teacher, a_student(teacher, fusion)):
            batch = a_batch()
            whole = network(batch).prediction
            alone = torch.cat([network(batch.index_select(torch.tensor([i]))).prediction for i in range(ROWS)])
            assert torch.allclose(whole, alone, atol=1e-6)
            longer = {**batch.inputs, "phone": nn.functional.pad(batch.inputs["phone"], (0, 0, 0, 17))}
            assert torch.allclose(whole, network(change(batch, longer)).prediction, atol=1e-6)

    def test_a_slot_that_a_row_lacks_is_zero(self, fusion):
        teacher, batch = a_teacher(fusion), a_batch()
        lacking = torch.arange(ROWS) % 2 == 0
        out = teacher(change(batch, batch.inputs, present={**batch.present, "age": ~lacking}))
        assert (out.features["age"][lacking] == 0).all()
        assert torch.equal(out.features["age"][~lacking], teacher(batch).features["age"][~lacking])

    def test_double_precision(self, fusion):
        assert (
            a_student(a_teacher(fusion), fusion).double()(a_batch().to(torch.float64)).prediction.dtype == torch.float64
        )

    def test_described_as_json_and_rebuilt(self, fusion):
        teacher = a_teacher(fusion)
        for network in (teacher, a_student(teacher, fusion)):
            text = json.dumps(describe(network), sort_keys=True)
            again = rebuild(json.loads(text))
            again.load_state_dict(network.state_dict())
            assert again.reads == network.reads
            assert list(feature_shape(again)) == list(feature_shape(network))
            assert torch.equal(again.eval()(a_batch()).prediction, network(a_batch()).prediction)
            assert json.dumps(describe(again), sort_keys=True) == text


class Own(nn.Module):
    """A user's own encoder."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 10)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return self.layer(x).mean(1)


class Wrong(Own):
    """One that returns zeros of a given shape."""

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return torch.zeros(self.shape)


def test_a_users_encoder_is_measured_and_asked_for_again():
    encoder = Own().train()
    network = build_network(SHAPES, ["phone", "age"], 2, settings(), encoders={"phone": encoder})
    assert feature_shape(network) == {"phone": (1, 10), "age": (1, 12)}
    assert encoder.training
    described = json.loads(json.dumps(describe(network)))
    assert described["encoders"][0] == {"modality": "phone", "kind": "custom"}
    with pytest.raises(ConfigError, match="own module for 'phone'"):
        rebuild(described)
    again = rebuild(described, encoders={"phone": Own()})
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(a_batch()).prediction, network.eval()(a_batch()).prediction)


def test_a_users_hallucinator_is_measured():
    class Mean(nn.Module):
        def forward(self, features: dict[str, Tensor]) -> Tensor:
            return features["phone"].mean(1, keepdim=True)

    network = build_network(SHAPES, ["phone"], 2, settings(), hallucinators={"watch": Mean()})
    assert feature_shape(network) == {"phone": (4, 12), "watch": (1, 12)}
    assert network(a_batch()).features["watch"].shape == (ROWS, 1, 12)
    assert describe(network)["hallucinators"] == [{"modality": "watch", "kind": "custom"}]


@pytest.mark.parametrize(
    ("module", "words"),
    [(nn.Linear(99, 2), "'phone' fails"), (Wrong(2, 3, 4, 5), "not .2, 3, 4, 5."), (Wrong(7, 3), "not .7, 3.")],
)
def test_a_users_encoder_that_cannot_work_is_named(module, words):
    with pytest.raises(ConfigError, match=words):
        build_network(SHAPES, ["phone"], 2, settings(), encoders={"phone": module})


def test_impossible_networks_are_named():
    with pytest.raises(ConfigError, match="'pulse', which the data do not have"):
        build_network(SHAPES, ["pulse"], 2, settings())
    said = r"'clip': network\.encoder=hf:nowhere does not read such rows, and encoder 'auto' does not read rows"
    with pytest.raises(ConfigError, match=said):
        build_network({"clip": (3, 9, 9)}, ["clip"], 2, NetworkConfig(encoder="hf:nowhere"))
    with pytest.raises(ConfigError, match=r"'clip': encoder 'auto' does not read rows of shape \(3, 4, 8, 8\).*r3d18"):
        build_network({"clip": (3, 4, 8, 8)}, ["clip"], 2, settings())
    with pytest.raises(ConfigError, match="slots are"):
        build_network(SHAPES, ["phone"], 2, settings(), slots=["phone", "watch"])
    with pytest.raises(ConfigError, match="both read and hallucinated"):
        build_network(SHAPES, ["phone"], 2, settings(), hallucinators={"phone": TNet({"phone": (4, 12)}, (4, 12))})
    for name in ("a.b", "values", "training", ""):
        with pytest.raises(ConfigError, match=r"modality name .*rename it"):
            build_network({name: (3,)}, [name], 2, settings())
    for wrong in (NetworkConfig(width=0), NetworkConfig(tokens=0), NetworkConfig(dropout=1.0)):
        with pytest.raises(ConfigError, match="network"):
            build_network(SHAPES, ["age"], 2, wrong)
    with pytest.raises(ConfigError, match="built-in fusion"):
        describe(Network({"age": nn.Linear(7, 2)}, nn.Identity(), nn.Linear(2, 2)))


@pytest.mark.parametrize("hallucinated", [True, False])
def test_every_weight_of_a_network_learns(hallucinated):
    torch.manual_seed(0)
    network = a_teacher("joint-cross-attention")
    network = a_student(network, "joint-cross-attention") if hallucinated else network
    network(a_batch(64)).prediction.square().sum().backward()
    assert [n for n, p in network.named_parameters() if not p.grad.abs().sum() > 0] == []


class TestTNet:
    def test_tokens_of_the_sources_are_brought_to_those_of_the_target(self):
        tnet = TNet({"a": (8, 5), "b": (1, 3)}, (4, 6))
        assert tnet({"a": torch.randn(2, 8, 5), "b": torch.randn(2, 1, 3), "c": torch.zeros(0)}).shape == (2, 4, 6)

    def test_sizes(self):
        assert hidden_sizes(512) == hidden_sizes(2048) == (256, 128, 256)
        assert hidden_sizes(256) == (128, 64, 128)
        assert hidden_sizes(64) == hidden_sizes(8) == (64, 32, 64)
        tnet = TNet({"a": (1, 512)}, (1, 512))
        assert [layer.out_features for layer in tnet.layers if isinstance(layer, nn.Linear)] == [256, 128, 256, 512]

    def test_nothing_is_frozen_that_was_never_trained(self):
        student = a_student(a_teacher())
        with pytest.raises(ConfigError, match="'watch' was never trained"):
            freeze(student.hallucinators["watch"])
        student.hallucinators["watch"].trained_steps += 3
        freeze(student.hallucinators["watch"])
        with pytest.raises(ConfigError, match="'age' was never trained"):
            freeze(student)

    def test_training_is_saved_with_the_weights(self):
        teacher = a_teacher()
        student = a_student(teacher)
        student.hallucinators["watch"].trained_steps += 3
        other = a_student(teacher)
        other.load_state_dict(student.state_dict())
        assert int(other.hallucinators["watch"].trained_steps) == 3

    @pytest.mark.parametrize("again", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_frozen_is_for_good(self, again):
        student = a_student(a_teacher())
        for m in ("watch", "age"):
            student.hallucinators[m].trained_steps += 1
            assert freeze(student.hallucinators[m]) is student.hallucinators[m]
        student = again(student)
        student.train()
        assert student.training
        assert student.encoders["phone"].training
        for tnet in student.hallucinators.values():
            assert not any(part.training for part in tnet.train().modules())
            assert not any(p.requires_grad for p in tnet.parameters())
        before = copy.deepcopy(student.hallucinators.state_dict())
        student(a_batch()).prediction.sum().backward()
        assert all(p.grad is not None for p in student.encoders.parameters())
        assert all(torch.equal(x, before[n]) for n, x in student.hallucinators.state_dict().items())


def test_outputs_run_in_chunks_and_put_the_mode_back():
    network, batch = a_teacher().train(), a_batch()
    out = compute_outputs(network, batch, torch.arange(ROWS), chunk=4)
    assert network.training
    assert torch.allclose(out.prediction, network.eval()(batch).prediction, atol=1e-6)
