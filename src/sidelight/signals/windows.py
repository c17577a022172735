"""Cuts long recordings and their labels into windows that cover the same time in every modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.signals.recording import Recording, find_overlap

Rule = Literal["majority", "centre", "mean"]
NONE = -1
"""Class code of a window without a label."""
SLACK = 1e-6
"""Samples by which rounding may miss the edge of a window."""


@dataclass(frozen=True, eq=False)
class LabelTrack:
    """Labels over time; label k holds from start + k / rate until start + (k + 1) / rate.

    Args:
        values: (T,) class codes (−1: no label) or class names ("": no label), or (T,) or (T, K) values (NaN: no label).
        rate: labels per second.
        start: time of the first label in seconds, on the clock of the recordings.
        source: name for errors.

    Raises:
        DataError: labels of another shape or type, a code below −1, an infinite value, or a rate or start that is not
            a finite number.
    """

    values: NDArray
    rate: float
    start: float = 0.0
    source: str = "labels"

    def __post_init__(self) -> None:
        x = np.asarray(self.values)
        if x.dtype.kind == "O":
            x = x.astype(str)
        elif x.ndim == 2 and x.dtype.kind in "iub":
            # Class codes are one per moment; whole numbers in K columns are values.
            x = x.astype(np.float64)
        object.__setattr__(self, "values", x)  # the dataclass is frozen
        if not x.size or x.ndim not in (1, 2) or x.dtype.kind not in "fiubU" or (x.ndim == 2 and x.dtype.kind == "U"):
            raise DataError(
                f"{self.source}: {x.dtype} of shape {x.shape}; expected (T,) classes, or (T,) or (T, K) values"
            )
        if not (0 < self.rate < np.inf and np.isfinite(self.start)):
            raise DataError(
                f"{self.source}: {self.rate} labels a second, the first at {self.start} s; expected a rate above 0 and "
                "a finite time"
            )
        if x.dtype.kind == "i" and x[low := int(x.argmin())] < NONE:
            raise DataError(
                f"{self.source}: label {low} is {x[low]}; class codes are 0, 1, …, and −1 means no label. "
                "Give the classes names, or codes from 0 on"
            )
        if x.dtype.kind == "f" and np.isinf(x).any():
            row = int(np.argwhere(np.isinf(x))[0, 0])
            raise DataError(f"{self.source}: label {row} is {x[row]}; expected finite values, NaN where there is none")


@dataclass(frozen=True, eq=False)
class Windows:
    """N windows of a session.

    Args:
        values: modality -> (N, T, C).
        starts: (N,) start times in seconds.
        labels: (N,) classes, or (N,) or (N, K) float64 values; −1, "" or NaN in a window without a label. None if no
            labels were given.
        labelled: (N,) bool.
        share: (N,) share of the window's time for which this label holds (majority), or any label (mean).
        metadata: modality -> rate, unit and channels of its recording.
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
    """Cut the time that every recording covers into windows.

    In each modality, a window holds round(seconds · rate) samples from the sample nearest to its start, so modalities
    do not drift apart. Labels may be slower or faster than the windows: shares and means are over time.

    Args:
        recordings: modality -> recording, on one clock.
        seconds: length of a window.
        hop: time from the start of one window to the start of the next, in seconds.
        labels: the labels over time; None: the windows have no labels.
        rule: "majority": the class that holds for most of the window, at least for the share `threshold`; ties go to
            the lower code. "centre": the label at the middle of the window. "mean": the mean over the time for which a
            value holds, which must be at least the share `threshold` of the window. Otherwise the window is unlabelled.
        threshold: share of the window, 0 to 1.

    Returns:
        The windows.

    Raises:
        DataError: the recordings overlap by less than one window, or the time stamps of one show gaps or no constant
            rate.
        ConfigError: a length or hop of less than one sample, an unknown rule, or a rule that does not fit the labels.
    """
    recordings = {m: r.evenly_sampled() for m, r in recordings.items()}
    start, end = find_overlap(recordings)
    slowest = min(r.rate for r in recordings.values())
    least = (1 - SLACK) / slowest
    if not (least <= seconds < np.inf and least <= hop < np.inf and 0 <= threshold <= 1):
        raise ConfigError(
            f"windows of {seconds:g} s every {hop:g} s, threshold {threshold:g}: expected at least one sample "
            f"({1 / slowest:g} s of the slowest recording) and a threshold of 0 to 1"
        )
    count = 0
    if end - start >= seconds - SLACK / slowest:
        count = 1 + int(np.floor((end - start - seconds) / hop + SLACK))
    # Rounding to samples may cost one modality its last window; then no modality keeps it.
    kept = {m: _find_first_samples(r, start, seconds, hop, count) for m, r in recordings.items()}
    count = min(len(first) for first in kept.values())
    if not count:
        short = min(recordings.values(), key=lambda r: r.end)
        raise DataError(
            f"{short.name}: the recordings share {end - start:g} s (from {start:g} s to {end:g} s), less than one "
            f"window of {seconds:g} s; take shorter windows or leave this session out"
        )
    # Views of the recordings' memory become arrays of windows when they are indexed, in one step per modality.
    values = {
        m: np.moveaxis(sliding_window_view(r.values, _count_samples(r, seconds), axis=0)[kept[m][:count]], 1, 2)
        for m, r in recordings.items()
    }
    starts = start + hop * np.arange(count)
    metadata = {m: r.metadata() for m, r in recordings.items()}
    if labels is None:
        return Windows(values, starts, metadata=metadata)
    return Windows(values, starts, *label_windows(labels, starts, seconds, rule, threshold), metadata)


