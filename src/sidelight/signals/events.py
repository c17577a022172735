"""Events: what happened when, on the clock of a file's recordings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import DataError


@dataclass(frozen=True, eq=False)
class Events:
    """N events in the order of their onsets: annotations, markers, button presses.

    Args:
        onset: (N,) seconds, on the clock of the recordings of the same file.
        duration: (N,) seconds; 0: a moment, or the file gives none.
        label: (N,) text.
        source: the file that they come from.
        origin: the moment at which the clock reads 0, as in `Recording`.
        tier: (N,) text, the tier of each in annotations that have several; None: there are none.

    Raises:
        DataError: lengths differ, a time is not finite or a duration is below 0; names event and value.
    """

    onset: NDArray
    duration: NDArray
    label: NDArray
    source: str = ""
    origin: datetime | None = None
    tier: NDArray | None = None

    def __post_init__(self) -> None:
        onset, duration = (np.asarray(x, np.float64).reshape(-1) for x in (self.onset, self.duration))
        label = np.asarray(self.label, dtype=str).reshape(-1)
        if not len(onset) == len(duration) == len(label):
            raise DataError(
                f"{self.source or 'events'}: {len(onset)} onsets, {len(duration)} durations, {len(label)} labels; "
                "expected one of each per event"
            )
        bad = ~np.isfinite(onset) | ~(duration >= 0) | np.isinf(duration)
        for i in np.flatnonzero(bad)[:1]:
            raise DataError(
                f"{self.source or 'events'}: event {i} ({label[i]!r}) begins at {onset[i]} s, lasts {duration[i]} s; "
                "expected a finite time and a duration of at least 0"
            )
        tier = np.full(len(onset), "") if self.tier is None else np.asarray(self.tier, dtype=str)
        order = np.argsort(onset, kind="stable")
        for name, x in (("onset", onset), ("duration", duration), ("label", label), ("tier", tier)):
            object.__setattr__(self, name, x[order])  # the dataclass is frozen

    def __len__(self) -> int:
        return len(self.onset)
