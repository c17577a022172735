"""Folders in the layout of Hugging Face become prepared folders; what is wrong in them is named."""

from __future__ import annotations

import pandas as pd
import pytest

from sidelight.data import load
from sidelight.data.sources.prepared import read_prepared
from sidelight.errors import DataError
from sidelight.readers import make_reader
from sidelight.readers.base import check, prepare, synthesize

pytest.importorskip("soundfile")


@pytest.fixture
def source(tmp_path):
    return synthesize(make_reader("hf"), tmp_path / "source")


def test_kinds_follow_suffixes_and_folders_are_parts(source, tmp_path):
    reader = make_reader("hf", {"height": "32", "width": "48"})
    assert check(reader, source) == []
    out, _ = prepare(reader, source, tmp_path / "out")
    made, data = read_prepared(out), load(out)
    assert {m: kind.kind for m, kind in made.modalities.items()} == {"rgb": "image", "sound": "audio"}
    assert data.shape("rgb") == (3, 32, 48)
    assert data.shape("sound") == (1600, 1)
    assert data.class_names == ("a", "b")
    assert {s: int((data.split == s).sum()) for s in ("train", "test")} == {"train": 12, "test": 4}


def test_faults_are_named(source, tmp_path):
    reader = make_reader("hf")
    (source / "train/rgb/3.png").unlink()
    assert check(reader, source) == [f"{source / 'train/rgb/3.png'} (row train-3)"]
    with pytest.raises(DataError, match=r"rgb/3.png"):
        prepare(reader, source, tmp_path / "out")
    assert len(prepare(reader, source, tmp_path / "out", skip=True)[1]) == 1
    assert "unknown column 'label'" in check(make_reader("hf", {"target": "label"}), source)[0]
    path = source / "test/metadata.csv"
    table = pd.read_csv(path)
    table.loc[1, "rgb_file_name"] = "sound/1.wav"
    table.to_csv(path, index=False)
    assert "column 'rgb_file_name' names .png, .wav; expected one kind" in check(reader, source)[0]
