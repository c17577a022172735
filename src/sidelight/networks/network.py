"""One network for teachers, baselines and students: encoders, an optional hallucinated slot, fusion, head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.prefetch import materialized_batches
from sidelight.errors import ConfigError
from sidelight.networks.encoding import blanked, encode
from sidelight.networks.modality_imputer import ModalityImputer
from sidelight.networks.tokens import pooled
from sidelight.utils.names import check_modality


@dataclass(frozen=True)
class Output:
    """What a network says about a batch.

    prediction: (B, C) logits or (B, K) values; of a dense network (B, C, H, W).
    fused: (B, F) joint embedding before the head and its dropout; of a dense network a map (B, F, h, w).
    features: slot -> (B, T, D) tokens (T = 1 for vectors), hallucinated slots included; maps (B, D, h, w). They stand
    before dropout too, so that losses compare, and T-Nets read, what is deployed.
    losses: named scalars that the network itself asks for in training, over the whole batch; a method adds them to its
    terms.
    """

    prediction: Tensor
    fused: Tensor
    features: dict[str, Tensor]
    losses: dict[str, Tensor] = field(default_factory=dict)

    @property
    def embedding(self) -> Tensor:
        """(B, F), what losses that compare rows read: `fused` itself, or a map's mean over its positions."""
        return pooled(self.fused)

    def vector(self, slot: str) -> Tensor:
        """The slot's tokens averaged over time, or its map over positions: (B, D)."""
        return pooled(self.features[slot])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(x.nbytes for x in (self.prediction, self.fused, *self.features.values()))

    def index_select(self, rows: Tensor) -> Output:
        """The given rows of every tensor."""
        return Output(self.prediction[rows], self.fused[rows], {m: f[rows] for m, f in self.features.items()})


class Reading(NamedTuple):
    """What a network has read: features of its modalities, the batch as hallucinators see it, losses of its own."""

    features: dict[str, Tensor]
    batch: Batch
    losses: dict[str, Tensor]


class Network(nn.Module):
    """encoders -> (completion) -> (hallucinators) -> fusion -> dropout -> head.

    encoders:      modality -> module (B, …) -> (B, D) or (B, T, D); a variable-length modality's encoder is also given
                   its `length`. The keys are exactly the modalities that the network reads.
    fusion:        module {slot: (B, T, D)} -> (B, F). Its `head_dropout`, if it has one, stands before the head.
    head:          module (B, F) -> (B, outputs).
                   Of a dense network, encoders and fusion return maps (B, D, h, w), the head (B, outputs, H, W).
    hallucinators: privileged modality -> module {read slot: (B, T, D)} -> (B, T', D'), which takes its place; one with
                   the attribute `reads_inputs` is given the batch instead of the features.
    completion:    makes the features of modalities that a row lacks, or that are not among the inputs at all; without
                   it every modality must be given, and a row that lacks one has zeros.

    Modalities outside `reads` are never touched (DESIGN invariant 1).
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        head: nn.Module,
        hallucinators: Mapping[str, nn.Module] | None = None,
        completion: ModalityImputer | None = None,
    ):
        super().__init__()
        if not encoders:
            raise ConfigError("a network needs at least one modality to read")
        for m in (*encoders, *(hallucinators or {})):
            check_modality(m, error=ConfigError)
            if hasattr(nn.ModuleDict(), m):  # a word that a newer torch keeps
                raise ConfigError(f"a modality cannot be named {m!r}: torch keeps the name for itself; rename it")
        both = set(encoders) & set(hallucinators or {})
        if both:
            raise ConfigError(f"{sorted(both)} would be both read and hallucinated; a slot is one or the other")
        self.encoders = nn.ModuleDict(dict(encoders))
        self.fusion = fusion
        self.head = head
        self.hallucinators = nn.ModuleDict(dict(hallucinators or {}))
        self.completion = completion

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that the network reads, in order."""
        return tuple(self.encoders)

    def read(self, batch: Batch) -> Reading:
        """The features of the modalities that it reads; without completion, rows that lack one have zeros there."""
        if self.completion is None:
            return Reading(encode(self.encoders, batch), batch, {})
        missing = {m: batch.index.new_zeros(len(batch), dtype=torch.bool) for m in self.reads if m not in batch.inputs}
        batch = blanked(replace(batch, present=batch.present | missing), self.reads)
        features = encode(self.encoders, batch, self.completion.shapes)
        features, shown, losses = self.completion(features, {m: p for m, p in batch.present.items() if m in features})
        return Reading(features, replace(batch, present=batch.present | shown), losses)

    def encode(self, batch: Batch) -> Reading:
        """The features of every slot, hallucinated ones included."""
        features, batch, losses = self.read(batch)
        made = {
            m: hallucinator(batch if getattr(hallucinator, "reads_inputs", False) else features)
            for m, hallucinator in self.hallucinators.items()
        }
        return Reading(features | made, batch, losses)

    def forward_head(self, fused: Tensor) -> Tensor:
        """The prediction from a fused embedding (B, F), or map, after dropout."""
        prediction: Tensor = self.head(dropped(self.fusion, fused))
        return prediction

    def forward(self, batch: Batch) -> Output:
        features, _, losses = self.encode(batch)
        fused = self.fusion(features)
        return Output(self.forward_head(fused), fused, features, losses)


def dropped(fusion: nn.Module, fused: Tensor) -> Tensor:
    """What a head reads of a fused embedding (B, F), or map: after the fusion's `head_dropout`, if it has one."""
    dropout = getattr(fusion, "head_dropout", None)
    return fused if dropout is None else dropout(fused)


@torch.no_grad()
def outputs(network: Network, batch: Batch, rows: Tensor, chunk: int | None = None) -> Output:
    """The network's output on many rows, in evaluation mode and in chunks; the network's mode is put back."""
    return concat_outputs(list(_in_chunks(network, batch, rows, chunk)))


def concat_outputs(parts: Sequence[Output]) -> Output:
    """The rows of several outputs, one after the other."""
    return Output(
        torch.cat([p.prediction for p in parts]),
        torch.cat([p.fused for p in parts]),
        {m: torch.cat([p.features[m] for p in parts]) for m in parts[0].features},
    )


@torch.no_grad()
def predict_in_chunks(network: Network, batch: Batch, rows: Tensor, what: Callable[[Output], Tensor]) -> Tensor:
    """`what` of the network's outputs on many rows; of the outputs themselves no more than a chunk is held."""
    return torch.cat([what(part) for part in _in_chunks(network, batch, rows)])


def _in_chunks(network: Network, batch: Batch, rows: Tensor, chunk: int | None = None) -> Iterator[Output]:
    training = network.training
    network.eval()
    chunk = chunk or compute_chunk_size([*(s for m, s in batch.shapes().items() if m in network.reads), _says(network)])
    batch = replace(batch, files={m: x for m, x in batch.files.items() if m in network.reads}, maps=None)
    for part in materialized_batches(batch, torch.split(rows, chunk)):
        yield network(part)
    network.train(training)


def _says(network: Network) -> tuple[int, ...]:
    """A row's shape of the predictions; of a head that does not say it, (0,)."""
    return getattr(network.head, "out_features", 0), *getattr(network.head, "size", ())
