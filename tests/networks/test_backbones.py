"""Public networks as encoders: names, shapes and counts of their public definitions; vectors, tokens and maps."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.slow import mostly_slow
from helpers.support import make_rows, task_of
from sidelight.config import NetworkConfig
from sidelight.config.encoder_names import BACKBONES, row_dimensions
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.methods import Supervised
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.backbones.base import running_statistics
from sidelight.networks.backbones.cnn14 import CNN14
from sidelight.networks.backbones.i3d import I3D, MIXED, pad_same
from sidelight.networks.backbones.video3d import VideoResNet
from sidelight.networks.build import build_network, describe, rebuild
from sidelight.networks.encoders import make_encoder
from sidelight.networks.encoding import encode
from sidelight.networks.hallucination import freeze
from sidelight.testing import CHECKS, Subject

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
ROWS = {
    ("resnet18", (40, 2)): 512,
    ("resnet18", (1, 33, 40)): 512,
    ("resnet18", (3, 32, 32)): 512,
    ("resnet50", (3, 32, 32)): 2048,
    ("densenet121", (3, 32, 32)): 1024,
    ("cnn14", (1, 32, 64)): 2048,
    ("r3d18", (3, 8, 32, 32)): 512,
    ("r2plus1d18", (1, 4, 32, 32)): 512,
    ("i3d", (2, 8, 32, 32)): 1024,
    ("monai:resnet10", (2, 8, 16, 16)): 512,
    ("monai:densenet121", (64, 2)): 1024,
    ("monai:seresnet50", (40, 2)): 2048,
}
SMALL = [("resnet18", (40, 2)), *mostly_slow([("resnet18", (1, 33, 40)), ("r3d18", (3, 4, 16, 16))], [])]
"""Signals in the default run; images and clips have the same layers with more dimensions."""


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_paper(make):
    """Built without memory for its weights."""
    with torch.device("meta"):
        return make()


def conv(name: str, norm: str) -> list[str]:
    return [f"{name}.weight", *(f"{norm}.{part}" for part in NORM)]


def video_names(factorised: bool) -> list[str]:
    """The names of torchvision's r3d_18 and r2plus1d_18, by the rule of their definition."""

    def convolution(name: str, norm: str) -> list[str]:
        return [*conv(f"{name}.0", f"{name}.1"), *conv(f"{name}.3", norm)] if factorised else conv(name, norm)

    names = convolution("stem", "stem.4") if factorised else conv("stem.0", "stem.1")
    for layer, block in [(layer, block) for layer in (1, 2, 3, 4) for block in (0, 1)]:
        where = f"layer{layer}.{block}"
        for part in ("conv1", "conv2"):
            names += convolution(f"{where}.{part}.0", f"{where}.{part}.1")
        if layer > 1 and block == 0:
            names += conv(f"{where}.downsample.0", f"{where}.downsample.1")
    return [*names, "fc.weight", "fc.bias"]


@pytest.mark.parametrize(("kind", "total"), [("r3d18", 33_371_472), ("r2plus1d18", 31_505_325)])
def test_video_networks_have_the_public_names_and_counts(kind, total):
    net = on_paper(lambda: VideoResNet(kind, 3, 400))
    assert list(net.state_dict()) == video_names(kind == "r2plus1d18")
    assert count(net) == total
    shapes = {name: tuple(p.shape) for name, p in net.state_dict().items()}
    if kind == "r3d18":
        assert shapes["stem.0.weight"] == (64, 3, 3, 7, 7)
        assert shapes["layer2.0.conv1.0.weight"] == (128, 64, 3, 3, 3)
    else:
        assert shapes["stem.0.weight"] == (45, 3, 1, 7, 7)
        assert shapes["layer2.0.conv1.0.0.weight"] == (230, 64, 1, 3, 3)
        assert shapes["layer2.0.conv2.0.0.weight"] == (230, 128, 1, 3, 3)  # the first layer's middle, not its own
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1, 1)


