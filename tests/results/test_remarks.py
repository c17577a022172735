"""A degenerate comparison says so: scores at chance, no lead to close, test sets of one class, select far from test."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from helpers.synthetic_run import make_run
from results.test_comparison import frame
from sidelight import metrics
from sidelight.experiment.study import Study
from sidelight.report import write_report
from sidelight.results import TestSet, compare, describe_test, load_results, print_table, sentence, summary, table
from sidelight.results.chance import compute_chance

CLASSES = ("a", "b", "c")
COUNTS = ((0, 9, 0), (5, 0, 0), (3, 3, 2), (0, 0, 6))


def rows(counts, labels=CLASSES):
    return pd.DataFrame({"target": np.repeat(labels, counts)})


def levels(predictions, task, labels=CLASSES):
    return compute_chance({(0, 0): describe_test(predictions, task, labels)}, task, labels)[0, 0].chance


def with_tests(results, chance, constant=(), metric="accuracy"):
    pairs = {(int(f), int(s)) for f, s in zip(results["fold"], results["seed"])}
    results.attrs["tests"] = {pair: TestSet({metric: chance}, tuple(constant)) for pair in sorted(pairs)}
    return results


def codes(results):
    return [remark.code for remark in compare(results).remarks]


class TestChance:
    """Against the metrics themselves, given the best of all answers that read nothing."""

    @pytest.mark.parametrize("counts", [(5, 3, 2), (9, 0, 1), (4, 4, 4), (7, 0, 0)])
    def test_of_classes(self, counts):
        target = np.repeat(np.arange(3), counts)
        most = {
            name: metric.function(np.zeros(len(target), int), target) for name, metric in metrics.CLASSIFICATION.items()
        }
        assert levels(rows(counts), "classification") == pytest.approx(most)

    def test_the_most_common_class_is_that_of_all_test_sets(self):
        """Not each one's own, which nobody could know: with one class in each, that would be always right."""
        sets = {(fold, 0): describe_test(rows(c), "classification", CLASSES) for fold, c in enumerate(COUNTS)}
        found = compute_chance(sets, "classification", CLASSES)
        for pair, counts in zip(found, COUNTS):
            target = np.repeat(np.arange(3), counts)
            said = np.full(len(target), 1)
            expected = {name: metric.function(said, target) for name, metric in metrics.CLASSIFICATION.items()}
            assert found[pair].chance == pytest.approx(expected)
        assert [test.constant for test in found.values()] == [("b",), ("a",), (), ("c",)]

    def test_of_pixels(self):
        target = np.random.default_rng(0).choice(3, (4, 6, 5), p=[0.6, 0.3, 0.1])
        counts = metrics.count_confusions(np.zeros_like(target), target, 3)
        stored = {f"pixels.{t}.{p}": counts[:, i, j] for i, t in enumerate(CLASSES) for j, p in enumerate(CLASSES)}
        level = levels(pd.DataFrame(stored), "segmentation")
        assert level["miou"] == pytest.approx(metrics.miou(np.zeros_like(target), target, 3))
        assert level["pixel_accuracy"] == pytest.approx(metrics.pixel_accuracy(np.zeros_like(target), target, 3))
        for c, name in enumerate(CLASSES):
            assert level[f"iou.{name}"] == pytest.approx(metrics.class_iou(np.full_like(target, c), target, 3, c))

    def test_of_a_random_order(self):
        target = np.repeat(np.arange(3), (12, 6, 3))
        level = levels(rows((12, 6, 3)), "retrieval")
        rng = np.random.default_rng(0)
        drawn = [metrics.retrieval_scores(rng.normal(size=(21, 40)), target) for _ in range(400)]
        for name in ("recall_at_1", "recall_at_5", "recall_at_10"):
            assert level[name] == pytest.approx(np.mean([d[name] for d in drawn]), abs=0.02)
        assert abs(level["median_rank"] - np.median([d["median_rank"] for d in drawn])) <= 1

    def test_of_values(self):
        target = np.random.default_rng(0).normal(size=(30, 2))
        target[4, 1] = np.nan
        target[:, 0] = 2.5
        stored = pd.DataFrame({"target.pain": target[:, 0], "target.joy": target[:, 1]})
        names = ("pain", "joy")
        told = describe_test(stored, "regression", names, mean=(1.0, 0.25))
        test = compute_chance({(0, 0): told}, "regression", names)[0, 0]
        said = np.broadcast_to([1.0, 0.25], target.shape)
        whole = {name: metric.function(said, target) for name, metric in metrics.REGRESSION.items()}
        assert test.chance == pytest.approx({**whole, "ccc_pain": 0, "ccc_joy": 0})
        assert test.constant == ("pain",)

    def test_of_live_faces(self):
        live = np.repeat([True, False], (5, 3))
        acer = sum(metrics.spoofing_errors(np.ones(8, bool), live)) / 2
        level = levels(rows((5, 3), ("live", "attack")), "anti-spoofing", ("live", "attack"))
        assert level == {"acer": acer, "eer": 0.5, "auc": metrics.area_under_curve(np.zeros(8), live)}


