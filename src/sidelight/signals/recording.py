"""A signal with its sampling rate, unit and start, and checks of signals and timestamps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight.errors import ConfigError, DataError, SidelightError, unknown
from sidelight.signals.resample import resample

PREFIXES = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "n": 1e-9}
BASES = ("V", "S", "g", "m/s2", "Hz", "degC", "1")


@dataclass(frozen=True, eq=False)
class Recording:
    """A signal of one or more channels that were sampled together.

    Args:
        values: (T, C) floating point, finite; (T,) is taken as one channel.
        rate: sampling rate in Hz.
        unit: physical unit of the values: "uS", "mV", "m/s2", …; "1" where there is none.
        start: time of the first sample in seconds, on the clock that the session's recordings share.
        channels: their names; may be left empty.
        modality: what it measures ("eda", …).
        source: the file that it comes from.

    Raises:
        DataError: the signal is empty or not finite; names source, modality, sample and value.
    """

    values: NDArray
    rate: float
    unit: str = "1"
    start: float = 0.0
    channels: tuple[str, ...] = ()
    modality: str = "signal"
    source: str = ""

    def __post_init__(self) -> None:
        x = np.asarray(self.values)
        if x.dtype.kind not in "fiub" or x.ndim not in (1, 2):
            raise DataError(f"{self.name} is {x.dtype} of shape {x.shape}; expected numbers, (T,) or (T, C)")
        x = x[:, None] if x.ndim == 1 else x
        if x.dtype not in (np.float32, np.float64):
            # float32 holds integers of 16 bits exactly.
            x = x.astype(np.float32 if x.dtype.itemsize <= 2 else np.float64)
        object.__setattr__(self, "values", x)  # the dataclass is frozen
        if not x.size:
            raise DataError(f"{self.name} is empty: shape {x.shape}")
        numbers = all(isinstance(v, int | float | np.number) for v in (self.rate, self.start))
        if not (numbers and 0 < self.rate < math.inf and math.isfinite(self.start)):
            raise DataError(f"{self.name}: sampling rate {self.rate} Hz, start {self.start} s; expected a rate above 0")
        if self.channels and len(self.channels) != x.shape[1]:
            raise DataError(f"{self.name} has {x.shape[1]} channels, but {len(self.channels)} names: {self.channels}")
        parse_unit(self.unit)
        good = np.isfinite(x)
        if not good.all():
            t, c = (int(v) for v in np.argwhere(~good)[0])
            raise DataError(
                f"{self.name}: {self.channel(c)} is {x[t, c]} at sample {t} ({self.start + t / self.rate:g} s), and "
                f"{int((~good).sum())} values in all are not finite; interpolate them or leave the recording out"
            )

    @property
    def name(self) -> str:
        """Name for errors."""
        return f"{self.source}: {self.modality!r}" if self.source else repr(self.modality)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.values) / self.rate

    @property
    def end(self) -> float:
        """Time in seconds at which the sample after the last would come."""
        return self.start + self.seconds

    def channel(self, c: int) -> str:
        """Name of a channel for errors."""
        return repr(self.channels[c]) if self.channels else f"channel {c}"

    def resample(self, rate: float) -> Recording:
        """Resample to another sampling rate in Hz."""
        check_rate(rate, f"{self.name}: resampled")
        return replace(self, values=resample(self.values, self.rate, rate), rate=rate)

    def to(self, unit: str) -> Recording:
        """Convert to another unit of the same quantity; raises ConfigError for another quantity."""
        (have, base), (want, other) = parse_unit(self.unit), parse_unit(unit)
        if base != other:
            raise ConfigError(f"{self.name} is in {self.unit}, which cannot be converted to {unit}")
        return self if have == want else replace(self, values=self.values * (have / want), unit=unit)

    def metadata(self) -> dict[str, Any]:
        """Rate, unit, start and channels, JSON-able."""
        return {"rate": self.rate, "unit": self.unit, "start": self.start, "channels": list(self.channels)}


def check_rate(rate: object, name: str, error: type[SidelightError] = ConfigError) -> None:
    """Raise `error` unless a sampling rate in Hz is a finite number above 0.

    Args:
        rate: in Hz.
        name: of the signal, for the error.
        error: the class to raise.
    """
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < float(rate) < math.inf:
        raise error(f"{name}: sampling rate {rate!r} Hz; expected a finite number above 0")


def parse_unit(unit: str) -> tuple[float, str]:
    """Split a unit into factor and base unit: "mV" is (1e-3, "V"); raises ConfigError for an unknown unit."""
    # Files write micro as either of two Unicode characters, or as u.
    written = re.sub("[µμ]", "u", unit).replace("²", "2")
    if written in BASES:
        return 1.0, written
    if written[:1] in PREFIXES and written[1:] in BASES[:-1]:  # "m1" is not a unit
        return PREFIXES[written[0]], written[1:]
    hint = " Skin resistance in kOhm is 1000 / conductance in uS." if "ohm" in written.lower() or "Ω" in unit else ""
    raise ConfigError(unknown("unit", unit, ("uS", "mV", "uV", "g", "m/s2", "Hz", "degC", "1")) + hint)


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
