"""Inception-3D over clips, with the parameter names of the public PyTorch checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.networks.backbones.base import BackboneNet

Triple = tuple[int, int, int]
MIXED: dict[str, tuple[int, ...]] = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels read, then of the branches b0, b1a, b1b, b2a, b2b and b3b."""


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """x (B, C, T, H, W) with zeros around it, as "same" padding in TensorFlow; the odd one is at the end.

    Args:
        x: (B, C, T, H, W).
        kernel: size of the kernel along T, H and W.
        stride: its strides.

    Returns:
        x, padded so that the kernel gives ⌈n/stride⌉ steps in each direction.
    """
    pads: list[int] = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        missing = max(k - (n % s or s), 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x, pads) if any(pads) else x


class Unit3D(nn.Module):
    """ReLU(bn(conv(x))) with "same" padding; plain convolution with a bias for the logits."""

    def __init__(
        self, channels: int, out: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1), last: bool = False
    ):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(out, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(pad_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class Pool(nn.Module):
    """Maximum with "same" padding; the zeros count, since its input is never negative."""

    def __init__(self, kernel: Triple, stride: Triple):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Inception(nn.Module):
    """Four branches side by side: 1×1×1; 1×1×1 then 3×3×3, twice; 3×3×3 maximum then 1×1×1."""

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        channels, b0, b1a, b1b, b2a, b2b, b3b = sizes
        self.b0 = Unit3D(channels, b0)
        self.b1a, self.b1b = Unit3D(channels, b1a), Unit3D(b1a, b1b, (3, 3, 3))
        self.b2a, self.b2b = Unit3D(channels, b2a), Unit3D(b2a, b2b, (3, 3, 3))
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit3D(channels, b3b)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)


class I3D(BackboneNet, nn.Module):
    """Inception-v1 over clips: (B, C, T, H, W) -> (B, 1024, ⌈T/8⌉, ⌈H/32⌉, ⌈W/32⌉).

    Carreira and Zisserman, Quo vadis, action recognition?, 2017 (arXiv 1705.07750). 12,697,264 parameters with 3
    channels and 400 classes; names of the public `rgb_imagenet.pt` and `flow_imagenet.pt` (2 channels), which read
    frames in [-1, 1].
    """

    def __init__(self, channels: int = 3, classes: int | None = None):
        super().__init__()
        self.out_channels = 1024
        self.Conv3d_1a_7x7 = Unit3D(channels, 64, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, (3, 3, 3))
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        for name, sizes in MIXED.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = Pool((2, 2, 2), (2, 2, 2))
            self.add_module(name, Inception(sizes))
        self.logits = None if classes is None else Unit3D(1024, classes, last=True)

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        for name, layer in self.named_children():
            if name != "logits":
                x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, classes) logits, or without classes the mean feature (B, 1024)."""
        mean = self.forward_maps(x).mean((2, 3, 4), keepdim=True)
        out: Tensor = (mean if self.logits is None else self.logits(mean)).flatten(1)
        return out