def test_i3d_has_the_public_names_and_counts():
    units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
    units += [f"{mixed}.{branch}" for mixed in MIXED for branch in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")]
    names = [name for unit in units for name in conv(f"{unit}.conv3d", f"{unit}.bn")]
    net = on_paper(lambda: I3D(3, 400))
    assert list(net.state_dict()) == [*names, "logits.conv3d.weight", "logits.conv3d.bias"]
    assert count(net) == 12_697_264
    for (_, before), (_, after) in pairwise(MIXED.items()):
        assert before[1] + before[3] + before[5] + before[6] == after[0]  # branches, side by side, are the next's input


def test_cnn14_has_the_public_names_and_counts():
    blocks = [f"conv_block{i}" for i in range(1, 7)]
    names = [f"{b}.conv{j}.weight" for b in blocks for j in (1, 2)]
    names += [f"{b}.bn{j}.{part}" for b in blocks for j in (1, 2) for part in NORM] + [f"bn0.{part}" for part in NORM]
    names += [f"{layer}.{part}" for layer in ("fc1", "fc_audioset") for part in ("weight", "bias")]
    net = on_paper(lambda: CNN14((1, 64, 100), 527))
    assert set(net.state_dict()) == set(names)
    assert count(net) == 80_753_615


@pytest.mark.parametrize(
    ("kind", "total"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]
)
def test_residual_networks_have_the_counts_of_torchvision(kind, total):
    from sidelight.networks.backbones.resnet import LAYERS, ResNet

    net = on_paper(lambda: ResNet(kind, 3, 2, 1000))
    assert count(net) == total
    names = conv("conv1", "bn1")
    block, layers = LAYERS[kind]
    for i, blocks in enumerate(layers, 1):
        for j in range(blocks):
            for k in range(1, 3 if block == "basic" else 4):
                names += conv(f"layer{i}.{j}.conv{k}", f"layer{i}.{j}.bn{k}")
            if j == 0 and (i > 1 or block == "bottleneck"):
                names += conv(f"layer{i}.{j}.downsample.0", f"layer{i}.{j}.downsample.1")
    assert list(net.state_dict()) == [*names, "fc.weight", "fc.bias"]


def test_densenet_has_the_count_of_torchvision_and_understands_its_names():
    from sidelight.networks.backbones.resnet import DenseNet

    net = on_paper(lambda: DenseNet("densenet121", 3, 2, 1000))
    assert count(net) == 7_978_856
    own = set(net.state_dict())
    for public in (
        "features.conv0.weight",
        "features.denseblock2.denselayer12.norm1.weight",
        "features.denseblock2.denselayer12.norm.1.running_mean",
        "features.denseblock1.denselayer1.conv.2.weight",
        "features.transition1.norm.weight",
        "features.norm5.bias",
        "classifier.weight",
    ):
        assert net.local_name(public) in own


@pytest.mark.parametrize("channels", [1, 3])
def test_resnet_is_monais(channels):
    from monai.networks.nets.resnet import resnet18

    theirs = resnet18(
        spatial_dims=2, n_input_channels=channels, conv1_t_stride=2, bias_downsample=False, shortcut_type="B",
        num_classes=7,
    ).eval()  # fmt: skip
    x = torch.randn(2, channels, 40, 33)
    ours = Backbone("resnet18", (channels, 40, 33), 512).eval()
    ours.net.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    theirs.fc = nn.Identity()
    with torch.no_grad():
        assert torch.equal(F.adaptive_avg_pool2d(ours.net.forward_maps(x), 1).flatten(1), theirs(x))
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("resnet101", (1, 33, 40), marks=pytest.mark.slow),  # as resnet10, with more layers
        ("resnet10", (2, 8, 16, 16)),
        ("densenet169", (64, 2)),
        pytest.param("seresnext50", (2, 32, 32), marks=pytest.mark.slow),  # as densenet169, for images
        pytest.param("seresnet50", (1, 8, 16, 16), marks=pytest.mark.slow),  # as seresnext50, without groups
    ],
)
def test_a_network_by_monais_name_is_monais(name, shape):
    import monai.networks.nets as nets

    signal, dims = len(shape) == 2, max(1, len(shape) - 1)
    channels = shape[1] if signal else shape[0]
    if name.startswith("resnet"):
        form = {"conv1_t_stride": 2, "bias_downsample": False, "shortcut_type": "B"}
        theirs = getattr(nets, name)(spatial_dims=dims, n_input_channels=channels, num_classes=7, **form)
        theirs.fc = nn.Identity()
    elif name.startswith("densenet"):
        theirs = getattr(nets, name)(spatial_dims=dims, in_channels=channels, out_channels=7)
        theirs.class_layers.out = nn.Identity()
    else:
        theirs = getattr(nets, name)(spatial_dims=dims, in_channels=channels)
        theirs.last_linear = nn.Identity()
    ours = Backbone(f"monai:{name}", shape, 2048).eval()
    found = ours.net.load_state_dict(theirs.state_dict(), strict=False)
    assert not found.missing_keys
    x = torch.randn(2, *shape)
    with torch.no_grad():
        expected = theirs.eval()(x.transpose(1, 2) if signal else x)
        pooled = ours.net.pool(ours.net.forward_maps(x), 1)[:, 0]
    assert torch.allclose(pooled, expected.flatten(1), atol=1e-4, rtol=1e-4)


