"""The outputs of finished networks on the training rows: computed once, or at every step where they are too large."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.prefetch import materialized_batches
from sidelight.errors import ConfigError
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import Network, Output, concat_outputs

MAPS_IN_MEMORY = 2**30
"""Bytes up to which a network's output maps of all rows are cached."""


class CachedTensors(nn.Module):
    """Tensors over all training rows by name: `Batch.index` (B,) -> name -> their rows (B, …), without gradient.

    They move with the method that holds them (`Module.to`) and are not part of its state: building the method again
    computes them again.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.names = tuple(tensors)
        for name, value in tensors.items():
            self.register_buffer(f"cached_{name}", value.detach(), persistent=False)

    @property
    def every(self) -> dict[str, Tensor]:
        """name -> the tensor over all training rows."""
        return {name: self.get_buffer(f"cached_{name}") for name in self.names}

    def forward(self, index: Tensor) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.every.items()}


class TeacherOutputs(nn.Module):
    """The outputs of finished networks on the training rows: a batch -> the outputs of its rows, without gradient."""

    reads: tuple[str, ...] = ()
    """The modalities whose inputs a batch must hold."""

    @property
    def every(self) -> Output:
        """The outputs of every row, for terms that compare a row with all others.

        Raises:
            ConfigError: they are not cached.
        """
        raise ConfigError("this term needs the teacher's outputs of every row in memory, and maps are too large.")

    @property
    def sample(self) -> Output:
        """The outputs of at least one row, from which sizes are read."""
        return self.every

    def without_features(self) -> TeacherOutputs:
        """The same without per-modality features, where these are cached: most terms do not read them."""
        return self

    def batches(self, rows: Batch) -> Iterable[Batch]:
        """The rows in batches that `forward` can take: all at once, unless a network has to read them."""
        return [rows]


class CachedOutputs(TeacherOutputs):
    """Outputs over all training rows, computed once and held in memory."""

    def __init__(self, outputs: Output):
        super().__init__()
        self.joint = CachedTensors({"prediction": outputs.prediction, "fused": outputs.fused})
        self.features = CachedTensors(outputs.features)

    def forward(self, batch: Batch) -> Output:
        return _output(self.joint(batch.index), self.features(batch.index))

    @property
    def every(self) -> Output:
        return _output(self.joint.every, self.features.every)

    def without_features(self) -> CachedOutputs:
        return CachedOutputs(replace(self.every, features={}))


class OnlineOutputs(TeacherOutputs):
    """Finished networks, run on every batch in the view that the batch has.

    The networks are frozen copies in evaluation mode. They move with the method that holds them (`Module.to`), and are
    not part of its parameters or state: building the method again makes them again.

    Args:
        networks: one network, or several that share the rows; all read the same modalities.
        sample: the first network's outputs of at least one row, from which sizes are read.
        network_of: (N,) int64, which of several networks gives the outputs of each training row.
    """

    network_of: Tensor | None

    def __init__(self, networks: Sequence[Network], sample: Output, network_of: Tensor | None = None):
        super().__init__()
        # A tuple, so that torch does not register them as submodules with parameters and state.
        self.networks = tuple(freeze(copy.deepcopy(network)) for network in networks)
        self._sample = sample
        self.register_buffer("network_of", network_of, persistent=False)
        self.reads = self.networks[0].reads

    @property
    def sample(self) -> Output:
        return self._sample

    def batches(self, rows: Batch) -> Iterable[Batch]:
        read = replace(rows.select_modalities(self.reads), present=rows.present)
        at_once = compute_chunk_size(list(read.shapes().values()))
        return materialized_batches(read, torch.split(torch.arange(len(rows)), at_once))

    @torch.no_grad()
    def forward(self, batch: Batch) -> Output:
        if self.network_of is None:
            return _without_losses(self.networks[0](batch))
        network_of = self.network_of[batch.index]
        rows = [(network_of == k).nonzero()[:, 0] for k in range(len(self.networks))]
        outputs = [_without_losses(self.networks[k](batch.index_select(r))) for k, r in enumerate(rows) if len(r)]
        return concat_outputs(outputs).index_select(torch.cat(rows).argsort())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnlineOutputs:
        for network in self.networks:
            network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def _output(joint: Mapping[str, Tensor], features: dict[str, Tensor]) -> Output:
    return Output(joint["prediction"], joint["fused"], features)


def _without_losses(outputs: Output) -> Output:
    """Without the losses that a network asks for in its own training."""
    return Output(outputs.prediction, outputs.fused, outputs.features)


def rows_where(mask: Tensor) -> Tensor | None:
    """The positions where a mask (B,) holds; None where it holds everywhere, so that nothing need be copied."""
    return None if bool(mask.all()) else mask.nonzero()[:, 0]


def select_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """x[rows], or x itself for None."""
    return x if rows is None else x[rows]
