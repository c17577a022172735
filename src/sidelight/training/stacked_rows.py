"""The rows of several models, of which each step takes one batch for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sidelight.data.batch import Batch

BY_MODALITY = ("inputs", "present", "lengths")
"""The fields of a batch that are tensors by modality."""


class StackedBatch(NamedTuple):
    """One batch for each of M models.

    Attributes:
        fields: the tensors of a `Batch` by field (and modality), each with a leading dimension M.
        sizes: the number of rows of each model that are no padding, which come first.
    """

    fields: dict[str, Any]
    sizes: list[int]


class StackedRows:
    """The rows of several models, one after the other.

    Models may have different numbers of rows, and the same row differs between them: every fold has its own scaling.

    Args:
        batches: all rows of each model; they hold tensors only.
    """

    def __init__(self, batches: Sequence[Batch]):
        counts = [len(batch) for batch in batches]
        self.starts = [sum(counts[:i]) for i in range(len(counts))]
        # A modality that is present in every row has no mask, which another fold may have.
        masks = [dict(batch.present) for batch in batches]
        for m in {m for mask in masks for m in mask}:
            for mask, batch in zip(masks, batches):
                mask.setdefault(m, torch.ones_like(batch.labelled))
        self.fields: dict[str, Any] = {
            "target": torch.cat([batch.target for batch in batches]),
            "labelled": torch.cat([batch.labelled for batch in batches]),
            "index": torch.cat([batch.index for batch in batches]),
            "inputs": _concat([batch.inputs for batch in batches]),
            "present": _concat(masks),
            "lengths": _concat([batch.lengths for batch in batches]),
        }

    def gather(self, models: Sequence[int], parts: Sequence[Tensor]) -> StackedBatch:
        """Take one batch for each model; smaller ones are padded with their own first row, which is marked.

        Args:
            models: the numbers of the models.
            parts: the row numbers of each of their batches.
        """
        sizes = [len(part) for part in parts]
        largest = max(sizes)
        rows = torch.stack([pad_rows(part, largest) + self.starts[i] for i, part in zip(models, parts)])
        flat, shape = rows.flatten(), rows.shape

        def take(x: Tensor) -> Tensor:
            return x.index_select(0, flat).view(*shape, *x.shape[1:])

        fields: dict[str, Any] = {
            name: {m: take(x) for m, x in value.items()} if name in BY_MODALITY else take(value)
            for name, value in self.fields.items()
        }
        # Also where no row is padding: losses read it as the sign of a stack.
        fields["valid"] = torch.arange(largest) < torch.tensor(sizes)[:, None]
        return StackedBatch(fields, sizes)


def pad_rows(part: Tensor, size: int) -> Tensor:
    """Row numbers (B,), repeating the first up to `size`."""
    return part if len(part) == size else torch.cat([part, part[:1].expand(size - len(part))])


def _concat(tensors: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {m: torch.cat([named[m] for named in tensors]) for m in tensors[0]}
