"""Metrics without each test group, and intervals over test groups × seeds of an official split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sidelight import metrics
from sidelight.results.crossed import crossed_gap, crossed_interval, crossed_t, crossed_variance, pseudo_values
from sidelight.results.group_scores import GroupScores, score_without_groups

NAMES = ("a", "b", "c")


def classified(rng, n=120, groups=6):
    target, said = rng.integers(0, 3, (2, n))
    said = np.where(rng.random(n) < 0.5, target, said)
    group = np.char.add("g", rng.integers(0, groups, n).astype(str))
    return pd.DataFrame({"group": group, "target": np.take(NAMES, target), "prediction": np.take(NAMES, said)})


def test_classes_are_scored_as_the_metrics_do():
    frame = classified(np.random.default_rng(0))
    frame.loc[:4, "target"] = ""  # rows without a label do not count
    scores = score_without_groups(frame, "classification", NAMES)
    assert (scores.unit, scores.reason) == ("groups", "")
    for k, name in enumerate(scores.names):
        rest = frame[(frame["group"] != name) & (frame["target"] != "")]
        target, said = rest["target"].to_numpy(), rest["prediction"].to_numpy()
        for metric in ("accuracy", "unweighted_accuracy", "macro_f1"):
            assert scores.without[metric][k] == pytest.approx(metrics.CLASSIFICATION[metric].function(said, target))


def test_values_are_scored_as_the_metrics_do():
    rng = np.random.default_rng(1)
    t = rng.normal(500, 3, (90, 2))
    p = t + rng.normal(0.5, 2, t.shape)
    t[:5, 1] = np.nan
    columns = {f"target.{n}": t[:, k] for k, n in enumerate("xy")} | {
        f"prediction.{n}": p[:, k] for k, n in enumerate("xy")
    }
    frame = pd.DataFrame({"group": np.arange(90) % 6, **columns})
    scores = score_without_groups(frame, "regression", ["x", "y"])
    for k in range(6):
        rest = np.arange(90) % 6 != k
        for name, metric in metrics.REGRESSION.items():
            assert scores.without[name][k] == pytest.approx(metric.function(p[rest], t[rest]))
        assert scores.without["ccc_y"][k] == pytest.approx(metrics.column_ccc(p[rest], t[rest], 1))


def test_pixels_ranks_and_live_faces():
    rng = np.random.default_rng(2)
    groups = pd.DataFrame({"group": np.arange(60) % 5})
    counts = rng.integers(0, 50, (60, 2, 2))
    pixels = {f"pixels.{t}.{p}": counts[:, i, j] for i, t in enumerate("uv") for j, p in enumerate("uv")}
    rank = rng.integers(0, 12, 60)
    live = classified(rng, 60, 5).replace("c", "a")
    segmented = score_without_groups(groups.assign(**pixels), "segmentation", ["u", "v"]).without
    ranked = score_without_groups(groups.assign(target="a", prediction="a", rank=rank), "retrieval", ["a"]).without
    faces = score_without_groups(live.assign(group=groups["group"]), "anti-spoofing", ["a", "b"]).without
    for k in range(5):
        rest = np.arange(60) % 5 != k
        assert segmented["miou"][k] == pytest.approx(metrics.mean_iou(counts[rest].sum(0)))
        assert ranked["recall_at_5"][k] == pytest.approx((rank[rest & (rank > 0)] <= 5).mean())
        errors = metrics.spoofing_errors((live["prediction"] == "b")[rest], (live["target"] == "b").to_numpy()[rest])
        assert faces["acer"][k] == pytest.approx(sum(errors) / 2)


def test_rows_without_groups_are_cut_into_blocks_of_neighbours():
    frame = classified(np.random.default_rng(3), 230).drop(columns="group")
    scores = score_without_groups(frame, "classification", NAMES)
    assert (scores.unit, len(scores.names)) == ("blocks", 20)
    rest = frame[12:]  # 230 rows in 20 blocks: the first has 12
    assert scores.without["accuracy"][0] == pytest.approx((rest["target"] == rest["prediction"]).mean())


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (classified(np.random.default_rng(0), 100, 4), "too few groups: 4, and at least 5 are needed"),
        (classified(np.random.default_rng(0), 49).drop(columns="group"), "no groups, and its 49 labelled test rows"),
    ],
)
def test_too_little_to_judge_by_says_why(frame, says):
    scores = score_without_groups(frame, "classification", NAMES)
    assert says in scores.reason
    assert not scores.without


def test_groups_of_equal_size_give_the_plain_t_over_groups():
    rng = np.random.default_rng(4)
    each = rng.normal(0.02, 0.05, (20, 1)) + np.zeros((20, 3)) + rng.normal(0, 1e-9, (20, 3))  # seeds agree
    without = (each.sum(0) - each) / 19
    effects = pseudo_values(each.mean(0), without)
    np.testing.assert_allclose(effects, each)
    expected = stats.t.interval(0.95, 19, each.mean(), stats.sem(each.mean(1)))
    found = crossed_interval(float(each.mean()), effects, 0.95)
    assert found[1:3] == pytest.approx(expected, rel=1e-3)
    p = crossed_t(float(each.mean()), effects, 0.01)
    assert p.better == pytest.approx(stats.t.sf((0.01 - each.mean()) / stats.sem(each.mean(1)), 19), rel=1e-3)


def test_variance_components_are_those_of_a_two_way_table():
    """E[V] = σ²_group/G + σ²_seed/S + σ²_rest/(G S), over many tables."""
    rng = np.random.default_rng(5)
    g, s = 12, 6
    tables = rng.normal(0, 2, (3000, g, 1)) + rng.normal(0, 1.5, (3000, 1, s)) + rng.normal(0, 1, (3000, g, s))
    mean = np.mean([crossed_variance(t)[0] for t in tables])
    assert mean == pytest.approx(4 / g + 2.25 / s + 1 / (g * s), rel=0.03)


@pytest.mark.parametrize("sizes", [(0.5, 0.0, 1.0), (1.0, 0.5, 0.5), (0.2, 0.8, 0.3)], ids=["groups", "both", "seeds"])
def test_the_interval_covers_other_groups_and_other_seeds(sizes):
    rng, (a, b, e) = np.random.default_rng(6), sizes
    tables = rng.normal(0, a, (1500, 20, 1)) + rng.normal(0, b, (1500, 1, 5)) + rng.normal(0, e, (1500, 20, 5))
    found = [crossed_interval(float(t.mean()), t, 0.95) for t in tables]
    assert 0.93 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.985


def test_the_share_of_the_gap_has_fiellers_interval():
    rng, shares = np.random.default_rng(7), []
    for _ in range(400):
        lead = 0.2 + rng.normal(0, 0.1, (20, 1)) + rng.normal(0, 0.02, (1, 4)) + rng.normal(0, 0.01, (20, 4))
        gain = 0.5 * lead + rng.normal(0, 0.05, (20, 4))
        shares.append(crossed_gap(float(gain.mean()), float(lead.mean()), gain, lead, 0.95))
    assert 0.93 <= np.mean([share.low <= 0.5 <= share.high for share in shares]) <= 0.98
    assert np.mean([share.half for share in shares]) < 0.1
    unsure = crossed_gap(0.0, 0.001, gain - gain.mean(), lead - lead.mean() + 0.001, 0.95)
    assert np.isnan(unsure.mean)
    assert "smaller than its interval" in unsure.note


def test_scores_survive_a_copy_of_a_table():
    frame = pd.DataFrame({"x": [1]})
    frame.attrs["groups"] = {"job": GroupScores(names=("a",))}
    assert frame.copy().attrs["groups"]["job"] is frame.attrs["groups"]["job"]
