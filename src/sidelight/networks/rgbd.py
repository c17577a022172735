"""Segmentation of RGB and depth after ESANet: residual encoders with four levels, and a decoder from coarse to fine.

Seichter et al., Efficient RGB-D semantic segmentation for indoor scene analysis, ICRA 2021 (arXiv 2011.06961). There
the depth branch is added to the colour branch before each of its stages, so colours are encoded together with depth.
Here each modality is encoded alone and the levels are fused afterwards (`fusions.SqueezeExcitationFusion`): a student
can then leave the depth branch out, or hallucinate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.errors import ConfigError
from sidelight.networks.backbones.base import running_statistics
from sidelight.networks.dense import STRIDE, num_groups

LEVELS = 4
"""Maps of a pyramid, 4, 8, 16 and 32 times coarser than the image."""


class PyramidEncoder(nn.Module):
    """ResNet-34 or -50 with all its levels: (B, C, H, W) -> (B, 4·width, ⌈H/4⌉, ⌈W/4⌉).

    A 1×1 convolution brings level ℓ (4·2^ℓ times coarser than the image) to `width` channels, and it is repeated 2^ℓ
    times along both sides, so that one map holds all four; `split_levels` takes them apart again without loss. The
    network inside has torchvision's names. It is batch-normalised; the rest is normalised by groups.

    Args:
        kind: "resnet34-pyramid" or "resnet50-pyramid".
        shape: (C, H, W) of an image.
        width: channels of a level.
    """

    batch_statistics = True

    def __init__(self, kind: str, shape: Sequence[int], width: int = 64):
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(f"encoder {kind!r} reads images of shape (channels, height, width), not {tuple(shape)}")
        from sidelight.networks.backbones.resnet import WIDTHS, ResNet

        name = kind.removesuffix("-pyramid")
        self.kind = kind
        self.settings: dict[str, Any] = {"shape": list(shape), "width": width}
        self.grid = (-(-shape[1] // STRIDE), -(-shape[2] // STRIDE))
        self.out_shape = (LEVELS * width, *self.grid)
        self.net: Any = ResNet(name, shape[0], 2)
        wider = self.net.out_channels // WIDTHS[-1]
        self.lateral = nn.ModuleList(make_norm_relu(nn.Conv2d(w * wider, width, 1, bias=False)) for w in WIDTHS)

    def forward(self, x: Tensor) -> Tensor:
        with running_statistics(self.net, self.training and len(x) == 1):
            maps = self.net.levels(x)[1:]
        stacked = []
        for level, (lateral, m) in enumerate(zip(self.lateral, maps)):
            repeated = lateral(m).repeat_interleave(2**level, 2).repeat_interleave(2**level, 3)
            stacked.append(repeated[:, :, : self.grid[0], : self.grid[1]])
        return torch.cat(stacked, dim=1)


def split_levels(stacked: Tensor) -> list[Tensor]:
    """The maps that a `PyramidEncoder` concatenated: (B, 4·width, h, w) -> four of (B, width, ⌈h/2^ℓ⌉, ⌈w/2^ℓ⌉)."""
    return [part[:, :, :: 2**level, :: 2**level] for level, part in enumerate(stacked.chunk(LEVELS, dim=1))]


def make_norm_relu(convolution: nn.Conv2d) -> nn.Sequential:
    """A convolution, group normalisation and ReLU."""
    out = convolution.out_channels
    return nn.Sequential(convolution, nn.GroupNorm(num_groups(out), out), nn.ReLU())


class NonBottleneck1D(nn.Module):
    """x + two pairs of 3×1 and 1×3 convolutions (Romera et al., ERFNet, 2018): (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, (3, 1), padding=(1, 0)), nn.ReLU(),
            make_norm_relu(nn.Conv2d(width, width, (1, 3), padding=(0, 1), bias=False)),
            nn.Conv2d(width, width, (3, 1), padding=(1, 0)), nn.ReLU(),
            nn.Conv2d(width, width, (1, 3), padding=(0, 1), bias=False), nn.GroupNorm(num_groups(width), width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


class PyramidPooling(nn.Module):
    """Pyramid pooling (Zhao et al., 2017): the map beside its means over 1×1 and 5×5 areas, (B, C, h, w) -> the same.

    1 × 1 convolutions bring each of the means to C/2 channels, and the concatenation back to C.
    """

    AREAS = (1, 5)

    def __init__(self, width: int):
        super().__init__()
        part = max(width // len(self.AREAS), 1)
        self.parts = nn.ModuleList(nn.Sequential(nn.Conv2d(width, part, 1), nn.ReLU()) for _ in self.AREAS)
        self.out = make_norm_relu(nn.Conv2d(width + part * len(self.AREAS), width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for area, part in zip(self.AREAS, self.parts):
            size = (min(area, x.shape[2]), min(area, x.shape[3]))
            pooled = part(F.adaptive_avg_pool2d(x, size))
            seen.append(F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=False))
        out: Tensor = self.out(torch.cat(seen, dim=1))
        return out


class Upsample(nn.Module):
    """Twice the size by repetition and a 3×3 convolution per channel, which begins as bilinear interpolation."""

    def __init__(self, width: int):
        super().__init__()
        self.smooth = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate", groups=width)
        side = torch.tensor([1.0, 2.0, 1.0]) / 4
        with torch.no_grad():
            self.smooth.weight.copy_(torch.outer(side, side))
            nn.init.zeros_(self.smooth.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : size[0], : size[1]]
        out: Tensor = self.smooth(x)
        return out


class PyramidHead(nn.Module):
    """From four fused levels in one map to a class per pixel: (B, 4·width, h, w) -> (B, outputs, H, W).

    Pyramid pooling on the coarsest level; then three times convolution, factorised block, upsampling, and addition of
    the next finer level; a 3×3 convolution and bilinear interpolation at the end.

    Args:
        width: channels of a level.
        outputs: number of classes.
        size: (H, W) of the target.
    """

    def __init__(self, width: int, outputs: int, size: Sequence[int]):
        super().__init__()
        self.out_features, self.size = outputs, (int(size[0]), int(size[1]))
        self.context = PyramidPooling(width)
        self.blocks = nn.ModuleList(
            nn.Sequential(make_norm_relu(nn.Conv2d(width, width, 3, padding=1, bias=False)), NonBottleneck1D(width))
            for _ in range(LEVELS - 1)
        )
        self.upsample = nn.ModuleList(Upsample(width) for _ in range(LEVELS - 1))
        self.classify = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, fused: Tensor) -> Tensor:
        *finer, x = split_levels(fused)
        x = self.context(x)
        for block, upsample, skip in zip(self.blocks, self.upsample, reversed(finer)):
            x = upsample(block(x), skip.shape[2:]) + skip
        return F.interpolate(self.classify(x), size=self.size, mode="bilinear", align_corners=False)
