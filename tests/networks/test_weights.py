"""Local weights: what is matched, missing and unexpected; nothing executes; nothing is half loaded."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from sidelight.cli import main
from sidelight.config import NetworkConfig, dump_config, load_config
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.networks.backbones import weights as module
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.backbones.weights import load_weights
from sidelight.networks.build import build_network
from sidelight.networks.encoders import make_encoder


def a_net(channels: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def built(channels: int = 3, seed: int = 0) -> nn.Sequential:
    net = a_net(channels, seed)
    net(torch.zeros(2, channels, 5, 5))
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("own", ""),
        ("absent", "does not exist"),
        ("damaged", "truncated, or not a safetensors file"),
        ("other", "none of its 1 tensors belongs to this network"),
        ("nan", "holds NaN or infinity"),
        ("modality", "unknown modality 'phon'"),
    ],
)
def test_a_dry_run_opens_them(tmp_path, capsys, weights, said):
    """As the run would, which trains other networks before it comes to them."""
    cells = [f"{i},{i % 2},{i // 3},{i}.5,{i % 5},{-i}" for i in range(30)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,target,group,phone.0,phone.1,watch.0", *cells]))
    own = make_encoder("auto", (2,), 8, 4).state_dict()
    held = {"own": own, "other": {"x": torch.zeros(2)}, "nan": {k: v * torch.nan for k, v in own.items()}}
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(held.get(weights, own), file)
    if weights == "damaged":
        file.write_bytes(file.read_bytes()[:40])
    if weights == "absent":
        file.unlink()
    words = ["--available", "phone", "--privileged", "watch", "--network.width", "8", f"--output={tmp_path / 'run'}"]
    words.append(f"network.weights.{'phon' if weights == 'modality' else 'phone'}={file}")
    assert main(["run", str(tmp_path / "rows.csv"), "--dry-run", *words]) == (2 if said else 0)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["safetensors", "pt", "nested"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone.", "encoder.", "model.encoder."])
def test_round_trip_whatever_the_file_and_the_prefix(tmp_path, form, prefix):
    source, target = built(seed=1), built(seed=2)
    tensors = {prefix + name: t for name, t in source.state_dict().items()}
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save({"epoch": 3, "model": {"state_dict": tensors}} if form == "nested" else tensors, path)
    report = load_weights(target, path)
    assert same(source, target)
    assert set(report.matched) == set(source.state_dict())
    assert not report.missing
    assert not report.unexpected
    assert f"{len(tensors)} of {len(tensors)} tensors loaded" in str(report)


def test_the_report_names_what_is_missing_and_what_has_no_place(tmp_path):
    source, target = built(seed=1), built(seed=2)
    tensors = {k: v for k, v in source.state_dict().items() if k not in ("3.bias", "1.num_batches_tracked")}
    kept = target.state_dict()["3.bias"].clone()
    torch.save({**tensors, "fc.weight": torch.zeros(3)}, tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth")
    assert report.missing == ("3.bias",)  # a counter that old files lack is not called missing
    assert report.unexpected == ("fc.weight",)
    assert torch.equal(target.state_dict()["3.bias"], kept)
    assert "missing from the file, left as they were: 3.bias" in str(report)
    assert "in the file only, not loaded: fc.weight" in str(report)


def test_a_name_as_it_stands_wins_over_a_stripped_one(tmp_path):
    net = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    tensors = {k: torch.full_like(v, 7) for k, v in net.state_dict().items()}
    torch.save({"module.head.bias": torch.zeros(1), **tensors}, tmp_path / "w.pt")
    report = load_weights(net, tmp_path / "w.pt")
    assert all((v == 7).all() for v in net.state_dict().values())
    assert report.unexpected == ("module.head.bias",)


def test_a_first_convolution_is_summed_where_it_is_asked(tmp_path):
    source, grey = built(3, seed=1).eval(), built(1, seed=2).eval()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    before = {k: v.clone() for k, v in grey.state_dict().items()}
    with pytest.raises(RunError, match=r"0.weight has shape \(4, 3, 3, 3\); expected \(4, 1, 3, 3\).*sum_channels"):
        load_weights(grey, tmp_path / "w.pt")
    assert all(torch.equal(v, before[k]) for k, v in grey.state_dict().items())
    report = load_weights(grey, tmp_path / "w.pt", sum_channels=True)
    assert report.summed == ("0.weight",)
    x = torch.randn(2, 1, 5, 5)
    with torch.no_grad():
        assert torch.allclose(grey(x), source(x.expand(-1, 3, -1, -1)), atol=1e-6)


class Call:
    """A pickle that would run code."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("other", "none of its 1 tensors belongs to this network. It has other; expected 0.weight"),
        ("shape", r"3.weight has shape \(9, 9\); expected"),
        ("nan", "1.running_mean holds NaN or infinity"),
        ("truncated", "no weights file, or it is damaged"),
        ("pickle", "could execute code"),
        ("list", "holds a list, not tensors by name"),
        ("empty", "holds no tensors by name; it has epoch"),
        ("text.safetensors", "it is text, beginning with 'no weights'"),
        ("absent", "does not exist"),
    ],
)
def test_a_bad_file_is_named_and_changes_nothing(tmp_path, content, message, capsys):
    net = built()
    path = tmp_path / (content if "." in content else "w.pt")
    state = net.state_dict()
    if content == "other":
        torch.save({"other": torch.zeros(2)}, path)
    elif content == "shape":
        torch.save({**state, "3.weight": torch.zeros(9, 9)}, path)
    elif content == "nan":
        torch.save({**state, "1.running_mean": torch.full((4,), torch.nan)}, path)
    elif content == "truncated":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:200])
    elif content == "pickle":
        path.write_bytes(pickle.dumps(Call()))
    elif content in ("list", "empty"):
        torch.save([1] if content == "list" else {"epoch": 3}, path)
    elif content != "absent":
        path.write_text("no weights")
    before = {k: v.clone() for k, v in state.items()}
    with pytest.raises(RunError, match=message) as error:
        load_weights(net, path)
    assert path.name in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert "executed" not in capsys.readouterr().out


