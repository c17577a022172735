"""What `sidelight doctor` finds."""

from __future__ import annotations

import os
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sidelight import doctor
from sidelight.cli import main
from sidelight.utils.machine import usable_cores


@pytest.fixture
def quick(monkeypatch):
    """Imports no optional package."""
    monkeypatch.setattr(doctor, "import_error", lambda name: "")


def test_it_looks_at_everything_and_finds_what_the_tests_run_on(quick, capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in (
        "python",
        "sidelight",
        "torch",
        "cuda",
        "cores",
        "threads",
        "disk",
        "onnx",
        "transformers",
        "av",
        "timm",
    ):
        assert f" {name}" in said
    assert "missing" not in said


def test_a_missing_dependency_is_named_and_changes_the_exit_code(quick, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "requires", lambda name: ["surely-not-installed>=3", 'other; extra == "dev"'])
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "missing  surely-not-installed" in said
    assert 'pip install "surely-not-installed>=3"' in said
    assert "other" not in said


def test_a_dependency_older_than_its_bound_is_named(quick, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=2.0", "torch>=999", 'scipy>=999; extra == "dev"'])
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert f"missing  torch        {version('torch')} is installed; sidelight needs >=999" in said
    assert 'pip install "torch>=999"' in said
    assert "numpy>=" not in said
    assert "scipy" not in said


def test_absent_extras_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    checks = {check.name: check for check in [*doctor._extras(), *doctor._providers()]}
    assert checks["onnx"].state == "absent"
    assert 'pip install ".[export]"' in checks["onnx"].mend
    assert checks["timm"].state == "absent"
    assert "pip install torchvision --index-url https://download.pytorch.org/whl/cpu" in checks["torchvision"].mend
    assert checks["timm"].mend.endswith("pip install timm")
    assert "torchvision" in checks["timm"].mend
    assert "torchaudio" not in checks  # no part of sidelight reads it: nothing to get
    for package, extra in (("transformers", "hf"), ("av", "video"), ("soundfile", "audio"), ("neurokit2", "bio")):
        assert checks[package].mend == f'pip install ".[{extra}]" in sidelight\'s folder'


def test_every_extra_is_one_of_the_packages():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    for package, (extra, _) in doctor.EXTRAS.items():
        assert any(need.startswith(package) for need in project["optional-dependencies"][extra])


def test_codecs_that_are_lacking_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(codecs_available=set(doctor.DECODERS) - {"vp9"}))
    check = doctor._codecs()
    assert check.state == "warning"
    assert check.detail.endswith("does not decode vp9")
    sys.modules["av"].codecs_available.add("vp9")
    assert doctor._codecs().state == "ok"


def test_a_gpu_that_cannot_be_used_is_a_warning(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    real = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: real(*size))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (2**30, 2**31))
    assert [c.detail for c in doctor._torch()][1] == "a GPU (cuda:0), 1.0 of 2.0 GiB free"
    monkeypatch.setattr(torch, "ones", lambda *size, device: 1 / 0)
    check = list(doctor._torch())[1]
    assert check.state == "warning"
    assert "cannot be used: division by zero" in check.detail


def test_a_broken_torchvision_is_explained(monkeypatch, tmp_path):
    (tmp_path / "torchvision").mkdir()
    code = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PROVIDERS", {"torchvision": "encoders"})
    (check,) = doctor._providers()
    assert check.state == "warning"
    assert "torchvision::nms" in check.detail
    assert "built for another torch" in check.mend
    assert "reinstall timm" in doctor.explain("timm", "SyntaxError: invalid syntax")


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    assert usable_cores() == 3
    assert doctor._cores().detail.startswith("3 usable of 8;")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 8


def test_little_disk_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2**20}))
    assert doctor._disk().state == "warning"
