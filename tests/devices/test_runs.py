"""Whole runs on the pretend device, with dropout: every family of methods ends as on the CPU, and so do features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import recordings
from helpers.pretend_device import sharing_the_cpu_stream
from helpers.small import curves, make_data, study, table, tensors
from sidelight.data import Dataset
from sidelight.errors import SidelightWarning
from sidelight.experiment.study import Study
from sidelight.extract import extract
from sidelight.networks.backbones.backbone import make_net

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FAMILIES = {
    "classification": ["kl", "pkdot", "crd", "crcd@crossfit", "fitnet", "mers", "admd", "mtnet", "amid", "osmd"],
    "regression": ["mse+cosine", "pkdot-sidelight"],
    "segmentation": ["mse"],
}
"""A method of each family: of logits, transport, memory banks, relations, regressors, T-Nets, and of several stages."""
DEVICES = ("cpu", "pretend")


def run(folder: Path, data: Dataset, methods: list[str], device: str, **changes: Any) -> Study:
    settings = {"protocol": "official", "methods": methods, "training": {"epochs": 2, "device": device}}
    with sharing_the_cpu_stream():
        return study(folder, data, **settings, **changes)


def assert_same_runs(here: Path, there: Path) -> None:
    """The same tables, curves, predictions and weights; files that do not tell where they were trained."""
    pd.testing.assert_frame_equal(table(there), table(here), rtol=1e-5, atol=1e-6)
    jobs = sorted(job.name for job in here.glob("jobs/[!.]*"))
    assert jobs == sorted(job.name for job in there.glob("jobs/[!.]*"))
    for name in jobs:
        a, b = here / "jobs" / name, there / "jobs" / name
        close = {"rtol": 1e-4, "atol": 1e-6}
        pd.testing.assert_frame_equal(curves(b), curves(a), **close, obj=name)
        pd.testing.assert_frame_equal(pd.read_csv(b / "predictions.csv"), pd.read_csv(a / "predictions.csv"), **close)
        weights, moved = tensors(a), tensors(b)
        assert list(weights) == list(moved)
        for key, value in weights.items():
            np.testing.assert_allclose(moved[key], value, rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}")
        # A student file is read on any machine: the network as JSON, and tensors of the CPU.
        assert _without_made(b / "model.json") == _without_made(a / "model.json")


def _without_made(file: Path) -> dict[str, Any]:
    told = json.loads(file.read_text())
    return {key: told[key] for key in ("task", "reads", "inputs", "network", "preprocessor")}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k == "regression" else pytest.mark.slow) for k in FAMILIES]
)
def test_a_study(kind, tmp_path):
    data = make_data(kind, n=96, groups=8)
    for device in DEVICES:
        run(tmp_path / device, data, FAMILIES[kind], device)
    assert_same_runs(*(tmp_path / device for device in DEVICES))
    assert json.loads((tmp_path / "pretend" / "environment.json").read_text())["machine"]["device"] == "pretend:0"


def test_features(tmp_path):
    folder = recordings.prepared(tmp_path / "images", n=12)
    torch.manual_seed(3)
    save_file(make_net("resnet18", (3, 16, 16)).state_dict(), tmp_path / "weights.safetensors")
    made = []
    for device in DEVICES:
        with pytest.warns(SidelightWarning, match="'depth' has no encoder"):
            out = extract(
                folder, tmp_path / device, {"rgb": "resnet18"}, {"rgb": str(tmp_path / "weights.safetensors")},
                shard=7, device=device,
            )  # fmt: skip
        files = sorted(out.rglob("*.safetensors"))
        made.append({file.relative_to(out): load_file(file) for file in files})
    assert made[0]
    torch.testing.assert_close(made[1], made[0], rtol=1e-4, atol=1e-5)
