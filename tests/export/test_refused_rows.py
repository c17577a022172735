"""A graph on a device answers NaN for every row that `predict` refuses, and all other rows as before."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sidelight.config import load_config
from sidelight.data import Dataset
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import DataError
from sidelight.export import Student
from sidelight.networks.build import build_network
from sidelight.tasks import make_task

N, STEPS = 24, 12
KINDS = {
    "plain": {},
    "statistics": {"encoder": "auto"},
    "imputing": {"impute": "mean"},
    "any subset": {"drop": 0.3},
    "any subset, imputing": {"drop": 0.3, "impute": "mean"},
}
NAN, INF = math.nan, math.inf
ROWS = {
    "nan": ("context", 1, NAN), "inf": ("context", 1, -INF), "overflow": ("acc", (2, 0), 3e38),
    "nan in time": ("acc", (2, 1), NAN), "inf in time": ("acc", (2, 1), INF),
    "no length": ("acc_length", (), 0), "long": ("acc_length", (), STEPS + 1),
}  # fmt: skip
"""What is wrong with a row: the input, the place in the row, and the value there."""


def make_student(encoder: str = "cnn", drop: float = 0.0, impute: str = "no") -> Student:
    rng = np.random.default_rng(0)
    inputs = {"acc": rng.normal(9, 3, (N, STEPS, 3)), "context": rng.normal(-2, 1, (N, 4))}
    labels, lengths = ("sit", "stand", "walk"), {"acc": rng.integers(5, STEPS + 1, N)}
    data = Dataset("toy", inputs, np.arange(N) % 3, np.ones(N, bool), "classification", labels, {}, lengths)
    torch.manual_seed(0)
    signals = ["acc"] if encoder == "auto" else []
    preprocessor = Preprocessor.fit(data, np.arange(N), ["acc", "context"], signals, impute=impute)
    config = load_config({"network": {"encoder": encoder, "width": 16, "tokens": 2}}).network
    network = build_network(preprocessor.shapes, ["acc", "context"], 3, config, drop=drop)
    return Student(network, preprocessor, make_task("classification", labels))


def given_rows(student: Student) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    given = {"acc": rng.normal(9, 3, (N, STEPS, 3)), "context": rng.normal(-2, 1, (N, 4))}
    given = {m: x.astype(np.float32) for m, x in given.items()}
    given["acc_length"] = rng.integers(5, STEPS - 1, N)
    given |= {f"present_{m}": np.ones(N, bool) for m in ("acc", "context") if student.completes}
    return {name: given[name] for name in student.deployed.inputs}


def put(given: dict[str, np.ndarray], row: int, fault: str) -> None:
    name, place, value = ROWS[fault]
    index = (row, *(place if isinstance(place, tuple) else (place,)))
    given[name][index] = value


def is_refused(student: Student, given: dict[str, np.ndarray], row: int) -> bool:
    rows = {m: given[m][row : row + 1] for m in student.reads}
    try:
        student.predict(rows, lengths={"acc": given["acc_length"][row : row + 1]})
    except DataError:
        return True
    return False


def answer(student: Student, given: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return student.deployed(*map(torch.from_numpy, given.values()))[0].numpy()


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_what_predict_refuses_is_nan_and_the_rest_is_as_it_was(kind):
    student = make_student(**KINDS[kind])
    given = given_rows(student)
    clean = answer(student, given)
    given["acc"][0, STEPS - 1] = NAN  # padding, which nobody reads
    for row, fault in enumerate(ROWS, 1):
        put(given, row, fault)
    refused = np.array([is_refused(student, given, row) for row in range(N)])
    filled = {"nan", "nan in time"} if "imputing" in kind else set()
    overflows = {"overflow"} if kind == "statistics" else set()  # which alone squares its rows
    expected = {*ROWS} - filled - {"overflow"} | overflows
    assert {fault for row, fault in enumerate(ROWS, 1) if refused[row]} == expected
    said = answer(student, given)
    np.testing.assert_array_equal(np.isnan(said).all(1), refused)
    untouched = ~np.isin(np.arange(N), np.arange(1, len(ROWS) + 1))
    np.testing.assert_allclose(said[untouched], clean[untouched], atol=1e-6)


@pytest.mark.parametrize("kind", ["any subset", "any subset, imputing"])
def test_a_row_without_any_modality_is_nan(kind):
    student = make_student(**KINDS[kind])
    given = given_rows(student)
    clean = answer(student, given)
    for m in ("acc", "context"):
        given[f"present_{m}"][3] = False
        given[m][4] = NAN
    given["present_context"][5] = False
    given["context"][5] = NAN
    given["context"][6] = NAN  # not there either, whatever the flag says
    given["present_acc"][7] = False
    given["acc_length"][7] = 0
    said = answer(student, given)
    assert np.isnan(said).all(1).nonzero()[0].tolist() == [3, 4]
    assert not np.allclose(said[5:8], clean[5:8])
    rest = [0, 1, 2, *range(8, N)]
    np.testing.assert_allclose(said[rest], clean[rest], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_marks_the_same_rows(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    student = make_student(**KINDS[kind])
    given = given_rows(student)
    for row, fault in enumerate(ROWS, 1):
        put(given, row, fault)
    session = runtime.InferenceSession(student.export(tmp_path / "student.onnx"))
    np.testing.assert_allclose(session.run(["probabilities"], given)[0], answer(student, given), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.onnx"]  # weights inside, no empty .data file
