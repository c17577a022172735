"""What the encoders of a network make of a batch: rows that lack a modality have zeros there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError


def encode(
    encoders: nn.ModuleDict, batch: Batch, missing: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Tensor]:
    """Every encoder's (B, T, D) tokens of its modality; rows that lack the modality have zeros there.

    missing: modality -> shape of its features, of those that need not be among the inputs and are zeros then.
    """
    features: dict[str, Tensor] = {}
    for m, encoder in encoders.items():
        if m not in batch.inputs:
            if m in (missing or {}):
                continue
            raise ConfigError(f"the network reads {list(encoders)}, but {m!r} is not among the inputs")
        x, length, present = batch.inputs[m], batch.lengths.get(m), batch.present.get(m)
        if present is not None and encoder.training and getattr(encoder, "batch_statistics", False):
            f = encode_present(encoder, x, length, present)
        else:
            f = encoder(x) if length is None else encoder(x, length)
        f = f.unsqueeze(1) if f.dim() == 2 else f
        features[m] = f if present is None else f * present.view(-1, *[1] * (f.dim() - 1))
    if not features:
        raise ConfigError(f"the network reads {list(encoders)}, and none of them is among the inputs")
    some = next(iter(features.values()))
    return {m: features[m] if m in features else some.new_zeros(len(some), *(missing or {})[m]) for m in encoders}


def blanked(batch: Batch, modalities: Sequence[str]) -> Batch:
    """The batch with zeros, whatever stood there, in the rows that lack one of the modalities."""
    zeros = {
        m: x.masked_fill(~batch.present[m].view(-1, *[1] * (x.dim() - 1)), 0)
        for m, x in batch.inputs.items()
        if m in modalities and m in batch.present
    }
    return replace(batch, inputs=batch.inputs | zeros)


def encode_present(encoder: Any, x: Tensor, length: Tensor | None, present: Tensor) -> Tensor:
    """Features of the rows that have the modality, zeros elsewhere: absent rows are no part of a batch's statistics."""
    rows = present.nonzero()[:, 0]
    if len(rows) == 0:
        with torch.no_grad():
            one: Tensor = encoder(x[:1])
        return one.new_zeros(len(x), *one.shape[1:])
    f: Tensor = encoder(x[rows]) if length is None else encoder(x[rows], length[rows])
    return f.new_zeros(len(x), *f.shape[1:]).index_copy(0, rows, f)
