import errno
import io
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from helpers.slow import mostly_slow
from helpers.synthetic_run import make_run
from sidelight import metrics
from sidelight.errors import RunError, SidelightWarning
from sidelight.results import (
    budgets,
    compare,
    get_budget,
    load_results,
    nadeau_bengio,
    print_table,
    sentence,
    summary,
    table,
    verdict,
)
from sidelight.results.printing import legend
from sidelight.results.units import LOWER_IS_BETTER, labels_phrase, number, unit
from sidelight.utils.atomic import remove_leftovers, write_atomic, write_folder_atomic


def frame(scores, folds=5, seeds=3, labels=0.2, metric="accuracy", noise=0.01, select=None):
    """Results in which a row scores `scores[name]` plus noise of the pair and of its own. Names as `kl~placebo`."""
    rows = []
    for name, mean in scores.items():
        method, _, control = name.partition("~")
        share = 1.0 if method == "all labels" else labels
        method = "baseline" if method == "all labels" else method
        own = np.random.default_rng(list(name.encode()))
        for seed in range(seeds):
            for fold in range(folds):
                pair = np.random.default_rng([fold, seed]).normal(0, 0.05)
                value = mean + pair + own.normal(0, noise)
                rows.append(
                    {
                        **{"method": method, "control": control, "labels": share, "fold": fold, "seed": seed},
                        **{"select": (select or {}).get(name, value), metric: value},
                        **{"seconds": 2.0, "n_train": 400, "n_test": 100},
                    }
                )
    return pd.DataFrame(rows)


HELPS = {"baseline": 0.69, "teacher": 0.91, "kl": 0.82, "kl~placebo": 0.695, "pkdot": 0.71, "all labels": 0.818}


