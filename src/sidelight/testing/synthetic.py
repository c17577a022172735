"""Small synthetic rows, and networks trained on them, from which `check_method` makes its subjects."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from sidelight.config import NetworkConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods import CachedOutputs, Hallucination, Supervised, Teacher
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import HallucinationNetwork, freeze, make_hallucinators
from sidelight.networks.network import Network, Output, compute_outputs
from sidelight.tasks import TASKS, Task, make_task
from sidelight.training import fit

SHAPES = {"phone": (6,), "watch": (4,), "pulse": (8, 2)}
SIZE = (8, 12)
DENSE_SHAPES = {"phone": (3, *SIZE), "watch": (1, *SIZE), "pulse": (8, 2)}
AVAILABLE, PRIVILEGED = ("phone",), ("watch", "pulse")
NETWORK = NetworkConfig(width=8, dropout=0.1)
ROWS = 24
KINDS = ("complete", "partly labelled", "privileged partly present", "both")


def task_of(name: str) -> Task:
    """Three classes, two targets, or a live class and attacks."""
    if name == "anti-spoofing":
        return make_task(name, ("attack", "real"), live="real")
    return make_task(name, ("valence", "arousal") if name == "regression" else ("low", "middle", "high"))


def shapes_of(task: str) -> dict[str, tuple[int, ...]]:
    """A row's shape of every modality: of a segmentation two are images and one is a signal."""
    return DENSE_SHAPES if task == "segmentation" else SHAPES


def make_rows(task: str, kind: str = "complete", n: int = ROWS, seed: int = 0) -> Batch:
    """Rows whose privileged modalities say more about the target than the available one.

    kind: one of `KINDS`. Of partly labelled rows, half have no label, and one regression target of two rows is missing.
    In every fourth row of a segmentation, a column of pixels is ignored.
    """
    if task == "segmentation":
        return _images(kind, n, seed)
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 2, generator=g)
    inputs = {m: torch.randn(n, *shape, generator=g) for m, shape in SHAPES.items()}
    inputs["phone"][:, :2] += hidden
    inputs["watch"][:, :2] += 3 * hidden
    inputs["pulse"] += hidden[:, None]
    classes = TASKS[task].kind == "classification"
    target = (hidden[:, 0] > -0.4).long() + (hidden[:, 0] > 0.4) if classes else hidden
    target = target.clamp(max=1) if task == "anti-spoofing" else target
    labelled, there = torch.ones(n, dtype=torch.bool), torch.ones(n, dtype=torch.bool)
    present = dict.fromkeys(SHAPES, there)
    if kind in ("partly labelled", "both"):
        labelled = torch.arange(n) % 2 == 0
        target = target.clone()
        target[~labelled] = -1 if classes else torch.nan
        if task == "regression":
            target[[0, 2], 1] = torch.nan
    if kind in ("privileged partly present", "both"):
        present["watch"] = torch.arange(n) % 3 != 1
        inputs["watch"] = inputs["watch"] * present["watch"][:, None]
    return Batch(inputs, target, labelled, present, torch.arange(n), {})


