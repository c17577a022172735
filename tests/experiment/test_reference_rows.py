"""Reference rows: what they compute, where they are stored, and that nothing is chosen among them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from helpers.slow import mostly_slow
from helpers.small import BASE, make_data
from sidelight.config import load_config
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.experiment import Study, compare
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job, plan
from sidelight.experiment.reference import fit_reference
from sidelight.experiment.resolve import resolve
from sidelight.export import load_student
from sidelight.methods import parse_methods
from sidelight.results import between, headline
from sidelight.results import compare as compare_rows
from sidelight.results.between import list_differences
from sidelight.results.verdict import list_sentences, write_sentence

SETTINGS = {**BASE, "methods": ["kl"], "training": {**BASE["training"], "epochs": 1}}
ROWS = ["majority", "linear", "boosted", "warm-start"]
TASKS = ["regression", "segmentation", "anti-spoofing", "retrieval"]


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def study(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("reference") / "run"
    # At such a rate no weight moves, so that the warm start ends where the teacher is.
    training = {**SETTINGS["training"], "learning_rate": 1e-30}
    return compare(data, output=str(folder), quiet=True, **{**SETTINGS, "reference": ROWS, "training": training})


def record(study: Study, name: str, fold: int = 0) -> dict:
    return json.loads((study.folder / "jobs" / f"{name}-l1-f{fold}-s0" / "job.json").read_text())


def fold_data(data, **settings) -> FoldData:
    config = resolve(load_config({"data": "(in memory)", **SETTINGS, **settings}), data)
    return FoldData(config, data, 0, 0)


def test_linear_is_the_regularised_model_on_the_same_rows(study, data):
    fold = fold_data(data).fold
    train = fold.train[data.labelled[fold.train]]
    found = record(study, "linear")["model"]
    assert found == {"samples": len(train), "columns": 4, "C": found["C"]}
    scale = StandardScaler().fit(data.inputs["phone"][train])
    model = LogisticRegression(C=found["C"], max_iter=1000).fit(
        scale.transform(data.inputs["phone"][train]), data.target[train]
    )
    said = model.predict_proba(scale.transform(data.inputs["phone"][fold.test]))
    stored = pd.read_csv(study.folder / "jobs" / "linear-l1-f0-s0" / "predictions.csv")
    np.testing.assert_allclose(stored[[f"p.{name}" for name in data.class_names]], said, atol=2e-3)
    known = data.labelled[fold.test]
    right = (said.argmax(1) == data.target[fold.test])[known].mean()
    assert record(study, "linear")["metrics"]["accuracy"] == pytest.approx(right)


def test_majority_answers_the_most_common_class_of_the_training_labels(study, data):
    fold = fold_data(data).fold
    train = fold.train[data.labelled[fold.train]]
    common = np.bincount(data.target[train]).argmax()
    test = fold.test[data.labelled[fold.test]]
    assert record(study, "majority")["metrics"]["accuracy"] == pytest.approx((data.target[test] == common).mean())


def test_a_warm_start_has_the_weights_of_the_teacher(study):
    teacher, student = (
        load_student(study.folder / "jobs" / f"{name}-l1-f0-s0" / "model.safetensors").network.state_dict()
        for name in ("teacher", "warm-start")
    )
    shared = [name for name in student if name.startswith("encoders.phone")]
    assert shared
    assert all(np.allclose(student[name], teacher[name], atol=1e-6) for name in shared)


def test_they_are_in_table_and_csv_and_chosen_by_nothing(study):
    table = study.table()
    assert list(table.loc[ROWS, "role"]) == ["reference"] * 4
    assert table.loc[ROWS, "low"].notna().all()
    assert not table.loc[ROWS, "best"].any()
    assert [name for name in table.index if table.loc[name, "role"] == "method"] == ["kl"]  # what Holm counts
    stored = pd.read_csv(study.folder / "results.csv")
    assert sorted(stored["method"].value_counts()[ROWS]) == [2] * 4
    assert study.best_method(1.0) == "kl"
    assert between(study.results, "kl", "linear").interval.n == 2
    told = " ".join(list_sentences(compare_rows(study.results)))
    assert all(f"{name}: " in told for name in ("kl", *ROWS))
    assert [d.second for d in list_differences(compare_rows(study.results).budget)] == ["warm-start", "linear"]


def test_a_lost_or_damaged_one_is_made_again_to_the_byte(study, data):
    jobs = [study.folder / "jobs" / f"{name}-l1-f0-s0" / "predictions.csv" for name in ("linear", "boosted")]
    before = [path.read_bytes() for path in jobs]
    jobs[0].write_bytes(before[0][:-5])
    with pytest.warns(SidelightWarning, match="linear-l1-f0-s0"):
        compare(data, output=str(study.folder), quiet=True, resume=True, **_settings_of(study))
    assert [path.read_bytes() for path in jobs] == before


def _settings_of(study: Study) -> dict:
    return {**SETTINGS, "reference": ROWS, "training": {**SETTINGS["training"], "learning_rate": 1e-30}}


@pytest.mark.parametrize("task", mostly_slow(TASKS, ["regression"]))
def test_every_task(task, tmp_path, data):
    given = {"regression": {"methods": ["mse"]}, "anti-spoofing": {"live": "b"}}.get(task, {})
    rows = make_data(task) if task in ("regression", "segmentation") else data
    if task == "anti-spoofing":
        rows = replace(data, target=data.target.clip(max=1), class_names=("a", "b"))
    settings = {**SETTINGS, "task": task, "reference": ROWS[:3], "select_labels": "auto", **given}
    made = compare(rows, output=str(tmp_path / "run"), quiet=True, **settings)
    if task == "retrieval":
        assert made.config.reference == ["none"]
        return
    primary = made.results.attrs["primary"]
    means = made.results.groupby("method")[primary].mean() * (-1 if task == "anti-spoofing" else 1)
    assert means["linear"] > means["majority"]
    assert means["boosted"] > means["majority"] or task == "anti-spoofing"


def test_wide_rows_are_reduced_and_classes_weighed(data):
    wide = {**data.inputs, "phone": np.repeat(data.inputs["phone"], 60, axis=1)}
    rows = replace(data, inputs=wide, target=np.where(data.target == 2, 2, 0))
    job = Job("linear", "", 1.0, 0, 0)
    plain, _, found = fit_reference(fold_data(rows), job)
    weighed, _, _ = fit_reference(fold_data(rows, training={**SETTINGS["training"], "class_weights": "balanced"}), job)
    assert found["model"]["columns"] == 240
    assert (weighed.argmax(1) == 2).sum() > (plain.argmax(1) == 2).sum()


def test_what_cannot_be_is_refused(data):
    with pytest.raises(ConfigError, match=r"student\.init=teacher"):
        fold_data(data, reference=["warm-start"], student={"init": "random"})
    with pytest.raises(ConfigError, match="reference must be"):
        load_config({"reference": ["svm"]})
    with pytest.raises(ConfigError, match="'none' cannot"):
        load_config({"reference": ["none", "linear"]})
    assert load_config({"reference": None}).reference == ["none"]


def test_an_ablation_plans_what_is_missing_of_a_sum_and_placebos(data):
    config = fold_data(data, methods=["pkdot+kl+mse@crossfit", "kl"], ablation=True, placebo=["best"]).config
    parts = [f"{name}@crossfit" for name in ("kl+mse", "pkdot+mse", "pkdot+kl")]
    assert config.methods == ["pkdot+kl+mse@crossfit", "kl", *parts]
    assert config.placebo == ["best", "pkdot+kl+mse@crossfit", *parts]
    config = fold_data(data, methods=["pkdot+kl", "kl"], ablation=True).config
    assert (config.methods, config.placebo) == (["pkdot+kl", "kl", "pkdot"], ["none"])
    assert {job.method for job in plan(config, parse_methods(config.methods), 2, [1.0])} >= {"kl", "pkdot"}
    with pytest.raises(ConfigError, match="no method is a sum"):
        fold_data(data, ablation=True)


def make_results(scores: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = [
        {"method": name, "control": "", "labels": 1.0, "fold": pair % 5, "seed": pair // 5, "select": value}
        | {"accuracy": value, "seconds": 1.0, "n_train": 400, "n_test": 100}
        for name, values in scores.items()
        for pair, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_networks_below_the_linear_model_are_said_to_be():
    rng = np.random.default_rng(0)
    base = rng.normal(0.7, 0.02, 15)
    noise = {name: rng.normal(0, 0.004, 15) for name in ("baseline", "kl", "mse", "linear")}
    scores = {"baseline": base - 0.1, "kl": base - 0.05, "mse": base + 0.05, "linear": base}
    c = compare_rows(make_results({name: value + noise[name] for name, value in scores.items()}))
    texts = {remark.code: remark.text for remark in c.remarks}
    assert "difference −10" in texts["baseline_below_linear"]
    assert "kl accuracy 64.6" in texts["methods_below_linear"]
    assert "mse" not in texts["methods_below_linear"]
    assert headline(c) == "better"
    assert "But the baseline is below a linear model on the same inputs" in write_sentence(c)
    fine = {"baseline": base + 0.1, "mse": base + 0.05 + noise["mse"], "linear": base + noise["linear"]}
    above = compare_rows(make_results(fine))
    assert not [remark for remark in above.remarks if "linear" in remark.code]
