"""Labels of windows against a slow count, and the times that tables hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelight.errors import ConfigError, DataError
from sidelight.formats import read_events
from sidelight.sessions.clocks import FileClock, align
from sidelight.sessions.labels import Spans, label_starts, read_spans
from sidelight.sessions.settings import LabelSource
from sidelight.sessions.times import parse_times

NOON = datetime(2026, 5, 31, 12, 0, 0, 250000, tzinfo=UTC)
SOURCE = LabelSource(file="x", threshold=0.3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 25), st.sampled_from(["a", "b", ""])), min_size=1, max_size=8
    ),
    st.integers(1, 12),
)
def test_shares_equal_a_slow_count(events: list[tuple[int, int, str]], seconds: int) -> None:
    onset, duration, label = (np.array(x) for x in zip(*sorted(events), strict=True))
    spans = Spans(onset.astype(float), (onset + duration).astype(float), label.astype(str), "x")
    starts = np.arange(0, 70, 1.0)
    labels, share = label_starts(spans, starts, seconds, SOURCE)
    for start, found, part in zip(starts.astype(int), labels, share, strict=True):
        held = {}
        for name in ("a", "b"):
            inside = [any(o <= t < o + d and n == name for o, d, n in events) for t in range(start, start + seconds)]
            held[name] = sum(inside) / seconds
        best = max(held, key=lambda name: (held[name], -ord(name)))
        assert part == pytest.approx(held[best], abs=1e-9)
        assert found == (best if held[best] >= 0.3 else "")


def test_a_mean_counts_each_value_for_its_time() -> None:
    spans = Spans(np.array([0.0, 4.0, 6.0]), np.array([4.0, 6.0, np.inf]), np.array(["1", "3", ""]), "x")
    labels, share = label_starts(spans, np.array([0.0, 3.0, 5.5]), 5.0, replace(SOURCE, rule="mean", threshold=0.2))
    assert [float(x) if x else None for x in labels] == [pytest.approx((4 + 3) / 5), pytest.approx((1 + 6) / 3), None]
    assert share.tolist() == pytest.approx([1.0, 0.6, 0.1])


def test_the_label_at_the_centre() -> None:
    spans = Spans(np.array([0.0, 5.0]), np.array([5.0, 9.0]), np.array(["a", "b"]), "x")
    labels, _ = label_starts(spans, np.array([2.9, 3.0, 7.0]), 4.0, replace(SOURCE, rule="centre"))
    assert labels.tolist() == ["a", "b", ""]  # a label ends before its end
    nothing = Spans(np.zeros(0), np.zeros(0), np.zeros(0, str), "x")
    for rule in ("centre", "majority", "mean"):
        assert label_starts(nothing, np.zeros(2), 1.0, replace(SOURCE, rule=rule))[0].tolist() == ["", ""]
    nested = Spans(np.array([0.0, 2.0, 3.0]), np.array([9.0, 6.0, 4.0]), np.array(["a", "b", "c"]), "x")
    labels, _ = label_starts(nested, np.arange(-3.0, 9.0), 2.0, replace(SOURCE, rule="centre"))
    assert "".join(label or "-" for label in labels) == "--aabcbbaaa-"  # the one that began last


def lines(cells: list[str]) -> tuple[pd.Series, str, np.ndarray]:
    return pd.Series(cells), "t.csv", np.arange(2, 2 + len(cells))


@pytest.mark.parametrize(
    ("cells", "unit", "seconds", "origin"),
    [
        (["0", "1500", ""], "ms", [0, 1.5, np.nan], None),
        (["0", "50"], "samples", [0, 0.5], None),
        (["1780000000.5", "1780000001"], "s", [1780000000.5, 1780000001], datetime(1970, 1, 1, tzinfo=UTC)),
        (["00:00:01,250", "01:00:00,5"], "s", [1.25, 3600.5], None),
        (["01:02.5", "61:00"], "s", [62.5, 3660], None),
        (["2026-05-31T14:00:00.250000+02:00", "2026-05-31T12:00:01Z"], "s", [0, 0.75], NOON),
        (["2026-05-31 14:00:00", "2026-05-31 14:00:02"], "s", [0, 2], datetime(2026, 5, 31, 14)),
    ],
)  # fmt: skip
def test_times_in_a_table(cells: list[str], unit: str, seconds: list[float], origin: datetime | None) -> None:
    found, moment = parse_times(*lines(cells), unit, 100.0)
    np.testing.assert_allclose(found, seconds)
    assert moment == origin


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1", "soon"], "line 3 is 'soon'"),
        (["00:01", "5"], "line 3 is '5'; expected a time such as"),
        (["2026-05-31T14:00:00Z", "2026-05-31T14:00:00"], "some times have a time zone"),
    ],
)
def test_times_of_two_kinds_are_refused(cells: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_times(*lines(cells))


def test_clocks() -> None:
    noon = datetime(2026, 5, 31, 12, tzinfo=UTC)
    seconds, base = align({"a": FileClock("a", noon, 5.0), "b": FileClock("b", noon.replace(minute=1), 0.0)})
    assert seconds == {"a": -5.0, "b": 55.0}
    assert base == noon.replace(second=5)
    local = datetime(2026, 5, 31, 14)
    with pytest.raises(DataError, match="'b' has a local time"):
        align({"a": FileClock("a", noon, 0.0), "b": FileClock("b", local, 0.0)})
    assert align({"a": FileClock("a", noon, 0.0), "b": FileClock("b", local, 0.0)}, "Europe/Paris")[0]["b"] == 0.0
    with pytest.raises(ConfigError, match="timezone 'Paris' is not known"):
        align({"b": FileClock("b", local, 0.0)}, "Paris")
    assert align({"a": FileClock("a", None, 3.0), "b": FileClock("b", None, 0.0, 1.0, "a")})[0] == {"a": 0.0, "b": 4.0}


ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="500"/><TIME_SLOT TIME_SLOT_ID="t2"/>
<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="2500"/></TIME_ORDER>
<TIER TIER_ID="mood"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>calm</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t2" TIME_SLOT_REF2="t3">
<ANNOTATION_VALUE>tense</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="note"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2">
<ANNOTATION_VALUE>loud</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "mood"
        xmin = 0
        xmax = 3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.5
            text = "calm"
        intervals [3]:
            xmin = 1.5
            xmax = 2.5
            text = "so ""tense"" 7"
    item [2]:
        class = "TextTier"
        name = "note"
        xmin = 0
        xmax = 3
        points: size = 1
        points [1]:
            number = 1.5
            mark = "loud"
"""


