"""The student leaves: one safe file, predictions that refuse what they cannot read, other runtimes that agree."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from helpers.slow import mostly_slow
from sidelight.config import NetworkConfig
from sidelight.data import Dataset, load
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, DataError, DiskError, RunError
from sidelight.export import Student, load_student, predict_file
from sidelight.export import graph as graph_module
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.fusions import FUSIONS
from sidelight.networks.hallucination import freeze, make_hallucinators
from sidelight.networks.network import Network
from sidelight.tasks import make_task

pytestmark = pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")

N, STEPS = 24, 20
PRIVILEGED = ["watch_acc", "watch_gyro"]
LABELS = {"classification": ("sit", "stand", "walk"), "regression": ("valence", "arousal")}


def dataset(task: str = "classification", variable: bool = False, impute: str = "no") -> Dataset:
    rng = np.random.default_rng(0)
    inputs = {
        "phone_acc": rng.normal(9.8, 3, (N, STEPS, 3)),
        "context": rng.normal(-2, 0.1, (N, 4)),
        "watch_acc": rng.normal(0, 1, (N, 5)),
    }
    if impute == "mean":
        inputs["context"][::5, 1] = np.nan
    target = np.arange(N) % 3 if task == "classification" else rng.normal(size=(N, 2))
    return Dataset(
        "toy",
        inputs,
        target,
        np.ones(N, bool),
        task,
        LABELS[task],
        lengths={"phone_acc": rng.integers(5, STEPS + 1, N)} if variable else {},
        group=np.repeat(["ann", "bob", "cid"], N // 3),
        impute=impute,
    )


def make_student(
    reads: tuple[str, ...] = ("phone_acc", "context"),
    encoder: str = "auto",
    fusion: str = "concat",
    task: str = "classification",
    variable: bool = False,
    standardize: str = "train",
    impute: str = "no",
    hallucinate: bool = False,
    encoders: dict[str, nn.Module] | None = None,
) -> Student:
    """An untrained student of the toy data, of any kind."""
    torch.manual_seed(0)
    data = dataset(task, variable, impute)
    signals = {m for m in reads if data.inputs[m].ndim == 3} if encoder == "auto" else set()
    names = [*reads, "watch_acc"] if hallucinate else list(reads)
    preprocessor = Preprocessor.fit(data, np.arange(N), names, statistics=signals, standardize=standardize)
    kinds = dict(encoders or {})
    for m in reads:
        if len(preprocessor.shapes[m]) == 1 and encoder == "cnn":
            kinds.setdefault(m, build_network(preprocessor.shapes, [m], 1, NetworkConfig(width=16)).encoders[m])
    config = NetworkConfig(encoder=encoder, width=16, fusion=fusion, tokens=1 if encoder == "auto" else 4)
    outputs = len(LABELS[task])
    tnets = {}
    if hallucinate:
        teacher = build_network(preprocessor.shapes, names, outputs, config, encoders=dict(kinds))
        tnets = make_hallucinators(feature_shape(teacher), reads, ["watch_acc"])
        for tnet in tnets.values():
            tnet.trained_steps += 1
            freeze(tnet)
    network = build_network(
        preprocessor.shapes, reads, outputs, config, names if hallucinate else None, tnets, encoders=kinds
    )
    meta = {"method": "pkdot", "privileged": PRIVILEGED, "metrics": {"accuracy": 0.5, "f1": float("nan")}}
    return Student(network, preprocessor, make_task(task, LABELS[task]), meta)


def rows(student: Student, n: int = N) -> dict[str, np.ndarray]:
    inputs = dataset().inputs
    return {m: inputs[m][:n].copy() for m in student.reads}


# prediction ---------------------------------------------------------------------------------------------------------


def test_predicts_names_probabilities_and_values():
    student = make_student()
    names, p = student.predict(rows(student)), student.predict_proba(rows(student))
    assert names.shape == (N,)
    assert names.dtype.kind == "U"
    assert p.shape == (N, 3)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert (names == np.array(LABELS["classification"])[p.argmax(1)]).all()
    np.testing.assert_array_equal(p, student.predict(rows(student), probabilities=True))
    regression = make_student(task="regression")
    assert regression.predict(rows(regression)).shape == (N, 2)
    with pytest.raises(ConfigError, match="has no probabilities"):
        regression.predict_proba(rows(regression))


def test_predicts_as_the_training_side_does():
    for kind in ({}, {"encoder": "cnn"}, {"encoder": "cnn", "variable": True}, {"standardize": "group"}):
        student = make_student(**kind)
        data = dataset(variable=kind.get("variable", False))
        with torch.no_grad():
            expected = student.network(data.batch(student.preprocessor, student.reads)).prediction
        inputs = {m: data.inputs[m] for m in student.reads}
        got = student.respond(inputs, data.lengths, data.group)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_many_rows_are_chunked_and_none_are_fine(monkeypatch):
    student = make_student(encoder="cnn")
    whole = student.respond(rows(student))
    monkeypatch.setattr("sidelight.export.student.CHUNK", 5)
    torch.testing.assert_close(student.respond(rows(student)), whole)
    assert student.predict(rows(student, 0)).shape == (0,)
    assert student.predict_proba(rows(student, 0)).shape == (0, 3)


def test_the_callers_network_is_left_alone():
    network = build_network({"context": (4,)}, ["context"], 3, NetworkConfig(width=8))
    preprocessor = Preprocessor.fit(dataset(), np.arange(N), ["context"])
    student = Student(network, preprocessor, make_task("classification", LABELS["classification"]))
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not student.network.training
    assert not any(p.requires_grad for p in student.network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"watch_acc": np.zeros((N, 5))},
            "'watch_acc' is a privileged modality: this student reads only phone_acc, cont",
        ),
        ({"phone_ac": np.zeros((N, 5))}, "unknown modality 'phone_ac'. Did you mean 'phone_acc'?"),
        ({"context": None}, "'context' is missing: this student reads phone_acc, context; got phone_acc"),
        ({"context": np.zeros((N, 5))}, r"'context' has shape \(24, 5\); expected \(rows, 4\)"),
        ({"context": np.zeros(4)}, r"expected \(rows, 4\); one row is x\[None\]"),
        ({"phone_acc": np.zeros((N, 9, 3))}, r"\(24, 9, 3\); expected \(rows, 20, 3\)"),
        ({"context": np.zeros((3, 4))}, "'context' has 3 rows, but 'phone_acc' has 24"),
        ({"context": np.full((N, 4), "a")}, "'context' is not an array of numbers"),
    ],
)
def test_refuses_by_name(change, message):
    student = make_student()
    inputs = {m: x for m, x in {**rows(student), **change}.items() if x is not None}
    with pytest.raises(DataError, match=message):
        student.predict(inputs)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (1e300, "inf")])
def test_refuses_what_is_not_finite(value, word):
    student = make_student()
    inputs = {m: x.astype(float) for m, x in rows(student).items()}
    inputs["phone_acc"][7, 3, 2] = value
    with pytest.raises(DataError, match=f"'phone_acc' is {word} in row 7, time step 3, channel 2"):
        student.predict(inputs)


def test_fills_gaps_only_where_it_was_trained_to():
    student = make_student(impute="mean")
    inputs = rows(student)
    inputs["context"][3, 1] = np.nan
    inputs["context"][4] = np.nan
    assert np.isfinite(student.predict_proba(inputs)).all()
    inputs["context"][5, 0] = np.inf
    with pytest.raises(DataError, match="'context' is inf in row 5, column 0"):
        student.predict(inputs)


def test_a_group_standardised_student_needs_groups():
    student = make_student(standardize="group")
    with pytest.raises(DataError, match="standardises each group"):
        student.predict(rows(student))
    with pytest.raises(DataError, match=r"group has shape \(3,\); expected \(24,\)"):
        student.predict(rows(student), group=["a", "b", "c"])
    assert student.preprocessor.groups == []  # the training people stay behind
    one = {m: x[:1] for m, x in rows(student).items()}
    with pytest.raises(DataError, match="has a single row"):
        student.predict(one, group=["new"])
    assert student.calibrate(rows(student), ["new"] * N) == ("new",)
    expected = student.predict_proba(rows(student), group=["new"] * N)[:1]
    np.testing.assert_allclose(student.predict_proba(one, group=["new"]), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="needs no calibration"):
        make_student().calibrate(rows(student), ["new"] * N)


def test_lengths_are_read_and_checked():
    student = make_student(variable=True, encoder="cnn")
    inputs, lengths = rows(student), {"phone_acc": np.full(N, 8)}
    expected = student.predict_proba(inputs, lengths=lengths)
    inputs["phone_acc"][:, 8:] = np.nan  # what lies beyond the length has no say
    np.testing.assert_array_equal(student.predict_proba(inputs, lengths=lengths), expected)
    cut = {**inputs, "phone_acc": inputs["phone_acc"][:, :8]}
    np.testing.assert_allclose(student.predict_proba(cut), expected, atol=1e-6)
    for wrong, message in (([0] * N, "row 0: length 0 is not between 1 and 20"), ([1, 2], r"shape \(2,\)")):
        with pytest.raises(DataError, match=message):
            student.predict(inputs, lengths={"phone_acc": wrong})
    with pytest.raises(DataError, match="9 time steps, but every row must have 20"):
        make_student().predict(rows(student), lengths={"phone_acc": [9] * N})
    with pytest.raises(DataError, match="lengths: unknown modality 'phone'"):
        student.predict(inputs, lengths={"phone": [9] * N})


def test_a_student_cannot_read_a_privileged_modality():
    student = make_student()
    with pytest.raises(ConfigError, match="reads 'context', which is privileged"):
        Student(student.network, student.preprocessor, student.task, {"privileged": ["context"]})
    with pytest.raises(ConfigError, match="3 outputs, but the task 2"):
        Student(student.network, student.preprocessor, make_task("classification", ("a", "b")))


# the file -----------------------------------------------------------------------------------------------------------

KINDS = {
    "statistics": {},
    "cnn": {"encoder": "cnn", "fusion": "multimodal-transformer"},
    "variable": {"encoder": "cnn", "variable": True, "fusion": "joint-cross-attention"},
    "regression": {"task": "regression"},
    "hallucinating": {"hallucinate": True},
    "imputing": {"impute": "mean"},
    "per group": {"standardize": "group"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_is_bit_identical(kind, tmp_path):
    student = make_student(**KINDS[kind])
    if kind == "per group":
        student.calibrate(rows(student), dataset().group)
    assert student.save(tmp_path) == tmp_path / "student.safetensors"
    (tmp_path / "student.json").rename(tmp_path / "elsewhere.json")  # one file is enough
    again = load_student(tmp_path)
    group = dataset().group
    assert torch.equal(student.respond(rows(student), None, group), again.respond(rows(student), None, group))
    assert (again.reads, again.privileged, again.class_names) == (
        student.reads,
        student.privileged,
        student.class_names,
    )
    assert again.task.name == student.task.name
    assert again.meta["method"] == "pkdot"
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "student.safetensors").read_bytes()


def test_the_json_beside_it_can_be_read(tmp_path):
    make_student().save(tmp_path / "model.safetensors")
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["reads"] == ["phone_acc", "context"]
    assert told["privileged"] == PRIVILEGED
    assert told["task"] == {"name": "classification", "labels": list(LABELS["classification"])}
    assert told["meta"]["metrics"] == {"accuracy": 0.5, "f1": None}
    assert "torch" in told["meta"]["versions"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_save_refuses_what_it_cannot_store(tmp_path):
    student = make_student()
    with pytest.raises(ConfigError, match=r"saved as .safetensors, not .pkl"):
        student.save(tmp_path / "student.pkl")
    student.meta["network"] = student.network
    with pytest.raises(ConfigError, match="cannot hold a Network"):
        student.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_files_are_named(tmp_path):
    file = make_student().save(tmp_path)
    whole = file.read_bytes()
    for size in (0, 5, 200, len(whole) - 1):
        file.write_bytes(whole[:size])
        why = "truncated, or not a safetensors" if size else "it is empty"
        with pytest.raises(RunError, match=f"cannot read .*student.safetensors: {why}"):
            load_student(file)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(RunError, match=r"foreign.safetensors is a safetensors file, but not a sidelight student"):
        load_student(foreign)
    with pytest.raises(RunError, match="does not exist"):
        load_student(tmp_path / "absent.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"holds no student.safetensors"):
        load_student(tmp_path / "empty")


def rewritten(file: Path, change) -> Path:
    """The same file with its description changed."""
    with safe_open(file, framework="pt") as opened:
        told = json.loads(opened.metadata()["sidelight"])
    new = file.with_name("changed.safetensors")
    change(told)
    save_file(load_file(file), new, metadata={"sidelight": json.dumps(told)})
    return new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(version=99), "written by a newer sidelight .format 99"),
        (lambda told: told.update(version="x"), "is damaged: its format version is 'x'"),
        (lambda told: told.update(format="other"), "not a sidelight student"),
        (lambda told: told.pop("task"), "is damaged"),
        (lambda told: told["network"].update(outputs=7), "is damaged"),
        (lambda told: told["reads"].reverse(), "it says that it reads"),
        (lambda told: told["network"]["encoders"][0].update(kind="os.system"), "unknown kind 'os.system'"),
        (lambda told: told["preprocessor"]["modalities"].pop("context"), "is damaged|unknown modality"),
    ],
)
def test_a_description_that_does_not_fit_is_named(change, message, tmp_path):
    file = rewritten(make_student().save(tmp_path), change)
    with pytest.raises(RunError, match=message) as caught:
        load_student(file)
    assert "changed.safetensors" in str(caught.value)


def test_a_student_of_the_wrong_task_is_refused(tmp_path):
    file = make_student().save(tmp_path)
    assert load_student(file, task="classification").task.name == "classification"
    with pytest.raises(RunError, match=r"holds a classification student \(sit, stand, walk\), not one for regression"):
        load_student(file, task="regression")


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def test_nothing_is_executed(tmp_path):
    trace, file = tmp_path / "executed", tmp_path / "student.safetensors"
    file.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(RunError, match=r"a pickle or a torch.save file under another name"):
        load_student(file)
    torch.save({"a": Trap(trace)}, file)
    with pytest.raises(RunError, match=r"a pickle or a torch.save file under another name"):
        load_student(file)
    assert not trace.exists()


@pytest.mark.parametrize("first", [0x50, 0x80])
def test_a_truncated_student_is_called_so_whatever_its_first_byte(first, tmp_path):
    """The first byte is the last of the header's length: 0x80 is also how a pickle begins."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}})
    length = 0x100 + first
    file = tmp_path / "student.safetensors"
    file.write_bytes(length.to_bytes(8, "little") + header.ljust(length).encode() + bytes(100))
    with pytest.raises(RunError, match="truncated, or not a safetensors file"):
        load_student(file)


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        return self.linear(2 * x)


