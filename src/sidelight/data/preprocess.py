"""`Preprocessor`: imputation, removal of drift, window statistics and standardization, fitted on train rows only."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.dataset import Dataset
from sidelight.data.detrend import check_detrend
from sidelight.data.fitting import fit_group_scaling, fit_scaling
from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.overflow import describe_overflow
from sidelight.data.pixels import standardize_images
from sidelight.data.preprocessor_state import PreprocessorState
from sidelight.data.rows import is_lazy, name_row
from sidelight.data.scaling import sample_files
from sidelight.data.standardize import standardize
from sidelight.data.statistics import STANDARD
from sidelight.data.stored_rows import StoredRows, Values, gather, iterate_parts
from sidelight.data.training_ranges import ROWS, TrainingRanges, choose_rows
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown


class Preprocessor(PreprocessorState):
    """impute -> remove drift -> frames of sound -> window statistics -> standardize -> clip at ±10 -> zeros if absent.

    Statistics are buffers (state_dict), the structure is JSON (`to_config`). A column that is constant in the train
    rows becomes 0. With standardize="group" each group is standardized by its own rows. A group that was neither fitted
    nor calibrated is standardized by its rows in the call, which then needs several of them (DataError for a single
    one).

    Args:
        plans: modality -> its preprocessing.
        standardize: "train" or "group".
        impute: "no" or "mean".
        groups: names of the groups with statistics of their own.
    """

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        dataset: Dataset,
        rows: NDArray,
        modalities: Iterable[str],
        statistics: Iterable[str] = (),
        standardize: str = "train",
        impute: str | None = None,
        parts: Sequence[str] = STANDARD,
        detrend: Mapping[str, str] | None = None,
    ) -> Preprocessor:
        """Fit to the given rows and nothing else.

        Args:
            dataset: the data.
            rows: (N,) numbers of the train rows.
            modalities: the modalities to read.
            statistics: the signals among them that become window statistics.
            standardize: "train" or "group".
            impute: "no" or "mean"; None: that of the data set.
            parts: the window statistics to compute.
            detrend: signal -> drift that is removed from each of its rows, one of `detrend.KINDS`.

        Raises:
            ConfigError: an unknown modality or drift, window statistics of a vector or image, or standardize="group"
                without groups.
            DataError: no train row has a modality, or its statistics overflow.
        """
        names, as_statistics = list(modalities), set(statistics)
        plans = _build_plans(dataset, names, as_statistics, tuple(parts), detrend or {})
        if standardize == "group" and dataset.group is None:
            raise ConfigError(
                f"standardize='group' needs groups, and {dataset.name} has none; name their column (group=…)"
            )
        rows = np.asarray(rows)
        self = cls(plans, standardize, dataset.impute if impute is None else impute)
        inputs = {m: _select_rows(dataset.inputs[m], rows, dataset.standard.get(m, "")) for m in names}
        lengths = {m: torch.from_numpy(dataset.lengths[m][rows]) for m in names if m in dataset.lengths}
        present = {m: torch.from_numpy(dataset.present[m][rows]) for m in names}

        # Scaling comes before calibration: groups without a modality take the train rows' scaling.
        for m in names:
            if not present[m].any():
                raise DataError(f"{dataset.name}: modality {m!r} is absent from all {len(rows)} train rows")
            self._fit_one(m, inputs[m], lengths.get(m), present[m])
            self._check_fitted(dataset.name, m, inputs[m], dataset.ids[rows])
        if standardize == "group":
            assert dataset.group is not None
            self.calibrate(inputs, lengths, present, dataset.group[rows])
        self._warn_constant(dataset.name)
        self._fit_ranges(inputs, lengths, present)
        return self

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        group: Sequence[str] | NDArray | None = None,
    ) -> dict[str, Tensor]:
        """Preprocess the given modalities.

        Args:
            inputs: modality -> (B, …) raw rows.
            lengths: modality -> (B,) valid time steps; by default all.
            present: modality -> (B,) bool; by default present in every row.
            group: (B,) names, for standardize="group".

        Returns:
            Modality -> (B, …) preprocessed rows.

        Raises:
            ConfigError: a modality was not fitted or has another shape.
        """
        lengths, present = lengths or {}, present or {}
        preprocessed = {}
        for m, x in inputs.items():
            length, rows_present = lengths.get(m), present.get(m)
            if x.dim() >= 4:
                preprocessed[m] = standardize_images(x, *self.pixels(m, x, rows_present, group), rows_present)
                continue
            f = gather(self._extract(m, x, length))
            mean, scale = self._get_scaling(m, x, f, length, rows_present, group)
            clip = self.plans[m].standard != "none"
            steps = None if length is None else self.plans[m].count_steps(length)
            preprocessed[m] = standardize(f, mean, scale, clip, steps, rows_present)
        return preprocessed

    def transform(
        self,
        inputs: Mapping[str, Tensor],
        files: Mapping[str, Any],
        lengths: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        group: NDArray | None,
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
        """Preprocess vectors and signals, and compute the scaling of images, which keep their stored dtype.

        Args:
            inputs: modality -> (N, …) raw rows.
            files: modality -> `LazyRows`.
            lengths: modality -> (N,) valid time steps.
            present: modality -> (N,) bool.
            group: (N,) names, or None.

        Returns:
            The inputs, with vectors and signals preprocessed; and modality -> ((N, C) mean, (N, C) scale) of images and
            files.
        """
        images = {m: x for m, x in inputs.items() if x.dim() >= 4}
        others = {m: x for m, x in inputs.items() if x.dim() < 4}
        pixels = {}
        for m, x in [*images.items(), *files.items()]:
            pixels[m] = self.pixels(m, x, present[m], group)
        return dict(inputs) | self(others, lengths, present, group), pixels

    def defer(
        self,
        inputs: Mapping[str, Tensor],
        files: Mapping[str, Any],
        lengths: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        group: NDArray | None,
    ) -> tuple[dict[str, StoredRows], dict[str, tuple[Tensor, Tensor]]]:
        """As `transform`, with rows that are preprocessed when they are read, to the same bits.

        Returns:
            Modality -> the rows to read, window statistics computed already; and the scaling of images and files.
        """
        stored, pixels = {}, {}
        numbers = torch.arange(max((len(x) for x in inputs.values()), default=0))  # one for all modalities
        for m, x in [*inputs.items(), *files.items()]:
            if not isinstance(x, Tensor) or x.dim() >= 4:
                pixels[m] = self.pixels(m, x, present[m], group)
            if not isinstance(x, Tensor):
                continue
            rows = StoredRows(x, numbers)
            if x.dim() < 4:
                f = self._extract(m, rows, lengths.get(m))
                assert isinstance(f, StoredRows)
                mean, scale, which = self._list_scalings(m, rows, f, lengths.get(m), present[m], group)
                clip = self.plans[m].standard != "none"
                rows = replace(f, mean=mean, scale=scale, which=which, clip=clip)
            stored[m] = rows
        return stored, pixels

    def pixels(
        self, m: str, x: Tensor, present: Tensor | None = None, group: Sequence[str] | NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        """The scaling that `standardize_images` applies to images.

        Args:
            m: name of the modality.
            x: (B, C, H, W) images or (B, C, T, H, W) clips, or `LazyRows` of them.
            present: (B,) bool; None: all rows are present.
            group: (B,) names, for standardize="group".

        Returns:
            (B, C) mean and (B, C) scale.
        """
        f = self._extract(m, x, None)
        mean, scale = self._get_scaling(m, x, f, None, present, group)
        shape = (x.shape[0], self.plans[m].channels)
        return mean.reshape(-1, shape[1]).expand(shape), scale.reshape(-1, shape[1]).expand(shape)

    @torch.no_grad()
    def calibrate(
        self,
        inputs: Mapping[str, Values],
        lengths: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        group: Sequence[str] | NDArray,
    ) -> None:
        """Store the statistics of new groups, so that single rows of these groups can be read later.

        Args:
            inputs: modality -> (B, …) raw rows, for every modality that is read.
            lengths: modality -> (B,) valid time steps.
            present: modality -> (B,) bool.
            group: (B,) names.

        Raises:
            ConfigError: standardize is not "group", or a modality is missing.
            DataError: a group has a single row, or its statistics overflow.
        """
        if self.standardize != "group":
            raise ConfigError("only a preprocessor with standardize='group' is calibrated")
        names = np.asarray(group).astype(str)
        new = self._find_new_groups(names)
        for m, plan in self.plans.items():
            if m not in inputs:
                raise ConfigError(f"calibration needs every modality that is read; {m!r} is missing")
            x, length = inputs[m], lengths.get(m)
            f = self._extract(m, x, length)
            added = fit_group_scaling(plan, x, f, length, present.get(m), names, new, self._get_default(m))
            for kind, values in zip(("mean", "scale"), added):
                if not values.isfinite().all():
                    raise DataError(
                        describe_overflow(f"modality {m!r}", gather(x), f"the rows of {', '.join(new[:3])}")
                    )
                self.register_buffer(f"{kind}_{self._index(m)}", torch.cat([self._get(kind, m), values]))
        self.groups += new

    def _fit_one(self, m: str, x: Values, length: Tensor | None, present: Tensor) -> None:
        fitted = fit_scaling(m, self.plans[m], x, length, present, self.impute == "mean")
        if fitted is None:
            return
        fill, mean, scale = fitted
        self._get("mean", m)[0], self._get("scale", m)[0] = mean, scale
        if fill is not None:
            self._get("fill", m).copy_(fill)

    def _fit_ranges(
        self, inputs: Mapping[str, Values], lengths: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> None:
        for m, plan in self.plans.items():
            x = inputs[m]
            if plan.standard == "none" or not len(x):
                continue
            # A sample of files holds present rows only.
            rows_present = present[m].numpy() if len(x) == len(present[m]) else np.ones(len(x), bool)
            chosen = choose_rows(np.flatnonzero(rows_present), x.shape, ROWS)
            length = lengths[m].numpy()[chosen] if m in lengths else None
            self.plans[m] = replace(plan, ranges=TrainingRanges.fit(gather(x[chosen]).numpy(), length))

    def _check_fitted(self, name: str, m: str, x: Values, ids: NDArray) -> None:
        """Raise DataError where statistics overflowed, naming the row with the largest value."""
        if self._get("mean", m).isfinite().all() and self._get("scale", m).isfinite().all():
            return
        largest = [part.flatten(1).abs().nan_to_num(0).amax(1) for _, part in iterate_parts(x)]
        i = int(torch.cat(largest).argmax())
        raise DataError(describe_overflow(f"{name}: modality {m!r}", gather(x[i : i + 1])[0], name_row(i, ids)))

    def _warn_constant(self, name: str) -> None:
        """Warn of constant modalities. The text is the same in every fold, so it is shown once."""
        for m, plan in self.plans.items():
            grouped = self.standardize == "group" and not plan.standard
            scale = self._get("scale", m)[1 if grouped else 0 :]
            if plan.standard in ("", "train") and not scale.any():
                warnings.warn(
                    f"{name}: modality {m!r} is constant on the training rows{' of every group' * grouped}: it is read "
                    "as zeros and tells a network nothing. Look at its recordings and their unit (values are kept to "
                    "7 digits: subtract a large offset before they are stored), or leave the modality out",
                    SidelightWarning,
                    stacklevel=4,
                )


def _select_rows(x: Any, rows: NDArray, standard: str) -> Values:
    """Some rows of an array, still to be gathered, or a sample of them if they are files."""
    if is_lazy(x):
        return sample_files(x[rows], standard)
    return StoredRows(torch.from_numpy(x), torch.as_tensor(rows))


def _build_plans(
    dataset: Dataset,
    modalities: Sequence[str],
    as_statistics: set[str],
    parts: tuple[str, ...],
    detrend: Mapping[str, str],
) -> dict[str, ModalityPlan]:
    for m in [*modalities, *as_statistics]:
        if m not in dataset.inputs:
            raise ConfigError(unknown("modality", m, dataset.inputs))
    plans = {}
    for m in modalities:
        shape = dataset.shape(m)
        if m in as_statistics and len(shape) != 2:
            raise ConfigError(f"modality {m!r} has rows of shape {shape}; only signals (T, C) have window statistics")
        if detrend.get(m):
            check_detrend(m, detrend[m], shape)
        plans[m] = ModalityPlan(
            shape=shape,
            variable=m in dataset.lengths,
            statistics=parts if m in as_statistics else (),
            columns=dataset.columns.get(m, ()),
            standard=dataset.standard.get(m, ""),
            unit=dataset.units.get(m, ""),
            rate=dataset.rates.get(m, 0.0),
            longest=dataset.longest.get(m, 0),
            detrend=detrend.get(m, ""),
            spectrogram=dataset.sequence_preset(m),
        )
    return plans
