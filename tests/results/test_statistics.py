import math

import numpy as np
import pytest
from scipy import integrate, stats

from helpers.slow import mostly_slow
from sidelight.results import correlated_t, gap_closed, nadeau_bengio


def correlated(rng, mean, sd, rho, n):
    """n values of that mean and sd of which any two correlate by rho."""
    return mean + sd * (math.sqrt(rho) * rng.normal() + math.sqrt(1 - rho) * rng.normal(size=n))


class TestNadeauBengio:
    def test_by_hand(self):
        # mean 0.02, s² = 0.0001, 1/3 + 100/400, t(2) = 4.302653
        interval = nadeau_bengio([0.01, 0.02, 0.03], 400, 100)
        half = 4.302652729911275 * math.sqrt(0.0001 * (1 / 3 + 0.25))
        assert interval.mean == pytest.approx(0.02)
        assert (interval.low, interval.high) == pytest.approx((0.02 - half, 0.02 + half))
        assert interval.half == pytest.approx(half)
        assert interval.n == 3

    def test_plain_t_interval_without_overlap(self):
        d = np.random.default_rng(0).normal(0.01, 0.02, 12)
        interval = nadeau_bengio(d, 1e12, 1)
        assert interval[1:3] == pytest.approx(stats.t.interval(0.95, 11, d.mean(), stats.sem(d)), rel=1e-6)

    def test_ten_by_ten_folds_is_the_published_factor(self):
        d = np.random.default_rng(1).normal(0, 1, 100)
        t = nadeau_bengio(d, 900, 100).mean / math.sqrt(d.var(ddof=1) * (1 / 100 + 1 / 9))
        p = 2 * stats.t.sf(abs(t), 99)
        touching = nadeau_bengio(d, 900, 100, level=1 - p)
        assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-12)

    def test_levels_nest(self):
        d = np.random.default_rng(2).normal(0, 1, 10)
        assert nadeau_bengio(d, 4, 1, level=0.99).half > nadeau_bengio(d, 4, 1, level=0.9).half

    def test_sizes_that_differ_are_averaged_as_ratios(self):
        d = [0.1, 0.2, 0.4]
        assert nadeau_bengio(d, [400, 200, 100], [100, 100, 100]) == nadeau_bengio(d, 1, (0.25 + 0.5 + 1) / 3)

    @pytest.mark.parametrize("rho", mostly_slow([0.1, 0.2, 0.5], [0.2]))
    def test_covers_the_truth_where_the_plain_interval_does_not(self, rho):
        rng, n, runs = np.random.default_rng(3), 15, 4000
        corrected = plain = 0
        for _ in range(runs):
            d = correlated(rng, 0.03, 0.02, rho, n)
            interval, uncorrected = nadeau_bengio(d, 1 - rho, rho), nadeau_bengio(d, 1, 0)  # plain t: see above
            corrected += interval.low <= 0.03 <= interval.high
            plain += uncorrected.low <= 0.03 <= uncorrected.high
        assert corrected / runs == pytest.approx(0.95, abs=0.012)
        assert plain / runs < 0.85

    def test_seeds_that_repeat_the_test_rows_must_be_averaged(self):
        """Leave-one-group-out: a fold's differences over seeds share its test rows."""
        rng, runs, folds, seeds = np.random.default_rng(9), 3000, 6, 5
        averaged = pooled = 0
        for _ in range(runs):
            d = correlated(rng, 0.03, 0.02, 1 / folds, folds)[:, None] + rng.normal(0, 0.004, (folds, seeds))
            for interval in (nadeau_bengio(d.mean(1), folds - 1, 1), nadeau_bengio(d.ravel(), folds - 1, 1)):
                covers = interval.low <= 0.03 <= interval.high
                averaged, pooled = averaged + covers * (interval.n == folds), pooled + covers * (interval.n > folds)
        assert averaged / runs == pytest.approx(0.95, abs=0.015)
        assert pooled / runs < 0.85

    def test_nothing_is_widened_without_other_test_rows(self):
        """One official test set: seeds are independent draws, given the data."""
        d = np.random.default_rng(10).normal(0.01, 0.02, 5)
        assert nadeau_bengio(d, 400, 0)[1:3] == pytest.approx(stats.t.interval(0.95, 4, d.mean(), stats.sem(d)))
        assert correlated_t(d, 400, 0, 0).worse == pytest.approx(stats.t.cdf(0, 4, d.mean(), stats.sem(d)))

    def test_missing_pairs_are_dropped_and_counted(self):
        interval = nadeau_bengio([0.01, math.nan, 0.02, 0.03], [400, 400, 400, 400], 100)
        assert (interval.n, interval.dropped) == (3, 1)
        assert interval[:3] == nadeau_bengio([0.01, 0.02, 0.03], 400, 100)[:3]

    def test_one_pair_says_so(self):
        interval = nadeau_bengio([0.05], 400, 100)
        assert interval[:3] == (0.05, -math.inf, math.inf)
        assert "one pair" in interval.note

    @pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
    def test_no_pair_says_so(self, values):
        interval = nadeau_bengio(values, 400, 100)
        assert np.isnan(interval[:3]).all()
        assert interval.note == "no pairs"
        assert interval.dropped == len(values)

    def test_no_variance_says_so(self):
        interval = nadeau_bengio([0.8 - 0.7, 0.7 - 0.6, 0.1], 400, 100)
        assert interval[:3] == (pytest.approx(0.1), -math.inf, math.inf)
        assert "no variance" in interval.note

    def test_sizes_must_be_positive(self):
        for sizes in ((0, 100), (100, -1)):
            with pytest.raises(ValueError, match="n_test / n_train"):
                nadeau_bengio([0.1, 0.2], *sizes)


