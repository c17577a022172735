"""Frames of sound: the same however they are computed, and whatever follows the end of a recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sidelight.data import Dataset
from sidelight.data.preprocess import Preprocessor
from sidelight.signals.sequence import compute_sequence, count_frames
from sidelight.signals.spectrogram import get_preset


def sound(rows=3, samples=4000, seed=0):
    x = torch.randn(rows, samples, 1, generator=torch.Generator().manual_seed(seed)) * 0.1
    return x * torch.tensor([1.0, 1e-3, 3.0])[:rows, None, None]


def test_frames_are_log_mel_powers_of_25_ms_every_10_ms():
    x = sound()
    preset = get_preset("speech")
    assert (preset.window / preset.rate, preset.hop / preset.rate) == (0.025, 0.01)
    power = torch.stft(
        x[..., 0], 512, 160, 400, torch.hann_window(400), center=True, pad_mode="constant", return_complex=True
    )
    bands = preset.filters() @ power.abs().square()
    expected = 10 * bands.clamp(min=1e-7).log10()
    torch.testing.assert_close(compute_sequence(x, "speech"), expected.transpose(1, 2), rtol=0, atol=1e-3)
    assert preset.filters().amax(1).min() > 0  # no band is empty


def test_a_graph_computes_what_training_computed(monkeypatch):
    x = torch.cat([sound(), torch.zeros(1, 4000, 1)])
    trained = compute_sequence(x, "speech")
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(compute_sequence(x, "speech"), trained, rtol=0, atol=1e-3)


def test_padding_changes_no_frame():
    x = sound()
    whole, shorter = x.clone(), x[:, :2345]
    whole[:, 2345:] = 0
    frames = int(count_frames(torch.tensor(2345), "speech"))
    assert frames == 1 + 2345 // 160
    alone = compute_sequence(shorter, "speech")
    assert alone.shape == (3, frames, 64)
    torch.testing.assert_close(compute_sequence(whole, "speech")[:, :frames], alone, rtol=0, atol=1e-3)
    assert count_frames(torch.tensor([0, 1, 160]), "speech").tolist() == [0, 1, 2]


def voices(**changes):
    lengths = np.array([4000, 2500, 3200, 1600, 0, 4000])
    x = np.concatenate([sound(3).numpy(), sound(3, seed=1).numpy()])
    for row, n in zip(x, lengths):
        row[n:] = 0
    given = {
        "lengths": {"voice": lengths},
        "present": {"voice": lengths > 0},
        "schema": {"voice": {"spectrogram": "speech"}},
        "rates": {"voice": 16000.0},
    }
    return Dataset(
        "x", {"voice": x}, np.arange(6) % 2, np.ones(6, bool), "classification", ("a", "b"), **given | changes
    )


def test_networks_read_standardised_frames():
    data = voices()
    fitted = Preprocessor.fit(data, np.arange(5), ["voice"])
    assert fitted.shapes == {"voice": (26, 64)}
    batch = data.batch(fitted)
    frames, lengths = batch.inputs["voice"], batch.lengths["voice"]
    assert lengths.tolist() == [26, 16, 21, 11, 0, 26]
    assert frames.shape == (6, 26, 64)
    valid = torch.arange(26) < lengths[:5, None]
    torch.testing.assert_close(frames[:5][valid].mean(0), torch.zeros(64), rtol=0, atol=1e-3)
    torch.testing.assert_close(frames[:5][valid].std(0, correction=0), torch.ones(64), rtol=1e-3, atol=1e-3)
    assert not frames[4].any()
    assert not frames[1, 16:].any()
    # Rows that are preprocessed when they are read have the same bits.
    later = data.batch(fitted, deferred=True).materialize()
    assert torch.equal(later.inputs["voice"], frames)
    assert torch.equal(later.lengths["voice"], lengths)


def test_window_statistics_are_those_of_the_frames():
    data = voices()
    fitted = Preprocessor.fit(data, np.arange(6), ["voice"], statistics=["voice"], parts=("moments",))
    assert fitted.shapes == {"voice": (128,)}
    assert data.batch(fitted).inputs["voice"].shape == (6, 128)
    assert data.batch(fitted).lengths == {}


def test_a_student_stores_it_and_files_of_before_have_none():
    fitted = Preprocessor.fit(voices(), np.arange(6), ["voice"])
    config = fitted.to_config()
    assert config["modalities"]["voice"]["spectrogram"] == "speech"
    again = Preprocessor.from_config(config)
    assert again.plans == fitted.plans
    del config["modalities"]["voice"]["spectrogram"]
    assert Preprocessor.from_config(config).shapes == {"voice": (4000, 1)}


def test_the_level_of_sound_is_in_its_own_unit():
    plan = Preprocessor.fit(voices(), np.arange(6), ["voice"]).plans["voice"]
    assert plan.ranges is not None
    found = plan.ranges.find_out_of_range(sound().numpy() * 32768, None, None)
    assert "standard deviation" in {f.what for f in found}


@pytest.mark.parametrize("preset", ["audio", ""])
def test_images_and_plain_sound_stay_as_they_are(preset):
    assert voices(schema={"voice": {"spectrogram": preset}}).sequence_preset("voice") == ""
