"""The files that the commands of a page speak of, tiny, in the working directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch

import sidelight as sl
from helpers import recordings
from helpers.pages import ROOT, blocks
from helpers.preludes import multibench
from sidelight.cli import main
from sidelight.data import Dataset

COLUMNS = ("video.0", "video.1", "eda.0", "ecg.0", "face.0", "voice.0")


def table() -> None:
    """data/manifest.csv: eight people of six rows, with vectors."""
    rng = np.random.default_rng(0)
    pain = np.arange(48) % 2
    rows = pd.DataFrame(rng.normal(size=(48, len(COLUMNS))) + pain[:, None], columns=COLUMNS)
    rows["subject"], rows["pain"] = np.repeat([f"s{i}" for i in range(8)], 6), np.array(["low", "high"])[pain]
    Path("data").mkdir(exist_ok=True)
    rows.to_csv("data/manifest.csv", index=False)
    rows.assign(label=rows["pain"]).drop(columns=["pain"]).to_csv("data/labelled.csv", index=False)


def study() -> None:
    """Runs of the table, and one of signals that is called phone-watch."""
    table()
    short = {"folds": 2, "seeds": 1, "jobs": 1, "quiet": True, "placebo": ["none"], "training": {"epochs": 1}}
    for name, methods in (("manifest", ["kl"]), ("b", ["mse"])):
        asked = ("data/manifest.csv", ["video"], ["eda", "ecg"], methods)
        sl.compare(*asked, target="pain", output=f"runs/{name}", **short)
    shutil.copytree("runs/manifest", "runs/a")
    pd.read_csv("data/manifest.csv")[["video.0", "video.1"]].to_csv("new_rows.csv", index=False)
    rng = np.random.default_rng(0)
    who, target = np.repeat([f"s{i}" for i in range(8)], 4), np.arange(32) % 2
    inputs = {name: rng.normal(size=(32, 20, 3)) + target[:, None, None] for name in ("phone_acc", "watch_acc")}
    data = Dataset("phone-watch", inputs, target, np.ones(32, bool), "classification", ("sit", "walk"), group=who)
    sl.compare(data, ["phone_acc"], ["watch_acc"], ["kl"], output="runs/phone-watch", **short)
    shutil.copy("runs/phone-watch/student/student.safetensors", "student.safetensors")
    np.savez("rows.npz", phone_acc=inputs["phone_acc"])
    sl.load_student("student.safetensors").export("student.onnx")
    shutil.copy(ROOT / "examples" / "check_onnx.py", "check_onnx.py")


def files() -> None:
    """data/metadata.csv: rows whose recordings are files of their own."""
    rows = []
    for i, who in enumerate(sorted([*"abcdefghij"] * 2)):
        for folder in ("clips", "eda", "voice"):
            Path("data", folder).mkdir(parents=True, exist_ok=True)
        recordings.video(Path(f"data/clips/{i}.mp4"))
        sine = np.sin(np.arange(16000 * 3) / (20 + i))
        soundfile.write(f"data/voice/{i}.wav", sine, 16000)
        eda = pd.DataFrame({"time_ms": np.arange(40) * 250, "gsr": 1 + np.arange(40) / 100})
        eda.to_csv(f"data/eda/{i}.csv", index=False)
        names = {
            "face_file_name": f"clips/{i}.mp4",
            "eda_file_name": f"eda/{i}.csv",
            "voice_file_name": f"voice/{i}.wav",
        }
        rows.append({"id": f"a{i}", "subject": who, "pain": ("low", "high")[i % 2], **names})
    pd.DataFrame(rows).to_csv("data/metadata.csv", index=False)


def clips() -> None:
    """prepared/mine: clips and depth images."""
    made = recordings.prepared(Path("made").resolve(), clips=True)
    shutil.copytree(made, "prepared/mine")


def command_line() -> None:
    study()
    files()
    shutil.copytree(recordings.prepared(Path("made").resolve()), "prepared/mine")


def readme() -> None:
    study()
    own_method()
    suite()


def suite() -> None:
    table()
    sets = "".join(
        f"  {name}: {{data: data/labelled.csv, available: [video], privileged: [{name}], group: subject}}\n"
        for name in ("eda", "ecg")
    )
    Path("suite.yaml").write_text(f"methods: [kl]\nfolds: 2\nsets:\n{sets}")


def scale() -> None:
    table()
    assert main(["init", "data/manifest.csv", "experiment.yaml", "--target", "pain"]) == 0


def own_method() -> None:
    shutil.copy(ROOT / "examples" / "own_method.py", "my_method.py")


def tasks() -> None:
    table()
    rows = pd.read_csv("data/manifest.csv").rename(columns={"video.0": "rgb.0", "eda.0": "audio.0", "ecg.0": "depth.0"})
    rows = rows[["rgb.0", "audio.0", "depth.0", "subject", "pain"]]
    rows.rename(columns={"subject": "video", "pain": "action"}).to_csv("data/clips.csv", index=False)
    live = rows.assign(label=rows["pain"].map({"low": "real", "high": "print"})).drop(columns="pain")
    live.to_csv("data/faces.csv", index=False)


def readers() -> None:
    shutil.copytree(ROOT / "examples" / "paper", "examples/paper")
    assert main(["prepare", "folder", "--synthetic", "study"]) == 0


def saved_loaders() -> None:
    names: dict = {}
    multibench(names)
    exec(blocks(ROOT / "docs/datasets/multibench.md", "python")[0].text, names)
    assert isinstance(torch.load("mosi/train.pt", weights_only=True), list)


WORLDS: dict[str, Callable[[], None]] = {
    "README.md": readme,
    "docs/advise.md": table,
    "docs/command-line.md": command_line,
    "docs/data.md": files,
    "docs/datasets/README.md": readers,
    "docs/datasets/multibench.md": saved_loaders,
    "docs/deploying.md": study,
    "docs/methods.md": own_method,
    "docs/recordings.md": clips,
    "docs/scale.md": scale,
    "docs/stacking.md": lambda: None,
    "docs/suite.md": suite,
    "docs/sweeps.md": lambda: None,
    "docs/tasks.md": tasks,
    "docs/tracking.md": lambda: None,
    "docs/training.md": lambda: None,
    "docs/your-own-data.md": files,
}
"""Page -> what makes the files that its commands read."""
OBTAINED = "reads data that users obtain: tests/readers prepares each set as it is distributed, in miniature"
NOT_RUN = {
    ("README.md", "windows"): "docs/first-study.md runs it, with a list that was edited",
    ("README.md", "refit"): "trains: docs/first-study.md runs it",
    ("README.md", "/data/BioVid"): OBTAINED,
    ("README.md", "extract"): "needs weights: tests/extract",
    ("docs/advise.md", "phone-watch"): "half a minute: tests/advice",
    ("docs/coming-from.md", "scans/"): "scans that users have",
    ("docs/datasets/affwild2.md", ""): OBTAINED,
    ("docs/datasets/biovid.md", ""): OBTAINED,
    ("docs/datasets/hf.md", ""): OBTAINED,
    ("docs/datasets/iemocap.md", ""): OBTAINED,
    ("docs/datasets/mmsa.md", ""): OBTAINED,
    ("docs/datasets/nyuv2.md", ""): OBTAINED,
    ("docs/datasets/recola.md", ""): OBTAINED,
    ("docs/datasets/sunrgbd.md", ""): OBTAINED,
    ("docs/deploying.md", "refit"): "trains: docs/first-study.md runs it",
    ("docs/deploying.md", "new/"): "raw files of a study: docs/tutorial-voice-and-face.md runs it",
    ("docs/deploying.md", "runs/study new.csv"): "raw files of a study: tests/export/test_new_files.py",
    ("docs/deploying.md", "runs/mine"): "raw files of a study: tests/export/test_new_files.py",
    ("docs/deploying.md", "--max-batch"): "executorch is not installed here",
    ("docs/how-to/video.md", "cuda"): "a GPU",
    ("docs/how-to/video.md", "torchrun"): "eight GPUs: tests/experiment/test_distributed.py",
    ("docs/methods.md", "refit"): "trains: tests/experiment/test_refit.py",
    ("docs/networks.md", "weights/"): "weights that users obtain: tests/networks/test_weights.py",
    ("docs/recordings.md", "features/mine"): "needs weights: tests/extract",
    ("docs/recordings.md", "windows"): "docs/first-study.md runs it, with a list that was edited",
    ("docs/recordings.md", "run prepared/mine"): "the rows that `windows` writes: docs/first-study.md",
    ("docs/scale.md", "device=cuda"): "a GPU",
    ("docs/scale.md", "runs/manifest"): "a run that was made on a GPU",
    ("docs/scale.md", "s3://"): "a store elsewhere: tests/experiment/test_mirror.py",
    ("docs/suite.md", "report"): "a suite that has run: tests/suite",
    ("docs/sweeps.md", "examples/paper"): "data that users obtain: tests/sweeps reads the ranges",
    ("docs/your-own-data.md", "windows"): "docs/first-study.md runs it, with a list that was edited",
    ("docs/your-own-data.md", "prepared/mine"): "the rows that `windows` writes: docs/first-study.md",
}
"""(Page, part of the command) -> why it is read and not run."""
