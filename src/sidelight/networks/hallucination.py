"""Hallucination: privileged features predicted from available ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.networks.encoding import encode
from sidelight.networks.tokens import num_channels, to_map, to_tokens

Module = TypeVar("Module", bound=nn.Module)
Shapes = Mapping[str, Sequence[int]]


def hidden_sizes(width: int) -> tuple[int, int, int]:
    """(w/2, w/4, w/2), never below (64, 32, 64) nor above (256, 128, 256), the paper's sizes for its w = 512."""
    outer, inner = min(max(width // 2, 64), 256), min(max(width // 4, 32), 128)
    return outer, inner, outer


class TNet(nn.Module):
    """Encoder-decoder from available to privileged features: {source: (B, T, D)} -> (B, T', D').

    The sources' tokens are averaged over T' equal stretches and concatenated on channels; each token goes
    through ΣD → h₁ → h₂ → h₃ → D' with ReLU between (PKDOT, arXiv 2401.15489: 512 → 256 → 128 → 256 → 512).

    For maps (B, D', h, w) the layers are convolutions, the first and last 1 × 1, those at the bottleneck 3 × 3.

    Args:
        sources: slot -> (T, D), or (D, h, w) of a map, of the features that it reads.
        target: (T', D') or (D', h, w) of the features that it replaces.
        hidden: sizes of the three hidden layers; `hidden_sizes(D')` by default.
        slot: name of the privileged modality, for messages.

    `trained_steps` is a buffer, saved with the weights; the code that trains the module adds 1 to it per step.
    """

    kind = "t-net"
    trained_steps: Tensor

    def __init__(self, sources: Shapes, target: Sequence[int], hidden: Sequence[int] | None = None, slot: str = ""):
        super().__init__()
        if not sources:
            raise ConfigError(f"the T-Net of {slot!r} needs at least one available modality to read")
        self.slot = slot
        self.sources = tuple(sources)
        self.out_shape = tuple(int(n) for n in target)
        width = num_channels(self.out_shape)
        hidden = tuple(hidden or hidden_sizes(width))
        self.settings: dict[str, Any] = {
            "sources": [[m, *map(int, shape)] for m, shape in sources.items()],
            "target": list(self.out_shape),
            "hidden": list(hidden),
            "slot": slot,
        }
        sizes = (sum(num_channels(shape) for shape in sources.values()), *hidden, width)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(sizes)):
            inner = 0 < i < len(hidden)  # the layers into and out of the bottleneck
            layers += [nn.Linear(a, b) if len(target) == 2 else nn.Conv2d(a, b, 3 if inner else 1, padding=int(inner))]
            layers += [nn.ReLU()] if i < len(hidden) else []
        self.layers = nn.Sequential(*layers)
        self.register_buffer("trained_steps", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """The privileged features (B, T', D') or (B, D', h, w)."""
        out: Tensor
        if len(self.out_shape) == 3:
            out = self.layers(torch.cat([to_map(features[m], self.out_shape[1:]) for m in self.sources], dim=1))
        else:
            out = self.layers(torch.cat([to_tokens(features[m], self.out_shape[0]) for m in self.sources], dim=2))
        return out


class HallucinationNetwork(nn.Module):
    """A separate branch from the available modalities to a privileged modality's features, (B, T', D').

    One encoder per available modality, and a T-Net on their features (Hoffman et al. 2016; used by ADMD, MERS and
    OS-MD). It is trained with the student.

    Args:
        encoders: available modality -> module.
        sources: modality -> shape of its features, (T, D) or (D, h, w).
        target: the shape of the privileged features.
        slot: name of the privileged modality, for messages.
    """

    kind = "hallucination-network"
    reads_inputs = True

    def __init__(
        self, encoders: Mapping[str, nn.Module], sources: Shapes, target: Sequence[int], slot: str = ""
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.tnet = TNet(sources, target, slot=slot)
        self.sources, self.out_shape = {m: tuple(shape) for m, shape in sources.items()}, self.tnet.out_shape

    def forward(self, batch: Batch) -> Tensor:
        out: Tensor = self.tnet(encode(self.encoders, batch, self.sources))
        return out


def make_hallucinators(shapes: Shapes, reads: Sequence[str], slots: Sequence[str]) -> dict[str, nn.Module]:
    """A T-Net for each slot.

    Args:
        shapes: the teacher's `feature_shape`: slot -> (T, D) or (D, h, w).
        reads: the modalities whose features the T-Nets read.
        slots: the privileged modalities to hallucinate.

    Returns:
        Slot -> T-Net with fresh weights.
    """
    sources = {m: shapes[m] for m in reads}
    return {m: TNet(sources, shapes[m], slot=m) for m in slots}


def freeze(module: Module) -> Module:
    """Freeze a module for good: no trainable parameter, evaluation mode, and `train()` has no effect.

    Args:
        module: the module, changed in place.

    Returns:
        The same module.

    Raises:
        ConfigError: The module is, or contains, a T-Net that was never trained (DESIGN invariant 4).
    """
    for part in module.modules():
        if isinstance(part, TNet) and int(part.trained_steps) == 0:
            raise ConfigError(
                f"the T-Net of {part.slot!r} was never trained and cannot be frozen; train it in the teacher's stage, "
                "or load the weights of one that was"
            )
    module.eval()
    module.requires_grad_(False)
    module.__dict__["train"] = partial(_ignore_mode, module)
    return module


def _ignore_mode(module: Module, mode: bool = True) -> Module:
    """`train` of a frozen module: changes nothing."""
    return module
