"""`inspect` says what was read and how, which rows have what, what is odd, and what to run next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from protocols.test_blocks import walk
from sidelight.cli import main
from sidelight.data import Dataset, load
from sidelight.inspection import Inspection, inspect

N = 120


def make(**changes: Any) -> Dataset:
    """Twelve people of ten rows; the voice is missing in every third row, and altogether of person 11."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=N)
    who = np.repeat(np.arange(12), 10)
    given: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": rng.normal(size=(N, 4)) + y[:, None], "voice": rng.normal(size=(N, 9, 2))},
        "target": y,
        "labelled": np.ones(N, bool),
        "task": "classification",
        "class_names": ("a", "b", "c"),
        "present": {"voice": (np.arange(N) % 3 > 0) & (who != 11)},
        "group": np.array([f"p{i}" for i in who]),
        "split": np.where(who < 8, "train", "test"),
    }
    return Dataset(**(given | changes))


@pytest.fixture(scope="module")
def found() -> Inspection:
    return inspect(make())


def test_coverage_counts_the_rows_of_each_split_and_group(found: Inspection) -> None:
    data = make()
    assert found.coverage["all"].present == {"face": (N,), "voice": (int(data.present["voice"].sum()),)}
    split = found.coverage["split"]
    assert (split.parts, split.rows) == (("train", "test"), (80, 40))
    in_test = data.present["voice"][data.split == "test"]  # type: ignore[index]
    assert split.present["voice"][1] == in_test.sum()
    group = found.coverage["group"]
    assert group.shares[group.parts.index("p11")].tolist() == [1.0, 0.0]
    text = found.to_text()
    assert "group p11 10 0 (0%)" in " ".join(text.split())
    assert "of 12 groups, 0 have every modality in every row; no row has voice in 1" in text


def test_strengths_say_which_rows_they_are_over(found: Inspection) -> None:
    data = make()
    test = data.split == "test"  # type: ignore[comparison-overlap]
    scores = {s.modalities: s for s in found.strengths}
    # Each row outside of the official test part is tested once.
    assert {s.rows for s in scores.values()} == {80}
    assert scores["voice",].with_all == data.present["voice"][~test].sum() < 80
    assert scores["face",].there == pytest.approx(scores["face",].mean)
    assert scores["voice",].there != scores["voice",].mean
    assert found.chance == pytest.approx(np.bincount(data.target[~test]).max() / 80)
    assert "5 folds of disjoint groups; official test rows left out" in found.to_text()
    assert "with it" in found.to_text()
    # What the test rows hold changes no score.
    flipped = make(target=np.where(test, 2 - data.target, data.target))
    assert inspect(flipped).strengths == found.strengths


def test_classes_are_counted_in_every_split_with_the_level_of_the_most_common(found: Inspection) -> None:
    data = make()
    counts = np.bincount(data.target)
    assert found.balance["split"]["train"] == tuple(np.bincount(data.target[:80]).tolist())
    assert sum(map(sum, found.balance["group"].values())) == N
    from sklearn import metrics as sk

    always = np.full(N, counts.argmax())
    assert found.majority["accuracy"] == pytest.approx(sk.accuracy_score(data.target, always))
    assert found.majority["unweighted_accuracy"] == pytest.approx(sk.balanced_accuracy_score(data.target, always))
    assert found.majority["macro_f1"] == pytest.approx(sk.f1_score(data.target, always, average="macro"))


def test_the_mean_of_a_regression_is_its_level() -> None:
    y = np.stack([np.arange(N), np.full(N, np.nan)], 1)
    values = inspect(make(task="regression", target=y, class_names=("pain", "nothing")), strength=False)
    assert values.majority == {"ccc": 0.0, "rmse": pytest.approx(np.arange(N).std())}
    assert values.balance == {"split": {}, "group": {}}


def test_rows_of_unusual_length_are_named() -> None:
    lengths = np.full(N, 40)
    lengths[[5, 70, 90]] = 150, 10, 12
    x = np.random.default_rng(1).normal(size=(N, 150, 1))
    found = inspect(make(inputs={"voice": x}, present={}, lengths={"voice": lengths}), strength=False)
    assert found.modalities[0].lengths == (10, 40, 150)
    assert found.modalities[0].odd_rows == {"70": 10, "5": 150, "90": 12}
    said = " ".join(found.remarks)
    assert "voice: 3 unusually long or short rows (beyond 3 times, or 1/3 of, the median of 40 time steps): 70" in said


def test_gaps_in_time_are_those_within_a_group() -> None:
    t = np.tile(np.arange(10.0), 12)
    assert inspect(make(time=t), strength=False).times is not None
    assert not any("times:" in r for r in inspect(make(time=t), strength=False).remarks)
    t[35:40] += 60
    t[81] = t[80]
    said = " ".join(inspect(make(time=t), strength=False).remarks)
    assert "times: 1 gap of more than 5 times the usual step of 1; the largest, 61, is between rows 34 and 35" in said
    assert "times: 1 rows have the time of the row before them" in said


