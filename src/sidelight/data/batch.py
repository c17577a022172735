"""Rows as tensors: what a network and a loss are given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A set of rows, paired over modalities.

    inputs:   modality -> (B, D) vectors or (B, T, C) signals. Rows where the modality is absent hold zeros.
    target:   (B,) int64 class codes, or (B, K) floating point; undefined where not labelled.
    labelled: (B,) bool. Task losses skip rows that are not; distillation still learns from them.
    present:  modality -> (B,) bool. A training row may lack a privileged modality; a modality that every row has may be
              left out.
    index:    (B,) int64, the row's position among the rows it was drawn from (memory banks, cached teachers).
    lengths:  modality -> (B,) int64 valid time steps, only for variable-length modalities.
    """

    inputs: dict[str, Tensor]
    target: Tensor
    labelled: Tensor
    present: dict[str, Tensor]
    index: Tensor
    lengths: dict[str, Tensor]

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def take(self, rows: Tensor) -> Batch:
        """The given rows, in the given order; `index` keeps pointing at where they came from."""
        return Batch(
            {m: x[rows] for m, x in self.inputs.items()},
            self.target[rows],
            self.labelled[rows],
            {m: x[rows] for m, x in self.present.items()},
            self.index[rows],
            {m: x[rows] for m, x in self.lengths.items()},
        )

    def only(self, modalities: Collection[str]) -> Batch:
        """The same rows with these modalities alone."""
        return replace(
            self,
            inputs={m: x for m, x in self.inputs.items() if m in modalities},
            present={m: x for m, x in self.present.items() if m in modalities},
            lengths={m: x for m, x in self.lengths.items() if m in modalities},
        )

    def to(self, where: torch.device | torch.dtype | str) -> Batch:
        """Moved to a device, or its floating point tensors cast to a dtype."""

        def move(x: Tensor) -> Tensor:
            return x if isinstance(where, torch.dtype) and not x.is_floating_point() else x.to(where)

        return Batch(
            {m: move(x) for m, x in self.inputs.items()},
            move(self.target),
            move(self.labelled),
            {m: move(x) for m, x in self.present.items()},
            move(self.index),
            {m: move(x) for m, x in self.lengths.items()},
        )
