"""From the files of devices to the rows of a study, by two commands and one YAML (docs/your-own-data.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sidelight as sl
from helpers.xdf_files import stream, write_xdf
from sidelight.cli import main
from sidelight.config import load_config
from sidelight.data.load import load_for

SESSIONS = ("s1", "s2", "s3", "s4")
START = 1.7e9


def calm_or_tense(seconds: np.ndarray) -> np.ndarray:
    """The truth: calm in the first 30 s, then tense."""
    return (np.asarray(seconds) >= 30).astype(float)


def e4(folder: Path, rng: np.random.Generator) -> None:
    place = folder / "e4"
    place.mkdir()
    for name, rate, late in (("EDA", 4, 0.0), ("BVP", 64, 1.0)):
        t = late + np.arange(60 * rate) / rate
        values = calm_or_tense(t) + rng.normal(0, 0.2, len(t))
        lines = [f"{START + late:.2f}", f"{rate:.6f}", *(f"{x:.4f}" for x in values)]
        (place / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "events.csv").write_text("onset,duration,label\n0,30,calm\n30,30,tense\n")


def edf(folder: Path, rng: np.random.Generator) -> None:
    edfio = pytest.importorskip("edfio")
    signals = [
        edfio.EdfSignal(calm_or_tense(np.arange(60 * rate) / rate) + rng.normal(0, 0.2, 60 * rate), rate,
                        label=name, physical_dimension="uV", physical_range=(-5, 5))
        for name, rate in (("ecg", 128), ("eda", 4))
    ]  # fmt: skip
    notes = [edfio.EdfAnnotation(0, 30, "calm"), edfio.EdfAnnotation(30, 30, "tense")]
    edfio.Edf(signals, annotations=notes).write(folder / "bio.edf")


def xdf(folder: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("pyxdf")
    a, b = 500 + np.arange(60 * 32) / 32, 502 + np.arange(56 * 8) / 8
    write_xdf(
        folder / "lab.xdf",
        stream("face", a, calm_or_tense(a - 500) + rng.normal(0, 0.2, len(a)), 32),
        stream("eda", b, calm_or_tense(b - 500) + rng.normal(0, 0.2, len(b)), 8),
        stream("cues", [500.0, 530.0], ["calm", "tense"], kind="Markers"),
    )


def face_and_voice(folder: Path, rng: np.random.Generator) -> None:
    soundfile = pytest.importorskip("soundfile")
    t = np.arange(60 * 25) / 25
    rows = [f"{i + 1}, 0, {x:.3f}, 0.98, 1, {v:.3f}" for i, (x, v) in enumerate(zip(t, calm_or_tense(t), strict=True))]
    header = "frame, face_id, timestamp, confidence, success, AU01_r"
    (folder / "face.csv").write_text("\n".join([header, *rows]) + "\n")
    loud = calm_or_tense(np.arange(60 * 8000) / 8000)
    soundfile.write(folder / "voice.wav", rng.normal(0, 0.01 + 0.1 * loud), 8000)
    (folder / "labels.csv").write_text("start;end;emotion\n00:00:00,000;00:00:30,000;calm\n00:30,0;01:00,0;tense\n")


def table(folder: Path, rng: np.random.Generator) -> None:
    t = np.arange(60 * 16) / 16
    values = {"t_ms": (t * 1000).astype(int), "gsr": calm_or_tense(t), "hr": rng.normal(70, 2, len(t))}
    pd.DataFrame(values).to_csv(folder / "bio.tsv", sep="\t", index=False)
    (folder / "events.csv").write_text("onset,duration,label\n0,30,calm\n30,30,tense\n")


HEAD = "sessions: 's*'\nseconds: 5\navailable: [AVAILABLE]\nprivileged: [PRIVILEGED]\n"
FLOWS: dict[str, tuple[Callable[[Path, np.random.Generator], None], str, str, str]] = {
    "e4": (e4, "bvp", "eda", """
sensors:
  bvp: {file: e4, name: BVP}
  eda: {file: e4, name: EDA}
labels: {file: events.csv, zero: eda}
"""),
    "edf": (edf, "ecg", "eda", """
sensors: {ecg: bio.edf, eda: bio.edf}
labels: bio.edf
"""),
    "xdf": (xdf, "face", "eda", """
sensors: {face: lab.xdf, eda: lab.xdf}
labels: lab.xdf
"""),
    "face-and-voice": (face_and_voice, "face", "voice", """
sensors:
  face: {file: face.csv, name: AU_r}
  voice: {file: voice.wav, kind: audio, settings: {rate: 8000, seconds: 5}}
labels: {file: labels.csv, label: emotion}
"""),
    "table": (table, "heart", "skin", """
sensors:
  heart: {file: bio.tsv, columns: [hr], time: t_ms, time_unit: ms}
  skin: {file: bio.tsv, columns: [gsr], time: t_ms, time_unit: ms, unit: uS}
