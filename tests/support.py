"""Small rows, networks and subjects that several tests share."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sidelight.config import Config, NetworkConfig, TrainingConfig
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.methods import (
    METHODS,
    CachedOutputs,
    Distillation,
    Hallucination,
    Method,
    MethodSpec,
    MultiStageMethod,
    Supervised,
    Teacher,
)
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import HallucinationNetwork, TNet, freeze, make_hallucinators
from sidelight.networks.network import Network, Output, compute_outputs
from sidelight.tasks import TASKS, Task, make_task
from sidelight.testing import Subject
from sidelight.training import fit
from small import fold_models

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
    said = CachedOutputs(compute_outputs(network, rows, rows.index))
    fit(Hallucination(tnets, said, said, task_of(task)), rows, rows, TrainingConfig(epochs=3), seed=0)
    return tnets


def speech(task: str, kind: str, crossfit: bool = False) -> Teacher:
    """What one teacher, or two that share the rows, says of every row."""
    rows = make_rows(task, kind)
    if not crossfit:
        return Teacher(CachedOutputs(compute_outputs(trained_teacher(task, kind), rows, rows.index)))
    part = (rows.index < ROWS // 2).long()
    said = [compute_outputs(trained_teacher(task, kind, seed), rows, rows.index[part == seed]) for seed in (1, 0)]
    features = {m: torch.cat([s.features[m] for s in said]) for m in SHAPES}
    joined = Output(torch.cat([s.prediction for s in said]), torch.cat([s.fused for s in said]), features)
    return Teacher(CachedOutputs(joined), part)


def cast(teacher: Teacher, dtype: torch.dtype) -> Teacher:
    return replace(teacher, outputs=copy.deepcopy(teacher.outputs).to(dtype))


def distillation_subject(
    method: str, task: str, kind: str, *, tnet: bool | str = "", crossfit: bool = False, config: Config | None = None
) -> Subject:
    """A method by its name in an experiment; `tnet` says what the student's privileged slots are.

    True or "t-net": frozen T-Nets; "encoder": networks of its own on what is available; "" or False: there are none.
    """
    terms, config = MethodSpec.parse(method), config or Config()
    terms.losses(config, task_of(task))  # refuses here, not in the factory
    teacher = speech(task, kind, crossfit)

    @functools.cache
    def built(dtype: torch.dtype) -> Distillation:
        tnets: dict[str, nn.Module] | None = None
        if tnet == "encoder":
            shapes, own = feature_shape(trained_teacher(task, kind)), make_network(AVAILABLE, task_of(task), seed=5)
            here = {a: shapes[a] for a in AVAILABLE}
            tnets = {
                m: HallucinationNetwork(copy.deepcopy(dict(own.encoders)), here, shapes[m], slot=m) for m in PRIVILEGED
            }
        elif tnet:
            source = trained_tnets(task, kind)
            tnets = make_hallucinators(feature_shape(trained_teacher(task, kind)), AVAILABLE, PRIVILEGED)
            for m, module in tnets.items():
                module.load_state_dict(source[m].state_dict())
                freeze(module)
        student = make_network(AVAILABLE, task_of(task), tnets, seed=3).to(dtype)
        made = terms.losses(config, task_of(task))
        return Distillation(student, cast(teacher, dtype), task_of(task), made, make_rows(task, kind).to(dtype)).to(
            dtype
        )

    return Subject(
        lambda dtype: copy.deepcopy(built(dtype)),
        make_rows(task, kind),
        AVAILABLE,
        PRIVILEGED,
        teacher_fold=teacher.teacher_fold,
    )


PLACE = TemporaryDirectory(prefix="sidelight-parts-", ignore_cleanup_errors=True)
AT_ONCE: dict[str, dict[str, Any]] = {
    "amid": {"warmup": 0, "mi_student": 0.4, "mi_auxiliary": 0.16, "adversarial": 0.1}
}
"""Standalone method -> the settings with which every part of it is trained from the first step on.

