"""Dense networks: from an image to a map of features, and from a fused map to a class per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.errors import ConfigError
from sidelight.utils.extras import import_apart

STRIDE = 4
"""How many pixels a position of a map is wide and high."""


def num_groups(channels: int) -> int:
    """The number of groups for group normalisation: at most 8, of at least 4 channels each."""
    return next(g for g in (8, 4, 2, 1) if channels % g == 0 and (channels // g >= 4 or g == 1))


def make_residual_unit(channels: int, out: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """MONAI's residual unit, two 3 × 3 convolutions, with group normalisation: no statistic is taken over the batch.

    Args:
        channels: channels in.
        out: channels out.
        stride: of the first convolution.
        dilation: of both convolutions.

    Returns:
        A module (B, channels, H, W) -> (B, out, ⌈H/stride⌉, ⌈W/stride⌉).
    """
    blocks = import_apart("monai.networks.blocks.convolutions")
    unit: nn.Module = blocks.ResidualUnit(
        2, channels, out, strides=stride, subunits=2, norm=("GROUP", {"num_groups": num_groups(out)}), act="RELU",
        dilation=dilation,
    )  # fmt: skip
    return unit


class DenseEncoder(nn.Module):
    """Residual units to a map of a quarter of the size, the last two dilated: (B, C, H, W) -> (B, width, ⌈H/4⌉, ⌈W/4⌉).

    A stride of 4 keeps it cheap; dilations of 2 and 4 widen each position's view without further strides (Chen et al.,
    Rethinking atrous convolution, 2017).

    Args:
        shape: (C, H, W) of an image.
        width: channels of the map.
    """

    kind = "dense"

    def __init__(self, shape: Sequence[int], width: int = 64):
        super().__init__()
        if len(shape) != 3:
            raise ConfigError(f"encoder 'dense' reads images of shape (channels, height, width), not {tuple(shape)}")
        channels, height, wide = (int(n) for n in shape)
        self.settings: dict[str, Any] = {"shape": [channels, height, wide], "width": width}
        self.out_shape = (width, -(-height // STRIDE), -(-wide // STRIDE))
        self.layers = nn.Sequential(
            make_residual_unit(channels, max(width // 2, 4), stride=2),
            make_residual_unit(max(width // 2, 4), width, stride=2),
            make_residual_unit(width, width, dilation=2),
            make_residual_unit(width, width, dilation=4),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class DenseHead(nn.Module):
    """A residual unit, a 1 × 1 convolution and bilinear interpolation: (B, width, h, w) -> (B, outputs, H, W).

    Args:
        width: channels of the fused map.
        outputs: number of classes.
        size: (H, W) of the target.
    """

    def __init__(self, width: int, outputs: int, size: Sequence[int]):
        super().__init__()
        self.out_features, self.size = outputs, (int(size[0]), int(size[1]))
        self.decode = make_residual_unit(width, width)
        self.classify = nn.Conv2d(width, outputs, 1)

    def forward(self, fused: Tensor) -> Tensor:
        return F.interpolate(self.classify(self.decode(fused)), size=self.size, mode="bilinear", align_corners=False)
