import base64
import errno
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from safetensors.numpy import load_file, save_file

from helpers.synthetic_run import make_run
from sidelight.errors import RunError, SidelightWarning
from sidelight.report import write_report
from sidelight.report.outcomes import score_groups, summarize_groups
from sidelight.report.stored import Stored
from sidelight.report.structure import correlate
from sidelight.report.training import _line, average_curves
from sidelight.results import compare, load_results, sentence
from sidelight.results.units import number

SMALL = {"folds": 3, "seeds": 1, "methods": ("kl", "pkdot+kl")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "finished", **SMALL)


@pytest.fixture(scope="module")
def markup(finished, tmp_path_factory):
    return write_report(finished, tmp_path_factory.mktemp("reports") / "report.html").read_text()


@pytest.fixture(scope="module")
def two_budgets(tmp_path_factory):
    few = SMALL | {"folds": 2, "methods": ("kl",), "controls": ()}
    return page(make_run(tmp_path_factory.mktemp("budgets") / "run", budgets=(0.2, 1.0), **few))


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def page(run):
    return write_report(run).read_text()


def text(markup):
    bare = re.sub(r"<(style|svg)\b.*?</\1>", " ", markup, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).replace("\u00a0", " ").split())


def headings(markup):
    return re.findall(r"<h2>(.*?)</h2>", markup)