def _count_samples(recording: Recording, seconds: float) -> int:
    return max(1, round(seconds * recording.rate))


def _find_first_samples(
    recording: Recording, start: float, seconds: float, hop: float, count: int
) -> NDArray[np.int64]:
    """First sample of each window that lies inside the recording up to its end."""
    first = np.rint((start - recording.start + hop * np.arange(count)) * recording.rate).astype(np.int64)
    return np.asarray(first[first + _count_samples(recording, seconds) <= len(recording.values)])


def label_windows(
    track: LabelTrack, starts: NDArray, seconds: float, rule: Rule = "majority", threshold: float = 0.5
) -> tuple[NDArray, NDArray, NDArray]:
    """Label windows by the time for which each label holds in them.

    Args:
        track: the labels over time.
        starts: (N,) start times of the windows in seconds, on the clock of the track.
        seconds: length of a window.
        rule: as in `cut`.
        threshold: as in `cut`.

    Returns:
        labels: (N,) or (N, K), as in `Windows`.
        labelled: (N,) bool.
        share: (N,), as in `Windows`.

    Raises:
        ConfigError: times that are not finite numbers, a threshold outside 0–1, an unknown rule, or a rule that does
            not fit the labels.
    """
    if rule not in ("majority", "centre", "mean"):
        raise ConfigError(unknown("label rule", rule, ("majority", "centre", "mean")))
    starts = np.asarray(starts)
    if starts.dtype.kind not in "fiu":
        raise ConfigError(f"{track.source}: starts of windows are {starts.dtype}; expected seconds")
    starts = starts.astype(np.float64)
    if not (0 < seconds < np.inf and 0 <= threshold <= 1 and starts.ndim == 1 and np.isfinite(starts).all()):
        raise ConfigError(
            f"{track.source}: windows of {seconds} s, starts of shape {starts.shape}, threshold {threshold}: expected "
            "a length above 0, (N,) finite starts in seconds and a threshold of 0 to 1"
        )
    x = track.values
    if rule == "centre":
        at = np.floor((starts + seconds / 2 - track.start) * track.rate + SLACK).astype(np.int64)
        labels, there = x[at.clip(0, len(x) - 1)], (at >= 0) & (at < len(x))
        labelled = there & _has_label(labels)
        return _mask_unlabelled(labels, labelled), labelled, labelled.astype(np.float64)
    if (rule == "majority") == (x.dtype.kind == "f"):
        raise ConfigError(
            f"{track.source}: label rule {rule!r} on {x.dtype}; 'majority' is for classes (whole numbers, names), "
            "'mean' for values (floating point)"
        )

    # Edges of windows, counted in labels from the first; an edge within rounding of a label's edge is moved onto it.
    edges = [(t - track.start) * track.rate for t in (starts, starts + seconds)]
    a, b = (np.where(np.abs(e - np.rint(e)) < SLACK, np.rint(e), e).clip(0, len(x)) for e in edges)
    if rule == "mean":
        return _compute_means(x, a, b, seconds * track.rate, threshold)
    return _compute_majorities(x, a, b, seconds * track.rate, threshold)


