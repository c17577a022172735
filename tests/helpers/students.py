"""A small student, for tests of what is said of one."""

from __future__ import annotations

import numpy as np

from sidelight.config import NetworkConfig
from sidelight.data import Dataset
from sidelight.data.preprocess import Preprocessor
from sidelight.export import Student
from sidelight.networks.build import build_network
from sidelight.tasks import make_task


def make_student(**meta) -> Student:
    rng = np.random.default_rng(0)
    inputs = {"phone_acc": rng.normal(9.8, 3, (12, 20, 3))}
    units = {"units": {"phone_acc": "m/s2"}, "rates": {"phone_acc": 50.0}}
    target = np.arange(12) % 2
    data = Dataset("toy", inputs, target, np.ones(12, bool), "classification", ("sit", "walk"), **units)
    pre = Preprocessor.fit(data, np.arange(12), ["phone_acc"], statistics={"phone_acc"})
    network = build_network(pre.shapes, ["phone_acc"], 2, NetworkConfig(width=4))
    return Student(network, pre, make_task("classification", ("sit", "walk")), {"privileged": ["watch_acc"], **meta})