def test_custom_encoders_are_given_again(tmp_path):
    student = make_student(reads=("context",), encoders={"context": Doubled()})
    file = student.save(tmp_path)
    with pytest.raises(RunError, match="its own module for 'context'; pass it as encoders="):
        load_student(file)
    again = load_student(file, encoders={"context": Doubled()})
    np.testing.assert_array_equal(again.predict_proba(rows(again)), student.predict_proba(rows(student)))


# files of rows ------------------------------------------------------------------------------------------------------


def table(path: Path, student: Student, **extra) -> Path:
    x = rows(student)["context"]
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(N)], **{f"context.{k}": x[:, k] for k in range(4)}, **extra})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predicts_a_table(suffix, tmp_path):
    student = make_student(reads=("context",))
    out = tmp_path / "deep" / f"out{suffix}"
    frame = predict_file(student, table(tmp_path / f"rows{suffix}", student), out)
    assert list(frame) == ["id", "prediction", "p.sit", "p.stand", "p.walk"]
    assert frame.id[3] == "r3"
    np.testing.assert_allclose(frame.iloc[:, 2:], student.predict_proba(rows(student)), atol=1e-6)
    stored = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert (stored.prediction == student.predict(rows(student))).all()
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_predicts_arrays_and_files_per_row(tmp_path):
    student = make_student(variable=True, task="regression", encoder="cnn")
    inputs, lengths = rows(student), np.arange(N) % 10 + 5
    np.savez(tmp_path / "rows.npz", **inputs, phone_acc_length=lengths)
    frame = predict_file(student, tmp_path / "rows.npz")
    assert list(frame) == ["id", "prediction.valence", "prediction.arousal"]
    expected = student.predict(inputs, lengths={"phone_acc": lengths})
    np.testing.assert_allclose(frame.iloc[:, 1:], expected, atol=1e-6)
    for i in range(N):
        np.save(tmp_path / f"{i}.npy", inputs["phone_acc"][i, : lengths[i]])
    table(tmp_path / "metadata.csv", student, phone_acc_file_name=[f"{i}.npy" for i in range(N)])
    np.testing.assert_allclose(predict_file(student, tmp_path).iloc[:, 1:], expected, atol=1e-6)


