"""What the default run has of a matrix; the rest is run with `-m slow`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], kept: Callable[[Any], bool] | Iterable[Any]) -> list[Any]:
    """All values as parameters of a test; those that are not kept are marked slow.

    Args:
        values: a value, or a tuple of them, for each case.
        kept: the cases of the default run, or what says whether a case is one of them.
    """
    cases = list(values)
    known = [case for case in cases if kept(case)] if callable(kept) else list(kept)
    assert all(case in cases for case in known), "a case of the default run is gone"
    return [case if case in known else _slow(case) for case in cases]


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
