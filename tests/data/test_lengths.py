"""A row far longer than the rest: it is named, cut on request, and does not pad every batch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sidelight import load
from sidelight.config import NetworkConfig, load_config
from sidelight.data import Dataset, Preprocessor, load_rows
from sidelight.data.lengths import LONG
from sidelight.data.sources.stack import stack_rows
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.export import Student, load_student
from sidelight.methods.translation import _absolute_difference
from sidelight.networks.build import build_network
from sidelight.networks.network import predict_in_chunks
from sidelight.tasks import Classification

N = 20


def signals(longest: int = 2000) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    steps = [*rng.integers(30, 60, N - 1).tolist(), longest]
    return [rng.normal(size=(n, 2)).astype(np.float32) for n in steps]


def source(longest: int = 2000) -> dict[str, Any]:
    return {"voice": signals(longest), "y": [0, 1] * (N // 2), "id": [f"r{i}" for i in range(N)]}


def make_student(data: Dataset, encoder: str = "cnn") -> Student:
    torch.manual_seed(0)
    p = Preprocessor.fit(data, np.arange(N), ["voice"], {"voice"} if encoder == "statistics" else set())
    network = build_network(p.shapes, ["voice"], 2, NetworkConfig(width=8, encoder=encoder))
    return Student(network, p, Classification(data.class_names))


def test_the_row_is_named_with_its_length_the_median_and_the_setting() -> None:
    with pytest.warns(SidelightWarning) as caught:
        load(source())
    (text,) = [str(w.message) for w in caught]
    rest = max(len(x) for x in signals()[:-1])
    middle = int(np.median([len(x) for x in signals()]))
    assert f"modality 'voice': row 19 (id 'r19') has 2000 time steps, but the median is {middle}." in text
    assert f"longest.voice={rest}" in text
    assert f"longest={{'voice': {rest}}}" in text


def test_ordinary_lengths_are_no_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(source(LONG * 30))) == N
        assert load(source(), longest={"voice": 59}).inputs["voice"].shape[1] == 59


@pytest.mark.parametrize("door", ["list", "padded", "files", "prepared array", "dataset", "lengths file"])
def test_every_door_cuts_alike(door: str, tmp_path: Path) -> None:
    rows = signals()
    expected = np.zeros((N, 50, 2), np.float32)
    for i, x in enumerate(rows):
        expected[i, : min(len(x), 50)] = x[:50]
    lengths = np.minimum([len(x) for x in rows], 50)
    data = made(door, rows, tmp_path, {"voice": 50})
    np.testing.assert_array_equal(data.inputs["voice"], expected)
    np.testing.assert_array_equal(data.lengths["voice"], lengths)
    assert data.longest == {"voice": 50}


def made(door: str, rows: list[np.ndarray], folder: Path, longest: dict[str, int]) -> Dataset:
    padded = np.zeros((N, 2000, 2), np.float32)
    for i, x in enumerate(rows):
        padded[i, : len(x)] = x
    steps = np.array([len(x) for x in rows])
    table = pd.DataFrame({"id": [f"r{i}" for i in range(N)], "y": [0, 1] * (N // 2)})
    if door == "list":
        return load(source(), longest=longest)
    if door == "padded":
        return load({"voice": padded, "voice_length": steps, "y": [0, 1] * (N // 2)}, longest=longest)
    if door == "dataset":
        return load(
            load({"voice": padded[:, :300], "voice_length": np.minimum(steps, 300), "y": [0, 1] * 10}), longest=longest
        )
    if door == "lengths file":
        np.savez(folder / "voice.npz", voice=padded, lengths=steps)
        table.to_csv(folder / "metadata.csv", index=False)
        return load(folder, longest=longest)
    for i, x in enumerate(rows):
        np.save(folder / f"{i}.npy", x)
    files = [f"{i}.npy" for i in range(N)]
    if door == "files":
        table.assign(voice_file_name=files).to_csv(folder / "metadata.csv", index=False)
        return load(folder, longest=longest)
    from sidelight.data.sources.prepared import DatasetInfo, write_prepared
    from sidelight.recordings.registry import Array

    out = folder / "made"
    named = table.assign(target=table.y.astype(str), voice_file_name=[str(folder / f) for f in files])
    write_prepared(out, named, {"voice": Array(unit="mV")}, DatasetInfo("toy"))
    data = load(out, longest=longest)
    assert data.units == {"voice": "mV"}
    return data


def test_memory_follows_what_is_kept() -> None:
    huge = np.broadcast_to(np.float32(1), (10**9, 100_000))  # 400 TB, if it were there
    x, _, lengths = stack_rows("toy", "voice", [np.ones((5, 100_000), np.float32), huge], ["a", "b"], 10)
    assert x.shape == (2, 10, 100_000)
    assert lengths is not None
    assert lengths.tolist() == [5, 10]


@pytest.mark.parametrize(
    ("longest", "says"),
    [({"voice": 0}, "at least 1"), ({"video": 5}, "unknown modality 'video'"), ({"face": 5}, "only signals")],
)
def test_what_cannot_be_cut(longest: dict[str, int], says: str) -> None:
    given = source(100) | {"face": np.zeros((N, 3))}
    with pytest.raises((ConfigError, ValueError), match=says):
        load(given, longest=longest)


def test_it_is_a_setting_and_a_dataset_has_its_own() -> None:
    from sidelight import compare

    assert load_config({"data": "phone-watch", "longest": {"voice": 100}}).longest == {"voice": 100}
    data = load(source(100), longest={"voice": 50})
    with pytest.raises(ConfigError, match="longest: a Dataset has its own"):
        compare(data, ["voice"], ["face"], longest={"voice": 5})


@pytest.mark.parametrize("encoder", ["cnn", "statistics"])
def test_the_student_reads_as_many_steps_as_in_training(encoder: str, tmp_path: Path) -> None:
    data = load(source(), longest={"voice": 50})
    student = load_student(make_student(data, encoder).save(tmp_path))
    assert student.inputs["voice"]["longest"] == 50
    rows = signals()
    whole = np.zeros((N, 2000, 2), np.float32)
    for i, x in enumerate(rows):
        whole[i, : len(x)] = x
    steps = np.array([len(x) for x in rows])
    cut = student.predict_proba({"voice": data.inputs["voice"]}, lengths={"voice": data.lengths["voice"]})
    np.testing.assert_allclose(student.predict_proba({"voice": whole}, lengths={"voice": steps}), cut, atol=1e-6)
    whole[steps[:, None] <= np.arange(2000)] = np.nan  # is not read
    np.testing.assert_allclose(student.predict_proba({"voice": whole}, lengths={"voice": steps}), cut, atol=1e-6)
    new = load_rows({"voice": rows}, ["voice"], longest={"voice": 50})
    assert new.inputs["voice"].shape[1] == 50


def test_a_fixed_length_is_cut_too() -> None:
    data = load({"voice": np.random.default_rng(0).normal(size=(N, 80, 2)), "y": [0, 1] * 10}, longest={"voice": 50})
    assert data.shape("voice") == (50, 2)
    student = make_student(data)
    longer = np.pad(data.inputs["voice"], ((0, 0), (0, 30), (0, 0)), constant_values=9)
    np.testing.assert_array_equal(
        student.predict_proba({"voice": longer}), student.predict_proba({"voice": data.inputs["voice"]})
    )


def test_batches_are_padded_to_their_own_longest_row() -> None:
    data = load_quietly()
    p = Preprocessor.fit(data, np.arange(N), ["voice"])
    batch = data.batch(p)
    middle = int(np.median(data.lengths["voice"]))
    few = batch.index_select(torch.arange(5))
    longest = int(data.lengths["voice"][:5].max())
    assert few.inputs["voice"].shape == (5, max(longest, middle), 2)
    torch.testing.assert_close(few.inputs["voice"], batch.inputs["voice"][:5, : max(longest, middle)])
    assert few.index_select(torch.arange(2)).select_modalities(["voice"]).to("cpu").inputs["voice"].shape[1] >= middle
    assert batch.index_select(torch.tensor([3, N - 1])).inputs["voice"].shape == (2, 2000, 2)
    assert batch.index_select(torch.arange(0)).inputs["voice"].shape[0] == 0
    # nothing is cut where no row is extreme
    even = load(source(100))
    whole = even.batch(Preprocessor.fit(even, np.arange(N), ["voice"]))
    assert whole.index_select(torch.arange(1)).inputs["voice"].shape == (1, 100, 2)


def test_answers_do_not_depend_on_it() -> None:
    data = load_quietly()
    student = make_student(data)
    batch = data.batch(student.preprocessor)
    each = torch.cat(
        [
            predict_in_chunks(student.network, batch, torch.arange(i, i + 5), lambda said: said.prediction)
            for i in (0, 5, 10, 15)
        ]
    )
    whole = student.network(batch).prediction
    torch.testing.assert_close(each, whole, rtol=1e-5, atol=1e-5)


def test_translated_rows_are_compared_where_the_batch_has_steps() -> None:
    data = load_quietly()
    batch = data.batch(Preprocessor.fit(data, np.arange(N), ["voice"]))
    torch.manual_seed(0)
    made = torch.randn(5, 2000, 2)
    few = batch.index_select(torch.arange(5))
    apart = (made - batch.inputs["voice"][:5]).abs().mean(2)
    valid = torch.arange(2000) < batch.lengths["voice"][:5, None]
    expected = ((apart * valid).sum(1) / valid.sum(1)).mean()
    torch.testing.assert_close(_absolute_difference(made, few, "voice"), expected)


def load_quietly() -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SidelightWarning)
        return load(source())


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [
        pytest.param("cnn", ".pt2", marks=SLOW),  # the default has them in test_graph.py and test_modality_imputer.py
        pytest.param("statistics", ".pt2", marks=SLOW),
        pytest.param("cnn", ".onnx", marks=SLOW),
        pytest.param("statistics", ".onnx", marks=SLOW),
    ],
)
def test_graphs_take_any_length(encoder: str, suffix: str, tmp_path: Path) -> None:
    student = make_student(load(source(90)), encoder)
    path = student.export(tmp_path / f"student{suffix}")
    rng = np.random.default_rng(1)
    for steps in (20, 90, 500):
        x = rng.normal(size=(3, steps, 2)).astype(np.float32)
        n = np.array([steps, 10, steps - 5])
        expected = student.predict_proba({"voice": x}, lengths={"voice": n})
        np.testing.assert_allclose(run(path, x, n), expected, atol=1e-5)


def run(path: Path, x: np.ndarray, n: np.ndarray) -> np.ndarray:
    if path.suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path)
        return np.asarray(session.run(["probabilities"], {"voice": x, "voice_length": n})[0])
    with torch.no_grad():
        return np.asarray(torch.export.load(path).module()(torch.from_numpy(x), torch.from_numpy(n))[0])
