"""Constant means constant in every unit: the same rule in `inspect`, in `run` and for the targets of a regression."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from sidelight.data import Dataset, Preprocessor
from sidelight.data.scaling import (
    RESOLUTION,
    compute_pixel_scaling,
    compute_scaling,
    compute_statistics_rms,
    is_constant,
)
from sidelight.data.statistics import STANDARD, window_statistics
from sidelight.errors import SidelightWarning
from sidelight.inspection import inspect
from sidelight.tasks import Regression

N = 60
TRAIN = np.arange(40)
UNITS = (1e-30, 1e-13, 1e-6, 1.0, 1e6, 1e30)


def make(x: np.ndarray, **more: Any) -> Dataset:
    target = np.arange(N) % 2
    return Dataset("toy", {"meg": x}, target, target >= 0, "classification", ("a", "b"), **more)


def told(center: float, spread: float) -> np.ndarray:
    """(N, 3) columns of which the first tells the class: center ± spread."""
    noise = np.random.default_rng(0).normal(size=(N, 3))
    noise[:, 0] = np.arange(N) % 2 * 2 - 1
    return center + spread * noise


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_changes_nothing_that_a_network_reads(unit: float) -> None:
    given = {"train": make(told(0, 1)), "scaled": make(told(0, unit))}
    read = [d.batch(Preprocessor.fit(d, TRAIN, ["meg"])).inputs["meg"] for d in given.values()]
    torch.testing.assert_close(read[0], read[1], rtol=1e-5, atol=1e-5)
    assert read[1].std() > 0.5


@pytest.mark.parametrize("unit", [1e-13, 1e-6, 1.0, 1e6])
def test_a_unit_changes_nothing_of_window_statistics_but_their_logarithms(unit: float) -> None:
    x = np.random.default_rng(0).normal(size=(N, 16, 2))
    parts = ("moments", "range", "change", "trend", "quartiles", "magnitude")
    given = [make(x), make(x * unit)]
    read = [d.batch(Preprocessor.fit(d, TRAIN, ["meg"], {"meg"}, parts=parts)).inputs["meg"] for d in given]
    torch.testing.assert_close(read[0], read[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("center", "spread"), [(0, 1e-13), (1e6, 1), (-1e6, 1), (5e-8, 1e-13), (0, 1e-30), (1e30, 1e25)]
)
def test_small_units_and_large_offsets_are_read_by_run_and_inspect_alike(center: float, spread: float) -> None:
    d = make(told(center, spread))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = Preprocessor.fit(d, TRAIN, ["meg"])
    first = p({"meg": torch.from_numpy(d.inputs["meg"])})["meg"][:, 0]
    # ±1 about the mean, up to what float32 keeps of the sum
    np.testing.assert_allclose(first.sign(), np.arange(N) % 2 * 2 - 1)
    np.testing.assert_allclose(first.abs(), np.ones(N), atol=0.2)
    found = inspect(d)
    assert found.modalities[0].constant == 0
    assert found.strengths[0].mean == 1.0


@pytest.mark.parametrize("value", [0.0, 1e-13, 1.0, 0.1, 1e6, -1e30, 2e-38])
def test_a_constant_is_a_constant_in_every_unit(value: float) -> None:
    x = told(0, 1)
    x[:, 1] = value
    x[:, 2] = np.float32(value) * (1 + np.float32(2**-23) * (np.arange(N) % 2))  # one rounding apart
    d = make(x)
    p = Preprocessor.fit(d, TRAIN, ["meg"])
    assert (p.state_dict()["scale_0"][0] != 0).tolist() == [True, False, False]
    assert inspect(d, strength=False).modalities[0].constant == 2
    assert not p({"meg": torch.full((1, 3), 1e9)})["meg"][:, 1:].any()


def test_what_float32_does_not_keep_is_constant_in_both() -> None:
    x = told(1e9, 1)  # float32 keeps multiples of 64 there
    d = make(x)
    assert len(np.unique(d.inputs["meg"])) == 1
    with pytest.warns(SidelightWarning, match="'meg' is constant .* 7 digits: subtract a large offset"):
        Preprocessor.fit(d, TRAIN, ["meg"])
    assert inspect(d, strength=False).modalities[0].constant == 3


@pytest.mark.parametrize("value", [36.6, 9.81, 1e-13, 1e6])
def test_roundings_of_window_statistics_are_no_signal(value: float) -> None:
    """A channel that is constant in every row, at another level each: what ought to be 0 holds its roundings."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy((value * (1 + 0.1 * rng.normal(size=(400, 1, 2))) * np.ones((400, 50, 1))).astype(np.float32))
    f = window_statistics(x)
    scale = compute_scaling(f, None, compute_statistics_rms(x, None, f, STANDARD))[1].view(3, -1)
    names = ["mean", "std", "low", "high", "step", "step's", "trend", "q1", "q2", "q3", *("spectrum" for _ in range(8))]
    for row in scale[:2]:
        assert [n for n, s in zip(names, row.tolist()) if s != 0] == ["mean", "low", "high", "q1", "q2", "q3"]


