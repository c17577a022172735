"""One rule for names of modalities, at every door through which one comes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from torch import nn

import sidelight as sl
from sidelight.config import load_config
from sidelight.data.dataset import Dataset
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.errors import ConfigError, DataError, SidelightError
from sidelight.extract import extract
from sidelight.recordings.series import Array
from sidelight.utils import names
from sidelight.utils.names import check_modality

BAD = {
    "empty": "",
    "dot": "a.b",
    "up": "..",
    "slash": "a/b",
    "backslash": "a\\b",
    "space": "a b",
    "no-break space": "a\u00a0b",
    "tabulator": "a\tb",
    "line end": "a\n",
    "line separator": "a\u2028b",
    "NUL": "a\0b",
    "escape": "\x1b[31m",
    "turned around": "a\u202eb",
    "half a character": "a\ud800",
    "101 characters": "x" * 101,
    "240 bytes": "\N{EURO SIGN}" * 80,
    "kept by torch": "values",
    "kept by array files": "lengths",
    "of the language": "__class__",
}
bad = pytest.mark.parametrize("name", BAD.values(), ids=BAD)
FILLED = {case: name for case, name in BAD.items() if case not in ("empty", "dot", "up", "half a character")}
"""Of a column `name.0`, what stands before the first dot is the name, and one that begins with a dot has none; pandas
itself has no halves of characters."""
filled = pytest.mark.parametrize("name", FILLED.values(), ids=FILLED)
filled_or_dots = pytest.mark.parametrize("name", [n for n in BAD.values() if "\ud800" not in n])
Y = ["a", "b"] * 4


@bad
def test_a_bad_name_is_refused_with_the_name_and_the_mend(name):
    with pytest.raises(DataError, match=r"^rows.csv: modality name .*; rename it$") as error:
        check_modality(name, "rows.csv")
    assert len(str(error.value)) < 300
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["eda", "ECG_2", "depth-left", "été", "光电", "a+b", "a:b", "x" * 100, "7", "train1"])
def test_ordinary_names_pass(name):
    assert check_modality(name) == name


def test_every_public_attribute_of_torchs_container_is_kept():
    public = {word for word in dir(nn.ModuleDict()) if not word.startswith("_")}
    public -= {"pretend"}  # a device that other tests of this process may have registered
    assert public <= names.RESERVED
    assert "smart_apply" in names.RESERVED  # which transformers adds once it has built a network


@bad
def test_arrays_and_datasets_refuse_it(name):
    with pytest.raises(DataError, match="rename it"):
        Dataset("d", {name: np.zeros((8, 2))}, np.arange(8) % 2, np.ones(8, bool), "classification", ("a", "b"))
    with pytest.raises(SidelightError, match="rename it"):
        sl.load({name: np.zeros((8, 2), np.float32), "target": Y})


@filled
def test_frames_refuse_it(name):
    with pytest.raises(DataError, match="rename it"):
        sl.load(pd.DataFrame({f"{name}.0": np.arange(8.0), "target": Y}))


@bad
def test_settings_refuse_it(name):
    with pytest.raises(ConfigError, match="rename it"):
        load_config({"data": "x", "available": [name or " "]})
    with pytest.raises(ConfigError, match=r"rename it|without a dot|is not a setting"):
        load_config({"data": "x", "network": {"weights": {name: "f.pt"}}})
    with pytest.raises(ConfigError, match="rename it"):
        sl.load("phone-watch", modalities=[name])


@filled_or_dots
def test_prepared_folders_refuse_it_when_written_and_when_read(tmp_path, name):
    rows = [{"id": str(i), "target": Y[i], f"{name}_file_name": "a.npy"} for i in range(8)]
    with pytest.raises(ConfigError, match="rename it"):
        write_prepared(tmp_path / "p", rows, {name: Array()}, DatasetInfo("d"))
    rows = [{"id": str(i), "target": Y[i], "m_file_name": "a.npy"} for i in range(8)]
    write_prepared(tmp_path / "p", rows, {"m": Array()}, DatasetInfo("d"))
    told = json.loads((tmp_path / "p/modalities.json").read_text())
    told["modalities"] = {name: told["modalities"]["m"]}
    (tmp_path / "p/modalities.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="rename it"):
        sl.load(tmp_path / "p")


def test_extract_writes_nothing_outside_its_folder(tmp_path):
    np.savez(tmp_path / "d.npz", **{"../../x": np.zeros((8, 2), np.float32), "target": Y})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SidelightError, match="rename it"):
        extract(tmp_path / "d.npz", tmp_path / "out", {"../../x": "resnet18"})
    assert sorted(tmp_path.rglob("*")) == before
