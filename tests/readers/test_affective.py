"""BioVid, Aff-Wild2, IEMOCAP and RECOLA: what is read of a synthetic copy, and every fault by file and row."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.copies import copy_to_change
from helpers.slow import mostly_slow
from sidelight.data.sources.prepared import Prepared, read_prepared
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.readers import make_reader
from sidelight.readers.affwild2 import read_labels
from sidelight.readers.base import check, prepare, synthesize
from sidelight.readers.iemocap import hash_words, read_transcript
from sidelight.readers.recola import read_ratings
from sidelight.readers.synthetic import write_image
from sidelight.recordings.base import Segment

pytest.importorskip("av")
pytest.importorskip("soundfile")
NAMES = ("biovid", "affwild2", "iemocap", "recola")
SMALL = {name: {"frames": 4, "size": 32} for name in NAMES}
LEFT_OUT = {
    "biovid": ("030101*", "040101*", "050101*"),
    "affwild2": ("1-30*", "2-30*"),
    "recola": ("P16*", "P19*", "P20*"),
}
"""What `few` lacks of each set."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """The synthetic copy of each set."""
    base = tmp_path_factory.mktemp("sources")
    return {name: synthesize(make_reader(name), base / name) for name in NAMES}


@pytest.fixture(scope="module")
def sets(sources, tmp_path_factory) -> dict[str, Prepared]:
    """Each set, prepared from it."""
    base = tmp_path_factory.mktemp("prepared")
    out = {name: prepare(make_reader(name, SMALL[name]), sources[name], base / name)[0] for name in NAMES}
    return {name: read_prepared(folder) for name, folder in out.items()}


@pytest.fixture(scope="module")
def few(sources, sets, tmp_path_factory) -> dict[str, tuple[Path, set[str]]]:
    """Each copy, of two people or videos where it is of five, and the ids that are prepared of it."""
    base, made = tmp_path_factory.mktemp("few"), {"iemocap": (sources["iemocap"], set(sets["iemocap"].table["id"]))}
    for name, left_out in LEFT_OUT.items():
        folder = copy_to_change(sources[name], base / name, TABLE, ignore=shutil.ignore_patterns(*left_out))
        if name == "biovid":
            lines(lambda x: x[:11])(folder / TABLE)
        whole, _ = prepare(make_reader(name, SMALL[name]), folder, base / f"{name} prepared")
        made[name] = folder, set(read_prepared(whole).table["id"])
    return made


def row_of(data: Prepared, i: int, m: str) -> torch.Tensor:
    row = data.table.iloc[i]
    path = data.folder / row[f"{m}_file_name"]
    start, end = (float(row.get(f"{m}{s}", "") or "nan") for s in ("_start", "_end"))
    return data.modalities[m].read(Segment(path, None if np.isnan(start) else start, None if np.isnan(end) else end))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("biovid", {"video": (3, 4, 32, 32), "eda": (2816, 1), "ecg": (2816, 1), "emg": (1, 67, 127)}),
        ("affwild2", {"video": (3, 4, 32, 32), "audio": (1, 64, 107)}),
        ("iemocap", {"video": (3, 4, 32, 32), "audio": (96000, 1), "text": None}),
        ("recola", {"video": (3, 4, 32, 32), "audio": (1, 64, 107), "eda": (3000, 1), "ecg": (3000, 1)}),
    ],
)
def test_every_modality_of_a_row_has_the_declared_shape(sets, name, shapes):
    assert list(sets[name].modalities) == list(shapes)
    for m, shape in shapes.items():
        x = row_of(sets[name], 1, m)
        assert sets[name].modalities[m].shape == shape
        assert shape is None or x.shape == shape
        assert x.float().std() > 0


def test_biovid_pairs_files_classes_and_people(sets, few, tmp_path):
    table, facts = sets["biovid"].table, sets["biovid"].facts
    assert len(table) == 10
    assert sorted(set(table["target"])) == ["BL1", "PA4"]
    assert (facts.group, facts.available, facts.privileged) == ("subject", ("video",), ("eda",))
    assert table["subject"].nunique() == 5
    for _, row in table.iterrows():
        assert row["id"].startswith(row["subject"])
        assert f"-{row['target']}-" in row["id"]
        assert Path(row["video_file_name"]).name == f"{row['id']}.mp4"
        assert Path(row["eda_file_name"]).name == f"{row['id']}_bio.csv"
    reader = make_reader("biovid", {"part": "B", "classes": "all", "size": "32"})
    whole = read_prepared(prepare(reader, few["biovid"][0], tmp_path / "b")[0])
    assert whole.table["target"].value_counts().to_dict() == dict.fromkeys(["BL1", "PA1", "PA2", "PA3", "PA4"], 2)
    assert whole.facts.privileged == ("emg",)
    assert whole.modalities["emg"].columns == ("emg_corrugator",)
    assert sets["biovid"].modalities["emg"].columns == ("emg_trapezius",)
    with pytest.raises(ConfigError, match="part A of BioVid has no EMG of the zygomaticus"):
        make_reader("biovid", {"emg": "zygomaticus"})


def test_biovid_signals_are_the_file_s_columns_from_second_two_on(sets):
    row = sets["biovid"].table.iloc[0]
    written = pd.read_csv(row["eda_file_name"], sep="\t")
    np.testing.assert_allclose(row_of(sets["biovid"], 0, "eda")[:, 0], written["gsr"], rtol=1e-5)
    emg = sets["biovid"].modalities["emg"]
    from sidelight.signals import get_preset

    cut = torch.tensor(written["emg_trapezius"].to_numpy(np.float32)[1024 : 1024 + 1536])
    torch.testing.assert_close(emg.read(Segment(Path(row["emg_file_name"]), 2.0)), get_preset("emg")(cut[None])[0])


def test_biovid_repacked_is_read_alike(sources, tmp_path):
    clip = "071309_w_21-PA4-081"
    for code, label in (("0", "BL1"), ("4", "PA4")):
        name = clip.replace("PA4", label)
        for i in range(1, 76):
            write_image(tmp_path / "src" / code / name / f"img_{i:05d}.jpg", np.full((40, 40, 3), 2 * i, np.uint8))
        (tmp_path / "src" / "physio" / code).mkdir(parents=True)
        written = next((sources["biovid"] / "biosignals_filtered").rglob(f"*{label}*_bio.csv"))
        shutil.copy(written, tmp_path / "src" / "physio" / code / f"{name}_bio.csv")
    reader = make_reader("biovid", SMALL["biovid"])
    assert check(reader, tmp_path / "src") == []
    data = read_prepared(prepare(reader, tmp_path / "src", tmp_path / "out")[0])
    assert data.table[["id", "target", "subject"]].to_numpy().tolist() == [
        ["071309_w_21-BL1-081", "BL1", "071309_w_21"],
        [clip, "PA4", "071309_w_21"],
    ]
    shades = row_of(data, 1, "video")[0, :, 16, 16].float() / 2  # frames 32, 36, … of 75: the middle
    np.testing.assert_allclose(shades, [32, 36, 40, 44], atol=1)


def test_affwild2_masks_by_number_and_follows_faces(sets, sources):
    table, facts = sets["affwild2"].table, sets["affwild2"].facts
    assert (facts.target, facts.split, facts.task) == (("valence", "arousal"), "split", "regression")
    assert len(table) == 20
    assert table.groupby("group")["split"].nunique().max() == 1
    of_pair = table[table["group"] == "2-30-64x64"]
    assert set(of_pair["video"]) == {"2-30-64x64_left", "2-30-64x64_right"}
    assert of_pair["audio_file_name"].nunique() == 1
    assert of_pair["video_file_name"].nunique() == 2
    labels = read_labels(sources["affwild2"] / "VA_Estimation_Challenge" / "Train_Set" / "video3.txt")
    assert np.isnan(labels[::10]).all()
    assert np.isfinite(np.delete(labels, slice(None, None, 10), 0)).all()
    mine = table[table["video"] == "video3"]
    for i, (_, row) in enumerate(mine.iterrows()):
        expected = np.nanmean(labels[32 * i : 32 * i + 32], 0)
        np.testing.assert_allclose(row[["valence", "arousal"]].astype(float), expected, rtol=1e-6)
        assert float(row["audio_start"]) == pytest.approx(32 * i / 30)


@pytest.mark.parametrize("cells", ["-5,-5", "-5.0,0.2", "0.1,-5.00", "-5e0,-5"])
def test_minus_five_is_no_label_however_it_is_written(tmp_path, cells):
    (tmp_path / "a.txt").write_text(f"valence,arousal\n{cells}\n0.5,-0.5\n")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.txt"), [[np.nan, np.nan], [0.5, -0.5]])


def test_affwild2_leaves_out_windows_without_faces_or_labels(few, tmp_path):
    source = copy_to_change(few["affwild2"][0], tmp_path / "src", VA)
    for i in range(33, 65):
        (source / "cropped_aligned" / "video3" / f"{i:05d}.jpg").unlink(missing_ok=True)
    path = source / VA
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:65], *["-5,-5"] * 32, *lines[97:]]) + "\n")
    data = read_prepared(prepare(make_reader("affwild2", SMALL["affwild2"]), source, tmp_path / "out")[0])
    assert data.table["id"][data.table["video"] == "video3"].tolist() == ["video3-00001", "video3-00097"]


def test_affwild2_people_of_one_video_in_both_parts_are_groups_of_their_own(sources, tmp_path):
    others = shutil.ignore_patterns("1-30*", "video3*")
    source = copy_to_change(sources["affwild2"], tmp_path / "src", ignore=others)
    folder = source / "VA_Estimation_Challenge"
    (folder / "Train_Set" / "2-30-64x64_left.txt").rename(folder / "Validation_Set" / "2-30-64x64_left.txt")
    with pytest.warns(SidelightWarning, match="people of 2-30-64x64 are in both official parts"):
        out, _ = prepare(make_reader("affwild2", SMALL["affwild2"]), source, tmp_path / "out")
    assert read_prepared(out).table.groupby("group")["split"].nunique().max() == 1


def test_iemocap_has_four_classes_in_five_sessions(sets, sources):
    table, facts = sets["iemocap"].table, sets["iemocap"].facts
    assert (facts.group, facts.classes) == ("session", ("angry", "happy", "neutral", "sad"))
    assert table["session"].nunique() == 5
    assert table["target"].value_counts().to_dict() == {"happy": 10, "angry": 5, "neutral": 5, "sad": 5}
    assert sorted(set(table["speaker"]))[:2] == ["Ses01F", "Ses01M"]
    for i, row in table.iterrows():
        said = read_transcript(
            sources["iemocap"]
            / row["session"]
            / "dialog/transcriptions/Ses01F_impro01.txt".replace("01F", f"0{row['session'][-1]}F")
        )
        assert f"I am {row['target']}" in said[row["id"]] or "exc" in said[row["id"]]
        np.testing.assert_array_equal(row_of(sets["iemocap"], i, "text")[:, 0], hash_words(said[row["id"]]))


def test_words_have_numbers_that_need_no_vocabulary():
    numbers = hash_words("I don't know, I  KNOW!")
    assert len(numbers) == 7  # I, don't, know, comma, I, KNOW, exclamation mark
    assert numbers[0] == numbers[4]
    assert numbers[2] == numbers[5]
    assert len(set(numbers.tolist())) == 5
    assert ((numbers >= 1) & (numbers <= 30000)).all()
    assert len(hash_words("[LAUGHTER]")) == 3


def test_recola_targets_are_means_of_raters_and_come_late(sets, sources):
    table = sets["recola"].table
    ratings = read_ratings(sources["recola"] / "RECOLA-Annotation/emotional_behaviour/valence/P17.csv")
    mine = table[table["person"] == "P17"]
    assert mine["video_start"].astype(float).tolist() == [0, 3, 6]
    for i, value in enumerate(mine["valence"].astype(float)):
        assert value == pytest.approx(ratings[75 * i + 70 : 75 * i + 145].mean(), abs=1e-9)


# bad input ---------------------------------------------------------------------------------------------------------


Damage = Callable[[Path], object]


def lines(change: Callable[[list[str]], list[str]]) -> Damage:
    """Damage to the lines of a text file."""
    return lambda path: path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def line(row: int, new: str, old: str = "") -> Damage:
    """A row, counted from 1, becomes another, or `old` in it does."""
    return lines(lambda x: [*x[: row - 1], x[row - 1].replace(old, new) if old else new, *x[row:]])


def swap(row: int) -> Damage:
    return lines(lambda x: [*x[: row - 1], x[row], x[row - 1], *x[row + 1 :]])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_a_row(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\n", len(data) // 2) + 4])


def half_the_rate(x: list[str]) -> list[str]:
    cells = [text.split("\t") for text in x]
    return [x[0], *("\t".join([str(2 * int(c[0])), *c[1:]]) for c in cells[1:])]


BIO = "biosignals_filtered/010101_m_20/010101_m_20-PA4-005_bio.csv"
FILM = "video/010101_m_20/010101_m_20-PA4-005.mp4"
TABLE = "samples.csv"
VA = "VA_Estimation_Challenge/Train_Set/video3.txt"
EMO = "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
SAID = "Session2/dialog/transcriptions/Ses02F_impro01.txt"
DIVX = "Session2/dialog/avi/DivX/Ses02F_impro01.avi"
WAV = "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F004.wav"
RATED = "RECOLA-Annotation/emotional_behaviour/arousal/P18.csv"
FAULTS: dict[str, tuple[str, str, Damage, str]] = {
    "csv cut in a row": ("biovid", BIO, cut_in_a_row, r"PA4-005_bio.csv: line \d+ has .*truncated"),
    "csv without its end": ("biovid", BIO, lines(lambda x: x[:1500]), r"PA4-005_bio.csv: only .* s remain"),
    "empty csv": ("biovid", BIO, empty, r"PA4-005_bio.csv is empty"),
    "header alone": ("biovid", BIO, lines(lambda x: x[:1]), r"has a header and no rows"),
    "times out of order": ("biovid", BIO, swap(902), r"PA4-005_bio.csv.*row 903: .*rising times"),
    "another rate": ("biovid", BIO, lines(half_the_rate), r"sampled at 256 Hz .*512 Hz is declared"),
    "no column": ("biovid", BIO, line(1, "gs", "gsr"), r"unknown column 'gsr'\. Did you mean 'gs'"),
    "no number": ("biovid", BIO, line(7, "9766\tx\t1\t1\t1\t1"), r"row 7, .*'gsr' is 'x'"),
    "missing csv": ("biovid", BIO, Path.unlink, r"PA4-005_bio.csv"),
    "missing video": ("biovid", FILM, Path.unlink, r"PA4-005.mp4"),
    "empty video": ("biovid", FILM, empty, r"cannot read .*PA4-005.mp4"),
    "truncated video": ("biovid", FILM, halve, r"PA4-005.mp4"),
    "wrong class": ("biovid", TABLE, line(6, "\t3\t", "\t4\t"), r"samples.csv: row 6: class_id 3 is PA3, .*PA4-005"),
    "no class": ("biovid", TABLE, line(6, "\t9\t", "\t4\t"), r"samples.csv: row 6, class_id is '9'; expected 0"),
    "sample twice": ("biovid", TABLE, lines(lambda x: [*x, x[5]]), r"id '010101_m_20-PA4-005' occurs twice"),
    "label is a word": ("affwild2", VA, line(9, "much,0"), r"video3.txt: row 9, valence is 'much'"),
    "label out of range": ("affwild2", VA, line(9, "0,1.5"), r"row 9, arousal is 1.5; expected -1 to 1"),
    "label alone": ("affwild2", VA, line(9, "0.3"), r"row 9 is '0.3'; expected valence,arousal"),
    "another header": ("affwild2", VA, line(1, "arousal,valence"), r"row 1 is 'arousal,valence'"),
    "empty labels": ("affwild2", VA, empty, r"video3.txt is empty"),
    "few labels": ("affwild2", VA, lines(lambda x: x[:9]), r"8 frames are labelled; a window has 32"),
    "no sound": ("affwild2", "audio/video3.wav", Path.unlink, r"sound of video3"),
    "truncated sound": ("affwild2", "audio/video3.wav", halve, r"video3.wav is truncated"),
    "no frames": ("affwild2", "cropped_aligned/video3", shutil.rmtree, r"cropped_aligned/video3"),
    "truncated frame": ("affwild2", "cropped_aligned/video3/00002.jpg", halve, r"cannot read .*video3/00002.jpg"),
    "line of labels": ("iemocap", EMO, line(3, " to ", " - "), r"Ses02F_impro01.txt: row 3 is '\[0.0000 to"),
    "ends too early": ("iemocap", EMO, line(6, "0.1", "1.5200"), r"row 6: Ses02F_impro01_M001 ends at 0.1 s"),
    "no lines of labels": ("iemocap", EMO, lambda p: p.write_text("%\n"), r"no lines \[start - end\]"),
    "no words": ("iemocap", SAID, lines(lambda x: x[1:]), r"there are no words of Ses02F_impro01_F000"),
    "no speech": ("iemocap", WAV, Path.unlink, r"F004.wav"),
    "speech cut off": ("iemocap", WAV, halve, r"F004.wav is truncated"),
    "no film": ("iemocap", DIVX, Path.unlink, r"Ses02F_impro01.avi"),
    "rating is a word": ("recola", RATED, line(4, "0.080;x;0;0;0;0;0"), r"P18.csv: row 4, FM1 is 'x'"),
    "ratings out of order": ("recola", RATED, swap(21), r"P18.csv: row 22: .*rising times"),
    "short rating": (
        "recola",
        RATED,
        line(4, "0.080;0;0"),
        r"P18.csv: line 4 has 3 cells, but the header names 7 columns",
    ),
    "no biosignals": ("recola", "RECOLA-Biosignals-recordings/P18.csv", Path.unlink, r"P18.csv"),
    "sound too short": ("recola", "RECOLA-Audio-recordings/P18.wav", halve, r"P18.wav is truncated"),
}


SKIPPED = ["csv cut in a row", "sample twice", "few labels", "no speech", "sound too short"]
"""The faults whose rows the default run skips, of every set: one piece of code skips all, before any reader's own."""