@pytest.mark.parametrize("unit", [1e-13, 1.0, 1e7])
def test_a_spectrum_of_large_numbers_keeps_what_it_tells(unit: float) -> None:
    """The logarithm of an amplitude of 1e7 varies by 0.01 where the amplitude varies by 1 %."""
    rng = np.random.default_rng(1)
    wave = np.sin(2 * np.pi * 3 * np.arange(50) / 50)[None, :, None]
    x = torch.from_numpy((unit * (1 + 0.01 * rng.normal(size=(200, 1, 1))) * wave).astype(np.float32))
    f = window_statistics(x, parts=("spectrum",))
    scale = compute_scaling(f, None, compute_statistics_rms(x, None, f, ("spectrum",)))[1]
    assert scale[2] != 0


@pytest.mark.parametrize("standardize", ["train", "group"])
@pytest.mark.parametrize("shape", [(3,), (9, 2), (1, 4, 4)])
def test_a_modality_that_is_constant_on_the_training_rows_is_said_once_by_name(
    standardize: str, shape: tuple[int, ...]
) -> None:
    x = np.ones((N, *shape))
    x[40:] = np.random.default_rng(0).normal(size=(20, *shape))  # the other rows vary
    d = make(x, group=np.repeat(list("abcdef"), 10))
    signals = {"meg"} if len(shape) == 2 else set()
    with pytest.warns(SidelightWarning) as caught:
        Preprocessor.fit(d, TRAIN, ["meg"], signals, standardize)
    assert len(caught) == 1
    assert "toy: modality 'meg' is constant on the training rows" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Preprocessor.fit(d, np.arange(50), ["meg"], signals, "train")


def test_the_sentence_is_the_same_in_every_fold() -> None:
    d = make(np.ones((N, 2)))
    said = []
    for rows in (TRAIN, np.arange(20, N)):
        with pytest.warns(SidelightWarning) as caught:
            Preprocessor.fit(d, rows, ["meg"])
        said.append([str(w.message) for w in caught])
    assert said[0] == said[1]


def test_images_in_every_unit() -> None:
    x = torch.from_numpy(np.random.default_rng(0).random((5, 2, 4, 4)))
    x[:, 1] = 3
    for unit in (1e-13, 1.0, 1e6):
        mean, scale = compute_pixel_scaling((x * unit).float(), None)
        std = x[:, 0].std(correction=0) * unit
        assert float(scale[0]) == pytest.approx(float(1 / std), rel=1e-5)
        assert scale[1] == 0
        assert float(mean[0]) == pytest.approx(float(x[:, 0].mean() * unit), rel=1e-5)


def test_the_bound_is_a_ratio() -> None:
    one = torch.ones((), dtype=torch.float64)
    for size in (1e-25, 1.0, 1e25):
        assert bool(is_constant(0.99 * RESOLUTION * size * one, size * one))
        assert not bool(is_constant(1.01 * RESOLUTION * size * one, size * one))


@pytest.mark.parametrize("unit", UNITS)
def test_targets_of_a_regression_are_scaled_in_every_unit(unit: float) -> None:
    y = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]) * unit
    task = Regression(("a", "b")).fit(y, torch.ones(3, dtype=torch.bool))
    assert task.scale[0] == pytest.approx(unit * np.sqrt(2 / 3), rel=1e-5)
    assert task.scale[1] == 1.0
