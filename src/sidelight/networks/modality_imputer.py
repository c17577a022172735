"""One network for any subset of its modalities: features of those that are missing, made from those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError
from sidelight.networks.hallucination import TNet


class Completed(NamedTuple):
    """slot -> features in every row; slot -> (B,) bool, where they are the modality's own; named losses in training."""

    features: dict[str, Tensor]
    shown: dict[str, Tensor]
    losses: dict[str, Tensor]


class ModalityImputer(nn.Module):
    """A T-Net per modality, from the features of the others (zeros where they are missing) to its own.

    In training each modality of a row is left out with probability `drop` (ModDrop, Neverova et al., TPAMI 2016), at
    least one always stays, and what was left out is made like what is missing. The draw is torch's global one.

    The loss is mean_m mean |T_m(features of the others) − f_m|² over the rows that have m and show another modality.
    Neither f_m nor what the T-Nets read gets a gradient: encoders do not learn to be easily guessed.

    Args:
        shapes: modality -> (T, D), or (D, h, w) of a map, of its features; at least two.
        drop: above 0 and below 1.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], drop: float):
        super().__init__()
        if len(shapes) < 2:
            raise ConfigError(f"a network that reads {list(shapes)} alone cannot do without; set student.drop=0")
        if not 0 < drop < 1:
            raise ConfigError(f"student.drop must be at least 0 and below 1, not {drop}")
        self.shapes = {m: tuple(shape) for m, shape in shapes.items()}
        self.drop = drop
        others = {m: {o: shape for o, shape in self.shapes.items() if o != m} for m in self.shapes}
        self.completers = nn.ModuleDict({m: TNet(others[m], self.shapes[m], slot=m) for m in self.shapes})

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Completed:
        """features: slot -> (B, …), zeros in rows that lack the modality; present: where not every row has it."""
        shown = self._drawn(features, present) if self.training else dict(present)
        read = {m: (_of(shown[m], f) * f if m in shown else f).detach() for m, f in features.items()}
        made = {m: self.completers[m](read) for m in shown}
        whole = {m: torch.where(_of(shown[m], f), f, made[m]) if m in shown else f for m, f in features.items()}
        return Completed(whole, shown, self._losses(features, present, shown, made) if self.training else {})

    def _drawn(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """slot -> (B,) bool: what a training step shows of what is there, of every row at least one modality."""
        some = next(iter(features.values()))
        every = some.new_ones(len(some), dtype=torch.bool)
        there = torch.stack([present.get(m, every) for m in features], dim=1)
        drawn = torch.rand(there.shape, dtype=torch.float32).to(there.device)
        last = drawn.masked_fill(~there, -1).argmax(1, keepdim=True)  # kept where all that is there would go
        stays = (drawn >= self.drop).scatter(1, last, True)
        return dict(zip(features, (there & stays).unbind(1)))

    def _losses(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        shown: Mapping[str, Tensor],
        made: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        apart = []
        for m, f in features.items():
            self.completers[m].get_buffer("trained_steps").add_(1)
            rows = torch.stack([shown[o] for o in features if o != m]).any(0)
            rows = rows & present[m] if m in present else rows
            each = (made[m] - f.detach()).square().flatten(1).mean(1)
            apart.append((each * rows).sum() / rows.sum().clamp(min=1))
        return {"complete": torch.stack(apart).mean()}


def _of(rows: Tensor, x: Tensor) -> Tensor:
    """(B,) bool, shaped so that it broadcasts over x."""
    return rows.view(-1, *[1] * (x.dim() - 1))
