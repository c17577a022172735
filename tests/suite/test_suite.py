"""Suites: what their files may say, what runs, what is told of failures, and the page across the sets."""

from __future__ import annotations

import html
import json
import re
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from helpers.small import BASE, make_data, merged
from helpers.synthetic_run import make_run
from sidelight import cli
from sidelight.errors import ConfigError, RunError, SidelightWarning, UnfinishedError
from sidelight.report.suite import StoredSuite
from sidelight.results import compare, hierarchical, load_results
from sidelight.results.across import Across, Line, compare_sets, summarize, table_of_sets
from sidelight.results.hierarchical import StudentT, hierarchical_t
from sidelight.suite import Suite, read_suite, run_suite

SETS = ("walking", "stress", "digits", "gait", "pain")
SMALL: dict[str, Any] = {"folds": 3, "seeds": 1, "budgets": (0.2,), "methods": ("kl", "mse", "pkdot")}


@pytest.fixture(scope="module", autouse=True)
def fewer_draws():
    """tests/results/test_hierarchical.py holds the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, fewer in (("CHAINS", 40), ("WARM_UP", 15), ("DRAWS", 50)):
            patch.setattr(hierarchical, name, fewer)
        yield
    hierarchical._find_posterior.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five sets by accuracy and one by CCC, one that failed and one that waits."""
    out = tmp_path_factory.mktemp("suites") / "suite"
    for i, name in enumerate(SETS):
        controls = (("kl", "placebo"),) if i < 4 else ()
        make_run(out / name, controls=controls, skill={"kl": 0.4 + 0.05 * i, "mse": 0.1 * (-1) ** i}, **SMALL)
    make_run(out / "arousal", task="regression", controls=(), **SMALL | {"methods": ("mse", "pkdot")})
    left_out = {"arousal": {"kl": "it needs classes"}}
    stored = StoredSuite(out, [*SETS, "arousal", "gone", "later"], {"gone": "DataError: gone.csv is gone"}, left_out)
    stored.save()
    return out


@pytest.fixture(scope="module")
def stored(folder):
    return StoredSuite.load(folder)


def text(markup: str) -> str:
    bare = re.sub(r"<(style|svg)\b.*?</\1>", " ", markup, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).replace("\u00a0", " ").split())


def test_a_method_is_compared_over_the_sets_that_have_it(folder, stored):
    lines = {(line.method, line.against): line for line in stored.across.lines}
    kl, mse = lines["kl", "baseline"], lines["mse", "baseline"]
    assert kl.sets == SETS
    assert mse.sets == (*SETS, "arousal")
    assert lines["kl", "placebo"].sets == SETS[:4]
    assert ("mse", "placebo") not in lines
    # The numbers are those of the model, on what each table says.
    rows = [compare(load_results(folder / name)).rows["kl"].difference for name in SETS]
    means = [row.mean for row in rows]
    assert kl.posterior.average.mean == pytest.approx(sum(means) / 5, abs=0.02)
    assert min(means) - 0.02 < min(kl.posterior.sets)
    assert max(kl.posterior.sets) < max(means) + 0.02
    assert sum(kl.posterior.p) == pytest.approx(1)


def test_the_page_says_what_was_found_and_what_is_missing(folder, stored, capsys):
    assert cli.main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "suite.html")
    page = (folder / "suite.html").read_text()
    said = text(page)
    assert summarize(stored.across) in said
    assert "gone ended with an error and is not compared. DataError: gone.csv is gone" in said
    assert "Without results yet: later" in said
    assert "6 of 8 have results" in said
    assert "A picture only: the rank of each mean, averaged over the 6 data sets" in said
    assert "compared by different metrics (accuracy, CCC)" in said
    assert "arousal, kl: it needs classes" in said
    for sentence in stored.across.sentences():
        assert sentence in said
    assert 'href="walking/report.html"' in page
    assert "<script" not in page
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org", "", page)
    wide = table_of_sets(stored.compared)
    assert list(wide.index) == ["baseline", "kl", "mse", "pkdot", "all labels", "teacher"]
    assert pd.isna(wide.loc["kl", "arousal"])
    assert wide.loc["mse", "gait"] == compare(load_results(folder / "gait")).rows["mse"].mean
    long = pd.read_csv(folder / "suite.csv")
    assert len(long) == sum(len(c.rows) for c in stored.compared.values())
    lines = pd.read_csv(folder / "across.csv").set_index(["method", "against"])
    assert lines.loc[("kl", "baseline"), "sets"] == 5
    p = lines.loc[("kl", "baseline"), ["p_worse", "p_equal", "p_better"]]
    assert tuple(p) == pytest.approx(stored.across.lines[0].posterior.p)


