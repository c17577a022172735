"""The hierarchical comparison against closed forms, Stan, integration on grids, and simulated suites."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import special, stats

from sidelight.results import correlated_t, nadeau_bengio
from sidelight.results.hierarchical import StudentT, hierarchical_t, sample

SCORES = np.array(
    [
        [31, 37, 26, 13, 22, 11, 32, 58, 21, 19, 41, 38, 33, 12, 30],
        [26, -15, 3, -26, -14, -25, 7, -13, 17, 15, 8, -38, 1, 11, 14],
        [-27, -6, -16, -12, 25, -12, 3, 22, -8, 2, 6, 5, -21, 6, 31],
        [-5, 43, 28, 13, 66, 41, 2, 27, 38, 22, 40, 25, 39, 55, 12],
        [-7, -20, -8, -35, -23, -15, 7, 12, -37, -27, 2, -51, -20, -13, 14],
        [33, 12, 12, 14, 49, 10, 13, 26, 17, 15, -3, 19, 10, 42, 32],
        [2, 15, -5, 23, 2, 14, -24, 9, -32, -39, -4, -16, 5, 47, -15],
        [83, 99, 105, 91, 91, 109, 105, 74, 93, 96, 74, 100, 78, 114, 99],
    ]
)
"""Differences of eight made-up data sets, five folds × three seeds, in thousandths."""
STAN = {
    "p": (0.2301, 0.1858, 0.5841),
    "average": 0.0179,
    "next": (-0.0773, 0.0174, 0.1141),
    "sets": (0.0275, 0.0004, 0.0017, 0.0281, -0.0110, 0.0199, 0.0018, 0.0908),
}
"""Of `hierarchical-t-test.stan` as baycomp 1.0.3 ships it, on SCORES: PyStan 3.10, 40,000 draws, the paper's priors."""


def of_scores(scores, folds=5, uniform=False):
    """Each set's t; `uniform`: with the paper's prior of σ_i, which costs a degree of freedom."""
    found = []
    for row in scores:
        n = len(row)
        df = n - 2 if uniform else n - 1
        variance = row.var(ddof=1) * (n - 1) / df * (1 / n + 1 / (folds - 1))
        found.append(StudentT(float(row.mean()), float(np.sqrt(variance)), df))
    return found


def test_agrees_with_the_papers_model_in_stan():
    found = hierarchical_t(of_scores(SCORES / 1000, uniform=True), 0.01)
    assert found.p == pytest.approx(STAN["p"], abs=0.012)
    assert found.average.mean == pytest.approx(STAN["average"], abs=0.001)
    assert (found.next.low, found.next.mean, found.next.high) == pytest.approx(STAN["next"], abs=0.004)
    assert found.sets == pytest.approx(STAN["sets"], abs=0.001)


def test_ten_sets_take_less_than_a_second_and_repeat_to_the_bit():
    effects = of_scores(np.random.default_rng(0).normal(0.02, 0.02, (10, 30)))
    start = time.process_time()
    found = hierarchical_t(effects, 0.01)
    assert time.process_time() - start < 1
    assert found == hierarchical_t(effects, 0.01)
    other = hierarchical_t(effects, 0.01, seed=5)
    assert other != found
    assert other.p == pytest.approx(found.p, abs=0.01)


def test_large_nu_and_quiet_sets_give_the_predictive_t_of_a_normal_population():
    x = np.array([-1.2, 0.3, 0.5, 0.9, -0.4, 1.6])
    x /= x.std()
    q, few = len(x), np.full(6, 1e-3)
    delta0, sigma0, nu, delta = sample(x, few, few * 1e9, np.array([1e6]), np.zeros(1), np.random.default_rng(0))
    scale = np.sqrt(((x - x.mean()) ** 2).sum() / (q - 2) * (1 + 1 / q))
    for at in (-2.0, -1.0, 0.0, 1.0, 2.0):
        shown = special.stdtr(nu, (delta0 - at) / sigma0).mean()
        assert shown == pytest.approx(stats.t.sf((at - x.mean()) / scale, q - 2), abs=0.012)
    assert delta.mean(axis=0) == pytest.approx(x, abs=1e-3)


