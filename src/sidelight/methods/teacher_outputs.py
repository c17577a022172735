"""The outputs of trained networks on the training rows: cached, or computed at every step if they are too large."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.by_modality import take_rows
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.prefetch import materialized_batches
from sidelight.errors import ConfigError
from sidelight.networks.hallucination import freeze
from sidelight.networks.network import Network, Output, concat_outputs
from sidelight.utils.device import CPU, fits

MAPS_IN_MEMORY = 2**30
"""The largest size in bytes of the output maps of all rows that is cached."""


class CachedTensors(nn.Module):
    """Named tensors (N, …) over all training rows, without gradient.

    Called with `Batch.index` (B,), it returns name -> rows (B, …) on the device of the method that holds it. The
    tensors move with the method (`Module.to`) if they fit into a share of the device's free memory; otherwise they stay
    in host memory, from which each batch takes its rows. They are not part of its state: they are computed again when
    the method is built again.
    """

    stacked: Callable[[Tensor], dict[str, Tensor]] | None = None
    """In a stack: the rows of the model at hand, given the `Batch.index` of its batch."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.names = tuple(tensors)
        self.device = next((value.device for value in tensors.values()), CPU)
        for name, value in tensors.items():
            self.register_buffer(f"cached_{name}", value.detach(), persistent=False)

    @property
    def all_rows(self) -> dict[str, Tensor]:
        """Name -> the tensor over all training rows."""
        if self.stacked is not None:
            raise RuntimeError("a stack reads the cached outputs of its batches, not of all rows")
        return {name: self.get_buffer(f"cached_{name}") for name in self.names}

    def forward(self, index: Tensor) -> dict[str, Tensor]:
        if self.stacked is not None:
            return self.stacked(index)
        made = {}
        for name, value in self.all_rows.items():
            rows = take_rows(value, index.to(value.device))
            if rows.device != self.device and self.device.type == "cuda":
                rows = rows.pin_memory()  # so that the copy does not wait for the step before
            made[name] = rows.to(self.device, non_blocking=True)
        return made

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CachedTensors:
        self.device = fn(torch.zeros(1)).device  # the device, or the dtype, that the method is moved to
        if fits(sum(value.nbytes for value in self.all_rows.values()), self.device):
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class TeacherOutputs(nn.Module):
    """The outputs of trained networks: called with a batch, it returns the outputs of its rows, without gradient."""

    reads: tuple[str, ...] = ()
    """The modalities whose inputs a batch must hold."""

    @property
    def all_rows(self) -> Output:
        """The outputs of all training rows, for losses that compare a row with all others.

        Raises:
            ConfigError: they are not cached.
        """
        raise ConfigError(
            "this loss needs the teacher's outputs of every row in memory, and those of whole maps are not cached."
        )

    @property
    def sample(self) -> Output:
        """The outputs of at least one row, to read sizes from."""
        return self.all_rows

    def without_features(self) -> TeacherOutputs:
        """The same outputs without cached per-modality features, which most losses do not read."""
        return self

    def batches(self, rows: Batch, device: torch.device = CPU) -> Iterable[Batch]:
        """Split rows into batches that `forward` can take: one batch, unless a network has to read the rows.

        Args:
            rows: the rows, on the CPU.
            device: where the batches are used.
        """
        return [replace(rows.select_modalities(()), present=rows.present).to(device)]


class CachedOutputs(TeacherOutputs):
    """Outputs of all training rows, computed once and held in memory."""

    def __init__(self, outputs: Output):
        super().__init__()
        self.joint = CachedTensors({"prediction": outputs.prediction, "fused": outputs.fused})
        self.features = CachedTensors(outputs.features)

    def forward(self, batch: Batch) -> Output:
        return _output(self.joint(batch.index), self.features(batch.index))

    @property
    def all_rows(self) -> Output:
        return _output(self.joint.all_rows, self.features.all_rows)

    def without_features(self) -> CachedOutputs:
        return CachedOutputs(replace(self.all_rows, features={}))


class OnlineOutputs(TeacherOutputs):
    """Trained networks that are run on every batch, in the view (crop and flip) of the batch.

    The networks are frozen copies in evaluation mode. They move with the method that holds them (`Module.to`), and are
    not part of its parameters or state: they are copied again when the method is built again.

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

    def batches(self, rows: Batch, device: torch.device = CPU) -> Iterable[Batch]:
        # `present` stays complete: losses ask which rows lack a modality.
        read = replace(rows.select_modalities(self.reads), present=rows.present)
        at_once = compute_chunk_size(list(read.shapes().values()))
        return materialized_batches(read, torch.split(torch.arange(len(rows)), at_once), device=device)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Output:
        if self.network_of is None:
            return _without_losses(self.networks[0](batch))
        network_of = self.network_of[batch.index]
        outputs, order = [], []
        for k, network in enumerate(self.networks):
            rows = (network_of == k).nonzero()[:, 0]
            if len(rows):
                outputs.append(_without_losses(network(batch.index_select(rows))))
                order.append(rows)
        # The outputs are grouped by network; argsort restores the order of the batch.
        return concat_outputs(outputs).index_select(torch.cat(order).argsort())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnlineOutputs:
        # The networks are no submodules, so `Module.to` has to reach them here.
        for network in self.networks:
            network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def find_cached(method: nn.Module) -> list[CachedTensors]:
    """The cached tensors that a method reads, those of its teachers included."""
    modules = list(method.modules())
    for teacher in getattr(method, "teachers", {}).values():
        modules += teacher.outputs.modules()
    return [module for module in dict.fromkeys(modules) if isinstance(module, CachedTensors)]


def _output(joint: Mapping[str, Tensor], features: dict[str, Tensor]) -> Output:
    return Output(joint["prediction"], joint["fused"], features)


def _without_losses(outputs: Output) -> Output:
    """The outputs without the losses that a network adds in its own training."""
    return Output(outputs.prediction, outputs.fused, outputs.features)


def rows_where(mask: Tensor) -> Tensor | None:
    """The positions at which a mask (B,) is true; None if it is true everywhere, so that no rows are copied."""
    return None if bool(mask.all()) else mask.nonzero()[:, 0]


def select_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """x[rows]; x itself if `rows` is None."""
    return x if rows is None else x[rows]
