"""Retrieval: rankings by hand and by scikit-learn's neighbours, and a study from data to file."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from helpers import small
from helpers.support import task_of
from sidelight import load
from sidelight import metrics as m
from sidelight.config import CLASS_TASKS, load_config
from sidelight.errors import ConfigError, RunError
from sidelight.experiment.evaluate import build_predictions
from sidelight.export import load_student, predict_file
from sidelight.networks.network import Output
from sidelight.report import write_report
from sidelight.tasks import TASKS, resolve_task

RETRIEVAL = task_of("retrieval")


def at(*degrees: float) -> np.ndarray:
    """Embeddings in the plane by their angles."""
    turned = np.deg2rad(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], 1)


def naive(embedding: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Ranks from scikit-learn's neighbours, row by row; 0 without another row of the class."""
    index = NearestNeighbors(metric="cosine", algorithm="brute").fit(embedding)
    ranks = []
    for i, order in enumerate(index.kneighbors(embedding, len(embedding), return_distance=False)):
        hits = [target[j] == target[i] for j in order if j != i]
        ranks.append(1 + hits.index(True) if any(hits) else 0)
    return np.array(ranks)


# rankings -----------------------------------------------------------------------------------------------------------


def test_a_ranking_by_hand():
    """On a circle at 0°, 10°, 25°, 90°, 200°: classes a, b, a, c, b."""
    embedding, target = at(0, 10, 25, 90, 200), np.array([0, 1, 0, 2, 1])
    # 0°: 10 b, 25 a. 10°: 0, 25, 90, 200 b. 25°: 10 b, 0 a. 90°: nobody. 200°: 90, 25, 0, 10: 110, 175, 160, 170 apart.
    assert m.first_hit_ranks(embedding, target).tolist() == [2, 4, 2, 0, 3]
    assert m.nearest_neighbours(embedding).tolist() == [1, 0, 1, 2, 3]
    said = m.retrieval_scores(embedding, target)
    assert said["recall_at_1"] == 0  # of four queries
    assert said["median_rank"] == 2.5
    assert math.isnan(said["recall_at_5"])  # the gallery has four rows
    assert math.isnan(said["recall_at_10"])


@patch.object(m, "TIE", 1e-12)  # scikit-learn's order knows no ties
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 8), st.integers(1, 6))
def test_rankings_are_those_of_scikit_learn(seed, n, classes, width):
    rng = np.random.default_rng(seed)
    embedding, target = rng.normal(size=(n, width + 1)) * rng.uniform(0.1, 9, (n, 1)), rng.integers(0, classes, n)
    expected = naive(embedding, target)
    assert np.array_equal(m.first_hit_ranks(embedding, target), expected)
    ranks, said = expected[expected > 0], m.retrieval_scores(embedding, target)
    for k in m.RECALLS:
        wanted = np.mean(ranks <= k) if len(ranks) and k < n - 1 else np.nan
        assert said[f"recall_at_{k}"] == pytest.approx(wanted, nan_ok=True)
    assert said["median_rank"] == pytest.approx(np.median(ranks) if len(ranks) else np.nan, nan_ok=True)


@pytest.mark.parametrize("block", [1, 50, 333, 2**22])
def test_blocks_change_nothing(monkeypatch, block):
    rng = np.random.default_rng(0)
    embedding, target = rng.normal(size=(50, 4)), rng.integers(0, 5, 50)
    monkeypatch.setattr(m, "BLOCK", block)
    assert np.array_equal(m.first_hit_ranks(embedding, target), naive(embedding, target))
    cosine = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    assert np.array_equal(m.nearest_neighbours(embedding), (cosine @ cosine.T - 9 * np.eye(50)).argmax(1))


def test_no_more_than_a_block_of_cosines_is_held(monkeypatch):
    held = []
    monkeypatch.setattr(m, "BLOCK", 1000)
    for rows, cosine in m._cosines(np.random.default_rng(0).normal(size=(77, 3))):
        assert cosine.shape == (len(rows), 77)
        held.append(cosine.size)
    assert max(held) <= 1000
    assert sum(held) == 77**2