class TestRemarks:
    def test_a_good_comparison_has_none(self):
        results = with_tests(frame({"baseline": 0.69, "teacher": 0.91, "kl": 0.82}), 0.3)
        assert codes(results) == []
        assert compare(results).chance == pytest.approx(0.3)
        assert "But" not in sentence(results)

    @pytest.mark.parametrize(("chance", "said"), [(0.75, "is at chance or below"), (0.675, "is not shown to be above")])
    def test_a_baseline_at_chance(self, chance, said):
        results = with_tests(frame({"baseline": 0.69, "teacher": 0.91, "kl": 0.82}), chance)
        (remark,) = compare(results).remarks
        assert remark.code == f"baseline_{'at' if chance > 0.7 else 'near'}_chance"
        assert said in remark.text
        assert f"gives {100 * chance:.1f}" in remark.text
        assert sentence(results).endswith("But the baseline is not above chance.") == (chance > 0.7)

    def test_a_teacher_at_chance_leads_nobody(self):
        results = with_tests(frame({"baseline": 0.69, "teacher": 0.66, "kl": 0.7}), 0.8)
        assert codes(results) == ["baseline_at_chance", "teacher_at_chance", "teacher_not_above_baseline"]
        assert np.isnan(table(results).loc["kl", "gap"])

    def test_a_lower_error_is_better(self):
        errors = frame({"baseline": 0.5, "teacher": 0.2, "kl": 0.4}, metric="mae")
        assert codes(with_tests(errors.copy(), 0.9, metric="mae")) == []
        assert codes(with_tests(errors.copy(), 0.3, metric="mae")) == ["baseline_at_chance"]

    def test_a_lead_smaller_than_its_interval_has_no_share(self):
        """A share of a lead that may be zero was printed as −294 %."""
        results = frame({"baseline": 0.69, "teacher": 0.71, "kl": 0.66}, noise=0.02, folds=3, seeds=1)
        c = compare(results)
        assert c.rows["teacher"].difference.mean > 0 > c.rows["teacher"].difference.low
        assert [r.code for r in c.remarks] == ["teacher_lead_unclear"]
        assert np.isnan(c.rows["kl"].gap[:3]).all()
        out = Console(file=io.StringIO(), width=100)
        print_table(results, console=out)
        printed = out.file.getvalue()
        (line,) = [text for text in printed.splitlines() if "kl ●" in text]
        assert "–" in line.split()
        assert "teacher's lead over the baseline is smaller than its interval" in " ".join(printed.split())

    def test_test_sets_of_one_class(self):
        results = with_tests(frame({"baseline": 0.69, "teacher": 0.91, "kl": 0.82}), 0.3)
        results.attrs["tests"][2, 1] = TestSet({"accuracy": 1.0}, ("walking",))
        (remark,) = [r for r in compare(results).remarks if r.code == "constant_test"]
        assert "In 1 of 15 test sets every row is of one class ('walking' in fold 2, seed 1)" in remark.text

    def test_select_rows_that_are_easier_than_test_rows(self):
        scores = {"baseline": 0.745, "teacher": 0.9, "kl": 0.8}
        results = frame(scores)
        assert codes(results.assign(select=results["accuracy"] + 0.03)) == []
        noise = np.random.default_rng(0).normal(0, 0.01, len(results))
        apart = results.assign(
            select=np.where(results["method"] == "baseline", 0.18, 0.02) + results["accuracy"] + noise
        )
        (remark,) = compare(apart).remarks
        assert remark.code == "select_above_test"
        assert (
            "Accuracy on the select rows and on the test rows lie far apart, better on select: baseline" in remark.text
        )
        assert "teacher" not in remark.text
        assert codes(results.assign(select=results["accuracy"] - 0.18 + noise)) == ["select_below_test"]

    def test_distance_that_varies_more_than_it_is_large_is_no_finding(self):
        results = frame({"baseline": 0.745, "teacher": 0.9, "kl": 0.8}, folds=4, seeds=1)
        swing = np.where(results["fold"] % 2, 0.4, -0.2)
        assert codes(results.assign(select=results["accuracy"] + swing)) == []


