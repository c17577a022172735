"""Which columns a modality has: found by dots, named by the user, found again by a student; the rest is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sidelight import cli
from sidelight.cli_flags import mappings_of
from sidelight.cli_parser import parse
from sidelight.config import NetworkConfig, load_config
from sidelight.data import load
from sidelight.data.load import load_for
from sidelight.data.preprocess import Preprocessor
from sidelight.data.sources.prefixes import propose_modalities
from sidelight.data.sources.table_modalities import find_prefixes
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.export import Student
from sidelight.inspection import inspect
from sidelight.networks.build import build_network
from sidelight.tasks import make_task

N = 24
COLUMNS = {"AU01_r": 3, "AU02_r": 5, "gsr": 7, "scl": 2, "hr": 11, "hrv": 4, "Sr. No": 1, "F0from27.5Hz_amean": 6}


def write(path: Path, decimal: str = ".", separator: str = ",", **more: str) -> Path:
    lines = [separator.join(["subject", "label", *COLUMNS, *more])]
    for i in range(N):
        cells = [f"0{decimal}{(k * i) % 17 + 10}" for k in COLUMNS.values()]
        lines.append(separator.join([f"s{i % 6}", "ab"[i // 6 % 2], *cells, *more.values()]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_dots_that_separate_nothing_make_no_modality() -> None:
    found = find_prefixes(["face.au1", "Sr. No", "F0from27.5Hz", "cam2.0", "cam2.1", "band0.5", "a.b.c", ".x"])
    assert found == {"face.au1": "face", "cam2.0": "cam2", "cam2.1": "cam2", "a.b.c": "a"}
    assert find_prefixes(["eda1.1", "eda1.2", "eda1.10"]) == {}  # 3 to 9 are missing: numbers, not counts
    assert [*find_prefixes(f"eda1.{i}" for i in range(1, 12))] == [f"eda1.{i}" for i in range(1, 12)]


def test_columns_without_a_role_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv")
    with pytest.raises(DataError, match=r"no modality found.*--modality face=AU_ eda=gsr,scl.*Columns: AU01_r"):
        load(path)
    d = load(path, modalities={"face": "AU", "eda": ["gsr", "scl"]})
    assert d.about["not_read"] == "hr, hrv, Sr. No, F0from27.5Hz_amean"
    assert "read_as" not in d.about
    d = load(write(tmp_path / "e.txt", ",", ";"), modalities={"face": "AU"})
    told = inspect(d, strength=False).read
    assert "read as: `;`, decimal comma" in told
    assert any(text.startswith("not read: gsr, scl, hr, hrv, Sr. No") for text in told)


def test_columns_that_share_a_beginning_are_proposed_as_modalities() -> None:
    assert propose_modalities(["bedside_hr", "bedside_rr", "lab_crp", "lab_wbc", "age"]) == (
        "bedside=bedside_ lab=lab_"
    )
    for other in (["feature_1", "feature_2"], ["heart_rate", "skin_level", "_x", "a"], ["lab_crp", "lab_wbc", "age"]):
        assert propose_modalities(other) == "face=AU_ eda=gsr,scl"
    frame = pd.DataFrame({c: np.zeros(N) for c in ("bedside_hr", "bedside_rr", "lab_crp", "lab_wbc")})
    with pytest.raises(DataError, match="--modality bedside=bedside_ lab=lab_ "):
        load(frame.assign(target=[*"ab"] * (N // 2)))


def test_command_line_and_yaml_name_columns_as_python_does(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv")
    python = load(path, modalities={"face": "AU", "eda": ["gsr", "scl"], "pulse": ["hr"]})
    (tmp_path / "e.yaml").write_text(
        "data: e.csv\nmodalities:\n  face: AU\n  eda: [gsr, scl]\n  pulse: [hr]\ntable: {separator: comma}\n"
    )
    words = ["run", str(path), "--modality", "face=AU", "eda=gsr,scl", "--modality", "pulse=hr,", "training.epochs=3"]
    args = parse([*words, "--table", "decimal=."])
    assert args.overrides == ["training.epochs=3"]
    for config in (
        load_config(tmp_path / "e.yaml"),
        load_config({"data": str(path), **mappings_of(args)}),
        load_config({"data": str(path)}, ["modalities.face=AU", "modalities.eda=gsr,scl", "modalities.pulse=[hr]"]),
    ):
        d = load_for(config)
        assert d.columns == python.columns
        assert all(np.array_equal(d.inputs[m], x) for m, x in python.inputs.items())
    dotted = write(tmp_path / "d.csv", **{"video.0": "1"})
    d = load_for(
        load_config({"data": str(dotted), **mappings_of(parse(["inspect", "x", "--modality", "video", "eda=gsr"]))})
    )
    assert d.columns == {"video": ("video.0",), "eda": ("gsr",)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"modalities.face": 3}, "modalities.face: expected a prefix of columns"),
        ({"modalities.face": []}, "modalities.face: expected a prefix"),
        ({"modalities": {"a b": "x"}}, "modality name 'a b' holds a space"),
        ({"modalitys.face": "AU"}, "Did you mean 'modalities"),
        ({"table.seperator": ";"}, "unknown setting of table 'seperator'. Did you mean 'separator'"),
    ],
)
def test_settings_of_columns_that_cannot_be(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config({"data": "e.csv", **given})


def test_flags_that_cannot_be(capsys: Any) -> None:
    for words, says in (
        (["--modality", "face="], "expected NAME=PREFIX"),
        (["--modality", "a.b=c"], "expected NAME=PREFIX"),
        (["--table", "comma"], "expected e.g. separator=semicolon"),
    ):
        assert cli.main(["inspect", "e.csv", *words]) == 2
        assert says in capsys.readouterr().err


def test_a_student_finds_its_columns_again_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv")
    d = load(path, modalities={"face": "AU", "eda": ["gsr", "scl"]})
    preprocessor = Preprocessor.fit(d, np.arange(N), ["face"])
    network = build_network(preprocessor.shapes, ["face"], 2, NetworkConfig(width=8))
    Student(network, preprocessor, make_task("classification", ("a", "b")), {"privileged": ["eda"]}).save(tmp_path)
    # Other columns, in another order, and another dialect.
    lines = [line.split(",") for line in path.read_text().splitlines()]
    order = [lines[0].index(name) for name in ("hr", "AU02_r", "AU01_r")]
    new = tmp_path / "new.txt"
    new.write_text("\n".join(";".join(line[k] for k in order).replace("0.", "0,") for line in lines) + "\n")
    out = [tmp_path / name for name in ("same.csv", "swapped.csv")]
    for source, to, words in ((path, out[0], ["--table", "decimal=point"]), (new, out[1], [])):
        assert cli.main(["predict", str(tmp_path), str(source), "--output", str(to), *words]) == 0
    assert out[0].read_text() == out[1].read_text()


def test_modalities_that_differ_in_spelling_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,EDA.mean,eda.std\n" + "a,1,2\nb,2,3\n" * 4)
    with pytest.warns(SidelightWarning, match="modalities: 'EDA' and 'eda' differ only in how they are written"):
        load(path)


def test_json_lines_are_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    rows = [
        f'{{"id": "{i:02d}", "label": "{"ab"[i % 2]}", "eda.m": {i}, "v_file_name": "x.npy", "e": [1, {i}]}}'
        for i in range(6)
    ]
    path.write_text("\n".join([*rows[:3], "", *rows[3:]]) + "\n")
    d = load(tmp_path)
    assert (d.ids[3], d.inputs["eda"][3, 0], d.inputs["e"][3].tolist()) == ("03", 3, [1, 3])
    assert d.inputs["v"].shape == (6, 3, 2)
    for line, says in (
        ('{"id": "6", "id": "7"}', "line 8: key 'id' occurs twice"),
        ("[1]", "line 8 is .1.; expected a JSON object"),
        ("{", "line 8 is not JSON"),
    ):
        path.write_text("\n".join([*rows[:3], "", *rows[3:], line]) + "\n")
        with pytest.raises(DataError, match=f"metadata.jsonl: {says}"):
            load(path)
