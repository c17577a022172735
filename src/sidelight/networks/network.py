"""One network for teachers, baselines and students: encoders, an optional hallucinated slot, fusion, head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.by_modality import select_keys
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.prefetch import materialized_batches
from sidelight.errors import ConfigError
from sidelight.networks.encoding import encode, zero_missing_rows
from sidelight.networks.modality_imputer import ModalityImputer
from sidelight.networks.tokens import pool
from sidelight.utils.device import CPU
from sidelight.utils.names import check_modality
from sidelight.utils.phases import phase
from sidelight.utils.precision import to_float32, without_autocast


@dataclass(frozen=True)
class OutputParts:
    """The parts of a network's outputs that are kept beside its predictions.

    Attributes:
        features: the features of every slot.
        embedding: the fused embedding.
    """

    features: bool = True
    embedding: bool = True


EVERYTHING = OutputParts()


@dataclass(frozen=True)
class Output:
    """The outputs of a network for a batch.

    Attributes:
        prediction: (B, C) logits or (B, K) values; (B, C, H, W) from a dense network.
        fused: (B, F) joint embedding before the head and its dropout; a map (B, F, h, w) in a dense network.
        features: slot -> (B, T, D) tokens (T = 1 for vectors), hallucinated slots included; maps (B, D, h, w). They
            are taken before dropout too, so that losses compare, and T-Nets read, the deployed values.
        losses: named scalars that the network adds in training, over the whole batch; a method adds them to its terms.
    """

    prediction: Tensor
    fused: Tensor
    features: dict[str, Tensor]
    losses: dict[str, Tensor] = field(default_factory=dict)

    @property
    def embedding(self) -> Tensor:
        """(B, F), for losses that compare rows: `fused` itself, or a map's mean over its positions."""
        return pool(self.fused)

    def vector(self, slot: str) -> Tensor:
        """The slot's tokens averaged over time, or its map over positions: (B, D)."""
        return pool(self.features[slot])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(x.nbytes for x in (self.prediction, self.fused, *self.features.values()))

    def to(self, device: torch.device) -> Output:
        """The same outputs on a device."""
        features = {m: f.to(device) for m, f in self.features.items()}
        losses = {name: value.to(device) for name, value in self.losses.items()}
        return Output(self.prediction.to(device), self.fused.to(device), features, losses)

    def to_float32(self) -> Output:
        """The same outputs in at least float32: what a network computes under autocast has half precision."""
        return replace(
            self,
            prediction=to_float32(self.prediction),
            fused=to_float32(self.fused),
            features=to_float32(self.features),
        )

    def index_select(self, rows: Tensor) -> Output:
        """The given rows of every tensor."""
        return Output(self.prediction[rows], self.fused[rows], {m: f[rows] for m, f in self.features.items()})

    def zero_padding(self, valid: Tensor, features: bool = True) -> Output:
        """The same output with zeros in the padding rows, which get no gradient.

        Args:
            valid: (B,) bool, False for padding rows.
            features: whether the features are read; otherwise they are left as they are.
        """

        def zeroed(x: Tensor) -> Tensor:
            return x.where(valid.view(-1, *[1] * (x.ndim - 1)), 0.0)

        kept = {m: zeroed(f) for m, f in self.features.items()} if features else self.features
        return replace(self, prediction=zeroed(self.prediction), fused=zeroed(self.fused), features=kept)

    def keep(self, parts: OutputParts | None) -> Output:
        """The outputs without the parts that are not kept: `fused` is then (B, 0), and there are no features."""
        parts = parts or EVERYTHING
        fused = self.fused if parts.embedding else self.fused[:, :0]
        return Output(self.prediction, fused, self.features if parts.features else {})

    def new_empty(self, rows: int) -> Output:
        """Outputs of so many rows on the CPU, of the same shapes and types, with undefined values."""

        def make(x: Tensor) -> Tensor:
            return torch.empty(rows, *x.shape[1:], dtype=x.dtype)

        return Output(make(self.prediction), make(self.fused), {m: make(f) for m, f in self.features.items()})

    def copy_rows(self, other: Output, start: int) -> None:
        """Overwrite the rows from `start` on by those of `other`."""
        rows = slice(start, start + len(other.prediction))
        self.prediction[rows], self.fused[rows] = other.prediction, other.fused
        for m, f in other.features.items():
            self.features[m][rows] = f


class EncodedBatch(NamedTuple):
    """Features of a network's modalities, the batch as hallucinators see it, and the network's own losses."""

    features: dict[str, Tensor]
    batch: Batch
    losses: dict[str, Tensor]


