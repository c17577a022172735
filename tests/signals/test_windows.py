"""Labels of windows are shares and means of time, whatever the rates of labels and windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelight.errors import ConfigError, DataError
from sidelight.signals import LabelTrack, Recording, cut, label_windows

FINE = 240
"""Divides every window, start and label of the brute-force test into whole steps."""


def test_a_slow_label_counts_for_the_time_that_it_holds():
    """One label a second, windows of 2 s: from 1.5 to 3.5 s class 0 holds for 0.5 s and class 1 for 1.5 s."""
    track = LabelTrack([0, 0, 1, 1, 0, 0], 1)
    labels, labelled, share = label_windows(track, np.array([0.0, 0.5, 1.5, 3.5, 5.25]), 2.0)
    assert labels.tolist() == [0, 0, 1, 0, -1]
    assert labelled.tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(share, [1, 0.75, 0.75, 0.75, 0.375], atol=1e-12)


def test_windows_shorter_than_a_label_have_it():
    """Half of them contain no label's start, but one always holds."""
    labels, labelled, share = label_windows(LabelTrack([0, 1, 1], 1), np.arange(0, 3, 0.5), 0.5)
    assert labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert labelled.all()
    np.testing.assert_allclose(share, 1)
    windows = cut({"x": Recording(np.zeros(30), 10)}, 0.5, 0.5, LabelTrack(["a", "b", "b"], 1))
    assert windows.labels is not None
    assert windows.labels.tolist() == ["a", "a", "b", "b", "b", "b"]


def test_means_are_weighted_by_time():
    track = LabelTrack([0.0, 4.0, np.nan, 8.0], 1)
    values, labelled, share = label_windows(track, np.array([0.25, 0.5, 1.75, 3.5]), 1.0, "mean", 0.25)
    np.testing.assert_allclose(values, [0.75 * 0 + 0.25 * 4, 2, 4, 8])
    np.testing.assert_allclose(share, [1, 1, 0.25, 0.5])
    assert labelled.all()
    assert not label_windows(track, np.array([1.75]), 1.0, "mean", 0.3)[1].any()


def test_rounding_neither_loses_a_label_nor_makes_one():
    starts = 0.1 * np.arange(1000)  # 0.30000000000000004 and its like
    for rate in (10, 25, 1 / 0.3):
        track = LabelTrack(np.zeros(int(110 * rate), int), rate)
        _, labelled, share = label_windows(track, starts, 0.1, threshold=1.0)
        assert labelled.all()
        np.testing.assert_allclose(share, 1, atol=1e-6)
    behind = label_windows(LabelTrack([1], 10), np.array([0.1, -0.1]), 0.1, threshold=0.0)
    assert behind[1].tolist() == [False, False]
    tie = label_windows(LabelTrack([1, 0, 1, 0], 1), np.array([0.1, 0.3, 0.7, 1.2]), 2.0)
    assert tie[0].tolist() == [0, 0, 0, 0]


@st.composite
def tracks(draw, values):
    """A track, windows and their length; all edges lie on a grid of 1 / FINE seconds."""
    x = draw(st.lists(values, min_size=1, max_size=12))
    rate = draw(st.sampled_from([1, 2, 3, 5, 8, 0.5, 0.25]))
    start = draw(st.integers(-FINE, FINE)) / FINE
    starts = draw(st.lists(st.integers(-2 * FINE, 14 * FINE), min_size=1, max_size=8))
    return x, rate, start, np.array(starts) / FINE, draw(st.integers(1, 4 * FINE)) / FINE


def held(x, rate, start, at, seconds):
    """The labels that hold at the middles of the fine steps of a window; None where there is none."""
    times = at + (np.arange(round(seconds * FINE)) + 0.5) / FINE
    k = np.floor((times - start) * rate).astype(int)
    return [x[i] if 0 <= i < len(x) else None for i in k]


@given(tracks(st.integers(-1, 2)), st.sampled_from([0.0, 0.4, 0.75, 1.0]))
def test_majorities_are_those_of_a_fine_grid(case, threshold):
    x, rate, start, starts, seconds = case
    labels, labelled, share = label_windows(LabelTrack(x, rate, start), starts, seconds, "majority", threshold)
    for i, at in enumerate(starts):
        here = held(x, rate, start, at, seconds)
        counts = {c: here.count(c) for c in sorted(set(here) - {-1, None})}
        best = max(counts, key=counts.__getitem__, default=-1)
        expected = counts.get(best, 0) / len(here)
        assert share[i] == pytest.approx(expected, abs=1e-9)
        sure = bool(counts) and expected >= threshold
        assert (labels[i], labelled[i]) == ((best, True) if sure else (-1, False))


@given(tracks(st.sampled_from([np.nan, -1.0, 0.0, 0.25, 3.0])))
def test_means_are_those_of_a_fine_grid(case):
    x, rate, start, starts, seconds = case
    values, labelled, share = label_windows(LabelTrack(np.array(x, float), rate, start), starts, seconds, "mean", 0.5)
    for i, at in enumerate(starts):
        here = [v for v in held(x, rate, start, at, seconds) if v is not None and np.isfinite(v)]
        expected = len(here) / round(seconds * FINE)
        assert share[i] == pytest.approx(expected, abs=1e-9)
        assert labelled[i] == (expected >= 0.5)
        if labelled[i]:
            assert values[i] == pytest.approx(np.mean(here), abs=1e-9)


@pytest.mark.parametrize(
    ("values", "rate", "start", "says"),
    [
        (3, 1, 0, r"int64 of shape \(\)"),
        ([[]], 1, 0, r"of shape \(1, 0\)"),
        ([0, -3, 1], 1, 0, "label 1 is -3; class codes are 0, 1"),
        ([0.5, np.inf], 1, 0, "label 1 is inf; expected finite values"),
        ([0], np.nan, 0, "nan labels a second"),
        ([0], np.inf, 0, "inf labels a second"),
        ([0], 1, np.nan, "the first at nan s"),
    ],
)
def test_labels_that_cannot_be_are_named(values, rate, start, says):
    with pytest.raises(DataError, match=says):
        LabelTrack(values, rate, start)


@pytest.mark.parametrize("seconds", [0, -1, np.nan, np.inf])
def test_windows_without_a_length_are_named(seconds):
    track, recording = LabelTrack([0, 1], 1), {"x": Recording(np.zeros(30), 10)}
    with pytest.raises(ConfigError, match="expected a length above 0"):
        label_windows(track, np.zeros(1), seconds)
    for call in ((seconds, 1.0), (1.0, seconds)):
        with pytest.raises(ConfigError, match="expected at least one sample"):
            cut(recording, *call)
    with pytest.raises(ConfigError, match="finite starts"):
        label_windows(track, np.array([0, np.nan]), 1)
    with pytest.raises(ConfigError, match="threshold of 0 to 1"):
        label_windows(track, np.zeros(1), 1, threshold=np.nan)
