"""One student for any subset of the available modalities: what is missing is completed, never read."""

from __future__ import annotations

import copy
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.slow import mostly_slow
from helpers.small import fold_models, study
from helpers.support import NETWORK, SIZE, cast, make_rows, shapes_of, speech, task_of, trained_teacher
from sidelight.config import load_config
from sidelight.data import Dataset
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.experiment.assemble import assemble
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.experiment.resolve import resolve
from sidelight.export import Student, load_student, predict_file
from sidelight.methods import Distillation, Method, MethodSpec, Supervised, TrainState
from sidelight.networks.build import build_network, describe, feature_shape, rebuild
from sidelight.networks.hallucination import HallucinationNetwork, freeze, make_hallucinators
from sidelight.networks.modality_imputer import ModalityImputer
from sidelight.networks.network import Network
from sidelight.report import write_report
from sidelight.tasks import make_task
from sidelight.testing import (
    Subject,
    check_method,
    check_missing_modality_is_not_read,
    check_resume_is_exact,
    check_terms_are_finite_scalars,
)

AVAILABLE, PRIVILEGED = ("phone", "watch"), ("pulse",)
KIND = "both"  # some rows lack a label, others the watch


def student_network(task: str, slots: str = "", drop: float = 0.4) -> Network:
    """A fresh student that completes the phone or the watch; slots: what stands for the pulse."""
    torch.manual_seed(3)
    shapes, teacher = shapes_of(task), trained_teacher(task)
    hallucinators, features = {}, feature_shape(teacher)
    if slots == "t-net":
        hallucinators = make_hallucinators(features, AVAILABLE, PRIVILEGED)
        for tnet in hallucinators.values():
            tnet.trained_steps += 1
            freeze(tnet)
    elif slots == "encoder":
        own = {a: copy.deepcopy(teacher.encoders[a]) for a in AVAILABLE}
        hallucinators["pulse"] = HallucinationNetwork(own, {a: features[a] for a in own}, features["pulse"], "pulse")
    order = [*AVAILABLE, *PRIVILEGED] if slots else None
    size = SIZE if task == "segmentation" else ()
    outputs = task_of(task).outputs
    return build_network(shapes, AVAILABLE, outputs, NETWORK, order, hallucinators, size=size, drop=drop)


def subject(method: str, task: str, slots: str = "") -> Subject:
    """A baseline, or a sum of terms with the teacher of `support`, whose student leaves out and completes."""
    rows, teacher = make_rows(task, KIND), speech(task, KIND)

    def factory(dtype: torch.dtype) -> Method:
        network = student_network(task, slots).to(dtype)
        if method == "baseline":
            return Supervised(network, task_of(task))
        terms = MethodSpec.parse(method).losses(load_config(), task_of(task))
        return Distillation(network, cast(teacher, dtype), task_of(task), terms, rows.to(dtype)).to(dtype)

    return Subject(factory, rows, AVAILABLE, PRIVILEGED)


@pytest.mark.parametrize(
    ("method", "task", "slots"),
    [
        ("baseline", "classification", ""),
        ("kl", "classification", "t-net"),
        pytest.param("mers", "regression", "encoder", marks=pytest.mark.slow),
        pytest.param("fitnet", "segmentation", "", marks=pytest.mark.slow),
    ],
)
def test_such_a_student_keeps_the_contract(method, task, slots):
    check_method(subject(method, task, slots))


@cache
def dataset(n: int = 72) -> Dataset:
    rows = make_rows("classification", KIND, n=n)
    return Dataset(
        "small",
        {m: x.numpy() for m, x in rows.inputs.items()},
        rows.target.numpy(),
        rows.labelled.numpy(),
        "classification",
        task_of("classification").class_names,
        {m: there.numpy() for m, there in rows.present.items()},
        group=np.array([f"g{i // 6}" for i in range(n)]),
    )


@pytest.mark.parametrize("method", mostly_slow(["amid", "osmd", "mtnet", "admd"], ["amid"]))
def test_whole_methods_train_such_a_student_too(method, tmp_path):
    changes = {"available": list(AVAILABLE), "privileged": list(PRIVILEGED), "methods": [method]}
    options = {"options": {"amid": {"warmup": 0}}} if method == "amid" else {}
    of = fold_models(tmp_path, dataset(), student={"drop": 0.4}, **changes, **options)
    parts = JobContext(of, Job(method, "", 1.0, 0, 0))
    built, _ = assemble(MethodSpec.parse(method), parts)
    rows = parts.rows().materialize()
    made = Subject(lambda dtype: copy.deepcopy(built).to(dtype), rows, AVAILABLE, PRIVILEGED)
    assert built.deployed_network().completion is not None
    steps = [step.terms for step in built.train().steps(rows, TrainState())]
    assert any("complete" in terms for terms in steps)
    for check in (check_terms_are_finite_scalars, check_missing_modality_is_not_read, check_resume_is_exact):
        check(made)
    assert parts.trained_network(parts.available).completion is not None  # the baseline is trained alike
    assert parts.trained_network([*AVAILABLE, *PRIVILEGED]).completion is None