def test_a_device_without_memory_left_says_what_helps(tmp_path, monkeypatch):
    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    student = make_student(encoder="cnn")
    np.savez(tmp_path / "rows.npz", **rows(student))
    monkeypatch.setattr(Network, "forward", full)
    with pytest.raises(RunError, match=r"cpu ran out of memory\. Predict on the CPU \(--device cpu.*fewer rows"):
        predict_file(student, tmp_path / "rows.npz")


def named_student(tmp_path: Path, **how) -> Student:
    """A student of a table whose columns have names, stored and loaded again."""
    x = rows(make_student(reads=("context",)))["context"]
    frame = pd.DataFrame(x, columns=["context.heat", "context.light", "context.noise", "context.wind"])
    data = load(frame.assign(y=[0, 1, 2] * 8), **how)
    torch.manual_seed(0)
    preprocessor = Preprocessor.fit(data, np.arange(N), ["context"])
    network = build_network(preprocessor.shapes, ["context"], 3, NetworkConfig(width=16))
    return load_student(Student(network, preprocessor, make_task("classification", data.class_names)).save(tmp_path))


def test_columns_are_found_by_name_in_any_order(tmp_path):
    student = named_student(tmp_path)
    x = rows(student)["context"]
    frame = pd.DataFrame(x, columns=["context.heat", "context.light", "context.noise", "context.wind"])
    expected = student.predict_proba({"context": x})
    turned = frame[["context.wind", "context.light", "context.heat", "context.noise"]]
    np.testing.assert_allclose(predict_file(student, turned).iloc[:, 2:], expected, atol=1e-6)
    free = named_student(tmp_path, modalities={"context": ["context.wind", "context.heat"]})
    expected = free.predict_proba({"context": x[:, [3, 0]]})
    np.testing.assert_allclose(predict_file(free, frame).iloc[:, 2:], expected, atol=1e-6)
    np.savez(tmp_path / "rows.npz", context=x)  # an array has no names to compare
    assert len(predict_file(student, tmp_path / "rows.npz")) == N


