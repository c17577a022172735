"""Residual, dense and squeeze-and-excitation networks, built by monai for signals, images, clips and volumes."""

from __future__ import annotations

import re
from typing import Any

import monai.networks.nets as monai
from monai.networks.nets.densenet import DenseNet as MonaiDenseNet
from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.errors import ConfigError, unknown
from sidelight.networks.backbones.base import BackboneNet

LAYERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
    "resnet200": ("bottleneck", (3, 24, 36, 3)),
}
DENSE = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
    "densenet264": (6, 12, 64, 48),
}
SQUEEZED = {
    "senet154": "SENet154",
    "seresnet50": "SEResNet50",
    "seresnet101": "SEResNet101",
    "seresnet152": "SEResNet152",
    "seresnext50": "SEResNeXt50",
    "seresnext101": "SEResNeXt101",
}
WIDTHS = (64, 128, 256, 512)


class ResNet(BackboneNet, MonaiResNet):
    """A residual network over signals (B, T, C), images (B, C, H, W) or clips and volumes (B, C, T, H, W).

    Its maps have 512 channels (up to 34 layers) or 2048, and are 32 times coarser than the row. He et al., Deep
    residual learning for image recognition, 2016. The 2-D ones have the names and shapes of torchvision's `resnet18`,
    `resnet34`, `resnet50` and so on (stride in the bottleneck's 3×3 convolution).
    """

    def __init__(self, kind: str, channels: int, dims: int, classes: int | None = None):
        block, layers = LAYERS[kind]
        MonaiResNet.__init__(
            self, block, list(layers), list(WIDTHS), spatial_dims=dims, n_input_channels=channels, conv1_t_stride=2,
            bias_downsample=False, feed_forward=classes is not None, num_classes=classes or 0,
        )  # fmt: skip
        self.dims = dims
        self.out_channels = WIDTHS[-1] * (4 if block == "bottleneck" else 1)

    def levels(self, x: Tensor) -> list[Tensor]:
        """Maps that are 2, 4, 8, 16 and 32 times coarser than the images (B, C, H, W)."""
        first = self.act(self.bn1(self.conv1(x)))
        found = [first]  # before the pooling, which makes the next level
        x = self.maxpool(first)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            found.append(x)
        return found

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return self.levels(x.transpose(1, 2) if self.dims == 1 else x)[-1]


class DenseNet(BackboneNet, MonaiDenseNet):
    """DenseNet-121, -169, -201 or -264: maps of 1024 to 2688 channels, 32 times coarser than the row, rounded down.

    Over signals (B, T, C), images (B, C, H, W) or clips and volumes (B, C, T, H, W). Huang et al., Densely connected
    convolutional networks, 2017. `load_weights` reads both spellings of the names in torchvision's checkpoints.
    """

    def __init__(self, kind: str, channels: int, dims: int, classes: int | None = None):
        MonaiDenseNet.__init__(
            self, spatial_dims=dims, in_channels=channels, out_channels=classes or 1, block_config=DENSE[kind]
        )
        self.dims = dims
        last: Any = self.class_layers.out
        self.out_channels = last.in_features
        if classes is None:
            del self.class_layers

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return F.relu(self.features(x.transpose(1, 2) if self.dims == 1 else x))

    def local_name(self, name: str) -> str:
        name = re.sub(r"(denselayer\d+)\.(norm|conv)\.?([12])\.", r"\1.layers.\2\3.", name)
        return re.sub(r"^classifier\.", "class_layers.out.", name)


class SENet(BackboneNet, nn.Module):
    """SENet-154, SE-ResNet or SE-ResNeXt as monai defines them: maps of 2048 channels, 32 times coarser than the row.

    Over signals (B, T, C), images (B, C, H, W) or clips and volumes (B, C, T, H, W). Hu et al., Squeeze-and-excitation
    networks, 2018.
    """

    out_channels = 2048

    def __init__(self, kind: str, channels: int, dims: int):
        super().__init__()
        whole = getattr(monai, SQUEEZED[kind])(spatial_dims=dims, in_channels=channels)
        self.dims = dims
        for name in ("layer0", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(whole, name))

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        x = x.transpose(1, 2) if self.dims == 1 else x
        for layer in self.children():
            x = layer(x)
        return x


def make_monai(kind: str, shape: tuple[int, ...]) -> Any:
    """The monai network of a name, with fresh weights, for rows (T, C), (C, H, W) or (C, T, H, W).

    Raises:
        ConfigError: The name is unknown, or the rows are too small for a DenseNet.
    """
    channels, dims, size = (shape[1], 1, shape[:1]) if len(shape) == 2 else (shape[0], len(shape) - 1, shape[1:])
    if kind in LAYERS:
        return ResNet(kind, channels, dims)
    if kind in SQUEEZED:
        return SENet(kind, channels, dims)
    if kind not in DENSE:
        raise ConfigError(unknown("network of monai", kind, [*LAYERS, *DENSE, *SQUEEZED]))
    if min(size) < 32:
        raise ConfigError(
            f"encoder {kind!r} needs rows of at least {'×'.join(['32'] * dims)}, not {'×'.join(map(str, size))}"
        )
    return DenseNet(kind, channels, dims)