def _images(kind: str, n: int, seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    hidden = nn.functional.interpolate(torch.randn(n, 1, 2, 3, generator=g), SIZE, mode="bilinear")
    inputs = {m: torch.randn(n, *shape, generator=g) for m, shape in DENSE_SHAPES.items()}
    inputs["phone"][:, :1] += hidden
    inputs["watch"] += 3 * hidden
    inputs["pulse"] += hidden.mean((2, 3))[:, None]
    target = (hidden[:, 0] > -0.4).long() + (hidden[:, 0] > 0.4)
    target[::4, :, 3] = -1
    labelled, there = torch.ones(n, dtype=torch.bool), torch.ones(n, dtype=torch.bool)
    present = dict.fromkeys(SHAPES, there)
    if kind in ("partly labelled", "both"):
        labelled = torch.arange(n) % 2 == 0
        target[~labelled] = -1
    if kind in ("privileged partly present", "both"):
        present["watch"] = torch.arange(n) % 3 != 1
        inputs["watch"] = inputs["watch"] * present["watch"][:, None, None, None]
    return Batch(inputs, target, labelled, present, torch.arange(n), {})


def make_network(reads: Iterable[str], task: Task, tnets: dict[str, nn.Module] | None = None, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    slots = list(SHAPES) if tnets else None
    shapes, size = shapes_of(task.name), SIZE if task.name == "segmentation" else ()
    return build_network(shapes, tuple(reads), task.outputs, NETWORK, slots=slots, hallucinators=tnets, size=size)


@functools.cache
def trained_teacher(task: str, seed: int = 0) -> Network:
    """A teacher on every modality that has learnt the rows, of which every label and modality was there.

    Seeds above 0 give other teachers, which learn a quarter as long: they need not be good, and maps take a second.
    """
    method = Supervised(make_network(SHAPES, task_of(task), seed=seed), task_of(task))
    rows = make_rows(task)
    epochs = 10 if seed else 40
    settings = TrainingConfig(epochs=epochs, patience=epochs, learning_rate=0.01, least_steps=1)
    fit(method, rows, rows, settings, seed=seed)
    return method.network


@functools.cache
def trained_tnets(task: str, kind: str) -> dict[str, nn.Module]:
    """Privileged modality -> a T-Net, trained briefly on the teacher's features."""
    network, rows = trained_teacher(task), make_rows(task, kind)
    torch.manual_seed(0)
    tnets = make_hallucinators(feature_shape(network), AVAILABLE, PRIVILEGED)
    cached = CachedOutputs(compute_outputs(network, rows, rows.index))
    fit(
        Hallucination(tnets, cached, cached, task_of(task)), rows, rows, TrainingConfig(epochs=3, least_steps=1), seed=0
    )
    return tnets


def make_teacher(task: str, kind: str, crossfit: bool = False, first: int = 0) -> Teacher:
    """A teacher's outputs on every row, or those of two teachers that share the rows.

    Args:
        task: the name of a task.
        kind: one of `KINDS`.
        crossfit: two teachers, one for each half of the rows.
        first: 0 or 1, the seed of the teacher (with `crossfit`, of the second half's): another one is another teacher.
    """
    rows = make_rows(task, kind)
    if not crossfit:
        return Teacher(CachedOutputs(compute_outputs(trained_teacher(task, first), rows, rows.index)))
    fold = (rows.index < len(rows) // 2).long()
    halves = [
        compute_outputs(trained_teacher(task, (half + first) % 2), rows, rows.index[fold == half]) for half in (1, 0)
    ]
    features = {m: torch.cat([half.features[m] for half in halves]) for m in SHAPES}
    joined = Output(
        torch.cat([half.prediction for half in halves]), torch.cat([half.fused for half in halves]), features
    )
    return Teacher(CachedOutputs(joined), fold)


def privileged_slots(task: str, kind: str, slots: str) -> dict[str, nn.Module] | None:
    """What stands in a student's privileged slots.

    Args:
        slots: "" for nothing, "t-net" for frozen T-Nets, "encoder" for trainable networks on the available modalities.
    """
    if not slots:
        return None
    shapes = feature_shape(trained_teacher(task))
    if slots == "encoder":
        own, here = make_network(AVAILABLE, task_of(task), seed=5), {a: shapes[a] for a in AVAILABLE}
        return {m: HallucinationNetwork(copy.deepcopy(dict(own.encoders)), here, shapes[m], slot=m) for m in PRIVILEGED}
    tnets: dict[str, nn.Module] = dict(make_hallucinators(shapes, AVAILABLE, PRIVILEGED))
    for m, module in tnets.items():
        module.load_state_dict(trained_tnets(task, kind)[m].state_dict())
        freeze(module)
    return tnets


def cast(teacher: Teacher, dtype: torch.dtype) -> Teacher:
    """A copy of the teacher with its outputs in another dtype."""
    return replace(teacher, outputs=copy.deepcopy(teacher.outputs).to(dtype))
