"""Run a network's encoders on a batch; rows that lack a modality have zeros there."""

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
    """The tokens (B, T, D) of every modality; rows that lack the modality have zeros.

    Args:
        encoders: modality -> module (B, …) -> (B, D) or (B, T, D), or a map (B, D, h, w).
        batch: the inputs, lengths and presence of the modalities.
        missing: modality -> shape of its features, for modalities that may be absent from the inputs; their features
            are zeros then.

    Returns:
        Modality -> features, in the order of the encoders.

    Raises:
        ConfigError: A modality is not among the inputs and not in `missing`, or none is among the inputs.
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
    for m, shape in (missing or {}).items():
        if m in encoders and m not in features:
            features[m] = some.new_zeros(len(some), *shape)
    return {m: features[m] for m in encoders}


def zero_missing_rows(batch: Batch, modalities: Sequence[str]) -> Batch:
    """The batch with zeros in the rows that lack one of the modalities, whatever was stored there."""
    inputs = dict(batch.inputs)
    for m in modalities:
        if m in inputs and m in batch.present:
            absent = ~batch.present[m].view(-1, *[1] * (inputs[m].dim() - 1))
            inputs[m] = inputs[m].masked_fill(absent, 0)
    return replace(batch, inputs=inputs)


def encode_present(encoder: Any, x: Tensor, length: Tensor | None, present: Tensor) -> Tensor:
    """Features of the rows that have the modality, zeros elsewhere: absent rows stay out of a batch's statistics.

    Args:
        encoder: the modality's encoder, with batch normalisation.
        x: inputs (B, …).
        length: (B,) valid steps of each row, or None.
        present: (B,) bool.

    Returns:
        (B, D), (B, T, D) or (B, D, h, w).
    """
    rows = present.nonzero()[:, 0]
    if len(rows) == 0:  # one row, without gradient, gives the shape
        with torch.no_grad():
            one: Tensor = encoder(x[:1])
        return one.new_zeros(len(x), *one.shape[1:])
    f: Tensor = encoder(x[rows]) if length is None else encoder(x[rows], length[rows])
    return f.new_zeros(len(x), *f.shape[1:]).index_copy(0, rows, f)
