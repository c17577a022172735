"""Features of frozen encoders: right, made once, and neither redone nor lost by kills and companions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sidelight as sl
from helpers import recordings
from sidelight.cli import main
from sidelight.config import load_config
from sidelight.errors import ConfigError, DataError, RunError, SidelightWarning
from sidelight.experiment.fold import FoldData
from sidelight.extract import extract
from sidelight.extract.shards import Shards
from sidelight.networks.backbones.backbone import make_net
from sidelight.recordings.base import RecordingType
from sidelight.recordings.pictures import Image
from sidelight.video.augment import STATISTICS

ENCODERS = {"rgb": "resnet18"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return recordings.prepared(tmp_path_factory.mktemp("images"), n=24)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(make_net("resnet18", (3, 16, 16)).state_dict(), path)
    return {"rgb": str(path)}


@pytest.fixture(scope="module")
def features(folder, weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("features") / "out"
    with pytest.warns(SidelightWarning, match="'depth' has no encoder and its rows are files; it is left out"):
        return extract(folder, out, ENCODERS, weights, shard=7)


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """Every image that is decoded from now on."""
    seen: list[Path] = []
    real = Image.read

    def counted(self: RecordingType, part, *more):
        seen.append(part.path)
        return real(self, part, *more)

    monkeypatch.setattr(Image, "read", counted)
    return seen


# what is stored ------------------------------------------------------------------------------------------------------


def test_features_are_what_the_encoder_says(folder, weights, features):
    net = make_net("resnet18", (3, 16, 16))
    net.load_state_dict(load_file(weights["rgb"]))
    net.eval()
    x = sl.load(folder).inputs["rgb"].read().float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in STATISTICS["imagenet"])
    with torch.no_grad():
        expected = net.pool(net.forward_maps((x - mean) / std), 1)[:, 0]
    torch.testing.assert_close(load_file(features / "rgb.safetensors")["rgb"], expected, rtol=1e-4, atol=1e-5)


def test_load_reads_them_without_decoding(folder, features, read):
    data, source = sl.load(features), sl.load(folder)
    assert not data.lazy
    assert not read
    assert data.shape("rgb") == (512,)
    assert set(data.modalities) == {"rgb", "feat"}
    assert data.class_names == source.class_names
    for name in ("target", "group", "ids"):
        assert np.array_equal(getattr(data, name), getattr(source, name))
    assert np.array_equal(data.inputs["feat"], source.inputs["feat"])
    config = load_config({"data": str(features), "available": ["rgb"], "privileged": ["feat"], "folds": 3})
    assert FoldData(config, data, 0, 0).rows("train").materialize().inputs["rgb"].shape[1] == 512
    assert not read


def test_rows_without_the_modality_stay_without(folder, tmp_path):
    torch.manual_seed(3)
    save_file(make_net("resnet18", (1, 16, 16)).state_dict(), tmp_path / "w.safetensors")
    with pytest.warns(SidelightWarning, match="'rgb' has no encoder"):
        out = extract(
            folder, tmp_path / "out", {"depth": "resnet18"}, {"depth": str(tmp_path / "w.safetensors")}, tokens=2
        )
    data = sl.load(out)
    assert data.shape("depth") == (2, 512)
    assert data.present["depth"].tolist() == [i % 7 != 6 for i in range(24)]


def test_what_was_done_is_written_down(features, weights):
    told = json.loads((features / "extract.json").read_text())
    assert told["source"]["licence"] == "none"
    made = told["modalities"]["rgb"]
    assert (made["encoder"], made["tokens"], made["standard"]) == ("resnet18", 1, "imagenet")
    assert sorted(p.name for p in features.iterdir()) == [
        "extract.json", "feat.safetensors", "metadata.csv", "rgb.safetensors",
    ]  # fmt: skip


# once ----------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:'depth' has no encoder")
def test_nothing_is_done_twice_and_what_changes_is_done_again(folder, weights, tmp_path, read):
    source = recordings.prepared(tmp_path / "source", n=10)
    out = tmp_path / "out"
    extract(source, out, ENCODERS, weights, shard=4)
    first = (out / "rgb.safetensors").read_bytes()
    read.clear()
    extract(source, out, ENCODERS, weights, shard=3)
    assert not read
    path = Path(sl.load(source).inputs["rgb"].files[2])
    os.utime(path, ns=(1, 1))  # another time of change: perhaps another content
    extract(source, out, ENCODERS, weights)
    assert len(read) == 10
    read.clear()
    other = load_file(weights["rgb"])
    other = {name: x * 2 if x.is_floating_point() else x for name, x in other.items()}
    save_file(other, tmp_path / "other.safetensors")
    extract(source, out, ENCODERS, {"rgb": str(tmp_path / "other.safetensors")})
    assert len(read) == 10
    assert (out / "rgb.safetensors").read_bytes() != first
    assert not list(out.glob(".*"))


def test_what_is_refused(folder, weights, tmp_path, features):
    for encoders, given, error, message in [
        ({}, {}, ConfigError, "extract needs an encoder"),
        ({"rgbb": "resnet18"}, {}, ConfigError, "encoder: unknown modality 'rgbb'. Did you mean 'rgb'"),
        (ENCODERS, {"depth": "x"}, ConfigError, "weights: unknown modality 'depth'"),
        (ENCODERS, {}, ConfigError, "'resnet18' has no weights"),
        (ENCODERS, {"rgb": "gone.safetensors"}, RunError, "gone.safetensors does not exist"),
        ({"rgb": "r3d18"}, {"rgb": "x"}, ConfigError, "clips"),
    ]:
        with pytest.raises(error, match=message):
            extract(folder, tmp_path / "out", encoders, given)
    half = dict(list(load_file(weights["rgb"]).items())[:20])
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(RunError, match="A frozen encoder must be trained; give a file with all of its weights"):
        extract(folder, tmp_path / "out", ENCODERS, {"rgb": str(tmp_path / "half.safetensors")})
    with pytest.raises(DataError, match="contains something other than extracted features"):
        extract(folder, folder, ENCODERS, weights)


@pytest.mark.filterwarnings("ignore:'depth' has no encoder")
def test_the_command_line(folder, weights, features, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["extract", str(folder), str(out), "--encoder", "rgb=resnet18", "--weights", f"rgb={weights['rgb']}"]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(out)
    same = [load_file(place / "rgb.safetensors")["rgb"] for place in (out, features)]
    torch.testing.assert_close(*same)
    assert main(["extract", str(folder), str(out), "--encoder", "rgb"]) == 2
    assert "expected MODALITY=VALUE" in capsys.readouterr().err
    assert main(["extract", str(folder)]) == 2
    assert "name the folder to write" in capsys.readouterr().err


# killed, and together ------------------------------------------------------------------------------------------------

WORK = """
import sys, time
from pathlib import Path
import torch
from sidelight.extract.shards import Shards

