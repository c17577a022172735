"""UCF51, ActivityNet, CASIA-SURF and CeFA: what is read of a synthetic copy, and faults by file and row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.copies import copy_to_change
from helpers.slow import mostly_slow
from sidelight.data.sources.prepared import Prepared, read_prepared
from sidelight.errors import DataError
from sidelight.readers import make_reader
from sidelight.readers.base import check, prepare, synthesize
from sidelight.readers.synthetic import make_noise_frames, write_image
from sidelight.readers.ucf51 import CLASSES_WITH_SOUND

pytest.importorskip("av")
NAMES = ("ucf51", "activitynet", "casia-surf", "casia-cefa")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("sources")
    return {name: synthesize(make_reader(name), base / name) for name in NAMES}


@pytest.fixture(scope="module")
def sets(sources, tmp_path_factory) -> dict[str, Prepared]:
    base = tmp_path_factory.mktemp("prepared")
    return {n: read_prepared(prepare(make_reader(n, {"size": 32}), sources[n], base / n)[0]) for n in NAMES}


def test_ucf_has_the_videos_with_sound_in_official_parts(sets, sources, tmp_path):
    assert len(set(CLASSES_WITH_SOUND)) == 51
    table = sets["ucf51"].table
    assert sorted(set(table["target"])) == ["ApplyEyeMakeup", "Archery", "PlayingCello"]
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 6}
    assert table.groupby("group")["split"].nunique().max() == 1
    whole = prepare(make_reader("ucf101"), sources["ucf51"], tmp_path / "out")[0]
    assert set(read_prepared(whole).table["id"]) == set(table["id"])  # BaseballPitch has no sound


def test_activitynet_rows_are_labelled_segments(sets):
    table = sets["activitynet"].table
    assert table["split"].value_counts().to_dict() == {"train": 12, "test": 6}
    assert set(table["video_start"].astype(float)) == {0.4}


def test_surf_calls_one_live_and_cefa_goes_by_folders(sets):
    surf, cefa = sets["casia-surf"], sets["casia-cefa"]
    for _, row in surf.table[surf.table["split"] == "train"].iterrows():
        assert ("real_part" in row["id"]) == (row["target"] == "live")
    assert surf.table["split"].nunique() == 3
    for _, row in cefa.table.iterrows():
        race, _, _, _, attack = row["id"].partition("/")[0].split("_")
        assert (attack == "1") == (row["target"] == "live")
        assert (race, row["split"] == "test") in {("1", False), ("2", True)}
        assert attack in ("1", "2" if row["split"] == "test" else "4")
    assert cefa.facts.task == "anti-spoofing"


@pytest.mark.parametrize(
    ("protocol", "trained", "tested"),
    [
        ("1@6", ({3}, {1, 2, 4}), ({2}, {1, 2, 4})),
        ("2@1", ({1, 2, 3}, {1, 2}), ({1, 2, 3}, {1, 4})),
        ("2@2", ({1, 2, 3}, {1, 4}), ({1, 2, 3}, {1, 2})),
        ("3", ({1, 2, 3}, {1, 2, 4}), ({1, 2, 3}, {1, 2, 4})),
        ("4@3", ({2}, {1, 4}), ({1}, {1, 2})),
    ],
)
def test_cefa_protocols(protocol, trained, tested):
    reader = make_reader("casia-cefa", {"protocol": protocol})
    assert reader.select_codes("train") == reader.select_codes("select") == trained
    assert reader.select_codes("test") == tested


def edit(old: str, new: str):
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


def twice(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")


def other_size(path: Path) -> None:
    write_image(path, make_noise_frames(np.random.default_rng(0), 1, height=48, width=40)[0][..., 0])


def backwards(path: Path) -> None:
    told = json.loads(path.read_text())
    told["database"]["synthetic00"]["annotations"][0]["segment"] = [3, 1]
    path.write_text(json.dumps(told))


TRAIN = "ucfTrainTestlist/trainlist01.txt"
LIST, CEFA = "train_list.txt", "AF/AF-000-198006250024/1_000_1_1_1"
JSON = "activity_net.v1-3.min.json"
FAULTS = {
    "no video": ("ucf51", "UCF-101/Archery/v_Archery_g01_c01.avi", Path.unlink, r"Archery_g01_c01.avi"),
    "class number": ("ucf51", TRAIN, edit(".avi 1", ".avi 3"), r"trainlist01.txt: row 1: class number 3, but Apply"),
    "other class": ("ucf51", TRAIN, edit("ApplyEyeMakeup/", "Archery/"), r"trainlist01.txt: row 1"),
    "video twice": ("ucf51", TRAIN, twice, r"'v_ApplyEyeMakeup_g08_c01' occurs twice"),
    "no activity video": ("activitynet", "videos/v_synthetic03.mp4", Path.unlink, r"synthetic03"),
    "segment": ("activitynet", JSON, backwards, r"'synthetic00': annotation 1 is from 3 to 1 s"),
    "subset": (
        "activitynet",
        JSON,
        edit('"training"', '"train"'),
        r"'synthetic00': subset is 'train'; expected training",
    ),
    "polarity": (
        "casia-surf",
        LIST,
        edit("1.jpg 0", "1.jpg 1"),
        r"train_list.txt: row 1: label 1 is live, but .*is attack",
    ),
    "label": (
        "casia-surf",
        LIST,
        edit("1.jpg 0", "1.jpg 2"),
        r"train_list.txt: row 1: label is '2'; expected 1 \(live\)",
    ),
    "no label": ("casia-surf", LIST, edit("1.jpg 0", "1.jpg"), r"row 1 has 3 cells; .*public list"),
    "row twice": ("casia-surf", LIST, twice, r"color/1.jpg' occurs twice"),
    "sizes": (
        "casia-surf",
        "Val/0000/000000-depth.jpg",
        other_size,
        r"000000-depth.jpg is 48 x 40.*must have one size",
    ),
    "no depth": ("casia-surf", "Val/0000/000000-depth.jpg", Path.unlink, r"000000-depth.jpg"),
    "no frame": ("casia-cefa", f"{CEFA}/ir/0002.jpg", Path.unlink, r"ir/0002.jpg"),
    "cefa sizes": ("casia-cefa", f"{CEFA}/depth/0001.jpg", other_size, r"depth/0001.jpg is 48 x 40"),
    "attack": (
        "casia-cefa",
        CEFA,
        lambda p: p.rename(p.with_name("1_000_1_1_7")),
        r"1_000_1_1_7: attack 7; expected 1",
    ),
    "ethnicity": ("casia-cefa", CEFA, lambda p: p.rename(p.with_name("3_000_1_1_1")), r"ethnicity 3 in the folder AF"),
}


SKIPPED = ["video twice", "segment", "sizes", "no frame"]
"""The faults whose rows the default run skips, of every set: one piece of code skips all, before any reader's own."""


