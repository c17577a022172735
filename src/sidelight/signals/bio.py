"""Biosignals: cleaning by neurokit2 (extra `bio`), and features of what was cleaned, in physical units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.signals.recording import Recording, scale_of
from sidelight.utils.extras import optional

UNITS = {"eda": "uS", "ecg": "mV", "emg": "mV", "ppg": None}
"""The unit that each kind's features are given in; the amplitude of PPG has none that is agreed on."""
LEAST_RATES = {"eda": 2.0, "ecg": 50.0, "emg": 100.0, "ppg": 20.0}
"""Hz below which a signal of that kind does not show what its features are of.

Skin conductance responses rise within 1 to 3 s. Of simulated ECG (75 beats a minute) neurokit2 0.3 finds all beats from
40 Hz on, 53 of 74 at 32 Hz and none at 30 Hz; of PPG all from 20 Hz on. EMG has half its power above 50 Hz.
"""
CLEANED_FROM = {**LEAST_RATES, "emg": 201.0}
"""Hz from which `clean` works: the high-pass of EMG lies at 100 Hz, which has to be below half the rate."""
UNFILTERED = 6.0
"""Hz up to which EDA has nothing that its low-pass at 3 Hz could remove."""


def clean(recording: Recording, kind: str) -> Recording:
    """The recording without drift, mains hum and noise, in the unit of `UNITS`, each channel on its own.

    kind: "eda" (low-pass 3 Hz), "ecg" (high-pass 0.5 Hz, mains of 50 Hz), "emg" (high-pass 100 Hz, detrended) or "ppg"
    (0.5–8 Hz): neurokit2's default method of each, zero-phase. Clean the whole recording, then cut windows. EDA of 6 Hz
    or less has nothing above the 3 Hz of its filter: it is returned as it is, with a warning; so is what neurokit2
    warns of.

    Raises:
        ConfigError: an unknown kind, a unit of another quantity.
        DataError: a recording that is too short, or sampled below `CLEANED_FROM`.
        RunError: neurokit2 is not installed.
    """
    recording = _in_unit(recording, kind)
    check_rate(recording.name, recording.rate, kind, CLEANED_FROM)
    if kind == "eda" and recording.rate <= UNFILTERED:
        warnings.warn(
            f"{recording.name}: EDA at {recording.rate:g} Hz is not filtered: cleaning removes what is above 3 Hz, "
            f"which a signal of {UNFILTERED:g} Hz or less does not hold",
            SidelightWarning,
            stacklevel=2,
        )
        return recording
    nk = _neurokit()
    method: Callable[..., Any] = getattr(nk, f"{kind}_clean")
    columns = []
    for c, x in enumerate(recording.values.T):
        what = f"{recording.name}: {recording.channel(c)} ({recording.seconds:g} s at {recording.rate:g} Hz)"
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("ignore")
                warnings.filterwarnings("always", category=nk.misc.NeuroKitWarning)
                cleaned = np.asarray(method(x.astype(np.float64), sampling_rate=_whole(recording.rate)), np.float64)
        except (ValueError, IndexError, TypeError) as error:
            raise DataError(f"{what} cannot be cleaned as {kind}: {' '.join(str(error).split())}") from None
        for warning in said:
            told = " ".join(str(warning.message).split())
            warnings.warn(f"{what}, cleaned as {kind}: {told}", SidelightWarning, stacklevel=2)
        columns.append(cleaned)
    return replace(recording, values=np.stack(columns, 1).astype(recording.values.dtype))


def check_rate(name: str, rate: float, kind: str, least: Mapping[str, float] = LEAST_RATES) -> None:
    """Raises DataError, naming signal, rate and the least rate that works, for one below it or no finite number."""
    if not least[kind] <= rate < math.inf:
        raise DataError(
            f"{name} is sampled at {rate:g} Hz; {kind.upper()} needs at least {least[kind]:g} Hz"
            + (" to be cleaned" if least[kind] > LEAST_RATES[kind] else "")
            + ". Is the rate right, or the kind of signal another one?"
        )


def feature_names(kind: str) -> tuple[str, ...]:
    """The features of a channel of that kind, in order; each name ends in its unit."""
    return _kind(kind)[0]


def features(values: NDArray, rate: float, kind: str, unit: str) -> NDArray[np.float64]:
    """(N, T, C) windows of cleaned signals in `unit` -> (N, C · D) features: `feature_names`, channel after channel.

    - eda: tonic level (mean, spread, slope), phasic part (spread, peak), skin conductance responses a minute and their
      amplitude.
    - ecg, ppg: beats found, heart rate and its variability from the intervals between beats.
    - emg: root mean square, mean absolute value, peak, zero crossings, median frequency of the power spectrum.

    NaN where a window holds too few beats to say (`impute: mean` reads such rows). Peaks are neurokit2's, one signal at
    a time, some milliseconds each; `emg` needs scipy only. Raises ConfigError for an unknown kind or unit, DataError
    for values that are not (N, T, C) or not finite, and for a rate below `LEAST_RATES`.
    """
    names, of_signal = _kind(kind)
    x = np.asarray(values, np.float64)
    if x.ndim != 3 or not x.size or not np.isfinite(x).all():
        raise DataError(f"{kind} windows of shape {x.shape}; expected (N, T, C), not empty and finite")
    if (target := UNITS[kind]) is not None:
        (have, base), (want, other) = scale_of(unit), scale_of(target)
        if base != other:
            raise ConfigError(f"{kind} in {unit}; its features need a unit that converts to {target}")
        x = x * (have / want)
    check_rate(f"a window of {kind}", rate, kind)
    rows = [of_signal(signal, rate) for window in x for signal in window.T]
    return np.array(rows, np.float64).reshape(len(x), x.shape[2] * len(names))


