"""wav2vec2, BERT and VideoMAE from configurations and local folders; networks of torchvision and timm, by stand-ins."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from sidelight.config import NetworkConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError, DataError
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.build import build_network, describe, rebuild

CONFIGS = {
    "wav2vec2": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3], "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer",
        "do_stable_layer_norm": True, "conv_bias": True,
    },
    "bert": {
        "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 12,
    },
    "videomae": {
        "image_size": 16, "patch_size": 8, "num_frames": 4, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32,
    },
}  # fmt: skip
SHAPES = {"wav2vec2": (160,), "bert": (12,), "videomae": (3, 4, 16, 16)}


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason='needs transformers: pip install ".[hf]"')


@pytest.fixture
def folder(tmp_path, transformers):
    """Writes a configuration: family, changes -> the encoder's name."""

    def write(family: str, **changes: object) -> str:
        told = {"model_type": family, **CONFIGS[family], **changes}
        (tmp_path / "config.json").write_text(json.dumps(told))
        return f"hf:{tmp_path}"

    return write


def rows(family: str, n: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    if family == "bert":
        return torch.randint(1, 50, (n, 12)).float()
    return torch.randn(n, *SHAPES[family])


@pytest.mark.parametrize("family", CONFIGS)
class TestEveryFamily:
    def test_vector_tokens_and_map(self, folder, family):
        torch.manual_seed(0)
        encoder = Backbone(folder(family), SHAPES[family], 8, 2, returns="tokens").eval()
        x = rows(family)
        with torch.no_grad():
            assert encoder(x).shape == (3, 2, 8)
            encoder.returns, encoder.tokens = "vector", 1
            vector = encoder(x)
            encoder.returns = "map"
            maps = encoder(x)
        assert vector.shape == (3, 8)
        grid = {"wav2vec2": (15,), "bert": (12,), "videomae": (2, 2, 2)}[family]
        assert maps.shape == (3, 8, *grid)
        assert torch.allclose(maps.flatten(2).mean(2), vector, atol=1e-5)

    def test_batch_mates_do_not_matter_and_training_follows_torchs_seed(self, folder, family):
        encoder = Backbone(folder(family), SHAPES[family], 8).eval()
        x = rows(family)
        with torch.no_grad():
            assert torch.allclose(encoder(x), torch.cat([encoder(row[None]) for row in x]), atol=1e-5)
        encoder.train()
        said = []
        for _ in range(2):
            torch.manual_seed(3)
            said.append(encoder(x))
        assert torch.equal(*said)
        said[0].square().sum().backward()
        assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)

    def test_a_student_is_rebuilt_without_the_folder(self, folder, family, tmp_path):
        name = folder(family, _name_or_path="/home/somebody")
        config = NetworkConfig(width=8, encoders={"m": name})
        network = build_network({"m": SHAPES[family]}, ["m"], 2, config).eval()
        (tmp_path / "config.json").unlink()
        told = json.dumps(describe(network))
        assert str(tmp_path) not in told
        assert "somebody" not in told
        again = rebuild(json.loads(told)).eval()
        again.load_state_dict(network.state_dict())
        batch = Batch({"m": rows(family)}, torch.zeros(3), torch.ones(3, dtype=torch.bool), {}, torch.arange(3), {})
        with torch.no_grad():
            assert torch.equal(network(batch).prediction, again(batch).prediction)

    def test_weights_of_a_local_folder(self, folder, family, tmp_path, transformers):
        name = folder(family)
        source = Backbone(name, SHAPES[family], 8)
        source.net.model.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").is_file()
        loaded = Backbone(name, SHAPES[family], 8)
        theirs = source.net.model.state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in loaded.net.model.state_dict().items())


@pytest.mark.parametrize("family", ["wav2vec2", "bert"])
def test_padding_changes_nothing(folder, family):
    encoder = Backbone(folder(family), SHAPES[family], 8).eval()
    x, n = rows(family), SHAPES[family][0]
    length = torch.tensor([n, n - 5, n - 7])
    with torch.no_grad():
        out = encoder(x, length)
        alone = torch.cat([encoder(row[None, : int(k)], k[None]) for row, k in zip(x, length)])
    assert torch.allclose(out, alone, atol=1e-5)


def test_bert_sees_its_own_padding(folder):
    encoder = Backbone(folder("bert"), (12,), 8).eval()
    x = rows("bert")
    x[:, 7:] = 0
    with torch.no_grad():
        assert torch.allclose(encoder(x), encoder(x[:, :7]), atol=1e-5)
        assert encoder(torch.zeros(1, 12)).isfinite().all()


def test_bert_reads_token_numbers_as_prepared_text_has_them(folder):
    name = folder("bert")
    encoder = Backbone(name, (12, 1), 8).eval()
    x, length = rows("bert"), torch.tensor([12, 7, 5])
    with torch.no_grad():
        assert torch.equal(encoder(x[..., None]), encoder(x))
        assert torch.equal(encoder(x[..., None], length), encoder(x, length))


def test_group_normalised_wav2vec2_refuses_varying_length(folder):
    encoder = Backbone(folder("wav2vec2", feat_extract_norm="group"), (160,), 8)
    with pytest.raises(ConfigError, match="varying length"):
        encoder(torch.zeros(2, 160), torch.tensor([160, 80]))


