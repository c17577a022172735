"""Numbers behind the figures of the report, by hand, and colours that can be read."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.synthetic_run import make_run
from sidelight.report.answer import _say_range
from sidelight.report.calibration import measure_reliability
from sidelight.report.coverage import build_coverage
from sidelight.report.embeddings import project, turn
from sidelight.report.headline import MOST, build_headline, choose_rows, describe_finding
from sidelight.report.maps import overlay
from sidelight.report.outcomes import plot_confusion
from sidelight.report.series import choose_series
from sidelight.report.stored import Stored
from sidelight.report.style import HEAT, PALETTE, _shorten, luminance, text_on_heat
from sidelight.results import Interval, compare
from sidelight.results.budget import BASELINE, TEACHER

METHODS = ("kl", "pkdot+kl")
FEW = {"folds": 3, "seeds": 1, "methods": METHODS}


def contrast(first: float, second: float) -> float:
    low, high = sorted((first, second))
    return (high + 0.05) / (low + 0.05)


class TestColours:
    @pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
    def test_texts_and_marks_stand_out_from_what_lies_behind_them(self, scheme):
        """WCAG AA: 4.5 for texts, 3 for figures, in both colour schemes."""
        value = {name: luminance(pair[scheme]) for name, pair in PALETTE.items()}
        grounds = [value[name] for name in ("paper", "panel", "wash")]
        for text in ("ink", "muted"):
            assert min(contrast(value[text], ground) for ground in grounds) >= 4.5, text
        for mark in (
            *("baseline", "student", "method", "placebo", "self", "reference"),
            "teacher",
            "good",
            "bad",
            "focus",
        ):
            assert contrast(value[mark], value["paper"]) >= 3, mark

    def test_texts_in_a_matrix_can_be_read_at_every_value(self):
        ratios = [contrast(luminance(HEAT(s)), luminance(text_on_heat(s))) for s in np.linspace(0, 1, 257)]
        assert min(ratios) >= 4.5

    def test_luminance_is_that_of_wcag(self):
        assert [luminance("#000000"), luminance("#ffffff")] == [0, pytest.approx(1)]
        assert contrast(luminance("#767676"), 1) == pytest.approx(4.54, abs=0.01)


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
    return compare(Stored(make_run(tmp_path_factory.mktemp("helps") / "run", seeds=2, methods=METHODS)).results)


class TestHeadline:
    def test_says_what_is_gained_and_what_is_left_without_information(self, helps):
        said = build_headline([helps])
        gain = 100 * helps.winner.difference.mean
        assert said.kind == "better"
        assert said.answer.startswith("Yes, with labels from 20 % of the training groups: ")
        assert (
            f" lifts accuracy by {gain:.1f} points, from the baseline’s {100 * helps.rows[BASELINE].mean:.1f} %"
            in said.answer
        )
        placebo = helps.rows["pkdot+kl~placebo"].difference.mean
        assert f"% of that is left ({100 * placebo:+.1f})." in said.answer

    def test_several_label_fractions_have_one_line(self, tmp_path):
        results = Stored(make_run(tmp_path / "run", budgets=(0.2, 1.0), **FEW)).results
        said = build_headline([compare(results, share) for share in (0.2, 1.0)], unfinished=True)
        assert said.answer == "So far: with labels from 20 % of the training groups yes, with all labels not shown."
        assert len(said.findings) == 2
        assert "scatter so much that the true difference may be anything from " in said.findings[1]

    def test_without_placebo_the_reason_is_open(self, tmp_path):
        c = compare(Stored(make_run(tmp_path / "run", controls=(), **FEW)).results)
        assert "no placebo was run, so the reason may be distillation itself" in describe_finding(c)

    def test_a_difference_of_nothing_is_neither_better_nor_worse(self, helps):
        even = replace(helps.rows["kl"], difference=Interval(0.0002, -0.1, 0.1, 10), survives=False)
        c = replace(helps, best="kl", winner=None, rows={**helps.rows, "kl": even})
        base = 100 * helps.rows[BASELINE].mean
        assert describe_finding(c) == (
            f"kl is level with the baseline in accuracy ({base:.1f} %), but 10 comparisons (folds × seeds) scatter so "
            "much that the true difference may be anything from −10.0 to +10.0."
        )

    def test_the_figure_has_the_best_methods_and_what_they_are_compared_with(self, helps):
        rows = {f"m{i}": helps.rows["kl"] for i in range(2 * MOST)}
        many = replace(helps, rows={**rows, **helps.rows})
        shown = choose_rows(many)
        assert shown[0] == BASELINE
        assert {"pkdot+kl", "pkdot+kl~placebo", TEACHER} <= set(shown)
        assert sum(many.rows[name].role == "method" for name in shown) == MOST

    @pytest.mark.parametrize(
        ("low", "high", "says"),
        [
            (-0.18, 2.57, "none to all: unknown"),
            (0.56, 0.89, "56 % to 89 %"),
            (-0.1, 0.31, "none to 31 %"),
            (0.2, 1.4, "20 % to all"),
        ],
    )
    def test_a_share_that_is_not_known_is_no_number(self, low, high, says):
        assert _say_range(Interval(0.7, low, high)) == says


class TestCalibration:
    def test_by_hand(self):
        p = np.array([0.95, 0.92, 0.65, 0.61, 0.7])
        frame = pd.DataFrame({"p.a": p, "p.b": 1 - p, "target": ["a", "b", "a", "b", ""]})
        found = measure_reliability(frame, ["a", "b"])
        assert found.rows.tolist() == [2, 2]
        assert found.confidence.tolist() == pytest.approx([0.63, 0.935])
        assert found.right.tolist() == [0.5, 0.5]
        assert found.error == pytest.approx((0.13 + 0.435) / 2)

    def test_sure_of_everything_is_in_the_last_part(self):
        frame = pd.DataFrame({"p.a": [1.0, 1.0], "p.b": [0.0, 0.0], "target": ["a", "a"]})
        assert measure_reliability(frame, ["a", "b"]).error == 0

    def test_without_probabilities_there_is_none(self):
        assert measure_reliability(pd.DataFrame({"target": ["a"]}), ["a", "b"]) is None


class TestEmbeddings:
    def test_similarities_give_back_the_principal_components(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 6)) * [5, 3, 1, 0.5, 0.2, 0.1]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        found = project(x @ x.T)
        centred = x - x.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        assert np.abs(found.points) == pytest.approx(np.abs(u[:, :2] * s[:2]), abs=1e-8)
        assert found.share == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())

    def test_points_are_turned_and_mirrored_onto_others(self):
        points = np.random.default_rng(1).normal(size=(20, 2))
        turned = points @ np.array([[0.6, -0.8], [0.8, 0.6]]) * [1, -1]
        assert turn(turned, points) == pytest.approx(points)

    @pytest.mark.parametrize("k", [np.full((5, 5), math.nan), np.ones((5, 5)), np.eye(2)])
    def test_what_cannot_be_projected_is_left_out(self, k):
        assert project(k) is None


def test_an_overlay_by_hand():
    truth = np.array([[[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, -1]]], np.int16)
    baseline = np.array([[[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]])
    student = np.array([[[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]])
    assert overlay(truth, baseline, student).tolist() == [[[0, 2, 1, 3], [0, 0, 0, 0], [4, 4, 4, -1]]]


def test_a_series_is_the_group_with_the_most_rows_of_one_job():
    frame = pd.DataFrame({"id": list("abcde"), "group": ["x", "y", "y", "x", "x"], "fold": [0, 0, 0, 1, 1], "seed": 0})
    name, rows = choose_series(frame)
    assert name == "y"
    assert rows["id"].tolist() == ["b", "c"]
    assert choose_series(frame.drop(columns="group"))[1]["id"].tolist() == ["a", "b", "c"]


def test_coverage_is_the_share_of_rows_that_have_a_modality(tmp_path, monkeypatch):
    stored = Stored(make_run(tmp_path / "run", folds=2, seeds=1, methods=("kl",), controls=()))
    c = compare(stored.results)
    assert build_coverage(stored, c) is None
    lacks = {"train": {"any": 0.5, "all": 0.25, "watch": 0.5}, "select": {}, "test": {"any": 0, "all": 0, "watch": 0}}
    monkeypatch.setattr(Stored, "record", lambda self, folder: {"lacks": lacks})
    found = build_coverage(stored, c)
    assert found.parts == ["train", "test"]
    assert found.lines == [
        ("watch", [0.5, 1]), ("every privileged modality", [0.5, 1]), ("at least one of them", [0.75, 1]),
    ]  # fmt: skip


def test_a_shorter_svg_keeps_its_texts_and_points():
    use = '<use xlink:href="#p" x="{x}" y="1.23456" style="fill: red; fill-opacity: 0.3"/>\n'
    svg = f'<g>\n <!-- 0.125 -->\n <text x="1.98765">0.1250</text>\n{"".join(use.format(x=k) for k in (1, 2, 3))}</g>'
    points = "".join(f'<use href="#p" x="{k}" y="1.23"/>' for k in (1, 2, 3))
    assert _shorten(svg) == f'<g><text x="1.98">0.1250</text><g style="fill: red; fill-opacity: 0.3">{points}</g></g>'


def test_long_names_of_classes_leave_room_for_the_figure(recwarn):
    classes = ["a" * 200, "<script>alert(1)</script>" * 4]
    frame = pd.DataFrame({"target": classes, "prediction": classes})
    page = str(plot_confusion(frame, classes, "kl", 1.0))
    assert ">aaaaaaaaaaaaaaaaaaaaaaaaaaa…</text>" in page
    assert "<script" not in page
    assert not recwarn.list
