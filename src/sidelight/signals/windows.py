"""Long recordings and their labels cut into windows that cover the same time in every modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.signals.recording import Recording, overlap

Rule = Literal["majority", "centre", "mean"]
NONE = -1
"""The code of no label."""
SLACK = 1e-6
"""Samples by which rounding may miss a window's edge."""


@dataclass(frozen=True, eq=False)
class LabelTrack:
    """Labels over time: (T,) class codes (−1: none) or names ("": none), or (T,) or (T, K) values (NaN: none).

    rate: labels a second. start: time of the first in seconds, on the recordings' clock. Each holds for 1 / rate
    seconds.
    """

    values: NDArray
    rate: float
    start: float = 0.0
    source: str = "labels"

    def __post_init__(self) -> None:
        x = np.asarray(self.values)
        x = (
            x.astype(str)
            if x.dtype.kind == "O"
            else x.astype(np.float64)
            if x.ndim == 2 and x.dtype.kind in "iub"
            else x
        )
        object.__setattr__(self, "values", x)
        if not len(x) or x.ndim not in (1, 2) or x.dtype.kind not in "fiubU" or (x.ndim == 2 and x.dtype.kind == "U"):
            raise DataError(
                f"{self.source}: {x.dtype} of shape {x.shape}; expected (T,) classes, or (T,) or (T, K) values"
            )
        if not 0 < self.rate < np.inf:
            raise DataError(f"{self.source}: {self.rate} labels a second; expected more than 0")


@dataclass(frozen=True, eq=False)
class Windows:
    """N windows of a session.

    values: modality -> (N, T, C). starts: (N,) seconds. labels: (N,) classes, or (N,) or (N, K) float64 values; None
    where no labels were given. labelled: (N,) bool; of a window without a label, the label is −1, "" or NaN. share:
    (N,) of its time that has this label (majority), or any (mean). metadata: modality -> rate, unit, channels of its
    recording.
    """

    values: dict[str, NDArray]
    starts: NDArray
    labels: NDArray | None = None
    labelled: NDArray | None = None
    share: NDArray | None = None
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)


def cut(
    recordings: Mapping[str, Recording],
    seconds: float,
    hop: float,
    labels: LabelTrack | None = None,
    rule: Rule = "majority",
    threshold: float = 0.5,
) -> Windows:
    """All windows of `seconds`, one every `hop` seconds, of the time that every recording covers.

    A window's samples are the round(seconds · rate) from the one nearest to its start on, in each modality at its own
    rate, so modalities do not drift apart. Its label, by `rule`: "majority", the class that holds for the most of it,
    at least for the share `threshold`, ties going to the lower code; "centre", the label at its middle; "mean", the
    mean of the values that hold in it, which must cover the share `threshold`. Otherwise the window is unlabelled.

    Raises:
        DataError: recordings that do not overlap, or by less than one window.
        ConfigError: a length or hop of no sample, an unknown rule, or one that does not fit the labels.
    """
    start, end = overlap(recordings)
    slowest = min(r.rate for r in recordings.values())
    if seconds * slowest < 1 - SLACK or hop * slowest < 1 - SLACK or not 0 <= threshold <= 1:
        raise ConfigError(
            f"windows of {seconds:g} s every {hop:g} s, threshold {threshold:g}: expected at least one sample "
            f"({1 / slowest:g} s of the slowest recording) and a threshold of 0 to 1"
        )
    count = 1 + int(np.floor((end - start - seconds) / hop + SLACK)) if end - start >= seconds - SLACK / slowest else 0
    kept = {m: _fitting(r, start, seconds, hop, count) for m, r in recordings.items()}
    count = min(len(first) for first in kept.values())
    if not count:
        short = min(recordings.values(), key=lambda r: r.end)
        raise DataError(
            f"{short.name}: the recordings share {end - start:g} s (from {start:g} s to {end:g} s), less than one "
            f"window of {seconds:g} s; take shorter windows or leave this session out"
        )
    values = {
        m: np.moveaxis(sliding_window_view(r.values, _width(r, seconds), axis=0)[kept[m][:count]], 1, 2)
        for m, r in recordings.items()
    }
    starts = start + hop * np.arange(count)
    about = {m: r.metadata() for m, r in recordings.items()}
    if labels is None:
        return Windows(values, starts, metadata=about)
    return Windows(values, starts, *label_windows(labels, starts, seconds, rule, threshold), about)


