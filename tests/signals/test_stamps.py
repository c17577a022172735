"""Time stamps: jitter goes, gaps stay, rates are measured outside of gaps."""

from __future__ import annotations

import numpy as np
import pytest

from sidelight.errors import DataError
from sidelight.signals import Recording, bio, cut
from sidelight.signals.stamps import find_gaps, remove_jitter, usual_rate


def test_gaps_stay_and_jitter_goes():
    clock = np.r_[np.arange(400) / 40, 25 + np.arange(400) / 40]
    noisy = clock + np.random.default_rng(0).uniform(-0.01, 0.01, 800)
    times, rate, gaps = remove_jitter(noisy)
    assert gaps == 1
    assert rate == pytest.approx(40, rel=1e-3)
    np.testing.assert_allclose(times, clock, atol=2e-3)
    assert find_gaps(noisy).tolist() == [400]


def test_slow_streams_and_packets_have_no_gaps_by_themselves():
    assert remove_jitter(np.arange(20) * 5.0)[1:] == (pytest.approx(0.2), 0)
    packets = np.repeat(np.arange(20) * 2.0, 8)
    times, rate, gaps = remove_jitter(packets)
    assert (rate, gaps) == (pytest.approx(4, rel=0.02), 0)
    assert np.diff(times).min() > 0
    assert usual_rate(np.r_[np.arange(10), 100 + np.arange(10)]) == pytest.approx(1)
    assert usual_rate(np.zeros(3)) == 0


class TestRecordingWithTimes:
    def test_times_give_start_end_and_duration(self):
        r = Recording(np.arange(4.0), 2, times=[10, 10.5, 20, 20.5])
        assert (r.start, r.end, r.seconds, r.time(2)) == (10, 21, 11, 20)
        assert Recording([1.0, 2.0], 0, times=[3, 3]).end == 3

    def test_bad_times_are_named(self):
        with pytest.raises(DataError, match=r"sample 2 at 1.000000 s follows one at 2.000000 s \(1 times fall\)"):
            Recording(np.arange(3.0), 1, times=[0, 2, 1])
        with pytest.raises(DataError, match=r"expected a time in seconds for each of 3"):
            Recording(np.arange(3.0), 1, times=[0, 1])
        with pytest.raises(DataError, match=r"time of sample 1 is nan"):
            Recording(np.arange(3.0), 1, times=[0, np.nan, 1])
        with pytest.raises(DataError, match=r"sampling rate 0 Hz"):
            Recording(np.arange(3.0), 0)

    def test_only_evenly_spaced_samples_are_cut_or_resampled_by_number(self):
        even = Recording(np.arange(100.0), 10, times=5 + np.arange(100) / 9.9)
        windows = cut({"a": even}, 2, 2)
        assert windows.metadata["a"]["rate"] == pytest.approx(9.9)  # measured, not declared
        assert even.resample(20).rate == 20
        gap = Recording(np.arange(100.0), 10, "uS", times=np.r_[np.arange(50), 80 + np.arange(50)] / 10)
        with pytest.raises(DataError, match=r"row 50: 3.1 s after the row before"):
            cut({"a": gap}, 2, 2)
        with pytest.raises(DataError, match=r"row 50: 3.1 s after the row before"):
            bio.clean(gap, "eda")
        slow = np.r_[np.arange(50) * 0.1, 5 + np.arange(50) * 0.13]  # the clock changes its pace
        with pytest.raises(DataError, match=r"time stamps show no constant rate; align it by its times"):
            Recording(np.arange(100.0), 10, times=slow).evenly_sampled()