class TestStore:
    def test_one_row_per_finished_job(self, tmp_path):
        run = make_run(tmp_path / "run", folds=2, seeds=1)
        results = load_results(run)
        assert len(results) == 2 * 7
        assert list(results.columns) == [
            *("method", "control", "labels", "fold", "seed", "select"),
            *("accuracy", "unweighted_accuracy", "macro_f1", "seconds", "n_train", "n_test"),
            *("select_labels", "best_epoch", "ended", "lacks_train", "lacks_select", "lacks_test"),
        ]
        assert results.attrs["primary"] == "accuracy"
        stored = pd.read_csv(run / "results.csv", keep_default_na=False)
        unknown = ["lacks_train", "lacks_select", "lacks_test"]  # to jobs of earlier versions
        assert results[unknown].isna().all(axis=None)
        pd.testing.assert_frame_equal(stored.drop(columns=unknown), results.drop(columns=unknown), check_dtype=False)

    def test_rows_follow_the_plan(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=1, methods=("pkdot", "kl"), controls=())
        assert list(load_results(run)["method"]) == ["baseline", "baseline", "teacher", "pkdot", "kl"]

    def test_unchanged_results_are_not_rewritten(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=1)
        load_results(run)
        before = (run / "results.csv").stat().st_ino
        load_results(run)
        assert (run / "results.csv").stat().st_ino == before

    @pytest.mark.parametrize("content", ["", '{"job": {"meth', "[1, 2]", '{"job": {"method": "kl"}}', "\0\0"])
    def test_a_job_that_is_not_whole_is_named_and_left_out(self, tmp_path, content):
        run = make_run(tmp_path / "run", folds=1, seeds=1)
        bad = run / "jobs" / "kl-l0.2-f0-s0" / "job.json"
        bad.write_text(content)
        with pytest.warns(SidelightWarning, match="kl-l0.2-f0-s0.*resume"):
            results = load_results(run)
        assert "kl" not in set(results["method"])
        assert len(results) == 6

    def test_a_copied_job_is_named_and_counts_once(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=1)
        jobs = run / "jobs"
        (run / "plan.json").unlink()
        (jobs / "copy").mkdir()
        (jobs / "copy" / "job.json").write_bytes((jobs / "kl-l0.2-f0-s0" / "job.json").read_bytes())
        with pytest.warns(SidelightWarning, match=r"to the job 'kl-l0\.2-f0-s0', not to 'copy': .* renamed or copied"):
            assert len(load_results(run)) == 7

    def test_jobs_of_an_earlier_plan_are_left_out(self, tmp_path):
        """A run resumed with fewer methods and seeds keeps the folders of the others."""
        run = make_run(tmp_path / "run", folds=2, seeds=2, skill={"kl": 2.0})
        fewer = make_run(tmp_path / "fewer", folds=2, seeds=1, methods=("pkdot", "pkdot+kl"), finished=0)
        (run / "jobs" / "kl-l0.2-f0-s0" / "job.json").write_text("not of the plan, so no warning either")
        (run / "plan.json").write_bytes((fewer / "plan.json").read_bytes())
        results = load_results(run)
        assert set(results["seed"]) == {0}
        assert "kl" not in set(results["method"])
        assert table(results).attrs["best"] == "pkdot+kl"
        assert len(pd.read_csv(run / "results.csv")) == len(results) == 2 * 6

    @pytest.mark.parametrize("plan", [None, "", "[]", '{"jobs": 3}', '{"jobs": []}'])
    def test_without_a_readable_plan_every_job_counts(self, tmp_path, plan):
        run = make_run(tmp_path / "run", folds=1, seeds=1)
        (run / "plan.json").unlink() if plan is None else (run / "plan.json").write_text(plan)
        assert len(load_results(run)) == 7

    def test_temporary_folders_are_no_jobs(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=1)
        os.rename(run / "jobs" / "kl-l0.2-f0-s0", run / "jobs" / ".kl-l0.2-f0-s0.1-a.tmp")
        assert len(load_results(run)) == 6

    def test_protocol_is_what_the_configuration_says(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=2, protocol="official")
        assert load_results(run).attrs["protocol"] == "official"
        for content in ("protocol: [", "- 3", "protocol: 3", ""):
            (run / "config.yaml").write_text(content)
            assert "protocol" not in load_results(run).attrs

    def test_a_run_without_a_finished_job_is_empty(self, tmp_path):
        run = make_run(tmp_path / "run", finished=0)
        results = load_results(run)
        assert results.empty
        assert "No job has finished" in sentence(results)
        assert summary(results)["budgets"] == []
        with pytest.raises(RunError, match="no job has finished"):
            table(results)

    def test_what_is_not_a_run_folder_is_named(self, tmp_path):
        with pytest.raises(RunError, match="nowhere is not a folder"):
            load_results(tmp_path / "nowhere")
        with pytest.raises(RunError, match=r"neither jobs/ nor config\.yaml"):
            load_results(tmp_path)

    def test_nothing_is_written_when_told(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=1)
        load_results(run, rebuild=False)
        assert not (run / "results.csv").exists()


