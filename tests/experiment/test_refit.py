"""The student that leaves is trained once more on every row, and claims no test."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.small import make_data, study
from sidelight.cli import main
from sidelight.errors import RunError
from sidelight.experiment import train_alone as alone
from sidelight.experiment.leases import present
from sidelight.experiment.refit import NO_TEST, refit
from sidelight.experiment.study import Study
from sidelight.export import load_student
from sidelight.protocols import PROTOCOLS, build_whole_fold, split

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CHANGES = {"methods": ["kl", "mse"], "label_fraction": [0.5, 1.0], "training": {"epochs": 2}}


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory) -> Path:
    return study(tmp_path_factory.mktemp("compared") / "run", data, **CHANGES).folder


@pytest.fixture
def run(compared, tmp_path) -> Path:
    return shutil.copytree(compared, tmp_path / "run")


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p != "auto"])
def test_every_row_is_in_train_or_in_a_group_that_chooses_epochs(protocol, data):
    fold = build_whole_fold(data, protocol, 0.25, 0)
    assert not set(fold.train) & set(fold.select)
    rest = np.setdiff1d(np.arange(len(data)), np.union1d(fold.train, fold.select))
    assert not data.labelled[rest].any()
    assert data.labelled[fold.select].all()
    if protocol not in ("random", "blocks", "forward"):
        assert not set(data.group[fold.train]) & set(data.group[fold.select])
    if protocol == "official":
        official = split(data, "official")[0]
        if (data.split == "select").any():
            assert set(fold.select) == set(official.select)
    assert len(fold.train) > max(len(f.train) for f in split(data, protocol, 3, 0.25, 0))


def test_the_best_method_on_all_rows_with_the_figures_of_the_folds_beside(run, data):
    folder = refit(run, data)
    assert folder == run / "refit"
    assert {p.name for p in folder.iterdir()} == {"student.safetensors", "student.json"}
    assert not (run / "refit-work").exists()
    student, s = load_student(folder), Study(run)
    assert student.reads == ("phone",)
    assert (student.meta["method"], student.meta["labels"]) == (s.best_method(1.0), 1.0)
    assert student.meta["refit"] == NO_TEST
    assert not {"metrics", "fold", "select"} & set(student.meta)
    rows = s.results[(s.results.method == student.meta["method"]) & (s.results.labels == 1)]
    said = student.meta["cross_validated"]
    assert said["accuracy"]["mean"] == pytest.approx(rows["accuracy"].mean())
    assert (said["networks"], said["protocol"]) == (2, "group-kfold")
    fold = build_whole_fold(data, "group-kfold", 0.25, 0)
    assert student.meta["rows"]["train"] == len(fold.train)
    assert student.meta["rows"]["select"] == len(fold.select)
    mean = data.inputs["phone"][fold.train].mean(0)
    np.testing.assert_allclose(student.preprocessor.state_dict()["mean_0"][0], mean, rtol=1e-4, atol=1e-5)


def test_the_run_itself_is_left_as_it_was_and_twice_gives_the_same(run, data):
    def content(folder: Path) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and "refit" not in str(p)}

    before = content(run)
    first = (refit(run, data) / "student.safetensors").read_bytes()
    assert content(run) == before
    assert (refit(run, data) / "student.safetensors").read_bytes() == first


def test_an_interrupted_refit_goes_on(run, data, monkeypatch):
    fit, trained = alone.fit, []

    def count(*args, identity, **more):
        if identity.startswith(("kl", "mse")) and "teacher" in "".join(trained) and len(trained) == 1:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(identity)
        return fit(*args, identity=identity, **more)

    whole_one = (refit(run, data) / "student.safetensors").read_bytes()
    monkeypatch.setattr(alone, "fit", count)
    with pytest.raises(KeyboardInterrupt):
        refit(run, data)
    assert (run / "refit" / "student.safetensors").read_bytes() == whole_one
    assert (refit(run, data) / "student.safetensors").read_bytes() == whole_one
    assert [name.split("-")[0] for name in trained] == ["teacher", "stopped", Study(run).best_method(1.0)]


def test_other_data_data_that_are_gone_and_a_busy_run_are_refused(run, data):
    inputs = {m: x.copy() for m, x in data.inputs.items()}
    inputs["phone"][0, 0] += 1
    with pytest.raises(RunError, match="the data changed since"):
        refit(run, replace(data, inputs=inputs))
    with pytest.raises(RunError, match=r"the data of .* cannot be read: .*In Python: sl\.refit"):
        refit(run)
    with present(run), pytest.raises(RunError, match="another process is running"):
        refit(run, data)
    assert not (run / "refit").exists()


def test_on_the_command_line(tmp_path, data, capsys, monkeypatch):
    np.savez(tmp_path / "rows.npz", phone=data.inputs["phone"], watch=data.inputs["watch"], y=data.target % 3)
    settings = {"privileged": ["watch"], "protocol": "random", "methods": ["mse"], "training": {"epochs": 1}}
    folder = study(tmp_path / "run", str(tmp_path / "rows.npz"), **settings).folder
    assert main(["refit", str(folder)]) == 0
    said = capsys.readouterr().out
    assert str(folder / "refit") in said
    assert "none is left to test it" in said
    assert json.loads((folder / "refit" / "student.json").read_text())["meta"]["refit"] == NO_TEST
