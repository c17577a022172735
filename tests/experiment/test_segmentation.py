"""A class per pixel through the whole chain: compared, stored, reported, deployed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from helpers.slow import mostly_slow
from helpers.small import differing, fold_models, make_data, outcome, study
from sidelight.data import load
from sidelight.errors import ConfigError, DataError
from sidelight.export import load_student, predict_file
from sidelight.metrics import mean_iou
from sidelight.report import write_report
from sidelight.tasks import Segmentation

pytestmark = [
    pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning", "ignore:transport:UserWarning"),
    pytest.mark.filterwarnings("ignore:folds=2 is ignored:UserWarning"),
]
LABELS = ("low", "middle", "high")
METHODS = ["kl", "pkdot"]
QUESTION = {
    "methods": METHODS,
    "placebo": ["kl"],
    "label_fraction": [0.5],
    "training": {"epochs": 3, "patience": 3, "batch_size": 24},
}


@pytest.fixture(scope="module")
def data():
    return make_data("segmentation", n=96)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "run"
    return study(folder, data, **QUESTION)


def jobs(run, name: str):
    return sorted(run.folder.glob(f"jobs/{name}-l*"))


def test_every_method_is_compared(run):
    table = run.table()
    assert {"baseline", "teacher", *METHODS, "kl~placebo"} <= set(table.index)
    assert set(run.results.attrs["higher_is_better"]) == {"miou", "pixel_accuracy", *(f"iou.{c}" for c in LABELS)}
    assert table.loc["teacher", "mean"] > table.loc["baseline", "mean"]  # the watch sees more
    assert table["mean"].between(0, 1).all()


def test_predictions_are_stored_as_counts_of_pixels(run, data):
    for folder in jobs(run, "kl"):
        stored, record = pd.read_csv(folder / "predictions.csv"), json.loads((folder / "job.json").read_text())
        counts = stored.filter(like="pixels.")
        assert list(counts) == [f"pixels.{t}.{p}" for t in LABELS for p in LABELS]
        rows = [list(data.ids).index(i) for i in stored["id"]]
        assert counts.to_numpy().sum() == (data.target[rows] >= 0).sum()
        assert counts.filter(like="pixels.low.").to_numpy().sum() == (data.target[rows] == 0).sum()
        assert mean_iou(counts.to_numpy().sum(0).reshape(3, 3)) == pytest.approx(record["metrics"]["miou"])


def test_a_few_test_rows_are_stored_whole(run, data):
    (folder,) = jobs(run, "kl-l0.5-f0"[:2])[:1]
    shown = load_file(folder / "examples.safetensors")
    student = load_student(folder / "model.safetensors")
    assert shown["row"].shape == (3,)
    assert np.array_equal(shown["target"], data.target[shown["row"]])
    assert np.array_equal(shown["prediction"], student.predict({"phone": data.inputs["phone"][shown["row"]]}))


def test_the_report_shows_miou_and_maps(run, texts_of_figures):
    page = write_report(run.folder).read_text()
    for said in ("mIoU", "IoU of middle", "Test rows, pixel by pixel", "What is confused with what", "Who gains",
                 "the share of pixels of the rarer classes", "of every pixel one of low, middle, high"):  # fmt: skip
        assert said in page


def test_what_is_missing_is_made_again_to_the_same_bits(run, data, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    for lost in ("jobs/pkdot-l0.5-f0-s0", "jobs/kl-l0.5-f1-s0", "shared"):
        shutil.rmtree(folder / lost)
    study(folder, data, resume=True, **QUESTION)
    unlike = differing(outcome(run.folder), outcome(folder))
    assert [name for name in unlike if not name.startswith("shared/")] == []


def test_whole_groups_lose_their_labels(data, tmp_path):
    made = fold_models(tmp_path, data, methods=["mse"]).data
    few, everyone = made.rows("train", 0.5), made.rows("train", 1.0)
    assert 0 < few.labelled.sum() < everyone.labelled.sum()
    assert (few.target[~few.labelled] == -1).all()
    groups = data.group[made.fold.train]
    for g in np.unique(groups[few.labelled.numpy()]):
        mine = torch.as_tensor(groups == g)
        assert torch.equal(few.labelled[mine], everyone.labelled[mine])


def test_a_fold_without_a_class_in_train_is_refused(data, tmp_path):
    target = data.target.copy()
    target[target == 2] = 0
    target[data.group == "g03"] = 2  # a class that one group alone has: not in train where it is tested
    with pytest.raises(DataError, match="no train row is of class 'high'"):
        fold_models(tmp_path, replace(data, target=target), fold=3, protocol="leave-one-group-out")


# the student ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(run):
    return load_student(jobs(run, "pkdot")[0] / "model.safetensors")  # with T-Nets for a map and for a signal


def test_a_student_says_a_class_for_every_pixel(student, data):
    assert isinstance(student.task, Segmentation)
    assert student.reads == ("phone",)
    phone = data.inputs["phone"][:20]
    said = student.predict({"phone": phone})
    assert (said.shape, said.dtype.kind) == ((20, 8, 12), "i")
    p = student.predict_proba({"phone": phone})
    assert p.shape == (20, 3, 8, 12)
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    assert np.array_equal(p.argmax(1), said)
    assert np.array_equal(student.predict({"phone": phone.transpose(0, 2, 3, 1)}), said)  # either way round
    assert np.array_equal(student.predict({"phone": phone.astype(np.float64)}), said)
    assert np.array_equal(student.predict({"phone": phone[3:4]}), said[3:4])  # whoever is beside it
    assert student.predict({"phone": phone[:0]}).shape == (0, 8, 12)
    with pytest.raises(DataError, match=r"'phone' has shape \(20, 3, 8, 11\); expected \(rows, 3, 8, 12\)"):
        student.predict({"phone": phone[..., 1:]})


def test_predictions_of_a_file_are_class_maps(student, data, tmp_path):
    np.savez(tmp_path / "new.npz", phone=data.inputs["phone"].transpose(0, 2, 3, 1), id=data.ids)
    shares = predict_file(student, tmp_path / "new.npz", tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as stored:
        maps = stored["prediction"]
        assert maps.dtype == np.uint8
        assert np.array_equal(maps, student.predict({"phone": data.inputs["phone"]}))
        assert stored["id"].tolist() == data.ids.tolist()
        assert tuple(stored["labels"]) == LABELS
    assert np.allclose(shares["share.middle"], (maps == 1).mean((1, 2)))
    with pytest.raises(DataError, match=r"unknown suffix for predictions '\.csv'"):
        predict_file(student, tmp_path / "new.npz", tmp_path / "maps.csv")


@pytest.mark.parametrize("suffix", mostly_slow([".onnx", ".pt2"], [".pt2"]))
def test_a_graph_says_what_torch_says(suffix, student, data, tmp_path):
    path = student.export(tmp_path / f"student{suffix}")
    phone = data.inputs["phone"][:5]
    if suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        probabilities, _ = session.run(None, {"phone": phone.astype(np.float32)})
    else:
        probabilities = torch.export.load(path).module()(torch.from_numpy(phone.astype(np.float32)))[0]
    assert np.allclose(probabilities, student.predict_proba({"phone": phone}), atol=1e-5)


def test_a_students_file_holds_all_of_it(student, data, tmp_path):
    again = load_student(student.save(tmp_path / "student.safetensors"))
    phone = {"phone": data.inputs["phone"][:4]}
    assert np.array_equal(again.predict_proba(phone), student.predict_proba(phone))
    told = json.loads((tmp_path / "student.json").read_text())
    assert told["network"]["size"] == [8, 12]
    assert told["preprocessor"]["modalities"]["phone"]["shape"] == [3, 8, 12]


def test_arrays_are_compared_without_more_words(tmp_path):
    """(N, H, W, 3) bytes, (N, H, W) depth and (N, H, W) classes: what most people have."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.repeat(rng.integers(0, 2, (24, 2, 3)), 4, 1), 4, 2).astype(np.uint8)
    arrays = {
        "rgb": (90 + 40 * y[..., None] + rng.normal(0, 30, (24, 8, 12, 3))).clip(0, 255).astype(np.uint8),
        "depth": (y + rng.normal(0, 0.1, y.shape)).astype(np.float16),
        "y": y,
        "group": np.arange(24) // 4,
    }
    changes = {"available": ["rgb"], "privileged": ["depth"], "methods": ["mse"]}
    made = study(tmp_path / "run", load(arrays), **changes)
    assert {"baseline", "teacher", "mse"} == set(made.table().index)
    with pytest.raises(ConfigError, match="class_balanced needs classes"):
        study(
            tmp_path / "other",
            load(arrays),
            **changes | {"methods": ["pkdot"]},
            transport={"anchors": "class_balanced"},
        )
