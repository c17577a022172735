"""Folders in the layout of Hugging Face become prepared folders; what is wrong in them is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sidelight.data import load
from sidelight.data.sources.prepared import read_prepared
from sidelight.errors import DataError
from sidelight.readers import make_reader
from sidelight.readers.base import check, prepare, synthesize
from sidelight.readers.synthetic import write_wav

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


def test_spans_are_seconds_and_impossible_ones_are_named(tmp_path):
    def write(cells):
        lines = [f"q{i},{'ab'[i % 2]},s{i % 4},{i % 2}.wav,{cells[i % len(cells)]}\n" for i in range(8)]
        header = "id,label,subject,sound_file_name,sound_start,sound_end\n"
        (tmp_path / "metadata.csv").write_text(header + "".join(lines))

    for i in range(2):
        write_wav(tmp_path / f"{i}.wav", np.linspace(-0.5, 0.5, 16000), 8000)
    reader = make_reader("hf", {"target": "label", "group": "subject"})
    write(["0.5,1.5", "n/a,", " 0.25 ,1.25"])
    d = load(prepare(reader, tmp_path, tmp_path / "out")[0])
    assert d.lengths["sound"].tolist()[:3] == [16000, 32000, 16000]
    for cell, says in (
        ("half,1.5", r"metadata.csv: column 'sound_start', row 1: 'half'; expected seconds from 0 on"),
        ("-1,1.5", "column 'sound_start', row 1: '-1'"),
        ("0.5,inf", "column 'sound_end', row 1: 'inf'"),
        ("1.5,0.5", r"a segment from 1.5 s to 0.5 s; expected 0 <= start < end, in seconds .row 'q1'"),
        ("5,6", "row 'q1'"),
    ):
        write(["0.5,1.5", cell])
        with pytest.raises(DataError, match=says):
            prepare(reader, tmp_path, tmp_path / "bad")