class TestPage:
    def test_holds_every_part(self, finished, markup):
        said = text(markup)
        assert headings(markup) == [
            *("What was asked", "Comparison", "Who gains", "What is confused with what"),
            *("How far its probabilities can be trusted", "The student's similarities", "Training", "What it costs"),
            *("How to read this", "Configuration"),
        ]
        assert sentence(load_results(finished, rebuild=False)) in said
        assert "With labels from 20 % of the training groups, the chosen method (pkdot+kl in " in said
        for part in (
            "phone_acc",
            "phone_gyro, watch_acc, watch_gyro",
            "group-kfold, 3 folds × 1 seed",
            "In training only",
            "of 20 % of the training groups: 78 of 390 train rows (median over folds and seeds); epochs were chosen",
        ):
            assert part in said
        assert "versions.torch 2.13.0" in said
        assert "methods: - kl - pkdot+kl" in said
        assert "In progress" not in said
        assert "without the teachers and T-Nets" in said

    def test_other_metrics_have_differences_with_intervals(self, finished, markup):
        said, results = text(markup), load_results(finished, rebuild=False)
        for metric in ("unweighted_accuracy", "macro_f1"):
            d = compare(results, metric=metric).rows["kl"].difference
            points = [number(100 * value, "+.1f") for value in (d.mean, d.low, d.high)]
            assert f"{points[0]}, {points[1]} to {points[2]}" in said

    def test_says_whose_rows_there_are_and_what_is_missing(self, run, no_figures):
        """Of data in memory the settings know neither target nor group."""
        settings = yaml.safe_load((run / "config.yaml").read_text()) | {"target": [], "group": ""}
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        told = json.loads((run / "environment.json").read_text())
        told["data"] |= {"target": "posture", "group": "person"}
        told["data"] |= {"missing": {"watch_acc": 12}, "imputed": {"watch_gyro": 1, "phone_acc": 345}}
        (run / "environment.json").write_text(json.dumps(told))
        said = text(page(run))
        assert "Predicts posture, one of seated" in said
        assert "Split by person" in said
        assert "Every person as a test case" in said
        gaps = (
            "12 lack watch_acc; 1 value of watch_gyro imputed (the train rows' mean); 345 values of phone_acc imputed"
        )
        assert f"Rows 800; {gaps}" in said

    def test_a_modality_alone_has_a_difference_with_its_interval(self, run, no_figures):
        for path in run.glob("jobs/*/job.json"):
            record = json.loads(path.read_text())
            record["lacks"] = {part: {"any": 0.4, "all": 0.1, "watch_acc": 0.4} for part in ("train", "test")}
            record["subsets"] = {"phone_acc": {"accuracy": record["metrics"]["accuracy"] / 2}}
            path.write_text(json.dumps(record))
        results = load_results(run, rebuild=False)
        best = next(name for name, row in compare(results).rows.items() if row.best)
        d = compare(results).rows[best].difference
        half = [number(50 * value, "+.1f") for value in (d.mean, d.low, d.high)]
        assert f"{half[0]} ({half[1]} to {half[2]})" in (said := text(page(run))).partition("phone_acc alone")[2]
        found = (
            "modality train rows test rows watch_acc 60 % 60 % every privileged modality 60 % 60 % at least one of them"
        )
        assert found in said.partition("Who has which sensor")[2]

    def test_asks_no_server_for_anything(self, markup):
        assert not re.search(r"<(link|iframe|object|embed)\b", markup)
        (script,) = re.findall(r"<script[^>]*>(.*?)</script>", markup, flags=re.S)
        assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in markup
        assert not re.search(r"fetch|XMLHttp|WebSocket|import\b|eval", script)
        assert not re.search(r"@import|url\((?!#)", markup)
        sources = re.findall(r"(?:src|href)=\"([^\"]*)\"", markup)
        assert sources
        assert all(s.startswith(("data:", "#")) for s in sources)
        left = re.sub(r'xmlns(:xlink)?="[^"]*"', "", markup)
        assert "http" not in left.replace("http-equiv", "")

    def test_ids_are_unique_and_referenced_ones_exist(self, markup):
        ids = re.findall(r'\bid="([^"]+)"', markup)
        assert len(ids) == len(set(ids))
        references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', markup)
        assert {a or b for a, b in references} <= set(ids)

    def test_figures_take_colours_and_fonts_from_the_page(self, markup):
        figures = re.findall(r"<svg.*?</svg>", markup, flags=re.S)
        assert len(figures) > 10
        assert all("DejaVu" not in f and 'aria-label="' in f for f in figures)
        assert all("var(--" in f for f in figures if "<text" in f)
        assert not any("#0e7c73" in f for f in figures)

    def test_goes_where_it_is_told_and_writes_only_results_beside(self, run, tmp_path, no_figures):
        (run / "results.csv").unlink(missing_ok=True)
        before = {p.name for p in run.iterdir()}
        out = write_report(run, tmp_path / "there" / "x.html")
        assert out.read_text().startswith("<!doctype html>")
        assert {p.name for p in run.iterdir()} == before | {"results.csv"}

    @pytest.mark.parametrize("share", [0.4, 1.0])
    def test_brings_results_up_to_date(self, tmp_path, share, monkeypatch):
        """A run that was killed has none, a run that is resumed an old one. (The page itself is not looked at.)"""
        monkeypatch.setattr("sidelight.report.render_page", lambda stored: stored.run.name)
        run = make_run(tmp_path / "run", finished=share, **SMALL)
        for old in (None, "method,control\n"):
            if old:
                (run / "results.csv").write_text(old)
            write_report(run, tmp_path / "x.html")
            assert len(pd.read_csv(run / "results.csv")) == len(list(run.glob("jobs/*/job.json")))

    def test_a_folder_that_cannot_be_written(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr("sidelight.report.render_page", lambda stored: f"page of {len(stored.results)} jobs")
        (run / "results.csv").unlink(missing_ok=True)
        move = os.replace

        def read_only(source, target):
            if run in Path(target).parents:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
            move(source, target)

        monkeypatch.setattr(os, "replace", read_only)
        before = sorted(run.iterdir())
        with pytest.warns(SidelightWarning, match=r"is written, but cannot write .*results\.csv"):
            assert write_report(run, tmp_path / "x.html").read_text() == "page of 18 jobs"
        assert sorted(run.iterdir()) == before
        with pytest.raises(RunError, match=r"cannot write .*report\.html"):
            write_report(run)

    def test_needs_no_torch_and_is_the_same_to_the_byte_in_another_process(self, run, markup):
        code = (
            "import sys; from sidelight.report import write_report;"
            "write_report(sys.argv[1]);"
            "sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(run)], check=False).returncode == 0
        assert (run / "report.html").read_text() == markup

    def test_what_is_no_run_is_refused(self, tmp_path):
        with pytest.raises(RunError, match="not a run folder"):
            write_report(tmp_path)


class TestOtherRuns:
    def test_label_budgets(self, two_budgets):
        markup = two_budgets
        parts = [heading for heading in headings(markup) if not heading.startswith("Doubts")]
        assert parts[1:4] == [
            "Comparison, labels from 20 % of the training groups",
            "Comparison, all labels",
            "How many labels it takes",
        ]
        assert markup.count('class="answer') == 1
        said = text(markup)
        assert "of 20 %, 100 % of the training groups: 60 of 300, 300 of 300 train rows" in said
        assert "With labels from 20 % of the training groups, kl " in said
        assert "With all labels, " in said
        (curve,) = re.findall(r'aria-label="Mean accuracy of every method over .*?</svg>', markup, flags=re.S)
        assert re.findall(r">(\d+ %)</text>", curve) == ["20 %", "100 %"]

    def test_every_label_budget_has_its_details(self, two_budgets):
        markup = two_budgets
        details = re.findall(r'<details class="budget"( open)?><summary>(.*?)</summary>', markup)
        assert details == [
            (" open", "In detail: labels from 20 % of the training groups"),
            ("", "In detail: all labels"),
        ]
        _, few, every = re.split(r'<details class="budget"', markup.partition("How to read this")[0])
        own = ["Who gains", "What is confused with what", "How far its probabilities can be trusted"]
        own += ["The student's similarities", "Training", "What it costs"]
        assert headings(few) == headings(every) == own
        assert few.count("<svg") == every.count("<svg") > 5
        ids = re.findall(r'\bid="([^"]+)"', markup)
        assert len(ids) == len(set(ids))
        assert len(markup) < 3e6

    def test_jobs_that_do_not_count_their_labels(self, run, no_figures):
        for file in run.glob("jobs/*/job.json"):
            record = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in record.items() if k != "n_labelled"}))
        assert (
            "Labels kept of 20 % of the training groups; epochs were chosen by cross-validation inside the kept labels"
            in text(page(run))
        )

    def test_a_network_of_many_megabytes_has_its_size(self, run, no_figures):
        for folder in run.glob("jobs/*"):
            with (folder / "model.safetensors").open("wb") as stored:
                stored.truncate(44_923_400)  # a ResNet-18; nothing is written, so the disk holds nothing
        assert "44,923" in text(page(run))

    def test_regression(self, tmp_path, texts_of_figures):
        markup = page(make_run(tmp_path / "run", task="regression", **SMALL))
        assert "Predicted and true values" in headings(markup)
        assert "improves CCC" in text(markup)
        assert "valence: baseline (CCC" in markup
        assert "Values along time, and against each other" in headings(markup)
        assert re.search(r"<text>valence of subject s\d\d</text>", markup)

    @pytest.mark.parametrize(
        ("protocol", "folds", "says"),
        [
            pytest.param("official", 1, "one official test set", marks=pytest.mark.slow),
            pytest.param(
                "leave-one-group-out",
                4,
                "differences are averaged over seeds, and n counts folds",
                marks=pytest.mark.slow,  # test_comparison.py has the three notes
            ),
            ("group-kfold", 4, "so 8 pairs are not 8 independent experiments"),
        ],
    )
    def test_says_what_a_pair_is(self, tmp_path, protocol, folds, says, no_figures):
        said = text(page(make_run(tmp_path / "run", protocol=protocol, folds=folds, seeds=2, methods=("pkdot+kl",))))
        assert says in said
        assert ("training sets of folds overlap" in said) == (protocol != "official")
        assert ("Its 20 groups are the sample" in said) == (protocol == "official")
        assert ("so 4 folds are not 4 independent" in said) == (protocol == "leave-one-group-out")
        counted = {"official": "test groups", "leave-one-group-out": "folds"}.get(protocol, "folds × seeds")
        assert f"seconds {counted} baseline" in said
        asked = {"group-kfold": "group-kfold, 4 folds × 2 seeds"}.get(protocol, f"{protocol}, 2 seeds")
        assert f"Protocol {asked} Split by" in said

    @pytest.mark.parametrize("share", [0.03, 0.6])
    def test_while_it_runs(self, tmp_path, share, no_figures):
        run = make_run(tmp_path / "run", finished=share, **SMALL)
        planned = len(json.loads((run / "plan.json").read_text())["jobs"])
        said = text(page(run))
        assert f"In progress: {round(share * planned)} of {planned} jobs done" in said
        assert "So far:" in said
        assert "let it finish" in said

    def test_before_the_first_job(self, tmp_path):
        said = text(page(make_run(tmp_path / "run", finished=0, **SMALL)))
        assert "No job has finished yet" in said

    def test_one_pair(self, tmp_path, undrawn):
        said = text(page(make_run(tmp_path / "run", **SMALL | {"folds": 1})))
        assert "only one pair" in said
        assert "one pair: no interval" in said

    def test_equal_differences(self, tmp_path, undrawn):
        run = make_run(tmp_path / "run", **SMALL | {"folds": 2})
        for file in run.glob("jobs/*/job.json"):
            record = json.loads(file.read_text())
            score = {"baseline": 0.5, "teacher": 0.9}.get(
                record["job"]["method"], 0.4 if record["job"]["control"] else 0.6
            )
            file.write_text(json.dumps(record | {"metrics": {**record["metrics"], "accuracy": score}}))
        markup = page(run)
        said = text(markup)
        assert "Not shown, with labels from" in said
        assert "2 pairs of fold and seed, all differences are the same: no variance to judge by" in said
        assert "improves" not in said
        assert 'class="better" style' not in markup  # no bar of probabilities

    def test_without_placebo(self, tmp_path, no_figures):
        said = text(page(make_run(tmp_path / "run", controls=(), **SMALL)))
        assert "No placebo has been run." in said

    def test_not_shown_to_help_is_said(self, tmp_path, no_figures):
        skill = {"kl": 0.0, "pkdot+kl": 0.02}
        said = text(page(make_run(tmp_path / "run", skill=skill, folds=5, seeds=1, methods=("kl", "pkdot+kl"))))
        assert "Not shown, with labels from" in said

    def test_names_are_shown_and_never_run(self, tmp_path):
        """Class names, groups and configuration come from data: they must stay text, mathematics markers included."""
        evil = ["<script>alert(1)</script>", "$x^2$ & co", 'NA "quoted", really', "None"]
        run = make_run(tmp_path / "run", labels=evil, folds=2, seeds=1, methods=("kl",), controls=())
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("phone-watch", "'<img src=x onerror=alert(1)>'"))
        for file in run.glob("jobs/*/predictions.csv"):
            file.write_text(file.read_text().replace("s03", "<b>s03</b>"))
        markup = page(run)
        assert markup.count("<script") == 1
        assert "<script>alert" not in markup
        assert "<img" not in markup
        assert "<b>s03" not in markup
        drawn = [html.unescape(t) for t in re.findall(r"<text[^>]*>(.*?)</text>", markup, flags=re.S)]
        for name in evil:
            assert name in drawn


