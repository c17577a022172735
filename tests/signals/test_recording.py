"""Recordings, resampling, filters, and windows with their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelight.errors import ConfigError, DataError
from sidelight.signals import LabelTrack, Recording, check_times, cut, label_windows, resample
from sidelight.signals.filters import bandpass, envelope


def ramp(seconds: float, rate: float, start: float = 0.0, **more) -> Recording:
    """Whose values are the times of its samples."""
    return Recording(start + np.arange(round(seconds * rate)) / rate, rate, start=start, **more)


class TestRecording:
    def test_units_convert_within_a_quantity(self):
        r = Recording([1.0, 2.0], 4, "mV", modality="ecg")
        assert r.values.shape == (2, 1)
        np.testing.assert_allclose(r.to("uV").values[:, 0], [1000, 2000])
        assert r.to("µV").to("mV").values == pytest.approx(r.values)
        assert r.metadata() == {"rate": 4, "unit": "mV", "start": 0.0, "channels": []}
        with pytest.raises(ConfigError, match="'ecg' is in mV, which cannot be converted to uS"):
            r.to("uS")
        with pytest.raises(ConfigError, match=r"in kΩ, which cannot be converted to uS; conductance in uS is 1000 /"):
            Recording([1.0], 4, "kΩ").to("uS")
        with pytest.raises(ConfigError, match=r"unknown unit 'foo'"):
            Recording([1.0], 4, "foo")

    @pytest.mark.parametrize(
        ("values", "rate", "says"),
        [
            ([], 4, r"s1.csv: 'eda' is empty: shape \(0, 1\)"),
            ([1, np.nan, 3, np.inf], 4, r"s1.csv: 'eda': channel 0 is nan at sample 1 \(0.25 s\), and 2 values"),
            ([1.0], 0, "sampling rate 0 Hz"),
            (np.ones((2, 2, 2)), 4, "expected numbers"),
            (["a"], 4, "expected numbers"),
        ],
    )
    def test_what_is_wrong_is_named(self, values, rate, says):
        with pytest.raises(DataError, match=says):
            Recording(values, rate, "uS", modality="eda", source="s1.csv")

    def test_channels_and_names_agree(self):
        with pytest.raises(DataError, match="has 2 channels, but 1 names"):
            Recording(np.ones((3, 2)), 4, channels=("a",))


class TestTimes:
    def test_the_rate_is_found(self):
        times = 7 + np.arange(100) / 50 + np.random.default_rng(0).uniform(-0.004, 0.004, 100)
        assert check_times(times, 50, "x") == pytest.approx(50, rel=0.01)
        assert check_times(times, None, "x") == pytest.approx(50, rel=0.01)

    @pytest.mark.parametrize(
        ("times", "says"),
        [
            ([0, 1, 3, 2, 4], "row 5: timestamp 2.000000 s follows 3.000000 s; expected rising times .1 steps"),
            ([0, 1, 1, 2], "row 4: timestamp 1.000000 s follows 1.000000 s"),
            ([0, 1, 2, 5, 6, 7], r"row 5: 3 s after the row before, where 1 s is usual \(1 gaps\)"),
            ([0, 2, 4, 6], "sampled at 0.5 Hz by its timestamps, but 1 Hz is declared"),
            ([0, np.nan, 2], "row 3: the timestamp is nan"),
            ([0], "1 timestamps"),
        ],
    )
    def test_unsound_ones_are_named(self, times, says):
        with pytest.raises(DataError, match=f"^f: {says}"):
            check_times(times, 1, "f", first_row=2)

    def test_gaps_and_rates_are_allowed_where_asked_for(self):
        assert check_times([0, 1, 2, 5, 6, 7], 0.7, "f", largest_gap=4, tolerance=0.1) == pytest.approx(5 / 7)


class TestResample:
    @given(st.sampled_from([(512, 100), (100, 512), (44100, 16000), (50, 25), (29.97, 30), (64, 64)]))
    def test_a_sine_and_an_offset_stay(self, rates):
        rate, to = rates
        t = np.arange(round(4 * rate)) / rate
        y = resample(5 + np.sin(2 * np.pi * 3 * t), rate, to)
        assert len(y) == int(np.ceil(len(t) * round(to * 100) / round(rate * 100)))
        new = np.arange(len(y)) / to
        inside = (new > 0.5) & (new < 3.5)
        np.testing.assert_allclose(y[inside], 5 + np.sin(2 * np.pi * 3 * new)[inside], atol=0.005)
        np.testing.assert_allclose(resample(np.full(400, 7.0), rate, to), 7, rtol=2e-3)  # to the edges

    def test_what_the_lower_rate_cannot_hold_is_filtered_out(self):
        t = np.arange(4096) / 512
        y = resample(np.sin(2 * np.pi * 90 * t), 512, 64)
        assert np.abs(y[20:-20]).max() < 0.02
        assert np.abs(np.sin(2 * np.pi * 90 * t)[::8]).max() > 0.9  # taking every eighth would alias

    def test_types_axes_and_recordings(self):
        x = np.random.default_rng(0).normal(size=(3, 100)).astype(np.float32)
        y = resample(x, 10, 5, axis=1)
        assert (y.shape, y.dtype) == ((3, 50), np.float32)
        r = ramp(4, 100, 2.0, unit="mV").resample(50)
        assert (r.rate, r.unit, r.seconds, r.start) == (50, "mV", 4, 2)

    def test_mistakes(self):
        with pytest.raises(ConfigError, match="no ratio of whole numbers"):
            resample(np.ones(10), 44100.123, 16000)
        with pytest.raises(ConfigError, match="expected rates above 0"):
            resample(np.ones(10), 10, 0)
        with pytest.raises(DataError, match="empty or not finite"):
            resample(np.array([1, np.nan]), 10, 5)


class TestFilters:
    def test_a_band_is_kept_in_place(self):
        t = np.arange(2048) / 512
        parts = {f: np.sin(2 * np.pi * f * t) for f in (0.5, 40, 200)}
        x = 3 + sum(parts.values())
        inside = slice(300, -300)
        for low, high, kept in ((10, 100, 40), (100, None, 200)):
            np.testing.assert_allclose(bandpass(x, 512, low, high)[inside], parts[kept][inside], atol=0.02)
        np.testing.assert_allclose(bandpass(x, 512, None, 10)[inside], (3 + parts[0.5])[inside], atol=0.02)

    def test_an_envelope_follows_the_amplitude(self):
        t = np.arange(4096) / 512
        amplitude = 1 + 0.5 * np.sin(2 * np.pi * 0.5 * t)
        found = envelope(amplitude * np.sin(2 * np.pi * 80 * t), 512)
        np.testing.assert_allclose(found[400:-400] * np.pi / 2, amplitude[400:-400], rtol=0.05)
        assert found.min() >= 0

    def test_mistakes(self):
        for low, high in ((None, None), (10, 300), (20, 10), (0, 10), (10, 10)):
            with pytest.raises(ConfigError, match="expected 0 < low < high < 256"):
                bandpass(np.ones(500), 512, low, high)
        with pytest.raises(DataError, match="needs more than"):
            bandpass(np.ones(10), 512, 10, 20)
        with pytest.raises(DataError, match="not finite"):
            bandpass(np.array([np.nan] * 100), 512, 10, 20)


class TestWindows:
    def test_every_modality_shows_the_same_time(self):
        """Values are times, so a window's first value says when it begins, whatever its rate and start."""
        session = {"eda": ramp(20, 512, 0.5), "video": ramp(21, 30000 / 1001, 0.0), "acc": ramp(19, 31, 1.0)}
        w = cut(session, 2.0, 0.7)
        assert len(w) == 1 + int((20 - 1 - 2) / 0.7)
        np.testing.assert_allclose(w.starts, 1 + 0.7 * np.arange(len(w)))
        for m, r in session.items():
            assert w.values[m].shape == (len(w), round(2 * r.rate), 1)
            assert np.abs(w.values[m][:, 0, 0] - w.starts).max() <= 0.5 / r.rate + 1e-9
            np.testing.assert_allclose(np.diff(w.values[m][:, :, 0]), 1 / r.rate, rtol=1e-6)
        assert w.metadata["eda"]["rate"] == 512

    def test_a_rounded_hop_would_drift(self):
        w = cut({"video": ramp(400, 30000 / 1001)}, 1, 0.25)
        rounded = round(0.25 * 30000 / 1001) * np.arange(len(w)) / (30000 / 1001)
        assert np.abs(w.values["video"][:, 0, 0] - w.starts).max() < 0.02
        assert np.abs(rounded - w.starts).max() > 5

    @given(st.integers(1, 40), st.integers(1, 15), st.integers(1, 15))
    def test_all_windows_and_no_more(self, n, width, hop):
        r = Recording(np.arange(n), 1)
        if n < width:
            with pytest.raises(DataError, match=r"less than one window of"):
                cut({"x": r}, width, hop)
            return
        w = cut({"x": r}, width, hop).values["x"][:, :, 0]
        expected = [np.arange(s, s + width) for s in range(0, n - width + 1, hop)]
        np.testing.assert_array_equal(w, expected)

    @given(st.data())
    def test_majorities_are_those_of_a_loop(self, data):
        codes = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=1, max_size=60)))
        seconds, hop = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
        threshold = data.draw(st.sampled_from([0.0, 0.5, 0.8, 1.0]))
        starts = np.arange(-3, 12, hop, dtype=float)
        labels, labelled, share = label_windows(LabelTrack(codes, 4), starts, seconds, "majority", threshold)
        for i, s in enumerate(starts):
            inside = [codes[k] for k in range(len(codes)) if s <= k / 4 < s + seconds]
            counts = {c: inside.count(c) / (4 * seconds) for c in sorted(set(inside) - {-1})}
            best = max(counts, key=counts.__getitem__, default=-1)
            sure = bool(counts) and counts[best] >= threshold
            assert (labels[i], labelled[i]) == ((best, True) if sure else (-1, False))
            assert share[i] == pytest.approx(max(counts.values(), default=0))

    def test_names_and_the_middle(self):
        track = LabelTrack(np.array(["rest", "rest", "pain", "", "pain", "pain"], object), 1, start=10)
        labels, labelled, _ = label_windows(track, np.array([10.0, 11.0, 14.0, 30.0]), 2, "majority", 0.6)
        assert labels.tolist() == ["rest", "", "pain", ""]
        assert labelled.tolist() == [True, False, True, False]
        labels, labelled, _ = label_windows(track, np.array([9.5, 11.5, 12.5, 30.0]), 2, "centre")
        assert labels.tolist() == ["rest", "pain", "", ""]
        assert labelled.tolist() == [True, True, False, False]

    def test_means_of_values_and_their_gaps(self):
        x = np.stack([np.arange(12.0), np.full(12, 1e9)], 1)
        x[3:6, 0] = np.nan
        labels, labelled, share = label_windows(LabelTrack(x, 2), np.array([0.0, 1.0, 3.0, 5.0]), 2, "mean", 0.5)
        np.testing.assert_allclose(labels[[0, 2]], [[1, 1e9], [7.5, 1e9]])
        assert np.isnan(labels[1]).all()
        assert labelled.tolist() == [True, False, True, True]
        assert share.tolist() == [0.75, 0.25, 1, 0.5]

    def test_labels_go_with_the_windows(self):
        w = cut({"x": ramp(10, 8)}, 2, 2, LabelTrack(np.repeat([0, 1], 5), 1), threshold=0.6)
        assert w.labels is not None
        assert w.labels.tolist() == [0, 0, -1, 1, 1]

    def test_mistakes(self):
        with pytest.raises(DataError, match=r"'b' starts at 50 s, after 'a' has ended at 10 s"):
            cut({"a": ramp(10, 8, modality="a"), "b": ramp(10, 8, 50, modality="b")}, 1, 1)
        with pytest.raises(DataError, match="no recordings"):
            cut({}, 1, 1)
        for seconds, hop in ((0.05, 1), (1, 0), (1, 0.01)):
            with pytest.raises(ConfigError, match="expected at least one sample"):
                cut({"a": ramp(10, 8)}, seconds, hop)
        with pytest.raises(ConfigError, match="unknown label rule 'median'"):
            cut({"a": ramp(10, 8)}, 1, 1, LabelTrack([1], 1), "median")
        for values, rule in (([0.5, 1.0], "majority"), ([0, 1], "mean"), (["a", "b"], "mean")):
            with pytest.raises(ConfigError, match=f"label rule '{rule}' on"):
                label_windows(LabelTrack(values, 1), np.zeros(1), 1, rule)
        for values, rate in (([], 1), ([1], 0), (np.ones((2, 2, 2)), 1)):
            with pytest.raises(DataError, match="labels"):
                LabelTrack(values, rate)