place, pause = Path(sys.argv[1]), float(sys.argv[2])

def compute(rows):
    time.sleep(pause)
    with (place / "log").open("a") as log:
        log.write("".join(f"{i}\\n" for i in range(rows.start, rows.stop)))
    return torch.arange(rows.start, rows.stop).float()[:, None] * torch.tensor([1.0, 2.0])

(place / "ready").touch()
Shards(place / "x.safetensors", "x", "k" * 64, 40, 3).make(compute)
"""


def start(place: Path, pause: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(place), str(pause)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def computed(place: Path) -> Counter:
    return Counter((place / "log").read_text().split())


def until(true, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


EXPECTED = torch.arange(40.0)[:, None] * torch.tensor([1.0, 2.0])


def test_a_killed_extraction_goes_on_where_it_was(tmp_path):
    work = start(tmp_path, 0.15)
    until(lambda: len(list(tmp_path.glob(".x-*/*.safetensors"))) >= 4)
    os.kill(work.pid, signal.SIGKILL)
    work.wait()
    done = {int(p.stem) for p in tmp_path.glob(".x-*/[0-9]*.safetensors")}
    assert 4 <= len(done) < 14
    assert not (tmp_path / "x.safetensors").exists()
    again: list[slice] = []
    shards = Shards(tmp_path / "x.safetensors", "x", "k" * 64, 40, 3)
    shards.make(lambda rows: again.append(rows) or EXPECTED[rows])
    assert {rows.start // 3 for rows in again} == set(range(14)) - done  # none lost, none redone
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], EXPECTED)
    assert shards.is_complete()
    assert not list(tmp_path.glob(".x-*"))


@pytest.mark.slow  # the next test has two, one of which dies
def test_two_processes_share_the_work(tmp_path):
    both = [start(tmp_path, 0.05) for _ in range(2)]
    assert [work.wait(timeout=200) for work in both] == [0, 0]
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], EXPECTED)
    assert computed(tmp_path) == Counter(str(i) for i in range(40))
    assert not list(tmp_path.glob(".x-*"))


@pytest.mark.slow
def test_the_survivor_of_two_does_the_others_piece(tmp_path):
    slow = start(tmp_path, 1000)
    until(lambda: list(tmp_path.glob(".x-*/000000.lock")))
    shards = Shards(tmp_path / "x.safetensors", "x", "k" * 64, 9, 3)
    again: list[slice] = []

    def compute(rows: slice) -> torch.Tensor:
        again.append(rows)
        if len(again) == 2:
            os.kill(slow.pid, signal.SIGKILL)
        return EXPECTED[rows]

    shards.make(compute)
    slow.wait()
    assert [rows.start for rows in again] == [3, 6, 0]
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], EXPECTED[:9])


def test_another_content_is_not_taken_for_this_one(tmp_path):
    first = Shards(tmp_path / "x.safetensors", "x", "a" * 64, 4, 2)
    first.make(lambda rows: EXPECTED[rows])
    second = Shards(tmp_path / "x.safetensors", "x", "b" * 64, 4, 2)
    assert first.is_complete()
    assert not second.is_complete()
    second.make(lambda rows: -EXPECTED[rows])
    assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], -EXPECTED[:4])
    assert not first.is_complete()