def _eda(x: NDArray, rate: float) -> list[float]:
    nk = _neurokit()
    parts = _quiet(nk.eda_phasic, x, rate)
    if parts is None:
        raise DataError(f"an EDA window of {len(x) / rate:g} s is too short to be split into tonic and phasic part")
    tonic, phasic = (np.asarray(parts[name], np.float64) for name in ("EDA_Tonic", "EDA_Phasic"))
    peaks = None if np.ptp(phasic) < 1e-6 else _quiet(nk.eda_peaks, phasic, rate)
    amplitude = np.asarray(peaks[1]["SCR_Amplitude"], np.float64) if peaks else np.zeros(0)
    amplitude = amplitude[np.isfinite(amplitude)]
    seconds = np.arange(len(x)) / rate
    return [
        float(tonic.mean()),
        float(tonic.std()),
        float(np.polyfit(seconds, tonic, 1)[0]),
        float(phasic.std()),
        float(phasic.max()),
        60 * len(amplitude) * rate / len(x),
        float(amplitude.mean()) if len(amplitude) else 0.0,
    ]


def _emg(x: NDArray, rate: float) -> list[float]:
    from scipy.signal import welch

    frequency, power = welch(x, rate, nperseg=min(256, len(x)))
    total = np.cumsum(power)
    signs = np.signbit(x)
    return [
        float(np.sqrt(np.mean(x**2))),
        float(np.abs(x).mean()),
        float(np.abs(x).max()),
        float((signs[1:] != signs[:-1]).sum() * rate / len(x)),
        float(frequency[np.searchsorted(total, total[-1] / 2)]) if total[-1] > 0 else 0.0,
    ]


def _ecg(x: NDArray, rate: float) -> list[float]:
    found = _quiet(_neurokit().ecg_peaks, x, rate)
    return beat_features(np.asarray(found[1]["ECG_R_Peaks"] if found else [], np.float64) / rate)


def _ppg(x: NDArray, rate: float) -> list[float]:
    found = _quiet(_neurokit().ppg_findpeaks, x, rate)
    return beat_features(np.asarray(found["PPG_Peaks"] if found else [], np.float64) / rate)


def beat_features(beats: NDArray) -> list[float]:
    """[number, rate, mean interval, SDNN, RMSSD, pNN50] of the times of heart beats in seconds.

    rate = 60 / mean interval, in beats a minute; SDNN: standard deviation of the intervals (n − 1), RMSSD: root mean
    square of their differences, both in ms; pNN50: share of differences above 50 ms (Task Force of the ESC, 1996).
    NaN below two beats, the variability below three intervals.
    """
    interval = 1000 * np.diff(beats)
    if not len(interval):
        return [float(len(beats)), *[math.nan] * 5]
    mean = float(interval.mean())
    if len(interval) < 3:
        return [float(len(beats)), 60000 / mean, mean, *[math.nan] * 3]
    change = np.diff(interval)
    variability = [interval.std(ddof=1), np.sqrt(np.mean(change**2)), np.mean(np.abs(change) > 50)]
    return [float(len(beats)), 60000 / mean, mean, *map(float, variability)]


BEATS = ("beats", "heart_rate_per_minute", "interval_mean_ms", "sdnn_ms", "rmssd_ms", "pnn50_share")
KINDS: dict[str, tuple[tuple[str, ...], Callable[[NDArray, float], list[float]]]] = {
    "eda": (
        (
            "tonic_mean_uS",
            "tonic_std_uS",
            "tonic_slope_uS_per_s",
            "phasic_std_uS",
            "phasic_max_uS",
            "scr_per_minute",
            "scr_amplitude_uS",
        ),
        _eda,
    ),
    "ecg": (BEATS, _ecg),
    "emg": (("rms_mV", "mean_abs_mV", "peak_mV", "zero_crossings_per_s", "median_frequency_Hz"), _emg),
    "ppg": (BEATS, _ppg),
}


def _kind(kind: str) -> tuple[tuple[str, ...], Callable[[NDArray, float], list[float]]]:
    if kind not in KINDS:
        raise ConfigError(unknown("kind of biosignal", kind, KINDS))
    return KINDS[kind]


def _in_unit(recording: Recording, kind: str) -> Recording:
    _kind(kind)
    unit = UNITS[kind]
    return recording if unit is None else recording.to(unit)


def _neurokit() -> Any:
    return optional("neurokit2", "bio", "cleaning biosignals and finding their peaks")


def _whole(rate: float) -> float:
    """neurokit2 uses a whole sampling rate as an index."""
    return int(rate) if float(rate).is_integer() else rate


def _quiet(function: Callable[..., Any], x: NDArray, rate: float) -> Any:
    """What neurokit2 finds; None where it finds nothing, which it reports as an index error or a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(x, sampling_rate=_whole(rate))
        except (ValueError, IndexError):
            return None