class TestAtomic:
    def test_writes_and_replaces(self, tmp_path):
        path = tmp_path / "deep" / "file.txt"
        write_atomic(path, "für")
        write_atomic(path, b"two")
        assert path.read_bytes() == b"two"
        assert os.listdir(path.parent) == ["file.txt"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def test_a_full_disk_keeps_the_old_file_and_says_how_to_mend_it(self, tmp_path, monkeypatch, code):
        path = tmp_path / "results.csv"
        path.write_text("old")

        def full(_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot write .*results\.csv: .*(Free some space|permissions)"):
            write_atomic(path, "new")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["results.csv"]

    def test_a_path_through_a_file_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match=r"cannot write .*results\.csv"):
            write_atomic(tmp_path / "file" / "results.csv", "x")

    def test_folder_appears_whole(self, tmp_path):
        target = tmp_path / "jobs" / "kl-l0.2-f0-s0"
        with write_folder_atomic(target) as place:
            (place / "sub").mkdir()
            (place / "sub" / "a.txt").write_text("a")
            assert not target.exists()
        assert (target / "sub" / "a.txt").read_text() == "a"
        with write_folder_atomic(target) as place:
            (place / "b.txt").write_text("b")
        assert os.listdir(target) == ["b.txt"]
        assert os.listdir(target.parent) == [target.name]

    def test_folder_is_gone_after_an_exception(self, tmp_path):
        target = tmp_path / "job"

        def interrupted():
            with write_folder_atomic(target) as place:
                (place / "a.txt").write_text("a")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O: (os error 28)")]
    )
    def test_a_full_disk_while_building_a_folder(self, tmp_path, error):
        with (
            pytest.raises(RunError, match=r"cannot write .*job: .*Free some space"),
            write_folder_atomic(tmp_path / "job"),
        ):
            raise error
        assert os.listdir(tmp_path) == []

    def test_reading_a_missing_input_is_not_blamed_on_the_output(self, tmp_path):
        with pytest.raises(FileNotFoundError), write_folder_atomic(tmp_path / "out" / "job"):
            (tmp_path / "input.txt").read_text()

    def test_killed_writers_leave_nothing_that_looks_whole(self, tmp_path):
        code = (
            "import os, signal, sys; from pathlib import Path; from sidelight.utils.atomic import write_folder_atomic\n"
            "with write_folder_atomic(Path(sys.argv[1]) / 'job') as place:\n"
            "    (place / 'job.json').write_text('{}'); os.kill(os.getpid(), signal.SIGKILL)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert not (tmp_path / "job").exists()
        assert [p.name.endswith(".tmp") for p in tmp_path.iterdir()] == [True]
        remove_leftovers(tmp_path)
        assert os.listdir(tmp_path) == []


class TestTable:
    def test_rows_and_their_order(self):
        scores = {**HELPS, "kl@crossfit": 0.8, "kl~self": 0.7, "kl@crossfit~placebo": 0.7, "teacher~placebo": 0.6}
        assert list(table(frame(scores)).index) == [
            *("baseline", "kl", "kl~placebo", "kl~self", "kl@crossfit", "kl@crossfit~placebo", "pkdot"),
            *("all labels", "teacher", "teacher~placebo"),
        ]

    def test_differences_are_paired(self):
        results = frame(HELPS, noise=1e-6)
        row = table(results).loc["kl"]
        assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.13, 0.13, 0.13), abs=1e-5)
        assert row["sd"] > 0.03
        assert (row["n"], row["missing"]) == (15, 0)
        assert table(results.sample(frac=1, random_state=0)).loc["kl", "difference"] == pytest.approx(0.13)

    def test_pairs_with_one_side_are_dropped_and_counted(self):
        results = frame(HELPS)
        kept = results[~((results.method == "baseline") & (results.fold == 0) & (results.labels == 0.2))]
        rows = table(kept)
        assert (rows.loc["kl", "n"], rows.loc["kl", "missing"]) == (12, 3)
        assert rows.loc["kl", "mean"] == pytest.approx(table(results).loc["kl", "mean"])

    def test_effect_gap_and_probabilities(self):
        rows = table(frame(HELPS))
        assert rows.loc["kl", "effect"] == pytest.approx(0.125, abs=0.01)
        assert rows.loc["kl", "effect_low"] > 0.1
        assert rows.loc["kl", "gap"] == pytest.approx(13 / 22, abs=0.05)
        assert rows.loc["kl", "p_better"] > 0.99
        assert np.isnan(rows.loc["pkdot", "effect"])
        assert np.isnan(rows.loc["baseline", "difference"])
        assert np.isnan(rows.loc["teacher", "gap"])

    def test_gap_is_undefined_where_the_teacher_is_no_better(self):
        row = table(frame({"baseline": 0.7, "kl": 0.72, "teacher": 0.65})).loc["kl"]
        assert np.isnan(row["gap"])
        assert "teacher is not above" in row["note"]

    def test_best_is_chosen_on_select_never_on_test(self):
        results = frame(HELPS, select={"pkdot": 0.9, "kl": 0.1})
        assert table(results).attrs["best"] == "pkdot"
        assert sentence(results).startswith("With labels from 20 % of the training groups, pkdot ")

    def test_best_compares_the_pairs_that_all_have(self):
        """A method that has only finished the easy folds does not win by that."""
        results = frame({"baseline": 0.5, "a": 0.6, "b": 0.62})
        easy = results.groupby(["fold", "seed"])["select"].transform("mean").rank() > 30
        assert get_budget(results[(results.method != "a") | easy]).best == "b"

    def test_lower_is_better_metrics_are_signed(self):
        results = frame({"baseline": 3.0, "kl": 2.5, "teacher": 1.0}, metric="rmse", select={"kl": -2.5})
        row = table(results).loc["kl"]
        assert row["mean"] == pytest.approx(2.5, abs=0.05)
        assert row["difference"] == pytest.approx(0.5, abs=0.02)
        assert row["p_better"] > 0.99
        assert row["gap"] == pytest.approx(0.25, abs=0.02)
        assert "kl lowers RMSE over the baseline by 0.5" in sentence(results)
        worse = frame({"baseline": 2.5, "kl": 2.49, "teacher": 1.0}, metric="rmse", select={"kl": -2.5})
        assert "in RMSE (positive: lower)" in sentence(worse)
        assert "Lower is better; differences are positive where RMSE falls." in legend(compare(results))

    @pytest.mark.parametrize("score", mostly_slow([0.6, 0.5, 0.4], [0.5]))
    def test_equal_differences_are_no_evidence(self, score):
        """Neither in the verdict nor in the sentence, the printed table, or what other programs read."""
        means = {"baseline": 0.5, "kl": score, "kl~placebo": 0.45, "teacher": 0.9}
        results = frame(means)
        named = results["method"] + results["control"].map(lambda c: f"~{c}" if c else "")
        results = results.assign(accuracy=named.map(means))
        row = compare(results).rows["kl"]
        assert verdict(row) == summary(results)["budgets"][0]["verdict"] == "unclear"
        assert [row.difference.half, row.effect.half] == [math.inf] * 2
        assert np.isnan(row.gap[:3]).all()
        said = sentence(results)
        assert ", kl is not shown to help: its difference" in said
        assert "no interval: 15 pairs of fold and seed, all differences are the same: no variance to judge by);" in said
        assert "so the privileged modalities are not shown to help" in said
        assert summary(results)["budgets"][0]["rows"][1]["p_better"] is None
        out = io.StringIO()
        print_table(results, console=Console(file=out, width=100))
        shown = next(line for line in out.getvalue().splitlines() if "kl ●" in line)
        assert "± ∞" in shown
        assert "/" not in shown
        assert "nan" not in out.getvalue()

    def test_jobs_say_which_metrics_are_better_low(self, tmp_path):
        """Of a metric that this version does not know, or knows otherwise."""
        run = make_run(tmp_path / "run", folds=2, seeds=1)
        higher = load_results(run)
        for k, file in enumerate(sorted(run.glob("jobs/*/job.json"))):
            if k % 2:  # a run that was begun before jobs said so
                record = json.loads(file.read_text()) | {"higher_is_better": {"accuracy": False, "macro_f1": True}}
                file.write_text(json.dumps(record))
        lower = load_results(run)
        assert table(lower).loc["kl", "difference"] == -table(higher).loc["kl", "difference"]
        assert table(lower, metric="macro_f1").equals(table(higher, metric="macro_f1"))
        assert (summary(lower)["higher_is_better"], summary(higher)["higher_is_better"]) == (False, True)
        assert "worse than the baseline's" in sentence(lower)

    def test_directions_agree_with_the_metrics_themselves(self):
        known = {**metrics.CLASSIFICATION, **metrics.REGRESSION}
        assert {name for name, m in known.items() if not m.higher_is_better} == LOWER_IS_BETTER

    def test_seeds_of_leave_one_group_out_are_averaged(self):
        """They share the test rows of a fold, so four folds of three seeds are four differences."""
        results = frame(HELPS, folds=4)
        results.attrs["protocol"] = "leave-one-group-out"
        wide = results[results.labels == 0.2].pivot(
            index=["fold", "seed"], columns=["method", "control"], values="accuracy"
        )
        d = wide["kl", ""] - wide["baseline", ""]
        rows, expected = table(results), nadeau_bengio(d.groupby("fold").mean(), 400, 100)
        assert tuple(rows.loc["kl", ["difference", "low", "high"]]) == pytest.approx(expected[:3])
        assert (rows.loc["kl", "n"], rows.loc["kl", "missing"], rows.loc["baseline", "n"]) == (4, 0, 4)
        assert rows.loc["kl", "mean"] == pytest.approx(wide["kl", ""].mean())
        assert rows.loc["kl", "effect"] == pytest.approx((wide["kl", ""] - wide["kl", "placebo"]).mean())
        assert "4 folds" in sentence(results)
        assert "seeds are averaged" in rows.attrs["note"]

        lost = (results.method == "kl") & (results.control == "") & (results.seed == 2) & (results.fold < 2)
        lost |= (results.method == "kl") & (results.control == "") & (results.fold == 3)
        row = table(results[~lost]).loc["kl"]
        expected = nadeau_bengio([d[0][:2].mean(), d[1][:2].mean(), d[2].mean()], 400, 100)
        assert tuple(row[["difference", "low", "high"]]) == pytest.approx(expected[:3])
        assert (row["n"], row["missing"]) == (3, 2 + 3)

    def test_one_official_test_set_without_its_groups_has_no_verdict(self):
        """Scores alone cannot tell how other test rows would come out, however certain they are over seeds."""
        results = frame(HELPS, folds=1, seeds=4)
        results.attrs["protocol"] = "official"
        row = compare(results).rows["kl"]
        assert (row.difference.half, row.n) == (math.inf, 4)
        assert row.difference.mean == pytest.approx(0.13, abs=0.03)
        assert verdict(row) == "unclear"
        assert "no interval: 4 seeds of one test set, one test set, and no predictions" in sentence(results)
        assert "there is no verdict without its groups" in table(results).attrs["note"]

    def test_one_official_test_set_counts_its_groups(self, tmp_path):
        results = load_results(make_run(tmp_path / "run", folds=1, seeds=4, protocol="official"))
        c, few = compare(results), results[results.labels == 0.2]
        row, wide = c.rows["pkdot+kl"], few.set_index(["method", "control", "seed"]).sort_index()
        d = wide.loc["pkdot+kl", ""]["accuracy"] - wide.loc["baseline", ""]["accuracy"]
        assert row.difference.mean == pytest.approx(d.mean())
        assert (row.difference.n, c.rows["baseline"].n, c.counted) == (20, 20, "groups")
        assert 0 < row.difference.low < row.difference.mean < row.difference.high
        assert row.p.better > 0.9
        assert 0 < row.gap.low < row.gap.mean < row.gap.high < 1
        assert "20 groups × 4 seeds of one test set" in sentence(results)
        assert "n counts its groups" in c.note
        out = io.StringIO()
        print_table(results, console=Console(file=out, width=100))
        assert "test groups (n) × seeds" in " ".join(out.getvalue().split())
        assert "Nadeau" not in out.getvalue()
        two = compare(results[results["seed"] < 2]).rows["pkdot+kl"]  # two seeds may both be lucky
        assert (two.difference.half, two.n, verdict(two)) == (math.inf, 20, "unclear")
        assert "no verdict with fewer than 3" in two.note

    def test_damaged_predictions_of_an_official_test_set_are_named(self, tmp_path):
        run = make_run(tmp_path / "run", folds=1, seeds=2, protocol="official")
        (run / "jobs" / "pkdot+kl-l0.2-f0-s1" / "predictions.csv").write_text("")
        row = compare(load_results(run)).rows["pkdot+kl"]
        assert row.difference.half == math.inf
        assert "pkdot+kl-l0.2-f0-s1/predictions.csv cannot be read" in row.note

    def test_other_protocols_have_no_note(self):
        results = frame(HELPS)
        plain = table(results)
        results.attrs["protocol"] = "group-kfold"
        pd.testing.assert_frame_equal(table(results), plain)
        assert table(results).attrs["note"] == ""

    def test_budgets(self):
        both = pd.concat([frame(HELPS), frame({"baseline": 0.82, "kl": 0.83}, labels=1.0)])
        both = both.drop_duplicates(["method", "control", "labels", "fold", "seed"])
        assert budgets(both) == [0.2, 1.0]
        assert budgets(frame(HELPS)) == [0.2]  # all labels: the baseline alone, a reference
        assert "all labels" in table(both).index
        assert "all labels" not in table(both, 1.0).index
        with pytest.raises(RunError, match=r"label fraction '0.4'.*0\.2"):
            table(both, 0.4)

    def test_results_csv_is_enough(self, tmp_path):
        """What pandas reads back (empty control as NaN, no attrs) gives the same table."""
        run = make_run(tmp_path / "run", folds=2, seeds=2)
        results = load_results(run)
        again = pd.read_csv(run / "results.csv")
        pd.testing.assert_frame_equal(table(results), table(again))

    def test_a_run_in_progress(self, tmp_path):
        for jobs in (1, 2, 5, 12):  # of 21
            results = load_results(make_run(tmp_path / f"run{jobs}", folds=3, seeds=1, finished=jobs / 21))
            assert len(results) == jobs
            assert len(table(results)) > 0
            assert len(sentence(results)) > 20
            json.dumps(summary(results), allow_nan=False)


