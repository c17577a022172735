"""Estimators in scikit-learn's form: columns, groups, privileged columns absent at `predict`, and errors of users."""

from __future__ import annotations

import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sidelight as sl
from sidelight.errors import ConfigError, DataError, SidelightError
from sidelight.estimators import base

PAGE = Path(__file__).parents[2] / "docs" / "estimators.md"
N = 96
SMALL = {"network": {"width": 8}, "training": {"least_steps": 4}}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    z = np.linspace(-2, 2, N)[rng.permutation(N)]
    return pd.DataFrame({"hr": z + 0.3 * rng.normal(size=N), "eda": rng.normal(size=N), "face.0": z, "face.1": -z})


@pytest.fixture(scope="module")
def y(frame: pd.DataFrame) -> np.ndarray:
    return np.where(frame["face.0"] > 0, "pain", "no")


GROUPS = np.repeat(np.arange(12), N // 12)


@pytest.fixture(scope="module")
def fitted(frame, y) -> sl.PrivilegedClassifier:
    model = sl.PrivilegedClassifier(["hr", "eda"], "face.", "kl", epochs=6, settings=SMALL)
    return model.fit(frame, y, groups=GROUPS)


def test_the_student_predicts_without_the_privileged_columns(fitted, frame, y):
    assert fitted.score(frame, y) > 0.75
    np.testing.assert_array_equal(fitted.predict_proba(frame), fitted.predict_proba(frame[["eda", "hr"]]))
    np.testing.assert_allclose(fitted.predict_proba(frame).sum(1), 1)
    assert list(fitted.classes_) == ["no", "pain"]
    assert fitted.n_features_in_ == 4
    assert list(fitted.feature_names_in_) == list(frame.columns)
    assert fitted.student_.reads == ("available",)
    assert fitted.student_.privileged == ("face",)
    assert "metrics" not in fitted.student_.meta


def test_the_student_is_saved_and_the_estimator_pickled(fitted, frame, tmp_path):
    student = sl.load_student(fitted.student_.save(tmp_path / "s.safetensors"))
    raw = {"available": frame[["hr", "eda"]].to_numpy()}
    np.testing.assert_array_equal(student.predict(raw), fitted.predict(frame))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(frame), fitted.predict(frame))


def test_nothing_is_left_on_the_disk(frame, y, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sl.PrivilegedClassifier(privileged="face.", method="baseline", epochs=1, settings=SMALL).fit(frame, y)
    assert not list(tmp_path.iterdir())


def test_cross_validation_by_groups_in_a_pipeline(frame, y):
    model = sl.PrivilegedClassifier(privileged="face.", method="kl", epochs=10)
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), clone(model))
    params = {"privilegedclassifier__groups": GROUPS}
    scores = cross_val_score(pipeline, frame, y, groups=GROUPS, cv=GroupKFold(2), params=params, error_score="raise")
    assert (scores > 0.6).all()


def test_the_same_seed_gives_the_same_answers_in_every_form(frame, y, fitted):
    again = clone(fitted).fit(frame, y, groups=GROUPS)
    np.testing.assert_array_equal(again.predict_proba(frame), fitted.predict_proba(frame))
    by_place = clone(fitted).set_params(available=[0, 1], privileged={"face": [2, 3]})
    by_place.fit(frame.to_numpy(), y, groups=GROUPS)
    np.testing.assert_array_equal(by_place.predict_proba(frame.to_numpy()), fitted.predict_proba(frame))
    np.testing.assert_array_equal(by_place.predict(frame.to_numpy()[:, :2]), fitted.predict(frame))


def test_a_dict_of_arrays_and_unlabelled_rows(frame, y, fitted):
    X = {"available": frame[["hr", "eda"]].to_numpy(), "face": frame[["face.0", "face.1"]].to_numpy()}
    model = clone(fitted).set_params(available="available", privileged="face")
    model.fit(X, y, GROUPS)
    np.testing.assert_array_equal(model.predict_proba({"available": X["available"]}), fitted.predict_proba(frame))
    more = clone(model).fit(X, y, GROUPS, X_unlabelled=X)
    assert (more.predict_proba(X) != model.predict_proba(X)).any()
    assert not hasattr(more, "n_features_in_")


def test_signals_of_variable_length(frame, y):
    rng = np.random.default_rng(0)
    signals = [rng.normal(size=(rng.integers(4, 9), 2)) + (label == "pain") for label in y]
    X = {"imu": signals, "face": frame[["face.0"]].to_numpy()}
    more = {"imu": rng.normal(size=(6, 20, 2)), "face": rng.normal(size=(6, 1))}
    model = sl.PrivilegedClassifier("imu", "face", "baseline", epochs=2, settings=SMALL)
    model.fit(X, y, X_unlabelled=more)
    padded = {"imu": np.zeros((3, 9, 2)), "imu_length": np.array([len(s) for s in signals[:3]])}
    for i in range(3):
        padded["imu"][i, : len(signals[i])] = signals[i]
    np.testing.assert_allclose(model.predict_proba(padded), model.predict_proba({"imu": signals})[:3], atol=1e-6)
    with pytest.raises(DataError, match="X_unlabelled: unknown column 'face'"):
        model.fit(X, y, X_unlabelled={"imu": more["imu"]})


