"""One network for teachers, baselines and students: encoders, an optional hallucinated slot, fusion, head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.pixels import rows_at_once
from sidelight.errors import ConfigError
from sidelight.networks.tokens import pooled


@dataclass(frozen=True)
class Output:
    """What a network says about a batch.

    prediction: (B, C) logits or (B, K) values; of a dense network (B, C, H, W).
    fused: (B, F) joint embedding before the head; of a dense network a map (B, F, h, w).
    features: slot -> (B, T, D) tokens (T = 1 for vectors), hallucinated slots included; maps (B, D, h, w).
    """

    prediction: Tensor
    fused: Tensor
    features: dict[str, Tensor]

    @property
    def embedding(self) -> Tensor:
        """(B, F), what losses that compare rows read: `fused` itself, or a map's mean over its positions."""
        return pooled(self.fused)

    def vector(self, slot: str) -> Tensor:
        """The slot's tokens averaged over time, or its map over positions: (B, D)."""
        return pooled(self.features[slot])

    def take(self, rows: Tensor) -> Output:
        """The given rows of every tensor."""
        return Output(self.prediction[rows], self.fused[rows], {m: f[rows] for m, f in self.features.items()})


class Network(nn.Module):
    """encoders -> (hallucinators) -> fusion -> head.

    encoders:      modality -> module (B, …) -> (B, D) or (B, T, D); a variable-length modality's encoder is also given
                   its `length`. The keys are exactly the modalities that the network reads.
    fusion:        module {slot: (B, T, D)} -> (B, F).
    head:          module (B, F) -> (B, outputs).
                   Of a dense network, encoders and fusion return maps (B, D, h, w), the head (B, outputs, H, W).
    hallucinators: privileged modality -> module {read slot: (B, T, D)} -> (B, T', D'), which takes its place; one with
                   the attribute `reads_inputs` is given the batch instead of the features.

    Modalities outside `reads` are never touched (DESIGN invariant 1).
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        head: nn.Module,
        hallucinators: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__()
        if not encoders:
            raise ConfigError("a network needs at least one modality to read")
        for m in (*encoders, *(hallucinators or {})):
            if not m or "." in m or hasattr(nn.ModuleDict(), m):
                raise ConfigError(f"a modality cannot be named {m!r}: torch keeps the name for itself; rename it")
        both = set(encoders) & set(hallucinators or {})
        if both:
            raise ConfigError(f"{sorted(both)} would be both read and hallucinated; a slot is one or the other")
        self.encoders = nn.ModuleDict(dict(encoders))
        self.fusion = fusion
        self.head = head
        self.hallucinators = nn.ModuleDict(dict(hallucinators or {}))

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that the network reads, in order."""
        return tuple(self.encoders)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, T, D) tokens of every slot; rows that lack a modality have zeros there."""
        features = encode(self.encoders, batch)
        read = dict(features)
        for m, hallucinator in self.hallucinators.items():
            features[m] = hallucinator(batch if getattr(hallucinator, "reads_inputs", False) else read)
        return features

    def forward(self, batch: Batch) -> Output:
        features = self.encode(batch)
        fused = self.fusion(features)
        return Output(self.head(fused), fused, features)


def encode(encoders: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
    """Every encoder's (B, T, D) tokens of its modality; rows that lack the modality have zeros there."""
    features: dict[str, Tensor] = {}
    for m, encoder in encoders.items():
        if m not in batch.inputs:
            raise ConfigError(f"the network reads {list(encoders)}, but {m!r} is not among the inputs")
        x, length, present = batch.inputs[m], batch.lengths.get(m), batch.present.get(m)
        if present is not None and encoder.training and getattr(encoder, "batch_statistics", False):
            f = encode_present(encoder, x, length, present)
        else:
            f = encoder(x) if length is None else encoder(x, length)
        f = f.unsqueeze(1) if f.dim() == 2 else f
        features[m] = f if present is None else f * present.view(-1, *[1] * (f.dim() - 1))
    return features


def encode_present(encoder: Any, x: Tensor, length: Tensor | None, present: Tensor) -> Tensor:
    """Features of the rows that have the modality, zeros elsewhere: absent rows are no part of a batch's statistics."""
    rows = present.nonzero()[:, 0]
    if len(rows) == 0:
        with torch.no_grad():
            one: Tensor = encoder(x[:1])
        return one.new_zeros(len(x), *one.shape[1:])
    f: Tensor = encoder(x[rows]) if length is None else encoder(x[rows], length[rows])
    return f.new_zeros(len(x), *f.shape[1:]).index_copy(0, rows, f)


@torch.no_grad()
def outputs(network: Network, batch: Batch, rows: Tensor, chunk: int | None = None) -> Output:
    """The network's output on many rows, in evaluation mode and in chunks; the network's mode is put back."""
    training = network.training
    network.eval()
    chunk = chunk or rows_at_once([batch.inputs[m].shape[1:] for m in network.reads if m in batch.inputs])
    parts = [network(batch.take(part).ready()) for part in torch.split(rows, chunk)]
    network.train(training)
    return Output(
        torch.cat([p.prediction for p in parts]),
        torch.cat([p.fused for p in parts]),
        {m: torch.cat([p.features[m] for p in parts]) for m in parts[0].features},
    )
