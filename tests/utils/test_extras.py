"""Optional packages: an error that names the extra, and an import that holds nothing."""

from __future__ import annotations

import gc
import importlib
import weakref

import pytest

from sidelight.errors import RunError
from sidelight.utils.extras import import_apart, optional

KEEPS = """
try:
    import nowhere_at_all
except ImportError as error:
    kept = error
"""


class Rows:
    """What a caller holds."""


def test_the_first_importer_of_a_module_that_keeps_errors_is_freed(tmp_path, monkeypatch):
    """As of optuna (findings/optuna-holds-its-importers-frames.sh)."""
    for name in ("keeps_one", "keeps_two"):
        (tmp_path / f"{name}.py").write_text(KEEPS)
    monkeypatch.syspath_prepend(tmp_path)

    def first(load, name):
        rows = Rows()
        assert load(name).kept
        return weakref.ref(rows)

    held, freed = first(importlib.import_module, "keeps_one"), first(import_apart, "keeps_two")
    gc.collect()
    assert held() is not None
    assert freed() is None


def test_a_missing_package_names_its_extra():
    with pytest.raises(RunError, match=r"a try needs nowhere_at_all, which cannot be imported .*\[scale\]"):
        optional("nowhere_at_all", "scale", "a try")
