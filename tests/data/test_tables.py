"""What tables and arrays may hold besides plain numbers: read as it is meant, refused by name, or said."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sidelight.data import load, load_rows
from sidelight.data.similar_names import find_similar_names
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.recordings.series import Signal
from sidelight.signals import LabelTrack, Recording, Windows, cut

N = 12
WORDS = ["a", "b"] * (N // 2)
X = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
DAYS = pd.date_range("2020", periods=N)
VECTORS = np.random.default_rng(1).normal(size=(N, 4))


def frame(**columns: Any) -> pd.DataFrame:
    """Two features and a target; `eda__x=…` becomes the column eda.x."""
    made = pd.DataFrame({"y": WORDS, "face.0": X[:, 0], "face.1": X[:, 1]})
    return made.assign(**{c.replace("__", "."): pd.Series(v, index=made.index) for c, v in columns.items()})


def arrays(**more: Any) -> dict[str, Any]:
    return {"face": X, "y": WORDS} | more


def quietly(source: Any, **settings: Any) -> Any:
    """`load`, any warning being an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(source, **settings)


# times, and other cells that are no numbers


@pytest.mark.parametrize(
    "column",
    [
        DAYS,
        [pd.NaT, *DAYS[1:]],
        DAYS.tz_localize("UTC"),
        DAYS - DAYS[0],
        DAYS.to_period("D"),
        pd.interval_range(0, N),
        pd.Categorical(DAYS),
        pd.Series(list(DAYS), dtype=object),
        [d.date() for d in DAYS],
        [datetime.time(1)] * N,
        [*[1.0] * (N - 1), pd.Timedelta(1)],
    ],
)
def test_times_are_no_features_and_nothing_to_predict(column: Any, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"modality 'eda', .*column 'eda.t' holds .*date.*leave it out, or give seconds"
    ):
        load(frame(eda__t=column))
    with pytest.raises(DataError, match=r"column 'y' holds dates or times"):
        load(frame(y=column))


def test_times_in_parquet_and_arrays(tmp_path: Path) -> None:
    frame(eda__t=DAYS).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'eda.t' holds dates or times \(datetime64"):
        load(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'y' holds dates or times"):
        load(arrays(y=DAYS.to_numpy()))
    d = quietly(arrays(group=DAYS.to_numpy()))
    assert d.group[1] == "2020-01-02 00:00:00"
    with pytest.raises(DataError, match="row 0 has no value in the group column"):
        load(frame(group=[pd.NaT, *DAYS[1:]]))


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ([b"1"] * N, "row 0, column 'eda.x' holds a bytes"),
        ([{"a": 1}] * N, "holds a dict"),
        ([1j] * N, "complex"),
        ([1e39] * N, "row 0, column 'eda.x'|column 'eda.x', row 0: 1e.39 is too large for float32"),
        (["1", "1e39", *["1"] * 10], "column 'eda.x', row 1: 1e.39 is too large for float32"),
        (["1", "1e400", *["1"] * 10], "row 1, column 'eda.x': 1e400 is too large for float32"),
        ([1, 10**400, *[1] * 10], "row 1, column 'eda.x': 10+ is too large for float32"),
        (["1", "1,5", *["1"] * 10], "row 1, column 'eda.x': '1,5' has a decimal comma; write 1.5"),
        (["1", "inf", *["1"] * 10], "'eda' is inf in row 1"),
    ],
)
def test_cells_that_are_no_number_are_named(column: list[Any], says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=says):
            load(frame(eda__x=column))


@pytest.mark.parametrize("shape", [(N, 2), (N, 3, 2), (N, 3, 8, 8)])
def test_numbers_too_large_for_float32_are_not_called_infinite(shape: tuple[int, ...]) -> None:
    for big in (np.full(shape, 1e39), list(np.full(shape, 1e39))):
        with pytest.raises(DataError, match=r"'eda', row 0.*1e\+39 is too large for float32"):
            quietly(arrays(eda=big))
    with pytest.raises(DataError, match="too large for float32"):
        quietly(arrays(y=[1e39, *[0.5] * (N - 1)]))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pd.array([1, 2] * 6, dtype="Int64"), [1, 2]),
        (pd.array([1.5, 2] * 6, dtype="Float64"), [1.5, 2]),
        (pd.array([True, False] * 6, dtype="boolean"), [1, 0]),
        (pd.arrays.SparseArray([0.0, 2.0] * 6), [0, 2]),
        (pd.Categorical([3, 5] * 6), [3, 5]),
        ([Decimal("1.5"), 2] * 6, [1.5, 2]),
        (["n/a", " NA "] * 6, [np.nan, np.nan]),
        (["n/a", "7"] * 6, [np.nan, 7]),
        (pd.array([None, 2] * 6, dtype="Int64"), [np.nan, 2]),
    ],
)
def test_kinds_of_columns_that_are_numbers(column: Any, value: list[float]) -> None:
    d = quietly(frame(eda__x=column, eda__always=1.0), impute="mean")
    assert d.columns["eda"] == ("eda.always", "eda.x")
    np.testing.assert_array_equal(d.inputs["eda"][:2, 1], np.array(value, np.float32))


