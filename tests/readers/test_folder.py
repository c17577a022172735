"""Your own folder becomes a prepared one: what belongs together is found by name, and said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from sidelight import load
from sidelight.cli import main
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.errors import ConfigError, DataError
from sidelight.readers import make_reader
from sidelight.readers.base import check, prepare
from sidelight.readers.synthetic import write_image, write_wav
from sidelight.readers.voices import write_voices
from sidelight.recordings.registry import Signal


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_voices(folder, people=3, clips=2, seconds=(0.3, 0.5))
    return folder


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


def read_types(out):
    return json.loads((out / "modalities.json").read_text())["modalities"]


def test_files_and_labels_are_paired_by_name_and_shown(study, tmp_path, capsys):
    (study / "face" / "p01-0.csv").unlink()
    (study / "audio" / "p01-1.wav").rename(study / "audio" / "p99.wav")
    (study / "face" / "p01-1.csv").unlink()
    (study / "audio" / ".p00-0.wav").write_bytes(b"of another program")
    out = tmp_path / "out"
    assert main(["prepare", "folder", str(study), str(out), "available=audio", "privileged=face"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "labels.csv, ids in column 'id': 6 rows",
        "audio: 5 of 6 rows have a file (.wav); none for p01-1",
        "face: 4 of 6 rows have a file (.csv); none for p01-0, p01-1",
        "left out, since they have no file at all: p01-1",
        "audio: 1 files without a row are not read: p99.wav",
        str(out),
    ]
    data = load(out)
    assert data.default_modalities == {"available": ["audio"], "privileged": ["face"]}
    assert data.ids.tolist() == ["p00-0", "p00-1", "p01-0", "p02-0", "p02-1"]
    assert data.present["face"].tolist() == [True, True, False, True, True]
    assert data.group.tolist() == ["p00", "p00", "p01", "p02", "p02"]
    assert data.sequence_preset("audio") == "speech"
    # 16-bit files, and nothing is cut: rows are as long as their recordings.
    seconds = data.lengths["audio"] / 16000
    assert ((seconds > 0.29) & (seconds < 0.51)).all()
    assert len(set(seconds.tolist())) > 1
    assert data.rates == {"audio": 16000.0, "face": 30.0}


def test_what_an_openface_table_holds_beside_its_strengths_is_left_out(study, tmp_path):
    out, _ = prepare(make_reader("folder"), study, tmp_path / "out")
    face = read_types(out)["face"]
    assert face["columns"] == ["AU04_r", "AU12_r", "AU25_r"]
    assert (face["rate"], face["time"]) == (30.0, "timestamp")
    some, _ = prepare(make_reader("folder", {"columns": "AU2*,confidence"}), study, tmp_path / "some")
    assert read_types(some)["face"]["columns"] == ["AU25_r", "confidence"]
    with pytest.raises(ConfigError, match=r"'face': .*unknown column 'gaze\*'"):
        prepare(make_reader("folder", {"columns": "gaze*"}), study, tmp_path / "none")


def test_ids_may_be_names_of_files_in_any_column(study, tmp_path):
    lines = (study / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    (study / "labels.csv").unlink()
    (study / "of_raters.csv").write_text("who,clip,mood\n" + "".join(f"{s},{i}.wav,{e}\n" for i, s, e in rows))
    out, _ = prepare(make_reader("folder", {"group": "who", "target": "mood"}), study, tmp_path / "out")
    assert load(out).ids.tolist() == [row[0] for row in rows]
    assert load(out).group.tolist() == [row[1] for row in rows]
    found = check(make_reader("folder", {"labels": "of_raters.csv"}), study)
    assert found == []
    with pytest.raises(DataError, match=r"which column of the table is the target\? .* Columns: who, clip, mood, id"):
        prepare(make_reader("folder"), study, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: shutil.rmtree(s / "face") or shutil.rmtree(s / "audio"), "no folder here holds recordings"),
        (lambda s: (s / "labels.csv").unlink(), "expected labels.csv, a table with a row for each id"),
        (
            lambda s: (s / "labels.csv").write_text("id,emotion\n1,a\n2,b\n"),
            "no column holds names of files: the files are named p00-0, .*column 'id' holds 1, 2",
        ),
        (
            lambda s: [p.rename(p.with_name(f"x{p.name}")) for p in sorted((s / "face").iterdir())],
            "no file of face/ belongs to a row: the files are named xp00-0, .* the rows p00-0",
        ),
        (lambda s: write_image(s / "audio" / "p00-0.png", np.zeros((4, 4), np.uint8)), "would both be row 'p00-0'"),
    ],
)
def test_what_does_not_fit_is_named(study, tmp_path, change, message):
    change(study)
    with pytest.raises(DataError, match=message):
        prepare(make_reader("folder"), study, tmp_path / "out")
    assert len(check(make_reader("folder"), study)) == 1


def test_tables_without_times_need_a_rate(study, tmp_path):
    for path in (study / "face").iterdir():
        lines = [line.split(", ")[4:] for line in path.read_text().splitlines()]
        path.write_text("\n".join(";".join(line) for line in lines) + "\n")
    with pytest.raises(ConfigError, match=r"'face': .*p00-0\.csv has no column of times .* give rate="):
        prepare(make_reader("folder"), study, tmp_path / "out")
    out, _ = prepare(make_reader("folder", {"rate": 25, "seconds": 0.2}), study, tmp_path / "out")
    assert load(out).inputs["face"].shape == (6, 5, 3)
    assert load(out).inputs["audio"].shape == (6, 3200, 1)


def test_tables_of_two_rates_are_brought_to_one(study, tmp_path):
    for path in list((study / "face").iterdir())[:2]:
        path.write_text("t_ms,x\n" + "".join(f"{i * 20},{i}\n" for i in range(20)))
    for path in list((study / "face").iterdir())[2:]:
        path.write_text("t_ms,x\n" + "".join(f"{i * 40},{i}\n" for i in range(10)))
    out, _ = prepare(make_reader("folder"), study, tmp_path / "out")
    face = read_types(out)["face"]
    assert (face["rate"], face["resample_to"], face["time_unit"]) == (0, 25.0, "ms")
    assert load(out).lengths.get("face", load(out).inputs["face"].shape[1]) == 10


def test_sound_at_another_rate_is_resampled(study, tmp_path):
    write_wav(study / "audio" / "p00-0.wav", np.sin(np.arange(4410) / 9), 44100)
    out, _ = prepare(make_reader("folder"), study, tmp_path / "out")
    assert load(out).lengths["audio"][0] == 1600


def test_units_are_checked_when_a_folder_is_written(study, tmp_path):
    with pytest.raises(ConfigError, match=r"modality 'face': unknown unit 'microsiemens'.*is written 'uS' here"):
        prepare(make_reader("folder", {"units": "face:microsiemens"}), study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"units: unknown modality 'fase'.*face"):
        prepare(make_reader("folder", {"units": "fase:uS"}), study, tmp_path / "out")
    row = [{"id": "a", "target": 1, "eda_file_name": "a.csv"}]
    kinds = {"eda": Signal(columns=("eda",), rate=4, unit="uSiemens")}
    with pytest.raises(ConfigError, match="modality 'eda': unknown unit 'uSiemens'"):
        write_prepared(tmp_path / "out", row, kinds, DatasetInfo("x"))


def test_files_of_several_modalities_are_named_alike(study, tmp_path):
    for m, name in (
        ("audio", "same"),
        ("face", None),
    ):  # in audio/ all files are called same.wav, in face/ by their row
        for path in sorted((study / m).iterdir()):
            (study / m / path.stem).mkdir()
            path.rename(study / m / path.stem / f"{name or 'same'}{path.suffix}")
    labels = study / "labels.csv"
    labels.write_text(labels.read_text().replace("-0,", "-0/same,").replace("-1,", "-1/same,"))
    (study / "face" / "p01-0" / "same.csv").unlink()
    for person in ("p00-0", "p00-1", "p01-1", "p02-0"):
        (study / "face" / person / "same.csv").unlink()
    out = tmp_path / "out"
    prepare(
        make_reader("folder"), study, out
    )  # only one file of face/ is left: its name alone would do, but not for audio/
    data = load(out)
    assert [int(data.present[m].sum()) for m in ("audio", "face")] == [6, 1]


def test_links_to_nowhere_and_accents_in_two_forms(study, tmp_path):
    labels = study / "labels.csv"
    labels.write_text(labels.read_text().replace("p00-0", "é0"))  # one character; the files have e and an accent
    for m, suffix in (("audio", ".wav"), ("face", ".csv")):
        (study / m / f"p00-0{suffix}").rename(study / m / f"e\u03010{suffix}")
    prepare(make_reader("folder"), study, tmp_path / "out")
    assert "é0" in load(tmp_path / "out").ids
    (study / "audio" / "p01-0.wav").unlink()
    (study / "audio" / "p01-0.wav").symlink_to("gone.wav")
    with pytest.raises(DataError, match=r"audio/p01-0\.wav is a link to gone\.wav, which does not exist"):
        prepare(make_reader("folder"), study, tmp_path / "other")