def test_a_renamed_column_is_named(tmp_path):
    student = named_student(tmp_path)
    file = tmp_path / "rows.csv"
    names = ["context.heat", "context.lihgt", "context.noise", "context.wind"]
    pd.DataFrame(rows(student)["context"], columns=names).to_csv(file, index=False)
    with pytest.raises(DataError, match=r"rows.csv: 'context' has no column 'context.light'.* 'context.lihgt'"):
        predict_file(student, file)


def test_a_file_without_what_the_student_reads_is_said_from_the_students_side(tmp_path):
    student = make_student(reads=("context",))
    x = rows(student)["context"]
    pd.DataFrame({f"contxet.{k}": x[:, k] for k in range(4)}).to_csv(tmp_path / "rows.csv", index=False)
    np.savez(tmp_path / "rows.npz", contxet=x)
    for file in ("rows.csv", "rows.npz"):
        with pytest.raises(
            DataError, match=rf"{file}: this student reads context, but 'context' is missing. There is 'contx"
        ):
            predict_file(student, tmp_path / file)
    with pytest.raises(DataError, match=r"'context' is missing\. There is: sound, heart"):
        predict_file(student, {"sound": x, "heart": x, "group": ["ann"] * N})


def test_privileged_columns_are_refused_or_left_unread(tmp_path):
    student = make_student(reads=("context",))
    plain = predict_file(student, table(tmp_path / "plain.csv", student))
    for name, columns in (
        ("nan.csv", {"watch_acc.0": np.nan, "watch_acc.1": np.nan}),
        ("noise.parquet", {"watch_gyro_file_name": "no-such-file.npy"}),
    ):
        file = table(tmp_path / name, student, **columns)
        with pytest.raises(DataError, match=r"'watch_\w+' is a privileged modality: this student reads only context"):
            predict_file(student, file)
        pd.testing.assert_frame_equal(predict_file(student, file, ignore_privileged=True), plain)
    np.savez(tmp_path / "rows.npz", context=rows(student)["context"], watch_acc=np.zeros((N, 5)))
    with pytest.raises(DataError, match="'watch_acc' is a privileged modality"):
        predict_file(student, tmp_path / "rows.npz")


