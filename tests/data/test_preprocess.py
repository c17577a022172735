"""Preprocessing is fitted on the given rows only, reads nothing else, and can be stored and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sidelight.data import Dataset, Preprocessor
from sidelight.data.statistics import PARTS, STANDARD, statistics_width, window_statistics
from sidelight.errors import ConfigError, DataError

N = 24
TRAIN = np.arange(0, 16)


def make(seed: int = 0, **changes: Any) -> Dataset:
    rng = np.random.default_rng(seed)
    voice = rng.normal(3, 2, (N, 9, 2))
    face = rng.normal(-1, 5, (N, 4))
    face[:, 3] = 7
    settings: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": face, "voice": voice},
        "target": np.arange(N) % 2,
        "labelled": np.ones(N, bool),
        "task": "classification",
        "class_names": ("a", "b"),
        "present": {"face": rng.random(N) > 0.2},
        "lengths": {"voice": rng.integers(3, 10, N)},
        "group": np.repeat(list("abcdef"), 4),
    }
    return Dataset(**(settings | changes))


def test_vectors_and_signals_are_standardised_over_what_is_there() -> None:
    d = make()
    p = Preprocessor.fit(d, TRAIN, d.modalities)
    batch = d.batch(p)
    face = batch.inputs["face"][TRAIN][batch.present["face"][TRAIN]]
    assert torch.allclose(face[:, :3].mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(face[:, :3].std(0, correction=0), torch.ones(3), atol=1e-5)
    valid = torch.arange(9)[None] < batch.lengths["voice"][:, None]
    voice = batch.inputs["voice"][:16][valid[:16]]
    assert torch.allclose(voice.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(voice.std(0, correction=0), torch.ones(2), atol=1e-5)
    assert not batch.inputs["voice"][~valid].any()
    assert not batch.inputs["face"][~batch.present["face"]].any()
    assert p.shapes == {"face": (4,), "voice": (9, 2)}
    assert p.variable == ("voice",)


def test_a_constant_column_becomes_zero_even_where_new_rows_differ() -> None:
    d = make()
    p = Preprocessor.fit(d, TRAIN, ["face"])
    assert not p({"face": torch.full((2, 4), 1e6)})["face"][:, 3].any()


def test_extreme_values_are_clipped() -> None:
    p = Preprocessor.fit(make(), TRAIN, ["face"])
    assert p({"face": torch.full((1, 4), 1e9)})["face"].max() == 10


@pytest.mark.parametrize("standardize", ["train", "group"])
@pytest.mark.parametrize("statistics", [set(), {"voice"}])
def test_fit_sees_only_the_given_rows(standardize: str, statistics: set[str]) -> None:
    d, other = make(), make()
    rest = np.setdiff1d(np.arange(N), TRAIN)
    for m in d.modalities:
        other.inputs[m][rest] = 1e3
        other.present[m][rest] = True
    other.lengths["voice"][rest] = 9
    a, b = (Preprocessor.fit(x, TRAIN, x.modalities, statistics, standardize, "mean") for x in (d, other))
    assert a.to_config() == b.to_config()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key
    other.inputs["face"][TRAIN[0]] += 1
    other.present["face"][TRAIN[0]] = True
    changed = Preprocessor.fit(other, TRAIN, d.modalities, statistics, standardize, "mean")
    assert any(not torch.equal(v, changed.state_dict()[k]) for k, v in a.state_dict().items())


def test_imputation_puts_the_train_rows_mean() -> None:
    face = np.arange(N * 2, dtype=float).reshape(N, 2)
    face[3, 0] = face[20, 1] = np.nan
    d = make(inputs={"face": face}, present={}, lengths={}, impute="mean")
    p = Preprocessor.fit(d, TRAIN, ["face"])
    out = d.batch(p).inputs["face"]
    assert torch.isfinite(out).all()
    mean = np.nanmean(face[TRAIN], 0)
    assert torch.allclose(p.state_dict()["fill_0"], torch.tensor(mean, dtype=torch.float32))
    assert out[20, 1] == pytest.approx(0, abs=1e-5)
    assert torch.isnan(
        Preprocessor.fit(d, TRAIN, ["face"], impute="no")({"face": torch.tensor(face).float()})["face"][3, 0]
    )


def test_imputation_inside_signals_reaches_the_statistics() -> None:
    voice = np.random.default_rng(0).normal(size=(N, 9, 2))
    voice[5, 4, 1] = np.nan
    d = make(inputs={"voice": voice}, present={}, lengths={}, impute="mean")
    p = Preprocessor.fit(d, TRAIN, ["voice"], {"voice"})
    assert torch.isfinite(d.batch(p).inputs["voice"]).all()


def test_group_standardisation_uses_each_groups_own_rows() -> None:
    d = make(present={}, lengths={})
    p = Preprocessor.fit(d, TRAIN, d.modalities, {"voice"}, "group")
    assert p.groups == list("abcd")
    out = d.batch(p).inputs["face"][:, :3]
    for g in range(6):  # the last two groups were not fitted: their own rows, given here, say
        rows = out[4 * g : 4 * g + 4]
        assert torch.allclose(rows.mean(0), torch.zeros(3), atol=1e-5)
        assert torch.allclose(rows.std(0, correction=0), torch.ones(3), atol=1e-4)
    known = {m: torch.from_numpy(x[:1]) for m, x in d.inputs.items()}
    assert torch.equal(p(known, group=["a"])["face"], d.batch(p).inputs["face"][:1])


def test_a_new_group_needs_several_rows_or_calibration() -> None:
    d = make(present={}, lengths={})
    p = Preprocessor.fit(d, TRAIN, ["face"], standardize="group")
    row = {"face": torch.from_numpy(d.inputs["face"][20:21])}
    with pytest.raises(DataError, match=r"group 'f' is new and has a single row.*calibrate"):
        p(row, group=["f"])
    with pytest.raises(ConfigError, match="needs the group of every row"):
        p(row)
    p.calibrate({"face": torch.from_numpy(d.inputs["face"][20:])}, {}, {}, ["f"] * 4)
    alone = p(row, group=["f"])["face"]
    assert torch.allclose(alone, d.batch(p).inputs["face"][20:21], atol=1e-6)


def test_a_group_that_lacks_a_modality_stays_zero() -> None:
    present = np.ones(N, bool)
    present[:4] = False
    d = make(present={"face": present}, lengths={})
    out = d.batch(Preprocessor.fit(d, TRAIN, ["face"], standardize="group"), ["face"]).inputs["face"]
    assert not out[:4].any()
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("standardize", ["train", "group"])
def test_stored_and_restored_it_does_the_same(standardize: str) -> None:
    d = make()
    p = Preprocessor.fit(d, TRAIN, d.modalities, {"voice"}, standardize)
    q = Preprocessor.from_config(json.loads(json.dumps(p.to_config())))
    q.load_state_dict(p.state_dict())
    for m, x in d.batch(p).inputs.items():
        assert torch.equal(x, d.batch(q).inputs[m])


def test_a_subset_does_the_same_to_its_part() -> None:
    d = make()
    p = Preprocessor.fit(d, TRAIN, d.modalities, {"voice"})
    part = p.subset(["voice"])
    assert part.modalities == ("voice",)
    assert torch.equal(d.batch(part, ["voice"]).inputs["voice"], d.batch(p).inputs["voice"])
    with pytest.raises(ConfigError, match="Did you mean 'voice'"):
        p.subset(["voise"])


def test_errors_name_the_modality_and_the_shapes() -> None:
    d = make()
    p = Preprocessor.fit(d, TRAIN, d.modalities)
    with pytest.raises(ConfigError, match="Did you mean 'face'"):
        p({"fase": torch.ones(1, 4)})
    with pytest.raises(ConfigError, match=r"'face' has rows of shape \(5,\); expected \(4,\)"):
        p({"face": torch.ones(1, 5)})
    with pytest.raises(ConfigError, match="'face' has rows of shape"):
        Preprocessor.fit(d, TRAIN, ["face"], {"face"})
    with pytest.raises(ConfigError, match="needs groups"):
        Preprocessor.fit(make(group=None), TRAIN, ["face"], standardize="group")
    with pytest.raises(ConfigError, match="Did you mean 'group'"):
        Preprocessor.fit(d, TRAIN, ["face"], standardize="grup")
    with pytest.raises(DataError, match="'face' is absent from all 1 train rows"):
        Preprocessor.fit(d, np.flatnonzero(~d.present["face"])[:1], ["face"])
    with pytest.raises(ConfigError, match="Did you mean 'trend'"):
        window_statistics(torch.ones(1, 4, 1), parts=["trand"])


# --- window statistics ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "parts", [STANDARD, *((part,) for part in PARTS if part != "magnitude"), ("magnitude", "trend")]
)
def test_their_number_is_known_without_a_signal(channels: int, parts: tuple[str, ...]) -> None:
    assert statistics_width(channels, parts) == window_statistics(torch.ones(1, 9, channels), None, parts).shape[1]


def test_window_statistics_against_numpy() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(2, 3, (5, 40, 1)))
    a = x[..., 0].numpy()

    def of(part: str) -> np.ndarray:
        return window_statistics(x, None, [part]).numpy()

    np.testing.assert_allclose(of("moments"), np.stack([a.mean(1), a.std(1)], 1))
    np.testing.assert_allclose(of("range"), np.stack([a.min(1), a.max(1)], 1))
    step = np.diff(a)
    np.testing.assert_allclose(of("change"), np.stack([np.abs(step).mean(1), step.std(1)], 1))
    slope = [np.polyfit(np.arange(40), row, 1)[0] * 40 for row in a]
    np.testing.assert_allclose(of("trend")[:, 0], slope)
    np.testing.assert_allclose(of("quartiles"), np.quantile(a, [0.25, 0.5, 0.75], axis=1, method="lower").T)
    amplitude = np.abs(np.fft.rfft(a - a.mean(1, keepdims=True)))[:, 1:9] * 2 / 40
    np.testing.assert_allclose(of("spectrum"), np.log1p(amplitude), rtol=1e-6)


def test_a_pure_tone_has_one_frequency_and_its_amplitude() -> None:
    tone = 3 * torch.sin(2 * np.pi * 4 * torch.arange(64, dtype=torch.float64) / 64).view(1, 64, 1)
    spectrum = window_statistics(tone, None, ["spectrum"])[0].expm1()
    assert spectrum.argmax() == 3
    assert spectrum[3] == pytest.approx(3)
    assert spectrum.sum() == pytest.approx(3)


def test_magnitude_adds_a_channel_that_rotation_does_not_change() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 20, 3)))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    parts = ("moments", "magnitude")
    a, b = (window_statistics(v, None, parts).view(3, 4, 2) for v in (x, x @ torch.from_numpy(turn)))
    assert torch.allclose(a[:, 3], b[:, 3])
    assert not torch.allclose(a[:, :3], b[:, :3])


@given(st.integers(1, 12), st.integers(0, 6), st.booleans())
def test_padding_and_batch_mates_change_nothing(length: int, more: int, garbage: bool) -> None:
    rng = np.random.default_rng(length)
    x = torch.from_numpy(rng.normal(size=(1, length, 2)))
    alone = window_statistics(x, torch.tensor([length]), window=12)
    padding = torch.full((1, more, 2), 99.0 if garbage else 0.0, dtype=x.dtype)
    padded = torch.cat([torch.cat([x, padding], 1), torch.randn(1, length + more, 2, dtype=x.dtype)])
    together = window_statistics(padded, torch.tensor([length, length + more]), window=12)
    assert torch.allclose(alone[0], together[0])
    assert torch.isfinite(together).all()


def test_rows_without_any_step_stay_finite() -> None:
    assert torch.isfinite(window_statistics(torch.zeros(2, 5, 2), torch.tensor([0, 1]), PARTS)).all()
    assert torch.isfinite(window_statistics(torch.zeros(1, 1, 1))).all()


def test_the_standard_set_is_made_of_known_parts() -> None:
    assert set(STANDARD) <= set(PARTS)


@pytest.mark.slow
def test_onnx_gives_the_same(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    d = make(present={})
    p = Preprocessor.fit(d, TRAIN, d.modalities, {"voice"}, impute="mean").eval()

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = p

        def forward(self, face: torch.Tensor, voice: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, ...]:
            out = self.p({"face": face, "voice": voice}, {"voice": length})
            return out["face"], out["voice"]

    arrays = [torch.from_numpy(x) for x in (d.inputs["face"], d.inputs["voice"], d.lengths["voice"])]
    rows = torch.export.Dim("rows", min=2)
    shapes = tuple({0: rows} for _ in arrays)
    example = tuple(a[:5] for a in arrays)
    torch.onnx.export(Plain(), example, str(tmp_path / "p.onnx"), dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = ort.InferenceSession(str(tmp_path / "p.onnx"))
    found = session.run(None, {i.name: a.numpy() for i, a in zip(session.get_inputs(), arrays)})
    for a, b in zip(found, Plain()(*arrays)):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4)