def test_elan_and_praat(tmp_path: Path) -> None:
    (tmp_path / "a.eaf").write_text(ELAN)
    events = read_events(tmp_path / "a.eaf")
    assert events.onset.tolist() == [0.5, 1.5, 1.5]
    assert events.duration.tolist() == [1.0, 1.0, 1.0]
    assert events.label.tolist() == ["calm", "tense", "loud"]
    assert events.tier is not None
    assert events.tier.tolist() == ["mood", "mood", "note"]
    (tmp_path / "a.TextGrid").write_bytes(LONG.encode("utf-16"))
    praat = read_events(tmp_path / "a.TextGrid")
    assert praat.onset.tolist() == [0.5, 1.5, 1.5]
    assert praat.label.tolist() == ["calm", 'so "tense" 7', "loud"]
    short = '"ooTextFile"\n"TextGrid"\n0\n3\n<exists>\n1\n"IntervalTier"\n"mood"\n0\n3\n1\n0.5\n1.5\n"calm"\n'
    (tmp_path / "b.TextGrid").write_text("File type = " + short)
    assert read_events(tmp_path / "b.TextGrid").label.tolist() == ["calm"]

    spans = read_spans(tmp_path / "a.eaf", LabelSource(file="a.eaf", tier="mood"))
    assert spans.end.tolist() == [1.5, 2.5]
    with pytest.raises(ConfigError, match=r"has 2 tiers; name one \(tier: …\): mood, note"):
        read_spans(tmp_path / "a.eaf", LabelSource(file="a.eaf"))
    with pytest.raises(ConfigError, match=r"unknown tier 'moood'\. Did you mean 'mood'"):
        read_spans(tmp_path / "a.eaf", LabelSource(file="a.eaf", tier="moood"))
    for name, text, message in (
        ("c.eaf", ELAN.replace('"t3" TIME', '"t4" TIME'), "names the time 't3'"),
        ("d.eaf", ELAN[:-30], "truncated or no ELAN file"),
        ("e.eaf", "<!DOCTYPE x [<!ENTITY y 'z'>]>" + ELAN[38:], "entities"),
        ("f.TextGrid", LONG[:-30], "is it truncated"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            read_events(tmp_path / name)


def test_tags_hold_until_the_next(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("time,label\n10,a\n30,b\n95,c\n")
    source = LabelSource(file="tags.csv")
    assert read_spans(tmp_path / "tags.csv", source).end.tolist() == [30, 95, np.inf]
    assert read_spans(tmp_path / "tags.csv", replace(source, longest=25.0)).end.tolist() == [30, 55, 120]
    assert read_spans(tmp_path / "tags.csv", replace(source, until="moment")).end.tolist() == [10, 30, 95]
    (tmp_path / "track.csv").write_text("label\n" + "a\nb\n\n".replace("\n\n", "\nn/a\n") + "b\n")
    track = read_spans(tmp_path / "track.csv", LabelSource(file="track.csv", rate=2.0))
    assert track.end.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert track.label.tolist() == ["a", "b", "", "b"]