@pytest.mark.parametrize(
    ("fault", "skip"),
    [(fault, False) for fault in FAULTS if fault not in SKIPPED]
    + mostly_slow([(fault, True) for fault in FAULTS], [(fault, True) for fault in SKIPPED]),
)
def test_bad_input_is_named_and_its_rows_can_be_skipped(few, tmp_path, fault, skip):
    name, where, damage, expected = FAULTS[fault]
    whole = few[name][1]
    source = copy_to_change(few[name][0], tmp_path / "src", where)
    damage(source / where)
    reader = make_reader(name, SMALL[name])
    with pytest.raises(DataError, match=expected):
        prepare(reader, source, tmp_path / "out")
    if not skip:
        return
    out, skipped = prepare(reader, source, tmp_path / "out", skip=True)
    kept = set(read_prepared(out).table["id"])
    assert skipped
    assert kept <= whole
    assert len(kept) == len(whole) - len({i for i in whole if i not in kept}) > 0
    assert kept == whole if fault == "sample twice" else kept < whole
    assert (out / "skipped.csv").is_file()


def test_what_is_missing_is_listed_by_file(sources, tmp_path):
    source = copy_to_change(sources["biovid"], tmp_path / "src")
    for where in (BIO, FILM):
        (source / where).unlink()
    assert check(make_reader("biovid"), source) == [str(source / FILM), str(source / BIO)]
    assert check(make_reader("biovid", {"signals": "raw"}), source) == [str(source / FILM)]  # its files are others
    for kind in ("filtered", "raw"):
        shutil.rmtree(source / f"biosignals_{kind}")
        reader = make_reader("biovid", {"signals": kind})
        assert f"biosignals_{kind}: the folder does not exist" in check(reader, source)[0]