# lists


def test_lists_of_one_length_are_a_vector(tmp_path: Path) -> None:
    for name in ("emb", "emb__x"):
        for kind in (list, tuple, np.asarray):
            d = quietly(frame(**{name: [kind(v) for v in VECTORS]}))
            np.testing.assert_allclose(d.inputs["emb"], VECTORS, atol=1e-6)
    frame(emb=list(VECTORS)).to_parquet(tmp_path / "a.parquet")
    np.testing.assert_allclose(quietly(tmp_path / "a.parquet").inputs["emb"], VECTORS, atol=1e-6)
    np.testing.assert_allclose(load_rows(tmp_path / "a.parquet", ["emb"]).inputs["emb"], VECTORS, atol=1e-6)
    assert quietly(frame(emb=[None, [], *VECTORS[2:]])).present["emb"].tolist() == [False] * 2 + [True] * (N - 2)
    signals = quietly(frame(emb=[[[1, 2]] * (1 + i % 3) for i in range(N)]))
    assert signals.lengths["emb"].tolist() == [1, 2, 3] * 4


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ([1.0] * 5, "row 11 holds 5 numbers, but row 0 holds 4"),
        (["a"] * 4, "row 11: a list of 4 values that are not numbers"),
        ([DAYS[0]] * 4, "row 11: a list of 4 values that are not numbers"),
        (np.array(["2020"] * 4, "M8[D]"), "row 11: a list of 4 values that are not numbers"),
        (3.0, "row 11: 3.0 is not a list"),
        ([1e39] * 4, "row 11, place 0: 1e.39 is too large"),
    ],
)
def test_other_lists_are_refused_by_row_and_both_lengths(last: Any, says: str) -> None:
    with pytest.raises(DataError, match=f"modality 'emb'.*{says}"):
        load(frame(emb=[*VECTORS[:-1].tolist(), last]))
    with pytest.raises(DataError, match="'y' holds a list in row 0; expected one value per row"):
        load(frame(y=[[1, 0]] * N))


# names of columns, and the index


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (pd.MultiIndex.from_tuples([("y", ""), ("face", "0"), ("face", "1")]), "2 levels .a MultiIndex.; join them"),
        (["y", 1.5, 2.5], "a column is called 1.5 .float."),
        (["y", None, "face.1"], "column names must be strings"),
        (["y", "face.0", "face.0"], "'face.0' occurs twice"),
        (["y", 1, "1"], "'1' occurs twice"),
    ],
)
def test_columns_that_are_not_strings(columns: Any, says: str) -> None:
    table = frame()
    table.columns = columns
    with pytest.raises(DataError, match=says):
        load(table)


def test_levels_of_the_index_with_a_name_are_columns(tmp_path: Path) -> None:
    table = frame(subject=["u", "v"] * 6).set_index("subject")
    table.to_parquet(tmp_path / "a.parquet")
    for source in (table, tmp_path / "a.parquet"):
        assert quietly(source).group.tolist() == ["u", "v"] * 6
    assert quietly(frame().set_axis([0] * N)).inputs["face"].tolist() == X.tolist()


