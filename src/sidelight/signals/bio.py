"""Cleans biosignals with neurokit2 (extra `bio`), and computes features of them in physical units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.errors import ConfigError, DataError, SidelightWarning, unknown
from sidelight.signals.recording import Recording
from sidelight.utils.extras import optional
from sidelight.utils.units import parse_unit

UNITS = {"eda": "uS", "ecg": "mV", "emg": "mV", "ppg": None}
"""Unit of the features of each kind; the amplitude of PPG has no unit that is agreed on."""
LEAST_RATES = {"eda": 2.0, "ecg": 50.0, "emg": 100.0, "ppg": 20.0}
"""Lowest sampling rate in Hz at which a signal of each kind still shows what its features describe.

Skin conductance responses rise within 1 to 3 s. Of simulated ECG (75 beats a minute) neurokit2 0.3 finds all beats from
40 Hz on, 53 of 74 at 32 Hz and none at 30 Hz; of PPG all from 20 Hz on. EMG has half its power above 50 Hz.
"""
CLEANED_FROM = {**LEAST_RATES, "emg": 201.0}
"""Lowest rate in Hz for `clean`: the high-pass of EMG lies at 100 Hz, which must be below half the rate."""
UNFILTERED = 6.0
"""Rate in Hz up to which EDA holds nothing that its low-pass at 3 Hz could remove."""


def clean(recording: Recording, kind: str) -> Recording:
    """Remove drift, mains hum and noise from each channel, by neurokit2's default method (zero-phase).

    Clean the whole recording, then cut windows. EDA of 6 Hz or less holds nothing above the 3 Hz of its filter; it is
    returned unfiltered, with a warning. Warnings of neurokit2 are passed on.

    Args:
        recording: the signal.
        kind: "eda" (low-pass 3 Hz), "ecg" (high-pass 0.5 Hz, mains of 50 Hz), "emg" (high-pass 100 Hz, detrended) or
            "ppg" (0.5–8 Hz).

    Returns:
        The cleaned recording, in the unit of `UNITS`.

    Raises:
        ConfigError: an unknown kind, or a unit of another quantity.
        DataError: the recording is too short, sampled below `CLEANED_FROM`, or its times show no constant rate.
        RunError: neurokit2 is not installed.
    """
    recording = _convert_unit(recording.evenly_sampled(), kind)
    check_rate(recording.name, recording.rate, kind, CLEANED_FROM)
    if kind == "eda" and recording.rate <= UNFILTERED:
        warnings.warn(
            f"{recording.name}: EDA at {recording.rate:g} Hz is not filtered: cleaning removes what is above 3 Hz, "
            f"which a signal of {UNFILTERED:g} Hz or less does not hold",
            SidelightWarning,
            stacklevel=2,
        )
        return recording
    nk = _import_neurokit()
    # neurokit2 names its functions by kind: eda_clean, ecg_clean, emg_clean, ppg_clean.
    method: Callable[..., Any] = getattr(nk, f"{kind}_clean")
    columns = []
    for c, x in enumerate(recording.values.T):
        what = f"{recording.name}: {recording.channel(c)} ({recording.seconds:g} s at {recording.rate:g} Hz)"
        try:
            # Only neurokit2's own warnings concern the signal; those of the libraries below it are noise.
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("ignore")
                warnings.filterwarnings("always", category=nk.misc.NeuroKitWarning)
                cleaned = np.asarray(method(x.astype(np.float64), sampling_rate=_to_whole(recording.rate)), np.float64)
        except (ValueError, IndexError, TypeError) as error:
            raise DataError(f"{what} cannot be cleaned as {kind}: {' '.join(str(error).split())}") from None
        for warning in caught:
            message = " ".join(str(warning.message).split())
            warnings.warn(f"{what}, cleaned as {kind}: {message}", SidelightWarning, stacklevel=2)
        columns.append(cleaned)
    return replace(recording, values=np.stack(columns, 1).astype(recording.values.dtype))


def check_rate(name: str, rate: float, kind: str, least: Mapping[str, float] = LEAST_RATES) -> None:
    """Raise DataError if a sampling rate is too low for a kind of signal, or not finite.

    Args:
        name: of the signal, for the error.
        rate: in Hz.
        kind: a key of `least`.
        least: kind -> lowest rate in Hz that works.
    """
    if not least[kind] <= rate < math.inf:
        raise DataError(
            f"{name} is sampled at {rate:g} Hz; {kind.upper()} needs at least {least[kind]:g} Hz"
            + (" to be cleaned" if least[kind] > LEAST_RATES[kind] else "")
            + ". Is the rate right, or the kind of signal another one?"
        )


def get_feature_names(kind: str) -> tuple[str, ...]:
    """Names of the features of one channel, in order; each name ends in its unit."""
    return _get_kind(kind)[0]


def compute_features(values: NDArray, rate: float, kind: str, unit: str) -> NDArray[np.float64]:
    """Compute features of windows of cleaned signals.

    - eda: tonic level (mean, spread, slope), phasic part (spread, peak), skin conductance responses a minute and their
      amplitude.
    - ecg, ppg: beats found, heart rate and its variability from the intervals between beats.
    - emg: root mean square, mean absolute value, peak, zero crossings, median frequency of the power spectrum.

    neurokit2 finds the peaks, one signal at a time, in some milliseconds each; `emg` needs scipy only.

    Args:
        values: (N, T, C) windows.
        rate: in Hz.
        kind: "eda", "ecg", "emg" or "ppg".
        unit: of the values.

    Returns:
        (N, C · D) features, named by `get_feature_names`, channel after channel; NaN in a window with too few beats
        (`impute: mean` reads such rows).

    Raises:
        ConfigError: an unknown kind or unit.
        DataError: values that are not (N, T, C) or not finite, or a rate below `LEAST_RATES`.
    """
    names, of_signal = _get_kind(kind)
    x = np.asarray(values, np.float64)
    if x.ndim != 3 or not x.size or not np.isfinite(x).all():
        raise DataError(f"{kind} windows of shape {x.shape}; expected (N, T, C), not empty and finite")
    if (target := UNITS[kind]) is not None:
        (have, base), (want, other) = parse_unit(unit), parse_unit(target)
        if base != other:
            raise ConfigError(f"{kind} in {unit}; its features need a unit that converts to {target}")
        x = x * (have / want)
    check_rate(f"a window of {kind}", rate, kind)
    rows = [of_signal(signal, rate) for window in x for signal in window.T]
    return np.array(rows, np.float64).reshape(len(x), x.shape[2] * len(names))


def _eda(x: NDArray, rate: float) -> list[float]:
    nk = _import_neurokit()
    parts = _run_quietly(nk.eda_phasic, x, rate)
    if parts is None:
        raise DataError(f"an EDA window of {len(x) / rate:g} s is too short to be split into tonic and phasic part")
    tonic, phasic = (np.asarray(parts[name], np.float64) for name in ("EDA_Tonic", "EDA_Phasic"))
    # neurokit2 finds peaks in the rounding errors of a constant signal.
    peaks = None if np.ptp(phasic) < 1e-6 else _run_quietly(nk.eda_peaks, phasic, rate)
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

    # The median frequency halves the power of the spectrum; it falls as a muscle tires.
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
    found = _run_quietly(_import_neurokit().ecg_peaks, x, rate)
    return compute_beat_features(np.asarray(found[1]["ECG_R_Peaks"] if found else [], np.float64) / rate)


def _ppg(x: NDArray, rate: float) -> list[float]:
    found = _run_quietly(_import_neurokit().ppg_findpeaks, x, rate)
    return compute_beat_features(np.asarray(found["PPG_Peaks"] if found else [], np.float64) / rate)


def compute_beat_features(beats: NDArray) -> list[float]:
    """Compute [number, rate, mean interval, SDNN, RMSSD, pNN50] from the times of heart beats in seconds.

    rate = 60 / mean interval, in beats per minute. SDNN is the standard deviation of the intervals (n − 1), RMSSD the
    root mean square of their differences, both in ms; pNN50 is the share of differences above 50 ms (Task Force of the
    ESC, 1996). Rate and interval are NaN below two beats, the variability below three intervals.
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


def _get_kind(kind: str) -> tuple[tuple[str, ...], Callable[[NDArray, float], list[float]]]:
    if kind not in KINDS:
        raise ConfigError(unknown("kind of biosignal", kind, KINDS))
    return KINDS[kind]


def _convert_unit(recording: Recording, kind: str) -> Recording:
    _get_kind(kind)
    unit = UNITS[kind]
    return recording if unit is None else recording.to(unit)


def _import_neurokit() -> Any:
    return optional("neurokit2", "bio", "cleaning biosignals and finding their peaks")


def _to_whole(rate: float) -> float:
    """A whole rate as int, since neurokit2 uses the sampling rate as an index."""
    return int(rate) if float(rate).is_integer() else rate


def _run_quietly(function: Callable[..., Any], x: NDArray, rate: float) -> Any:
    """Run a peak finder of neurokit2; None if it finds nothing, which it reports as an index error or a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(x, sampling_rate=_to_whole(rate))
        except (ValueError, IndexError):
            return None