def by_grid(effects, rope):
    """P(worse, equal, better) by integrating over δ0, σ0, ν and each δ_i on grids; slow, and no code in common."""
    x, s, k = (np.array(column) for column in zip(*effects))
    unit = max(x.std(), np.median(s))
    steps = np.linspace(-7, 7, 97)[:, None]
    delta0, width = np.median(x) + 0.02 * unit * np.sinh(steps), np.cosh(steps)  # close together in the middle
    sigma0 = np.geomspace(0.01, 200, 60)[None, :] * unit
    p, q = np.polynomial.legendre.leggauss(160)
    tails = np.zeros(3)
    for nu in 1 + np.geomspace(0.02, 300, 16):
        prior = np.mean(
            [stats.gamma.pdf(nu - 1, a, scale=1 / b) for a in (0.9, 2, 3.2, 4.6) for b in (0.06, 0.1, 0.14)]
        )
        log = np.log(prior * (nu - 1)) + np.log(sigma0) + np.log(width)  # widths of the cells
        for mean, scale, df in zip(x, s, k):
            # of the smaller scale's quantiles, so that neither density falls between two points
            inner = np.where(sigma0 < scale, nu, df)
            level = np.clip((p + 1) / 2, 1e-9, 1 - 1e-9)[:, None, None]
            where = np.where(sigma0 < scale, delta0, mean) + np.minimum(sigma0, scale) * stats.t.ppf(level, inner)
            other = np.where(
                sigma0 < scale,
                stats.t.pdf(where, df, mean, scale),
                stats.t.pdf(where, nu, delta0, sigma0),
            )
            log = log + np.log((other * q[:, None, None] / 2).sum(0) + 1e-300)
        worse = stats.t.cdf(-rope, nu, delta0, sigma0)
        better = stats.t.sf(rope, nu, delta0, sigma0)
        mass = np.exp(log)
        tails += [(mass * worse).sum(), (mass * (1 - worse - better)).sum(), (mass * better).sum()]
    return tails / tails.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    "effects",
    [
        [(0.03, 0.01, 14), (0.01, 0.02, 4), (0.05, 0.01, 9), (-0.01, 0.005, 14)],
        [(0.02, 0.02, 4), (0.021, 0.01, 3), (0.019, 0.03, 4), (0.03, 0.02, 14), (0.02, 0.02, 14)],
        [(0.0, 0.002, 14), (0.001, 0.003, 14), (-0.002, 0.002, 14), (0.12, 0.004, 14), (0.003, 0.003, 14)],
    ],
)
def test_agrees_with_integration_on_grids(effects):
    found = hierarchical_t([StudentT(*e) for e in effects], 0.01)
    assert found.p == pytest.approx(tuple(by_grid(effects, 0.01)), abs=0.02)


def test_a_set_says_what_its_correlated_t_test_says():
    row = SCORES[0] / 1000
    (t,) = of_scores([row])
    assert stats.t.sf((0.01 - t.mean) / t.scale, t.df) == pytest.approx(correlated_t(row, 400, 100, 0.01).better)
    assert t.mean + t.scale * stats.t.ppf(0.975, t.df) == pytest.approx(nadeau_bengio(row, 400, 100).high)


def test_a_noisy_set_is_drawn_to_the_others_and_agreeing_sets_make_sure():
    quiet = [StudentT(0.03 + 0.001 * i, 0.004, 14) for i in range(6)]
    found = hierarchical_t([*quiet, StudentT(-0.05, 0.05, 4)], 0.01)
    assert -0.05 < 0.01 < found.sets[-1] < 0.035
    assert found.p.better > 0.9
    apart = hierarchical_t([StudentT(0.05 * (-1) ** i, 0.004, 14) for i in range(6)], 0.01)
    assert apart.next.low < -0.05
    assert apart.next.high > 0.05
    assert apart.p.better == pytest.approx(apart.p.worse, abs=0.05)


def test_what_cannot_be_compared_is_refused():
    two = [StudentT(0.1, 0.01, 4), StudentT(0.1, 0.01, 4)]
    with pytest.raises(ValueError, match="at least 3 data sets, got 2"):
        hierarchical_t(two, 0.01)
    with pytest.raises(ValueError, match="got 0"):
        hierarchical_t([], 0.01)
    with pytest.raises(ValueError, match="scale and degrees of freedom"):
        hierarchical_t([*two, StudentT(0.1, 0.0, 4)], 0.01)


@pytest.mark.slow
def test_intervals_hold_the_next_set_as_often_as_they_say():
    """200 simulated suites of eight sets with five folds × three seeds, whose scores share a fold's training rows."""
    rng = np.random.default_rng(3)
    inside, sure, right = 0, 0, 0
    for _ in range(200):
        centre, spread = rng.normal(0, 0.03), rng.uniform(0.005, 0.04)
        truth = centre + spread * rng.standard_t(10, 9)
        noise = rng.uniform(0.01, 0.05, (8, 1))
        shared = np.sqrt(0.2) * rng.standard_normal((8, 1)) + np.sqrt(0.8) * rng.standard_normal((8, 15))
        found = hierarchical_t(of_scores(truth[:8, None] + noise * shared), 0.01, seed=1)
        inside += found.next.low <= truth[8] <= found.next.high
        if max(found.p) >= 0.8:
            sure += 1
            kind = 0 if truth[8] < -0.01 else 1 if truth[8] <= 0.01 else 2
            right += int(np.argmax(found.p)) == kind
    assert 0.92 <= inside / 200 <= 0.985
    assert sure > 20
    assert right / sure >= 0.78
