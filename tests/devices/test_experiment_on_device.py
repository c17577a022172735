"""Whole experiments on an accelerator: they give what the CPU gives, and leave files without a device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import sidelight as sl
from helpers.pretend_device import sharing_the_cpu_stream
from helpers.small import learnt, make_data, study, tensors
from sidelight.cli import main
from sidelight.errors import SidelightWarning
from sidelight.experiment.refit import refit

pytestmark = pytest.mark.filterwarnings("ignore:folds=2 is ignored")

SETTINGS = {
    "methods": ["kl", "pkdot", "crd", "mse@crossfit"],
    "placebo": ["kl"],
    "protocol": "official",
    "network": {"dropout": 0.0},
}


def compare_on(folder: Path, device: str, **changes):
    with sharing_the_cpu_stream():
        return study(folder, make_data(n=96, groups=8), training={"device": device}, **SETTINGS | changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """device -> the folder of the same experiment there."""
    where = tmp_path_factory.mktemp("runs")
    for device in ("cpu", "pretend"):
        compare_on(where / device, device)
    return {device: where / device for device in ("cpu", "pretend")}


def jobs(run: Path) -> list[str]:
    return sorted(place.name for place in run.glob("jobs/[!.]*"))


def test_an_experiment_gives_what_it_gives_on_the_cpu(runs):
    assert jobs(runs["pretend"]) == jobs(runs["cpu"])
    for name in jobs(runs["cpu"]):
        here, there = (tensors(runs[device] / "jobs" / name) for device in ("cpu", "pretend"))
        assert set(here) == set(there)
        for tensor in here:
            np.testing.assert_allclose(there[tensor], here[tensor], rtol=2e-3, atol=2e-4, err_msg=f"{name} {tensor}")
        records = [json.loads((runs[d] / "jobs" / name / "job.json").read_text()) for d in ("cpu", "pretend")]
        assert [r["device"] for r in records] == ["cpu", "pretend:0"]
        assert records[0]["metrics"] == pytest.approx(records[1]["metrics"], abs=0.05)


def test_stored_students_do_not_depend_on_the_device(runs):
    rows = {"phone": make_data(n=96, groups=8).inputs["phone"]}
    for method in ("baseline", "pkdot", "crd"):
        path = runs["pretend"] / "jobs" / f"{method}-l1-f0-s0" / "model.safetensors"
        student = sl.load_student(path)
        assert {p.device.type for p in student.network.parameters()} == {"cpu"}
        there = student.predict_proba(rows)
        np.testing.assert_allclose(student.to("pretend").predict_proba(rows), there, atol=1e-6)
        assert {p.device.type for p in student.network.parameters()} == {"pretend"}
        with safe_open(path, framework="pt") as stored, safe_open(student.save(path.parent), framework="pt") as again:
            assert set(stored.keys()) == set(again.keys())
            assert all((stored.get_tensor(k) == again.get_tensor(k)).all() for k in stored.keys())  # noqa: SIM118


def test_what_was_trained_says_where(runs):
    for device in ("cpu", "pretend"):
        environment = json.loads((runs[device] / "environment.json").read_text())
        assert environment["machine"]["device"] == {"cpu": "cpu", "pretend": "pretend:0"}[device]
        assert sl.Study(runs[device]).config.training.device == device


def test_a_run_goes_on_on_another_device_and_says_so(runs, tmp_path):
    folder = tmp_path / "run"
    compare_on(folder, "pretend", methods=["kl"], placebo=["none"])
    before = learnt(folder)
    with pytest.warns(SidelightWarning, match=r"was started on pretend:0, and goes on on cpu: results of different"):
        compare_on(folder, "cpu", methods=["kl", "mse"], placebo=["none"], resume=True)
    after = learnt(folder)
    assert {name: after[name] for name in before} == before
    assert {json.loads((folder / "jobs" / name / "job.json").read_text())["device"] for name in jobs(folder)} == {
        "cpu",
        "pretend:0",
    }


def test_refit_and_predict_compute_where_they_are_told(runs, tmp_path, capsys):
    data = make_data(n=96, groups=8)
    with sharing_the_cpu_stream():
        students = {device: sl.load_student(refit(runs["cpu"], data, device=device)) for device in ("cpu", "pretend")}
    assert students["cpu"].meta["method"] == students["pretend"].meta["method"]
    rows = {"phone": data.inputs["phone"]}
    np.testing.assert_allclose(*(student.predict_proba(rows) for student in students.values()), atol=1e-3)

    np.savez(tmp_path / "new.npz", phone=data.inputs["phone"])
    said = {}
    for device in ("cpu", "pretend"):
        assert main(["predict", str(runs["cpu"]), str(tmp_path / "new.npz"), "--device", device]) == 0
        said[device] = capsys.readouterr().out
    assert said["cpu"] == said["pretend"]
    assert main(["predict", str(runs["cpu"]), str(tmp_path / "new.npz"), "--device", "cuda:9"]) == 2
    assert "device=cuda:9" in capsys.readouterr().err
