"""Simulated studies (`benchmarks/verdicts.py`): the machinery finds what it is made to find."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="an sdist has no benchmarks")


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import verdicts

    yield verdicts
    sys.modules.pop("verdicts", None)


@pytest.mark.slow
def test_people_decide_on_an_official_split_and_seeds_alone_do_not(verdicts: Any) -> None:
    """Without an effect a t-test over ten seeds often says "better"; the verdict over people hardly ever does."""
    design = verdicts.Design(official=True, seeds=10)
    naive = verdicts.rate(design, verdicts.naive_over_seeds, 40)
    ours = verdicts.rate(design, verdicts.says_better, 40)
    assert naive > 0.15
    assert ours <= 0.1


def test_an_effect_is_found(verdicts: Any) -> None:
    found = verdicts.rate(verdicts.Design(effect=0.12), verdicts.says_better, 10)
    assert found >= 0.8


@pytest.mark.slow
def test_every_case_of_the_page_is_simulated(verdicts: Any) -> None:
    for design, judge in verdicts.cases().values():
        assert judge(verdicts.simulate(design, verdicts.np.random.default_rng(0))) in (True, False)
