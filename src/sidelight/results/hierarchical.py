"""What to expect on a next data set: the hierarchical correlated Bayesian comparison over data sets.

Each data set i says of its true difference δ_i what its own correlated t-test says: a Student t around its mean. The
true differences are themselves draws of a population of data sets, δ_i ~ t_ν(δ0, σ0), so that sets share what they
know: a noisy set is drawn towards the others, and sets that disagree make σ0, and the doubt about a next one, large.
The posterior of δ0, σ0 and ν gives the difference on a data set that has not been seen.

Source: Corani, Benavoli, Demšar, Mangili & Zaffalon (2017), "Statistical comparison of classifiers through Bayesian
hierarchical modelling", Machine Learning 106. Priors are the paper's, σ0 ~ U(0, 1000 s) with s the larger of the
spread of the means and the typical scale of a set, ν − 1 ~ Gamma(α, β) with α ~ U(0.5, 5) and β ~ U(0.05, 0.15), with
two departures: δ0 is flat on the whole line, and the deviation σ_i inside a set has the prior 1/σ_i in place of a
uniform one, with which a single set gives the correlated t-test of its own table. The paper counts how often each of
worse, equal and better is the likeliest on a next set; here they are the probabilities of a next set themselves.

The sampler (Gibbs, in NumPy, many chains at once) writes both t distributions as normal ones with a gamma-distributed
precision, draws σ0 on a grid with δ0 and all δ_i integrated out, then δ0 and δ_i, then ν on a grid with its precisions
integrated out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sidelight.results.statistics import Interval, Probabilities

FEWEST = 3
"""Fewest data sets: of two, the spread of the population is unknown whatever they say."""
CHAINS, WARM_UP, DRAWS = 100, 40, 100


class StudentT(NamedTuple):
    """What one data set says of a difference: Student's t with a location, a scale and degrees of freedom."""

    mean: float
    scale: float
    df: float


class Posterior(NamedTuple):
    """The posterior of a difference over data sets.

    Args:
        average: δ0, the centre of the population of data sets, with its interval.
        next: median and interval of the difference on a next data set.
        p: probabilities that the difference on a next data set is worse, practically equal and better.
        sets: mean of each set's own difference, which the other sets inform.
    """

    average: Interval
    next: Interval
    p: Probabilities
    sets: tuple[float, ...]


def hierarchical_t(effects: Sequence[StudentT], rope: float, level: float = 0.95, seed: int = 0) -> Posterior:
    """Compare two methods over several data sets.

    Args:
        effects: the difference on each of at least three data sets, all on comparable scales.
        rope: largest difference that counts as equal.
        level: probability that the intervals hold, in (0, 1).
        seed: seed of the sampler; the same one gives the same bits.

    Raises:
        ValueError: fewer than three data sets, or one without a positive scale and degrees of freedom.
    """
    if len(effects) < FEWEST:
        raise ValueError(f"expected at least {FEWEST} data sets, got {len(effects)}.")
    if not all(math.isfinite(e.mean) and e.scale > 0 and e.df > 0 for e in effects):
        raise ValueError("each data set needs a finite mean, and a scale and degrees of freedom above 0.")
    return _find_posterior(tuple(effects), rope, level, seed)


@lru_cache(maxsize=1024)  # a page and its tables ask for the same ones
def _find_posterior(effects: tuple[StudentT, ...], rope: float, level: float, seed: int) -> Posterior:
    x, s, k = (np.array(column, dtype=np.float64) for column in zip(*effects))
    unit = max(float(x.std()), float(np.median(s)))
    delta0, sigma0, nu, delta = sample(x / unit, s / unit, k, *_nu_prior(), np.random.default_rng(seed))
    worse = float(special.stdtr(nu, (-rope / unit - delta0) / sigma0).mean())
    better = float(special.stdtr(nu, (delta0 - rope / unit) / sigma0).mean())
    drawn = delta0 + sigma0 * np.random.default_rng(seed + 1).standard_t(nu)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(delta0, tails) * unit
    bottom, middle, top = np.quantile(drawn, [tails[0], 0.5, tails[1]]) * unit
    return Posterior(
        Interval(float(delta0.mean() * unit), float(low), float(high), len(x)),
        Interval(float(middle), float(bottom), float(top), len(x)),
        Probabilities(worse, max(0.0, 1 - worse - better), better),
        tuple((delta.mean(axis=0) * unit).tolist()),
    )