@pytest.mark.parametrize(
    ("family", "shape", "message"),
    [
        ("videomae", (3, 8, 16, 16), r"reads clips of shape \(3, 4, 16, 16\), not rows of shape \(3, 8, 16, 16\)"),
        ("bert", (13,), "at most 12"),
        ("bert", (12, 2), r"\(time, 1\)"),
        ("wav2vec2", (19,), "at least 20 steps"),
        ("wav2vec2", (160, 2), r"\(time, 1\)"),
    ],
)
def test_rows_that_do_not_fit(folder, family, shape, message):
    with pytest.raises(ConfigError, match=message):
        Backbone(folder(family), shape, 8)


@pytest.mark.parametrize("wrong", [-1.0, 50.0, 0.5])
def test_token_numbers_are_checked(folder, wrong):
    encoder = Backbone(folder("bert"), (12,), 8)
    x = rows("bert")
    x[1, 2] = wrong
    with pytest.raises(DataError, match=f"from 0 to 49, not {wrong:g}"):
        encoder(x)


def test_bad_folders_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        Backbone("hf:bert-base-uncased", (12,), 8)
    name = folder("bert")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="type 'gpt2'; expected one of wav2vec2, bert, videomae"):
        Backbone(name, (12,), 8)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        Backbone(name, (12,), 8)


def test_weights_of_another_network_are_refused(folder, tmp_path):
    name = folder("bert")
    Backbone(name, (12,), 8).net.model.save_pretrained(tmp_path)
    folder("bert", num_hidden_layers=3)
    with pytest.raises(ConfigError, match="its weights lack 16 tensors"):
        Backbone(name, (12,), 8)


def test_code_in_a_folder_is_not_run(folder, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    name = folder("bert", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})
    assert Backbone(name, (12,), 8).net.family == "bert"


def test_transformers_is_named_where_it_is_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'pip install "\.\[hf\]"'):
        Backbone(f"hf:{tmp_path}", (12,), 8)


class Classifier(nn.Module):
    """What torchvision's networks look like."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
        self.fc = nn.Linear(5, 1000)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


class Features(nn.Module):
    """What timm's look like: a map with the channels first or last, or tokens after a class token."""

    num_features = 5

    def __init__(self, form: str, channels: int):
        super().__init__()
        self.conv, self.form = nn.Conv2d(channels, 5, 3, stride=2), form
        self.num_prefix_tokens = 1
        self.patch_embed = SimpleNamespace(grid_size=(4, 4))

    def forward_features(self, x):
        x = self.conv(x)
        if self.form == "tokens":
            x = x.flatten(2).transpose(1, 2)
            return torch.cat([x[:, :1] * 0 + 1e6, x], dim=1)
        return x.movedim(1, -1) if self.form == "last" else x


@pytest.fixture
def providers(monkeypatch):
    models = SimpleNamespace(get_model=lambda name, weights: {"net": Classifier}[name]())
    timm = SimpleNamespace(create_model=lambda name, pretrained, num_classes, in_chans: Features(name, in_chans))
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setitem(sys.modules, "timm", timm)


def test_a_torchvision_network_gives_a_vector(providers):
    encoder = Backbone("torchvision:net", (3, 8, 8), 5).eval()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(encoder(x), encoder.net.model.conv(x).mean((2, 3)))
    with pytest.raises(ConfigError, match=r"returns a vector; set network.tokens=1"):
        Backbone("torchvision:net", (3, 8, 8), 5, 2, returns="tokens")
    with pytest.raises(ConfigError, match=r"torchvision:net.* 3 channels"):
        Backbone("torchvision:net", (1, 8, 8), 5)
    with pytest.raises(ConfigError, match="torchvision:other"):
        Backbone("torchvision:other", (3, 8, 8), 5)


@pytest.mark.parametrize("form", ["first", "last", "tokens"])
def test_a_timm_network_gives_its_map(providers, form):
    torch.manual_seed(0)
    encoder = Backbone(f"timm:{form}", (2, 9, 9), 5).eval()
    x = torch.randn(2, 2, 9, 9)
    assert torch.allclose(encoder(x), encoder.net.model.conv(x).mean((2, 3)), atol=1e-6)
    encoder.returns = "map"
    assert torch.allclose(encoder(x), encoder.net.model.conv(x), atol=1e-6)


def test_absent_and_broken_providers_are_explained(monkeypatch, tmp_path):
    for name in ("torchvision", "torchvision.models", "timm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "torchvision").mkdir()
    code = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"torchvision::nms.*built for another torch"):
        Backbone("torchvision:resnet18", (3, 32, 32), 8)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm, which is not installed.*sidelight doctor"):
        Backbone("timm:resnet18", (3, 32, 32), 8)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_a_configuration_cannot_name_code_to_fetch(folder, name):
    """transformers takes such a value as a repository, whose kernels it would download and run."""
    network = folder("bert", **{name: "someone/kernels"})
    net = Backbone(network, SHAPES["bert"], 8).net
    assert net.config._attn_implementation in ("eager", "sdpa")
    assert "someone" not in json.dumps(net.description)