# arrays


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.ones(N, 2, requires_grad=True), "'face' is a tensor with a gradient.*give its .detach"),
        ([torch.ones(2, requires_grad=True)] * N, "row 0 is a tensor with a gradient"),
        (torch.eye(N).to_sparse(), "sparse or quantized tensor"),
        (torch.ones(N, 2) * 1j, "real numbers"),
        (torch.ones(N, 2, device="meta"), "without values"),
        (np.zeros(N, [("a", float), ("b", int)]), "has the fields a, b; give one array for each"),
        (np.array([1.0, "x"] * 6, object), "row 1, a cell: 'x' is not a number"),
        ([1.0, "x"] * 6, "row 1, a cell: 'x' is not a number"),
        (pd.DataFrame({"a": [1.0] * N, "b": WORDS}), "row 0, a cell: 'a' is not a number"),
        ([[1, 2], [3]] * 6, "'face', row 1 has shape .1,., but row 0 has .2,."),
    ],
)
def test_arrays_that_are_refused(value: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        load(arrays(face=value))


def test_arrays_that_are_read() -> None:
    for value in (torch.tensor(X), [torch.tensor(x) for x in X], pd.DataFrame(X), X.astype(object), np.ma.array(X)):
        np.testing.assert_array_equal(quietly(arrays(face=value)).inputs["face"], X)
    masked = np.ma.array(X, mask=[[True, True]] + [[False, False]] * (N - 1))
    assert quietly(arrays(face=masked)).present["face"].tolist() == [False] + [True] * (N - 1)
    gaps = quietly(arrays(y=np.ma.array(WORDS, mask=[True] + [False] * (N - 1))))
    assert gaps.labelled.tolist() == [False] + [True] * (N - 1)
    assert quietly(arrays(face=torch.ones(N, 2, dtype=torch.bfloat16))).inputs["face"].tolist() == [[1, 1]] * N
    ragged = np.array([np.ones((1 + i % 2, 2)) for i in range(N)], object)
    assert quietly(arrays(eda=ragged)).lengths["eda"].tolist() == [1, 2] * 6
    assert quietly(arrays(y=np.array([b"a", b"b"] * 6))).class_names == ("a", "b")
    assert quietly(arrays(y=["a", np.nan, *WORDS[2:]])).class_names == ("a", "b")
    with pytest.raises(DataError, match="'1' occurs 2 times"):
        load(arrays() | {1: X, "1": X})


# classes and groups


def test_names_that_are_alike() -> None:
    assert find_similar_names(["01", "1", "1.0", "2", "-1", "S3", "s3", "s4"]) == [("01", "1", "1.0"), ("S3", "s3")]
    assert find_similar_names(["P01", "P1", "left hand", "left_hand", "P10"]) == [
        ("P01", "P1"),
        ("left hand", "left_hand"),
    ]
    assert find_similar_names(["True", "1", "0", "false"]) == [("0", "false"), ("1", "True")]
    assert find_similar_names(["True", "False", "1-1", "11", "a", "b", "1.5", "15", "-2", "2"]) == []


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (["Low", "low", "high"] * 4, "'Low' and 'low' differ only in how they are written.*class of its own"),
        (["01", "1", "2"] * 4, "'01' and '1'"),
        ([True, 1, 0, False] * 3, "'0' and 'False'; '1' and 'True'"),
        (["-", *WORDS[1:]], "'-' is read as the name of a class"),
        (["other", *["1", "2"] * 5, "1"], "row 0: target 'y' is 'other' and is read as a class, but 92%"),
        ([-1, 0, 2] * 4, "−1 is read as a class in 4 rows, beside 0, 2"),
    ],
)
def test_classes_that_are_probably_none_are_said(target: list[Any], says: str) -> None:
    with pytest.warns(SidelightWarning, match=says):
        assert load(frame(y=pd.Series(target, dtype=object))).task == "classification"


def test_groups_that_are_alike_are_said_and_kept_apart() -> None:
    with pytest.warns(SidelightWarning, match=r"'01', '1' and '1.0'; 'S3' and 's3' differ.*both sides of a fold"):
        d = load(frame(group=["01", "1", "1.0", "S3", "s3", "x"] * 2))
    assert len(set(d.group.tolist())) == 6  # type: ignore[union-attr]


@pytest.mark.parametrize("code", [int, float, str])
def test_minus_one_beside_class_codes_is_no_label(code: Callable[[int], Any]) -> None:
    target = [code(v) for v in [-1, 0, 1] * 4]
    with pytest.warns(SidelightWarning, match=r"−1 is read as 'no label' in 4 rows, beside 0, 1"):
        d = load(arrays(y=target), task="classification")
    assert d.class_names == ("0", "1")
    assert d.target.tolist() == [-1, 0, 1] * 4
    assert d.labelled.tolist() == [False, True, True] * 4
    assert quietly(arrays(y=target, labelled=[True] * N), task="classification").class_names == ("-1", "0", "1")
    assert quietly(arrays(y=target, labelled=[False, True, True] * 4), task="classification").class_names == ("0", "1")
    assert quietly(arrays(y=[-1, 1] * 6)).class_names == ("-1", "1")
    assert quietly(arrays(y=[-2, -1, 0, 1] * 3)).class_names == ("-2", "-1", "0", "1")