def test_densenets_public_names_are_understood(tmp_path):
    encoder = Backbone("densenet121", (3, 32, 32), 16)
    public = {name.replace(".layers.", "."): torch.full_like(t, 2) for name, t in encoder.net.state_dict().items()}
    torch.save(public, tmp_path / "w.pt")
    report = load_weights(encoder, tmp_path / "w.pt")
    assert not report.missing
    assert not report.unexpected


class TestSettings:
    def network(self, path, **settings):
        config = NetworkConfig(encoder="resnet18", width=8, weights={"pulse": str(path)}, **settings)
        return build_network({"pulse": (20, 2)}, ["pulse"], 2, config)

    def test_encoders_start_from_a_file_and_incomplete_ones_are_announced_once(self, tmp_path):
        module._warn_once.cache_clear()
        torch.manual_seed(1)
        source = Backbone("resnet18", (20, 2), 8).net.state_dict()
        torch.save({f"module.{k}": v for k, v in source.items()}, tmp_path / "w.pt")
        network = self.network(tmp_path / "w.pt")
        assert all(torch.equal(v, source[k]) for k, v in network.encoders["pulse"].net.state_dict().items())
        torch.save({k: v for k, v in source.items() if not k.startswith("layer4")}, tmp_path / "part.pt")
        with pytest.warns(SidelightWarning, match=r"(?s)network.weights.pulse: .*missing from the file.*layer4"):
            self.network(tmp_path / "part.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.network(tmp_path / "part.pt")

    def test_yaml_and_dotted_overrides(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        file = Path("e.yaml")
        file.write_text("data: phone-watch\nnetwork:\n  encoders: {video: r3d18}\n  weights:\n    video: a.pt\n")
        config = load_config(file, ["network.encoders.eda=mlp", "network.weights.video=hf/model.pt", "network.width=8"])
        assert config.network.encoders == {"video": "r3d18", "eda": "mlp"}
        assert config.network.weights == {"video": "hf/model.pt"}
        assert config.network.width == 8
        Path("again.yaml").write_text(dump_config(config))
        assert load_config("again.yaml") == config
        assert load_config().network.encoders == {}

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("network.encoders.video=r3d19", "unknown value of network.encoders.video 'r3d19'. Did you mean 'r3d18'"),
            ("network.encoder=resnet81", "unknown value of network.encoder 'resnet81'. Did you mean 'resnet18'"),
            ("network.encoder=hf:", "unknown value of network.encoder 'hf:'"),
            ("network.encoders=r3d18", "is a group of settings"),
        ],
    )
    def test_wrong_names(self, override, message):
        with pytest.raises(ConfigError, match=message):
            load_config(None, [override])

    def test_values_are_texts(self):
        with pytest.raises(ConfigError, match=r"network.encoders.video: expected text, not 3"):
            load_config({"network": {"encoders": {"video": 3}}})
