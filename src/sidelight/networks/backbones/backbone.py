"""Public networks as encoders: a row becomes a map, and the map a vector, tokens, or stays a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from sidelight.config.encoder_names import BACKBONES, ROWS, encoders_for, row_dimensions
from sidelight.errors import ConfigError, unknown
from sidelight.networks.backbones.base import Returns, running_statistics
from sidelight.utils.extras import import_apart


class Backbone(nn.Module):
    """A public network as an encoder: (B, *shape) -> (B, width), (B, tokens, width) or (B, width, *grid).

    A linear layer brings features to `width` where the network's own D differs.
    In training a batch of one row is normalised by the running statistics: one row has no statistics of its own.
    With `batch_statistics`, `networks.encoding.encode` leaves rows that lack the modality out of a training batch.

    Args:
        kind: a name of `network.encoder`.
        shape: of one row: (T, C), (C, H, W) or (C, T, H, W).
        width: D of the features.
        tokens: number of tokens, where `returns` is "tokens".
        returns: "vector" (mean over the map), "tokens" or "map".
        config: structure of an `hf:` network as its JSON; read from the folder by default.

    Raises:
        ConfigError: The name is unknown, or the network does not read such rows or return such features.
    """

    batch_statistics = True
    out_shape: tuple[int, ...]

    def __init__(
        self,
        kind: str,
        shape: Sequence[int],
        width: int = 64,
        tokens: int = 1,
        returns: Returns = "vector",
        config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if returns not in ("vector", "tokens", "map"):
            raise ConfigError(unknown("value of returns", returns, ("vector", "tokens", "map")))
        self.net: Any = make_net(kind, tuple(int(n) for n in shape), config)
        if returns != "vector" and getattr(self.net, "only_vector", False):
            raise ConfigError(
                f"encoder {kind!r} returns a vector; set network.tokens=1, or choose an encoder that returns maps"
            )
        self.kind = getattr(self.net, "kind", kind)
        self.settings: dict[str, Any] = {
            "shape": list(shape), "width": width, "tokens": tokens, "returns": returns,
        }  # fmt: skip
        if config := getattr(self.net, "description", None):
            self.settings["config"] = config
        self.tokens, self.returns = tokens if returns == "tokens" else 1, returns
        self.out_shape = (self.tokens, width)
        own = self.net.out_channels
        self.project = nn.Identity() if own == width else nn.Linear(own, width)
        for p in self.net.unused_parameters(returns):
            p.requires_grad_(False)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """The features of a batch of rows."""
        if length is not None and not self.net.reads_length:
            raise ConfigError(
                f"encoder {self.kind!r} cannot read rows of varying length; cut windows of one length, or use 'cnn'"
            )
        with running_statistics(self.net, self.training and len(x) == 1):
            maps = self.net.forward_maps(x) if length is None else self.net.forward_maps(x, length)
            if self.returns != "map":
                maps = self.net.pool(maps, self.tokens, length)
        features: Tensor
        if self.returns == "map":
            features = self.project(maps.movedim(1, -1)).movedim(-1, 1)
            return features
        features = self.project(maps)
        return features[:, 0] if self.returns == "vector" else features


def make_net(kind: str, shape: tuple[int, ...], config: Mapping[str, Any] | None = None) -> Any:
    """The public network of a name, with fresh weights (an `hf:` folder has its own).

    Args:
        kind: a name of `network.encoder`.
        shape: of one row: (T, C), (C, H, W) or (C, T, H, W).
        config: structure of an `hf:` network as its JSON; read from the folder by default.

    Returns:
        A `BackboneNet`.

    Raises:
        ConfigError: The network does not read such rows; the error names encoders that do.
    """
    provider, colon, name = kind.partition(":")
    if not colon and kind != "hf" and kind not in BACKBONES:
        raise ConfigError(unknown("encoder", kind, BACKBONES))
    reads = row_dimensions(kind if kind != "hf" else "hf:")
    if len(shape) not in reads:
        wanted = " or ".join(ROWS[n] for n in reads)
        better = f". For {ROWS[len(shape)]}: {', '.join(encoders_for(len(shape)))}" if len(shape) in ROWS else ""
        raise ConfigError(f"encoder {kind!r} reads {wanted}, not rows of shape {shape}{better}")
    if min(shape) < 1:
        raise ConfigError(f"encoder {kind!r} cannot read empty rows of shape {shape}")
    if provider == "hf":
        from sidelight.networks.backbones.hf import make_hf

        return make_hf(name, shape, config)
    if provider == "monai":
        return _make_monai(name, shape)
    if colon:
        from sidelight.networks.backbones.providers import make_provided

        return make_provided(provider, name, shape)
    if kind in ("r3d18", "r2plus1d18"):
        from sidelight.networks.backbones.video3d import VideoResNet

        return VideoResNet(kind, shape[0])
    if kind == "i3d":
        from sidelight.networks.backbones.i3d import I3D

        return I3D(shape[0])
    if kind == "cnn14":
        from sidelight.networks.backbones.cnn14 import CNN14

        return CNN14(shape)
    return _make_monai(kind, shape)


def _make_monai(name: str, shape: Sequence[int]) -> nn.Module:
    resnet = import_apart("sidelight.networks.backbones.resnet")
    network: nn.Module = resnet.make_monai(name, shape)
    return network
