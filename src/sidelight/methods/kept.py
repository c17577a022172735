"""What finished networks say of the training rows: computed once, or where that is too large to keep, at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import Network, Output, joined

MAPS_IN_MEMORY = 2**30
"""Bytes up to which maps that a finished network says of all rows are kept."""


class Kept(nn.Module):
    """Tensors over all training rows by name: `Batch.index` (B,) -> name -> their rows (B, …), without gradient.

    They move along with the method that keeps them (`Module.to`) and are no part of its state: building the method
    again makes them again.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.names = tuple(tensors)
        for name, value in tensors.items():
            self.register_buffer(f"kept_{name}", value.detach(), persistent=False)

    def forward(self, index: Tensor) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"kept_{name}")[index] for name in self.names}


class Said(nn.Module):
    """Outputs over all training rows, kept: a batch -> what was said of its rows."""

    reads: tuple[str, ...] = ()
    """What a batch has to hold of its rows' inputs: nothing."""

    def __init__(self, said: Output):
        super().__init__()
        self.whole = Kept({"prediction": said.prediction, "fused": said.fused})
        self.features = Kept(said.features)

    def forward(self, batch: Batch) -> Output:
        whole = self.whole(batch.index)
        return Output(whole["prediction"], whole["fused"], self.features(batch.index))


class Live(nn.Module):
    """Finished networks, asked at every step: a batch -> what is said of its rows, in the view that the batch has.

    The networks stand still: they are copies in evaluation mode for good. They move along with the method that asks
    them (`Module.to`), and are no part of its parameters and state: building the method again makes them again.

    Args:
        networks: one, or several that share the rows; they read the same modalities.
        sample: what the first says of some rows, by which sizes are known.
        speaker: (N,) int64, which of several speaks of each training row.
    """

    speaker: Tensor | None

    def __init__(self, networks: Sequence[Network], sample: Output, speaker: Tensor | None = None):
        super().__init__()
        self.networks = tuple(freeze(copy.deepcopy(network)) for network in networks)  # a tuple's are no submodules
        self.sample = sample
        self.register_buffer("speaker", speaker, persistent=False)
        self.reads = self.networks[0].reads

    @torch.no_grad()
    def forward(self, batch: Batch) -> Output:
        if self.speaker is None:
            return _plain(self.networks[0](batch))
        speaker = self.speaker[batch.index]
        rows = [(speaker == k).nonzero()[:, 0] for k in range(len(self.networks))]
        said = [_plain(self.networks[k](batch.take(r))) for k, r in enumerate(rows) if len(r)]
        return joined(said).take(torch.cat(rows).argsort())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Live:
        for network in self.networks:
            network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def _plain(said: Output) -> Output:
    """Without the losses that a network asks for in its own training."""
    return Output(said.prediction, said.fused, said.features)


def rows_of(mask: Tensor) -> Tensor | None:
    """The positions where a mask (B,) holds; None where it does everywhere, so that nothing need be copied."""
    return None if bool(mask.all()) else mask.nonzero()[:, 0]


def those(x: Tensor, rows: Tensor | None) -> Tensor:
    """x[rows], or x itself for None."""
    return x if rows is None else x[rows]
