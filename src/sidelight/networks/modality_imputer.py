"""One network for any subset of its modalities: it imputes the features of missing ones from those of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sidelight.errors import ConfigError
from sidelight.networks.hallucination import TNet
from sidelight.utils.precision import to_float32
from sidelight.utils.stacking import draw_uniform


class ImputedFeatures(NamedTuple):
    """The result of a `ModalityImputer`.

    features: slot -> features in every row. visible: slot -> (B,) bool, where they are the modality's own. losses:
        named
    losses, in training only.
    """

    features: dict[str, Tensor]
    visible: dict[str, Tensor]
    losses: dict[str, Tensor]


class ModalityImputer(nn.Module):
    """A T-Net per modality, from the features of the others (zeros where they are missing) to its own.

    In training each modality of a row is left out with probability `drop` (ModDrop, Neverova et al., TPAMI 2016). At
    least one always stays, and what was left out is imputed as if it were missing. The draw is torch's global one.

    The loss is mean_m mean |T_m(features of the others) − f_m|² over the rows that have m and show another modality.
    Neither f_m nor the T-Nets' input gets a gradient: encoders must not learn to be easily predicted.

    Args:
        shapes: modality -> (T, D), or (D, h, w) of a map, of its features; at least two.
        drop: above 0 and below 1.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], drop: float):
        super().__init__()
        if len(shapes) < 2:
            raise ConfigError(f"a network that reads {list(shapes)} alone cannot impute anything; set student.drop=0")
        if not 0 < drop < 1:
            raise ConfigError(f"student.drop must be at least 0 and below 1, not {drop}")
        self.shapes = {m: tuple(shape) for m, shape in shapes.items()}
        self.drop = drop
        others = {m: {o: shape for o, shape in self.shapes.items() if o != m} for m in self.shapes}
        self.completers = nn.ModuleDict({m: TNet(others[m], self.shapes[m], slot=m) for m in self.shapes})

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> ImputedFeatures:
        """Impute the missing features.

        Args:
            features: slot -> (B, …), zeros in rows that lack the modality.
            present: slot -> (B,) bool, for the slots that some row lacks.

        Returns:
            Features in every row, the mask of the modality's own, and the losses in training.
        """
        visible = self._draw_visible(features, present) if self.training else dict(present)
        # The T-Nets read the visible features only, zeros elsewhere, and send no gradient back to the encoders.
        read = {}
        for m, f in features.items():
            shown = _broadcast_rows(visible[m], f) * f if m in visible else f
            read[m] = shown.detach()
        imputed = {m: self.completers[m](read) for m in visible}
        whole = dict(features)
        for m, f in features.items():
            if m in visible:
                whole[m] = torch.where(_broadcast_rows(visible[m], f), f, imputed[m])
        losses = self._losses(features, present, visible, imputed) if self.training else {}
        return ImputedFeatures(whole, visible, losses)

    def _draw_visible(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """slot -> (B,) bool: the modalities that a training step leaves visible, at least one in every row."""
        some = next(iter(features.values()))
        every = some.new_ones(len(some), dtype=torch.bool)
        there = torch.stack([present.get(m, every) for m in features], dim=1)
        drawn = draw_uniform(there)
        # The present modality with the largest draw always stays, so that no row is left without any.
        last = drawn.masked_fill(~there, -1).argmax(1, keepdim=True)
        stays = (drawn >= self.drop).scatter(1, last, True)
        return dict(zip(features, (there & stays).unbind(1)))

    def _losses(
        self,
        features: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        visible: Mapping[str, Tensor],
        imputed: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        apart = []
        for m, f in features.items():
            self.completers[m].get_buffer("trained_steps").add_(1)
            # Rows that have m and show something to predict it from.
            rows = torch.stack([visible[o] for o in features if o != m]).any(0)
            rows = rows & present[m] if m in present else rows
            each = (to_float32(imputed[m]) - to_float32(f.detach())).square().flatten(1).mean(1)
            apart.append((each * rows).sum() / rows.sum().clamp(min=1))
        return {"complete": torch.stack(apart).mean()}


def _broadcast_rows(rows: Tensor, x: Tensor) -> Tensor:
    """(B,) bool, shaped so that it broadcasts over x."""
    return rows.view(-1, *[1] * (x.dim() - 1))