@cache
def _nu_prior() -> tuple[NDArray, NDArray]:
    """A grid of ν and its log prior: ν − 1 ~ Gamma(α, β), α and β integrated out, times the width of a cell."""
    less = np.geomspace(0.01, 400, 48)
    alpha = np.linspace(0.5, 5, 41)[:-1] + 4.5 / 80
    beta = (np.linspace(0.05, 0.15, 21)[:-1] + 0.1 / 40)[:, None]
    log = alpha * np.log(beta) - special.gammaln(alpha) + alpha * np.log(less)[:, None, None]
    return 1 + less, np.log(np.exp(log - beta * less[:, None, None]).mean(axis=(1, 2)))


def sample(
    x: NDArray, s: NDArray, k: NDArray, nus: NDArray, nu_prior: NDArray, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Draw from the posterior, in units in which either the means' spread or the typical scale is 1.

    Args:
        x, s, k: (q,) location, scale and degrees of freedom of each set.
        nus, nu_prior: (V,) a grid of ν and the logarithms of its prior, up to a constant.
        rng: the source of all draws.

    Returns:
        δ0, σ0 and ν, each (n,), and δ (n, q), with n = `CHAINS` · `DRAWS`.
    """
    q = len(x)
    grid = np.geomspace(1e-3, 1e3, 97)  # neighbours are 15 % apart
    log_width = np.log(grid)
    w, u = np.ones((CHAINS, q)), np.ones((CHAINS, q))  # precisions of what a set says, and of the population
    of_t = special.gammaln((nus + 1) / 2) - special.gammaln(nus / 2) - 0.5 * np.log(nus)
    kept: list[tuple[NDArray, ...]] = []
    for step in range(WARM_UP + DRAWS):
        noise = s**2 / w
        precision = 1 / (noise[:, None, :] + grid[:, None] ** 2 / u[:, None, :])  # (chains, grid, q)
        total = precision.sum(-1)
        centre = (precision @ x) / total
        log = 0.5 * (np.log(precision).sum(-1) - np.log(total) - precision @ x**2 + total * centre**2) + log_width
        at = (np.arange(CHAINS), _draw(log, rng))
        sigma0 = grid[at[1]]
        delta0 = centre[at] + rng.standard_normal(CHAINS) / np.sqrt(total[at])
        own, shared = 1 / noise, u / sigma0[:, None] ** 2
        delta = (own * x + shared * delta0[:, None]) / (own + shared)
        delta += rng.standard_normal((CHAINS, q)) / np.sqrt(own + shared)
        w = rng.standard_gamma((k + 1) / 2, (CHAINS, q)) / ((k + ((x - delta) / s) ** 2) / 2)
        z2 = ((delta - delta0[:, None]) / sigma0[:, None]) ** 2
        tails = ((nus[:, None] + 1) / 2 * np.log1p(z2[:, None, :] / nus[:, None])).sum(-1)
        nu = nus[_draw(nu_prior + q * of_t - tails, rng)]
        u = rng.standard_gamma((nu[:, None] + 1) / 2, (CHAINS, q)) / ((nu[:, None] + z2) / 2)
        if step >= WARM_UP:
            kept.append((delta0, sigma0, nu, delta))
    delta0, sigma0, nu, delta = (np.concatenate(column) for column in zip(*kept))
    return delta0, sigma0, nu, delta


def _draw(log: NDArray, rng: np.random.Generator) -> NDArray:
    """(chains,) one index for each row of unnormalised log probabilities (chains, n)."""
    rising = np.exp(log - log.max(axis=1, keepdims=True)).cumsum(axis=1)
    return np.asarray((rising < rng.random((len(log), 1)) * rising[:, -1:]).sum(axis=1))
