"""Residual networks over clips, with the parameter names and shapes of torchvision's checkpoints."""

from __future__ import annotations

from torch import Tensor, nn

from sidelight.networks.backbones.base import BackboneNet


class Conv2Plus1D(nn.Sequential):
    """A 3×3×3 convolution as one over space, batch normalisation, ReLU, and one over time: (B, C, T, H, W)."""

    def __init__(self, channels: int, out: int, middle: int, stride: int):
        super().__init__(
            nn.Conv3d(channels, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class Block(nn.Module):
    """ReLU(shortcut(x) + bn(conv(ReLU(bn(conv(x)))))), each convolution 3×3×3 or `Conv2Plus1D`."""

    def __init__(self, channels: int, out: int, stride: int, factorised: bool):
        super().__init__()
        # The middle width gives as many weights as a 3×3×3 convolution in the block's first layer; both layers use it.
        middle = channels * out * 27 // (channels * 9 + 3 * out)

        def convolution(c: int, s: int) -> nn.Module:
            return Conv2Plus1D(c, out, middle, s) if factorised else nn.Conv3d(c, out, 3, s, 1, bias=False)

        self.conv1 = nn.Sequential(convolution(channels, stride), nn.BatchNorm3d(out), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(convolution(out, 1), nn.BatchNorm3d(out))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)) + shortcut)
        return out


def make_stem(channels: int, factorised: bool) -> nn.Sequential:
    """The first layer: a 3×7×7 convolution over (B, C, T, H, W) that halves height and width; 64 channels."""
    if not factorised:
        convolution = nn.Conv3d(channels, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        return nn.Sequential(convolution, nn.BatchNorm3d(64), nn.ReLU(inplace=True))
    return nn.Sequential(
        nn.Conv3d(channels, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
        nn.BatchNorm3d(45),
        nn.ReLU(inplace=True),
        nn.Conv3d(45, 64, (3, 1, 1), 1, (1, 0, 0), bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
    )


class VideoResNet(BackboneNet, nn.Module):
    """R3D-18 ("r3d18") or R(2+1)D-18 ("r2plus1d18") over clips: (B, C, T, H, W) -> (B, 512, ⌈T/8⌉, ⌈H/16⌉, ⌈W/16⌉).

    Tran et al., A closer look at spatiotemporal convolutions for action recognition, 2018 (arXiv 1711.11248). With 400
    classes and 3 channels they have 33,371,472 and 31,505,325 parameters, as torchvision's `r3d_18` and `r2plus1d_18`.
    """

    def __init__(self, kind: str, channels: int = 3, classes: int | None = None):
        super().__init__()
        factorised = kind == "r2plus1d18"
        self.out_channels = 512
        self.stem = make_stem(channels, factorised)
        self.layer1 = nn.Sequential(Block(64, 64, 1, factorised), Block(64, 64, 1, factorised))
        self.layer2 = nn.Sequential(Block(64, 128, 2, factorised), Block(128, 128, 1, factorised))
        self.layer3 = nn.Sequential(Block(128, 256, 2, factorised), Block(256, 256, 1, factorised))
        self.layer4 = nn.Sequential(Block(256, 512, 2, factorised), Block(512, 512, 1, factorised))
        self.fc = None if classes is None else nn.Linear(512, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv3d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        x = self.stem(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, classes) logits, or without classes the mean feature (B, 512)."""
        vector = self.forward_maps(x).mean((2, 3, 4))
        return vector if self.fc is None else self.fc(vector)
