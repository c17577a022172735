"""What pages take for granted: the names and files that their blocks of Python use, tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import sidelight as sl
from sidelight.signals import LabelTrack, Recording, cut

Names = dict[str, Any]


def transport(names: Names) -> None:
    torch.manual_seed(0)
    names["x"] = torch.randn(20, 4, requires_grad=True)
    names["y"], names["matrix"] = torch.randn(30, 4), torch.rand(20, 30)
    names["a"], names["b"] = torch.full((20,), 1 / 20), torch.full((30,), 1 / 30)


def data(names: Names) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"subject": np.repeat(["anna", "ben", "cem"], 4), "pain": ["low", "high"] * 6})
    rows["face.au1"], rows["face.au2"] = rng.normal(size=(2, 12))
    Path("recordings").mkdir()
    rows.to_csv("recordings/metadata.csv", index=False)
    rows.to_csv("rows.csv", index=False)
    names["x"], names["z"] = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    names["y"], names["who"] = np.arange(12) % 2, np.arange(12) // 4
    np.savez("arrays.npz", video=names["x"], eda=names["z"], target=names["y"])
    names["frame"] = rows.assign(valence=rng.normal(size=12), arousal=rng.normal(size=12)).drop(columns="pain")
    track = LabelTrack([0, 1, 0, 1], rate=0.2)  # a class for every five seconds
    session = {"eda": Recording(rng.normal(size=(80, 1)), rate=4, modality="eda")}
    names["windows"], names["others"] = (cut(session, 5, 5, labels=track) for _ in range(2))
    names["all_sessions"] = {"anna": (session, track), "ben": (session, track)}


def film(path: Path) -> None:
    """Two seconds of a picture that grows brighter, with a sine."""
    import av

    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("mpeg4", rate=25), file.add_stream("aac", rate=16000, layout="mono")
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        for t in range(50):
            picture = np.full((240, 320, 3), 4 * t, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())
        wave = 8000 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)
        chunk = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
        chunk.sample_rate = 16000
        file.mux(audio.encode(chunk))
        file.mux(audio.encode())


def signals(names: Names) -> None:
    rng = np.random.default_rng(0)
    path = Path("biosignals_raw/s1/s1-PA4-001_bio.csv")
    path.parent.mkdir(parents=True)
    time = np.arange(6 * 512) * 1e6 / 512
    columns = {"time": time, "gsr": 5 + rng.normal(0, 0.1, len(time)), "emg_trapezius": rng.normal(size=len(time))}
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    film(Path("clip.mp4"))
    names["depth"] = torch.rand(16, 1, 128, 171)


def recordings(names: Names) -> None:
    from helpers.recordings import depth, video

    Path("prepared").mkdir()
    files = {"rgb": video(Path("anna.mp4"), 60), "depth": depth(Path("a.png"))}
    table = pd.DataFrame({"time": np.arange(2048) * 1e6 / 512, "gsr": 1.0})
    table.to_csv("anna.csv", sep=",", index=False)
    row = {f"{name}_file_name": file.resolve() for name, file in files.items()}
    eda = {"eda_file_name": Path("anna.csv").resolve()}
    names["rows"] = [{"id": "a1", "label": "smile", "subject": "anna", **row, **eda}]


def deploying(names: Names) -> None:
    names["student"] = sl.compare("phone-watch", methods=["kl"], output="runs/phone-watch").best().student
    names["student"].export("student.onnx")
    phone = sl.load("phone-watch").inputs["phone_acc"][:8]
    names["x"] = phone


def casia(names: Names) -> None:
    for protocol in range(1, 7):
        folder = Path(f"runs/osmd-cefa-4-{protocol}")
        folder.mkdir(parents=True)
        rows = pd.DataFrame({"method": ["osmd", "osmd"], "control": [None, "placebo"], "acer": [0.1, 0.2]})
        rows.to_csv(folder / "results.csv", index=False)


def readme(names: Names) -> None:
    names["x"] = sl.load("phone-watch").inputs["phone_acc"][:8]


PRELUDES = {
    "docs/transport.md": transport,
    "docs/networks.md": lambda names: None,
    "docs/methods.md": lambda names: None,
    "docs/data.md": data,
    "docs/signals.md": signals,
    "docs/recordings.md": recordings,
    "docs/deploying.md": deploying,
    "docs/datasets/casia.md": casia,
    "README.md": readme,
}
"""Page -> what makes the names and files that its blocks use."""

NOT_RUN = {
    ("docs/deploying.md", 'sl.load_student("runs/phone-watch")'): "shows what a student refuses",
    ("docs/deploying.md", "student.completes"): "of another student: tests/networks/test_modality_imputer.py",
    ("docs/deploying.md", "student.calibrate"): "of another student: tests/export",
    ("docs/deploying.md", 'student.export("student.onnx")'): "a student of groups: tests/export",
    ("docs/deploying.md", "predict_file"): "a file that users have: tests/export",
    ("docs/deploying.md", "executorch"): "a package that is not installed",
    ("docs/deploying.md", "openvino"): "a package that is not installed",
    ("docs/recordings.md", "read_recordings"): "files of many recorders: tests/formats",
    ("docs/datasets/multibench.md", "get_dataloader"): "runs where MultiBench is",
    ("docs/design.md", "@dataclass"): "a picture of a class",
    ("docs/scale.md", "executor="): "clusters: tests/test_examples.py",
    ("docs/sweeps.md", "sl.sweep"): "twenty draws: tests/sweeps",
    ("docs/tracking.md", "lightning"): "a package that is not installed",
    ("docs/tracking.md", "def log_hyperparams"): "signatures",
}
"""(Page, part of the block) -> why the block is read and not run."""