def test_rows_of_a_suite_are_not_subtracted(folder, capsys):
    assert cli.main(["report", str(folder), "--between", "kl", "mse"]) == 2
    assert "name the run of a data set" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"is the folder of a suite\. Name the run of one of its data sets"):
        load_results(folder)


def test_few_sets_have_no_ranks_and_two_have_no_expectation(stored):
    few = compare_sets({name: stored.compared[name] for name in SETS[:4]})
    assert few.ranks == {}
    assert few.unit.noun == "points"
    two = compare_sets({name: stored.compared[name] for name in SETS[:2]})
    assert two.lines[0].verdict == "unknown"
    assert "at least 3 that can be compared, and there are 2" in summarize(two)
    assert "2 of at least 3 can be compared" in two.sentences()[0]
    assert "there are 0" in summarize(compare_sets({}))


def test_ranks_are_of_what_every_set_has_and_know_which_way_is_better(stored):
    assert set(stored.across.ranks) == {"baseline", "mse", "pkdot"}
    five = compare_sets({name: stored.compared[name] for name in SETS}).ranks
    assert next(iter(five)) == "kl"
    assert sum(five.values()) == pytest.approx(10)


def test_the_answer_in_a_sentence_for_each_outcome(stored):
    sure = [(0.1, 0.005, 14)] * 5
    flat = [(0.0, 0.001, 14)] * 5

    def line(name, effects):
        return Line(name, "baseline", SETS, {}, hierarchical_t([StudentT(*e) for e in effects], 0.01))

    def answer(*lines):
        return summarize(Across(stored.compared, 0.01, 0.95, lines))

    better, equal = line("kl", sure), line("mse", flat)
    worse = line("rkd", [(-m, s, k) for m, s, k in sure])
    torn = line("sp", [(0.1, 0.01, 14), (-0.1, 0.01, 14), (0.02, 0.01, 14)])
    assert [part.verdict for part in (better, equal, worse, torn)] == ["better", "equal", "worse", "unclear"]
    assert answer(better, equal, worse, torn) == (
        "Of 4 methods, each with 95 % or more: 1 expected to help on a next data set (kl); 1 practically equal to the "
        "baseline there (mse); 1 worse than the baseline there (rkd); 1 without a clear expectation."
    )
    assert answer(torn, replace(torn, method="pkt")).startswith("Of 2 methods, none is expected with 95 % to help")
    assert answer(torn).startswith("The one method is not expected")


@pytest.fixture
def write(tmp_path):
    def write(tree: Any) -> Path:
        path = tmp_path / "many.yaml"
        path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False))
        return path

    return write


def test_sets_have_the_shared_settings_and_their_own(write, tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n")
    shared = {"methods": ["kl", "mse"], "placebo": ["kl"], "training": {"epochs": 7, "stack": 0}, "output": "runs/x"}
    sets = {
        "phone-watch": None,
        "mine": {"data": "rows.csv", "training": {"epochs": 3}, "methods": ["mse"], "target": ["b"]},
    }
    plan = read_suite(write({**shared, "sets": sets}), ["seeds=2"])
    first, second = plan.sets.values()
    assert plan.output == Path("runs/x")
    assert (first.data, first.output, first.training.epochs, first.seeds) == ("phone-watch", "runs/x/phone-watch", 7, 2)
    assert (second.data, second.training.epochs, second.training.stack) == (str(tmp_path / "rows.csv"), 3, 0)
    assert (second.methods, second.placebo) == (["mse"], ["none"])  # the shared placebo is of a method of others
    assert plan.own_methods == {"mine"}
    assert read_suite(write({"sets": sets}), output="there").output == Path("there")
    assert read_suite(write({"sets": sets})).output == Path("runs/many")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, "`sets` is missing. Name the data sets under it"),
        ({"sets": {}}, r"`sets` is \{\}"),
        ({"sets": ["phone-watch"]}, r"`sets` is \['phone-watch'\]"),
        ("sets:\n  a: {}\n  a: {}\n", "the setting 'a' is given twice"),
        ({"sets": {"A": {}, "a": {}}}, "'a' and 'A' differ in capitals alone"),
        ({"sets": {"a/b": {}}}, "'a/b' is no name for a set"),
        ({"sets": {"..": {}}}, "'..' is no name for a set"),
        ({"sets": {"suite.html": {}}}, "files of the suite end so"),
        ({"sets": {3: {}}}, "3 is no name for a set"),
        ({"sets": {"a": 5}}, "sets.a: expected settings"),
        ({"sets": {"a": {"fold": 3}}}, "sets.a: unknown setting 'fold'. Did you mean 'folds'"),
        ({"sets": {"a": {"folds": 0}}}, "sets.a: folds must be"),
        ({"sets": {"a": {"output": "x"}}}, "sets.a: output: a set's folder"),
        ({"sets": {"a": {"methods": ["lk"]}}}, "sets.a: unknown method 'lk'"),
        ({"methods": ["lk"], "sets": {"a": {}}}, "unknown method 'lk'"),
        ({"placebo": ["lk"], "sets": {"a": {}}}, "unknown method of placebo 'lk'"),
        ({"data": "phone-watch", "sets": {"a": {}}}, "data: each set of a suite has its own"),
        ({"setz": 3, "sets": {"a": {}}}, "unknown setting 'setz'"),
    ],
)
def test_bad_suites_are_one_sentence_before_anything_is_trained(write, tree, expected):
    path = write(tree)
    with pytest.raises(ConfigError, match=expected) as error:
        read_suite(path)
    assert str(error.value).startswith(str(path))


