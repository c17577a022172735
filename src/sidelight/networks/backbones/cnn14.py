"""CNN14 over log-mel spectrograms, with the parameter names of the public PANNs checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.errors import ConfigError
from sidelight.networks.backbones.base import BackboneNet, Returns

WIDTHS = (64, 128, 256, 512, 1024, 2048)


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, each with batch normalisation and ReLU, then a mean over `pool`×`pool` positions."""

    def __init__(self, channels: int, out: int, pool: int):
        super().__init__()
        self.pool = pool
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        for conv in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.avg_pool2d(F.relu(self.bn2(self.conv2(x))), self.pool)
        return F.dropout(x, 0.2, self.training)


class CNN14(BackboneNet, nn.Module):
    """Log-mel spectrograms (B, 1, mel bands, T) or (B, T, mel bands) -> maps (B, 2048, ⌊bands/32⌋, ⌊T/32⌋).

    Kong et al., PANNs: large-scale pretrained audio neural networks, 2020 (arXiv 1912.10211). A token is
    ReLU(fc1(max_t + mean_t)) over its stretch of time, of means over frequency; one token is the paper's embedding. The
    network reads finished spectrograms: it ignores the checkpoint's `spectrogram_extractor` and `logmel_extractor`.
    80,753,615 parameters with 64 bands and 527 classes.

    Args:
        shape: (1, bands, T) or (T, bands) of a row, at least 32 bands and 32 steps.
        classes: number of classes of the public head, or None without it.

    Raises:
        ConfigError: The rows are no such spectrograms.
    """

    def __init__(self, shape: tuple[int, ...], classes: int | None = None):
        super().__init__()
        self.signal = len(shape) == 2
        bands, steps = (shape[1], shape[0]) if self.signal else shape[1:]
        if (not self.signal and shape[0] != 1) or min(bands, steps) < 32:
            raise ConfigError(
                "encoder 'cnn14' reads log-mel spectrograms of shape (1, bands, time) or (time, bands), "
                f"of at least 32 bands and 32 steps, not rows of shape {shape}"
            )
        self.out_channels = 2048
        self.bn0 = nn.BatchNorm2d(bands)
        for i, (a, b) in enumerate(zip((1, *WIDTHS), WIDTHS), 1):
            self.add_module(f"conv_block{i}", ConvBlock(a, b, pool=2 if i < 6 else 1))
        self.fc1 = nn.Linear(2048, 2048)
        self.fc_audioset = None if classes is None else nn.Linear(2048, classes)
        for m in (self.fc1, self.fc_audioset):
            if m is not None:
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        # The public network reads (B, 1, T, bands) and normalises each band separately.
        x = x.unsqueeze(1) if self.signal else x.transpose(2, 3)
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        for i in range(1, 7):
            x = self.get_submodule(f"conv_block{i}")(x)
        return x.transpose(2, 3)

    def pool(self, maps: Tensor, tokens: int, length: Tensor | None = None) -> Tensor:
        x = maps.mean(2)
        x = F.adaptive_max_pool1d(x, tokens) + F.adaptive_avg_pool1d(x, tokens)
        return F.relu(self.fc1(x.transpose(1, 2)))

    def unused_parameters(self, returns: Returns) -> list[nn.Parameter]:
        return list(self.fc1.parameters()) if returns == "map" else []

    def forward(self, x: Tensor) -> Tensor:
        """(B, classes) probabilities, or without classes the embedding (B, 2048)."""
        embedding = self.pool(self.forward_maps(x), 1)[:, 0]
        return embedding if self.fc_audioset is None else torch.sigmoid(self.fc_audioset(embedding))
