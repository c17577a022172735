"""Encoders: from one modality's rows to feature tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.config.encoder_names import BACKBONES, PYRAMIDS, check_encoder, encoders_for
from sidelight.errors import ConfigError
from sidelight.networks.tokens import compute_stretch_weights, countable, resample_tokens


class MLPEncoder(nn.Module):
    """Linear-ReLU twice, (B, D) -> (B, width) through 2·width hidden units.

    Rows of another shape, such as (B, T, C) signals of one fixed length, are flattened first.
    """

    kind = "mlp"

    def __init__(self, shape: Sequence[int], width: int = 64):
        super().__init__()
        self.settings: dict[str, Any] = {"shape": list(shape), "width": width}
        self.out_shape = (1, width)
        size = int(torch.Size(shape).numel())
        # nn.Identity takes the place of an earlier dropout, so that layers keep their numbers in student files.
        self.layers = nn.Sequential(
            nn.Linear(size, 2 * width), nn.ReLU(), nn.Identity(), nn.Linear(2 * width, width), nn.ReLU()
        )

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        if length is not None and x.dim() > 2:
            raise ConfigError("network.encoder 'mlp' cannot read signals of varying length; use 'cnn' or 'statistics'")
        out: Tensor = self.layers(x.flatten(1))
        return out


class SignalBlock(nn.Module):
    """Convolution over time, LayerNorm over each step's channels, ReLU: (B, C, T) -> (B, C', ⌈T/stride⌉).

    No statistic is taken over rows or over time, so a step depends on its neighbours alone.
    """

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv = nn.Conv1d(channels, out, kernel_size=5, stride=stride, padding=2)
        self.norm = nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = self.norm(self.conv(x).transpose(1, 2))
        return F.relu(steps.transpose(1, 2))


class SignalEncoder(nn.Module):
    """Three convolution blocks over time, then averages over equal stretches: (B, T, C) -> (B, tokens, width).

    A block halves the number of steps as long as that leaves `tokens` of them. With `length`, everything beyond a row's
    valid steps is zero before every block and the stretches divide the valid steps alone, so a row's tokens depend
    neither on its padding nor on the other rows.

    Args:
        shape: (T, C) of a row.
        width: D of the tokens.
        tokens: number of tokens.
    """

    kind = "cnn"

    def __init__(self, shape: Sequence[int], width: int = 64, tokens: int = 1):
        super().__init__()
        if len(shape) != 2:
            raise ConfigError(f"encoder 'cnn' reads signals of shape (time, channels), not {tuple(shape)}")
        self.settings: dict[str, Any] = {"shape": list(shape), "width": width, "tokens": tokens}
        self.tokens = tokens
        self.out_shape = (tokens, width)
        steps, channels = shape
        self.strides: list[int] = []
        blocks: list[nn.Module] = []
        for out in (max(width // 2, 8), width, width):
            stride = 2 if steps >= 2 * tokens else 1
            steps = -(-steps // stride)
            self.strides.append(stride)
            blocks.append(SignalBlock(channels, out, stride))
            channels = out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        x = x.transpose(1, 2)
        if length is None:
            for block in self.blocks:
                x = block(x)
            return resample_tokens(x.transpose(1, 2), self.tokens)
        x = zero_padding(x, length)
        for block, stride in zip(self.blocks, self.strides):
            length = torch.div(length + stride - 1, stride, rounding_mode="floor")
            x = zero_padding(block(x), length)
        weights = compute_stretch_weights(x.shape[2], self.tokens, length.to(countable(x)))
        return torch.matmul(weights.to(x.dtype), x.transpose(1, 2))


def zero_padding(x: Tensor, length: Tensor) -> Tensor:
    """(B, C, T) with zeros from each row's `length` on."""
    padding = torch.arange(x.shape[2], device=x.device) >= length.unsqueeze(1)
    return x.masked_fill(padding.unsqueeze(1), 0.0)


ENCODERS: dict[str, type[MLPEncoder] | type[SignalEncoder]] = {"mlp": MLPEncoder, "cnn": SignalEncoder}


def make_encoder(kind: str, shape: Sequence[int], width: int = 64, tokens: int = 1) -> nn.Module:
    """The encoder that `network.encoder` names.

    "auto": "cnn" for signals (T, C), "mlp" for vectors. "statistics": "mlp" on the preprocessor's window statistics.
    "cnn" is for signals; vectors beside them get "mlp". The names of public networks make a `Backbone`.

    Args:
        kind: a value of `network.encoder`.
        shape: shape of a row as it leaves the preprocessor, (D,), (T, C), (C, H, W) or (C, T, H, W).
        width: D of the features.
        tokens: number of tokens; a public network returns a vector for 1.

    Returns:
        A module from rows to (B, width) or (B, tokens, width).

    Raises:
        ConfigError: The name is unknown, or the encoder does not read such rows.
    """
    if kind in BACKBONES or ":" in kind:
        from sidelight.networks.backbones.backbone import Backbone

        return Backbone(kind, shape, width, tokens, "tokens" if tokens > 1 else "vector")
    check_encoder(kind)
    if kind in PYRAMIDS:
        plain = kind.removesuffix("-pyramid")
        raise ConfigError(f"encoder {kind!r} is for targets with a class per pixel; for others use {plain!r}")
    signal = len(shape) == 2
    if kind == "statistics" and signal:
        raise ConfigError(
            f"network.encoder 'statistics' reads vectors, but was given a signal of shape {tuple(shape)}; "
            "the preprocessor computes window statistics"
        )
    if kind in ("auto", "cnn") and signal:
        return SignalEncoder(shape, width, tokens)
    if kind != "mlp" and len(shape) != 1:
        raise ConfigError(
            f"encoder {kind!r} does not read rows of shape {tuple(shape)}; set network.encoder, or network.encoders of "
            f"this modality, to one of: {', '.join(encoders_for(len(shape))) or '(none)'}; or pass your own module"
        )
    return MLPEncoder(shape, width)
