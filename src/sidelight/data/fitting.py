"""The scaling of one modality, fitted to train rows or to the rows of new groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.detrend import remove_drift
from sidelight.data.modality_plan import ModalityPlan
from sidelight.data.rows import VALUES_AT_ONCE
from sidelight.data.scaling import compute_pixel_scaling, compute_rms, compute_scaling, compute_statistics_rms
from sidelight.data.standardize import build_mask, fill_missing
from sidelight.data.statistics import window_statistics
from sidelight.data.stored_rows import StoredRows, Values, gather, iterate_parts
from sidelight.errors import ConfigError, DataError
from sidelight.signals.sequence import compute_sequence
from sidelight.video.augment import STATISTICS

CHUNK = 4096
"""Signals whose window statistics are computed at a time."""


def compute_statistics_size(
    plan: ModalityPlan, x: Values, f: Values, length: Tensor | None, present: Tensor | None
) -> Tensor | None:
    """(D,) magnitude of the numbers that features were computed from, where it exceeds their own; None for others.

    These are window statistics, and signals without their drift, but not of the frames of sound.

    Args:
        plan: of the modality.
        x: (N, T, C) raw signals.
        f: (N, D) their window statistics.
        length: (N,) valid time steps; None: all.
        present: (N,) bool; None: all rows are present.
    """
    if plan.spectrogram:
        return None
    if plan.detrend and not plan.statistics:
        return compute_rms(x, build_mask(x, length, present))
    if not plan.statistics:
        return None
    return compute_statistics_rms(x, build_mask(x, length, present), gather(f), plan.statistics)


def extract_features(m: str, plan: ModalityPlan, x: Values, length: Tensor | None, fill: Tensor | None) -> Values:
    """The rows before standardization: NaN imputed, drift removed, then frames or window statistics if asked.

    Of rows still to be gathered, NaN are imputed when they are read; frames and window statistics are computed here.

    Args:
        m: name of the modality.
        plan: its plan.
        x: (B, D), (B, T, C), (B, C, H, W) or (B, C, T, H, W) raw rows.
        length: (B,) valid time steps; None: all.
        fill: (C,) values that replace NaN; None: NaN stays.

    Returns:
        (B, D), (B, T, C), (B, T', bands) or the unchanged images.

    Raises:
        ConfigError: rows do not have the shape in the plan.
    """
    if plan.image:
        fits = tuple(x.shape[1:]) == plan.shape
    else:
        fits = x.dim() == len(plan.shape) + 1 and x.shape[-1] == plan.shape[-1]
    if not fits or (x.dim() == 3 and not plan.variable and x.shape[1] != plan.shape[0]):
        raise ConfigError(f"modality {m!r} has rows of shape {tuple(x.shape[1:])}; expected {plan.shape}")
    # NaN pixels become 0 when images are standardized.
    if plan.image:
        return x
    if isinstance(x, Tensor):
        x = remove_drift(x, plan.detrend, length, fill is not None) if plan.detrend else fill_missing(x, fill)
        return _convert(plan, x, length)
    x = replace(x, fill=fill, detrend=plan.detrend, lengths=_spread(length, x) if plan.detrend else None)
    if not plan.statistics and not plan.spectrogram:
        return x
    most = VALUES_AT_ONCE if plan.spectrogram else CHUNK * math.prod(x.shape[1:])
    made = [_convert(plan, part, None if length is None else length[rows]) for rows, part in iterate_parts(x, most)]
    return StoredRows(torch.cat(made), torch.arange(len(x)))


def _convert(plan: ModalityPlan, x: Tensor, length: Tensor | None) -> Tensor:
    """Signals as the frames or window statistics that a plan asks for."""
    if plan.spectrogram:
        x = compute_sequence(x, plan.spectrogram)
    if not plan.statistics:
        return x
    steps = None if length is None else plan.count_steps(length)
    return window_statistics(x, steps, plan.statistics, plan.sequence[0])


def mask_features(plan: ModalityPlan, f: Values, length: Tensor | None, present: Tensor | None) -> Tensor | None:
    """The mask of valid values of features; None where everything is valid.

    Args:
        plan: of the modality.
        f: (N, …) rows from `extract_features`.
        length: (N,) valid time steps of the raw rows; None: all.
        present: (N,) bool; None: all rows are present.
    """
    return build_mask(f, plan.count_steps(length) if length is not None and f.dim() == 3 else None, present)


def _spread(length: Tensor | None, x: StoredRows) -> Tensor | None:
    """(B,) valid time steps of the rows -> (N,) of all rows that a data set holds; 0 where they are not known."""
    if length is None:
        return None
    return torch.zeros(len(x.values), dtype=length.dtype).index_put_((x.rows,), length)


def compute_byte_scaling(statistics: str, channels: int) -> tuple[Tensor, Tensor]:
    """Fixed mean and 1 / standard deviation of values 0–255; grey images take the average over the colours.

    Args:
        statistics: a name in `video.STATISTICS`.
        channels: C, 3 for colours.

    Returns:
        (C,) mean and (C,) scale.
    """
    mean, std = (255 * torch.tensor(values) for values in STATISTICS[statistics])
    if channels == 3:
        return mean, 1 / std
    return mean.mean().expand(channels), (1 / std.mean()).expand(channels)


def fit_scaling(
    m: str, plan: ModalityPlan, x: Values, length: Tensor | None, present: Tensor, impute: bool
) -> tuple[Tensor | None, Tensor, Tensor] | None:
    """Fit one modality to train rows.

    Args:
        m: name of the modality.
        plan: its plan.
        x: (N, …) raw rows; of files, a sample of the present ones.
        length: (N,) valid time steps; None: all.
        present: (number of train rows,) bool.
        impute: whether NaN is replaced by the mean.

    Returns:
        (fill, mean, scale): (C,) values that replace NaN or None, (D,) mean and (D,) scale. None where values are not
        standardized.
    """
    if plan.standard == "none":
        return None
    if plan.standard in STATISTICS:
        return None, *compute_byte_scaling(plan.standard, plan.channels)
    if plan.image:
        # A sample of files holds present rows only, so it has another length than the mask.
        rows_present = present if len(x) == len(present) else None
        return None, *compute_pixel_scaling(extract_features(m, plan, x, None, None), rows_present)

    fill = compute_scaling(x, build_mask(x, length, present))[0] if impute else None
    f = extract_features(m, plan, x, length, fill)
    size = compute_statistics_size(plan, x, f, length, present)
    keep = mask_features(plan, f, length, present)
    return fill, *compute_scaling(f, keep, size)


def fit_group_scaling(
    plan: ModalityPlan,
    x: Values,
    f: Values,
    length: Tensor | None,
    present: Tensor | None,
    names: NDArray,
    new: Sequence[str],
    default: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Fit one modality to the rows of each new group.

    Args:
        plan: of the modality.
        x: (B, …) raw rows.
        f: (B, …) the same rows from `extract_features`.
        length: (B,) valid time steps; None: all.
        present: (B,) bool; None: all rows are present.
        names: (B,) group of each row.
        new: the G groups to fit.
        default: (D,) mean and (D,) scale of the train rows, for groups that lack the modality in every row.

    Returns:
        (G, D) means and (G, D) scales.

    Raises:
        DataError: a group has a single row.
    """
    default_mean, default_scale = default
    if plan.standard:
        return default_mean[None].expand(len(new), -1), default_scale[None].expand(len(new), -1)

    keep = mask_features(plan, f, length, present)
    size = compute_statistics_size(plan, x, f, length, present)
    # Empty tensors come first, so that no new group gives (0, D).
    means, scales = [default_mean[None][:0]], [default_scale[None][:0]]
    for g in new:
        rows = torch.from_numpy(np.flatnonzero(names == g)).to(default_mean.device)
        if len(rows) < 2:
            raise DataError(
                f"standardize='group': group {g!r} is new and has a single row; give several of its rows at once, "
                "or calibrate the preprocessor with some of them first"
            )
        valid = None if keep is None else keep[rows]
        if valid is not None and not valid.any():
            mean, scale = default_mean, default_scale
        elif plan.image:
            mean, scale = compute_pixel_scaling(f[rows], None if valid is None else valid.flatten())
        else:
            mean, scale = compute_scaling(f[rows], valid, size)
        means.append(mean[None])
        scales.append(scale[None])
    return torch.cat(means), torch.cat(scales)
