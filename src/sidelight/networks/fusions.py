"""Fusions: every slot's tokens to one vector per sample, {slot: (B, T, D)} -> (B, F)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError, unknown

Shapes = Mapping[str, Sequence[int]]


class Fusion(nn.Module):
    """What fusions share: their slots in a fixed order, and Linear-ReLU-Dropout to the fused vector.

    Args:
        shapes: slot -> (T, D); the order is that of the weights.
        width: F.
        dropout: dropout rate.
    """

    name = ""

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__()
        if not shapes:
            raise ConfigError("a fusion needs at least one slot")
        self.shapes = {m: (int(t), int(d)) for m, (t, d) in shapes.items()}
        self.slots = tuple(self.shapes)
        self.dims = [d for _, d in self.shapes.values()]
        self.out_dim = width
        self.settings: dict[str, Any] = {
            "slots": [[m, *shape] for m, shape in self.shapes.items()],
            "width": width,
            "dropout": dropout,
        }


def joined(size: int, width: int, dropout: float) -> nn.Sequential:
    """Linear-ReLU-Dropout from concatenated slots to the fused vector."""
    return nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout))


class Concat(Fusion):
    """Feature concatenation: z = ReLU(W [mean_t x₁; …; mean_t xₙ] + b), {slot: (B, T, D)} -> (B, F).

    PKDOT (arXiv 2401.15489), Fig. 4a. It has no use for tokens.
    """

    name = "concat"

    def __init__(self, shapes: Shapes, width: int = 64, dropout: float = 0.2):
        super().__init__(shapes, width, dropout)
        self.out = joined(sum(self.dims), width, dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        fused: Tensor = self.out(torch.cat([features[m].mean(1) for m in self.slots], dim=1))
        return fused


FUSIONS: dict[str, type[Fusion]] = {"concat": Concat}


def make_fusion(name: str, shapes: Shapes, width: int = 64, dropout: float = 0.2) -> Fusion:
    """The fusion that `network.fusion` names, over slots of the given (T, D)."""
    if name not in FUSIONS:
        raise ConfigError(f"network.fusion: {unknown('fusion', name, FUSIONS)}")
    return FUSIONS[name](shapes, width, dropout)
