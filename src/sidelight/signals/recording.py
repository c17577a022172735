"""A signal with its sampling rate, unit and start, and the checks that name what is wrong with one."""

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

    Raises DataError, naming source, modality, sample and value, for a signal that is empty or not finite.
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
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32 if x.dtype.itemsize <= 2 else np.float64)
        object.__setattr__(self, "values", x)
        if not x.size:
            raise DataError(f"{self.name} is empty: shape {x.shape}")
        numbers = all(isinstance(v, int | float | np.number) for v in (self.rate, self.start))
        if not (numbers and 0 < self.rate < math.inf and math.isfinite(self.start)):
            raise DataError(f"{self.name}: sampling rate {self.rate} Hz, start {self.start} s; expected a rate above 0")
        if self.channels and len(self.channels) != x.shape[1]:
            raise DataError(f"{self.name} has {x.shape[1]} channels, but {len(self.channels)} names: {self.channels}")
        scale_of(self.unit)
        good = np.isfinite(x)
        if not good.all():
            t, c = (int(v) for v in np.argwhere(~good)[0])
            raise DataError(
                f"{self.name}: {self.channel(c)} is {x[t, c]} at sample {t} ({self.start + t / self.rate:g} s), and "
                f"{int((~good).sum())} values in all are not finite; interpolate them or leave the recording out"
            )

    @property
    def name(self) -> str:
        """How errors call it."""
        return f"{self.source}: {self.modality!r}" if self.source else repr(self.modality)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.values) / self.rate

    @property
    def end(self) -> float:
        """Time in seconds at which the sample after the last would come."""
        return self.start + self.seconds

    def channel(self, c: int) -> str:
        """How errors call a channel."""
        return repr(self.channels[c]) if self.channels else f"channel {c}"

    def resampled(self, rate: float) -> Recording:
        """The same signal at another sampling rate."""
        check_rate(rate, f"{self.name}: resampled")
        return replace(self, values=resample(self.values, self.rate, rate), rate=rate)

    def to(self, unit: str) -> Recording:
        """The same signal in another unit of the same quantity; raises ConfigError for another quantity."""
        (have, base), (want, other) = scale_of(self.unit), scale_of(unit)
        if base != other:
            raise ConfigError(f"{self.name} is in {self.unit}, which cannot be converted to {unit}")
        return self if have == want else replace(self, values=self.values * (have / want), unit=unit)

    def metadata(self) -> dict[str, Any]:
        """What a manifest or a network has to know of it, JSON-able."""
        return {"rate": self.rate, "unit": self.unit, "start": self.start, "channels": list(self.channels)}


def check_rate(rate: object, name: str, error: type[SidelightError] = ConfigError) -> None:
    """Raises `error` for a sampling rate in Hz that is no finite number above 0."""
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 < float(rate) < math.inf:
        raise error(f"{name}: sampling rate {rate!r} Hz; expected a finite number above 0")


def scale_of(unit: str) -> tuple[float, str]:
    """(factor, base unit) of a unit: "mV" is (1e-3, "V"). Raises ConfigError for an unknown one."""
    written = re.sub("[µμ]", "u", unit).replace("²", "2")
    if written in BASES:
        return 1.0, written
    if written[:1] in PREFIXES and written[1:] in BASES[:-1]:
        return PREFIXES[written[0]], written[1:]
    hint = " Skin resistance in kOhm is 1000 / conductance in uS." if "ohm" in written.lower() or "Ω" in unit else ""
    raise ConfigError(unknown("unit", unit, ("uS", "mV", "uV", "g", "m/s2", "Hz", "degC", "1")) + hint)


def check_part(where: str, start: float, seconds: float | None) -> None:
    """Raises ConfigError for a part of a recording that begins before it, or whose length is no number above 0."""
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
    """The sampling rate in Hz that timestamps in seconds say; DataError, naming row and value, if they are not sound.

    Sound: finite, rising, no step above `largest_gap` sample periods, and a rate that differs from the declared one
    (`rate`; None: none is declared) by at most the share `tolerance`. first_row: the row, as errors count it, of the
    first. A rate, tolerance or gap that is no finite number above 0 is a ConfigError.
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
            f"{name}: sampled at {found:.6g} Hz by its timestamps, but {rate:g} Hz is declared; mend the rate, or the "
            "unit of the time column"
        )
    return found


def overlap(recordings: Mapping[str, Recording]) -> tuple[float, float]:
    """(start, end) in seconds of the time that all recordings cover; raises DataError where there is none."""
    if not recordings:
        raise DataError("no recordings were given")
    late = max(recordings, key=lambda m: recordings[m].start)
    early = min(recordings, key=lambda m: recordings[m].end)
    start, end = recordings[late].start, recordings[early].end
    if start >= end:
        raise DataError(
            f"{recordings[late].name} starts at {start:g} s, after {recordings[early].name} has ended at {end:g} s; "
            "the recordings of one session have to overlap in time"
        )
    return start, end
