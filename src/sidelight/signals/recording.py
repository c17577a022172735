"""A signal with its sampling rate or time stamps, unit and start, and checks of signals and timestamps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight.errors import ConfigError, DataError, SidelightError
from sidelight.signals.resample import resample
from sidelight.utils.units import parse_unit


@dataclass(frozen=True, eq=False)
class Recording:
    """A signal of one or more channels that were sampled together.

    Sample i was measured at start + i / rate, or at times[i] where the samples have time stamps.

    Args:
        values: (T, C) floating point, finite; (T,) is taken as one channel.
        rate: sampling rate in Hz. With time stamps it is the usual rate, or 0 if samples come at no fixed rate.
        unit: physical unit of the values: "uS", "mV", "m/s2", …; "1" where there is none.
        start: time of the first sample in seconds, on the clock that the session's recordings share; with time stamps
            it is the first of them.
        channels: their names; may be left empty.
        modality: what it measures ("eda", …).
        source: the file that it comes from.
        times: (T,) time of each sample in seconds, on the same clock, for samples that are not evenly spaced: gaps,
            drifting clocks, packets whose samples have one time stamp, events. They never fall.
        origin: the moment at which the clock reads 0, where the file says it; without a time zone if the file has none.

    Raises:
        DataError: the signal is empty or not finite, or time stamps are missing, not finite or fall; names source,
            modality, sample and value.
    """

    values: NDArray
    rate: float
    unit: str = "1"
    start: float = 0.0
    channels: tuple[str, ...] = ()
    modality: str = "signal"
    source: str = ""
    times: NDArray | None = None
    origin: datetime | None = None

    def __post_init__(self) -> None:
        x = np.asarray(self.values)
        if x.dtype.kind not in "fiub" or x.ndim not in (1, 2):
            raise DataError(f"{self.name} is {x.dtype} of shape {x.shape}; expected numbers, (T,) or (T, C)")
        x = x[:, None] if x.ndim == 1 else x  # (T,) is one channel
        if x.dtype not in (np.float32, np.float64):
            # float32 holds integers of 16 bits exactly.
            x = x.astype(np.float32 if x.dtype.itemsize <= 2 else np.float64)
        object.__setattr__(self, "values", x)  # the dataclass is frozen
        if not x.size:
            raise DataError(f"{self.name} is empty: shape {x.shape}")
        if self.times is not None:
            times = _check_stamps(self.times, len(x), self.name)
            object.__setattr__(self, "times", times)
            object.__setattr__(self, "start", float(times[0]))
        numbers = all(isinstance(v, int | float | np.number) for v in (self.rate, self.start))
        least = self.rate > 0 or (self.rate == 0 and self.times is not None) if numbers else False
        if not (numbers and least and self.rate < math.inf and math.isfinite(self.start)):
            raise DataError(f"{self.name}: sampling rate {self.rate} Hz, start {self.start} s; expected a rate above 0")
        if self.channels and len(self.channels) != x.shape[1]:
            raise DataError(f"{self.name} has {x.shape[1]} channels, but {len(self.channels)} names: {self.channels}")
        parse_unit(self.unit)
        good = np.isfinite(x)
        if not good.all():
            t, c = (int(v) for v in np.argwhere(~good)[0])
            raise DataError(
                f"{self.name}: {self.channel(c)} is {x[t, c]} at sample {t} ({self.time(t):g} s), and "
                f"{int((~good).sum())} values in all are not finite; interpolate them or leave the recording out"
            )

    @property
    def name(self) -> str:
        """Name for errors."""
        return f"{self.source}: {self.modality!r}" if self.source else repr(self.modality)

    @property
    def seconds(self) -> float:
        """Duration in seconds, gaps included."""
        return len(self.values) / self.rate if self.times is None else self.end - self.start

    @property
    def end(self) -> float:
        """Time in seconds at which the sample after the last would come; the last time stamp if there is no rate."""
        if self.times is None:
            return self.start + self.seconds
        return float(self.times[-1]) + (1 / self.rate if self.rate else 0.0)

    def time(self, sample: int) -> float:
        """Time of a sample in seconds."""
        return self.start + sample / self.rate if self.times is None else float(self.times[sample])

    def channel(self, c: int) -> str:
        """Name of a channel for errors."""
        return repr(self.channels[c]) if self.channels else f"channel {c}"

    def resample(self, rate: float) -> Recording:
        """Resample to another sampling rate in Hz; raises DataError if its time stamps have gaps."""
        check_rate(rate, f"{self.name}: resampled")
        even = self.evenly_sampled()
        return replace(even, values=resample(even.values, even.rate, rate), rate=rate)

    def evenly_sampled(self, largest_gap: float = 1.5) -> Recording:
        """Replace time stamps by the constant rate that they show.

        Args:
            largest_gap: largest step from one time stamp to the next, in sample periods; every time stamp must also be
                within one period of the constant rate.

        Raises:
            DataError: the samples are not evenly spaced; names the sample at which the first gap ends.
        """
        if self.times is None:
            return self
        rate = check_times(self.times, None, self.name, largest_gap=largest_gap)
        off = np.abs(self.times - self.start - np.arange(len(self.times)) / rate) * rate
        if off[worst := int(off.argmax())] > 1:
            raise DataError(
                f"{self.name}: sample {worst} comes {off[worst] / rate:.6g} s from where {rate:.6g} Hz puts it: its "
                "time stamps show no constant rate; align it by its times"
            )
        return replace(self, times=None, rate=rate)

    def to(self, unit: str) -> Recording:
        """Convert to another unit of the same quantity; raises ConfigError for another quantity."""
        (have, base), (want, other) = parse_unit(self.unit), parse_unit(unit)
        if base != other:
            hint = "; conductance in uS is 1000 / resistance in kOhm" if {base, other} == {"Ohm", "S"} else ""
            raise ConfigError(f"{self.name} is in {self.unit}, which cannot be converted to {unit}{hint}")
        return self if have == want else replace(self, values=self.values * (have / want), unit=unit)

    def metadata(self) -> dict[str, Any]:
        """Rate, unit, start and channels, JSON-able."""
        return {"rate": self.rate, "unit": self.unit, "start": self.start, "channels": list(self.channels)}


def _check_stamps(times: ArrayLike, count: int, name: str) -> NDArray[np.float64]:
    """Time stamps as (T,) float64; raises DataError unless there is one a sample, all finite and never falling."""
    t = np.asarray(times)
    if t.dtype.kind not in "fiu" or t.shape != (count,):
        raise DataError(
            f"{name}: times are {t.dtype} of shape {t.shape}; expected a time in seconds for each of {count}"
        )
    t = t.astype(np.float64)
    for i in np.flatnonzero(~np.isfinite(t))[:1]:
        raise DataError(f"{name}: the time of sample {i} is {t[i]}; every sample needs one")
    falls = np.flatnonzero(np.diff(t) < 0)
    for i in falls[:1]:
        raise DataError(
            f"{name}: sample {i + 1} at {t[i + 1]:.6f} s follows one at {t[i]:.6f} s ({len(falls)} times fall): sort "
            "the samples, or cut the recording where its clock jumps"
        )
    return t


def check_rate(rate: object, name: str, error: type[SidelightError] = ConfigError) -> None:
    """Raise `error` unless a sampling rate in Hz is a finite number above 0.

    Args:
        rate: in Hz.
        name: of the signal, for the error.
        error: the class to raise.
    """
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < float(rate) < math.inf:
        raise error(f"{name}: sampling rate {rate!r} Hz; expected a finite number above 0")


def check_part(where: str, start: float, seconds: float | None) -> None:
    """Raise ConfigError for a part of a recording with an invalid start or length.

    Args:
        where: the file, for the error.
        start: in seconds; must be at least 0.
        seconds: length; must be above 0, or None for all that is left.
    """
    if not 0 <= start < math.inf:
        raise ConfigError(f"{where}: a part from {start} s on; expected start >= 0, in seconds")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"{where}: a part of {seconds} s; expected seconds > 0, or None for all that is left")


def check_times(
    times: ArrayLike,
    rate: float | None,
    name: str,
    *,
    tolerance: float = 0.01,
    largest_gap: float = 1.5,
    first_row: int = 0,
) -> float:
    """Check timestamps: they must be finite and rising, without gaps, and agree with the declared rate.

    Args:
        times: (T,) in seconds.
        rate: declared sampling rate in Hz; None: no rate is declared.
        name: of the signal, for errors.
        tolerance: largest difference from the declared rate, as a share of it.
        largest_gap: largest step from one timestamp to the next, in sample periods.
        first_row: row number of the first timestamp in the file, for errors.

    Returns:
        The sampling rate in Hz, by the timestamps.

    Raises:
        DataError: a timestamp violates one of these rules; names row and value.
        ConfigError: a rate, tolerance or gap that is not a finite number in its range.
    """
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigError(f"{name}: a declared sampling rate of {rate} Hz; expected more than 0, or None for any")
    if not (0 <= tolerance < math.inf and 0 < largest_gap < math.inf):
        raise ConfigError(
            f"{name}: tolerance {tolerance}, largest_gap {largest_gap}; expected a tolerance >= 0 and a gap above 0"
        )
    t = np.asarray(times)
    if t.ndim != 1 or t.dtype.kind not in "fiu":
        raise DataError(f"{name}: timestamps of {t.dtype} and shape {t.shape}; expected (T,) seconds")
    t = t.astype(np.float64)
    if t.size < 2:
        raise DataError(f"{name}: {t.size} timestamps; expected at least two")
    for i in np.flatnonzero(~np.isfinite(t))[:1]:
        raise DataError(f"{name}: row {first_row + i}: the timestamp is {t[i]}; every sample needs one")
    step = np.diff(t)
    for i in np.flatnonzero(step <= 0)[:1]:
        raise DataError(
            f"{name}: row {first_row + i + 1}: timestamp {t[i + 1]:.6f} s follows {t[i]:.6f} s; expected rising times "
            f"({int((step <= 0).sum())} steps do not rise): sort the rows, or cut the recording where its clock jumps"
        )

    # The median is the sample period even if some steps are gaps.
    typical = float(np.median(step))
    worst = int(step.argmax())
    if step[worst] > largest_gap * typical:
        raise DataError(
            f"{name}: row {first_row + worst + 1}: {step[worst]:.6g} s after the row before, where {typical:.6g} s is "
            f"usual ({int((step > largest_gap * typical).sum())} gaps); fill it, or cut the recording there"
        )
    found = (t.size - 1) / float(t[-1] - t[0])
    if rate is not None and abs(found / rate - 1) > tolerance:
        raise DataError(
            f"{name}: sampled at {found:.6g} Hz by its timestamps, but {rate:g} Hz is declared; correct the rate, or "
            "the unit of the time column"
        )
    return found


def find_overlap(recordings: Mapping[str, Recording]) -> tuple[float, float]:
    """Find the time that all recordings cover: (start, end) in seconds; raises DataError if there is none."""
    if not recordings:
        raise DataError("no recordings were given")
    late = max(recordings, key=lambda m: recordings[m].start)
    early = min(recordings, key=lambda m: recordings[m].end)
    start, end = recordings[late].start, recordings[early].end
    if start >= end:
        raise DataError(
            f"{recordings[late].name} starts at {start:g} s, after {recordings[early].name} has ended at {end:g} s; "
            "the recordings of one session must overlap in time"
        )
    return start, end
