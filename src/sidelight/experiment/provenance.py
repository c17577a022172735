"""The provenance of a run: versions, machine, data, and the user's own encoders and methods."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from sidelight.data import Dataset
from sidelight.data.rows import is_lazy, iterate_slices
from sidelight.experiment import code_digest
from sidelight.methods import MethodSpec
from sidelight.utils.device import CPU, describe_device
from sidelight.utils.machine import usable_cores
from sidelight.utils.version import __version__

Encoders = Mapping[str, Callable[[tuple[int, ...]], nn.Module]]
"""Modality -> a function from the shape of one row to the user's own encoder with fresh weights."""


def compute_fingerprint(dataset: Dataset) -> str:
    """Compute the SHA-256 of everything in the data set that a job can read."""
    digest = hashlib.sha256(f"{dataset.task} {dataset.class_names}".encode())
    scored = {"target": dataset.target, "labelled": dataset.labelled}
    kinds: tuple[dict[str, Any], ...] = (dataset.inputs, dataset.present, dataset.lengths, scored)
    for kind in kinds:
        for name, array in kind.items():
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            # The content of lazy rows is the digest of their files.
            if is_lazy(array):
                digest.update(array.fingerprint())
                continue
            for rows in iterate_slices(array):
                digest.update(np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data)
    for column in (dataset.ids, dataset.group, dataset.split):
        if column is None:
            digest.update(b"-")
            continue
        for rows in iterate_slices(column, 2**14):
            between = "\0" if rows.start else ""
            digest.update((between + "\0".join(column[rows].tolist())).encode())
    if dataset.time is not None:
        digest.update(b"time " + dataset.time.tobytes())
    return digest.hexdigest()


def count_gaps(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Count the rows without a modality ("missing") and the single values that are imputed ("imputed").

    Returns:
        "missing" and "imputed" -> modality -> count, without zeros.
    """
    gaps: dict[str, dict[str, int]] = {}
    for m, present in dataset.present.items():
        if not present.all():
            gaps.setdefault("missing", {})[m] = int((~present).sum())
    for m, x in dataset.inputs.items():
        # Lazy rows are files, which have no single missing values.
        if m in dataset.lazy or x.dtype.kind != "f":
            continue
        if count := sum(int(np.isnan(x[rows]).sum()) for rows in iterate_slices(x)):
            gaps.setdefault("imputed", {})[m] = count
    return gaps


def _name_of(make: Any) -> str:
    """module.function; a `functools.partial` adds its arguments; another callable object gives its class."""
    if isinstance(make, partial):
        fixed = [*map(repr, make.args), *(f"{k}={v!r}" for k, v in make.keywords.items())]
        return f"{_name_of(make.func)}({', '.join(fixed)})"
    named = make if hasattr(make, "__qualname__") else type(make)
    return f"{named.__module__}.{named.__qualname__}"


def select_digests(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the environment that each job stores, and that must not change: data, encoders and own methods."""
    return {
        "data": environment["data"]["sha256"],
        "encoders": dict(environment["encoders"]),
        "methods": dict(environment["methods"]),
    }


def describe_versions() -> dict[str, str]:
    """The versions of Python, sidelight and the packages on which results depend."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "safetensors")
    versions = {"python": platform.python_version(), "sidelight": __version__}
    return versions | {name: _installed_version(name) for name in packages}


_installed_version: Callable[[str], str] = cache(version)
"""The version of a package; reading its metadata takes milliseconds."""


def describe_environment(
    dataset: Dataset,
    encoders: Encoders,
    methods: Iterable[MethodSpec] = (),
    imports: Mapping[str, str] | None = None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Describe versions, machine, data, and the user's own encoders and methods, as `environment.json` holds them.

    Args:
        dataset: all rows.
        encoders: modality -> the user's own encoder.
        methods: the methods of the run.
        imports: file or module of `--import` -> SHA-256 of its source.
        device: where the networks are trained.
    """
    data: dict[str, Any] = {"name": dataset.name, "rows": len(dataset)}
    if dataset.skipped:
        data["skipped"] = len(dataset.skipped)
    return {
        "versions": describe_versions(),
        "machine": {
            "system": platform.platform(terse=True),
            "processor": platform.machine(),
            "cores": usable_cores(),
            "device": describe_device(device),
        },
        "data": {**data, **dataset.about, **count_gaps(dataset), "sha256": compute_fingerprint(dataset)},
        "encoders": {m: _name_of(make) for m, make in encoders.items()},
        "methods": code_digest.digest_own_methods(methods),
        **({"imports": dict(imports)} if imports else {}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
