"""Made-up data in which the answer is known: where a teacher can help a student, and where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sidelight.data.builtin.base import Builtin
from sidelight.data.dataset import Dataset
from sidelight.errors import ConfigError, unknown
from sidelight.utils.keywords import known_keywords

PREFIX = "synthetic-"
"""The built-in data set `synthetic-few-labels` is `synthetic("few-labels")`."""
LATENT = 8
"""Hidden values of a row, of which both sensors show a mixture."""
ROWS_PER_GROUP = 16


@dataclass(frozen=True)
class Regime:
    """The conditions of a synthetic data set.

    Args:
        question: what the regime is for, a sentence.
        classes: number of classes.
        clusters: clusters of each class, far from each other.
        label_fraction: share of the groups that keep their labels.
        flipped: share of train and select rows whose label is drawn anew from the other classes. Test labels are true.
        width: columns of each sensor.
        groups: groups of the train, the select and the test part, each of `ROWS_PER_GROUP` rows.
        noise: standard deviation of the noise of the available and of the privileged sensor, where the signal of a
            column has about 1.
        shared: whether the available sensor shows what decides the class. If not, it shows one half of it, and the
            other half reaches the privileged sensor alone.
        informative: whether the privileged sensor shows anything but noise.
        coverage: share of the rows that have the privileged sensor.
    """

    question: str
    classes: int = 4
    clusters: int = 3
    label_fraction: float = 1.0
    flipped: float = 0.0
    width: int = 24
    groups: tuple[int, int, int] = (24, 8, 40)
    noise: tuple[float, float] = (1.2, 0.4)
    shared: bool = True
    informative: bool = True
    coverage: float = 1.0


REGIMES: dict[str, Regime] = {
    "sub-clusters": Regime("Two classes of six hidden clusters each: does structure within a class pass?", 2, 6),
    "few-labels": Regime(
        "One group in eight has labels: do unlabelled rows with both sensors help?", label_fraction=0.125
    ),
    "many-classes": Regime("Twenty classes: does it help to know which ones resemble each other?", 20, 1),
    "noisy-labels": Regime("Three in ten training labels are wrong: does the teacher filter them?", flipped=0.3),
    "few-rows": Regime(
        "64 training rows of 256 columns: does a teacher help where nothing else is left?",
        width=256,
        groups=(4, 4, 40),
        noise=(1.0, 0.4),
    ),
    "closed-gap": Regime(
        "The teacher is better only by what the camera never shows: is a gap that cannot be closed left open?",
        shared=False,
    ),
    "uninformative": Regime(
        "The privileged sensor is noise: does anything that looks like help come from it?", informative=False
    ),
    "missing-privileged": Regime(
        "Half of the rows lack the wearable, one group in four has labels: does a teacher on part of the rows help?",
        label_fraction=0.25,
        coverage=0.5,
    ),
}
"""Regime -> its conditions, for `synthetic`."""


@known_keywords
def synthetic(regime: str, seed: int = 0) -> Dataset:
    """Make a data set in which it is known whether a teacher can help.

    A row belongs to a cluster c of its class and has the hidden values z = μ_c + 0.5 ε. Each sensor shows
    x = tanh(z A) B + offset of the group + σ ε', with its own A and B; the privileged sensor has the lower noise σ.
    `REGIMES` names the conditions.

    Args:
        regime: a name in `REGIMES`.
        seed: of everything that is drawn. Two seeds share nothing but the regime.

    Returns:
        A data set with the modalities `camera` (available) and `wearable` (privileged), groups and an official split.

    Raises:
        ConfigError: the regime does not exist.
    """
    if regime not in REGIMES:
        raise ConfigError(unknown("regime", regime, REGIMES))
    conditions = REGIMES[regime]
    generator = np.random.default_rng([seed, sum(map(ord, regime))])
    parts = np.repeat(["train", "select", "test"], conditions.groups)
    group = np.repeat(np.arange(len(parts)), ROWS_PER_GROUP)
    split = parts[group]

    cluster = generator.integers(conditions.classes * conditions.clusters, size=len(group))
    target = cluster % conditions.classes
    hidden, own = _draw_hidden(conditions, cluster, target, generator)
    seen_by = {
        "camera": hidden,
        "wearable": own if conditions.informative else np.zeros_like(own),
    }
    inputs = {
        m: _observe(z, group, conditions.width, noise, generator)
        for (m, z), noise in zip(seen_by.items(), conditions.noise)
    }
    wrong = (generator.random(len(group)) < conditions.flipped) & (split != "test")
    target = np.where(
        wrong, (target + generator.integers(1, conditions.classes, len(group))) % conditions.classes, target
    )
    present = generator.random(len(group)) < conditions.coverage
    inputs["wearable"][~present] = 0
    return Dataset(
        name=PREFIX + regime,
        inputs=inputs,
        target=target,
        labelled=np.ones(len(group), bool),
        task="classification",
        class_names=tuple(f"class {k}" for k in range(conditions.classes)),
        present={"wearable": present},
        group=np.array([f"g{g:02d}" for g in group]),
        split=split,
        default_modalities={
            "available": ["camera"],
            "privileged": ["wearable"],
            "label_fraction": [conditions.label_fraction],
        },
        about={"target": "class", "group": "group", "description": conditions.question, "seed": seed},
    )


def _draw_hidden(
    conditions: Regime, cluster: NDArray, target: NDArray, generator: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """(N, LATENT) hidden values that the available and the privileged sensor show."""
    centres = generator.normal(size=(cluster.max() + 1, LATENT))
    if conditions.shared:
        hidden = centres[cluster] + 0.5 * generator.normal(size=(len(cluster), LATENT))
        return hidden, hidden
    # Each sensor sees one bit of the class: together they decide it, and neither tells of the other's.
    bits = np.stack([target // 2, target % 2]) * 2.0 - 1.0
    seen, unseen = (generator.normal(size=(len(cluster), LATENT)) for _ in range(2))
    seen[:, 0] = bits[0] * 1.5 + 0.5 * seen[:, 0]
    unseen[:, 0] = bits[1] * 1.5 + 0.5 * unseen[:, 0]
    return seen, unseen


def _observe(hidden: NDArray, group: NDArray, width: int, noise: float, generator: np.random.Generator) -> NDArray:
    """(N, width) float32: what a sensor shows of the hidden values (N, LATENT)."""
    inner = generator.normal(size=(hidden.shape[1], 2 * LATENT)) / np.sqrt(hidden.shape[1])
    outer = generator.normal(size=(2 * LATENT, width)) / np.sqrt(2 * LATENT)
    offset = 0.3 * generator.normal(size=(group.max() + 1, width))
    shown = np.tanh(1.5 * hidden @ inner) @ outer * 1.5
    x: NDArray = shown + offset[group] + noise * generator.normal(size=shown.shape)
    return x.astype(np.float32)


def _describe(regime: str) -> Builtin:
    return Builtin(REGIMES[regime].question, "made up", "", partial(synthetic, regime))


SYNTHETIC = {PREFIX + regime: _describe(regime) for regime in REGIMES}
"""The regimes as built-in data sets, with seed 0."""