class TestCorrelatedT:
    def test_is_the_integral_of_the_posterior(self):
        d, rope = np.random.default_rng(4).normal(0.01, 0.03, 10), 0.01
        scale = math.sqrt(d.var(ddof=1) * (1 / 10 + 1 / 4))

        def density(x):
            return stats.t.pdf(x, 9, d.mean(), scale)

        p = correlated_t(d, 400, 100, rope)
        assert p.equal == pytest.approx(integrate.quad(density, -rope, rope)[0])
        assert p.better == pytest.approx(integrate.quad(density, rope, np.inf)[0])
        assert sum(p) == pytest.approx(1)

    def test_mirrors(self):
        d = np.random.default_rng(5).normal(0.01, 0.03, 10)
        p, q = correlated_t(d, 4, 1, 0.01), correlated_t(-d, 4, 1, 0.01)
        assert tuple(p) == pytest.approx((q.better, q.equal, q.worse))

    def test_agrees_with_the_interval(self):
        """With a region of width 0, P(worse) is half the level at which the interval touches zero."""
        d = np.random.default_rng(6).normal(0.02, 0.03, 10)
        p = correlated_t(d, 4, 1, 0)
        assert p.equal == 0
        assert nadeau_bengio(d, 4, 1, level=1 - 2 * p.worse).low == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("rope", [0, 0.01])
    def test_equals_baycomp(self, rope):
        single = pytest.importorskip("baycomp").single
        rng = np.random.default_rng(7)
        for runs, folds in ((1, 10), (3, 5), (10, 10)):
            x, y = rng.normal(0.8, 0.02, runs * folds), rng.normal(0.81, 0.02, runs * folds)
            expected = single.CorrelatedTTest.probs(x, y, rope, runs=runs)
            got = correlated_t(y - x, folds - 1, 1, rope)
            assert tuple(got) == pytest.approx(expected) if rope else (got.worse, got.better) == pytest.approx(expected)

    @pytest.mark.parametrize("value", [-0.02, 0, 0.02])
    def test_no_variance_is_undefined(self, value):
        assert np.isnan(correlated_t([value] * 4, 4, 1, 0.01)).all()

    def test_one_pair_is_undefined(self):
        assert np.isnan(correlated_t([0.1], 4, 1, 0.01)).all()


class TestGapClosed:
    baseline = np.array([0.60, 0.62, 0.58, 0.61, 0.59])
    teacher = baseline + np.array([0.20, 0.22, 0.19, 0.21, 0.18])

    def test_an_exact_share_of_every_pair_has_no_uncertainty(self):
        gap = gap_closed(self.baseline + 0.6 * (self.teacher - self.baseline), self.baseline, self.teacher, 4, 1)
        assert gap[:3] == pytest.approx((0.6, 0.6, 0.6))

    def test_ends(self):
        assert gap_closed(self.baseline, self.baseline, self.teacher, 4, 1).mean == 0
        assert gap_closed(self.teacher, self.baseline, self.teacher, 4, 1).mean == pytest.approx(1)

    def test_certain_gap_gives_the_interval_of_the_gain_divided_by_it(self):
        student = self.baseline + np.array([0.10, 0.12, 0.13, 0.08, 0.09])
        gap = gap_closed(student, self.baseline, self.baseline + 0.2, 4, 1)
        gain = nadeau_bengio(student - self.baseline, 4, 1)
        assert gap[:3] == pytest.approx((gain.mean / 0.2, gain.low / 0.2, gain.high / 0.2))

    @pytest.mark.parametrize("lead", [0.0, -0.05])
    def test_undefined_without_a_gap(self, lead):
        gap = gap_closed(self.teacher, self.baseline, self.baseline + lead, 4, 1)
        assert np.isnan(gap[:3]).all()
        assert "teacher is not above the baseline" in gap.note

    def test_undefined_where_the_lead_is_smaller_than_its_interval(self):
        teacher = self.baseline + np.array([0.2, -0.15, 0.1, -0.1, 0.05])
        gap = gap_closed(self.baseline + 0.01, self.baseline, teacher, 4, 1)
        assert np.isnan(gap[:3]).all()
        assert "smaller than its interval" in gap.note

    def test_covers_the_truth(self):
        rng, runs, hits = np.random.default_rng(8), 3000, 0
        for _ in range(runs):
            gain, rest = correlated(rng, 0.06, 0.02, 0.2, 15), correlated(rng, 0.04, 0.02, 0.2, 15)
            interval = gap_closed(gain, np.zeros(15), gain + rest, 4, 1)
            hits += interval.low <= 0.6 <= interval.high
        assert hits / runs == pytest.approx(0.95, abs=0.015)

    def test_a_pair_that_lacks_the_teacher_is_dropped(self):
        teacher = self.teacher.copy()
        teacher[1] = math.nan
        gap = gap_closed(self.baseline + 0.1, self.baseline, teacher, 4, 1)
        assert (gap.n, gap.dropped) == (4, 1)