class TestFolders:
    @pytest.fixture(scope="class")
    @classmethod
    def degenerate(cls, tmp_path_factory):
        """Every network answers at random, as run folders held it before they held chance levels."""
        skill = dict.fromkeys(("baseline", "teacher", "kl"), -2.5)
        folder = tmp_path_factory.mktemp("runs") / "degenerate"
        return make_run(folder, methods=("kl",), controls=(), folds=3, seeds=1, skill=skill)

    def test_levels_of_an_older_run_come_from_its_predictions(self, degenerate):
        results = load_results(degenerate, rebuild=False)
        stored = {
            (fold, seed): pd.read_csv(degenerate / "jobs" / f"baseline-l0.2-f{fold}-s{seed}" / "predictions.csv")
            for fold, seed in results.attrs["tests"]
        }
        most = pd.concat(stored.values())["target"].mode()[0]
        for pair, test in results.attrs["tests"].items():
            assert test.chance["accuracy"] == (stored[pair]["target"] == most).mean()

    def test_a_stored_level_is_believed(self, degenerate, tmp_path):
        run = shutil.copytree(degenerate, tmp_path / "run")
        for file in run.glob("jobs/*/job.json"):
            job = json.loads(file.read_text()) | {"test": {"counts": {"walking": 8}}}
            file.write_text(json.dumps(job))
        results = load_results(run, rebuild=False)
        assert (
            list(results.attrs["tests"].values())
            == [TestSet({"accuracy": 1.0, "unweighted_accuracy": 1.0, "macro_f1": 1.0}, ("walking",))] * 3
        )

    def test_a_damaged_level_or_predictions_leave_a_report(self, degenerate, tmp_path):
        run = shutil.copytree(degenerate, tmp_path / "run")
        for file in run.glob("jobs/*/job.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"test": {"counts": ["?"]}}))
            (file.parent / "predictions.csv").write_bytes(b"\xff\xfe\x00")
        assert load_results(run, rebuild=False).attrs["tests"] == {}
        assert np.isnan(compare(load_results(run, rebuild=False)).chance)

    def test_every_way_out_says_it(self, degenerate, undrawn):
        results = load_results(degenerate, rebuild=False)
        found = compare(results).remarks
        assert {"baseline_at_chance", "teacher_at_chance"} <= {r.code for r in found}
        out = Console(file=io.StringIO(), width=100)
        print_table(results, console=out)
        page, printed = write_report(degenerate).read_text(), " ".join(out.file.getvalue().split())
        told = json.loads(json.dumps(summary(results)))["budgets"][0]
        assert told["chance"] == pytest.approx(compare(results).chance)
        study = Study(degenerate)
        for remark in found:
            assert remark.text in printed
            assert remark.text in page.replace("\u00a0", " ").replace("&#39;", "'")
            assert remark._asdict() in told["remarks"]
            assert remark in table(results).attrs["remarks"]
            assert remark.text in study.remarks(0.2)
        assert "the baseline is not above chance" in study.sentence(0.2)
        assert "Chance: " in printed