def test_a_wrong_name_of_monai_and_small_rows_are_named():
    with pytest.raises(ConfigError, match=r"network of monai 'resnet19'.*resnet18"):
        Backbone("monai:resnet19", (3, 32, 32))
    with pytest.raises(ConfigError, match="'densenet121' needs rows of at least 32×32×32, not 16×32×32"):
        Backbone("monai:densenet121", (1, 16, 32, 32))
    with pytest.raises(ConfigError, match=r"'monai:resnet18' reads signals .*, not rows of shape \(5,\)"):
        Backbone("monai:resnet18", (5,))


def test_r3d_is_its_definition():
    """Against the formula, written with functions over the state dict."""
    torch.manual_seed(0)
    net = VideoResNet("r3d18", 3, 5).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm3d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
    s = net.state_dict()

    def layer(x, name, norm, stride, padding):
        x = F.conv3d(x, s[f"{name}.weight"], None, stride, padding)
        return F.batch_norm(x, *(s[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    x = torch.randn(1, 3, 5, 24, 20)
    y = F.relu(layer(x, "stem.0", "stem.1", (1, 2, 2), (1, 3, 3)))
    for i, j in [(i, j) for i in (1, 2, 3, 4) for j in (0, 1)]:
        at, stride = f"layer{i}.{j}", 2 if i > 1 and j == 0 else 1
        out = F.relu(layer(y, f"{at}.conv1.0", f"{at}.conv1.1", stride, 1))
        out = layer(out, f"{at}.conv2.0", f"{at}.conv2.1", 1, 1)
        y = F.relu(out + (layer(y, f"{at}.downsample.0", f"{at}.downsample.1", stride, 0) if stride == 2 else y))
    with torch.no_grad():
        assert torch.allclose(net(x), F.linear(y.mean((2, 3, 4)), s["fc.weight"], s["fc.bias"]), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (3, 1), (2, 2), (1, 2)])
def test_same_padding_gives_every_stride_a_step(n, kernel, stride):
    x = torch.ones(1, 1, n, n, n)
    padded = pad_same(x, (kernel,) * 3, (stride,) * 3)
    assert F.max_pool3d(padded, kernel, stride).shape[2:] == (-(-n // stride),) * 3
    assert padded.sum() == n**3
    before = int(padded.sum((0, 1, 3, 4)).nonzero()[0])
    assert 0 <= padded.shape[2] - n - 2 * before <= 1  # the odd zero stands at the end


LARGE = ("cnn14", "resnet50", "r2plus1d18", "monai:seresnet50")
"""Whose names and counts are checked above without memory for them, and whose wrapper is that of the others."""


@pytest.mark.parametrize(("kind", "shape"), mostly_slow(ROWS, lambda case: case[0] not in LARGE))
def test_vector_tokens_and_map(kind, shape):
    torch.manual_seed(0)
    encoder = Backbone(kind, shape, 16, tokens=2, returns="tokens").eval()
    assert encoder.net.out_channels == ROWS[kind, shape]
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert encoder(x).shape == (2, 2, 16) == (2, *encoder.out_shape)
        encoder.returns, encoder.tokens = "vector", 1
        vector = encoder(x)
        encoder.returns = "map"
        maps = encoder(x)
    assert vector.shape == (2, 16)
    assert maps.dim() == (4 if kind == "cnn14" else len(shape) + 1)
    assert maps.shape[:2] == (2, 16)
    if kind != "cnn14":  # whose vector is its public embedding
        assert torch.allclose(maps.flatten(2).mean(2), vector, atol=1e-5)


def test_tokens_of_a_spectrogram_are_stretches_of_time_and_of_a_clip_of_frames():
    net = Backbone("resnet18", (1, 64, 64), 512).net
    maps = torch.arange(4.0).expand(1, 1, 3, 4)  # the value is the column
    assert net.pool(maps, 2).flatten().tolist() == [0.5, 2.5]
    clips = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)
    assert net.pool(clips, 4).flatten().tolist() == [0, 1, 2, 3]


def test_cnn14_reads_both_layouts_alike():
    torch.manual_seed(0)
    a = CNN14((1, 32, 64))
    with torch.device("meta"):  # its 80 million weights are not drawn twice
        b = CNN14((64, 32))
    b.load_state_dict(a.state_dict(), assign=True)
    x = torch.randn(1, 1, 32, 64)
    with torch.no_grad():
        assert torch.equal(a.eval()(x), b.eval()(x[:, 0].transpose(1, 2)))


@pytest.mark.parametrize(("kind", "shape"), SMALL)
def test_a_prediction_does_not_depend_on_batch_mates(kind, shape):
    torch.manual_seed(0)
    encoder = Backbone(kind, shape, 8).double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    encoder.train()(x)  # running statistics are no longer 0 and 1
    encoder.eval()
    with torch.no_grad():
        assert torch.allclose(encoder(x), torch.cat([encoder(row[None]) for row in x]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "shape"), SMALL)
def test_a_batch_of_one_row_trains_by_the_running_statistics(kind, shape):
    torch.manual_seed(0)
    encoder = Backbone(kind, shape, 8)
    x = torch.randn(1, *shape)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    out = encoder.train()(x)
    out.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(m.training for m in encoder.modules())
    with torch.no_grad():
        assert torch.allclose(encoder.eval()(x), out, atol=1e-6)
    assert not any(m.training for m in encoder.modules())


def test_running_statistics_are_put_back_after_an_error():
    norm = nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="expected 2D or 3D input"), running_statistics(norm, True):
        norm(torch.zeros(1))
    assert norm.training
    with running_statistics(norm, True):
        assert not norm.training


def test_freezing_keeps_the_statistics_too():
    torch.manual_seed(0)
    network = build_network({"phone": (40, 2)}, ["phone"], 2, NetworkConfig(encoder="resnet18", width=8))
    network.encoders["phone"] = freeze(network.encoders["phone"])
    before = {k: v.clone() for k, v in network.encoders.state_dict().items()}
    network.train()
    n = 6
    batch = Batch(
        {"phone": torch.randn(n, 40, 2)}, torch.zeros(n), torch.ones(n, dtype=torch.bool), {}, torch.arange(n), {}
    )
    network(batch).prediction.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in network.encoders.state_dict().items())
    assert all(p.grad is None for p in network.encoders.parameters())
    assert network.head.weight.grad is not None


def test_rows_that_lack_the_modality_are_no_part_of_the_statistics():
    torch.manual_seed(0)
    encoders = nn.ModuleDict({"phone": Backbone("resnet18", (40, 2), 8)})
    x = torch.randn(6, 40, 2)
    there = torch.tensor([True, False, True, True, False, True])
    whole = Batch({"phone": x * there.view(-1, 1, 1)}, x, there, {"phone": there}, torch.arange(6), {})
    start = {k: v.clone() for k, v in encoders.state_dict().items()}
    features = encode(encoders.train(), whole)["phone"]
    after = {k: v.clone() for k, v in encoders.state_dict().items()}
    encoders.load_state_dict(start)
    alone = encoders["phone"](x[there])
    assert torch.equal(features[there][:, 0], alone)
    assert (features[~there] == 0).all()
    assert all(torch.equal(v, after[k]) for k, v in encoders.state_dict().items())
    nobody = Batch(whole.inputs, x, there, {"phone": torch.zeros(6, dtype=torch.bool)}, torch.arange(6), {})
    assert encode(encoders, nobody)["phone"].shape == (6, 1, 8)


class TestSettings:
    shapes = {"video": (3, 4, 16, 16), "eda": (7,), "pulse": (20, 2)}

    def test_one_name_for_all_modalities_that_fit(self):
        config = NetworkConfig(encoder="resnet18", width=8)
        network = build_network({m: self.shapes[m] for m in ("eda", "pulse")}, ["eda", "pulse"], 2, config)
        assert [e.kind for e in network.encoders.values()] == ["mlp", "resnet18"]

    def test_by_modality_and_rebuilt_from_json(self):
        config = NetworkConfig(width=8, encoders={"video": "r3d18", "pulse": "cnn"}, tokens=2)
        torch.manual_seed(0)
        network = build_network(self.shapes, list(self.shapes), 2, config).eval()
        assert {m: e.kind for m, e in network.encoders.items()} == {"video": "r3d18", "eda": "mlp", "pulse": "cnn"}
        again = rebuild(json.loads(json.dumps(describe(network)))).eval()
        again.load_state_dict(network.state_dict())
        rows = {m: torch.randn(2, *s) for m, s in self.shapes.items()}
        batch = Batch(rows, torch.zeros(2), torch.ones(2, dtype=torch.bool), {}, torch.arange(2), {})
        with torch.no_grad():
            assert torch.equal(network(batch).prediction, again(batch).prediction)
            assert network(batch).features["video"].shape == (2, 2, 8)

    def test_a_subclass_is_the_users_own(self):
        class Mine(Backbone):
            pass

        network = build_network(
            {"pulse": (20, 2)}, ["pulse"], 2, NetworkConfig(), encoders={"pulse": Mine("resnet18", (20, 2), 8)}
        )
        assert describe(network)["encoders"] == [{"modality": "pulse", "kind": "custom"}]

    @pytest.mark.parametrize(
        ("kind", "shape", "message"),
        [
            ("r3d18", (20, 2), r"reads clips \(channels, time, height, width\), not rows of shape \(20, 2\).*resnet18"),
            ("resnet18", (7,), r"reads signals .* or images .*, not rows of shape \(7,\)"),
            ("densenet121", (3, 16, 40), "at least 32×32"),
            ("cnn14", (3, 64, 64), "log-mel spectrograms of shape"),
            ("cnn14", (1, 16, 64), "at least 32 bands"),
            ("i3d", (3, 0, 8, 8), "empty rows"),
            ("resnet19", (3, 32, 32), "Did you mean 'resnet18'"),
            ("auto", (3, 32, 32), "set network.encoder.*resnet18"),
            ("cnn", (3, 4, 16, 16), "r3d18, r2plus1d18, i3d"),
        ],
    )
    def test_rows_that_do_not_fit_are_named(self, kind, shape, message):
        with pytest.raises(ConfigError, match=message):
            make_encoder(kind, shape)

    def test_varying_length_is_refused(self):
        with pytest.raises(ConfigError, match="varying length"):
            Backbone("resnet18", (20, 2), 8)(torch.zeros(2, 20, 2), torch.tensor([20, 3]))

    def test_maps_do_not_go_into_a_fusion_of_tokens(self):
        encoder = make_encoder("resnet18", (20, 2))
        encoder.returns = "map"
        with pytest.raises(ConfigError, match="returns maps"):
            build_network({"pulse": (20, 2)}, ["pulse"], 2, NetworkConfig(), encoders={"pulse": encoder})

    def test_every_name_is_built_and_tested(self):
        assert {kind for kind, _ in ROWS if ":" not in kind} | {"resnet34"} == set(BACKBONES)
        assert all(len(shape) in row_dimensions(kind) for kind, shape in ROWS)


class Tiny(Backbone):
    """The contract's checks take hundreds of steps, so the network in the wrapper is a small one."""

    class Net(nn.Module):
        out_channels = 8
        reads_length = False

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(2, 8, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm1d(8)

        def forward_maps(self, x, length=None):
            return F.relu(self.bn(self.conv(x.transpose(1, 2))))

        def pool(self, maps, tokens, length=None):
            return maps.mean(2, keepdim=True).transpose(1, 2)

    def __init__(self):
        nn.Module.__init__(self)
        self.net, self.kind, self.settings = self.Net(), "tiny", {}
        self.tokens, self.returns, self.out_shape = 1, "vector", (1, 8)
        self.project, self.drop = nn.Identity(), nn.Dropout(0.1)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_method_contract_accepts_batch_normalisation(check):
    """A teacher whose encoder has running statistics, on rows that partly lack labels and modalities."""
    shapes = {"phone": (6,), "watch": (4,), "pulse": (8, 2)}

    def factory(dtype):
        torch.manual_seed(0)
        network = build_network(
            shapes, list(shapes), 3, NetworkConfig(width=8, dropout=0.1), encoders={"pulse": Tiny()}
        )
        return Supervised(network.to(dtype), task_of("classification"))

    rows = make_rows("classification", "both")
    rows.present["pulse"] = torch.arange(len(rows)) % 4 != 1
    check(Subject(factory, rows, tuple(shapes), ()))


def test_a_run_with_encoders_by_modality_and_local_weights(tmp_path):
    """From arrays to a stored student, which needs neither the weights file nor a word about its encoders."""
    import sidelight as sl

    generator = np.random.default_rng(0)
    target = np.tile(["no", "yes"], 12)
    pulse = generator.normal(size=(24, 16, 2)).astype("float32") + (target == "yes")[:, None, None]
    split = np.repeat(["train", "select", "test"], 8)
    data = sl.load({"pulse": pulse, "age": pulse[:, 0], "swing": pulse[:, ::2], "target": target, "split": split})
    torch.manual_seed(5)
    weights = Backbone("resnet18", (16, 2), 4).net.state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, tmp_path / "pulse.pt")
    study = sl.compare(
        data,
        ["age", "pulse"],
        ["swing"],
        ["kl"],
        seeds=1,
        network={
            "width": 4,
            "encoders": {"pulse": "resnet18", "swing": "cnn"},
            "weights": {"pulse": str(tmp_path / "pulse.pt")},
        },
        training={"epochs": 1},
        placebo=["none"],
        output=str(tmp_path / "run"),
        jobs=1,
        quiet=True,
    )
    (tmp_path / "pulse.pt").unlink()
    student = study.best().student
    assert {m: e.kind for m, e in student.network.encoders.items()} == {"age": "mlp", "pulse": "resnet18"}
    rows = {"age": pulse[:, 0], "pulse": pulse}
    assert set(student.predict(rows)) <= {"no", "yes"}
    alone = np.concatenate([student.predict_proba({m: x[[i]] for m, x in rows.items()}) for i in range(3)])
    assert np.allclose(student.predict_proba(rows)[:3], alone, atol=1e-5)
