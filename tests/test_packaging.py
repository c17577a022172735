"""What is installed is whole: package data in the wheel, one version everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

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


def _requirements(name: str) -> dict[str, str]:
    """Package -> what follows its name: the version, any marker, and the hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.M).replace("\\\n", " ")
    found = [re.fullmatch(r"([\w.-]+)(==.*)", line.strip()) for line in text.splitlines()]
    assert all(found), name
    return {_spelling(match[1]): match[2] for match in found if match}


def _spelling(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(extras: Iterable[str]) -> dict[str, str]:
    """Package -> its bounds, of the dependencies and those extras; the project's own name is left out."""
    needs = [*PROJECT["dependencies"], *(need for e in extras for need in PROJECT["optional-dependencies"][e])]
    parts = [re.fullmatch(r"([\w.-]+)(\[.*\])?(.*)", need) for need in needs]
    return {_spelling(part[1]): part[3] for part in parts if part and part[1] != "sidelight"}


def test_the_lock_pins_everything_that_is_declared_by_hash_and_names_no_place():
    pinned, torch = _requirements("requirements.lock"), _requirements("requirements-torch.txt")
    hashed = r"==[\w.]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+ *"
    assert [name for name, rest in pinned.items() if not re.fullmatch(hashed, rest)] == []
    assert torch == {"torch": "==2.13.0"}
    assert set(_declared(PROJECT["optional-dependencies"])) - set(pinned) == {"torch"}
    strangers = [name for name in pinned if re.match("nvidia|cuda|triton|torch", name)]  # of one kind of machine
    assert strangers == []
    for name in ("requirements.lock", "requirements.lowest", "requirements-torch.txt"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|--trusted|(^|\s)/\w", text), name


def test_the_lock_keeps_to_the_bounds_and_the_lowest_versions_are_the_bounds():
    extras = [name for name in PROJECT["optional-dependencies"] if name != "dev"]
    pinned = _requirements("requirements.lock") | _requirements("requirements-torch.txt")
    lowest = _requirements("requirements.lowest")
    for name, bounds in _declared(extras).items():
        allowed = SpecifierSet(bounds)
        assert allowed.contains(_version(pinned[name])), name
        assert allowed.contains(_version(lowest[name])), name
        least = Version(re.search(r">=?([\w.]+)", bounds)[1])
        assert Version(_version(lowest[name])).release[:2] == (*least.release, 0)[:2], name


def _version(rest: str) -> str:
    return re.match(r"==([\w.]+)", rest)[1]


def test_the_readme_links_to_files_of_the_repository():
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text())
        assert [link for link in links if not (ROOT / link).exists()] == []
