"""Experiments small enough to be run many times, and what they leave, in a form that can be compared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor

from sidelight.config import load_config
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.experiment import Study, compare
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job, derive_seed
from sidelight.experiment.resolve import resolve
from sidelight.experiment.runner import plan_jobs
from sidelight.methods import DistillationLoss, parse_methods
from sidelight.networks.network import Output
from sidelight.tasks import Task
from sidelight.utils.tensorfile import CHECKSUM

AVAILABLE, PRIVILEGED = ["phone"], ["watch", "pulse"]
BASE: dict[str, Any] = {
    "available": AVAILABLE,
    "privileged": PRIVILEGED,
    "methods": ["kl", "pkdot"],
    "protocol": "group-kfold",
    "folds": 2,
    "seeds": 1,
    "placebo": ["none"],
    "reference": ["none"],
    "jobs": 1,
    # Inner cross-validation trains four times; tests/experiment/test_label_budget.py is about it.
    "select_labels": "extra",
    "network": {"width": 8, "dropout": 0.2},
    # One by one: stacks round sums otherwise, and tests compare bits of jobs that were trained in other company.
    "training": {"epochs": 2, "patience": 2, "batch_size": 32, "learning_rate": 0.01, "stack": 1, "least_steps": 1},
    "transport": {"k": 8},
}
FILES = ("model.safetensors", "model.json", "predictions.csv", "similarity.safetensors")


def make_data(task: str = "classification", n: int = 144, groups: int = 16, seed: int = 0, **changes: Any) -> Dataset:
    """Rows of a phone (a vector), a watch (a vector that some rows lack) and a pulse (a signal of varying length).

    What is privileged tells more. Three classes, or two targets of which one is missing in some rows. The groups take
    turns; every seventh row has no label, and of many groups the 13th has none at all; the official split is made of
    whole groups. Of a segmentation, the phone's and the watch's rows are images (uint8 and float16), every pixel is of
    one of three classes, and of every fifth row a column is ignored.
    """
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2)).astype(np.float32)
    inputs = {
        "phone": rng.normal(size=(n, 4)) + np.repeat(hidden, 2, 1) / 2,
        "watch": rng.normal(size=(n, 3)) / 2 + hidden[:, :1],
        "pulse": rng.normal(size=(n, 12, 2)) / 2 + hidden[:, None],
    }
    target = hidden.copy()
    target[5::11, 1] = np.nan
    if task == "segmentation":
        scene = np.repeat(np.repeat(rng.normal(size=(n, 2, 3)), 4, 1), 4, 2) + hidden[:, :1, None] / 2
        seen = 128 + 40 * (scene[:, None] + rng.normal(size=(n, 3, 8, 12)))
        inputs["phone"] = seen.clip(0, 255).astype(np.uint8)
        inputs["watch"] = (scene[:, None] + rng.normal(size=(n, 1, 8, 12)) / 4).astype(np.float16)
        target = np.digitize(scene, (-0.6, 0.6))
        target[::5, :, 3] = -1
    elif task == "classification":
        target = np.digitize(hidden.sum(1), (-0.6, 0.6))
    who = np.arange(n) % groups
    labelled = (np.arange(n) % 7 != 3) & (who != 12)
    third = np.arange(groups) * 3 // groups  # of the groups: half train, a quarter each select and test
    parts = np.array(["train", "train", "select", "test"])[np.arange(groups) % 4]
    made: dict[str, Any] = {
        "name": "small",
        "inputs": inputs,
        "target": target,
        "labelled": labelled,
        "task": task,
        "class_names": ("valence", "arousal") if task == "regression" else ("low", "middle", "high"),
        "present": {"watch": (np.arange(n) + third[who]) % 5 != 1},
        "lengths": {"pulse": rng.integers(4, 13, n)},
        "group": np.array([f"g{g:02d}" for g in who]),
        "split": parts[who],
        "ids": np.array([f"row{i}" for i in range(n)]),
    }
    return Dataset(**(made | changes))


class Nearer(DistillationLoss):
    """A user's own method, known to the process that compares alone."""

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return (student.prediction - teacher.prediction).abs().mean()