def test_bad_files_are_named_and_leave_nothing(tmp_path):
    student = make_student(reads=("context",))
    inputs = rows(student)["context"]
    out = tmp_path / "out.csv"
    inputs[5, 2] = np.nan
    file = table(tmp_path / "gap.csv", student, **{"context.2": inputs[:, 2]})
    with pytest.raises(DataError, match=r"gap.*'context' is nan in row 5 \(id 'r5'\), column 2"):
        predict_file(student, file, out)
    gone = {f"context.{k}": [np.nan if i == 6 else 1.0 for i in range(N)] for k in range(4)}
    with pytest.raises(DataError, match=r"row 6 \(id 'r6'\) has no 'context'"):
        predict_file(student, table(tmp_path / "gone.csv", student, **gone), out)
    with pytest.raises(DataError, match="does not exist"):
        predict_file(student, tmp_path / "absent.csv", out)
    with pytest.raises(DataError, match=r"unknown suffix for predictions '.txt'"):
        predict_file(student, file, tmp_path / "out.txt")
    assert not out.exists()
    imputing = make_student(reads=("context",), impute="mean")
    assert np.isfinite(predict_file(imputing, tmp_path / "gone.csv").iloc[:, 2:]).all(axis=None)


# other runtimes -----------------------------------------------------------------------------------------------------