def _compute_means(
    x: NDArray, a: NDArray, b: NDArray, length: float, threshold: float
) -> tuple[NDArray, NDArray, NDArray]:
    known = _has_label(x)
    kept = known if x.ndim == 1 else known[:, None]
    # Sums are taken around the mean, so that long ones lose no digits.
    centre = x[known].mean(0) if known.any() else 0.0
    total, held = _integrate(np.where(kept, x - centre, 0), a, b), _integrate(known, a, b)
    share = _compute_share(held, length)
    labelled = (share > 0) & (share >= threshold - SLACK)
    mean = total / np.where(held > 0, held, 1).reshape(-1, *[1] * (x.ndim - 1)) + centre
    return _mask_unlabelled(mean, labelled), labelled, share


def _compute_majorities(
    x: NDArray, a: NDArray, b: NDArray, length: float, threshold: float
) -> tuple[NDArray, NDArray, NDArray]:
    """(labels, labelled, share) by rule "majority"; a, b: (N,) edges in labels, length: of a window in labels."""
    classes = np.unique(x[_has_label(x)])
    best, share = np.zeros(len(a), np.int64), np.zeros(len(a))
    # A loop over the classes, which are few, keeps memory at (T,).
    for code, value in enumerate(classes):
        here = _compute_share(_integrate(x == value, a, b), length)
        longer = here > share + SLACK  # by more than rounding, so that a tie goes to the lower code
        best, share = np.where(longer, code, best), np.where(longer, here, share)
    labelled = (share > 0) & (share >= threshold - SLACK)
    labels = classes[best] if len(classes) else np.full(len(a), x[0])
    return _mask_unlabelled(labels, labelled), labelled, share


def _compute_share(held: NDArray, length: float) -> NDArray[np.float64]:
    """Overlap as a share of the window; an overlap below `SLACK` is rounding, and becomes 0."""
    share = np.minimum(held / length, 1.0)
    return np.where(share < SLACK, 0.0, share)


def _integrate(x: NDArray, a: NDArray, b: NDArray) -> NDArray:
    """∫ x dt from a to b, (N,) or (N, K), for the step function that has the value x[k] from k to k + 1."""
    running = np.zeros((len(x) + 1, *x.shape[1:]), np.float64)
    np.cumsum(x, axis=0, out=running[1:])

    def until(t: NDArray) -> NDArray:
        whole = np.floor(t).astype(np.int64)
        rest = (t - whole).reshape(-1, *[1] * (x.ndim - 1))
        return np.asarray(running[whole] + rest * x[whole.clip(max=len(x) - 1)])

    return np.asarray(until(b) - until(a))


def _has_label(x: NDArray) -> NDArray:
    """(T,) bool: whether there is a label, in every column."""
    if x.dtype.kind == "f":
        return np.asarray(np.isfinite(x) if x.ndim == 1 else np.isfinite(x).all(1))
    if x.dtype.kind == "U":
        return np.asarray(x != "")
    return np.asarray(x != NONE) if x.dtype.kind == "i" else np.ones(len(x), bool)


def _mask_unlabelled(labels: NDArray, labelled: NDArray) -> NDArray:
    """The labels, with −1, "" or NaN for unlabelled windows."""
    if labels.dtype.kind in "ub":
        labels = labels.astype(np.int64)
    blank: Any = {"f": np.nan, "U": "", "i": NONE}[labels.dtype.kind]
    out = labels.copy()
    out[~labelled] = blank
    return out