def test_bad_arguments(tmp_path, capsys):
    with pytest.raises(ConfigError, match="unknown set of the suite 'b'"):
        run_suite({"sets": {"a": {}}}, data={"b": None}, output=str(tmp_path))
    with pytest.raises(ConfigError, match="a suite has several"):
        read_suite({"sets": {"a": {}}}, ["data=x"])
    with pytest.raises(RunError, match="is not the folder of a suite"):
        Suite(tmp_path)
    assert cli.main(["suite"]) == 2
    assert "suite needs a file" in capsys.readouterr().err


def test_a_suite_runs_goes_on_after_a_failure_and_is_resumed(tmp_path, write, capsys):
    tree = merged(BASE, {"methods": ["kl"], "training": {"epochs": 1}, "sets": {"one": {}, "gone": {}, "two": {}}})
    tree["sets"]["two"] = {"task": "regression", "methods": ["mse"]}
    data = {"one": make_data(n=60, groups=8), "two": make_data("regression", n=60, groups=8)}
    place = {"output": str(tmp_path / "out"), "data": data, "quiet": True}
    with pytest.warns(SidelightWarning, match="gone ended with an error, and the other sets go on"):
        suite = run_suite(tree, **place)
    assert list(suite.failures) == ["gone"]
    assert suite.failures["gone"].startswith("DataError: no such file or folder, and unknown built-in data set 'gone'")
    assert set(suite.stored.compared) == {"one", "two"}
    assert suite.study("one").folder == tmp_path / "out" / "one"
    assert "at least 3" in summarize(suite.across())
    with pytest.raises(RunError, match=r"already holds results \(one, two\)\. Continue it with --resume"):
        run_suite(tree, **place)

    # Resumed with another method for all: what cannot have it goes on without it, and nothing is trained again.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/jobs/*/job.json")}
    del tree["sets"]["gone"], tree["sets"]["two"]["methods"]
    tree["methods"] = ["kl", "mse"]
    suite = run_suite(tree, resume=True, **place)
    assert suite.failures == {}
    assert list(suite.stored.left_out["two"]) == ["kl"]
    assert set(suite.study("one").table().method) >= {"kl", "mse"}
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    assert json.loads((tmp_path / "out" / "suite.json").read_text())["sets"] == ["one", "two"]


def test_the_verb_prints_plan_answers_and_failures(tmp_path, write, capsys, monkeypatch):
    path = write({"methods": ["kl", "mmanet"], "sets": {"synthetic-few-rows": {}, "gone": {"data": "gone.csv"}}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(["suite", str(path), "--dry-run", "--seeds", "2"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"synthetic-few-rows: \d+ jobs over \d+ folds x 2 seeds, 1 methods", said)
    assert "without mmanet: method 'mmanet' helps a student that reads any subset" in said
    assert "gone: cannot be run." in said
    assert not (tmp_path / "runs").exists()


def test_a_suite_that_is_stopped_has_not_failed(tmp_path, monkeypatch):
    asked = []

    def stopped(*_: Any, **how: Any) -> None:
        asked.append(how)
        raise UnfinishedError("stopped at the time limit.")

    monkeypatch.setattr("sidelight.suite.execute", stopped)
    tree = {**BASE, "methods": ["kl"], "sets": {"one": {}, "two": {}}}
    data = {name: make_data(n=40, groups=8) for name in tree["sets"]}
    with pytest.raises(UnfinishedError):
        run_suite(tree, output=str(tmp_path), data=data, time_limit=60)
    (how,) = asked  # the second set is not begun
    assert time.time() + 30 < how["until"] < time.time() + 60
    assert Suite(tmp_path).failures == {}