def onnx_session(file: Path):
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(file, providers=["CPUExecutionProvider"])


GRAPHS = {
    "vector": {"reads": ("context",)},
    "statistics": {},
    "cnn": {"encoder": "cnn"},
    "variable cnn": {"encoder": "cnn", "variable": True},
    "variable statistics": {"variable": True},
    "hallucinating": {"hallucinate": True},
    "regression": {"task": "regression"},
    "imputing": {"impute": "mean"},
}
QUICK = [("variable cnn", "concat")]
GRID = [(k, f) for k in GRAPHS for f in FUSIONS]


@pytest.mark.parametrize(
    ("kind", "fusion"),
    [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow, id=" ".join(case)) for case in GRID],
)
def test_onnx_says_what_torch_says(kind, fusion, tmp_path):
    student = make_student(**GRAPHS[kind], fusion=fusion)
    session = onnx_session(student.export(tmp_path / "student.onnx"))
    inputs = rows(student, 11)
    if kind == "imputing":
        inputs["context"][3, 1] = np.nan
    lengths = {"phone_acc": np.arange(11) + 5} if "variable" in kind else {}
    given = {**inputs, **{f"{m}_length": n for m, n in lengths.items()}}
    assert [i.name for i in session.get_inputs()] == list(student.deployed.inputs)
    assert not set(given) & set(PRIVILEGED)
    out = session.run(None, given)
    expected = student.respond(inputs, lengths)
    np.testing.assert_allclose(out[-1], expected, atol=1e-4)
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["labels"]) == list(student.class_names)
    assert json.loads(meta["sidelight"])["reads"] == list(student.reads)
    if student.task.name == "classification":
        assert [o.name for o in session.get_outputs()] == ["probabilities", "logits"]
        np.testing.assert_allclose(out[0], student.predict_proba(inputs, lengths=lengths), atol=1e-4)
    else:
        assert [o.name for o in session.get_outputs()] == ["prediction"]


