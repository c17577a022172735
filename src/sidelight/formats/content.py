"""`Content`: collects what a reader finds in a file, by the same rules for every format."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight.errors import ConfigError, DataError, SidelightWarning, listed, unknown
from sidelight.formats.units import translate
from sidelight.signals.events import Events
from sidelight.signals.recording import Recording, check_rate

UNIX = datetime(1970, 1, 1, tzinfo=UTC)
"""Origin of clocks that count the seconds of Unix time."""


class Content:
    """The recordings and events of one file.

    Args:
        path: the file or folder.
        rate: sampling rate in Hz, for formats that state none.
        units: recording -> unit, in place of the file's.
        names: the recordings to keep; None: all.
        events_only: whether recordings are skipped.
    """

    def __init__(
        self,
        path: Path,
        rate: float | None = None,
        units: Mapping[str, str] | None = None,
        names: Collection[str] | None = None,
        events_only: bool = False,
    ) -> None:
        if rate is not None:
            check_rate(rate, str(path))
        self.path, self.rate, self.units, self.names = path, rate, dict(units or {}), names
        self.events_only = events_only
        self.origin: datetime | None = None
        self.recordings: dict[str, Recording] = {}
        self.found: list[str] = []
        self._events: list[tuple[float, float, str, str]] = []
        self._gaps: list[str] = []
        self._empty: list[str] = []
        self._strange: list[str] = []

    def add(
        self,
        name: str,
        values: ArrayLike | Callable[[], ArrayLike],
        *,
        rate: float = 0.0,
        unit: str = "",
        start: float = 0.0,
        times: ArrayLike | None = None,
        channels: Sequence[str] = (),
        present: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a recording.

        Samples that are not finite were not measured. They are left out, and the others keep their times.

        Args:
            name: of the recording; if it is taken, a number is appended.
            values: (T,) or (T, C), or a function that reads them.
            rate: sampling rate in Hz; 0: none.
            unit: as the file writes it.
            start: time of the first sample in seconds; unused with `times`.
            times: (T,) time stamps in seconds, where the file has them.
            channels: names of the C channels.
            present: (T,) bool, which samples were measured.
        """
        name = self._free(name)
        self.found.append(name)
        if self.events_only or (self.names is not None and name not in self.names):
            return
        x = np.asarray(values() if callable(values) else values)
        if x.dtype.kind not in "fiub" or x.ndim not in (1, 2):
            raise DataError(f"{self.path}: {name!r} is {x.dtype} of shape {x.shape}; expected numbers, (T,) or (T, C)")
        x = x[:, None] if x.ndim == 1 else x
        there = np.isfinite(x).all(1) if x.dtype.kind == "f" else np.ones(len(x), bool)
        if present is not None:
            there = there & present
        if not there.any():
            self._empty.append(name)
            return
        t = None if times is None else np.asarray(times, np.float64)
        if not there.all():
            first = int(np.argmin(there))
            if t is None:
                t = start + np.arange(len(x)) / rate
            self._gaps.append(f"{name} ({int((~there).sum())} of {len(there)}, the first at {t[first] - t[0]:g} s)")
            x, t = x[there], t[there]
        self.recordings[name] = Recording(
            x, rate, self._unit(name, unit), start, tuple(channels), name, str(self.path), t, self.origin
        )

    def add_channels(
        self,
        name: str,
        values: NDArray,
        channels: Sequence[str],
        units: Sequence[str],
        *,
        rate: float = 0.0,
        start: float = 0.0,
        times: ArrayLike | None = None,
        present: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add (T, C) values as one recording, or as "name.channel", one a channel, if their units differ."""
        if len(set(units)) <= 1:
            unit = units[0] if units else ""
            self.add(name, values, rate=rate, unit=unit, start=start, times=times, channels=channels, present=present)
            return
        for c, (channel, unit) in enumerate(zip(channels, units, strict=True)):
            one = f"{name}.{channel}" if name else channel
            self.add(one, values[:, c], rate=rate, unit=unit, start=start, times=times, present=present)

    def add_event(self, onset: float, duration: float, label: str, tier: str = "") -> None:
        """Add an event: onset and duration in seconds (0: a moment, or none is given), and its tier, if there are."""
        self._events.append((onset, duration, label, tier))

    def warn(self, text: str) -> None:
        """Warn of something in the recordings that a careful user would want to know."""
        if self.events_only:
            return
        warnings.warn(f"{self.path}: {text}", SidelightWarning, stacklevel=4)

    def events(self) -> Events:
        """The events in the order of their onsets."""
        onset, duration, label, tier = zip(*self._events, strict=True) if self._events else ((), (), (), ())
        texts = np.array(label, str), str(self.path), self.origin, np.array(tier, str)
        return Events(np.array(onset), np.array(duration), *texts)

    def finish(self) -> None:
        """Check what the user asked for against what was found, and say what was left out."""
        for asked in (*(self.names or ()), *self.units):
            if asked not in self.found:
                raise ConfigError(f"{self.path}: {unknown('recording', asked, self.found)}")
        if self._gaps:
            self.warn(f"samples that were not measured are left out, and times keep the gaps: {listed(self._gaps, 10)}")
        if self._strange:
            self.warn(
                "units that are not known; the values are kept as they are, without a unit: "
                f"{listed(self._strange, 10)} (units={{name: unit}} names them)"
            )
        if self._empty:
            self.warn(f"recordings without a single sample are left out: {listed(self._empty, 10)}")

    def _free(self, name: str) -> str:
        """The name, or the name with the first number that no other recording of the file has."""
        name = name.strip() or "signal"
        free, n = name, 1
        while free in self.found:
            free, n = f"{name}.{n + 1}", n + 1
        return free

    def _unit(self, name: str, written: str) -> str:
        if name in self.units:
            return self.units[name]
        unit = translate(written)
        if unit is None:
            self._strange.append(f"{name!r} in {written!r}")
        return unit or "1"
