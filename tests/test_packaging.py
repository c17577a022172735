"""What is installed is whole: package data in the wheel, one version everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import sidelight

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [p for p in (ROOT / "src" / "sidelight").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert [str(p) for p in files if str(p.relative_to(ROOT / "src")) not in names] == []
    for name in ("sidelight/py.typed", "sidelight/data/builtin/phone_watch.npz"):
        assert name in names
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert wheel.stat().st_size < 4e6


def test_one_version():
    assert sidelight.__version__ == PROJECT["version"]
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_lock_pins_everything_that_is_declared_and_names_no_place():
    lock = (ROOT / "requirements.lock").read_text()
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"], "hatchling"]
    assert [need for need in declared if re.split(r"[^\w.-]", need)[0].lower().replace("_", "-") not in pinned] == []
    assert "torch==2.13.0" in lines


def test_the_readme_links_to_files_of_the_repository():
    for name in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text())
        assert [link for link in links if not (ROOT / link).exists()] == []