# what is left out, and the loss ---------------------------------------------------------------------------------------


def completion(drop: float, slots: str = "abc") -> tuple[ModalityImputer, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    shapes = dict(zip(slots, ((1, 4), (2, 3), (5, 2, 2))))
    return ModalityImputer(shapes, drop), {m: torch.randn(4000, *shape) for m, shape in shapes.items()}


def test_training_leaves_out_at_the_rate_asked_for_and_never_everything():
    made, features = completion(0.5)
    there = {"b": torch.arange(4000) % 2 == 0}
    shown = made.train()(features, there).visible
    whole = torch.stack(list(shown.values()), 1)
    assert whole.any(1).all()
    assert not shown["b"][~there["b"]].any()
    lone = whole[there["b"]].sum(1) == 1  # 3 ways to leave two out, and of the 1/8 where all would go one stays
    assert 0.46 < lone.float().mean() < 0.54
    last = shown["a"][there["b"] & (whole.sum(1) == 1)].float().mean()
    assert 0.29 < last < 0.38  # whichever stays is as likely as the others
    two = shown["a"][~there["b"]].float().mean()
    assert 0.59 < two < 0.66  # 1/2 + 1/8


def test_what_is_there_stays_as_it_is_and_the_rest_is_made_of_the_others():
    made, features = completion(0.5)
    there = {"a": torch.arange(4000) % 3 != 0}
    out, shown, losses = made.eval()(features, there)
    assert losses == {}
    assert list(shown) == ["a"]
    assert torch.equal(out["a"][there["a"]], features["a"][there["a"]])
    expected = made.completers["a"]({m: features[m] for m in "bc"})
    torch.testing.assert_close(out["a"][~there["a"]], expected[~there["a"]])
    assert out["b"] is features["b"]


def test_the_loss_by_hand():
    made, features = completion(1e-9, "ab")
    features = {m: f[:6].requires_grad_() for m, f in features.items()}
    there = {"a": torch.tensor([1, 1, 1, 0, 0, 1]).bool(), "b": torch.tensor([1, 1, 0, 1, 1, 1]).bool()}
    zeroed = {m: f * there[m].view(-1, 1, 1) for m, f in features.items()}
    loss = made.train()(zeroed, there).losses["complete"]
    both = there["a"] & there["b"]  # a row with one alone shows nothing to complete it from
    apart = [(made.completers[m]({o: features[o]}) - features[m])[both].square().mean() for m, o in ("ab", "ba")]
    torch.testing.assert_close(loss, sum(apart) / 2)
    encoders = torch.autograd.grad(loss, list(features.values()), retain_graph=True, allow_unused=True)
    assert all(g is None or not g.any() for g in encoders)
    assert all(g.any() for g in torch.autograd.grad(loss, list(made.parameters())))


def test_rows_that_show_nothing_else_teach_nothing_and_are_finite():
    made, features = completion(0.3, "ab")
    loss = made.train()({m: f[:1] for m, f in features.items()}, {"a": torch.zeros(1, dtype=torch.bool)})
    assert float(loss.losses["complete"].detach()) == 0


def test_without_drop_there_is_nothing_of_this():
    network = student_network("classification", drop=0)
    assert network.completion is None
    assert "drop" not in describe(network)
    with pytest.raises(ConfigError, match="'watch' is not among the inputs"):
        network(make_rows("classification").select_modalities(["phone"]))


def test_a_description_rebuilds_it():
    network = student_network("classification", "t-net").eval()
    told = json.loads(json.dumps(describe(network)))
    again = rebuild(told).eval()
    again.load_state_dict(network.state_dict())
    rows = make_rows("classification").select_modalities(["watch"])
    assert torch.equal(network(rows).prediction, again(rows).prediction)


def test_settings_that_cannot_be_are_refused():
    changes = {"privileged": ["pulse"], "methods": ["kl"], "data": "small"}
    with pytest.raises(ConfigError, match=r"only 'phone'\. Name another one in available, or set student\.drop=0"):
        resolve(load_config(changes | {"available": ["phone"], "student": {"drop": 0.3}}), dataset())
    with pytest.raises(ConfigError, match=r"student\.drop must be at least 0 and below 1, got 1\.0"):
        load_config({"student.drop": 1})
    both = changes | {"available": list(AVAILABLE)}
    with pytest.raises(DataError, match=r"'watch' is available, but row 1 lacks it .*student.drop=0.3"):
        resolve(load_config(both), dataset())
    resolve(load_config(both | {"student": {"drop": 0.3}}), dataset())
    data = copy.deepcopy(dataset())
    data.present["phone"][[1, 4]] = False
    with pytest.raises(DataError, match=r"row 1 has none of the available modalities phone, watch \(2 such rows\)"):
        resolve(load_config(both | {"student": {"drop": 0.3}}), data)


# the student that leaves ----------------------------------------------------------------------------------------------


N, STEPS = 24, 12


def toy(variable: bool = False) -> Dataset:
    rng = np.random.default_rng(0)
    inputs = {"acc": rng.normal(9, 3, (N, STEPS, 3)), "context": rng.normal(-2, 1, (N, 4))}
    lengths = {"acc": rng.integers(5, STEPS + 1, N)} if variable else {}
    group = np.repeat(["ann", "bob", "cid"], N // 3)
    labels = ("sit", "stand", "walk")
    return Dataset("toy", inputs, np.arange(N) % 3, np.ones(N, bool), "classification", labels, {}, lengths, group)


def make_student(encoder: str = "cnn", variable: bool = False, **how: str) -> Student:
    data = toy(variable)
    torch.manual_seed(0)
    signals = ["acc"] if encoder == "auto" else []
    preprocessor = Preprocessor.fit(data, np.arange(N), ["acc", "context"], signals, **how)
    config = load_config({"network": {"encoder": encoder, "width": 16, "tokens": 2}}).network
    network = build_network(preprocessor.shapes, ["acc", "context"], 3, config, drop=0.3)
    return Student(network, preprocessor, make_task("classification", data.class_names), {"privileged": ["watch"]})


@pytest.mark.parametrize("how", [{}, {"encoder": "auto"}, {"variable": True}, {"impute": "mean"}])
def test_a_missing_modality_and_rows_of_nan_are_the_same(how, tmp_path):
    student = make_student(**how)
    data = toy(how.get("variable", False))
    whole, group = data.inputs, data.group
    lengths = dict(data.lengths)
    everything = student.predict_proba(whole, lengths=lengths, group=group)
    for m, other in (("acc", "context"), ("context", "acc")):
        alone = {other: whole[other]}
        lengths = {o: n for o, n in data.lengths.items() if o in alone}
        said = student.predict_proba(alone, lengths=lengths)
        gone = {m: np.full_like(whole[m], np.nan), other: whole[other]}
        np.testing.assert_array_equal(said, student.predict_proba(gone, lengths=data.lengths))
        assert not np.allclose(said, everything)
        some = {m: whole[m].copy(), other: whole[other]}
        some[m][::2] = np.nan
        mixed = student.predict_proba(some, lengths=data.lengths)
        np.testing.assert_allclose(mixed[::2], said[::2], atol=1e-6)
        np.testing.assert_allclose(mixed[1::2], everything[1::2], atol=1e-6)
        again = load_student(student.save(tmp_path / f"{m}.safetensors"))
        np.testing.assert_array_equal(again.predict_proba(gone, lengths=data.lengths), said)
    assert student.predict({"acc": whole["acc"][:0]}).shape == (0,)


def test_what_cannot_be_predicted_is_named():
    student, x = make_student(), toy().inputs
    with pytest.raises(DataError, match="'acc' is missing: this student reads acc, context; got nothing"):
        student.predict({})
    with pytest.raises(DataError, match="'watch' is a privileged modality"):
        student.predict({"acc": x["acc"], "watch": x["context"]})
    gone = {m: v.copy() for m, v in x.items()}
    gone["acc"][3:5], gone["context"][[4, 7]] = np.nan, np.nan
    with pytest.raises(DataError, match=r"row 4 has none of acc, context \(1 such rows\)"):
        student.predict(gone)
    holed = x["context"].copy()
    holed[5, 2] = np.nan
    with pytest.raises(DataError, match=r"'context' is nan in row 5, column 2"):
        student.predict({"context": holed})


def test_groups_are_standardised_and_calibrated_by_the_rows_that_have_a_modality():
    student, data = make_student(standardize="group"), toy()
    x = {m: v.copy() for m, v in data.inputs.items()}
    x["context"][::3] = np.nan
    here = data.group == "bob"
    among = student.predict_proba(x, group=data.group)[here]
    student.calibrate({m: v[here] for m, v in x.items()}, data.group[here])
    np.testing.assert_allclose(
        student.predict_proba({m: v[here][:1] for m, v in x.items()}, group=["bob"]), among[:1], atol=1e-6
    )
    assert np.isfinite(among).all()


def test_files_may_lack_cells_or_a_whole_modality(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(N, 5)), columns=["a.x", "a.y", "b.x", "b.y", "b.z"])
    inputs = {"a": frame[["a.x", "a.y"]].to_numpy(), "b": frame[["b.x", "b.y", "b.z"]].to_numpy()}
    columns = {"a": ("a.x", "a.y"), "b": ("b.x", "b.y", "b.z")}
    data = Dataset("t", inputs, np.arange(N) % 2, np.ones(N, bool), "classification", ("no", "yes"), columns=columns)
    preprocessor = Preprocessor.fit(data, np.arange(N), ["a", "b"])
    network = build_network(preprocessor.shapes, ["a", "b"], 2, NETWORK, drop=0.3)
    student = Student(network, preprocessor, make_task("classification", data.class_names))
    frame.iloc[::2, :2] = np.nan
    frame.to_csv(tmp_path / "rows.csv", index=False)
    gaps = predict_file(student, tmp_path / "rows.csv")
    with pytest.warns(SidelightWarning, match="'a' is missing. There is: b. Its features are completed"):
        alone = predict_file(student, frame[list(columns["b"])])
    np.testing.assert_allclose(gaps["p.yes"][::2], alone["p.yes"][::2], atol=1e-6)
    with pytest.raises(DataError, match="reads a, b, but 'a' is missing"):
        predict_file(student, pd.DataFrame({"c.x": [1.0, 2.0]}))
    frame.iloc[2] = np.nan
    with pytest.raises(DataError, match="row 2 has none of a, b"):
        predict_file(student, frame)


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [
        (".pt2", "cnn"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((".onnx", "cnn"), (".onnx", "auto"), (".pt2", "auto"))
        ),
    ],
)
def test_a_graph_reads_which_modalities_are_there(suffix, encoder, tmp_path):
    if suffix == ".onnx":
        runtime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    student, data = make_student(encoder, variable=True), toy(variable=True)
    path = student.export(tmp_path / f"student{suffix}")
    here = np.arange(N) % 2 == 0
    x = {m: v.copy() for m, v in data.inputs.items()}
    x["acc"][~here] = np.nan
    expected = student.predict_proba(x, lengths=data.lengths)
    x["acc"][np.flatnonzero(~here)[1::2]] = 1e6
    given = {
        "acc": x["acc"], "acc_length": data.lengths["acc"], "present_acc": here,
        "context": x["context"], "present_context": np.ones(N, bool),
    }  # fmt: skip
    assert student.deployed.inputs == tuple(given)
    if suffix == ".onnx":
        said = runtime.InferenceSession(path).run(["probabilities"], given)[0]
    else:
        said = torch.export.load(path).module()(*map(torch.from_numpy, given.values()))[0].numpy()
    np.testing.assert_allclose(said, expected, atol=1e-5)


