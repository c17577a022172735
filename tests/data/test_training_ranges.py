"""What training saw travels with a student, and `predict` says where new rows are far from it."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sidelight import load
from sidelight.config import NetworkConfig
from sidelight.data import Dataset, Preprocessor
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.data.training_ranges import TrainingRanges
from sidelight.errors import SidelightWarning
from sidelight.export import Student, load_student
from sidelight.networks.build import build_network
from sidelight.recordings.registry import Signal
from sidelight.tasks import Classification

NAMES = ("heat", "rate", "skin", "breath")
PHONE_WATCH = ("phone_acc", "phone_gyro")


def make_student(data: Dataset, rows: np.ndarray, modality: str, **network: Any) -> Student:
    torch.manual_seed(0)
    signals = {modality} if data.inputs[modality].ndim == 3 and not network else set()
    p = Preprocessor.fit(data, rows, [modality], signals)
    config = NetworkConfig(width=8, **network)
    return Student(
        build_network(p.shapes, [modality], len(data.class_names), config), p, Classification(data.class_names)
    )


@pytest.fixture(scope="module")
def phones() -> tuple[Dataset, np.ndarray, np.ndarray]:
    data = load("phone-watch")
    assert data.group is not None
    test = np.isin(data.group, np.unique(data.group)[::5])
    return data, np.flatnonzero(~test), np.flatnonzero(test)


def said(student: Student, x: dict[str, np.ndarray], **how: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        student.predict(x, **how)
    return [str(w.message) for w in caught if issubclass(w.category, SidelightWarning)]


def test_the_range_is_two_quantiles_of_every_channel() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 30, 2)).astype(np.float32) * [1, 5] + [0, 100]
    length = rng.integers(5, 31, 200)
    there = rng.random(200) < 0.8
    x[~there] = 1e9
    for i, n in enumerate(length):
        x[i, n:] = -1e9  # is not read
    valid = np.concatenate([x[i, : length[i]] for i in np.flatnonzero(there)])
    found = TrainingRanges.fit(x, length, there)
    np.testing.assert_allclose(found.values, np.quantile(valid, [0.001, 0.999], axis=0).T, rtol=1e-6)
    assert TrainingRanges.from_config(json.loads(json.dumps(found.to_config()))) == found
    assert TrainingRanges.from_config(None) is None
    vectors = TrainingRanges.fit(valid, None, np.ones(len(valid), bool))
    np.testing.assert_allclose(vectors.values, found.values)


@pytest.mark.parametrize("modality", PHONE_WATCH)
def test_ordinary_rows_of_new_people_are_no_reason_to_warn(phones: Any, modality: str) -> None:
    data, train, test = phones
    x = data.inputs[modality]
    ranges = TrainingRanges.fit(x[train], None, np.ones(len(train), bool))
    alone = sum(bool(ranges.find_out_of_range(x[[i]])) for i in test)
    assert alone <= 0.005 * len(test)  # single rows: 0.13 % of phone_gyro, none of phone_acc over all folds
    for size in (4, 32, len(test)):
        assert not any(ranges.find_out_of_range(x[test[i : i + size]]) for i in range(0, len(test), size))
    for kind in range(5):  # hours of one activity
        assert not ranges.find_out_of_range(x[test[data.target[test] == kind]])


@pytest.mark.parametrize("factor", [1 / 9.81, 9.81, 1000, 1 / 1000, 0])
@pytest.mark.parametrize("rows", [1, 10, 300])
def test_acceleration_in_another_unit_is_said(phones: Any, factor: float, rows: int) -> None:
    data, train, test = phones
    ranges = TrainingRanges.fit(data.inputs["phone_acc"][train], None, np.ones(len(train), bool))
    for start in range(0, 300, 75):
        assert ranges.find_out_of_range(factor * data.inputs["phone_acc"][test[start : start + rows]])


@pytest.mark.parametrize("factor", [180 / np.pi, 1000, 1 / 1000, 0])
def test_rotation_in_another_unit_is_said(phones: Any, factor: float) -> None:
    data, train, test = phones
    ranges = TrainingRanges.fit(data.inputs["phone_gyro"][train], None, np.ones(len(train), bool))
    assert ranges.find_out_of_range(factor * data.inputs["phone_gyro"][test])


def test_predict_names_modality_what_was_given_the_range_and_the_unit(phones: Any) -> None:
    data, train, test = phones
    student = make_student(data, train, "phone_acc")
    x = data.inputs["phone_acc"][test]
    assert said(student, {"phone_acc": x}) == []
    (text,) = said(student, {"phone_acc": x / 9.81})
    assert text.startswith("'phone_acc' is far from the training rows: the norm over the channels is 1.0")
    assert "times less" in text
    assert "but was 9.58 to 12.1 m/s2 in training" in text
    assert "m/s2 at 50 Hz, axes rows x time x channels: give the rows in the same unit" in text


def test_a_sensor_that_stands_still_is_said_by_its_channel(phones: Any) -> None:
    data, train, test = phones
    student = make_student(data, train, "phone_acc")
    x = data.inputs["phone_acc"][test].copy()
    x[:, :, 1] = x[:, :, 1].mean()
    (text,) = said(student, {"phone_acc": x})
    assert "the standard deviation of channel 1 is 0" in text


def vectors(n: int = 400) -> Dataset:
    x = np.random.default_rng(0).normal(size=(n, 4)) * [1, 10, 1, 1] + [0, 50, 0, 0]
    target = np.arange(n) % 2
    return Dataset("toy", {"body": x}, target, target >= 0, "classification", ("a", "b"), columns={"body": NAMES})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 1000, "column 'rate'"),
        (lambda x: x * [1, 1000, 1, 1], r"value of column 'rate' is [45].*e\+04, 1.* times more .* was 2.* to"),
        (lambda x: x / 1000, "column"),
        (lambda x: x * 0 + x[0], "the range over the rows of column 'heat' is 0"),
        (lambda x: x, ""),
    ],
)
def test_columns_of_vectors(change: Any, words: str) -> None:
    data = vectors()
    student = make_student(data, np.arange(200), "body")
    found = said(student, {"body": change(data.inputs["body"][200:])})
    assert len(found) == bool(words)
    assert not words or re.search(words, found[0])


def test_images_of_another_scale_are_said() -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8)).astype(np.uint8)
    ranges = TrainingRanges.fit(x, None, np.ones(60, bool))
    assert not ranges.find_out_of_range(x[:20])
    assert ranges.find_out_of_range(x[:20] / 255)


def test_missing_rows_and_values_do_not_count() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(9, 1, (100, 20, 3))
    ranges = TrainingRanges.fit(x, None, np.ones(100, bool))
    there = np.arange(100) % 2 == 0
    x[~there] = 1e6
    x[0, 3] = np.nan
    assert not ranges.find_out_of_range(x, None, there)
    assert not ranges.find_out_of_range(x[:0])
    assert not ranges.find_out_of_range(np.full((4, 20, 3), np.nan))


def test_inputs_say_unit_rate_axes_and_range_and_survive_files(phones: Any, tmp_path: Path) -> None:
    data, train, _ = phones
    student = make_student(data, train, "phone_acc")
    told = student.inputs["phone_acc"]
    assert (told["shape"], told["axes"]) == (["rows", 64, 3], ["rows", "time", "channels"])
    assert (told["unit"], told["rate_hz"]) == ("m/s2", 50.0)
    expected = np.quantile(data.inputs["phone_acc"][train].reshape(-1, 3), [0.001, 0.999], axis=0).T
    np.testing.assert_allclose(told["range"], expected, rtol=1e-5)
    again = load_student(student.save(tmp_path))
    assert again.inputs == student.inputs
    assert json.loads((tmp_path / "student.json").read_text())["inputs"] == student.inputs
    unknown = make_student(vectors(), np.arange(200), "body").inputs["body"]
    assert (unknown["unit"], unknown["rate_hz"]) == ("not given", "not given")
    assert unknown["columns"] == ["heat", "rate", "skin", "breath"]


def test_files_that_do_not_say_still_load_and_do_not_warn(phones: Any) -> None:
    data, train, test = phones
    student = make_student(data, train, "phone_acc")
    config = student.preprocessor.to_config()
    for name in ("unit", "rate", "longest", "seen"):
        del config["modalities"]["phone_acc"][name]
    old = Preprocessor.from_config(config)
    old.load_state_dict(student.preprocessor.state_dict())
    before = Student(student.network, old, student.task)
    assert before.inputs["phone_acc"]["range"] == before.inputs["phone_acc"]["unit"] == "not given"
    x = {"phone_acc": data.inputs["phone_acc"][test] / 9.81}
    assert said(before, x) == []
    with pytest.warns(SidelightWarning, match="far from"):
        expected = student.predict_proba(x)
    np.testing.assert_array_equal(before.predict_proba(x), expected)


def test_graphs_say_the_same(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    data = vectors()
    data.units["body"], data.rates["body"] = "uS", 4.0
    student = make_student(data, np.arange(200), "body")
    model = onnx.load(student.export(tmp_path / "student.onnx"))
    (told,) = (json.loads(p.value) for p in model.metadata_props if p.key == "sidelight")
    assert told["inputs"] == student.inputs
    ranges = [f"{name}: {low:.3g} to {high:.3g}" for name, (low, high) in zip(NAMES, student.inputs["body"]["range"])]
    assert model.graph.input[0].doc_string == (
        "(rows, 4): rows x columns. Unit: uS. Sampling rate: 4 Hz. Training rows (0.1 % to 99.9 %): "
        + "; ".join(ranges)
    )


def test_unit_and_rate_of_a_recording_reach_the_student(tmp_path: Path) -> None:
    n, rng = 12, np.random.default_rng(0)
    for i in range(n):
        pd.DataFrame(rng.normal(9, 2, (50, 2)), columns=["x", "y"]).to_csv(tmp_path / f"{i}.csv", index=False)
    rows = [{"id": f"r{i}", "target": "ab"[i % 2], "acc_file_name": str(tmp_path / f"{i}.csv")} for i in range(n)]
    kind = Signal(columns=("x", "y"), rate=50, unit="m/s2", seconds=1, resample_to=25)
    data = load(write_prepared(tmp_path / "made", rows, {"acc": kind}, DatasetInfo("toy")))
    assert (data.units, data.rates) == ({"acc": "m/s2"}, {"acc": 25.0})
    student = make_student(data.select(["acc"]), np.arange(n), "acc")
    assert (student.inputs["acc"]["unit"], student.inputs["acc"]["rate_hz"]) == ("m/s2", 25.0)
    bare = Signal(columns=("x", "y"), rate=50, seconds=1)
    data = load(write_prepared(tmp_path / "bare", rows, {"acc": bare}, DatasetInfo("toy")))
    assert (data.units, data.rates) == ({}, {"acc": 50.0})