class Fragile(DistillationLoss):
    """A user's own method that diverges in the second fold of the first seed."""

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        here = torch.initial_seed() == derive_seed(0, 1, "order and dropout")
        return (student.prediction - teacher.prediction).square().mean() * (math.nan if here else 1.0)


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with nested groups changed name by name."""
    both = dict(settings)
    for name, value in changes.items():
        old = both.get(name)
        both[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def study(folder: Path, data: Any, *, resume: bool = False, **changes: Any) -> Study:
    """A whole comparison in `folder`."""
    return compare(data, **merged(BASE | {"output": str(folder)}, changes), resume=resume, quiet=True)


def fold_models(folder: Path, data: Dataset, fold: int = 0, seed: int = 0, **changes: Any) -> FoldModels:
    """One fold and seed in `folder`, from which jobs can be run one by one."""
    settings = merged(BASE | {"output": str(folder), "data": data.name}, changes)
    return FoldModels(resolve(load_config(settings), data), data, folder, {}, fold, seed)


def plan(data: Dataset, **changes: Any) -> list[Job]:
    config = resolve(load_config(merged(BASE | {"data": data.name}, changes)), data)
    return plan_jobs(config, data, parse_methods(config.methods))


def outcome(run: Path) -> dict[str, Any]:
    """Everything that jobs left, by path, without the seconds that they took: equal where the runs are the same."""
    left: dict[str, Any] = {}
    for job in sorted(run.glob("jobs/[!.]*")):
        for name in FILES:
            left[f"{job.name}/{name}"] = content(job / name)
        record = json.loads((job / "job.json").read_text())
        del record["made_with"]["data"]  # the digest of rows that a test may have changed on purpose
        left[f"{job.name}/job.json"] = {k: v for k, v in record.items() if k not in ("seconds", "sha256")}
        left[f"{job.name}/curves.csv"] = curves(job).to_csv()
    for file in sorted(run.glob("shared/[!.]*")):
        left[f"shared/{file.name}"] = content(file)
    return left


def content(file: Path) -> str:
    """A digest of a file; of tensors without what their metadata says of the data, and of the file itself."""
    if file.suffix != ".safetensors":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    with safe_open(file, framework="np") as opened:
        told = {k: v for k, v in (opened.metadata() or {}).items() if k not in ("data", CHECKSUM)}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name in opened.keys():  # noqa: SIM118
            value = opened.get_tensor(name)
            digest.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest()


def learnt(run: Path) -> dict[str, Any]:
    """As `outcome`, without what was measured on test rows."""
    left = {k: v for k, v in outcome(run).items() if k.rpartition("/")[2] not in (*FILES[:3], "job.json")}
    for job in sorted(run.glob("jobs/[!.]*")):
        record = json.loads((job / "job.json").read_text())
        left[f"{job.name}/job.json"] = {k: record[k] for k in ("select", "best_epoch", "stopped_epoch", "n_labelled")}
        left |= {f"{job.name}/{name}": value.tobytes() for name, value in tensors(job).items()}
    return left


def curves(job: Path) -> pd.DataFrame:
    """A job's record per epoch, without the seconds."""
    return pd.read_csv(job / "curves.csv").drop(columns="seconds")


def tensors(job: Path) -> dict[str, np.ndarray]:
    """A job's weights and preprocessing."""
    with safe_open(job / "model.safetensors", framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def table(run: Path) -> pd.DataFrame:
    """results.csv without the seconds."""
    return pd.read_csv(run / "results.csv", keep_default_na=False).drop(columns="seconds")


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The names that only one of them has, or that differ."""
    return sorted(k for k in {*a, *b} if k not in a or k not in b or a[k] != b[k])


def changed_rows(data: Dataset, rows: np.ndarray, seed: int = 7) -> Dataset:
    """Other inputs, presence, lengths and targets in these rows; which of them are labelled stays."""
    rng = np.random.default_rng(seed)
    inputs = {m: x.copy() for m, x in data.inputs.items()}
    for x in inputs.values():
        x[rows] = rng.normal(50, 10, x[rows].shape).clip(0, 255)
    target = data.target.copy()
    if data.task != "regression":
        target[rows] = (target[rows] + 1) % len(data.class_names)
    else:
        target[rows] = rng.normal(5, 3, target[rows].shape)
    present = {m: x.copy() for m, x in data.present.items()}
    present["watch"][rows] = ~present["watch"][rows]
    lengths = {m: x.copy() for m, x in data.lengths.items()}
    for x in lengths.values():
        x[rows] = rng.integers(4, 13, len(rows))
    return replace(data, inputs=inputs, target=target, present=present, lengths=lengths)
