"""Transform blocks that several slots share, so that what they make of different slots can be compared and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sidelight.networks.backbones.base import running_statistics
from sidelight.networks.tokens import as_map, as_tokens, channels, pooled


class TransformBlocks(nn.Module):
    """T₁ and T₂ of OS-MD: T_b(x) = ReLU(norm_b(W_b ∗ x)), each shared by all slots and half as wide as they.

    {slot: (B, T, D) or (B, D, h, w)} -> slot -> [T₁, T₂], all (B, width / 2, L), or (B, width / 2, h, w) as soon as one
    slot is a map. W is 3 × 3 on maps, 3 on tokens, 1 on a single token. Slots are brought to the longest T (the largest
    map) and, where their D is another, to `width` by a linear map first.

    Batch normalisation takes its statistics over all slots together: normalised apart, a slot's mean and scale
    would be lost to the comparison, and what training saw could not be said again from running statistics. Evaluation
    reads the running statistics, so a row's output does not depend on its batch.

    Source: OS-MD (arXiv 2309.08204), sec. 3.3, "convolution, batch norm and activation"; sizes are our reading: what is
    concatenated is as wide as the slots themselves.
    """

    BLOCKS = 2

    def __init__(self, shapes: Mapping[str, Sequence[int]], width: int):
        super().__init__()
        self.slots = tuple(shapes)
        maps = [tuple(shape[1:]) for shape in shapes.values() if len(shape) == 3]
        self.size = max(maps) if maps else ()
        self.steps = max((shape[0] for shape in shapes.values() if len(shape) == 2), default=1)
        self.out_dim = max(width // self.BLOCKS, 1)
        self.project = nn.ModuleList(_projection(shape, width) for shape in shapes.values())
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
        every = torch.stack([self._brought(project(features[m])) for m, project in zip(self.slots, self.project)])
        single = every[:, :, 0].numel() == 1  # one value has no statistics of its own
        with running_statistics(self.blocks, self.training and single):
            made = [block(every.flatten(0, 1)).unflatten(0, (len(self.slots), -1)) for block in self.blocks]
        return {m: [self._extended(of_block[i]) for of_block in made] for i, m in enumerate(self.slots)}

    def _brought(self, x: Tensor) -> Tensor:
        """What the blocks read: (B, width, h, w), (B, width, L), or (B, width) of single tokens."""
        if self.size:
            return as_map(x, self.size)
        return as_tokens(x, self.steps).transpose(1, 2) if self.steps > 1 else pooled(x)

    def _extended(self, x: Tensor) -> Tensor:
        return x.unsqueeze(2) if x.dim() == 2 else x


def _projection(shape: Sequence[int], width: int) -> nn.Module:
    size = channels(shape)
    if size == width:
        return nn.Identity()
    return nn.Linear(size, width, bias=False) if len(shape) == 2 else nn.Conv2d(size, width, 1, bias=False)