class Network(nn.Module):
    """encoders -> (completion) -> (hallucinators) -> fusion -> dropout -> head.

    Modalities outside `reads` are never touched (DESIGN invariant 1). In a dense network, encoders and fusion return
    maps (B, D, h, w), and the head (B, outputs, H, W).

    Args:
        encoders: modality -> module (B, …) -> (B, D) or (B, T, D); a variable-length modality's encoder also gets its
            `length`. The keys are exactly the modalities that the network reads.
        fusion: module {slot: (B, T, D)} -> (B, F). Its `head_dropout`, if it has one, acts before the head.
        head: module (B, F) -> (B, outputs).
        hallucinators: privileged modality -> module {read slot: (B, T, D)} -> (B, T', D') in place of its encoder; a
            module with the attribute `reads_inputs` gets the batch instead of the features.
        completion: imputes the features of modalities that a row, or the whole batch, lacks. Without it every modality
            must be given, and a row that lacks one has zeros.

    Raises:
        ConfigError: There is no encoder, a name is not allowed, or a slot is both read and hallucinated.
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
            if hasattr(nn.ModuleDict(), m):  # a newer torch may reserve more names than ours
                raise ConfigError(f"a modality cannot be named {m!r}: torch reserves the name; rename it")
        both = set(encoders) & set(hallucinators or {})
        if both:
            raise ConfigError(f"{sorted(both)} cannot be both read and hallucinated; choose one for each slot")
        self.encoders = nn.ModuleDict(dict(encoders))
        self.fusion = fusion
        self.head = head
        self.hallucinators = nn.ModuleDict(dict(hallucinators or {}))
        self.completion = completion

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that the network reads, in order."""
        return tuple(self.encoders)

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which batches must be."""
        some = next(self.parameters(), None)
        return CPU if some is None else some.device

    def encode_inputs(self, batch: Batch) -> EncodedBatch:
        """The features of the modalities that the network reads; without completion, missing ones are zeros."""
        if self.completion is None:
            return EncodedBatch(encode(self.encoders, batch), batch, {})
        # A modality that the batch lacks altogether is missing in every row.
        missing = {m: batch.index.new_zeros(len(batch), dtype=torch.bool) for m in self.reads if m not in batch.inputs}
        batch = zero_missing_rows(replace(batch, present=batch.present | missing), self.reads)
        features = encode(self.encoders, batch, self.completion.shapes)
        features, shown, losses = self.completion(features, {m: p for m, p in batch.present.items() if m in features})
        return EncodedBatch(features, replace(batch, present=batch.present | shown), losses)

    def encode(self, batch: Batch) -> EncodedBatch:
        """The features of every slot, hallucinated ones included."""
        features, batch, losses = self.encode_inputs(batch)
        made = {
            m: hallucinator(batch if getattr(hallucinator, "reads_inputs", False) else features)
            for m, hallucinator in self.hallucinators.items()
        }
        return EncodedBatch(features | made, batch, losses)

    def forward_head(self, fused: Tensor) -> Tensor:
        """The prediction from a fused embedding (B, F), or map, after dropout."""
        prediction: Tensor = self.head(apply_head_dropout(self.fusion, fused))
        return prediction

    def forward(self, batch: Batch) -> Output:
        """The outputs for a batch."""
        features, _, losses = self.encode(batch)
        fused = self.fusion(features)
        return Output(self.forward_head(fused), fused, features, losses)


def apply_head_dropout(fusion: nn.Module, fused: Tensor) -> Tensor:
    """The input of a head: a fused embedding (B, F), or map, after the fusion's `head_dropout`, if it has one."""
    dropout = getattr(fusion, "head_dropout", None)
    return fused if dropout is None else dropout(fused)


@torch.no_grad()
@phase("outputs of teachers")
def compute_outputs(
    network: Network, batch: Batch, rows: Tensor, chunk: int | None = None, parts: OutputParts | None = None
) -> Output:
    """The network's outputs for many rows, in evaluation mode and without autocast; the mode is restored.

    Args:
        network: the network.
        batch: the data.
        rows: (N,) indices of the rows to compute.
        chunk: rows per forward pass; by default as many as fit in a fixed budget of memory.
        parts: the parts of the outputs to keep; by default all.

    Returns:
        The outputs for these rows, in their order, on the CPU.
    """
    made, start = None, 0
    for part in _predict_chunks(network, batch, rows, chunk):
        part = part.keep(parts)
        made = part.new_empty(len(rows)) if made is None else made
        # Copied into place: chunks that are joined at the end would be in memory twice.
        made.copy_rows(part, start)
        start += len(part.prediction)
    assert made is not None  # even no rows are a chunk
    return made


def concat_outputs(parts: Sequence[Output]) -> Output:
    """The rows of several outputs, one after the other."""
    return Output(
        torch.cat([p.prediction for p in parts]),
        torch.cat([p.fused for p in parts]),
        {m: torch.cat([p.features[m] for p in parts]) for m in parts[0].features},
    )


@torch.no_grad()
def predict_in_chunks(network: Network, batch: Batch, rows: Tensor, what: Callable[[Output], Tensor]) -> Tensor:
    """A tensor from `compute_outputs` of many rows; only one chunk of the outputs is in memory at a time.

    Args:
        network: the network.
        batch: the data.
        rows: (N,) indices of the rows to compute.
        what: the tensor of an `Output` to keep, with one row per sample.

    Returns:
        The tensors, concatenated, on the CPU.
    """
    return torch.cat([what(part).cpu() for part in _predict_chunks(network, batch, rows)])


def _predict_chunks(network: Network, batch: Batch, rows: Tensor, chunk: int | None = None) -> Iterator[Output]:
    training = network.training
    in_evaluation = not any(module.training for module in network.modules())
    if not in_evaluation:
        network.eval()
    chunk = chunk or compute_chunk_size(
        [*(s for m, s in batch.shapes().items() if m in network.reads), _prediction_shape(network)]
    )
    # What the network does not read is neither decoded nor gathered.
    files, stored = select_keys(batch.files, network.reads), select_keys(batch.stored, network.reads)
    batch = replace(batch, files=files, stored=stored, maps=None)
    for part in materialized_batches(batch, torch.split(rows, chunk), device=network.device):
        with without_autocast(network.device):
            outputs = network(part)
        yield outputs
    if not in_evaluation:
        network.train(training)


def _prediction_shape(network: Network) -> tuple[int, ...]:
    """The shape of one row's prediction; (0,) where the head does not state it."""
    return getattr(network.head, "out_features", 0), *getattr(network.head, "size", ())
