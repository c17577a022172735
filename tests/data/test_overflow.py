"""Finite numbers that overflow float32 are an error with row and modality, never class 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.slow import mostly_slow
from sidelight.config import NetworkConfig
from sidelight.data import Dataset, Preprocessor
from sidelight.errors import DataError
from sidelight.export import Student, predict_file
from sidelight.networks.build import build_network
from sidelight.tasks import Classification, Regression, Retrieval, Segmentation

N = 24
TASKS = {"classification": Classification, "retrieval": Retrieval, "regression": Regression}


def make_data(**more: Any) -> Dataset:
    rng = np.random.default_rng(0)
    inputs = {"acc": rng.normal(size=(N, 16, 2)), "body": rng.normal(size=(N, 3))}
    target = np.arange(N) % 2
    group = np.repeat(list("abcdef"), 4)
    return Dataset("toy", inputs, target, target >= 0, "classification", ("a", "b"), group=group, **more)


def make_student(task: str = "classification", standardize: str = "train") -> Student:
    data = make_data()
    p = Preprocessor.fit(data, np.arange(N), data.modalities, {"acc"}, standardize, parts=("moments", "magnitude"))
    torch.manual_seed(0)
    network = build_network(p.shapes, list(data.modalities), 2, NetworkConfig(width=8))
    return Student(network, p, TASKS[task](("a", "b")))


def given(row: int, value: float = 3e38) -> dict[str, np.ndarray]:
    x = {m: a.copy() for m, a in make_data().inputs.items()}
    x["acc"][row, 3, 1] = value
    return x


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
@pytest.mark.parametrize("task", TASKS)
def test_predict_names_row_and_modality(task: str) -> None:
    student = make_student(task)
    with pytest.raises(DataError, match=r"'acc', row 5: values up to 3e\+38 overflow float32 .* larger unit"):
        student.predict(given(5))
    with pytest.raises(DataError, match=r"'acc', row 5 \(id 'r5'\)"):
        student.respond(given(5), ids=np.array([f"r{i}" for i in range(N)]))
    assert np.isfinite(student.respond(given(5, 1e15)).numpy()).all()


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
def test_probabilities_groups_and_calibration() -> None:
    student = make_student()
    with pytest.raises(DataError, match="'acc', row 0"):
        student.predict_proba(given(0))
    grouped = make_student(standardize="group")
    group = make_data().group
    with pytest.raises(DataError, match=r"'acc'.* overflow"):
        grouped.calibrate(given(5), group)
    with pytest.raises(DataError, match=r"'acc'.* overflow"):
        grouped.predict(given(5), group=group)


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
def test_rows_of_later_chunks_are_counted_from_the_first() -> None:
    student = make_student()
    x = {m: np.tile(a, (100, *[1] * (a.ndim - 1))) for m, a in make_data().inputs.items()}
    x["acc"][2222, 0, 0] = 3e38
    with pytest.raises(DataError, match="'acc', row 2222:"):
        student.predict(x)


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
def test_a_file_names_itself_too(tmp_path: Path) -> None:
    data = make_data().select(["body"])
    p = Preprocessor.fit(data, np.arange(N), ["body"])
    network = build_network(p.shapes, ["body"], 2, NetworkConfig(width=8))
    network.head.weight.data.fill_(3e38)
    network.head.bias.data.fill_(3e38)  # a network that overflows on ordinary rows
    student = Student(network, p, Classification(("a", "b")))
    table = pd.DataFrame(data.inputs["body"], columns=["body.0", "body.1", "body.2"])
    table.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match=r"new\.csv: row 0: the answer is not finite, although .* body is"):
        predict_file(student, tmp_path / "new.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_segmentation() -> None:
    x = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    target = np.arange(4 * 64).reshape(4, 8, 8) % 2
    data = Dataset("toy", {"depth": x}, target, np.ones(4, bool), "segmentation", ("a", "b"))
    p = Preprocessor.fit(data, np.arange(4), ["depth"])
    student = Student(
        build_network(p.shapes, ["depth"], 2, NetworkConfig(width=8), size=(8, 8)), p, Segmentation(("a", "b"))
    )
    assert student.predict({"depth": x}).shape == (4, 8, 8)
    for parameter in student.network.head.parameters():
        parameter.fill_(3e38)
    with pytest.raises(DataError, match="row 0: the answer is not finite"):
        student.predict({"depth": x})


def test_a_run_ends_before_it_trains_on_such_rows() -> None:
    data = make_data()
    data.inputs["acc"][7, 2, 0] = 3e38
    rest = np.setdiff1d(np.arange(N), [7])
    with pytest.raises(DataError, match=r"toy: modality 'acc', row 7: values up to 3e\+38"):
        Preprocessor.fit(data, np.arange(N), ["acc"], {"acc"})
    p = Preprocessor.fit(data, rest, ["acc"], {"acc"})
    with pytest.raises(DataError, match="toy: modality 'acc', row 7"):
        data.batch(p)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
@pytest.mark.parametrize(
    ("suffix", "bad"),
    mostly_slow(
        [(suffix, bad) for suffix in (".onnx", ".pt2") for bad in (np.nan, np.inf, 3e38)],
        [(".onnx", np.nan), (".onnx", 3e38)],
    ),
)
def test_graphs_answer_nan_and_nothing_else_is_touched(suffix: str, bad: float, exported: Path) -> None:
    pytest.importorskip("onnxruntime")
    student = make_student()
    path = exported / f"student{suffix}"
    if not path.exists():  # once per suffix: the weights are the same
        student.export(path)
    x = given(5, bad)
    x["body"][2, 1] = np.inf
    answer = run(path, x)
    assert np.isnan(answer[[2, 5]]).all()
    rest = np.setdiff1d(np.arange(N), [2, 5])
    expected = student.predict_proba({m: a[rest] for m, a in x.items()})
    np.testing.assert_allclose(answer[rest], expected, atol=1e-5)


def run(path: Path, x: dict[str, np.ndarray]) -> np.ndarray:
    if path.suffix == ".onnx":
        import onnxruntime

        return np.asarray(onnxruntime.InferenceSession(path).run(["probabilities"], x)[0])
    with torch.no_grad():
        out = torch.export.load(path).module()(*(torch.from_numpy(a) for a in x.values()))
    return np.asarray(out[0])
