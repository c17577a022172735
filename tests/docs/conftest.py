"""A folder in which a page may write, import and register."""

from __future__ import annotations

import sys

import pytest

from sidelight.methods import METHODS


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """Pages write into a folder of their own, import what they saved there, and leave nothing behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    methods, modules = dict(METHODS), set(sys.modules)
    yield tmp_path
    METHODS.clear()
    METHODS.update(methods)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
