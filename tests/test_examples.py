"""The examples do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import sidelight as sl
from sidelight.config import load_config
from sidelight.methods import METHODS
from sidelight.suite import read_suite
from sidelight.testing import check_method

EXAMPLES = Path(__file__).parents[1] / "examples"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_experiment_can_be_read():
    files = sorted(EXAMPLES.glob("*.yaml"))
    assert files
    for file in files:
        if file.stem == "suite":
            assert len(read_suite(file).sets) == 5
        else:
            assert load_config(file).methods


def test_the_results_page_is_of_every_method():
    suite = read_suite(EXAMPLES.parent / "benchmarks" / "results.yaml")
    assert all({*METHODS} <= {*config.methods} for config in suite.sets.values())
    assert all({"pkdot", "pkdot+kl"} <= {*config.placebo} for config in suite.sets.values())


def test_the_loss_works_in_a_loop_of_ones_own():
    scores = module("own_loop").main(epochs=25)
    assert min(scores.values()) > 0.5  # chance is 0.1
    assert scores["teacher"] > scores["baseline"]


def test_a_method_of_ones_own_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sidelight.methods.METHODS", dict(METHODS))
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    arrays = {"a": rng.normal(size=(60, 3)) + y[:, None], "b": rng.normal(size=(60, 2)) + 2 * y[:, None]}
    data = sl.load({**arrays, "target": y, "group": np.arange(60) // 6}, name="tiny")
    with pytest.raises(sl.errors.ConfigError, match="huber"):
        sl.compare(data, ["a"], ["b"], ["huber"], output=str(tmp_path / "no"))
    METHODS["huber"] = module("own_method").Huber
    try:
        study = sl.compare(
            data, ["a"], ["b"], ["huber"], output=str(tmp_path / "run"), folds=2, seeds=1, jobs=1, quiet=True,
            placebo=["none"], training={"epochs": 2},
        )  # fmt: skip
    finally:
        METHODS.pop("huber", None)
    assert "huber" in study.table().index


def test_own_method_passes_its_checks():
    example = module("own_method")
    try:
        assert METHODS["huber"] is example.Huber
        check_method("huber", task="classification")
    finally:
        METHODS.pop("huber", None)
