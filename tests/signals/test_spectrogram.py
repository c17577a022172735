"""Spectrograms against scipy, torch.stft and closed forms; mel filters against librosa's published values."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.signals import PRESETS, Spectrogram, get_preset, spectrogram
from sidelight.signals.mel import hz_to_mel, mel_filters, mel_to_hz


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    window=st.integers(2, 40),
    hop=st.integers(1, 40),
    more=st.integers(0, 9),
    detrend=st.booleans(),
    taper=st.sampled_from(["hann", "tukey"]),
)
def test_a_density_is_scipys(window, hop, more, detrend, taper):
    x = noise(3, 100) + 4
    hop = min(hop, window)  # scipy has no gaps between frames
    settings = Spectrogram(50, window, hop, window + more, taper, detrend=detrend, scale="density")
    name = ("tukey", 0.25) if taper == "tukey" else "hann"
    expected = signal.spectrogram(
        x.numpy(), 50, name, window, window - hop, window + more, "constant" if detrend else False
    )[2]
    np.testing.assert_allclose(settings(x)[:, 0], expected, rtol=1e-9, atol=1e-12)


@given(window=st.integers(2, 40), hop=st.integers(1, 40), more=st.integers(0, 9))
def test_centred_power_is_torchs(window, hop, more):
    x = noise(3, 100)
    taper = torch.hann_window(window, dtype=torch.float64)
    expected = torch.stft(x, window + more, hop, window, taper, center=True, return_complex=True).abs().square()
    torch.testing.assert_close(Spectrogram(50, window, hop, window + more, centre=True)(x)[:, 0], expected)


def test_a_tone_and_white_noise_have_their_power():
    t = torch.arange(2048, dtype=torch.float64) / 512
    power = Spectrogram(512, 64, 32)(3 * torch.cos(2 * torch.pi * 80 * t)[None])[0, 0]
    assert power.argmax(0).unique().tolist() == [10]  # 80 Hz of 8 Hz a bin
    torch.testing.assert_close(power[10], torch.full_like(power[10], (3 * 64 / 4) ** 2))  # (A Σw / 2)²
    density = Spectrogram(512, 64, 32, scale="density")(0.5 * noise(1, 2**18))[0, 0]
    assert density[1:-1].mean() == pytest.approx(2 * 0.25 / 512, rel=0.01)  # one-sided: 2 σ² / rate


def test_blocks_channels_and_types_do_not_change_values(monkeypatch):
    x = noise(6, 3, 300)
    settings = Spectrogram(100, 32, 8, decibel=True, mels=5)
    whole = settings(x)
    assert whole.shape == (6, 3, 5, 34) == (6, 3, *settings.shape(300))
    torch.testing.assert_close(settings(x[:, 1])[:, 0], whole[:, 1], rtol=0, atol=1e-12)
    monkeypatch.setattr(spectrogram, "BLOCK", 1)
    torch.testing.assert_close(settings(x), whole, rtol=0, atol=1e-12)
    assert settings(x.float()).dtype == settings((100 * x).to(torch.int16)).dtype == torch.float32
    torch.testing.assert_close(settings(x.float()).double(), whole, rtol=0, atol=1e-3)


def test_presets_have_the_papers_sizes_and_the_released_values():
    sizes = {name: s.shape(s.samples or 16000) for name, s in PRESETS.items()}
    assert sizes == {"emg": (67, 127), "emg-released": (65, 127), "audio": (64, 107), "speech": (64, 101)}
    x = noise(2, 1536) + 3
    released = signal.spectrogram(x.numpy(), fs=1000, nperseg=16, noverlap=4, nfft=128)[
        2
    ]  # as the released code calls it
    np.testing.assert_allclose(get_preset("emg-released")(x)[:, 0] * 512 / 1000, released, rtol=1e-9, atol=1e-15)
    audio = get_preset("audio")(noise(2, 47040))
    assert audio.shape == (2, 1, 64, 107)
    assert audio.isfinite().all()
    assert mel_filters(64, 1024, 44100).amax(1).min() > 0  # no filter of the preset is empty
    assert get_preset("audio")(torch.zeros(1, 47040)).unique().tolist() == pytest.approx([(-100 + 14.8) / 19.895])


def test_settings_survive_json():
    for settings in PRESETS.values():
        assert Spectrogram.from_config(json.loads(json.dumps(settings.to_config()))) == settings
    with pytest.raises(ConfigError, match=r"unknown setting of a spectrogram 'windw'. Did you mean 'window'"):
        Spectrogram.from_config({"rate": 1, "windw": 4, "hop": 2})
    with pytest.raises(ConfigError, match="missing 1 required positional argument: 'hop'"):
        Spectrogram.from_config({"rate": 1, "window": 4})


@given(
    window=st.integers(2, 40),
    hop=st.integers(1, 60),
    more=st.integers(0, 9),
    centre=st.booleans(),
    mels=st.sampled_from([0, 3]),
    at=st.integers(0, 99),
    value=st.sampled_from([torch.nan, torch.inf, -torch.inf]),
)
def test_a_value_that_is_not_finite_is_named_wherever_it_lies(window, hop, more, centre, mels, at, value):
    settings = Spectrogram(50, window, hop, window + more, centre=centre, mels=mels, decibel=True)
    x = noise(3, 100).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SidelightWarning)  # filters that no bin falls into
        assert settings(x).isfinite().all()
        x[1, at] = value
        with pytest.raises(DataError, match=f"row 1, sample {at} is {value:g} .1 such values"):
            settings(x)


def test_values_whose_sum_alone_is_too_large_are_no_mistake():
    x = torch.full((2, 64), 3e38)
    assert Spectrogram(50, 8, 4)(x).isinf().any()


def test_mistakes_are_named():
    settings = Spectrogram(512, 64, 32)
    x = noise(4, 2, 128)
    x[2, 1, 7] = torch.nan
    with pytest.raises(DataError, match="row 2, channel 1, sample 7 is nan"):
        settings(x)
    with pytest.raises(DataError, match="signals of 63 samples; a spectrogram of window 64 needs 64"):
        settings(noise(1, 63))
    with pytest.raises(DataError, match=r"signals of 2816 samples; these settings read 1536 \(3 s at 512 Hz\)"):
        get_preset("emg")(noise(1, 2816))
    for wrong in (noise(128), noise(0, 128), noise(1, 1, 1, 128)):
        with pytest.raises(DataError, match=r"expected \(B, samples\) or \(B, C, samples\)"):
            settings(wrong)
    for change in ({"rate": 0}, {"hop": 0}, {"n_fft": 63}, {"window": 1}, {"std": 0}, {"mels": -1}, {"floor": 0}):
        with pytest.raises(ConfigError, match=f"a spectrogram with {next(iter(change))} = "):
            replace(settings, **change)
    with pytest.raises(ConfigError, match=r"unknown value of taper 'han'. Did you mean 'hann'"):
        replace(settings, taper="han")
    with pytest.raises(ConfigError, match=r"unknown spectrogram preset 'emgg'. Did you mean 'emg'"):
        get_preset("emgg")


def test_mels_are_librosas_documented_values():
    np.testing.assert_allclose(hz_to_mel([110, 220, 440], "slaney"), [1.65, 3.3, 6.6])
    np.testing.assert_allclose(
        mel_to_hz([1, 2, 3, 4, 5], "slaney"), [66.667, 133.333, 200.0, 266.667, 333.333], rtol=1e-4
    )
    # librosa.mel_frequencies(n_mels=40), from its documentation
    documented = [0.0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855]
    documented += [853.173, 938.49, 1024.856, 1119.114, 1222.042, 1334.436, 1457.167, 1591.187, 1737.532, 1897.337]
    documented += [2071.84, 2262.393, 2470.47, 2697.686, 2945.799, 3216.731, 3512.582, 3835.643, 4188.417, 4573.636]
    documented += [4994.285, 5453.621, 5955.205, 6502.92, 7101.009, 7754.107, 8467.272, 9246.028, 10096.408, 11025.0]
    edges = mel_to_hz(np.linspace(0, float(hz_to_mel(11025, "slaney")), 40), "slaney")
    np.testing.assert_allclose(edges, documented, atol=6e-4)
    assert hz_to_mel(1000) == pytest.approx(1000, abs=0.02)  # what the scale was made for


@given(st.floats(0, 20000), st.sampled_from(["htk", "slaney"]))
def test_mels_and_hz_are_inverse_and_rise(hz, scale):
    assert mel_to_hz(hz_to_mel(hz, scale), scale) == pytest.approx(hz, abs=1e-6)
    assert hz_to_mel(hz + 1, scale) > hz_to_mel(hz, scale)


def test_mel_filters_are_triangles():
    peaks = mel_filters(20, 2**14, 16000).double()
    assert peaks.amax(1).min() > 0.97
    np.testing.assert_allclose(
        peaks[:, 200:6000].sum(0)[:2000], 1, atol=1e-5
    )  # neighbours share what lies between them
    area = mel_filters(20, 2**14, 16000, scale="slaney").double().sum(1) * 16000 / 2**14
    np.testing.assert_allclose(area, 1, rtol=1e-3)


def test_filters_that_no_bin_falls_into_are_told():
    with pytest.warns(SidelightWarning, match=r"\d+ of 128 mel filters lie between two bins 125 Hz apart"):
        mel_filters(128, 128, 16000)
    with pytest.raises(ConfigError, match="4 mel filters from 100 to 9000 Hz at a sampling rate of 16000"):
        mel_filters(4, 512, 16000, 100, 9000)
    with pytest.raises(ConfigError, match="unknown mel scale 'slany'"):
        mel_filters(4, 512, 16000, scale="slany")


@pytest.mark.parametrize(("scale", "norm"), [("htk", None), ("slaney", "slaney")])
def test_against_librosa(scale, norm):
    librosa = pytest.importorskip("librosa", reason="librosa, an oracle of mel filters, is not installed")
    expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=40, fmin=20, htk=scale == "htk", norm=norm)
    np.testing.assert_allclose(mel_filters(40, 512, 16000, 20, scale=scale), expected, atol=1e-6)
    x = noise(1, 16000)
    settings = Spectrogram(16000, 400, 160, 512, centre=True, mels=40, low=20, mel_scale=scale)
    told = librosa.feature.melspectrogram(
        y=x[0].numpy(), sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=20,
        htk=scale == "htk", norm=norm, pad_mode="reflect",
    )  # fmt: skip
    np.testing.assert_allclose(settings(x)[0, 0], told, rtol=1e-4)
