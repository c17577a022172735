"""What a run was made with: versions, machine, data, and the user's own encoders and methods."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import nn

from sidelight.data import Dataset
from sidelight.data.rows import is_lazy
from sidelight.experiment import code_digest
from sidelight.methods import MethodSpec
from sidelight.utils.machine import usable_cores

Encoders = Mapping[str, Callable[[tuple[int, ...]], nn.Module]]
"""Modality -> the user's own encoder."""


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of everything in the data set that a job can read."""
    digest = hashlib.sha256(f"{dataset.task} {dataset.class_names}".encode())
    scored = {"target": dataset.target, "labelled": dataset.labelled}
    kinds: tuple[dict[str, Any], ...] = (dataset.inputs, dataset.present, dataset.lengths, scored)
    for kind in kinds:
        for name, array in kind.items():
            content = array.fingerprint() if is_lazy(array) else array.tobytes()
            digest.update(f"{name} {array.dtype} {array.shape} ".encode() + content)
    for column in (dataset.ids, dataset.group, dataset.split):
        digest.update(b"-" if column is None else "\0".join(column).encode())
    if dataset.time is not None:
        digest.update(b"time " + dataset.time.tobytes())
    return digest.hexdigest()


def gaps(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Rows without a modality ("missing"), and single values that are imputed ("imputed"), where there are any."""
    missing = {m: int((~here).sum()) for m, here in dataset.present.items()}
    held = {m: x for m, x in dataset.inputs.items() if m not in dataset.lazy}
    nan = {m: int(np.isnan(x).sum()) for m, x in held.items() if x.dtype.kind == "f"}
    found = {"missing": missing, "imputed": nan}
    return {kind: counts for kind, each in found.items() if (counts := {m: n for m, n in each.items() if n})}


def _name_of(make: Any) -> str:
    """module.function; of a `functools.partial`, with what it fixes; of another callable object, its class."""
    if isinstance(make, partial):
        fixed = [*map(repr, make.args), *(f"{k}={v!r}" for k, v in make.keywords.items())]
        return f"{_name_of(make.func)}({', '.join(fixed)})"
    named = make if hasattr(make, "__qualname__") else type(make)
    return f"{named.__module__}.{named.__qualname__}"


def made_with(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What each job stores of it, by which a resumed run knows its own: data, encoders, and code of own methods."""
    return {"data": environment["data"]["sha256"], **{k: dict(environment[k]) for k in ("encoders", "methods")}}


def environment(
    dataset: Dataset, encoders: Encoders, methods: Iterable[MethodSpec] = (), imports: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Versions, machine, data and the user's own encoders and methods of a run.

    Args:
        imports: file or module of `--import` -> SHA-256 of its source.
    """
    data: dict[str, Any] = {"name": dataset.name, "rows": len(dataset)}
    if dataset.skipped:
        data["skipped"] = len(dataset.skipped)
    packages = ("sidelight", "torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "machine": {"system": platform.platform(terse=True), "processor": platform.machine(), "cores": usable_cores()},
        "data": {**data, **dataset.about, **gaps(dataset), "sha256": fingerprint(dataset)},
        "encoders": {m: _name_of(make) for m, make in encoders.items()},
        "methods": code_digest.own_methods(methods),
        **({"imports": dict(imports)} if imports else {}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
