"""What pages take for granted: the names and files that their blocks of Python use, tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import sidelight as sl
from helpers.students import make_student
from sidelight.signals import LabelTrack, Recording, cut

Names = dict[str, Any]
CHEAP = ("faq.md", "how-to/own-loss.md")
"""Pages below docs that run from top to bottom by themselves, and train nothing."""
TRAINING = (
    "index.md", "first-study.md", "coming-from.md", "how-to/own-encoder.md", "how-to/few-labels.md",
    "how-to/missing-sensors.md", "how-to/video.md", "tutorial-voice-and-face.md",
)  # fmt: skip
"""Those that train."""


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
    sl.compare("phone-watch", methods=["kl"], output="runs/phone-watch")
    student_of_the_phone(names)


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


def another_student(names: Names) -> None:
    """One of a face and a voice that needs either."""
    rng = np.random.default_rng(0)
    names["student"] = make_student({"face": rng.normal(size=(12, 4)), "voice": rng.normal(size=(12, 3))}, drop=0.3)
    names["f"], names["x"] = rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    names["f"][2] = np.nan


def student_of_a_table(names: Names) -> None:
    rows = np.random.default_rng(0).normal(size=(12, 2))
    names["student"] = make_student({"context": rows})
    pd.DataFrame(rows, columns=["context.0", "context.1"]).to_csv("new_rows.csv", index=False)


def student_of_groups(names: Names) -> None:
    names["student"] = make_student(standardize="group")
    names["x"] = np.random.default_rng(0).normal(9.8, 3, (6, 20, 3))
    names["first_minutes"] = names["x"] + 1


def calibrated(names: Names) -> None:
    student_of_groups(names)
    names["student"].calibrate({"phone_acc": names["first_minutes"]}, ["ann"] * len(names["first_minutes"]))


def student_of_the_phone(names: Names) -> None:
    names["student"] = sl.load_student("runs/phone-watch")
    names["x"] = sl.load("phone-watch").inputs["phone_acc"][:8]


def recorders(names: Names) -> None:
    """Two seconds of an E4, of a BrainVision recorder and of a MATLAB file."""
    from scipy.io import savemat

    e4 = Path("data/s01/e4")
    e4.mkdir(parents=True)
    for name, rate, row in (("ACC", 32, "0, 0, 64"), ("EDA", 4, "0.5")):
        head = ["1544027337.0", f"{rate}.0"]
        columns = row.count(",") + 1
        lines = [", ".join([x] * columns) for x in head] + [row] * (2 * rate)
        (e4 / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (e4 / "IBI.csv").write_text("1544027337.0, IBI\n0.8,0.80\n1.6,0.81\n")
    (e4 / "tags.csv").write_text("1544027338.0\n")
    folder = e4.parent
    (folder / "rest.vhdr").write_text(BRAINVISION)
    (folder / "rest.vmrk").write_text(MARKERS)
    np.ones((500, 2), "<i2").tofile(folder / "rest.eeg")
    savemat(folder / "bio.mat", {"eda": np.ones((500, 1))})


BRAINVISION = """Brain Vision Data Exchange Header File Version 1.0
[Common Infos]
DataFile=rest.eeg
MarkerFile=rest.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=2
SamplingInterval=4000
[Binary Infos]
BinaryFormat=INT_16
[Channel Infos]
Ch1=GSR,,0.01,µS
Ch2=Fz,,0.5,µV
"""
MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0
[Common Infos]
DataFile=rest.eeg
[Marker Infos]
Mk1=New Segment,,1,1,0,20260102030405500000
"""


def multibench(names: Names) -> None:
    """What the loaders of the affect sets give: ([x_1, …], [lengths_1, …], indices, y)."""
    torch.manual_seed(0)
    Path("mosi").mkdir()
    lengths = [torch.tensor([5, 3])] * 3
    batch = ([torch.randn(2, 5, k) for k in (4, 3, 6)], lengths, torch.arange(2), torch.randn(2, 1))
    names["get_dataloader"] = lambda path: ([batch] * 4, [batch], [batch])


def scale(names: Names) -> None:
    """Dask in threads of this process."""
    from distributed import Client

    rng = np.random.default_rng(0)
    names["sl"] = sl
    rows = pd.DataFrame({"subject": np.repeat([f"s{i}" for i in range(8)], 6), "label": ["low", "high"] * 24})
    rows["video.a"], rows["video.b"], rows["eda.a"] = rng.normal(size=(3, 48))
    Path("data").mkdir()
    rows.assign(**{"eda.a": rows["eda.a"] + (rows["label"] == "high")}).to_csv("data/manifest.csv", index=False)
    client = Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None)
    names["client"] = names["ends"].enter_context(client)


PRELUDES |= {
    "docs/datasets/multibench.md": multibench,
    "docs/scale.md": scale,
    "docs/sweeps.md": lambda names: names.update(sl=sl),
    "docs/tracking.md": lambda names: None,
}
BEFORE = {
    ("docs/deploying.md", "student.completes"): another_student,
    ("docs/deploying.md", "predict_file"): student_of_a_table,
    ("docs/deploying.md", "student.calibrate"): student_of_groups,
    ("docs/deploying.md", 'student.export("student.onnx")'): student_of_the_phone,
    ("docs/deploying.md", 'student.export("ann.onnx"'): calibrated,
    ("docs/deploying.md", "onnxruntime"): student_of_the_phone,
    ("docs/recordings.md", "read_recordings"): recorders,
}
"""(Page, part of the block) -> what changes the names and files before this block, which speaks of others."""

NOT_RUN = {
    (
        "docs/deploying.md",
        "executorch",
    ): "executorch is not installed here; 1.5.1 was tried by hand, tests/export/test_graph.py has its export",
    ("docs/deploying.md", "openvino"): "openvino is not installed here; 2026.4.1 was tried by hand",
    ("docs/design.md", "@dataclass"): "a picture of a class: tests/docs/test_pages.py compares its fields",
    ("docs/scale.md", "SlurmJobExecutor"): "a cluster of SLURM: tests/test_examples.py reads what would be submitted",
    (
        "docs/tracking.md",
        "lightning",
    ): "lightning is not installed here; tests/tracking has loggers of the same three methods",
}
"""(Page, part of the block) -> why the block is read and not run."""