labels: events.csv
"""),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
def test_two_commands_and_one_yaml(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, available, privileged, rest = FLOWS[name]
    rng = np.random.default_rng(0)
    for session in SESSIONS:
        (tmp_path / "data" / session).mkdir(parents=True)
        write(tmp_path / "data" / session, rng)
    text = HEAD.replace("AVAILABLE", available).replace("PRIVILEGED", privileged) + rest.strip() + "\n"
    assert len(text.splitlines()) <= 15
    (tmp_path / "data/recordings.yaml").write_text(text)

    assert main(["windows", str(tmp_path / "data/recordings.yaml"), str(tmp_path / "out")]) == 0
    capsys.readouterr()
    data = sl.load(tmp_path / "out")
    assert set(data.class_names) == {"calm", "tense"}
    starts = np.array([float(row.rpartition(":")[2]) for row in data.ids])
    truth = np.array([data.class_names[c] for c in data.target])
    if name != "xdf":  # whose clock begins elsewhere
        assert truth.tolist() == ["tense" if s + 2.5 >= 30 else "calm" for s in starts]
    taught = data.inputs["eda" if "eda" in data.inputs else "skin" if "skin" in data.inputs else available]
    level = taught.reshape(len(data), -1).mean(1)
    whole = np.abs(level - 0.5) > 0.4  # windows on one side of the change
    assert whole.sum() >= 30
    assert (level[whole] > 0.5).tolist() == (truth[whole] == "tense").tolist()
    if name == "e4":  # one of them goes on to a study
        out = str(tmp_path / "run")
        words = ["run", str(tmp_path / "out"), "--output", out, "--folds", "2", "--methods", "kl", "--placebo", "null"]
        assert main([*words, "--quiet", "training.epochs=1", "select=0.5"]) == 0
        assert "baseline" in capsys.readouterr().out


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """The YAML of RGB whose cameras differ in size, and depth of 16 bits with holes of 65535, which is far or near."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        height = 24 if i % 2 else 32
        Image.fromarray(rng.integers(0, 256, (height, 40, 3), np.uint8)).save(tmp_path / f"{i}.png")
        depth = rng.normal(2500 if i % 4 < 2 else 1500, 40, (height, 40)).astype(np.uint16)
        depth[:4] = 65535
        Image.fromarray(depth).save(tmp_path / f"{i}_depth.png")
        names = {"rgb_file_name": f"{i}.png", "depth_file_name": f"{i}_depth.png"}
        rows.append({"id": f"r{i}", "room": f"room{i // 4}", "label": "far" if i % 4 < 2 else "near", **names})
    pd.DataFrame(rows).to_csv(tmp_path / "scenes.csv", index=False)
    text = f"""
data: scenes.csv
group: room
available: [rgb]
privileged: [depth]
modalities:
  rgb: {{size: [12, 16]}}
  depth: {{size: [12, 16], step: 0.001, no_value: [65535]}}
network: {{encoder: mlp, width: 8}}
methods: [kl]
output: {tmp_path / "run"}
""".strip()
    assert len(text.splitlines()) <= 15
    (tmp_path / "study.yaml").write_text(text)
    return tmp_path / "study.yaml"


def test_images_and_depth_are_read_by_one_yaml(scenes: Path) -> None:
    data = load_for(load_config(scenes))
    assert {m: x.shape for m, x in data.inputs.items()} == {"rgb": (24, 3, 12, 16), "depth": (24, 1, 12, 16)}
    depth = data.inputs["depth"].read()[:, 0].numpy()
    assert not depth[:, 0].any()
    far = np.array([data.class_names[c] == "far" for c in data.target])
    np.testing.assert_allclose(depth[:, 4:].mean((1, 2)), np.where(far, 2.5, 1.5), atol=0.02)


@pytest.mark.slow
def test_images_and_depth_by_one_command(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scenes.parent
    quick = ["--folds", "2", "--seeds", "1", "--placebo", "null", "--reference", "null", "--jobs", "1", "--quiet"]
    assert main(["run", str(scenes), *quick, "training.epochs=8", "select=0.5"]) == 0
    assert "baseline" in capsys.readouterr().out
    scores = pd.read_csv(folder / "run/results.csv").groupby("method").accuracy.mean()
    assert scores["teacher"] > 0.9 > scores["baseline"]  # it sees near and far, in metres and without the holes
    # Predicted from files alone, scaled as in training.
    pd.read_csv(folder / "scenes.csv")[:3][["id", "rgb_file_name"]].to_csv(folder / "new.csv", index=False)
    assert main(["predict", str(folder / "run"), str(folder / "new.csv"), "--output", str(folder / "out.csv")]) == 0
    assert pd.read_csv(folder / "out.csv").id.tolist() == ["r0", "r1", "r2"]
