"""Run a network's encoders on a batch; rows that lack a modality have zeros there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sidelight.data.batch import Batch
from sidelight.data.shard import Shard
from sidelight.errors import ConfigError
from sidelight.networks.batch_statistics import shared_statistics


def encode(
    encoders: nn.ModuleDict, batch: Batch, missing: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Tensor]:
    """The tokens (B, T, D) of every modality; rows that lack the modality have zeros.

    Where several processes share a batch, each encodes its own rows, and all get the features of all rows, with
    gradients: everything that follows is the same in every process.

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
        if batch.shard is not None:
            f = batch.shard.gather(encode_own(encoder, x, length, present, batch.shard, batch.pieces))
        elif present is not None and encoder.training and getattr(encoder, "batch_statistics", False):
            f = encode_present(encoder, x, length, present, batch.pieces)
        else:
            f = run_encoder(encoder, x, length, batch.pieces)
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
            present = batch.present[m] if batch.shard is None else batch.shard.own(batch.present[m])
            absent = ~present.view(-1, *[1] * (inputs[m].dim() - 1))
            inputs[m] = inputs[m].masked_fill(absent, 0)
    return replace(batch, inputs=inputs)


def run_encoder(encoder: Any, x: Tensor, length: Tensor | None, pieces: int) -> Tensor:
    """The features of rows; in training in pieces, of which one has its activations in memory.

    The forward pass of a piece keeps its features alone. The backward pass runs the piece once more, with the random
    numbers that it drew, and takes its gradient. So losses see the whole batch, and gradients are those of the batch.

    Args:
        encoder: the modality's encoder.
        x: inputs (B, …).
        length: (B,) valid steps of each row, or None.
        pieces: how many.

    Raises:
        ConfigError: the encoder takes statistics over the batch, which pieces do not have.
    """
    given = (x,) if length is None else (x, length)
    if pieces == 1 or not encoder.training or not torch.is_grad_enabled():
        return encoder(*given)  # type: ignore[no-any-return]
    if any(isinstance(m, _BatchNorm) and m.training for m in encoder.modules()):
        raise ConfigError(
            f"training.accumulate={pieces}: batch normalisation in an encoder takes its statistics over a whole batch, "
            "which pieces of it do not have. Set training.accumulate=1 and a smaller training.batch_size, or divide "
            "the batch over several processes (torchrun)."
        )
    parts = zip(*(values.tensor_split(min(pieces, len(x))) for values in given))
    return torch.cat([checkpoint(encoder, *part, use_reentrant=False) for part in parts])


def encode_present(encoder: Any, x: Tensor, length: Tensor | None, present: Tensor, pieces: int = 1) -> Tensor:
    """Features of the rows that have the modality, zeros elsewhere: absent rows stay out of a batch's statistics.

    Args:
        encoder: the modality's encoder, with batch normalisation.
        x: inputs (B, …).
        length: (B,) valid steps of each row, or None.
        present: (B,) bool.
        pieces: as in `run_encoder`.

    Returns:
        (B, D), (B, T, D) or (B, D, h, w).
    """
    rows = present.nonzero()[:, 0]
    if len(rows) == 0:  # one row, without gradient, gives the shape
        with torch.no_grad():
            one: Tensor = encoder(x[:1])
        return one.new_zeros(len(x), *one.shape[1:])
    f = run_encoder(encoder, x[rows], None if length is None else length[rows], pieces)
    return f.new_zeros(len(x), *f.shape[1:]).index_copy(0, rows, f)


def encode_own(
    encoder: Any, x: Tensor, length: Tensor | None, present: Tensor | None, shard: Shard, pieces: int = 1
) -> Tensor:
    """Features of the rows of this process; batch normalisation takes its statistics over those of all processes.

    Args:
        encoder: the modality's encoder.
        x: inputs (b, …) of the rows of this process.
        length: (B,) valid steps of all rows, or None.
        present: (B,) bool, of all rows, or None.
        shard: which rows are whose.
        pieces: as in `run_encoder`.

    Returns:
        (b, D), (b, T, D) or (b, D, h, w).
    """
    length = None if length is None else shard.own(length)
    rows, everywhere = None, len(shard.owner)
    if present is not None and encoder.training and getattr(encoder, "batch_statistics", False):
        rows, everywhere = shard.own(present).nonzero()[:, 0], int(present.sum())
    read = x if rows is None else x[rows]
    steps = length if rows is None or length is None else length[rows]
    held = len(read) > 0
    if not held:
        # Every process has to take part in the others' statistics, and to know the shape: a row that counts nowhere.
        read = x.new_zeros(1, *x.shape[1:])
        steps = None if length is None else length.new_full((1,), x.shape[1])
    with ExitStack() as stack:
        if encoder.training:
            stack.enter_context(shard.randomness.drawn(x.device))
            if everywhere > 1:  # a row alone is normalised by the running statistics
                stack.enter_context(shared_statistics(encoder, held))
        if everywhere == 0:
            stack.enter_context(torch.no_grad())
        f = run_encoder(encoder, read, steps, pieces)
    f = f if held else f[:0]
    return f if rows is None else f.new_zeros(len(x), *f.shape[1:]).index_copy(0, rows, f)