def _width(recording: Recording, seconds: float) -> int:
    return max(1, round(seconds * recording.rate))


def _fitting(recording: Recording, start: float, seconds: float, hop: float, count: int) -> NDArray[np.int64]:
    """The first sample of each window that the recording holds to its end."""
    first = np.rint((start - recording.start + hop * np.arange(count)) * recording.rate).astype(np.int64)
    return np.asarray(first[first + _width(recording, seconds) <= len(recording.values)])


def label_windows(
    track: LabelTrack, starts: NDArray, seconds: float, rule: Rule = "majority", threshold: float = 0.5
) -> tuple[NDArray, NDArray, NDArray]:
    """(labels, labelled, share) of the windows that begin at `starts`; see `cut`."""
    if rule not in ("majority", "centre", "mean"):
        raise ConfigError(unknown("label rule", rule, ("majority", "centre", "mean")))
    x = track.values
    if rule == "centre":
        at = np.floor((starts + seconds / 2 - track.start) * track.rate + SLACK).astype(np.int64)
        labels, there = x[at.clip(0, len(x) - 1)], (at >= 0) & (at < len(x))
        labelled = there & _known(labels)
        return _blank(labels, labelled), labelled, labelled.astype(np.float64)
    if (rule == "majority") == (x.dtype.kind == "f"):
        raise ConfigError(
            f"{track.source}: label rule {rule!r} on {x.dtype}; 'majority' is for classes (whole numbers, names), "
            "'mean' for values (floating point)"
        )
    edges = [np.ceil((t - track.start) * track.rate - SLACK).astype(np.int64) for t in (starts, starts + seconds)]
    expected = np.maximum(edges[1] - edges[0], 1)
    a, b = (e.clip(0, len(x)) for e in edges)
    if rule == "mean":
        return _means(x, a, b, expected, threshold)
    return _majorities(x, a, b, expected, threshold)


def _means(x: NDArray, a: NDArray, b: NDArray, expected: NDArray, threshold: float) -> tuple[NDArray, NDArray, NDArray]:
    known = _known(x)
    kept = known if x.ndim == 1 else known[:, None]
    # from the mean on, so that long sums lose no digits
    centre = x[known].mean(0) if known.any() else 0.0
    total, n = _between(np.where(kept, x - centre, 0), a, b), _between(known, a, b)
    share = n / expected
    labelled = (n > 0) & (share >= threshold)
    mean = total / np.maximum(n, 1).reshape(-1, *[1] * (x.ndim - 1)) + centre
    return _blank(mean, labelled), labelled, share


def _majorities(
    x: NDArray, a: NDArray, b: NDArray, expected: NDArray, threshold: float
) -> tuple[NDArray, NDArray, NDArray]:
    classes = np.unique(x[_known(x)])
    best, share = np.zeros(len(a), np.int64), np.zeros(len(a))
    for code, value in enumerate(classes):  # a loop over classes keeps memory at (T,)
        here = _between(x == value, a, b) / expected
        best, share = np.where(here > share, code, best), np.maximum(here, share)
    labelled = (share > 0) & (share >= threshold)
    labels = classes[best] if len(classes) else np.full(len(a), x[0])
    return _blank(labels, labelled), labelled, share


def _between(x: NDArray, a: NDArray, b: NDArray) -> NDArray:
    """Sums of x over [a, b) along axis 0."""
    running = np.zeros((len(x) + 1, *x.shape[1:]), np.float64)
    np.cumsum(x, axis=0, out=running[1:])
    return np.asarray(running[b] - running[a])


def _known(x: NDArray) -> NDArray:
    """(T,) bool: has a label, in every column."""
    if x.dtype.kind == "f":
        return np.asarray(np.isfinite(x) if x.ndim == 1 else np.isfinite(x).all(1))
    if x.dtype.kind == "U":
        return np.asarray(x != "")
    return np.asarray(x != NONE) if x.dtype.kind == "i" else np.ones(len(x), bool)


def _blank(labels: NDArray, labelled: NDArray) -> NDArray:
    """The labels, with none where a window is unlabelled."""
    if labels.dtype.kind in "ub":
        labels = labels.astype(np.int64)
    blank: Any = {"f": np.nan, "U": "", "i": NONE}[labels.dtype.kind]
    out = labels.copy()
    out[~labelled] = blank
    return out
