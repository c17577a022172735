"""Networks from torchvision and timm, where they are installed; neither is a dependency."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError
from sidelight.networks.backbones.base import BackboneNet
from sidelight.utils.extras import explain

HEADS = ("fc", "classifier", "heads", "head")


class TorchvisionNet(BackboneNet, nn.Module):
    """A torchvision classifier of images (B, 3, H, W) without its last layers: one vector per row, no map."""

    only_vector = True

    def __init__(self, model: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.model = model
        self.out_channels = _probe(self.model, shape).shape[1]

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        out: Tensor = self.model(x)
        return out

    def pool(self, maps: Tensor, tokens: int, length: Tensor | None = None) -> Tensor:
        return maps.unsqueeze(1)


class TimmNet(BackboneNet, nn.Module):
    """A timm network over images (B, C, H, W): its last map; for a transformer, its patches in their grid."""

    def __init__(self, model: Any, shape: tuple[int, ...]):
        super().__init__()
        self.model = model
        self.out_channels = int(model.num_features)
        self.prefix = int(getattr(model, "num_prefix_tokens", 0))
        self.grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
        maps = _probe(self.forward_maps, shape)
        if maps.shape[1] != self.out_channels:
            raise ConfigError(
                f"its features have shape {tuple(maps.shape[1:])}, but it states {self.out_channels} channels"
            )

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        f: Tensor = self.model.forward_features(x)
        if f.dim() == 3:
            patches = f[:, self.prefix :].transpose(1, 2)
            return patches.reshape(*patches.shape[:2], *self.grid) if self.grid else patches
        channels_last = f.shape[1] != self.out_channels and f.shape[-1] == self.out_channels
        return f.movedim(-1, 1) if channels_last else f


@torch.no_grad()
def _probe(read: Any, shape: tuple[int, ...]) -> Tensor:
    """The result for two rows of zeros; the statistics of the network stay as they are."""
    owner = read if isinstance(read, nn.Module) else read.__self__
    owner.eval()
    out = read(torch.zeros(2, *shape))
    owner.train()
    if not isinstance(out, Tensor) or out.dim() < 2:
        raise ConfigError(f"it returns {type(out).__name__}, not features of shape (B, D, …)")
    return out


def make_provided(provider: str, name: str, shape: tuple[int, ...]) -> Any:
    """`torchvision:<name>` or `timm:<name>` with fresh weights.

    Args:
        provider: "torchvision" or "timm".
        name: the network's name there.
        shape: (C, H, W) of an image.

    Returns:
        The network.

    Raises:
        ConfigError: The package is absent or broken (the error says why), has no such network, or the rows do not fit
            it.
    """
    try:
        package = importlib.import_module("torchvision.models" if provider == "torchvision" else "timm")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"encoder '{provider}:{name}' needs {provider}, which is not installed ({error}). Install it from "
            "where your torch came from, or use one of sidelight's own encoders; `sidelight doctor` says more"
        ) from None
    except Exception as error:  # a broken extension may raise anything
        why = explain(provider, str(error))
        raise ConfigError(f"encoder '{provider}:{name}': {provider} cannot be imported ({error}): {why}") from None
    try:
        return _torchvision(package, name, shape) if provider == "torchvision" else _timm(package, name, shape)
    except Exception as error:
        raise ConfigError(f"encoder '{provider}:{name}' for rows of shape {shape}: {error}") from error


def _torchvision(package: Any, name: str, shape: tuple[int, ...]) -> TorchvisionNet:
    if shape[0] != 3:
        raise ConfigError("torchvision's networks read images of 3 channels")
    model = package.get_model(name, weights=None)
    head = next((h for h in HEADS if isinstance(getattr(model, h, None), nn.Module)), None)
    if head is None:
        raise ConfigError(f"none of its parts is a head: {', '.join(HEADS)}")
    setattr(model, head, nn.Identity())
    return TorchvisionNet(model, shape)


def _timm(package: Any, name: str, shape: tuple[int, ...]) -> TimmNet:
    return TimmNet(package.create_model(name, pretrained=False, num_classes=0, in_chans=shape[0]), shape)
