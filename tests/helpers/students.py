"""Small untrained students, for tests of what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sidelight.config import NetworkConfig
from sidelight.data import Dataset
from sidelight.data.preprocess import Preprocessor
from sidelight.export import Student
from sidelight.networks.build import build_network
from sidelight.tasks import make_task


def make_student(
    inputs: Mapping[str, np.ndarray] | None = None, *, drop: float = 0, standardize: str = "train", **meta: Any
) -> Student:
    """A student of 12 rows, by default of a phone's signals.

    Args:
        inputs: modality -> its rows.
        drop, standardize: as in the settings.
        meta: what it is said to be.
    """
    rng = np.random.default_rng(0)
    inputs = dict(inputs or {"phone_acc": rng.normal(9.8, 3, (12, 20, 3))})
    units: dict[str, Any] = (
        {"units": {"phone_acc": "m/s2"}, "rates": {"phone_acc": 50.0}} if "phone_acc" in inputs else {}
    )
    target, who = np.arange(12) % 2, np.repeat(["ann", "bob"], 6)
    labels = ("sit", "walk")
    data = Dataset("toy", inputs, target, np.ones(12, bool), "classification", labels, group=who, **units)
    signals = {name for name, rows in inputs.items() if rows.ndim == 3}
    pre = Preprocessor.fit(data, np.arange(12), list(inputs), statistics=signals, standardize=standardize)
    network = build_network(pre.shapes, list(inputs), 2, NetworkConfig(width=4), drop=drop)
    return Student(network, pre, make_task("classification", labels), {"privileged": ["watch_acc"], **meta})
