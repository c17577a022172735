"""What finished networks say of the training rows: computed once, or where that is too large to keep, at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.pixels import rows_at_once
from sidelight.data.prefetch import ready_batches
from sidelight.errors import ConfigError
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

    @property
    def every(self) -> dict[str, Tensor]:
        """name -> the tensor over all training rows."""
        return {name: self.get_buffer(f"kept_{name}") for name in self.names}

    def forward(self, index: Tensor) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.every.items()}


class Speech(nn.Module):
    """What finished networks say of the training rows: a batch -> what is said of its rows, without gradient."""

    reads: tuple[str, ...] = ()
    """What a batch has to hold of its rows' inputs."""

    @property
    def every(self) -> Output:
        """What is said of every row, for terms that compare rows with all others.

        Raises:
            ConfigError: it is not kept.
        """
        raise ConfigError("this term keeps what the teacher says of every row, which is too large for maps.")

    @property
    def sample(self) -> Output:
        """What is said of some rows at least, by which sizes are known."""
        return self.every

    def without_features(self) -> Speech:
        """The same without per-modality features where these are kept: most terms do not read them."""
        return self

    def parts(self, rows: Batch) -> Iterable[Batch]:
        """The rows in batches of which it can be asked: all at once, unless a network has to read them."""
        return [rows]


class Said(Speech):
    """Outputs over all training rows, kept."""

    def __init__(self, said: Output):
        super().__init__()
        self.whole = Kept({"prediction": said.prediction, "fused": said.fused})
        self.features = Kept(said.features)

    def forward(self, batch: Batch) -> Output:
        return _output(self.whole(batch.index), self.features(batch.index))

    @property
    def every(self) -> Output:
        return _output(self.whole.every, self.features.every)

    def without_features(self) -> Said:
        return Said(replace(self.every, features={}))


class Live(Speech):
    """Finished networks, asked at every step, in the view that the batch has.

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
        self.first = sample
        self.register_buffer("speaker", speaker, persistent=False)
        self.reads = self.networks[0].reads

    @property
    def sample(self) -> Output:
        return self.first

    def parts(self, rows: Batch) -> Iterable[Batch]:
        read = replace(rows.only(self.reads), present=rows.present)
        at_once = rows_at_once(list(read.shapes().values()))
        return ready_batches(read, torch.split(torch.arange(len(rows)), at_once))

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


def _output(whole: Mapping[str, Tensor], features: dict[str, Tensor]) -> Output:
    return Output(whole["prediction"], whole["fused"], features)


def _plain(said: Output) -> Output:
    """Without the losses that a network asks for in its own training."""
    return Output(said.prediction, said.fused, said.features)


def rows_of(mask: Tensor) -> Tensor | None:
    """The positions where a mask (B,) holds; None where it does everywhere, so that nothing need be copied."""
    return None if bool(mask.all()) else mask.nonzero()[:, 0]


def those(x: Tensor, rows: Tensor | None) -> Tensor:
    """x[rows], or x itself for None."""
    return x if rows is None else x[rows]
