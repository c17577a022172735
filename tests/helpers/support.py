"""What several tests share: the synthetic rows and subjects of `sidelight.testing`, and reference values."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sidelight.experiment.context import JobContext
from sidelight.methods import METHODS, CachedOutputs, Hallucination, Method, MultiStageMethod, Supervised
from sidelight.methods.amid import AMID
from sidelight.networks.build import feature_shape
from sidelight.networks.hallucination import make_hallucinators
from sidelight.networks.network import compute_outputs
from sidelight.testing import Subject, make_subject
from sidelight.testing.subjects import distillation_subject, job_context
from sidelight.testing.synthetic import (
    AVAILABLE,
    DENSE_SHAPES,
    KINDS,
    NETWORK,
    PRIVILEGED,
    ROWS,
    SHAPES,
    SIZE,
    cast,
    make_network,
    make_rows,
    make_teacher,
    shapes_of,
    task_of,
    trained_teacher,
    trained_tnets,
)

__all__ = [
    "AVAILABLE",
    "DENSE_SHAPES",
    "KINDS",
    "NETWORK",
    "PRIVILEGED",
    "ROWS",
    "SHAPES",
    "SIZE",
    "cast",
    "distillation_subject",
    "hallucination_subject",
    "make_network",
    "make_rows",
    "shapes_of",
    "speech",
    "supervised_subject",
    "task_of",
    "trained_teacher",
    "trained_tnets",
]
speech = make_teacher
AT_ONCE = {"amid": dict(AMID.check_settings)}


def standalone_parts(method: str, task: str, kind: str) -> JobContext:
    """The real `JobContext` of a job on the rows of `make_rows`."""
    return job_context(METHODS[method], task, kind)


def build_standalone(method: str, task: str, kind: str, **options: Any) -> Method:
    """A method of several stages, all but the last one done."""
    made = METHODS[method]
    assert issubclass(made, MultiStageMethod)
    return made.build(standalone_parts(method, task, kind), **options)


@functools.cache
def standalone_subject(method: str, task: str, kind: str) -> Subject:
    """A method of several stages; it is built once."""
    return make_subject(method, task, kind)


def supervised_subject(role: str, task: str, kind: str) -> Subject:
    """A "baseline" (reads what is available) or a "teacher" (reads everything, so nothing is privileged to it)."""
    reads, rest = (AVAILABLE, PRIVILEGED) if role == "baseline" else (tuple(SHAPES), ())

    def factory(dtype: torch.dtype) -> Supervised:
        return Supervised(make_network(reads, task_of(task)).to(dtype), task_of(task))

    return Subject(factory, make_rows(task, kind), reads, rest)


def hallucination_subject(task: str, kind: str, loss: str) -> Subject:
    """The stage that trains T-Nets, which exports no student."""
    network, other, rows = trained_teacher(task), trained_teacher(task, 1), make_rows(task, kind)
    cached = {seed: compute_outputs(n, rows, rows.index) for seed, n in enumerate((network, other))}

    def factory(dtype: torch.dtype, seed: int = 0) -> Hallucination:
        torch.manual_seed(0)
        tnets = make_hallucinators(feature_shape(network), AVAILABLE, PRIVILEGED)
        here = CachedOutputs(cached[seed])
        return Hallucination(tnets, here, here, task_of(task), loss).to(dtype)

    subject = Subject(factory, rows, AVAILABLE, PRIVILEGED, exports=False)
    return replace(subject, other=functools.partial(factory, seed=1))


READ: set[str] = set()
"""The keys of `reference` that were asked for in this process."""


class Noted(dict[str, Any]):
    """A dict that notes in `READ` which keys are asked for."""

    def __getitem__(self, key: str) -> Any:
        READ.add(key)
        return super().__getitem__(key)


def reference(size: int) -> Noted:
    """Inputs, values and gradients of released implementations, where the folder with them is beside the repository."""
    beside = Path(__file__).parents[2].parent / "shared"
    path = Path(os.environ.get("SIDELIGHT_SHARED", beside)) / "reference" / f"losses_b{size}.npz"
    if not path.is_file():
        pytest.skip(f"no reference values: {path.name} is not there; name their folder in SIDELIGHT_SHARED")
    with np.load(path) as data:
        return Noted(data)
