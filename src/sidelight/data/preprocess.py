"""Raw rows to what encoders read: imputation, window statistics, standardisation; fitted on train rows only."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidelight.data.dataset import Dataset
from sidelight.data.scaling import build_mask, compute_scaling, compute_pixel_scaling, sample_tensor, compute_statistics_rms
from sidelight.data.overflow import describe_overflow
from sidelight.data.pixels import CLIP, standardize_images
from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.rows import name_row
from sidelight.data.training_ranges import TrainingRanges
from sidelight.data.statistics import STANDARD, window_statistics
from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.video.augment import STATISTICS

CHUNK = 4096


class Preprocessor(nn.Module):
    """impute -> window statistics -> standardise -> clip at ±10 -> zeros where absent. Made by `fit`.

    Statistics are buffers (state_dict), the structure is JSON (`to_config`). A column that is constant in the train
    rows becomes 0. standardize="group": each group by its own rows; of a group that was neither fitted nor
    calibrated, by the rows given in that call, so it then needs several of them (DataError for a single one).
    """

    def __init__(
        self,
        plans: Mapping[str, ModalityPlan],
        standardize: str = "train",
        impute: str = "no",
        groups: Sequence[str] = (),
    ):
        super().__init__()
        for setting, value, valid in (
            ("standardize", standardize, ("train", "group")),
            ("impute", impute, ("no", "mean")),
        ):
            if value not in valid:
                raise ConfigError(unknown(f"value of {setting}", value, valid))
        self.plans = dict(plans)
        self.standardize, self.impute = standardize, impute
        self.groups = list(groups)
        for i, plan in enumerate(self.plans.values()):
            rows, width = 1 + len(self.groups), plan.channels if plan.image else plan.output[-1]
            self.register_buffer(f"fill_{i}", torch.zeros(plan.channels))
            self.register_buffer(f"mean_{i}", torch.zeros(rows, width))
            self.register_buffer(f"scale_{i}", torch.ones(rows, width))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those it can read."""
        return tuple(self.plans)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> a row's shape after preprocessing, (D,), (T, C) or (C, H, W)."""
        return {m: plan.output for m, plan in self.plans.items()}

    @property
    def variable(self) -> tuple[str, ...]:
        """Modalities that are still variable-length signals afterwards; their lengths stay as they were."""
        return tuple(m for m, p in self.plans.items() if p.variable and not p.statistics)

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
    ) -> Preprocessor:
        """Fitted on the given rows and nothing else.

        statistics: the signals that become window statistics (`parts` says which). impute: "no" or "mean" (None: as
        the data set says). Raises ConfigError (unknown modality, statistics of a vector, no groups), DataError (a
        modality that no train row has).
        """
        names, wanted = list(modalities), set(statistics)
        for m in [*names, *wanted]:
            if m not in dataset.inputs:
                raise ConfigError(unknown("modality", m, dataset.inputs))
        plans = {}
        for m in names:
            if m in wanted and len(dataset.shape(m)) != 2:
                raise ConfigError(
                    f"modality {m!r} has rows of shape {dataset.shape(m)}; only signals (T, C) have window statistics"
                )
            made = tuple(parts) if m in wanted else ()
            columns, standard = dataset.columns.get(m, ()), dataset.standard.get(m, "")
            facts = dataset.units.get(m, ""), dataset.rates.get(m, 0.0), dataset.longest.get(m, 0)
            plans[m] = ModalityPlan(dataset.shape(m), m in dataset.lengths, made, columns, standard, *facts)
        if standardize == "group" and dataset.group is None:
            raise ConfigError(
                f"standardize='group' needs groups, and {dataset.name} has none; say which column (group=…)"
            )
        rows = np.asarray(rows)
        group = dataset.group[rows] if dataset.group is not None else None
        self = cls(plans, standardize, dataset.impute if impute is None else impute)
        inputs, lengths, present = _tensors(dataset, rows, names)
        for m in names:
            if not present[m].any():
                raise DataError(f"{dataset.name}: modality {m!r} is absent from all {len(rows)} train rows")
            self._fit_one(m, inputs[m], lengths.get(m), present[m])
            self._check_fitted(dataset.name, m, inputs[m], dataset.ids[rows])
        if standardize == "group":
            assert group is not None
            self.calibrate(inputs, lengths, present, group)
        self._warn_constant(dataset.name)
        for m, plan in self.plans.items():
            if plan.standard != "none" and len(inputs[m]):
                there = present[m].numpy() if len(inputs[m]) == len(present[m]) else np.ones(len(inputs[m]), bool)
                length = lengths[m].numpy() if m in lengths else None
                self.plans[m] = replace(plan, seen=TrainingRanges.of(inputs[m].numpy(), length, there))
        return self

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor] | None = None,
        present: Mapping[str, Tensor] | None = None,
        group: Sequence[str] | NDArray | None = None,
    ) -> dict[str, Tensor]:
        """Modality -> (B, …) raw to modality -> (B, …) preprocessed, for the modalities that are given.

        lengths, present: as in Batch (absent: full length, present). group: (B,) names, for standardize="group".
        Raises ConfigError for a modality that was not fitted or has another shape.
        """
        lengths, present = lengths or {}, present or {}
        out = {}
        for m, x in inputs.items():
            length, here = lengths.get(m), present.get(m)
            if x.dim() >= 4:
                out[m] = standardize_images(x, *self.pixels(m, x, here, group), here)
                continue
            f = self._features(m, x, length)
            mean, scale = self._statistics_for(m, x, f, length, here, group)
            f = (f - mean) * scale
            f = f if self.plans[m].standard == "none" else f.clamp(-CLIP, CLIP)
            keep = build_mask(f, length if f.dim() == 3 else None, here)
            out[m] = f if keep is None else f.masked_fill(~keep, 0)
        return out

    def pixels(
        self, m: str, x: Tensor, present: Tensor | None = None, group: Sequence[str] | NDArray | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, C) mean and scale of the images x, (B, C, H, W), by which `standardised` makes of them what is read."""
        f = self._features(m, x, None)
        mean, scale = self._statistics_for(m, x, f, None, present, group)
        rows = (x.shape[0], self.plans[m].channels)
        return mean.reshape(-1, rows[1]).expand(rows), scale.reshape(-1, rows[1]).expand(rows)

    @torch.no_grad()
    def calibrate(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        group: Sequence[str] | NDArray,
    ) -> None:
        """Remember the statistics of the groups of these rows, so that later single rows of theirs can be read."""
        if self.standardize != "group":
            raise ConfigError("only a preprocessor with standardize='group' is calibrated")
        names = np.asarray(group).astype(str)
        new = [g for g in np.unique(names).tolist() if g not in self.groups]
        for m in self.plans:
            if m not in inputs:
                raise ConfigError(f"calibration needs every modality that is read; {m!r} is missing")
            f = self._features(m, inputs[m], lengths.get(m))
            added = self._group_rows(m, inputs[m], f, lengths.get(m), present.get(m), names, new)
            if not all(rows.isfinite().all() for rows in added):
                raise DataError(describe_overflow(f"modality {m!r}", inputs[m], f"the rows of {', '.join(new[:3])}"))
            for kind, rows in zip(("mean", "scale"), added):
                self.register_buffer(f"{kind}_{self._index(m)}", torch.cat([self._get(kind, m), rows]))
        self.groups += new

    def subset(self, modalities: Iterable[str]) -> Preprocessor:
        """A copy that reads these modalities only: what a student carries."""
        names = list(modalities)
        for m in names:
            self._index(m)
        new = Preprocessor({m: self.plans[m] for m in names}, self.standardize, self.impute, self.groups)
        for m in names:
            for kind in ("fill", "mean", "scale"):
                new._get(kind, m).copy_(self._get(kind, m))
        return new

    def to_config(self) -> dict[str, Any]:
        """The structure, JSON-able; `from_config` and `load_state_dict` make the same preprocessor again."""
        return {
            "modalities": {m: plan.to_config() for m, plan in self.plans.items()},
            "standardize": self.standardize,
            "impute": self.impute,
            "groups": list(self.groups),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessor:
        """The structure that `to_config` wrote; its values come with `load_state_dict`."""
        plans = {m: ModalityPlan.from_config(plan) for m, plan in config["modalities"].items()}
        return cls(plans, config["standardize"], config["impute"], config["groups"])

    def _index(self, m: str) -> int:
        if m not in self.plans:
            raise ConfigError(unknown("modality", m, self.plans))
        return list(self.plans).index(m)

    def _get(self, kind: str, m: str) -> Tensor:
        buffer = getattr(self, f"{kind}_{self._index(m)}")
        assert isinstance(buffer, Tensor)
        return buffer

    def _features(self, m: str, x: Tensor, length: Tensor | None) -> Tensor:
        """(B, D), (B, T, C) or (B, C, H, W) before standardisation."""
        fill, plan = self._get("fill", m), self.plans[m]
        if plan.image:
            fits = tuple(x.shape[1:]) == plan.shape
        else:
            fits = x.dim() == len(plan.shape) + 1 and x.shape[-1] == plan.shape[-1]
        if not fits or (x.dim() == 3 and not plan.variable and x.shape[1] != plan.shape[0]):
            raise ConfigError(f"modality {m!r} has rows of shape {tuple(x.shape[1:])}; expected {plan.shape}")
        if self.impute == "mean" and not plan.image:  # an image's gaps are 0 after `standardised`
            x = torch.where(torch.isnan(x), fill, x)
        return window_statistics(x, length, plan.statistics, plan.shape[0]) if plan.statistics else x

    def _check_fitted(self, name: str, m: str, x: Tensor, ids: NDArray) -> None:
        """Raises DataError where statistics overflowed, naming the row with the largest value."""
        if self._get("mean", m).isfinite().all() and self._get("scale", m).isfinite().all():
            return
        i = int(x.flatten(1).abs().nan_to_num(0).amax(1).argmax())
        raise DataError(describe_overflow(f"{name}: modality {m!r}", x[i], name_row(i, ids)))

    def _warn_constant(self, name: str) -> None:
        """Says which modalities tell nothing; the sentence is the same in every fold, so it is shown once."""
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

    def _fit_one(self, m: str, x: Tensor, length: Tensor | None, present: Tensor) -> None:
        plan, mean, scale = self.plans[m], self._get("mean", m), self._get("scale", m)
        if plan.standard == "none":
            return
        if plan.standard in STATISTICS:
            mean[0], scale[0] = _of_bytes(plan.standard, plan.channels)
            return
        if plan.image:
            there = present if len(x) == len(present) else None  # a sample's rows are all there
            mean[0], scale[0] = compute_pixel_scaling(self._features(m, x, None), there)
            return
        if self.impute == "mean":
            self._get("fill", m).copy_(compute_scaling(x, build_mask(x, length, present))[0])
        f = torch.cat([self._features(m, *part) for part in _chunks(x, length)])
        size = self._sizes(m, x, f, length, present)
        mean[0], scale[0] = compute_scaling(f, build_mask(f, length if f.dim() == 3 else None, present), size)

    def _sizes(self, m: str, x: Tensor, f: Tensor, length: Tensor | None, present: Tensor | None) -> Tensor | None:
        """(D,) what the window statistics f of x were computed from is as large as; None of other rows."""
        parts = self.plans[m].statistics
        return compute_statistics_rms(x, build_mask(x, length, present), f, parts) if parts else None

    def _statistics_for(
        self,
        m: str,
        x: Tensor,
        f: Tensor,
        length: Tensor | None,
        present: Tensor | None,
        group: Sequence[str] | NDArray | None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and scale that broadcast over f."""
        mean, scale = self._get("mean", m), self._get("scale", m)
        if self.standardize == "train" or self.plans[m].standard:
            return mean[0], scale[0]
        if group is None:
            raise ConfigError("standardize='group' needs to know whose rows these are; give their group")
        names = np.asarray(group).astype(str)
        new = [g for g in np.unique(names).tolist() if g not in self.groups]
        if new:
            more = self._group_rows(m, x, f, length, present, names, new)
            mean, scale = torch.cat([mean, more[0]]), torch.cat([scale, more[1]])
        code = {g: 1 + i for i, g in enumerate([*self.groups, *new])}
        which = torch.tensor([code[g] for g in names.tolist()], device=f.device)
        shape = (len(f), *[1] * (f.dim() - 2 if f.dim() < 4 else 0), mean.shape[1])
        return mean[which].view(shape), scale[which].view(shape)

    def _group_rows(
        self,
        m: str,
        x: Tensor,
        f: Tensor,
        length: Tensor | None,
        present: Tensor | None,
        names: NDArray,
        new: Sequence[str],
    ) -> tuple[Tensor, Tensor]:
        """(G, C) means and scales of the new groups; of one that lacks the modality throughout, the train rows'."""
        if self.plans[m].standard:
            same = [self._get(kind, m)[:1].expand(len(new), -1) for kind in ("mean", "scale")]
            return same[0], same[1]
        keep = build_mask(f, length if f.dim() == 3 else None, present)
        size = self._sizes(m, x, f, length, present)
        means, scales = [self._get("mean", m)[:0]], [self._get("scale", m)[:0]]
        for g in new:
            rows = torch.from_numpy(np.flatnonzero(names == g)).to(f.device)
            if len(rows) < 2:
                raise DataError(
                    f"standardize='group': group {g!r} is new and has a single row; give several of its rows at once, "
                    "or calibrate the preprocessor with some of them first"
                )
            part = None if keep is None else keep[rows]
            if part is not None and not part.any():
                mean, scale = self._get("mean", m)[0], self._get("scale", m)[0]
            elif self.plans[m].image:
                mean, scale = compute_pixel_scaling(f[rows], None if part is None else part.flatten())
            else:
                mean, scale = compute_scaling(f[rows], part, size)
            means.append(mean[None])
            scales.append(scale[None])
        return torch.cat(means), torch.cat(scales)


def _of_bytes(statistics: str, channels: int) -> tuple[Tensor, Tensor]:
    """(C,) mean and 1 / standard deviation of values 0–255; of grey values, those of the colours' mean."""
    mean, std = (255 * torch.tensor(v) for v in STATISTICS[statistics])
    return (mean, 1 / std) if channels == 3 else (mean.mean().expand(channels), (1 / std.mean()).expand(channels))


def _tensors(
    dataset: Dataset, rows: NDArray, names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    inputs = {m: sample_tensor(dataset.inputs[m][rows], dataset.standard.get(m, "")) for m in names}
    lengths = {m: torch.from_numpy(dataset.lengths[m][rows]) for m in names if m in dataset.lengths}
    return inputs, lengths, {m: torch.from_numpy(dataset.present[m][rows]) for m in names}


def _chunks(x: Tensor, length: Tensor | None) -> Iterable[tuple[Tensor, Tensor | None]]:
    for i in range(0, len(x), CHUNK):
        yield x[i : i + CHUNK], None if length is None else length[i : i + CHUNK]
