"""Cleaning and features of biosignals: simulated ones whose beats, responses and amplitudes are known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.signals import Recording, cut
from sidelight.signals.bio import (
    CLEANED_FROM,
    KINDS,
    LEAST_RATES,
    UNITS,
    clean,
    compute_beat_features,
    compute_features,
    get_feature_names,
)


@pytest.fixture
def nk():
    return pytest.importorskip("neurokit2", reason='biosignals need neurokit2: pip install ".[bio]"')


def test_beats_by_hand():
    found = dict(zip(get_feature_names("ecg"), compute_beat_features(np.array([0, 0.8, 1.7, 2.5, 3.5]))))
    assert found["beats"] == 5
    assert found["interval_mean_ms"] == pytest.approx(875)
    assert found["heart_rate_per_minute"] == pytest.approx(60 / 0.875)
    assert found["sdnn_ms"] == pytest.approx(np.std([800, 900, 800, 1000], ddof=1))
    assert found["rmssd_ms"] == pytest.approx(np.sqrt((100**2 + 100**2 + 200**2) / 3))
    assert found["pnn50_share"] == 1
    assert np.isnan(compute_beat_features(np.array([1.0]))[1:]).all()
    assert np.isnan(compute_beat_features(np.array([1.0, 2.0]))).tolist() == [False, False, False, True, True, True]


def test_emg_of_a_sine():
    t = np.arange(1024) / 512
    windows = np.stack([0.2 * np.sin(2 * np.pi * 61 * t), np.zeros(1024)], 1)[None]
    found = compute_features(windows, 512, "emg", "mV").reshape(2, -1)
    sine = dict(zip(get_feature_names("emg"), found[0]))
    assert sine["rms_mV"] == pytest.approx(0.2 / np.sqrt(2), rel=1e-3)
    assert sine["mean_abs_mV"] == pytest.approx(0.4 / np.pi, rel=1e-2)
    assert sine["peak_mV"] == pytest.approx(0.2, rel=1e-3)
    assert sine["zero_crossings_per_s"] == pytest.approx(122, abs=1)
    assert sine["median_frequency_Hz"] == pytest.approx(61, abs=2)
    assert found[1].tolist() == [0, 0, 0, 0, 0]
    np.testing.assert_allclose(compute_features(windows * 1000, 512, "emg", "uV").ravel()[:3], found[0, :3])


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"unknown kind of biosignal 'edaa'. Did you mean 'eda'"):
        compute_features(np.ones((1, 9, 1)), 9, "edaa", "uS")
    with pytest.raises(ConfigError, match="emg in uS; its features need a unit that converts to mV"):
        compute_features(np.ones((1, 9, 1)), 9, "emg", "uS")
    with pytest.raises(DataError, match=r"emg windows of shape \(9, 1\)"):
        compute_features(np.ones((9, 1)), 9, "emg", "mV")
    with pytest.raises(ConfigError, match="'eda' is in mV, which cannot be converted to uS"):
        clean(Recording(np.ones(100), 100, "mV", modality="eda"), "eda")
    assert KINDS.keys() == UNITS.keys()


def simulated(nk, kind, rate, **more):
    simulate = getattr(nk, f"{kind}_simulate")
    return Recording(
        simulate(duration=30, sampling_rate=rate, random_state=1, **more), rate, UNITS[kind] or "1", modality=kind
    )


@pytest.mark.parametrize("rate", [512, 100])
@pytest.mark.parametrize("kind", ["ecg", "ppg"])
def test_the_heart_rate_is_found(nk, kind, rate):
    steady = {"frequency_modulation": 0, "ibi_randomness": 0} if kind == "ppg" else {"heart_rate_std": 0}
    r = simulated(nk, kind, rate, heart_rate=75, **steady)
    r = Recording(
        r.values + 0.3 * np.sin(np.arange(len(r.values)) / rate)[:, None], rate, r.unit, modality=kind
    )  # drift
    windows = cut({kind: clean(r, kind)}, 10, 10).values[kind]
    found = dict(zip(get_feature_names(kind), compute_features(windows, rate, kind, r.unit).T))
    np.testing.assert_allclose(found["heart_rate_per_minute"], 75, rtol=0.05)
    assert np.isnan(compute_features(np.zeros((1, 600, 1)), rate, kind, r.unit)[:, 1:]).all()


def test_skin_conductance_responses_are_found(nk):
    r = simulated(nk, "eda", 100, scr_number=6, noise=0.02)
    cleaned = clean(Recording(r.values / 1000, 100, "mS", modality="eda"), "eda")
    assert cleaned.unit == "uS"
    found = dict(zip(get_feature_names("eda"), compute_features(cleaned.values[None], 100, "eda", "uS")[0]))
    assert found["scr_per_minute"] == pytest.approx(12, abs=2)
    assert found["tonic_mean_uS"] == pytest.approx(r.values.mean(), rel=0.1)
    flat = compute_features(np.full((1, 600, 1), 3.0), 100, "eda", "uS")[0]
    np.testing.assert_allclose(flat, [3, 0, 0, 0, 0, 0, 0], atol=1e-9)


def test_emg_keeps_its_bursts_and_loses_its_offset(nk):
    r = simulated(nk, "emg", 512, burst_number=3)
    cleaned = clean(Recording(np.concatenate([r.values + 2, r.values], 1), 512, "mV", modality="emg"), "emg")
    assert np.abs(cleaned.values.mean(0)).max() < 0.01
    np.testing.assert_allclose(cleaned.values[:, 0], cleaned.values[:, 1], atol=1e-6)
    assert compute_features(cleaned.values[None], 512, "emg", "mV").shape == (1, 10)
    with pytest.raises(DataError, match=r"'emg': channel 0 \(0.0234375 s at 512 Hz\) cannot be cleaned as emg"):
        clean(Recording(np.ones(12), 512, "mV", modality="emg"), "emg")


@pytest.mark.parametrize(("kind", "least"), [("eda", 2), ("ecg", 50), ("emg", 201), ("ppg", 20)])
def test_rates_that_make_no_sense_are_refused(kind, least):
    """Before neurokit2 is asked: it finds no beat in ECG of 30 Hz, and says nothing."""
    assert CLEANED_FROM[kind] == least
    for rate in (least * 0.99, least / 10):
        with pytest.raises(
            DataError, match=rf"'x' is sampled at {rate:g} Hz; {kind.upper()} needs at least {least} Hz"
        ):
            clean(Recording(np.ones(300), rate, UNITS[kind] or "1", modality="x"), kind)
    for rate in (0.9 * LEAST_RATES[kind], 0, -4, np.nan, np.inf):
        with pytest.raises(DataError, match=rf"a window of {kind} is sampled at .* needs at least"):
            compute_features(np.ones((1, 300, 1)), rate, kind, UNITS[kind] or "1")


@pytest.mark.parametrize("rate", [2, 4, 6])
def test_eda_that_is_not_filtered_is_said_to_be(rate):
    r = Recording(np.random.default_rng(0).normal(3, 1, 100), rate, "uS", modality="eda", source="e4.csv")
    with pytest.warns(SidelightWarning, match=rf"e4.csv: 'eda': EDA at {rate} Hz is not filtered: .* above 3 Hz"):
        cleaned = clean(r, "eda")
    np.testing.assert_array_equal(cleaned.values, r.values)


def test_eda_above_that_is_filtered_without_a_word(nk):
    t = np.arange(400) / 8
    r = Recording(3 + np.sin(t) + 0.5 * np.sin(2 * np.pi * 3.8 * t), 8, "uS", modality="eda")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SidelightWarning)
        cleaned = clean(r, "eda")
    np.testing.assert_allclose(cleaned.values[40:-40, 0], (3 + np.sin(t))[40:-40], atol=0.1)


def test_what_neurokit_warns_of_is_passed_on(nk, monkeypatch):
    def warns(x, sampling_rate):
        warnings.warn("samples\n are odd", nk.misc.NeuroKitWarning, stacklevel=2)
        warnings.warn("numpy's business", RuntimeWarning, stacklevel=2)
        return x

    monkeypatch.setattr(nk, "ecg_clean", warns)
    with pytest.warns(
        SidelightWarning, match=r"'ecg': channel [01] \(1 s at 100 Hz\), cleaned as ecg: samples are odd"
    ) as said:
        clean(Recording(np.ones((100, 2)), 100, "mV", modality="ecg"), "ecg")
    assert len(said) == 2


@pytest.mark.parametrize("kind", ["ecg", "ppg"])
def test_beats_are_found_at_the_least_rate(nk, kind):
    steady = {"frequency_modulation": 0, "ibi_randomness": 0} if kind == "ppg" else {"heart_rate_std": 0}
    fine = simulated(nk, kind, 1000, heart_rate=75, **steady)
    r = fine.resample(LEAST_RATES[kind])
    found = dict(zip(get_feature_names(kind), compute_features(clean(r, kind).values[None], r.rate, kind, r.unit)[0]))
    assert found["heart_rate_per_minute"] == pytest.approx(75, rel=0.02)
    assert found["beats"] == pytest.approx(37, abs=1)
