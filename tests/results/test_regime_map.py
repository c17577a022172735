"""The regime map and advice: what is shown, what the placebo explains, which claims hold, how wide an interval is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="an sdist has no benchmarks")
METHODS = ["kl", "mers", "pkdot", "cosine"]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import advise
    import regimes_claims
    import regimes_table

    yield SimpleNamespace(advise=advise, claims=regimes_claims, table=regimes_table)
    for name in ("advise", "regimes_claims", "regimes_table"):
        sys.modules.pop(name, None)


@pytest.fixture
def made() -> pd.DataFrame:
    """Twelve draws of two regimes: in `few-labels` kl and mers gain 6, mers no more than its placebo; else nothing."""
    rows = {}
    for regime, gain in (("few-labels", 6.0), ("closed-gap", 0.0)):
        for draw in range(12):
            base, up = 60.0 + draw, (-1) ** draw  # what goes up and down by turns is 0 in the mean
            rows[regime, draw] = {"baseline": base, "cosine": base + up, "pkdot": base - up, "kl": base + gain + up / 2}
            rows[regime, draw] |= {"mers": base + gain - up, "mers~placebo": base + gain, "kl~placebo": base + up}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["regime", "draw"])


def test_a_gain_is_shown_and_its_placebo_explains_it_or_not(scripts: Any, made: pd.DataFrame) -> None:
    found = scripts.table.cells(made, METHODS)
    kl, mers = found["few-labels", "kl"], found["few-labels", "mers"]
    assert (kl.helps, kl.explained) == (True, False)
    assert (mers.helps, mers.explained) == (True, True)
    assert kl.beyond.low > 4 > mers.beyond.high
    assert (kl.taught, mers.taught, found["closed-gap", "kl"].taught) == (True, False, False)
    assert not any(found["closed-gap", m].shown for m in METHODS)
    assert found["noisy-labels", "kl"].gain.n == 0  # not run


def test_a_claim_holds_where_its_difference_is_shown(scripts: Any, made: pd.DataFrame) -> None:
    (line,) = [text for text in scripts.claims.claims_table(made) if "`pkdot` − `kl`" in text]
    assert "| **-6.0** |" in line
    assert line.endswith("| 0 | 1 |")  # shown nowhere, and contrary in one regime


def test_the_interval_of_advice_holds_its_share_of_studies(scripts: Any) -> None:
    rng = np.random.default_rng(1)
    regimes = np.repeat([f"r{i}" for i in range(5)], 200)
    spread = rng.uniform(0, 3, len(regimes))
    missed = rng.normal(size=len(regimes)) * np.hypot(spread, 2.0)
    index = pd.MultiIndex.from_arrays([regimes, np.tile(np.arange(200), 5)], names=["regime", "draw"])
    studies = pd.DataFrame({"gain": 1.0, "spread": spread, "auto": 1.0 + missed}, index)
    error, width = scripts.advise.calibrate(studies)
    assert error == pytest.approx(2, abs=0.3)
    assert width == pytest.approx(1.96, abs=0.2)
    inside = scripts.advise.held(studies, scripts.advise.leave_one_out(studies).to_numpy())
    assert inside.mean() == pytest.approx(0.95, abs=0.02)