@pytest.mark.slow
def test_five_hundred_jobs_make_a_small_page_in_twenty_seconds(tmp_path):
    """A regression, whose figures have the most points. Making the run is not counted."""
    methods = (*(f"m{k}" for k in range(12)), "kl", "pkdot", "pkdot+kl")
    skill = {f"m{k}": 0.1 + 0.04 * k for k in range(12)}
    run = make_run(tmp_path / "run", task="regression", budgets=(0.2, 1.0), methods=methods, skill=skill)
    assert len(list(run.glob("jobs/*"))) >= 500
    start = time.process_time()
    page = write_report(run)
    assert time.process_time() - start < 20
    assert page.stat().st_size < 3e6


class TestDamage:
    def test_broken_files_are_named_and_the_rest_is_shown(self, run, undrawn):
        """Of one method they are missing, of the other empty."""
        names = ["predictions.csv", "curves.csv", "similarity.safetensors"]
        for fold, name in enumerate(names):
            (run / "jobs" / f"pkdot+kl-l0.2-f{fold}-s0" / name).unlink()
            (run / "jobs" / f"kl-l0.2-f{fold}-s0" / name).write_bytes(b"")
        markup = page(run)
        assert len(headings(markup)) >= 6
        for fold, name in enumerate(names):
            for method in ("pkdot+kl", "kl"):
                assert f"{method}-l0.2-f{fold}-s0/{name} cannot be read" in text(markup)

    def test_only_the_job_files_are_left(self, run, undrawn):
        for file in run.glob("jobs/*/*"):
            if file.name != "job.json":
                file.unlink()
        for name in ("config.yaml", "environment.json", "plan.json"):
            (run / name).unlink()
        parts = ["What was asked", "Comparison", "What it costs", "How to read this", "Configuration"]
        assert headings(page(run)) == parts

    def test_unlabelled_test_rows_and_rows_without_group(self, run, undrawn):
        for file in run.glob("jobs/*/predictions.csv"):
            frame = pd.read_csv(file, dtype=str)
            frame.loc[:3, "target"] = ""
            frame.drop(columns="group").to_csv(file, index=False)
        markup = page(run)
        assert "Who gains" not in headings(markup)
        assert "What is confused with what" in headings(markup)