@pytest.mark.parametrize("suffix", mostly_slow([".onnx", ".pt2"], [".pt2"]))
def test_a_group_standardised_student_is_exported_for_one_group(suffix, tmp_path):
    student, file = make_student(reads=("context",), standardize="group"), tmp_path / f"student{suffix}"
    with pytest.raises(RunError, match="a graph has no groups"):
        student.export(file)
    student.calibrate(rows(student), dataset().group)
    with pytest.raises(RunError, match=r"unknown group 'bop'. Did you mean 'bob'"):
        student.export(file, group="bop")
    student.export(file, group="bob")
    if suffix == ".onnx":
        out = onnx_session(file).run(["logits"], rows(student))[0]
    else:
        out = torch.export.load(file).module()(torch.from_numpy(rows(student)["context"]))[1]
    np.testing.assert_allclose(out, student.respond(rows(student), group=["bob"] * N), atol=1e-4)


def test_torch_export_says_what_torch_says(tmp_path):
    student = make_student(reads=("context",))
    extra = {"sidelight.json": ""}
    module = torch.export.load(student.export(tmp_path / "student.pt2"), extra_files=extra).module()
    inputs = rows(student, 5)
    np.testing.assert_allclose(module(torch.from_numpy(inputs["context"]))[1], student.respond(inputs), atol=1e-5)
    assert json.loads(extra["sidelight.json"])["reads"] == ["context"]


def test_a_graph_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    student = make_student(reads=("context",))
    write = graph_module._write_pt2

    def off(*args):
        content, run = write(*args)
        return content, lambda tensors: [out + 0.01 for out in run(tensors)]

    monkeypatch.setattr(graph_module, "_write_pt2", off)
    with pytest.raises(RunError, match=r"differs from torch by 0.01 in 'probabilities' on 1 rows"):
        student.export(tmp_path / "student.pt2")
    assert list(tmp_path.iterdir()) == []


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "suffix",
    mostly_slow([".onnx", ".pt2", ".safetensors", ".csv", ".parquet"], [".pt2", ".safetensors", ".csv", ".parquet"]),
)
def test_a_full_disk_is_named_and_nothing_is_left(suffix, tmp_path, monkeypatch):
    student = make_student(reads=("context",))
    write = partial(predict_file, student, rows(student)) if suffix in (".csv", ".parquet") else student.export
    monkeypatch.setattr("sidelight.utils.atomic.os.fsync", full)
    with pytest.raises(
        DiskError, match=rf"cannot write .*out{suffix}: No space left on device\. Free some space"
    ) as error:
        write(tmp_path / f"out{suffix}")
    assert "job" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    student = make_student(reads=("context",))
    with pytest.raises(ConfigError, match=r"unknown suffix for an export '.onx'. Did you mean '.onnx'"):
        student.export(tmp_path / "student.onx")
    assert student.export(tmp_path / "model.safetensors").is_file()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RunError, match=r'pip install "\.\[export\]"'):
        student.export(tmp_path / "student.onnx")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
