"""The chosen method, Holm's adjustment, differences between any two methods and what terms add."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sidelight.errors import RunError
from sidelight.results import between, compare, headline, nadeau_bengio, sentence, verdict
from sidelight.results.between import list_differences
from sidelight.results.statistics import holm
from sidelight.results.verdict import list_terms
from sidelight.results.winner import choose_without_own


def make_results(scores, select=None):
    """Scores (n,) by name; select scores too, or the same."""
    rows = []
    for name, values in scores.items():
        for pair, value in enumerate(values):
            rows.append(
                {"method": name, "control": "", "labels": 1.0, "fold": pair % 5, "seed": pair // 5}
                | {"select": (select or scores)[name][pair], "accuracy": value}
                | {"seconds": 1.0, "n_train": 400, "n_test": 100}
            )
    return pd.DataFrame(rows)


def test_the_pair_itself_has_no_say():
    select = np.array([[0.9, 0.1], [0.2, 0.4], [0.3, 0.4]])
    assert choose_without_own(select, np.zeros(3)).tolist() == [1, 0, 0]
    # with several seeds none of its own has one: the folds of a seed may share luck
    assert choose_without_own(select, np.array([0, 0, 1])).tolist() == [1, 1, 0]


def test_the_chosen_method_is_tested_where_it_was_not_lucky():
    rng = np.random.default_rng(0)
    scores = {name: 0.7 + rng.normal(0, 0.05, 10) for name in ("baseline", *"abcdef")}
    for name in "abcdef":  # no method is better than another, so the lucky one changes
        scores[name] += 0.7 - scores[name].mean()
    c = compare(make_results(scores))
    names = [*"abcdef"]
    chosen = choose_without_own(np.stack([scores[n] for n in names], 1), np.arange(10) // 5)
    d = np.array([scores[names[k]][i] for i, k in enumerate(chosen)]) - scores["baseline"]
    assert c.winner is not None
    assert c.winner.difference[:3] == pytest.approx(nadeau_bengio(d, 400, 100)[:3])
    assert sum(c.winner.chosen.values()) == 10
    assert f"the chosen method ({next(iter(c.winner.chosen))} in " in sentence(make_results(scores))
    assert headline(c) in ("unclear", "worse")


def test_one_method_is_judged_as_it_is():
    rng = np.random.default_rng(1)
    c = compare(make_results({"baseline": rng.normal(0.7, 0.01, 10), "kl": rng.normal(0.8, 0.01, 10)}))
    assert c.winner is None
    assert headline(c) == verdict(c.rows["kl"]) == "better"
    assert c.rows["kl"].p_holm == c.rows["kl"].p_value < 0.05


def test_holm_on_a_textbook_case():
    found = holm([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02])


def test_what_does_not_survive_holm_is_neither_better_nor_bold():
    rng = np.random.default_rng(2)
    base, z = rng.normal(0.7, 0.05, (2, 10))
    z = 0.03 * (z - z.mean()) / z.std(ddof=1)
    scores = {"baseline": base, "barely": base + z + 2.6 * 0.03 * np.sqrt(1 / 10 + 100 / 400)}  # t = 2.6
    alone = compare(make_results(scores)).rows["barely"]
    assert alone.p_value == pytest.approx(2 * stats.t.sf(2.6, 9))
    assert (verdict(alone), alone.bold) == ("better", True)
    many = scores | {f"m{k}": base + rng.normal(0, 0.05, 10) for k in range(8)}
    row = compare(make_results(many)).rows["barely"]
    assert row.difference.low > 0
    assert (verdict(row), row.bold) == ("unclear", False)


def test_any_two_rows_and_what_terms_add():
    rng = np.random.default_rng(3)
    base = rng.normal(0.7, 0.05, 10)
    names = {"baseline": 0, "kl": 0.1, "pkdot": 0.02, "kl+pkdot": 0.12, "cc+kl@crossfit": 0.1, "cc@crossfit": 0.0}
    results = make_results({n: base + gain + rng.normal(0, 0.005, 10) for n, gain in names.items()})
    d = between(results, "pkdot", "kl")
    assert d.interval.mean == pytest.approx(-0.08, abs=0.01)
    assert d.interval.high < 0
    found = {(t.first, t.term): t for t in compare(results).terms}
    assert set(found) == {("kl+pkdot", "kl"), ("kl+pkdot", "pkdot"), ("cc+kl@crossfit", "kl")}
    assert found["kl+pkdot", "pkdot"].second == "kl"
    assert found["kl+pkdot", "kl"].interval.mean == pytest.approx(0.1, abs=0.01)
    assert len(list_differences(compare(results).budget)) == 10
    placebos = results[results["method"].isin(["kl+pkdot", "kl"])].assign(control="placebo")
    placebos["accuracy"] = np.where(placebos["method"] == "kl", 0.7, 0.71) + rng.normal(0, 0.001, 20)
    with_placebos = compare(pd.concat([results, placebos], ignore_index=True))
    found = {(t.first, t.term): t.placebo for t in with_placebos.terms}
    assert found["kl+pkdot", "pkdot"].mean == pytest.approx(0.01, abs=0.002)
    assert found["kl+pkdot", "kl"] is None  # pkdot has no placebo
    assert sum("; in their placebos +" in text for text in list_terms(with_placebos)) == 1
    with pytest.raises(RunError, match="row 'kd'"):
        between(results, "kd", "kl")
