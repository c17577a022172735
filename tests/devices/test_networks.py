"""Encoders, public networks and fusions on the pretend device: features and gradients are those of the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.both_devices import assert_same_on_both
from sidelight.config.encoder_names import BACKBONES, PYRAMIDS
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.build import make_map_encoder
from sidelight.networks.dense import DenseEncoder
from sidelight.networks.encoders import make_encoder
from sidelight.networks.fusions import FUSIONS, MAP_FUSIONS, make_fusion
from sidelight.networks.hallucination import TNet
from sidelight.networks.modality_imputer import ModalityImputer

pytestmark = pytest.mark.filterwarnings("ignore:network.fusion=.* attends over time:UserWarning")
ROWS: dict[int, tuple[int, ...]] = {2: (24, 2), 3: (3, 32, 32), 4: (3, 8, 32, 32)}
"""Number of dimensions of a row -> the shape of a small one."""
LARGE = [
    pytest.param(kind, dims, marks=[] if (kind, dims) == ("resnet18", 2) else pytest.mark.slow)
    for kind, reads in BACKBONES.items()
    for dims in reads
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(module: nn.Module, *inputs: Any, tolerance: float = 1e-8) -> None:
    """Compare features, gradients and buffers of a module in training, and features of one in use."""
    module = module.double()

    def run(module: nn.Module, *inputs: Any) -> Any:
        trained = module.train()(*inputs)
        statistics = {name: value.clone() for name, value in module.named_buffers()}
        return trained, statistics, module.eval()(*inputs)

    assert_same_on_both(run, module, *inputs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (5,)), ("mlp", (6, 3)), ("cnn", (12, 3))])
def test_own_encoders(kind, shape):
    torch.manual_seed(0)
    check(make_encoder(kind, shape, 8, 1 if kind == "mlp" else 3), draw(4, *shape))


def test_signals_of_varying_length():
    torch.manual_seed(0)
    check(make_encoder("cnn", (12, 3), 8, 3), draw(4, 12, 3), torch.tensor([12, 3, 0, 7]))


def test_maps():
    torch.manual_seed(0)
    check(DenseEncoder((2, 8, 12), 8), draw(3, 2, 8, 12))


@pytest.mark.parametrize(("kind", "dims"), LARGE)
def test_public_networks(kind, dims):
    torch.manual_seed(0)
    shape = {2: (32, 32), 3: (1, 32, 32)}[dims] if kind == "cnn14" else ROWS[dims]
    check(Backbone(kind, shape, 8, 1), draw(2, *shape), tolerance=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PYRAMIDS)
def test_pyramids(kind):
    torch.manual_seed(0)
    check(make_map_encoder(kind, (3, 32, 32), 8), draw(2, 3, 32, 32), tolerance=1e-6)


@pytest.mark.parametrize("fusion", [*FUSIONS, *(f"maps {name}" for name in MAP_FUSIONS)])
def test_fusions(fusion):
    torch.manual_seed(0)
    name = fusion.removeprefix("maps ")
    shape = (8, 2, 3) if fusion.startswith("maps") else (3, 8)
    module = make_fusion(name, {"phone": shape, "watch": shape}, 8, 0.2)
    check(module, {"phone": draw(4, *shape).requires_grad_(), "watch": draw(4, *shape, seed=1)})


def test_tnets_and_imputation():
    torch.manual_seed(0)
    check(TNet({"phone": (3, 8)}, (2, 6)), {"phone": draw(4, 3, 8)})
    imputer, present = ModalityImputer({"phone": (3, 8), "watch": (3, 8)}, 0.4), torch.arange(4) % 3 != 1

    def impute(module: nn.Module, features: dict[str, Tensor], present: dict[str, Tensor]) -> Any:
        return module.train()(features, present), module.eval()(features, present)

    features = {"phone": draw(4, 3, 8), "watch": draw(4, 3, 8, seed=1)}
    assert_same_on_both(impute, imputer.double(), features, {"phone": present, "watch": ~present}, atol=1e-8)


def test_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason='needs transformers: pip install ".[hf]"')
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=16, **sizes)
    transformers.BertModel(config).save_pretrained(tmp_path)
    torch.manual_seed(0)
    module = Backbone(f"hf:{tmp_path}", (12,), 8, 1)
    check(module, torch.randint(1, 20, (3, 12), generator=torch.Generator().manual_seed(0)), tolerance=1e-6)