def test_spellings_and_far_values_and_counters_are_remarks() -> None:
    data = make()
    groups = np.where(np.arange(N) == 3, "P0", data.group)
    face = data.inputs["face"].copy()
    face[[7, 9, 30], 1] = -9999
    face[:, 2] = np.tile(np.arange(10), 12)
    said = " | ".join(inspect(make(group=groups, inputs={"face": face}, present={}), strength=False).remarks)
    assert "groups 'P0' and 'p0' differ only in how they are written" in said
    assert "face: column 1 is far from the other values in several rows alike (-9999 in 3 rows, the others" in said
    assert "face: column 2 is rising or falling from each row of a group to the next" in said
    names = inspect(make(class_names=("low", "Low", "high")), strength=False).remarks
    assert any("classes 'Low' and 'low' differ only" in remark for remark in names)


def test_what_was_read_and_the_next_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make()
    table = pd.DataFrame({"pain": np.array(list("abc"))[data.target], "who": data.group, "hr.0": range(N)})
    table["hr.1"], table["eda.0"] = np.sin(np.arange(N)), np.cos(np.arange(N))
    path = tmp_path / "my rows.csv"
    table.to_csv(path, index=False)
    assert main(["inspect", str(path), "--target", "pain", "--group", "who"]) == 0
    text = capsys.readouterr().out
    assert f"read from {path}: a table" in " ".join(text.split())
    assert "target 'pain'; groups 'who'" in text
    commands = [line.strip() for line in text.splitlines() if line.startswith("  sidelight ")]
    assert [command.split()[1] for command in commands] == ["advise", "run"]
    # The commands are those of the same data, as they stand.
    capsys.readouterr()
    assert main(shlex.split(commands[1])[1:]) == 0
    assert "plan:" in capsys.readouterr().out
    # Without flags, those of the roles are named.
    assert inspect(load(path, target="pain", group="who"), strength=False).commands[1][0] == commands[1]


def test_what_a_table_told_and_what_was_left_out_is_read_out() -> None:
    skipped = ({"id": "r7", "modality": "face", "reason": "7.png is cut off"},)
    about = {"read_as": "separator ;", "not_read": "age, site"}
    assert inspect(make(about=about, skipped=skipped), strength=False).read[1:] == (
        "read as: separator ;",
        "not read: age, site (--modality NAME=COLUMN,COLUMN reads them)",
        "1 rows left out because a recording cannot be read; the first: r7, face: 7.png is cut off",
    )


def test_windows_that_were_left_out_are_counted(tmp_path: Path) -> None:
    rows = pd.DataFrame({"target": list("abab"), "hr.0": range(4), "eda.0": [0, 1, 4, 9]})
    rows.to_csv(tmp_path / "metadata.csv", index=False)
    dropped = pd.DataFrame(
        {"session": "s1", "start": range(3), "sensor": "eda", "reason": ["a gap", "a gap", "a spike"]}
    )
    dropped.to_csv(tmp_path / "dropped.csv", index=False)
    found = inspect(load(tmp_path, time="order"), strength=False)
    assert found.read[0] == f"read from metadata.csv in the folder {tmp_path}"
    assert found.read[-1].endswith("eda: a gap, 2; eda: a spike, 1")
    assert found.commands[-1][0].startswith(f"sidelight run {tmp_path} --time order --available hr --privileged eda")


def test_commands_follow_what_the_data_lack() -> None:
    assert inspect(load("phone-watch"), strength=False).commands[1][0] == "sidelight run phone-watch --dry-run"
    python = [command for command, _ in inspect(make(split=None), strength=False).commands]
    assert python[1] == "sidelight.compare(data, available=['face'], privileged=['voice'])"
    python = [command for command, _ in inspect(make(split=None, group=None), strength=False).commands]
    assert python[1].endswith(", protocol='random')")
    series = {"face": walk(N, columns=3), "voice": make().inputs["voice"]}
    in_order = inspect(make(split=None, group=None, inputs=series, present={}), strength=False)
    assert in_order.commands[1][0].endswith(", protocol='blocks')")
    assert inspect(make(inputs={"face": make().inputs["face"]}, present={}), strength=False).commands == ()


def test_of_many_classes_the_most_and_the_least_common_are_listed() -> None:
    y = np.repeat(np.arange(40), np.arange(40) + 1)
    many = Dataset(
        "many", {"x": np.arange(len(y), dtype=float)[:, None]}, y, y >= 0, "classification", [*map(str, range(40))]
    )
    text = inspect(many, strength=False).to_text()
    assert "classes (of 40, the 30 most and least common)" in text
    listed = [line.split()[0] for line in text.splitlines() if line.endswith("%")]
    assert listed == [*map(str, range(39, 24, -1)), *map(str, range(14, -1, -1))]


def test_names_are_no_markup() -> None:
    text = inspect(make(class_names=("[red]", "b", "c")), strength=False).to_text()
    assert "[red]" in text


def test_an_experiment_says_how_its_data_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i % 2},p{i // 4},{i % 2 + i / 40},{i / 7}\n" for i in range(24))
    (tmp_path / "rows.csv").write_text("state,who,bedside_hr,lab_crp\n" + rows)
    study = tmp_path / "study.yaml"
    study.write_text("data: rows.csv\ntarget: state\ngroup: who\nmodalities: {bedside: bedside_, lab: lab_}\n")
    assert main(["inspect", str(study)]) == 0
    text = capsys.readouterr().out
    assert "bedside" in text
    assert f"sidelight run {study} --dry-run" in text
