"""Drift is removed window by window, from nothing but the window, and the student removes it alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sidelight.data import Dataset
from sidelight.data.detrend import KINDS, remove_drift
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError

N, T = 24, 20
RNG = np.random.default_rng(0)


def drifting(offset: float = 30.0, lengths: bool = True) -> Dataset:
    """A skin temperature that rises from row to row, with a class in its curvature; rows of varying length."""
    t = np.linspace(-1, 1, T)
    target = np.arange(N) % 2
    rows = offset + np.arange(N)[:, None] + 0.3 * np.arange(N)[:, None] * t + target[:, None] * t**2
    length = RNG.integers(8, T + 1, N) if lengths else np.full(N, T)
    values = np.where(np.arange(T) < length[:, None], rows, 0)[..., None].astype(np.float32)
    more = {"lengths": {"temp": length}} if lengths else {}
    group = np.array([f"g{i // 2}" for i in range(N)])
    return Dataset(
        "skin", {"temp": values}, target, np.ones(N, bool), "classification", ("a", "b"), group=group, **more
    )


@pytest.mark.parametrize("kind", KINDS)
def test_drift_is_removed_of_valid_steps_alone(kind: str) -> None:
    x = torch.from_numpy(RNG.normal(size=(5, T, 2)).astype(np.float32)) + 30
    length = torch.tensor([T, 11, 2, 1, 0])
    out = remove_drift(x, kind, length)
    for i, n in enumerate(length.tolist()):
        row, t = x[i, :n].double().numpy(), np.arange(n)
        assert not out[i, n:].any()
        if not n:
            continue
        if kind == "difference":
            expected = np.diff(row, axis=0, prepend=row[:1])
        else:
            degree = 1 if kind == "line" and n > 1 else 0
            expected = row - np.stack([np.polyval(np.polyfit(t, c, degree), t) for c in row.T], 1)
        np.testing.assert_allclose(out[i, :n], expected, atol=2e-5)
    moved = remove_drift(x + 5, kind, length)
    torch.testing.assert_close(moved, out, atol=2e-5, rtol=0)
    gap = x.clone()
    gap[0, 4] = torch.nan
    filled = remove_drift(gap, kind, length, gaps=True)
    assert filled.isfinite().all()
    assert not filled[0, 4].any()


@pytest.mark.parametrize("statistics", [set(), {"temp"}])
@pytest.mark.parametrize("kind", ["line", "difference"])
def test_rows_read_at_once_and_one_by_one_have_the_same_bits(kind: str, statistics: set[str]) -> None:
    d, train = drifting(), np.arange(0, N, 3)
    p = Preprocessor.fit(d, train, ["temp"], statistics, detrend={"temp": kind})
    whole = d.batch(p)
    later = d.batch(p, deferred=True)
    for rows in (np.arange(N), np.array([3]), np.array([7, 2])):
        read = later.index_select(torch.from_numpy(rows)).materialize()
        steps = read.inputs["temp"].shape[1]
        expected = whole.inputs["temp"][rows]
        assert torch.equal(read.inputs["temp"], expected if statistics else expected[:, :steps])
    restored = Preprocessor.from_config(p.to_config())
    restored.load_state_dict(p.state_dict())
    x, length = torch.from_numpy(d.inputs["temp"]), torch.from_numpy(d.lengths["temp"])
    assert torch.equal(restored({"temp": x}, {"temp": length})["temp"], whole.inputs["temp"])


def test_drift_is_no_clock_and_a_constant_signal_stays_constant() -> None:
    d, train = drifting(lengths=False), np.arange(0, N, 3)
    rising = d.batch(Preprocessor.fit(d, train, ["temp"])).inputs["temp"].mean((1, 2))
    assert np.corrcoef(rising, np.arange(N))[0, 1] > 0.99
    level = d.batch(Preprocessor.fit(d, train, ["temp"], detrend={"temp": "line"})).inputs["temp"]
    assert abs(np.corrcoef(level.square().mean((1, 2)), np.arange(N))[0, 1]) < 0.5
    flat = drifting(lengths=False)
    flat.inputs["temp"][:] = 1e6 + np.arange(N, dtype=np.float32)[:, None, None]  # what is left is rounding
    with pytest.warns(UserWarning, match="'temp' is constant"):
        p = Preprocessor.fit(flat, train, ["temp"], detrend={"temp": "line"})
    assert not flat.batch(p).inputs["temp"].any()


def test_what_is_wrong_is_named() -> None:
    d = drifting()
    with pytest.raises(ConfigError, match=r"value of detrend.temp 'linear'. Did you mean 'line'"):
        Preprocessor.fit(d, np.arange(4), ["temp"], detrend={"temp": "linear"})
    vectors = Dataset("v", {"face": np.zeros((4, 3))}, np.arange(4) % 2, np.ones(4, bool), "classification", ("a", "b"))
    with pytest.raises(ConfigError, match=r"rows of 'face' have shape \(3,\); only signals"):
        Preprocessor.fit(vectors, np.arange(4), ["face"], detrend={"face": "line"})


@pytest.mark.slow
def test_the_exported_student_removes_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from helpers.small import make_data, study

    data = make_data(n=48, groups=8)
    made = study(tmp_path / "run", data, available=["pulse"], privileged=["watch"], methods=["kl"], folds=2,
                 detrend={"pulse": "line"}, training={"epochs": 1})  # fmt: skip
    student = made.best().student
    assert student.preprocessor.plans["pulse"].detrend == "line"
    file = student.export(tmp_path / "student.onnx")
    x, length = data.inputs["pulse"][:3], data.lengths["pulse"][:3]
    given = {"pulse": x, "pulse_length": length}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    ramp = 5 * np.arange(x.shape[1], dtype=np.float32)[:, None]
    answers = [session.run(None, {n: {**given, "pulse": v}[n] for n in names})[0] for v in (x, x + 100, x + ramp)]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-3)
    np.testing.assert_allclose(answers[2], answers[0], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gaps", [False, True])
def test_padding_may_hold_anything(kind: str, gaps: bool) -> None:
    x, length = torch.randn(3, 9, 2), torch.tensor([9, 4, 1])
    expected = remove_drift(x, kind, length, gaps)
    for value in (torch.nan, torch.inf, 1e30):
        padded = x.clone()
        for row, n in enumerate(length):
            padded[row, n:] = value
        assert torch.equal(remove_drift(padded, kind, length, gaps), expected)