def test_regression_of_one_and_of_several_values(frame):
    model = sl.PrivilegedRegressor(
        privileged="face.", method="baseline", epochs=20, settings={"training": {"patience": 20}}
    )
    values = 100 + 10 * frame["face.0"].to_numpy()
    assert model.fit(frame, values).score(frame, values) > 0.5
    both = clone(model).set_params(epochs=1).fit(frame, np.stack([values, -values], 1))
    assert both.predict(frame[["hr", "eda"]]).shape == (N, 2)


def test_rows_may_lack_a_privileged_modality_but_no_available_one(frame, y, fitted):
    gaps = frame.copy()
    gaps.loc[:20, ["face.0", "face.1"]] = np.nan
    clone(fitted).set_params(epochs=1).fit(gaps, y)
    gaps.loc[3, "hr"] = np.nan
    with pytest.raises(DataError, match="nan in row 3"):
        fitted.predict(gaps)
    with pytest.raises(DataError, match="nan in row 3"):
        clone(fitted).fit(gaps, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"privileged": "fcae."}, "privileged: no column starts with 'fcae.'.*Did you mean 'face"),
        ({"available": ["hr", "eda_"]}, "Did you mean 'eda'"),
        ({"available": ["hr"], "privileged": ["hr"]}, "'hr' is in available 'available' and in privileged"),
        ({"privileged": None}, "name the columns that exist in training only"),
        ({"available": ["hr", "eda", "face."], "privileged": None}, "no privileged column"),
        ({"method": "kll"}, "Did you mean 'kl'"),
        ({"settings": {"folds": 3}}, "'folds' is not for an estimator"),
        ({"settings": {"trainning": {}}}, "Did you mean 'training'"),
        ({"epochs": 0}, "training.epochs must be"),
    ],
)
def test_errors_of_parameters_name_the_mend(frame, y, params, message):
    model = sl.PrivilegedClassifier(**{"privileged": "face.", **params})
    with pytest.raises(ConfigError, match=message):
        model.fit(frame, y)


def test_errors_of_rows(frame, y, fitted):
    model = clone(fitted)
    with pytest.raises(ConfigError, match=r"privileged: no column starts with 'face\."):
        model.fit(frame[["hr", "eda"]], y)
    with pytest.raises(DataError, match="y has one class, 'no'"):
        model.fit(frame, ["no"] * N)
    with pytest.raises(
        DataError, match=r"predict needs the available column 'eda': unknown column 'eda'. Did you mean 'ed'"
    ):
        fitted.predict(frame.rename(columns={"eda": "ed"}))
    with pytest.raises(DataError, match="X is an array, but fit was given a DataFrame"):
        fitted.predict(frame.to_numpy())
    with pytest.raises(DataError, match="groups has shape"):
        model.fit(frame, y, groups=GROUPS[:5])


@pytest.mark.slow
def test_the_example_of_the_page_runs_and_is_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 12
    names: dict = {}
    exec(code, names)
    assert names["model"].score(names["X"], names["y"]) > 0.65
    assert sl.load_student("student.safetensors").reads == ("available",)


def test_groups_reach_fit_by_metadata_routing(frame, y):
    model = sl.PrivilegedClassifier(privileged="face.", method="baseline", epochs=1, settings=SMALL)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = model.set_fit_request(groups=True)
        scores = cross_val_score(routed, frame, y, cv=GroupKFold(2), params={"groups": GROUPS}, error_score="raise")
    assert len(scores) == 2


def test_rows_of_a_group_are_not_divided_between_train_and_select(frame, y, monkeypatch):
    protocols: list[str] = []
    resolve = base.resolve
    monkeypatch.setattr(
        base, "resolve", lambda config, data: protocols.append(config.protocol) or resolve(config, data)
    )
    model = sl.PrivilegedClassifier(privileged="face.", method="baseline", epochs=1, settings=SMALL)
    model.fit(frame, y, groups=GROUPS)
    model.fit(frame, y)
    assert protocols == ["group-kfold", "random"]
    with pytest.raises(SidelightError):  # one group cannot be in both parts
        model.fit(frame, y, groups=np.zeros(N))


def test_a_gap_in_y_names_the_place_of_rows_without_a_label() -> None:
    X = pd.DataFrame({"a": np.arange(8.0), "b": np.arange(8.0)})
    y = np.where(np.arange(8) == 3, np.nan, np.arange(8.0))
    with pytest.raises(ValueError, match=r"(?s)NaN.*X_unlabelled"):
        sl.PrivilegedRegressor(available=["a"], privileged=["b"]).fit(X, y)