def test_one_hot_targets_are_refused() -> None:
    y = np.eye(3)[np.arange(N) % 3]
    for source, target in ((arrays(y=y), None), (frame(p=y[:, 0], q=y[:, 1], r=y[:, 2]), ["p", "q", "r"])):
        with pytest.raises(DataError, match=r"are one-hot, a single 1 in each row; .*argmax"):
            load(source, target=target)
        assert load(source, target=target, task="regression").target.tolist() == y.tolist()
    with pytest.warns(SidelightWarning, match="several classes at once are not supported"):
        load(arrays(y=np.minimum(y + np.roll(y, 1, 1), 1)))


@pytest.mark.parametrize(("names", "says"), [(["a", "a"], "'a' occurs 2 times"), (["a", " "], "class 1 has an empty")])
def test_class_names_that_cannot_be(names: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load(arrays(y=[0, 1] * 6, class_names=names))


@pytest.mark.parametrize(
    ("cell", "says"),
    [("-", "is '-', but 92% of its cells are numbers; leave the cell empty"), ("0,10", "decimals with a point")],
)
def test_a_word_among_the_numbers_of_a_rating_is_refused(cell: str, says: str, tmp_path: Path) -> None:
    rating = ["1.5", "2.5", "3.0", cell, *["2.0", "1.5"] * 4]
    for source in (frame(y=rating, id=[f"r{i}" for i in range(N)]), tmp_path / "a.csv"):
        if not isinstance(source, Path):
            source.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(DataError, match=f"row 3 .id 'r3'.: target 'y' is '{cell}'|{says}") as error:
            load(source)
        assert "row 3" in str(error.value)
        assert len(load(source, task="classification").class_names) == 5


# windows


def windows(seed: int = 0, rate: float = 4.0, names: bool = False) -> Windows:
    labels = [""] * 10 + ["calm"] * 20 + ["stress"] * 20 if names else [-1] * 10 + [0] * 20 + [1] * 20
    signal = np.random.default_rng(seed).random(round(50 * rate))
    return cut({"eda": Recording(signal, rate, "uS")}, 5, 5, labels=LabelTrack(np.array(labels), 1))


def test_windows_of_one_session_and_of_several() -> None:
    one = quietly(windows())
    assert (one.class_names, one.labelled.tolist()) == (("0", "1"), [False] * 2 + [True] * 8)
    assert one.ids[:2].tolist() == ["0.0", "5.0"]
    several = quietly({"anna": windows(0, names=True), "ben": windows(1, names=True)})
    assert several.class_names == ("calm", "stress")
    assert several.group.tolist() == ["anna"] * 10 + ["ben"] * 10
    assert several.ids[[0, 11]].tolist() == ["anna:0.0", "ben:5.0"]
    expected = np.concatenate([windows(0).values["eda"], windows(1).values["eda"]])
    np.testing.assert_array_equal(several.inputs["eda"], expected.astype(np.float32))
    assert quietly([windows(0), windows(1)]).group.tolist() == ["0"] * 10 + ["1"] * 10
    assert len(load_rows(windows(), ["eda"])) == 10
    assert (several.units, several.rates) == ({"eda": "uS"}, {"eda": 4.0})


def test_sessions_that_do_not_fit_are_named() -> None:
    for other, says in (
        (windows(names=True), "session 'ben' has labels <U6"),
        (cut({"eda": Recording(np.ones(400), 8.0, "uS")}, 5, 5), "those of 'anna' have .20, 1."),
        (cut({"eda": Recording(np.ones(200), 4.0, "S")}, 5, 5), "the unit of 'eda' is S, but in 'anna' it is uS"),
        (cut({"hr": Recording(np.ones(200), 4.0, "1")}, 5, 5), "session 'ben' has hr, but 'anna' has eda"),
        (cut({"eda": Recording(np.ones(200), 4.0, "uS")}, 5, 5), "session 'ben' has no labels"),
        (X, "session 'ben' is a ndarray; if one is Windows"),
    ):
        with pytest.raises(DataError, match=says):
            load({"anna": windows(), "ben": other})


@pytest.mark.parametrize("setting", ["rate", "seconds", "resample_to"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1, "4"])
def test_seconds_and_rates_are_finite(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is .*expected at least 0"):
        Signal(columns=("a",), **({"rate": 4.0} | {setting: value}))