# a whole comparison ---------------------------------------------------------------------------------------------------


def redundant(n: int = 360) -> Dataset:
    """Two available modalities that both know the class, "sharp" better than "dim", and a privileged one."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=n)
    noise = {"dim": 0.4, "sharp": 0.1, "extra": 0.02}
    inputs = {m: hidden[:, None] + sd * rng.normal(size=(n, 3)) for m, sd in noise.items()}
    target = np.digitize(hidden, (-0.43, 0.43))
    return Dataset(
        "redundant", inputs, target, np.ones(n, bool), "classification", ("low", "middle", "high"),
        group=np.array([f"g{i % 12:02d}" for i in range(n)]),
    )  # fmt: skip


@pytest.mark.slow  # two studies; that each part does its work is tested above
def test_a_student_trained_to_do_without_does_better_without(tmp_path, no_figures):
    data = redundant()
    changes = {
        "available": ["dim", "sharp"], "privileged": ["extra"], "methods": ["kl"],
        "training": {"epochs": 8, "patience": 8}, "network": {"width": 16},
    }  # fmt: skip
    whole = study(tmp_path / "whole", data, **changes)
    gaps = copy.deepcopy(data)
    gaps.present["sharp"][::10] = False
    gaps.check()
    dropped = study(tmp_path / "drop", gaps, student={"drop": 0.4}, **changes)
    zeros, completed = [], []
    for method in ("baseline", "kl"):
        for fold in range(2):
            name = f"jobs/{method}-l1-f{fold}-s0"
            rows = pd.read_csv(whole.folder / name / "predictions.csv")["id"].to_numpy()
            student = load_student(whole.folder / name / "model.safetensors")
            x = {"dim": data.inputs["dim"][rows], "sharp": np.zeros((len(rows), 3))}
            zeros.append((student.predict(x) == np.array(data.class_names)[data.target[rows]]).mean())
            record = json.loads((dropped.folder / name / "job.json").read_text())
            assert set(record["subsets"]) == {"dim", "sharp"}
            assert record["metrics"]["accuracy"] > 0.75
            completed.append(record["subsets"]["dim"]["accuracy"])
    assert np.mean(completed) > np.mean(zeros) + 0.1, (completed, zeros)
    page = write_report(dropped.folder).read_text()
    assert "With one modality alone" in page
    assert "dim alone" in page
    assert "With one modality alone" not in write_report(whole.folder).read_text()