@pytest.mark.parametrize(
    ("fault", "skip"),
    [(fault, False) for fault in FAULTS if fault not in SKIPPED]
    + mostly_slow([(fault, True) for fault in FAULTS], [(fault, True) for fault in SKIPPED]),
)
def test_bad_input_is_named_and_its_rows_can_be_skipped(sources, sets, tmp_path, fault, skip):
    name, where, damage, expected = FAULTS[fault]
    source = copy_to_change(sources[name], tmp_path / "src", where)
    damage(source / where)
    reader = make_reader(name, {"size": 32})
    with pytest.raises(DataError, match=expected):
        prepare(reader, source, tmp_path / "out")
    if not skip:
        return
    out, skipped = prepare(reader, source, tmp_path / "out", skip=True)
    assert skipped
    kept, whole = set(read_prepared(out).table["id"]), set(sets[name].table["id"])
    assert kept == whole if "twice" in fault else kept < whole


def test_both_releases_of_cefa_are_read(sources, sets, tmp_path):
    later = tmp_path / "later"
    copy_to_change(sources["casia-cefa"], later / "Ethnicity")
    for folder in [*later.rglob("profile")]:
        folder.rename(folder.with_name("color"))
    reader = make_reader("casia-cefa", {"size": 32})
    assert check(reader, later) == []
    found = read_prepared(prepare(reader, later, tmp_path / "out")[0]).table
    assert found["id"].tolist() == sets["casia-cefa"].table["id"].tolist()
    assert "/color/" in found["color_file_name"][0]


def test_what_is_missing_is_listed_by_file(sources, tmp_path):
    assert all(check(make_reader(name), sources[name]) == [] for name in NAMES)
    assert "train_list.txt" in check(make_reader("casia-surf"), tmp_path)[0]
    assert "classInd.txt" in check(make_reader("ucf51"), tmp_path)[0]