class TestWords:
    def test_helps_because_of_the_privileged_modalities(self):
        text = sentence(frame(HELPS))
        assert "kl improves accuracy over the baseline by 1" in text
        assert "15 pairs" in text
        assert re.search(
            r"with the privileged rows shuffled \(its placebo\) the gain is \+\d.\d, \d+ % of that\.$", text
        )

    def test_helps_as_much_with_the_placebo(self):
        text = sentence(frame({**HELPS, "kl~placebo": 0.83}))
        assert ", all of that, and kl minus its placebo is" in text
        assert "the privileged modalities are not shown to be the reason" in text

    def test_no_placebo(self):
        assert "no placebo has been run" in sentence(frame({"baseline": 0.7, "kl": 0.8}))

    def test_not_shown_to_help(self):
        text = sentence(frame({"baseline": 0.7, "kl": 0.702, "kl~placebo": 0.7}, noise=0.03))
        assert "kl is not shown to help" in text
        assert re.search(r"better by more than 1 point with probability \d+ %\)", text)
        assert "so the privileged modalities are not shown to help" in text

    def test_worse(self):
        assert "kl does not help: its accuracy is 5." in sentence(frame({"baseline": 0.7, "kl": 0.648}))

    def test_practically_equal(self):
        assert "kl is practically equal" in sentence(frame({"baseline": 0.7, "kl": 0.701}, noise=0.001))

    def test_small_gain_says_how_likely_it_matters(self):
        text = sentence(frame({"baseline": 0.7, "kl": 0.712}, noise=0.005))
        assert "improves" in text
        assert "more than 1 point with probability" in text

    def test_one_pair(self):
        text = sentence(frame(HELPS, folds=1, seeds=1))
        assert "kl cannot be judged yet: only one pair" in text

    def test_self_distillation_is_said(self):
        assert "taught by a baseline instead it gains +" in sentence(frame({**HELPS, "kl~self": 0.75}))

    def test_unfinished(self):
        assert "no baseline has finished" in sentence(frame({"kl": 0.7}))
        assert "no distillation method has finished" in sentence(frame({"baseline": 0.7}))

    def test_summary_is_plain_json(self):
        text = json.dumps(summary(frame(HELPS, folds=1, seeds=1)), allow_nan=False)
        first = json.loads(text)["budgets"][0]
        assert first["best"] == "kl"
        assert first["verdict"] == "unknown"
        assert first["rows"][1]["low"] is None
        assert first["rows"][1]["metrics"]["accuracy"] == pytest.approx(first["rows"][1]["mean"])

    def test_table_fits_a_terminal(self):
        long = {**HELPS, "pkdot-sidelight+kl@crossfit": 0.8, "pkdot-sidelight+kl@crossfit~placebo": 0.7}
        out = io.StringIO()
        print_table(frame(long), console=Console(file=out, width=100))
        text = out.getvalue()
        assert max(map(len, text.splitlines())) <= 100
        assert "pkdot-sidelight+kl@crossfit" in text
        assert "kl ●" in text
        assert "the gain is" in text

    @pytest.mark.parametrize(
        ("width", "gone"), [(80, {"sd", "s"}), (72, {"sd", "s", "lead"}), (60, {"sd", "s", "lead", "equal/worse"})]
    )
    def test_a_narrow_terminal_gets_fewer_columns_and_whole_names(self, width, gone):
        out = io.StringIO()
        long = {**HELPS, "pkdot-released": 0.8, "pkdot+kl@crossfit": 0.84, "pkdot+kl@crossfit~placebo": 0.7}
        print_table(frame(long), console=Console(file=out, width=width))
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        words = {"mean", "sd", "baseline", "equal/worse", "lead", "placebo", "s", "n"}
        assert words - set(" ".join(lines[2:4]).split()) == gone
        rows = [next((r for r in lines[5:] if r.startswith(f" {name} ")), "") for name in long if "~" not in name]
        assert all("15" in row for row in rows)
        assert any("pkdot+kl@crossfit ●" in row for row in rows)
        text = " ".join(out.getvalue().split())
        assert ("of the lead:" in text) == ("lead" not in gone)
        assert ("seconds of the network's own training" in text) == ("s" not in gone)

    def test_a_wide_terminal_says_what_the_seconds_are(self):
        out = io.StringIO()
        print_table(frame(HELPS), console=Console(file=out, width=100))
        assert "teachers and T-Nets are shared and not counted" in " ".join(out.getvalue().split())

    def test_table_of_nothing(self):
        out = io.StringIO()
        print_table(frame(HELPS)[:0], console=Console(file=out, width=100))
        assert "No job has finished" in out.getvalue()

    @pytest.mark.parametrize(
        ("value", "text"), [(0.126, "+12.6"), (-0.0001, "+0.0"), (-0.02, "−2.0"), (np.nan, "–"), (np.inf, "∞")]
    )
    def test_numbers(self, value, text):
        assert unit("accuracy").difference(value) == text

    def test_shares(self):
        assert labels_phrase(0.125) == "labels from 12.5 % of the training groups"
        assert number(-0.4, ".0f") == "0"

    @pytest.mark.parametrize(
        ("value", "spec", "text"),
        [
            (44923.4, ",.0f", "44,923"),
            (-1234567, "+,.1f", "−1,234,567.0"),
            (-0.04, "+.1f", "+0.0"),
            (-2e-9, ".1e", "−2.0e−09"),
        ],
    )
    def test_thousands_and_exponents(self, value, spec, text):
        assert number(value, spec) == text


def test_every_metric_in_the_summary_is_what_a_comparison_of_it_says():
    results = frame({"baseline": 0.7, "kl": 0.72, "teacher": 0.8}).assign(mae=lambda r: 1 - r["accuracy"] / 3)
    results.loc[(results["method"] == "kl") & (results["fold"] == 0), "mae"] = np.nan  # a metric may be undefined
    results.attrs |= {"primary": "accuracy", "class_names": ["a", "b"]}
    written = summary(results)["budgets"][0]["rows"]
    told = {row["name"]: row["metrics"] for row in written}
    for metric in ("accuracy", "mae"):
        rows = compare(results, metric=metric).rows
        for row in written:
            d, given = rows[row["name"]].difference, row["differences"][metric]
            want = [x if math.isfinite(x) else None for x in d[:3]]
            assert list(given.values()) == want
        assert {name: means[metric] for name, means in told.items()} == {n: row.mean for n, row in rows.items()}
    assert results.attrs["primary"] == "accuracy"  # the caller's are as they were
    assert all(not rows.attrs for rows in get_budget(results).rows.values())


@pytest.mark.slow  # test_page.py has a process that writes a report without torch
def test_results_import_no_torch():
    code = "import sys, sidelight.results, sidelight.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
