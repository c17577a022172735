"""Residual and densely connected networks, built by monai with the names of torchvision's checkpoints."""

from __future__ import annotations

import re
from typing import Any

from monai.networks.nets.densenet import DenseNet121 as MonaiDenseNet
from monai.networks.nets.resnet import ResNet as MonaiResNet
from torch import Tensor
from torch.nn import functional as F

from sidelight.errors import ConfigError
from sidelight.networks.backbones.base import Net

LAYERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
}
WIDTHS = (64, 128, 256, 512)


class ResNet(Net, MonaiResNet):
    """ResNet-18, -34 or -50 over images (B, C, H, W) or signals (B, T, C): maps of 512, 512 or 2048 channels, 32 times
    coarser than the row.

    He et al., Deep residual learning for image recognition, 2016. The 2-D networks have the names and shapes of
    torchvision's `resnet18`, `resnet34` and `resnet50` (stride in the bottleneck's 3×3 convolution).
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
        found = [first]
        x = self.maxpool(first)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            found.append(x)
        return found

    def maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return self.levels(x.transpose(1, 2) if self.dims == 1 else x)[-1]


class DenseNet(Net, MonaiDenseNet):
    """DenseNet-121 over images (B, C, H, W): maps (B, 1024, ⌊H/32⌋, ⌊W/32⌋).

    Huang et al., Densely connected convolutional networks, 2017. Names in torchvision's checkpoints, in both of their
    spellings, are understood by `load_weights`.
    """

    def __init__(self, channels: int, classes: int | None = None):
        MonaiDenseNet.__init__(self, spatial_dims=2, in_channels=channels, out_channels=classes or 1)
        self.out_channels = 1024
        if classes is None:
            del self.class_layers

    def maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return F.relu(self.features(x))

    def local_name(self, name: str) -> str:
        name = re.sub(r"(denselayer\d+)\.(norm|conv)\.?([12])\.", r"\1.layers.\2\3.", name)
        return re.sub(r"^classifier\.", "class_layers.out.", name)


def make_monai(kind: str, shape: tuple[int, ...]) -> Any:
    """The residual network for rows (T, C) or (C, H, W), or the densely connected one for (C, H, W)."""
    if kind == "densenet121":
        if min(shape[1:]) < 32:
            raise ConfigError(f"encoder 'densenet121' needs images of at least 32×32, not rows of shape {shape}")
        return DenseNet(shape[0])
    return ResNet(kind, shape[1], 1) if len(shape) == 2 else ResNet(kind, shape[0], 2)
