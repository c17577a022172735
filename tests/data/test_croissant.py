"""Prepared folders describe themselves as Croissant: every column is a field of the table that was hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.recordings.registry import Array

ROWS = [
    {"id": f"r{i}", "pain": i / 2, "who": i // 2, "x_file_name": f"x/{i}.npy", "y_file_name": f"y/{i}.npy" if i else ""}
    for i in range(4)
]
FACTS = DatasetInfo(
    "visits", target=("pain",), group="who", available=("x",), privileged=("y",), licence="CC BY 4.0",
    citation="Doe: Visits, 2026", description="Pain, asked « how much? »",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_prepared(
        tmp_path / "visits", ROWS, {"x": Array(array_shape=(3,)), "y": Array(array_shape=(2,))}, FACTS
    )


def test_every_column_is_a_field_of_the_hashed_table(folder):
    told = json.loads((folder / "croissant.json").read_text("utf-8"))
    assert told["@type"] == "sc:Dataset"
    assert told["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert (told["name"], told["license"], told["citeAs"]) == ("visits", "CC BY 4.0", "Doe: Visits, 2026")
    (table,) = told["distribution"]
    content = (folder / table["contentUrl"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == table["sha256"]
    (rows,) = told["recordSet"]
    assert [f["source"]["extract"]["column"] for f in rows["field"]] == list(pd.read_csv(folder / "metadata.csv"))
    assert all(f["source"]["fileObject"]["@id"] == table["@id"] for f in rows["field"])
    types = {f["source"]["extract"]["column"]: (f["dataType"], f["description"]) for f in rows["field"]}
    assert types["pain"] == ("sc:Float", "what is predicted")
    assert types["who"] == ("sc:Integer", "the person or session of the row")
    assert types["y_file_name"][0] == "sc:Text"
    assert "the file of y (privileged)" in types["y_file_name"][1]
    assert rows["key"]["@id"] in {f["@id"] for f in rows["field"]}


def test_the_reference_implementation_reads_the_rows(folder):
    croissant = pytest.importorskip("mlcroissant")
    data = croissant.Dataset(folder / "croissant.json")
    assert data.metadata.ctx.issues.errors == set()
    found = list(data.records("rows"))
    assert [r["rows/pain"] for r in found] == [0.0, 0.5, 1.0, 1.5]
    assert found[3]["rows/x_file_name"] in (b"x/3.npy", "x/3.npy")
