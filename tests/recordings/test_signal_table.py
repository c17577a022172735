"""What the columns of a table of samples are, whichever command reads it."""

import pytest

from sidelight.recordings.signal_table import choose_measured, find_time, find_time_unit, round_rate


@pytest.mark.parametrize(
    ("names", "time", "unit"),
    [
        (["eda", "time_ms"], "time_ms", "ms"),
        (["Time [s]", "x"], "Time [s]", "s"),
        (["Timestamp (us)"], "Timestamp (us)", "us"),
        (["Time (seconds)"], "Time (seconds)", "s"),
        (["ms", "x"], "ms", "ms"),
        (["T [degC]", "t_skin", "time of day"], "", ""),  # temperatures and words are no times
    ],
)
def test_times_are_found_by_name(names, time, unit):
    assert find_time(names) == time
    if time:
        assert find_time_unit(time, {}) == unit


def test_the_line_of_units_comes_before_the_name():
    assert find_time_unit("time", {"time": "[ms]"}) == "ms"


def test_counters_and_confidence_are_no_measurements():
    assert choose_measured(["time", "frame", "confidence", "eda", "AU_sum"], "time") == ["eda", "AU_sum"]
    assert choose_measured(["frame", "gaze_x", "AU01_r", "AU12_r"], "") == ["AU01_r", "AU12_r"]


def test_a_rate_is_rounded_as_far_as_milliseconds_cannot_tell():
    assert round_rate(63.999, 60) == 64
    assert round_rate(31.98, 600) == 31.98
