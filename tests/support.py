"""Small rows, networks and subjects that several tests share."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sidelight.config import Config, NetworkConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods import Distillation, Hallucination, Recipe, Supervised, Teacher
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import TNet, freeze, make_hallucinators
from sidelight.networks.network import Network, Output, outputs
from sidelight.tasks import Task, make_task
from sidelight.testing import Subject
from sidelight.training import fit

SHAPES = {"phone": (6,), "watch": (4,), "pulse": (8, 2)}
AVAILABLE, PRIVILEGED = ("phone",), ("watch", "pulse")
NETWORK = NetworkConfig(width=8, dropout=0.1)
ROWS = 24
KINDS = ("complete", "partly labelled", "privileged partly present", "both")


def task_of(name: str) -> Task:
    """Three classes, or two targets."""
    return make_task(name, ("low", "middle", "high") if name == "classification" else ("valence", "arousal"))


def make_rows(task: str, kind: str = "complete", n: int = ROWS, seed: int = 0) -> Batch:
    """Rows whose privileged modalities say more about the target than the available one.

    kind: one of `KINDS`. Of partly labelled rows, half have no label, and one regression target of two rows is missing.
    """
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 2, generator=g)
    inputs = {m: torch.randn(n, *shape, generator=g) for m, shape in SHAPES.items()}
    inputs["phone"][:, :2] += hidden
    inputs["watch"][:, :2] += 3 * hidden
    inputs["pulse"] += hidden[:, None]
    target = (hidden[:, 0] > -0.4).long() + (hidden[:, 0] > 0.4) if task == "classification" else hidden
    labelled, there = torch.ones(n, dtype=torch.bool), torch.ones(n, dtype=torch.bool)
    present = dict.fromkeys(SHAPES, there)
    if kind in ("partly labelled", "both"):
        labelled = torch.arange(n) % 2 == 0
        target = target.clone()
        target[~labelled] = -1 if task == "classification" else torch.nan
        if task == "regression":
            target[[0, 2], 1] = torch.nan
    if kind in ("privileged partly present", "both"):
        present["watch"] = torch.arange(n) % 3 != 1
        inputs["watch"] = inputs["watch"] * present["watch"][:, None]
    return Batch(inputs, target, labelled, present, torch.arange(n), {})


def make_network(reads: Iterable[str], task: Task, tnets: dict[str, nn.Module] | None = None, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    slots = list(SHAPES) if tnets else None
    return build_network(SHAPES, tuple(reads), task.outputs, NETWORK, slots=slots, hallucinators=tnets)


@functools.cache
def trained_teacher(task: str, kind: str, seed: int = 0) -> Network:
    """A teacher that has learnt the rows."""
    method = Supervised(make_network(SHAPES, task_of(task), seed=seed), task_of(task))
    rows = make_rows(task, kind)
    fit(method, rows, rows, TrainingConfig(epochs=40, patience=40, learning_rate=0.01), seed=seed)
    return method.network


@functools.cache
def trained_tnets(task: str, kind: str) -> dict[str, TNet]:
    network, rows = trained_teacher(task, kind), make_rows(task, kind)
    torch.manual_seed(0)
    tnets = make_hallucinators(feature_shape(network), AVAILABLE, PRIVILEGED)
    features = outputs(network, rows, rows.index).features
    fit(Hallucination(tnets, features, features, task_of(task)), rows, rows, TrainingConfig(epochs=3), seed=0)
    return tnets


def speech(task: str, kind: str, crossfit: bool = False) -> Teacher:
    """What one teacher, or two that share the rows, says of every row."""
    rows = make_rows(task, kind)
    if not crossfit:
        return Teacher(outputs(trained_teacher(task, kind), rows, rows.index))
    part = (rows.index < ROWS // 2).long()
    said = [outputs(trained_teacher(task, kind, seed), rows, rows.index[part == seed]) for seed in (1, 0)]
    features = {m: torch.cat([s.features[m] for s in said]) for m in SHAPES}
    joined = Output(torch.cat([s.prediction for s in said]), torch.cat([s.fused for s in said]), features)
    return Teacher(joined, part)


def cast(said: Output, dtype: torch.dtype) -> Output:
    return Output(said.prediction.to(dtype), said.fused.to(dtype), {m: f.to(dtype) for m, f in said.features.items()})


def distillation_subject(
    method: str, task: str, kind: str, *, tnet: bool, crossfit: bool = False, config: Config | None = None
) -> Subject:
    """A method by its name in an experiment, with a student that has frozen T-Nets or none."""
    terms, config = Recipe.parse(method), config or Config()
    terms.make(config, task_of(task))  # refuses here, not in the factory
    teacher = speech(task, kind, crossfit)

    def factory(dtype: torch.dtype) -> Distillation:
        tnets = None
        if tnet:
            source = trained_tnets(task, kind)
            tnets = make_hallucinators(feature_shape(trained_teacher(task, kind)), AVAILABLE, PRIVILEGED)
            for m, module in tnets.items():
                module.load_state_dict(source[m].state_dict())
                freeze(module)
        student = make_network(AVAILABLE, task_of(task), tnets, seed=3).to(dtype)
        said = replace(teacher, said=cast(teacher.said, dtype))
        made = terms.make(config, task_of(task))
        return Distillation(student, said, task_of(task), made, make_rows(task, kind).to(dtype)).to(dtype)

    return Subject(factory, make_rows(task, kind), AVAILABLE, PRIVILEGED, part=teacher.part)


def supervised_subject(role: str, task: str, kind: str) -> Subject:
    """A baseline (reads what is available) or a teacher (reads everything, so nothing is privileged to it)."""
    reads, rest = (AVAILABLE, PRIVILEGED) if role == "baseline" else (tuple(SHAPES), ())

    def factory(dtype: torch.dtype) -> Supervised:
        return Supervised(make_network(reads, task_of(task)).to(dtype), task_of(task))

    return Subject(factory, make_rows(task, kind), reads, rest)


def hallucination_subject(task: str, kind: str, loss: str) -> Subject:
    """The stage that trains T-Nets; nothing leaves it but the T-Nets."""
    network, rows = trained_teacher(task, kind), make_rows(task, kind)
    features = outputs(network, rows, rows.index).features

    def factory(dtype: torch.dtype) -> Hallucination:
        torch.manual_seed(0)
        tnets = make_hallucinators(feature_shape(network), AVAILABLE, PRIVILEGED)
        here = {m: f.to(dtype) for m, f in features.items()}
        return Hallucination(tnets, here, here, task_of(task), loss).to(dtype)

    return Subject(factory, rows, AVAILABLE, PRIVILEGED, exports=False)


def reference(size: int) -> dict[str, NDArray]:
    """Inputs, values and gradients of released implementations, where the folder with them is beside the repository."""
    beside = Path(__file__).parents[1].parent / "shared"
    path = Path(os.environ.get("SIDELIGHT_SHARED", beside)) / "reference" / f"losses_b{size}.npz"
    if not path.is_file():
        pytest.skip(f"no reference values: {path.name} is not there; name their folder in SIDELIGHT_SHARED")
    with np.load(path) as data:
        return dict(data)
