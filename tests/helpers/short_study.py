"""A short study from end to end, by the installed command: run, report, predict, export as ONNX and as torch.export.

`make test-lowest` runs it in an environment of the lowest versions that pyproject.toml allows:

    python tests/short_study.py FOLDER
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import torch

import sidelight as sl

SETTINGS = [
    "--folds",
    "2",
    "--seeds",
    "1",
    "--methods",
    "kl",
    "pkdot",
    "--jobs",
    "1",
    "label_fraction=[0.2]",
    "training.epochs=6",
]
SHOWN = ("torch", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "matplotlib", "monai", "onnx", "onnxruntime")


def sidelight(*words: str | Path) -> None:
    print("$ sidelight", *words, flush=True)
    subprocess.run([sys.executable, "-m", "sidelight", *map(str, words)], check=True)


def main(folder: Path) -> None:
    print(*(f"{name} {importlib.metadata.version(name)}" for name in SHOWN), sep=", ")
    sidelight("run", "phone-watch", *SETTINGS, "--output", folder)
    page = (folder / "report.html").read_text()
    assert "<svg" in page
    assert "pkdot" in page
    sidelight("report", folder)

    student = sl.load_student(folder / "student")
    data = sl.load("phone-watch")
    rows = {m: data.inputs[m][:200] for m in student.reads}
    np.savez(folder / "rows.npz", **rows)
    sidelight("predict", folder / "student", folder / "rows.npz", "--output", folder / "said.parquet")
    said = pd.read_parquet(folder / "said.parquet")
    assert len(said) == 200
    right = (said["prediction"].to_numpy() == np.array(data.class_names)[data.target[:200]]).mean()
    print(f"{right:.0%} of 200 rows that it was partly trained on are right")
    assert right > 0.4  # guessing among seven classes: 0.14

    for suffix in ("onnx", "pt2"):
        sidelight("export", folder, "--output", folder / f"student.{suffix}")
    given = [rows[m].astype(np.float32) for m in student.reads]
    session = onnxruntime.InferenceSession(folder / "student.onnx")
    with_onnx = session.run(None, dict(zip([i.name for i in session.get_inputs()], given)))
    with_torch = torch.export.load(folder / "student.pt2").module()(*map(torch.from_numpy, given))
    want = said[[f"p.{label}" for label in data.class_names]].to_numpy()
    for name, got in (("onnx", with_onnx), ("pt2", [t.detach().numpy() for t in with_torch])):
        nearest = min(np.abs(part - want).max() for part in got if part.shape == want.shape)
        print(f"{name}: probabilities within {nearest:.1e} of predict's")
        assert nearest < 1e-4
    print("short study: all well")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
