"""Every supported source gives the same rows; every bad one an error that names the culprit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sidelight import data
from sidelight.data import load, load_rows
from sidelight.errors import ConfigError, DataError, SidelightWarning

N = 6
FACE = np.arange(N * 2, dtype=np.float32).reshape(N, 2) / 7
SIGNALS = [np.full((t, 2), t, np.float32) for t in (3, 5, 4, 5, 2, 5)]
TARGET = ["calm", "stress", "calm", "stress", "", "calm"]
GROUP = ["01", "01", "02", "02", "03", "03"]


def table() -> pd.DataFrame:
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(N)], "target": TARGET, "group": GROUP})
    return frame.assign(**{"face.0": FACE[:, 0], "face.1": FACE[:, 1]})


def folder(path: Path, **columns: Any) -> Path:
    """A manifest with feature columns, a file per row (row 1 has none) and one array for all rows."""
    frame = table()
    names = []
    for i, signal in enumerate(SIGNALS):
        if i != 1:
            np.save(path / f"r{i}.npy", signal)
        names.append(f"r{i}.npy")
    names[1] = ""
    frame["voice_file_name"] = names
    np.save(path / "heart.npy", np.ones((N, 4, 1)))
    frame.assign(**columns).to_csv(path / "metadata.csv", index=False)
    return path


def check_toy(d: data.Dataset) -> None:
    np.testing.assert_allclose(d.inputs["face"], FACE, rtol=1e-6)
    assert d.task == "classification"
    assert d.class_names == ("calm", "stress")
    assert d.target.tolist() == [0, 1, 0, 1, -1, 0]
    assert d.labelled.tolist() == [True, True, True, True, False, True]
    assert d.group is not None
    assert d.group.tolist() == GROUP
    assert d.ids.tolist() == [f"r{i}" for i in range(N)]


def test_folder_with_all_three_ways_of_storing_a_modality(tmp_path: Path) -> None:
    d = load(folder(tmp_path))
    check_toy(d)
    assert d.modalities == ("face", "voice", "heart")
    assert d.name == tmp_path.name
    assert d.inputs["voice"].shape == (N, 5, 2)
    assert d.present["voice"].tolist() == [True, False, True, True, True, True]
    assert d.lengths["voice"].tolist() == [3, 0, 4, 5, 2, 5]
    for i, signal in enumerate(SIGNALS):
        expected = np.zeros((5, 2)) if i == 1 else np.pad(signal, ((0, 5 - len(signal)), (0, 0)))
        np.testing.assert_array_equal(d.inputs["voice"][i], expected)
    assert d.inputs["heart"].shape == (N, 4, 1)
    check_toy(load(tmp_path / "metadata.csv", modalities=["face"]))


def test_every_source_gives_the_same_rows(tmp_path: Path) -> None:
    frame = table()
    check_toy(load(frame))
    frame.to_parquet(tmp_path / "rows.parquet")
    check_toy(load(str(tmp_path / "rows.parquet")))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    check_toy(load(tmp_path / "rows.csv"))
    frame.to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    check_toy(load(tmp_path / "rows.tsv"))
    arrays = {"face": FACE, "target": np.array(TARGET), "group": np.array(GROUP), "ids": frame["id"].to_numpy(str)}
    check_toy(load(arrays))
    np.savez(tmp_path / "rows.npz", **arrays)  # type: ignore[arg-type]
    check_toy(load(tmp_path / "rows.npz"))


def test_safetensors_and_npz_modalities_with_lengths(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "metadata.csv", index=False)
    lengths = np.array([3, 3, 2, 1, 3, 3])
    save_file({"features": np.ones((N, 3, 1), np.float32), "lengths": lengths}, tmp_path / "heart.safetensors")
    np.savez(tmp_path / "skin.npz", skin=np.ones((N, 4)), other=np.zeros(3))
    d = load(tmp_path)
    assert d.modalities == ("face", "heart", "skin")
    assert d.lengths["heart"].tolist() == lengths.tolist()
    assert d.shape("skin") == (4,)


def test_beside_a_manifest_of_another_name_only_named_arrays_are_read(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "rows.csv", index=False)
    np.savez(tmp_path / "stray.npz", a=np.zeros(3), b=np.zeros(4))
    np.save(tmp_path / "heart.npy", np.ones((N, 4)))
    assert load(tmp_path / "rows.csv").modalities == ("face",)
    assert load(tmp_path / "rows.csv", modalities=["face", "heart"]).modalities == ("face", "heart")


def test_dict_modalities_may_be_lists_of_signals_with_gaps() -> None:
    voice = [None, *SIGNALS[1:]]
    d = load({"voice": voice, "y": [0, 1, 0, 1, 0, 1]})
    assert d.present["voice"].tolist() == [False] + [True] * 5
    assert d.lengths["voice"].tolist() == [0, 5, 4, 5, 2, 5]
    full = load({"voice": d.inputs["voice"], "voice_length": d.lengths["voice"], "y": [0, 1, 0, 1, 0, 1],
                 "voice_present": d.present["voice"]})  # fmt: skip
    np.testing.assert_array_equal(full.inputs["voice"], d.inputs["voice"])
    assert full.lengths["voice"].tolist() == d.lengths["voice"].tolist()


def test_npz_with_class_names_codes_and_hidden_labels() -> None:
    arrays = {"face": FACE, "y": np.array([0, 1, 2, -1, 0, 1]), "class_names": np.array(["a", "b", "c"])}
    d = load(arrays)
    assert d.class_names == ("a", "b", "c")
    assert d.modalities == ("face",)
    assert d.labelled.tolist() == [True, True, True, False, True, True]
    hidden = load(arrays | {"labelled": [True] * 5 + [False]})
    assert hidden.target.tolist() == [0, 1, 2, -1, 0, -1]
    with pytest.raises(DataError, match=r"row 2: target 'y' is 7, but class_names has 3 names"):
        load(arrays | {"y": np.array([0, 1, 7, 1, 0, 1])})


def test_rows_that_are_nan_throughout_are_absent() -> None:
    face = FACE.copy()
    face[2] = np.nan
    d = load({"face": face, "y": TARGET})
    assert d.present["face"].tolist() == [True, True, False, True, True, True]
    assert not d.inputs["face"][2].any()


def test_prefixes_and_column_lists(tmp_path: Path) -> None:
    frame = table().rename(columns={"face.0": "v_a", "face.1": "v_b"})
    assert load(frame, modalities={"face": "v_"}).shape("face") == (2,)
    assert load(frame, modalities={"face": ["v_b"]}).shape("face") == (1,)
    assert load(frame, modalities=["v_b"]).shape("v_b") == (1,)


@pytest.mark.parametrize(
    ("target", "task", "labels"),
    [
        (["x", "y", "x", "y", "x", None], "classification", ("x", "y")),
        ([2, 10, 2, 10, 2, 2], "classification", ("2", "10")),
        ([True, False, True, True, True, False], "classification", ("False", "True")),
        (["2", "10", "2", "10", "2", ""], "classification", ("2", "10")),
        (["01", "02", "01", "02", "01", ""], "classification", ("01", "02")),
        ([0.5, 1.0, 0.0, 1.0, 2.0, np.nan], "regression", ("y",)),
        (["0.5", "1", "0", "1", "2", ""], "regression", ("y",)),
        ([1.0, 2.0, 3.0, 1.0, 2.0, 3.0], "regression", ("y",)),
        ([-1, 1, -1, 1, -1, 1], "classification", ("-1", "1")),
    ],
)
def test_the_task_is_read_from_the_target(target: list[Any], task: str, labels: tuple[str, ...]) -> None:
    for source in ({"face": FACE, "y": target}, pd.DataFrame({"face.0": FACE[:, 0], "y": target})):
        d = load(source)
        assert (d.task, d.class_names) == (task, labels)


def test_the_task_can_be_said() -> None:
    whole = {"face": FACE, "y": [1, 2, 3, 1, 2, 3]}
    assert load(whole, task="regression").target[:, 0].tolist() == [1, 2, 3, 1, 2, 3]
    assert load({"face": FACE, "y": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]}, task="classification").class_names == (
        "1",
        "2",
        "3",
    )
    assert load(whole, task="auto").task == "classification"
    with pytest.raises(ConfigError, match="Did you mean 'regression'"):
        load(whole, task="regresion")


def test_whole_numbers_with_gaps_are_classes_and_that_is_said(tmp_path: Path) -> None:
    frame = pd.DataFrame({"face.0": FACE[:, 0], "y": [0, 1, None, 1, 0, 1]})
    with pytest.warns(SidelightWarning, match="read as 2 classes"):
        assert load(frame).class_names == ("0", "1")
    frame.to_csv(tmp_path / "rows.csv", index=False)  # pandas writes 0.0 and 1.0
    with pytest.warns(SidelightWarning, match="read as 2 classes"):
        d = load(tmp_path / "rows.csv")
    assert d.class_names == ("0", "1")
    assert d.target.tolist() == [0, 1, -1, 1, 0, 1]


def test_many_whole_numbers_get_a_warning() -> None:
    with pytest.warns(SidelightWarning, match=r"40 classes.*task='regression'"):
        load({"face": np.ones((80, 1)), "y": np.arange(80) % 40})


def test_several_targets() -> None:
    y = {"valence": np.linspace(0, 1, N), "arousal": np.linspace(1, 0, N)}
    d = load({"face": FACE, **y}, target=["valence", "arousal"])
    assert (d.task, d.class_names, d.target.shape) == ("regression", ("valence", "arousal"), (N, 2))
    assert load({"face": FACE, "y": np.random.default_rng(0).random((N, 2))}).class_names == ("y.0", "y.1")
    with pytest.raises(DataError, match="one target column, but got 2"):
        load({"face": FACE, **y}, target=["valence", "arousal"], task="classification")


def test_official_split_names_are_understood() -> None:
    frame = table().assign(split=["train", "Train", "val", "dev", "test", "eval"])
    d = load(frame)
    assert d.split is not None
    assert d.split.tolist() == ["train", "train", "select", "select", "test", "test"]
    with pytest.raises(DataError, match=r"id 'r5'.*unknown split 'tets'. Did you mean 'test'"):
        load(frame.assign(split=["train"] * 5 + ["tets"]))


def test_numeric_groups_are_named_as_they_look() -> None:
    d = load({"face": FACE, "y": TARGET, "subject": np.array([1.0, 1, 2, 2, 3, 3])})
    assert d.group is not None
    assert d.group.tolist() == list("112233")


def test_load_rows_needs_no_target(tmp_path: Path) -> None:
    frame = table().drop(columns=["target"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    rows = load_rows(tmp_path / "new.csv", ["face"])
    np.testing.assert_allclose(rows.inputs["face"], FACE, rtol=1e-6)
    assert rows.ids is not None
    assert rows.ids[2] == "r2"
    assert len(load_rows({"face": FACE, "voice": "never read"}, ["face"])) == N
    with pytest.raises(DataError, match="Did you mean 'face'"):
        load_rows(tmp_path / "new.csv", ["fase"])
    face = FACE.copy()
    face[3, 1] = np.nan
    with pytest.raises(DataError, match=r"'face' is nan in row 3, column 1"):
        load_rows({"face": face}, ["face"])


# --- errors -----------------------------------------------------------------------------------------------------------


def says(call: Any, *words: object) -> None:
    with pytest.raises((DataError, ConfigError)) as error:
        call()
    for word in words:
        assert str(word) in str(error.value), f"{word!r} not in: {error.value}"


def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    says(lambda: load("phone-wach"), "phone-wach", "Did you mean 'phone-watch'")
    says(lambda: load(tmp_path / "no.csv"), "no.csv", "does not exist")
    says(lambda: load(tmp_path), tmp_path, "metadata.csv")
    (tmp_path / "rows.pkl").write_bytes(b"")
    says(lambda: load(tmp_path / "rows.pkl"), "rows.pkl", ".pkl", ".parquet")
    says(lambda: load(3), "int", "DataFrame")


def test_a_built_in_set_keeps_its_own_target() -> None:
    says(lambda: load("phone-watch", target="y"), "phone-watch", "target='y'")
    assert load("phone-watch", modalities=["phone_acc"], task="auto").modalities == ("phone_acc",)


@pytest.mark.parametrize("name", ["rows.npz", "rows.parquet", "rows.csv"])
def test_unreadable_sources(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff\xfe\x00\x01 not this")
    says(lambda: load(path), name, "cannot read")


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.parquet", "blank.csv"])
def test_an_empty_table_says_what_was_expected(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\n\n" if name == "blank.csv" else b"")
    says(lambda: load(path), name, "is empty; expected the names of the columns")


def test_truncated_npz_names_file_and_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", face=np.random.default_rng(0).random((500, 50)), y=np.zeros(500))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    says(lambda: load(tmp_path / "a.npz"), "a.npz", "truncated")
    (tmp_path / "a.npz").write_bytes(whole[:200] + b"\0" * 400 + whole[600:])
    says(lambda: load(tmp_path / "a.npz"), "a.npz", "face")


class Evil:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("executed",))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    evil = np.array([Evil(), Evil()], dtype=object)
    np.savez(tmp_path / "evil.npz", face=evil, y=np.arange(2))
    says(lambda: load(tmp_path / "evil.npz"), "evil.npz", "face", "never loaded")
    folder(tmp_path)
    np.save(tmp_path / "r3.npy", evil)
    says(lambda: load(tmp_path), "voice", "id 'r3'", "never loaded")
    (tmp_path / "r3.npy").write_bytes(pickle.dumps(Evil()))
    says(lambda: load(tmp_path), "voice", "id 'r3'", "r3.npy", "never loaded")


def test_row_files_missing_truncated_or_of_another_shape(tmp_path: Path) -> None:
    folder(tmp_path)
    good = (tmp_path / "r4.npy").read_bytes()
    (tmp_path / "r4.npy").unlink()
    says(lambda: load(tmp_path), "metadata.csv", "voice", "row 4", "r4.npy", "does not exist")
    (tmp_path / "r4.npy").write_bytes(good[:-5])
    says(lambda: load(tmp_path), "voice", "row 4", "r4.npy", "truncated")
    np.save(tmp_path / "r4.npy", np.ones((3, 7)))
    says(lambda: load(tmp_path), "voice", "row 4", "r4.npy", "(3, 7)", "(3, 2)", "row 0")
    np.save(tmp_path / "r4.npy", np.array(["a"]))
    says(lambda: load(tmp_path), "voice", "row 4", "expected numbers")
    np.save(tmp_path / "r4.npy", np.full((3, 2), np.nan))
    assert not load(tmp_path).present["voice"][4]
    np.save(tmp_path / "r4.npy", with_nan())
    says(lambda: load(tmp_path), "metadata.csv", "voice", "row 4", "time step 1, channel 0", "impute")
    assert load(tmp_path, impute="mean").impute == "mean"


def with_nan() -> np.ndarray:
    x = np.ones((3, 2))
    x[1, 0] = np.nan
    return x


def test_one_axis_files_of_varying_length_say_how_to_store_them() -> None:
    says(lambda: load({"voice": [np.ones(3), np.ones(4)], "y": [0, 1]}), "voice", "row 1", "(4,)", "(T, 1)")


def test_array_files_with_other_rows(tmp_path: Path) -> None:
    folder(tmp_path)
    np.save(tmp_path / "heart.npy", np.ones((N - 1, 2)))
    says(lambda: load(tmp_path), "heart.npy", "(5, 2)", "6 rows", "modalities=")
    (tmp_path / "heart.npy").unlink()
    (tmp_path / "heart.safetensors").write_bytes(b"short")
    says(lambda: load(tmp_path), "heart.safetensors", "cannot read")


def test_a_modality_stored_twice_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    np.save(tmp_path / "face.npy", FACE)
    says(lambda: load(tmp_path), "face", "several ways", "face.npy")


def test_table_errors_name_column_row_and_value(tmp_path: Path) -> None:
    frame = table()
    says(lambda: load(frame, target="tagret"), "tagret", "Did you mean 'target'")
    says(lambda: load(frame, group="subject_id"), "group", "subject_id")
    says(lambda: load(frame.drop(columns="target")), "which column is the target", "face.0")
    says(lambda: load(frame, modalities=["fase"]), "fase", "'face'")
    says(lambda: load(frame, modalities={"face": "x_"}), "face", "x_")
    says(lambda: load(frame, modalities={"face": ["face.7"]}), "face.7", "'face.")
    says(lambda: load(frame.drop(columns=["face.0", "face.1"])), "no modality found", "_file_name")
    says(lambda: load(frame.assign(group=["a", "a", "", "b", "b", "b"])), "id 'r2'", "group")
    says(lambda: load(frame.assign(id=["a", "b", "a", "c", "d", "e"])), "'a'", "2 times")
    says(lambda: load(frame.assign(id=["a", "", "a", "c", "d", "e"])), "row 1 has no id")
    says(lambda: load(frame, task="regression"), "id 'r0'", "'calm'", "needs a number")
    words = [str(v) for v in FACE[:, 0]]
    words[3] = "1,5"
    bad = frame.assign(**{"face.0": words})
    bad.to_csv(tmp_path / "rows.csv", index=False)
    for source in (bad, tmp_path / "rows.csv"):
        says(lambda source=source: load(source), "face", "id 'r3'", "face.0", "'1,5'")
    holes = frame.assign(**{"face.0": [0, 1, 2, 3, np.nan, 5]})
    holes.to_csv(tmp_path / "holes.csv", index=False)
    says(lambda: load_rows(tmp_path / "holes.csv", ["face"]), "id 'r4'", "column 'face.0'")
    says(
        lambda: load(tmp_path / "holes.csv"), "holes.csv", "face", "nan", "id 'r4'", "column 'face.0'", "impute='mean'"
    )
    assert np.isnan(load(tmp_path / "holes.csv", impute="mean").inputs["face"][4, 0])


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_column_that_occurs_twice_is_named(tmp_path: Path, name: str) -> None:
    sep = "\t" if name.endswith("tsv") else ","
    for header in (["y", "cam.1", "cam.1"], ["\ufeffy", '"cam.1"', "cam.1"], ["\n\ny", "cam.1", "cam.1"]):
        lines = [header, *([str(i % 2), str(i), str(i)] for i in range(N))]
        (tmp_path / name).write_text("\n".join(sep.join(line) for line in lines), encoding="utf-8")
        for read in (load, lambda path: load_rows(path, ["cam"])):
            says(lambda read=read: read(tmp_path / name), name, "'cam.1'", "2 times")
    (tmp_path / name).write_text(sep.join(["y", "cam.1", "", ""]) + "\n" + f"0{sep}1{sep}{sep}\n1{sep}2{sep}{sep}\n")
    assert load(tmp_path / name).modalities == ("cam",)


def test_words_for_no_value_are_the_same_in_every_role(tmp_path: Path) -> None:
    words = ["None", "NA", "low", "n/a", "", "low"]
    path = tmp_path / "rows.csv"
    table().assign(target=words, group=[*"aabbcc"], time=range(6)).to_csv(path, index=False)
    with pytest.warns(SidelightWarning, match="target 'target': 'NA', 'n/a' means 'no value', and 2 rows have no"):
        d = load(path)
    assert d.class_names == ("None", "low")  # a class of words may be called None
    assert d.labelled.tolist() == [True, False, True, False, False, True]
    table().assign(target=["1", "null", "2", "1", "None", "2"]).to_csv(path, index=False)
    with pytest.warns(SidelightWarning, match="2 rows have no label"):  # among numbers it cannot be one
        assert load(path).labelled.tolist() == [True, False, True, True, False, True]
    for role, says in (("group", "no value in the group column"), ("time", "is empty"), ("ids", "has no id")):
        table().assign(**{"ids" if role == "ids" else role: ["a", "<NA>", *"bcde"]}).drop(columns="id").to_csv(
            path, index=False
        )
        says_row(lambda role=role: load(path, **{role: role}), says)


def says_row(call: Callable[[], object], what: str) -> None:
    with pytest.raises(DataError, match=what) as error:
        call()
    assert "row 1" in str(error.value)


def test_sources_without_rows(tmp_path: Path) -> None:
    frame = table().assign(voice_file_name="")[:0]
    np.savez(tmp_path / "rows.npz", face=FACE[:0], y=np.zeros(0))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    arrays = {"face": FACE[:0], "y": np.zeros(0)}
    for path in (tmp_path / "rows.csv", tmp_path / "rows.parquet", tmp_path / "rows.npz", tmp_path):
        says(lambda path=path: load(path), path, "has no rows")
        says(lambda path=path: load_rows(path, ["face"]), path, "has no rows")
    for source in (frame, arrays, {"face": [], "y": []}):
        says(lambda source=source: load(source), "has no rows")
        says(lambda source=source: load_rows(source, ["face"]), "has no rows")


def test_array_errors() -> None:
    good = {"face": FACE, "y": TARGET}
    says(lambda: load(good | {"voice": np.ones((5, 2))}), "voice", "5 rows", "6")
    says(lambda: load(good | {"names": np.array(list("abcdef"))}, modalities=["names"]), "names", "expected numbers")
    says(lambda: load(good, modalities=["fase"]), "fase", "'face'")
    says(lambda: load(good | {"group": list("abc")}), "group", "3 rows")
    says(lambda: load({"y": TARGET}), "no modalities")
    says(lambda: load({"face": FACE, "y": [""] * N}), "no row has a label")
    assert load(good | {"names": np.array(list("abcdef"))}).modalities == ("face",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelled": [True] * 3}, ["labelled", "(3,)", "(6,)"]),
        ({"labelled": np.ones((N, 1), bool)}, ["labelled", "(6, 1)", "(6,)"]),
        ({"labelled": ["False"] * N}, ["labelled", "<U5", "true or false"]),
        ({"labelled": [1.0] * N}, ["labelled", "float64", "true or false"]),
        ({"group": np.ones((N, 2))}, ["'group'", "(6, 2)", "one value per row"]),
        ({"ids": np.ones((N, 2))}, ["'ids'", "(6, 2)", "one value per row"]),
        ({"split": np.full((N, 2), "train")}, ["'split'", "(6, 2)", "one value per row"]),
        ({"group": [[1], [1, 2], [3], [1], [1], [1]]}, ["'group'", "not an array"]),
        ({"face": FACE + 1j}, ["'face'", "complex", "real numbers"]),
        ({"skin": FACE + 1j}, ["'skin'", "complex", "real numbers"]),
        ({"y": np.arange(N) + 1j}, ["'y'", "complex", "real numbers"]),
        ({"face_length": [1, 2]}, ["face_length", "(2,)", "(6,)"]),
        ({"face_length": [0.5] * N}, ["face_length", "float64", "whole numbers"]),
        ({"face_present": ["no"] * N}, ["face_present", "<U2", "true or false"]),
        ({"class_names": "ab"}, ["class_names", "()", "one name per class"]),
    ],
)
def test_arrays_that_are_not_what_their_key_means(changes: dict[str, Any], words: list[str]) -> None:
    says(lambda: load({"face": FACE, "y": [0, 1, 0, 1, 0, 1]} | changes), "data", *words)


def test_a_single_value_is_no_modality_of_new_rows() -> None:
    says(lambda: load_rows({"face": 3.0}, ["face"]), "no arrays")
    says(lambda: load_rows({"face": FACE, "skin": np.float32(3)}, ["face", "skin"]), "'skin'", "a single value")


def test_complex_columns_and_lengths_of_another_shape_are_named(tmp_path: Path) -> None:
    says(lambda: load(table().assign(**{"face.1": FACE[:, 1] + 1j})), "'face.1'", "complex", "real numbers")
    table().to_csv(tmp_path / "metadata.csv", index=False)
    np.savez(tmp_path / "heart.npz", heart=np.ones((N, 3, 1)), lengths=np.ones((N, 1), int))
    says(lambda: load(tmp_path), "metadata.csv", "lengths in heart.npz", "(6, 1)", "(6,)")


@given(st.lists(st.integers(0, 6), min_size=2, max_size=8).filter(lambda t: sum(v > 0 for v in t) > 1))
def test_padding_never_invents_or_loses_a_step(steps: list[int]) -> None:
    rows = [np.full((t, 2), i + 1.0) if t else None for i, t in enumerate(steps)]
    target = np.arange(len(steps)) % 2
    d = load({"voice": rows, "y": target})
    assert d.present["voice"].tolist() == [t > 0 for t in steps]
    kept = [t for t in steps if t]
    if len(set(kept)) > 1:
        assert d.lengths["voice"].tolist() == steps
    else:
        assert "voice" not in d.lengths
    sums = d.inputs["voice"].sum((1, 2))
    assert sums.tolist() == [2.0 * t * (i + 1) for i, t in enumerate(steps)]


def test_feature_columns_may_stand_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(6, 12)), columns=[f"video.{k}" for k in range(12)])
    frame["target"] = [0, 1] * 3
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame[frame.columns[::-1]].to_csv(tmp_path / "b.csv", index=False)
    first, second = (load(tmp_path / name).inputs["video"] for name in ("a.csv", "b.csv"))
    assert np.array_equal(first, second)
    assert np.allclose(first, frame[[f"video.{k}" for k in range(12)]].to_numpy(), atol=1e-6)
    named = frame.rename(columns={f"video.{k}": f"video.au{k}" for k in range(12)})
    turned = named[named.columns[::-1]]
    assert np.array_equal(load(named).inputs["video"], load(turned).inputs["video"])