class TestNumbers:
    def test_group_scores_by_hand(self):
        rows = [("a", "x", "x", 0), ("a", "x", "y", 0), ("a", "y", "y", 1), ("b", "y", "x", 0), ("b", "", "x", 0)]
        frame = pd.DataFrame(rows, columns=["group", "target", "prediction", "seed"])
        assert score_groups(frame, "classification", ["x", "y"]).to_dict() == {"a": 0.75, "b": 0.0}

    def test_group_facts_by_hand(self):
        facts = summarize_groups(pd.Series({"a": 0.5, "b": 0.9, "c": 0.7}), pd.Series({"a": 0.8, "b": 0.8, "d": 1}))
        assert facts[:4] == pytest.approx((2, 1, 1, 0.1))
        assert facts.most[0] == facts.weakest[0] == "a"
        assert facts.least[0] == "b"
        assert summarize_groups(pd.Series({"a": 1.0}), pd.Series({"b": 1.0})) is None

    def test_curves_end_where_fewer_than_half_still_train(self):
        frames = [pd.DataFrame({"select": np.arange(n, dtype=float)}, index=range(1, n + 1)) for n in (2, 4, 4, 9)]
        curve = average_curves(frames, "select")
        assert list(curve.index) == [1, 2, 3, 4]
        assert curve["mean"].tolist() == [0, 1, 2, 3]

    def test_the_band_of_curves_stays_within_what_was_measured(self):
        frames = [pd.DataFrame({"kl": [v, v / 2]}) for v in (0.001, 0.001, 0.9)]
        curve = average_curves(frames, "kl")
        assert curve["low"].tolist() == [0.001, 0.0005]
        assert curve["high"].tolist() == [0.9, 0.45]

    @pytest.mark.parametrize("epochs", [[1, 2, 3], [1.0, 2.0, 3.0], [5.0, 10.0, 15.0]])
    def test_the_dot_of_a_curve_is_its_last_epoch_whatever_the_index(self, epochs):
        curve = pd.DataFrame({"mean": [3.0, 2.0, 1.0], "low": 0.0, "high": 4.0}, index=epochs)
        axes = Figure().add_subplot()
        _line(axes, curve, "kl", None)
        assert [line.get_xydata().tolist() for line in axes.lines][1:] == [[[epochs[-1], 1.0]]]

    def test_agreement(self, run):
        teacher = Stored(run).similarity(run / "jobs" / "teacher-l0.2-f0-s0")
        assert teacher is not None
        assert correlate(teacher, teacher.last, teacher.group) == pytest.approx(1)
        assert correlate(teacher, -teacher.last, teacher.group) == pytest.approx(-1)
        assert np.isnan(correlate(teacher, teacher.last, teacher.group[::-1]))
        assert np.isnan(correlate(teacher, teacher.last[:5, :5], teacher.group[:5]))

    def test_agreement_of_probe_rows_without_a_target(self, run):
        teacher = Stored(run).similarity(run / "jobs" / "teacher-l0.2-f0-s0")
        assert teacher is not None
        group = np.where(np.arange(len(teacher.group)) < 57, teacher.group, np.nan)
        unlabelled = replace(teacher, group=group)
        assert correlate(unlabelled, teacher.last, group.copy()) == pytest.approx(1)
        assert np.isnan(correlate(unlabelled, teacher.last, group[::-1]))

    def test_the_kept_epoch_is_the_one_shown_last(self, run, texts_of_figures):
        folder = run / "jobs" / "pkdot+kl-l0.2-f0-s0"
        record = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps(record | {"best_epoch": 10}))
        arrays = load_file(folder / "similarity.safetensors")
        save_file({**arrays, "epoch_0080": arrays["epoch_0020"]}, folder / "similarity.safetensors")
        similarity = Stored(run).similarity(folder)
        assert similarity is not None
        assert similarity.final == 10
        markup = page(run)
        assert "epoch 10 (kept)" in markup
        assert "epoch 80" not in markup
