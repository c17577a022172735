"""Transform blocks that several slots share: their outputs for different slots can be compared and concatenated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sidelight.networks.backbones.base import running_statistics
from sidelight.networks.tokens import num_channels, pool, to_map, to_tokens


class TransformBlocks(nn.Module):
    """T₁ and T₂ of OS-MD: T_b(x) = ReLU(norm_b(W_b ∗ x)), each shared by all slots and half as wide as they.

    {slot: (B, T, D) or (B, D, h, w)} -> slot -> [T₁, T₂], all (B, width / 2, L), or (B, width / 2, h, w) as soon as one
    slot is a map. W is 3 × 3 on maps, 3 on tokens, 1 on a single token. Slots are resampled to the longest T (the
    largest map), and a linear map brings them to `width` where their D differs.

    Batch normalisation takes its statistics over all slots together: separate statistics would hide a slot's mean and
    scale from the comparison, and running statistics could not reproduce what training saw. Evaluation reads the
    running statistics, so a row's output does not depend on its batch.

    Source: OS-MD (arXiv 2309.08204), sec. 3.3, "convolution, batch norm and activation"; sizes are our reading: the
    concatenation is as wide as the slots themselves.

    Args:
        shapes: slot -> (T, D), or (D, h, w) of a map.
        width: D that the blocks read.
    """

    BLOCKS = 2

    def __init__(self, shapes: Mapping[str, Sequence[int]], width: int):
        super().__init__()
        self.slots = tuple(shapes)
        maps = [tuple(shape[1:]) for shape in shapes.values() if len(shape) == 3]
        self.size = max(maps) if maps else ()
        self.steps = max((shape[0] for shape in shapes.values() if len(shape) == 2), default=1)
        self.out_dim = max(width // self.BLOCKS, 1)
        self.project = nn.ModuleList(_make_projection(shape, width) for shape in shapes.values())
        self.blocks = nn.ModuleList(self._block(width) for _ in range(self.BLOCKS))

    def _block(self, width: int) -> nn.Sequential:
        out = self.out_dim
        if self.size:
            convolution: nn.Module = nn.Conv2d(width, out, 3, padding=1, bias=False)
        elif self.steps > 1:
            convolution = nn.Conv1d(width, out, 3, padding=1, bias=False)
        else:  # the same as a convolution of one step, and several times faster
            convolution = nn.Linear(width, out, bias=False)
        norm = nn.BatchNorm2d(out) if self.size else nn.BatchNorm1d(out)
        return nn.Sequential(convolution, norm, nn.ReLU())

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Slot -> the output of each block."""
        every = torch.stack([self._align(project(features[m])) for m, project in zip(self.slots, self.project)])
        single = every[:, :, 0].numel() == 1  # a single value has no statistics of its own
        with running_statistics(self.blocks, self.training and single):
            made = [block(every.flatten(0, 1)).unflatten(0, (len(self.slots), -1)) for block in self.blocks]
        return {m: [self._with_length(of_block[i]) for of_block in made] for i, m in enumerate(self.slots)}

    def _align(self, x: Tensor) -> Tensor:
        """The blocks' input: (B, width, h, w), (B, width, L), or (B, width) of single tokens."""
        if self.size:
            return to_map(x, self.size)
        return to_tokens(x, self.steps).transpose(1, 2) if self.steps > 1 else pool(x)

    def _with_length(self, x: Tensor) -> Tensor:
        """A vector (B, D) as (B, D, 1); everything else as it is."""
        return x.unsqueeze(2) if x.dim() == 2 else x


def _make_projection(shape: Sequence[int], width: int) -> nn.Module:
    """A linear map (a 1 × 1 convolution of a map) to `width` channels, or none where D already is `width`."""
    size = num_channels(shape)
    if size == width:
        return nn.Identity()
    return nn.Linear(size, width, bias=False) if len(shape) == 2 else nn.Conv2d(size, width, 1, bias=False)