def test_a_collapsed_embedding_finds_nothing():
    """Rows as near as the first of the own class stand before it, also where rounding says otherwise."""
    target = np.array([0, 0, 1, 1, 1])
    for embedding in (np.ones((5, 3)), np.zeros((5, 3)), 1 + 1e-8 * np.random.default_rng(0).normal(size=(5, 3))):
        assert m.first_hit_ranks(embedding, target).tolist() == [4, 4, 3, 3, 3]
        assert m.retrieval_scores(embedding, target)["recall_at_1"] == 0


@pytest.mark.parametrize("degrees", [0, 1e-4, 40, 90, 140, 180])
def test_an_embedding_that_has_collapsed_to_two_directions_finds_nothing(degrees):
    """The gallery lies in one direction, but for the rounding of float32; the query at an angle to it, so that cosines
    differ by as much as the directions do."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        axes = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
        query, gallery = axes[0], np.cos(np.deg2rad(degrees)) * axes[0] + np.sin(np.deg2rad(degrees)) * axes[1]
        rows = np.stack([query, *[gallery] * 4]) * rng.uniform(0.1, 9, (5, 1))
        assert m.first_hit_ranks(rows.astype(np.float32), np.array([0, 0, 1, 1, 1]))[0] == 4


def test_directions_that_float32_tells_apart_are_in_their_order():
    for degrees in (0, 1e-3, 40, 90, 140):
        embedding = at(0, degrees + 2e-4, degrees + 4e-4).astype(np.float32)
        assert m.first_hit_ranks(embedding, np.array([0, 0, 1]))[0] == 1


def test_length_means_nothing_and_neither_does_a_rotation():
    rng = np.random.default_rng(1)
    embedding, target = rng.normal(size=(40, 5)), rng.integers(0, 6, 40)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    for other in (embedding * rng.uniform(0.1, 100, (40, 1)), embedding @ turn):
        assert np.array_equal(m.first_hit_ranks(other, target), m.first_hit_ranks(embedding, target))


def test_an_embedding_that_is_not_finite_measures_nothing():
    embedding, target = at(0, 1, 2, 3), np.array([0, 0, 1, 1])
    embedding[2, 0] = np.nan
    assert all(math.isnan(value) for value in m.retrieval_scores(embedding, target).values())


# the task -----------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_fused_embedding_at_length_one():
    fused = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    answer = RETRIEVAL.answer(Output(torch.randn(2, 3), fused, {}))
    torch.testing.assert_close(answer, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert RETRIEVAL.decide(answer).shape == (2, 2)


def test_training_is_that_of_a_classification():
    prediction, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    plain, known = task_of("classification"), torch.ones(6, dtype=torch.bool)
    assert torch.equal(RETRIEVAL.loss(prediction, target, known), plain.loss(prediction, target, known))
    assert torch.equal(RETRIEVAL.class_codes(target), target)
    assert RETRIEVAL.kind == "classification"


def test_tasks_of_classes_are_named_where_no_torch_is():
    """config.py must not import what imports torch."""
    assert [name for name, task in TASKS.items() if name != task.kind == "classification"] == list(CLASS_TASKS)


@pytest.mark.parametrize("target", [[], [0], [0, 0], [0, 1, 2]])
def test_rows_that_cannot_be_retrieved_are_refused_with_the_mend(target):
    assert "Ask for fewer folds" in RETRIEVAL.explain_unmeasurable(np.array(target, dtype=np.int64))
    assert not RETRIEVAL.explain_unmeasurable(np.array([0, 1, 1]))


@pytest.mark.filterwarnings("ignore:folds=2 is ignored")
def test_a_fold_without_a_pair_is_refused_before_anything_is_trained(tmp_path):
    """Of the official test rows only three keep a label, one of each class."""
    data = small.make_data()
    test = np.flatnonzero((data.split == "test") & data.labelled)
    keep = [test[data.target[test] == c][0] for c in range(3)]
    few = replace(data, labelled=data.labelled & ((data.split != "test") | np.isin(np.arange(len(data)), keep)))
    small.fold_models(tmp_path, few, protocol="official")
    with pytest.raises(RunError, match=r"test rows: no row can be retrieved.* 3 labelled rows of 3 classes"):
        small.fold_models(tmp_path, few, protocol="official", task="retrieval")


def test_the_task_must_suit_the_targets():
    with pytest.raises(
        ConfigError, match="retrieval needs the targets of a classification, but those of small are for reg"
    ):
        resolve_task(load_config({"task": "retrieval"}), small.make_data("regression"))
    assert resolve_task(load_config({}), small.make_data()).name == "classification"
    with pytest.raises(ConfigError, match="retreival"):
        load_config({"task": "retreival"})


# a study ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    settings = {"task": "retrieval", "methods": ["kl"], "training": {"epochs": 4, "patience": 4}, "seeds": 1}
    folder = tmp_path_factory.mktemp("retrieval")
    return small.study(folder, "phone-watch", available=[], privileged=[], label_fraction=[0.2], **settings)


def test_a_study_measures_what_students_retrieve(study, no_figures):
    recalls = [f"recall_at_{k}" for k in m.RECALLS]
    assert set(recalls) | {"median_rank"} <= set(study.results)
    assert (study.results[recalls].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert study.results.attrs["primary"] == "recall_at_1"
    assert "R@1" in write_report(study.folder).read_text()
    assert (study.results["recall_at_1"] > 0.3).all()  # six activities


def test_what_is_stored_is_what_the_student_retrieves(study):
    data = load("phone-watch")
    for folder in study.folder.glob("jobs/kl-*"):
        stored = pd.read_csv(folder / "predictions.csv")
        rows = [data.ids.tolist().index(str(i)) for i in stored.id]
        student = load_student(folder / "model.safetensors", task="retrieval")
        embedding = student.predict({name: data.inputs[name][rows] for name in student.reads})
        assert np.linalg.norm(embedding, axis=1) == pytest.approx(1, rel=1e-5)
        metrics = study.results.set_index(["method", "control", "labels", "fold"]).loc[
            ("kl", "", 0.2, int(folder.name.split("-f")[1][0]))
        ]
        expected = m.first_hit_ranks(embedding, data.target[rows])
        assert np.mean(expected == stored["rank"]) > 0.99  # the embeddings are made in other chunks
        by_neighbours = naive(embedding.astype(np.float64), data.target[rows])
        assert np.mean(expected == by_neighbours) > 0.99  # ties
        for k in m.RECALLS:
            assert metrics[f"recall_at_{k}"] == pytest.approx((stored["rank"] <= k).mean())
        assert (stored.target == stored.prediction).mean() == pytest.approx(metrics["recall_at_1"], abs=0.01)


def test_the_student_predicts_a_file_of_embeddings(study, tmp_path):
    data, student = load("phone-watch"), study.best().student
    rows = {name: data.inputs[name][:5] for name in student.reads}
    np.savez(tmp_path / "new.npz", **rows)
    frame = predict_file(student, tmp_path / "new.npz", tmp_path / "out.csv")
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written) == list(frame) == ["id", *[f"e{i}" for i in range(8)]]
    np.testing.assert_allclose(written.iloc[:, 1:], student.predict(rows), rtol=1e-4, atol=1e-6)
    assert student.predict({name: x[:0] for name, x in rows.items()}).shape == (0, 8)
    with pytest.raises(ConfigError, match="no probabilities; predict returns its embedding"):
        student.predict_proba(rows)


@pytest.mark.slow  # test_student.py, test_graph.py and test_segmentation.py write graphs
def test_an_exported_graph_answers_with_embeddings(study, tmp_path):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    student = study.best().student
    session = onnxruntime.InferenceSession(student.export(tmp_path / "student.onnx"))
    assert [out.name for out in session.get_outputs()] == ["embedding"]


def test_unlabelled_rows_have_no_rank():
    data = small.make_data()
    rows = np.arange(20)
    said = torch.nn.functional.normalize(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))
    frame = build_predictions(data, rows, said, RETRIEVAL)
    assert list(frame) == ["id", "group", "target", "prediction", "rank"]
    assert (frame["target"] == "").sum() == (~data.labelled[:20]).sum()
