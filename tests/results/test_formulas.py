"""Ids and class names that a spreadsheet would run as formulas are escaped where that is asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from helpers.small import make_data, study
from sidelight.cli import main
from sidelight.errors import DiskError
from sidelight.experiment import Study
from sidelight.results import escape_formulas
from sidelight.utils.atomic import write_atomic, write_folder_atomic


def test_texts_are_escaped_and_numbers_are_not():
    frame = pd.DataFrame(
        {"id": ["=1+1", "a", "+1", "-x", "@A1", "\t=1", "a=1", ""], "x": np.arange(8) - 4.0, "=h": ["b"] * 8}
    )
    escaped = escape_formulas(frame)
    assert list(escaped["id"]) == ["'=1+1", "a", "'+1", "'-x", "'@A1", "'\t=1", "a=1", ""]
    assert list(escaped.columns) == ["id", "x", "'=h"]
    assert escaped["x"].equals(frame["x"])
    assert frame["id"][0] == "=1+1"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Study:
    return study(
        tmp_path_factory.mktemp("run") / "run", make_data(n=96, groups=8), methods=["kl"], training={"epochs": 1}
    )


def test_predict_writes_ids_as_they_are_unless_told(run, tmp_path, capsys):
    table = pd.DataFrame({"id": ['=HYPERLINK("x")', "b"]} | {f"phone.{i}": [0.5, -0.5] for i in range(4)})
    table.to_csv(tmp_path / "rows.csv", index=False)
    for more, first in (([], '=HYPERLINK("x")'), (["--escape"], '\'=HYPERLINK("x")')):
        out = tmp_path / "said.csv"
        assert main(["predict", str(run.folder), str(tmp_path / "rows.csv"), "--output", str(out), *more]) == 0
        assert list(pd.read_csv(out)["id"]) == [first, "b"]
        capsys.readouterr()
        assert main(["predict", str(run.folder), str(tmp_path / "rows.csv"), *more]) == 0
        assert first.replace('"', '""') in capsys.readouterr().out


def test_a_null_character_in_a_path_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiskError, match="NUL character, which no path can"):
        write_atomic("a\0b", "x")
    with pytest.raises(DiskError, match="NUL character"), write_folder_atomic("a\0b"):
        pass
    assert list(tmp_path.iterdir()) == []
