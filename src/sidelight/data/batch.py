"""Rows as tensors: what a network and a loss are given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sidelight.data.pixels import standardize_images
from sidelight.recordings.label_maps import LabelMaps
from sidelight.recordings.lazy import LazyRows
from sidelight.video.crop import CropParams


@dataclass(frozen=True)
class Batch:
    """A set of rows, paired over modalities.

    inputs:   modality -> (B, D) vectors, (B, T, C) signals or (B, C, H, W) images. Rows where the modality is absent
              hold zeros.
    target:   (B,) int64 class codes, (B, K) floating point, or (B, H, W) int64 class codes of pixels, −1 where one is
              ignored; undefined where not labelled.
    labelled: (B,) bool. Task losses skip rows that are not; distillation still learns from them.
    present:  modality -> (B,) bool. A training row may lack a privileged modality; a modality that every row has may be
              left out.
    index:    (B,) int64, the row's position among the rows it was drawn from (memory banks, cached teachers).
    lengths:  modality -> (B,) int64 valid time steps, only for variable-length modalities.
    pixels:   modality -> ((B, C) mean, (B, C) scale) of images that are still as they are stored (uint8, float16, …),
              since a whole data set of floating point images is too large; `ready` standardises them.
    files:    modality -> rows that are still files; `ready` decodes them into `inputs`.
    maps:     label maps that are still files, the target being (B, 0, 0); `ready` decodes them into `target`.
    least_steps:   signals of which some rows are far longer than the rest -> least time steps of a batch: `take` pads these
              to the longest of the rows taken, not to the longest of all.
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
    least_steps: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def index_select(self, rows: Tensor) -> Batch:
        """The given rows, in the given order; `index` keeps pointing at where they came from."""
        lengths = {m: x[rows] for m, x in self.lengths.items()}
        steps = {m: max(least, int(lengths[m].max())) for m, least in self.least_steps.items() if len(rows)}
        return Batch(
            {m: x[rows, : steps[m]] if m in steps else x[rows] for m, x in self.inputs.items()},
            self.target[rows],
            self.labelled[rows],
            {m: x[rows] for m, x in self.present.items()},
            self.index[rows],
            lengths,
            {m: (mean[rows], scale[rows]) for m, (mean, scale) in self.pixels.items()},
            {m: x[rows] for m, x in self.files.items()},
            None if self.maps is None else self.maps[rows],
            self.least_steps,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> a row's shape, of files too."""
        stored = {m: tuple(x.shape[1:]) for m, x in self.inputs.items()}
        return stored | {m: x.shape[1:] for m, x in self.files.items()}

    @property
    def truth(self) -> Tensor | LabelMaps:
        """The target to be scored; label maps stay files, of which metrics decode a few at a time."""
        return self.target if self.maps is None else self.maps

    def with_decoded(self, inputs: Mapping[str, Tensor], target: Tensor | None) -> Batch:
        """The same with what these tensors hold of files: rows of modalities, and label maps (None: there are none)."""
        left = {m: x for m, x in self.files.items() if m not in inputs}
        target = self.target if target is None else target
        return replace(self, inputs=self.inputs | dict(inputs), files=left, target=target, maps=None)

    def materialize(self, crops: Sequence[CropParams] | None = None) -> Batch:
        """What a network and a loss are given: files decoded, images standardised, pixels' class codes as int64.

        looks: the view of each row's files, label maps too; the centre by default.
        """
        if self.files or self.maps is not None:
            target = None if self.maps is None else self.maps.read(crops)
            return self.with_decoded({m: x.read(crops) for m, x in self.files.items()}, target).materialize()
        if not self.pixels and self.target.dim() != 3:
            return self
        stored = {m: by for m, by in self.pixels.items() if m in self.inputs}
        made = {m: standardize_images(self.inputs[m], *by, self.present.get(m)) for m, by in stored.items()}
        target = self.target.long() if self.target.dim() == 3 else self.target
        return replace(self, inputs=self.inputs | made, target=target, pixels={})

    def select_modalities(self, modalities: Collection[str]) -> Batch:
        """The same rows with these modalities alone."""
        return replace(
            self,
            inputs={m: x for m, x in self.inputs.items() if m in modalities},
            present={m: x for m, x in self.present.items() if m in modalities},
            lengths={m: x for m, x in self.lengths.items() if m in modalities},
            pixels={m: x for m, x in self.pixels.items() if m in modalities},
            files={m: x for m, x in self.files.items() if m in modalities},
            least_steps={m: steps for m, steps in self.least_steps.items() if m in modalities},
        )

    def to(self, where: torch.device | torch.dtype | str) -> Batch:
        """Moved to a device, or its floating point tensors cast to a dtype."""

        def move(x: Tensor) -> Tensor:
            return x if isinstance(where, torch.dtype) and not x.is_floating_point() else x.to(where)

        return Batch(
            {m: move(x) for m, x in self.inputs.items()},
            move(self.target),
            move(self.labelled),
            {m: move(x) for m, x in self.present.items()},
            move(self.index),
            {m: move(x) for m, x in self.lengths.items()},
            {m: (move(mean), move(scale)) for m, (mean, scale) in self.pixels.items()},
            self.files,
            self.maps,
            self.least_steps,
        )
