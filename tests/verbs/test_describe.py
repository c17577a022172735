"""`sidelight describe` writes the modalities.json of a folder, and near-miss names in one are said."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sidelight import cli
from sidelight.data import load
from sidelight.data.sources.prepared import DatasetInfo, read_prepared
from sidelight.errors import ConfigError, DataError
from sidelight.readers.synthetic import write_wav
from sidelight.recordings.registry import RECORDING_TYPES
from sidelight.verbs.describe import describe_folder

pytest.importorskip("soundfile")
N = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows with an image, a depth image, a sound, a signal (its last row lacks it) and an array."""
    lines = ["id,subject,pain,rgb_file_name,depth_file_name,voice_file_name,eda_file_name,face_file_name"]
    for i in range(N):
        Image.fromarray(np.full((24, 32, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((24, 32), 1500 + i, np.uint16)).save(tmp_path / f"{i}-depth.png")
        write_wav(tmp_path / f"{i}.wav", np.linspace(-0.5, 0.5, 800), 8000)
        rows = "".join(f"{t * 250};0,{i}{t};36,{t};x\n" for t in range(9))
        (tmp_path / f"{i}.csv").write_text(f"time_ms;gsr;temp;note\nms;µS;µS;\n{rows}")
        np.save(tmp_path / f"{i}.npy", np.full((5, 2), i))
        eda = f"{i}.csv" if i < N - 1 else "n/a"
        lines.append(f"a{i},s{i % 3},{['low', 'high'][i % 2]},{i}.png,{i}-depth.png,{i}.wav,{eda},{i}.npy")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_files_say_what_they_are(folder: Path, capsys: Any) -> None:
    assert cli.main(["describe", str(folder), "voice.seconds=0.05", "--target", "pain"]) == 0
    said = capsys.readouterr().out
    assert "guess: time, time_unit and rate: 'time_ms' in ms gives 4 Hz" in said
    assert f"sidelight inspect {folder}" in said
    made = read_prepared(folder)
    assert (made.facts.target, made.facts.group) == (("pain",), "subject")
    assert {m: kind.kind for m, kind in made.modalities.items()} == {
        "rgb": "image", "depth": "depth", "voice": "audio", "eda": "signal", "face": "array",
    }  # fmt: skip
    eda: Any = made.modalities["eda"]
    assert (eda.columns, eda.unit, eda.rate, eda.time, eda.time_unit) == (("gsr", "temp"), "µS", 4, "time_ms", "ms")
    d = load(folder)
    assert {m: d.shape(m) for m in d.modalities} == {
        "rgb": (3, 24, 32), "depth": (1, 24, 32), "voice": (400, 1), "eda": (9, 2), "face": (5, 2),
    }  # fmt: skip
    assert d.present["eda"].tolist() == [True] * 5 + [False]
    assert d.inputs["eda"][1, :3, 0].tolist() == pytest.approx([0.10, 0.11, 0.12])
    with pytest.raises(ConfigError, match="exists; replace it with --overwrite"):
        describe_folder(folder)


def test_what_files_do_not_show_is_asked_for(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown modality 'edo'. Did you mean 'eda'"):
        describe_folder(folder, {"edo": {"rate": 4}}, target=["pain"])
    with pytest.raises(ConfigError, match=r"modality 'voice' of kind 'audio' 'secnds'. Did you mean 'seconds'"):
        describe_folder(folder, {"voice": {"secnds": 4}}, target=["pain"])
    for i in range(N):
        (folder / f"{i}.csv").write_text("gsr\n" + "0.5\n" * 9)
    with pytest.raises(DataError, match=r"0.csv: no column of times .*MODALITY.rate=64"):
        describe_folder(folder, target=["pain"])
    path, _ = describe_folder(folder, {"eda": {"rate": 4, "unit": "uS"}}, target=["pain"])
    assert json.loads(path.read_text())["modalities"]["eda"] == {
        "kind": "signal", "columns": ["gsr"], "unit": "uS", "rate": 4,
    }  # fmt: skip
    (folder / "metadata.csv").write_text("id,pain,x.1\na,low,1\n")
    with pytest.raises(DataError, match="has no column <modality>_file_name"):
        describe_folder(folder, overwrite=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targt": ["pain"]}, "unknown entry 'targt'. Did you mean 'target'"),
        ({"modalitys": {}}, "unknown entry 'modalitys'. Did you mean 'modalities'"),
        ({"target": ["pian"]}, "unknown column 'pian'. Did you mean 'pain'"),
        ({"available": ["voise"]}, "unknown modality 'voise'. Did you mean 'voice'"),
        ({"task": "regresion"}, "unknown task 'regresion'. Did you mean 'regression'"),
        ({"modalities": {"voice": {"kind": "audoi"}}}, "modality 'voice': unknown kind 'audoi'. Did you mean 'audio'"),
        ({"modalities": {"voice": {"kynd": "audio"}}}, "no kind is given. Did you mean it by 'kynd'"),
        ({"modalities": {"eda": {"kind": "signal", "colums": ["gsr"], "rate": 4}}}, "Did you mean 'columns'"),
        ({"modalities": {"voice": {"kind": "audio", "rate": "fast"}}}, "rate: expected a number, not 'fast'"),
        ({"modalities": {"voise": {"kind": "audio", "rate": 8000}}}, "column 'voise_file_name'. Did you mean 'voice_"),
    ],
)
def test_near_miss_names_in_the_file_are_said(folder: Path, change: dict[str, Any], says: str) -> None:
    entries = {"format": 1, "rows": N, "name": "x", "target": ["pain"], "modalities": {}} | {
        "modalities": {"voice": {"kind": "audio", "rate": 8000}}
    }
    (folder / "modalities.json").write_text(json.dumps(entries | change))
    with pytest.raises((DataError, ConfigError), match=says):
        read_prepared(folder)


def test_every_entry_and_setting_is_documented() -> None:
    docs = Path(__file__).parents[2] / "docs"
    entries = (docs / "data.md").read_text("utf-8").partition("## modalities.json")[2].partition("\n## ")[0]
    for name in ("format", "rows", "modalities", *(f.name for f in fields(DatasetInfo))):
        assert f"`{name}`" in entries, name
    kinds = (docs / "recordings.md").read_text("utf-8").partition("## A prepared folder")[2].partition("\n## ")[0]
    for kind, made in RECORDING_TYPES.items():
        for name in (kind, *(f.name for f in fields(made))):
            assert f"`{name}`" in kinds or f"`{name} " in kinds, (kind, name)


def test_the_colours_of_a_label_map_may_be_the_path_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "colours.csv").write_text("class,r,g,b\nroad,128,64,128\nsky,70,130,180\n")
    mask = np.full((8, 10, 3), (128, 64, 128), np.uint8)
    mask[:4] = (70, 130, 180)
    for name in ("a", "b"):
        Image.fromarray(mask).save(tmp_path / f"{name}-mask.png")
        Image.fromarray(mask // 2).save(tmp_path / f"{name}.png")
    lines = [f"{name},{name}.png,{name}-mask.png" for name in ("a", "b")]
    (tmp_path / "metadata.csv").write_text("\n".join(["id,rgb_file_name,mask_file_name", *lines]) + "\n")
    assert cli.main(["describe", str(tmp_path), "mask.colours=colours.csv"]) == 0
    made = json.loads((tmp_path / "modalities.json").read_text())["modalities"]["mask"]
    assert made == {"kind": "labels", "size": [8, 10], "colours": "colours.csv"}
    assert load(tmp_path).class_names == ("road", "sky")
    path = tmp_path / "modalities.json"
    path.write_text(path.read_text().replace('"colours": "colours.csv"', '"ignore": 255'))
    with pytest.raises(DataError, match=r"mask.png has colours.*mask: \{colours: colours\.csv") as caught:
        load(tmp_path)
    assert "--on-error" not in str(caught.value)  # it would drop every row
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(tmp_path / "b-mask.png")
    with pytest.raises(DataError, match=r"has colours.*Leave such rows out: --on-error skip"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"colour\.csv does not exist"):
        describe_folder(tmp_path, {"mask": {"colours": "colour.csv"}}, overwrite=True)
    with pytest.raises(ConfigError, match=r"colours: expected a mapping \(name: value\), not 5"):
        describe_folder(tmp_path, {"mask": {"colours": 5}}, overwrite=True)
