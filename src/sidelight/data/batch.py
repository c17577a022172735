"""Rows as tensors: the input of networks and losses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.by_modality import index_rows, map_values, select_keys, take_rows
from sidelight.data.lengths import compute_median_length, has_long_rows
from sidelight.data.pixels import standardize_images
from sidelight.data.shard import Shard
from sidelight.data.stored_rows import StoredRows
from sidelight.recordings.label_maps import LabelMaps
from sidelight.recordings.lazy import LazyRows
from sidelight.video.crop import CropParams


@dataclass(frozen=True)
class Batch:
    """B rows, paired over modalities.

    Args:
        inputs: modality -> (B, D) vectors, (B, T, C) signals, (B, C, H, W) images or (B, C, T, H, W) clips. Rows that
            lack the modality hold zeros.
        target: (B,) int64 class codes, (B, K) floating point values, or (B, H, W) int64 class codes of pixels with −1
            for ignored pixels. Rows without a label hold an undefined value.
        labelled: (B,) bool. Task losses skip unlabelled rows; distillation still learns from them.
        present: modality -> (B,) bool. A training row may lack a privileged modality. A modality without an entry is
            present in every row.
        index: (B,) int64, each row's position in the rows that the batch was taken from. Memory banks and cached
            teacher outputs are addressed by it.
        lengths: modality -> (B,) int64 valid time steps, for variable-length modalities only.
        pixels: modality -> ((B, C) mean, (B, C) scale) of images that still have their stored dtype (uint8, float16,
            …). A whole data set in floating point would not fit into memory, so `materialize` standardizes them.
        files: modality -> rows that are still files. `materialize` decodes them into `inputs`.
        maps: label maps that are still files; `target` is then (B, 0, 0). `materialize` decodes them into `target`.
        stored: modality -> rows of a large data set, still to be gathered and preprocessed. `materialize` reads them
            into `inputs`.
        least_steps: modality -> least time steps of a batch, for signals with a few rows far longer than the others.
            `index_select` pads these to the longest chosen row, not to the longest of all rows.
        valid: (B,) bool, False for padding rows, which no loss may count; None: every row is real. Only stacked
            training pads, because the batches of its models differ in size.
        shard: the rows whose `inputs`, `pixels` and `files` this process holds, where several processes train together
            and each holds a part of the batch; everything else is of all B rows. None: all rows are here.
        pieces: the number of pieces in which encoders read the batch in training (`training.accumulate`).
    """

    inputs: dict[str, Tensor]
    target: Tensor
    labelled: Tensor
    present: dict[str, Tensor]
    index: Tensor
    lengths: dict[str, Tensor]
    pixels: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    files: dict[str, LazyRows] = field(default_factory=dict)
    maps: LabelMaps | None = None
    stored: dict[str, StoredRows] = field(default_factory=dict)
    least_steps: dict[str, int] = field(default_factory=dict)
    valid: Tensor | None = None
    shard: Shard | None = None
    pieces: int = 1

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def index_select(self, rows: Tensor, shard: Shard | None = None) -> Batch:
        """The given rows, in the given order; `index` still points at where they came from.

        Args:
            rows: (B',) int64, the positions of the rows.
            shard: of the chosen rows, those whose inputs are taken; None for all. A batch that is divided stays so.
        """
        lengths = index_rows(self.lengths, rows)
        held = rows  # the rows whose inputs are taken
        if self.shard is not None:
            held, shard = self.shard.positions(rows).to(rows.device), self.shard.index_select(rows)
        elif shard is not None:
            held = shard.own(rows)
        inputs = {}
        for m, x in self.inputs.items():
            if m in self.least_steps and len(rows):
                # Without this cut a single very long row would make every batch as long as itself.
                steps = max(self.least_steps[m], int(lengths[m].max()))
                inputs[m] = x[held, :steps]
            else:
                inputs[m] = take_rows(x, held)
        stored = index_rows(self.stored, held)
        for m in stored:
            if m in self.least_steps and len(rows):
                stored[m] = stored[m].cut(max(self.least_steps[m], int(lengths[m].max())))

        return Batch(
            inputs=inputs,
            target=take_rows(self.target, rows),
            labelled=take_rows(self.labelled, rows),
            present=index_rows(self.present, rows),
            index=take_rows(self.index, rows),
            lengths=lengths,
            pixels={m: (mean[held], scale[held]) for m, (mean, scale) in self.pixels.items()},
            files=index_rows(self.files, held),
            maps=None if self.maps is None else self.maps[rows],
            stored=stored,
            least_steps=self.least_steps,
            valid=None if self.valid is None else self.valid[rows],
            shard=shard,
            pieces=self.pieces,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of one row, for files too."""
        shapes = {m: tuple(x.shape[1:]) for m, x in self.inputs.items()}
        for m, rows in self.files.items():
            shapes[m] = rows.shape[1:]
        return shapes | {m: x.shape[1:] for m, x in self.stored.items()}

    @property
    def counted(self) -> Tensor:
        """(B,) bool, the rows whose label a loss may read: labelled, and no padding."""
        return self.labelled if self.valid is None else self.labelled & self.valid

    def rows_with(self, m: str) -> Tensor | None:
        """(B,) bool, the rows that have the modality and are no padding; None: every row."""
        present = self.present.get(m)
        if present is None or self.valid is None:
            return self.valid if present is None else present
        return present & self.valid

    @property
    def truth(self) -> Tensor | LabelMaps:
        """The target for metrics. Label maps stay files, and metrics decode a few at a time."""
        return self.target if self.maps is None else self.maps

    def with_decoded(self, inputs: Mapping[str, Tensor], target: Tensor | None) -> Batch:
        """The same batch with decoded tensors in place of files.

        Args:
            inputs: modality -> (B, …) decoded rows.
            target: (B, H, W) decoded label maps; None where the target is no file.
        """
        return replace(
            self,
            inputs=self.inputs | dict(inputs),
            files={m: x for m, x in self.files.items() if m not in inputs},
            target=self.target if target is None else target,
            maps=None,
        )

    def _held(self, tensors: Mapping[str, Tensor], m: str) -> Tensor | None:
        """A modality's entry of `lengths` or `present`, for the rows whose inputs this process holds."""
        x = tensors.get(m)
        return x if x is None or self.shard is None else self.shard.own(x)

    def whole_inputs(self, modality: str) -> Tensor:
        """(B, …), the inputs of all rows, for losses that read them: those of other processes are fetched."""
        x = self.inputs[modality]
        return x if self.shard is None else self.shard.gather(x)

    def own_crops(self, crops: Sequence[CropParams] | None) -> Sequence[CropParams] | None:
        """The crops of the rows whose files this process holds."""
        return crops if crops is None or self.shard is None else [crops[i] for i in self.shard.mine.tolist()]

    def decode(self, crops: Sequence[CropParams] | None = None) -> Batch:
        """Decode files and gather stored rows; images keep their stored dtype.

        Args:
            crops: as in `materialize`.
        """
        gathered = {m: x.read(self._held(self.lengths, m), self._held(self.present, m)) for m, x in self.stored.items()}
        batch = replace(self, inputs=self.inputs | gathered, stored={}) if gathered else self
        if not self.files and self.maps is None:
            return batch
        target = None if self.maps is None else self.maps.read(crops)
        own_crops = self.own_crops(crops)
        return batch.with_decoded(map_values(lambda rows: rows.read(own_crops), self.files), target)

    def materialize(self, crops: Sequence[CropParams] | None = None) -> Batch:
        """Decode files, gather stored rows, standardize images and convert class codes of pixels to int64.

        Args:
            crops: (B,) the crop of each row's files, label maps included; by default the centre crop.

        Returns:
            A batch that networks and losses can read.
        """
        if self.files or self.stored or self.maps is not None:
            return self.decode(crops).materialize()
        if not self.pixels and self.target.dim() != 3:
            return self

        inputs = dict(self.inputs)
        for m, (mean, scale) in self.pixels.items():
            if m in inputs:
                inputs[m] = standardize_images(inputs[m], mean, scale, self._held(self.present, m))
        target = self.target.long() if self.target.dim() == 3 else self.target
        return replace(self, inputs=inputs, target=target, pixels={})

    def select_modalities(self, modalities: Collection[str]) -> Batch:
        """The same rows with these modalities only."""
        return replace(
            self,
            inputs=select_keys(self.inputs, modalities),
            present=select_keys(self.present, modalities),
            lengths=select_keys(self.lengths, modalities),
            pixels=select_keys(self.pixels, modalities),
            files=select_keys(self.files, modalities),
            stored=select_keys(self.stored, modalities),
            least_steps=select_keys(self.least_steps, modalities),
        )

    def to(self, where: torch.device | torch.dtype | str, non_blocking: bool = False) -> Batch:
        """Move all tensors to a device, or cast the floating point tensors to a dtype.

        Args:
            where: the device or the dtype.
            non_blocking: do not wait for copies from pinned memory.
        """

        def move(x: Tensor) -> Tensor:
            # Class codes, masks and row numbers keep their integer types.
            if isinstance(where, torch.dtype) and not x.is_floating_point():
                return x
            return x.to(where, non_blocking=non_blocking)

        return self.map_tensors(move)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory, from which it can be copied to a GPU without waiting."""
        return self.map_tensors(Tensor.pin_memory)

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with a function applied to every tensor; files and stored rows stay as they are."""
        return replace(
            self,
            inputs=map_values(function, self.inputs),
            target=function(self.target),
            labelled=function(self.labelled),
            present=map_values(function, self.present),
            index=function(self.index),
            lengths=map_values(function, self.lengths),
            pixels={m: (function(mean), function(scale)) for m, (mean, scale) in self.pixels.items()},
            valid=None if self.valid is None else function(self.valid),
        )


def build_batch(
    inputs: dict[str, Tensor],
    target: NDArray | LabelMaps,
    labelled: NDArray,
    present: dict[str, Tensor],
    lengths: dict[str, Tensor],
    pixels: dict[str, tuple[Tensor, Tensor]],
    files: dict[str, LazyRows],
    stored: dict[str, StoredRows],
) -> Batch:
    """All rows of a data set as one batch, with the row number as index.

    Args:
        inputs: modality -> (N, …) rows.
        target: (N, …) values with −1 or NaN in rows whose label is hidden, or `LabelMaps`.
        labelled: (N,) bool.
        present: modality -> (N,) bool.
        lengths: modality -> (N,) valid time steps.
        pixels: as in `Batch`.
        files: as in `Batch`.
        stored: as in `Batch`.
    """
    maps = target if isinstance(target, LabelMaps) else None
    least_steps = {}
    for m, length in lengths.items():
        if has_long_rows(length.numpy()):
            least_steps[m] = compute_median_length(length.numpy())
    n = len(target)
    # Label maps are decoded batch by batch; until then the target holds no pixels.
    values = torch.zeros(n, 0, 0, dtype=torch.int16) if isinstance(target, LabelMaps) else torch.from_numpy(target)
    return Batch(
        inputs=inputs,
        target=values,
        labelled=torch.from_numpy(labelled),
        present=present,
        # Rows that are still to be gathered have the numbers of all rows already.
        index=next(iter(stored.values())).rows if stored else torch.arange(n),
        lengths=lengths,
        pixels=pixels,
        files=files,
        maps=maps,
        stored=stored,
        least_steps=least_steps,
    )