AMID's bounds are sums over pairs: with three classes in a batch the paper's weights drown the task (see its docstring).
The adversarial term, which rises as the discriminators learn, is kept small.
"""


@functools.cache
def standalone_parts(method: str, task: str, kind: str) -> JobContext:
    """The real `JobContext` of a job on the rows of `make_rows`; its earlier stages take three epochs."""
    rows = make_rows(task, kind, n=72)
    data = Dataset(
        name="small",
        inputs={m: x.numpy() for m, x in rows.inputs.items()},
        target=rows.target.numpy(),
        labelled=rows.labelled.numpy(),
        task=task_of(task).kind,
        class_names=task_of(task).class_names,
        present={m: there.numpy() for m, there in rows.present.items()},
        group=np.array([f"g{i // 6}" for i in range(len(rows))]),
    )
    folder = Path(PLACE.name) / f"{method}-{task}-{kind}"
    asked = {"task": task, "live": getattr(task_of(task), "live", "")}
    return JobContext(fold_models(folder, data, methods=[method], **asked), Job(method, "", 1.0, 0, 0))


def build_standalone(method: str, task: str, kind: str, **options: Any) -> Method:
    """A method of its own stages, all but the last one done."""
    made = METHODS[method]
    assert issubclass(made, MultiStageMethod)
    return made.build(standalone_parts(method, task, kind), **options)


@functools.cache
def standalone_built(method: str, task: str, kind: str) -> Method:
    return build_standalone(method, task, kind, **AT_ONCE.get(method, {}))


def standalone_subject(method: str, task: str, kind: str) -> Subject:
    """A method of its own stages, with the settings of `AT_ONCE`; a copy of one that was built once.

    What it keeps of finished networks must go along with `Module.to`: buffers, not plain tensors.
    """
    built = standalone_built(method, task, kind)
    parts = standalone_parts(method, task, kind)
    return Subject(lambda dtype: copy.deepcopy(built).to(dtype), parts.rows().materialize(), AVAILABLE, PRIVILEGED)


def supervised_subject(role: str, task: str, kind: str) -> Subject:
    """A baseline (reads what is available) or a teacher (reads everything, so nothing is privileged to it)."""
    reads, rest = (AVAILABLE, PRIVILEGED) if role == "baseline" else (tuple(SHAPES), ())

    def factory(dtype: torch.dtype) -> Supervised:
        return Supervised(make_network(reads, task_of(task)).to(dtype), task_of(task))

    return Subject(factory, make_rows(task, kind), reads, rest)


def hallucination_subject(task: str, kind: str, loss: str) -> Subject:
    """The stage that trains T-Nets; nothing leaves it but the T-Nets."""
    network, rows = trained_teacher(task, kind), make_rows(task, kind)
    said = compute_outputs(network, rows, rows.index)

    def factory(dtype: torch.dtype) -> Hallucination:
        torch.manual_seed(0)
        tnets = make_hallucinators(feature_shape(network), AVAILABLE, PRIVILEGED)
        here = CachedOutputs(said)
        return Hallucination(tnets, here, here, task_of(task), loss).to(dtype)

    return Subject(factory, rows, AVAILABLE, PRIVILEGED, exports=False)


READ: set[str] = set()
"""The keys of `reference` that were asked for in this process."""


class Noted(dict[str, Any]):
    """A dict that notes in `READ` which keys are asked for."""

    def __getitem__(self, key: str) -> Any:
        READ.add(key)
        return super().__getitem__(key)


def reference(size: int) -> Noted:
    """Inputs, values and gradients of released implementations, where the folder with them is beside the repository."""
    beside = Path(__file__).parents[1].parent / "shared"
    path = Path(os.environ.get("SIDELIGHT_SHARED", beside)) / "reference" / f"losses_b{size}.npz"
    if not path.is_file():
        pytest.skip(f"no reference values: {path.name} is not there; name their folder in SIDELIGHT_SHARED")
    with np.load(path) as data:
        return Noted(data)
