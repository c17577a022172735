"""What a run may see, and when: test rows, hidden labels, placebos, cross-fitted teachers (DESIGN section 3)."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from helpers.slow import mostly_slow
from helpers.small import (
    BASE,
    changed_rows,
    curves,
    differing,
    fold_models,
    learnt,
    make_data,
    merged,
    outcome,
    tensors,
)
from sidelight.config import load_config
from sidelight.data import Dataset
from sidelight.data.batch import Batch
from sidelight.experiment import fold as fold_data
from sidelight.experiment import train_alone as alone
from sidelight.experiment.assemble import run_job
from sidelight.experiment.fold import FoldData, permute_modalities
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.resolve import resolve
from sidelight.export import load_student
from sidelight.methods import Distillation, Hallucination, Method
from sidelight.methods.pointwise import MSE
from sidelight.networks.network import compute_outputs
from sidelight.protocols import hide_labels

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
JOBS = [("kl@crossfit", ""), ("pkdot", ""), ("pkdot", "placebo"), ("mse", "self")]
REGRESSION = [("mse@crossfit", ""), ("pkdot", ""), ("pkdot", "placebo"), ("mse", "self")]
FEW = {"training": {"epochs": 2}, "teacher": {"crossfit": 2}}
OFFICIAL: dict[str, dict[str, Any]] = {
    "classification": FEW | {"protocol": "official"},
    "regression": FEW | {"protocol": "official", "network": {"encoder": "cnn", "tokens": 2}},
    "segmentation": FEW | {"protocol": "official", "standardize": "group"},
}


def train(folder: Path, data: Dataset, jobs: list[tuple[str, str]], labels: float = 1.0, **changes: Any) -> FoldModels:
    """Some jobs of one cell, with the teachers that they need."""
    made = fold_models(folder, data, methods=["mse"], **changes)
    for method, control in jobs:
        run_job(made, Job(method, control, labels, made.data.number, made.data.seed))
    return made


def fold_of(data: Dataset, fold: int = 0, seed: int = 0, **changes: Any) -> FoldData:
    config = resolve(load_config(merged(BASE | {"data": data.name, "methods": ["mse"]}, changes)), data)
    return FoldData(config, data, fold, seed)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Task -> the folder and cell of its jobs, at half of the labels and with the official split, trained once."""

    @functools.cache
    def made(task: str) -> tuple[Path, FoldModels]:
        folder = tmp_path_factory.mktemp(task)
        jobs = REGRESSION if task == "regression" else JOBS
        return folder, train(folder, make_data(task), jobs, 0.5, **OFFICIAL[task])

    return made


# test rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", mostly_slow(OFFICIAL, ["classification", "regression"]))
def test_test_rows_change_nothing_that_is_learnt(task, official, tmp_path):
    folder, made = official(task)
    jobs = REGRESSION if task == "regression" else JOBS
    changed = changed_rows(make_data(task), made.data.fold.test)
    check_test_rows(folder, made, tmp_path, train(tmp_path, changed, jobs, 0.5, **OFFICIAL[task]))


def test_test_rows_of_one_group_left_out_change_nothing_that_is_learnt(tmp_path):
    data, changes = make_data(), FEW | {"protocol": "leave-one-group-out", "standardize": "group"}
    made = train(tmp_path / "a", data, JOBS, **changes)
    other = train(tmp_path / "b", changed_rows(data, made.data.fold.test), JOBS, **changes)
    check_test_rows(tmp_path / "a", made, tmp_path / "b", other)


def check_test_rows(one: Path, made: FoldModels, two: Path, other: FoldModels) -> None:
    """Both runs have learnt the same of the same parts, and their test rows differed."""
    for part in ("train", "select", "test"):
        assert np.array_equal(getattr(other.data.fold, part), getattr(made.data.fold, part))
    a, b = learnt(one), learnt(two)
    kinds = {name.rpartition("/")[2].partition(".")[0] for name in a}
    assert {"job", "curves", "similarity", "network", "preprocessor"} <= kinds
    assert {"-tnets", "-crossfit"} <= {name.rpartition("s0")[2].partition(".")[0] for name in a if "shared/" in name}
    assert differing(a, b) == []
    predicted = [name for name in outcome(one) if name.endswith("predictions.csv")]
    assert set(predicted) <= set(differing(outcome(one), outcome(two)))  # the change was seen


def test_a_scaler_fitted_on_every_row_is_caught(tmp_path, monkeypatch):
    """The check above is not blind: what leaks here is the mean of the test rows."""
    data = make_data()
    fitted = fold_data.Preprocessor.fit
    monkeypatch.setattr(fold_data.Preprocessor, "fit", lambda d, rows, *a, **k: fitted(d, np.arange(len(d)), *a, **k))
    test = train(tmp_path / "a", data, [("baseline", "")], protocol="official").data.fold.test
    train(tmp_path / "b", changed_rows(data, test), [("baseline", "")], protocol="official")
    assert any("preprocessor" in name for name in differing(learnt(tmp_path / "a"), learnt(tmp_path / "b")))


def test_imputed_values_come_from_train_rows_alone(tmp_path):
    data = make_data()
    holes = {m: x.copy() for m, x in data.inputs.items()}
    for x in holes.values():
        x[::4, ..., 0] = np.nan
    data = replace(data, inputs=holes, impute="mean")
    made = train(tmp_path / "a", data, [("teacher", "")], protocol="official")
    test = made.data.fold.test
    train(tmp_path / "b", changed_rows(data, test), [("teacher", "")], protocol="official")
    assert differing(learnt(tmp_path / "a"), learnt(tmp_path / "b")) == []
    fill = tensors(next(tmp_path.glob("a/jobs/*")))["preprocessor.fill_0"]
    assert fill == pytest.approx(np.nanmean(data.inputs["phone"][made.data.fold.train], 0), abs=1e-5)


def test_select_rows_choose_the_epoch_and_nothing_else(tmp_path):
    data = make_data()
    jobs = [("baseline", ""), ("teacher", "")]
    select = train(tmp_path / "a", data, jobs, protocol="official").data.fold.select
    target = data.target.copy()
    target[select] = (target[select] + 1) % 3
    train(tmp_path / "targets", replace(data, target=target), jobs, protocol="official")
    train(tmp_path / "all", changed_rows(data, select), jobs, protocol="official")
    for job in sorted(p.name for p in (tmp_path / "a" / "jobs").iterdir()):
        was = tmp_path / "a" / "jobs" / job
        for other in (tmp_path / "targets" / "jobs" / job, tmp_path / "all" / "jobs" / job):
            assert curves(was)["task"].tolist() == curves(other)["task"].tolist()  # the same training, epoch by epoch
            assert curves(was)["select"].tolist() != curves(other)["select"].tolist()  # scored otherwise
            mine, theirs = tensors(was), tensors(other)
            fitted = [name for name in mine if name.startswith("preprocessor.")]
            assert fitted
            assert all(np.array_equal(mine[name], theirs[name]) for name in fitted)


def test_train_rows_do_change_what_is_learnt(tmp_path):
    """So that "nothing changed" above means something."""
    data = make_data()
    rows = train(tmp_path / "a", data, [("baseline", "")], protocol="official").data.fold.train[:5]
    train(tmp_path / "b", changed_rows(data, rows), [("baseline", "")], protocol="official")
    names = differing(learnt(tmp_path / "a"), learnt(tmp_path / "b"))
    assert any("network." in name for name in names)
    assert any("preprocessor." in name for name in names)


@settings(max_examples=12)
@given(
    st.sampled_from(["auto", "group-kfold", "leave-one-group-out", "official"]),
    st.sampled_from(["classification", "regression", "segmentation"]),
    st.integers(2, 4),
    st.integers(0, 5),
    st.floats(0.1, 0.5),
)
def test_groups_never_straddle(protocol, task, folds, seed, select):
    data = make_data(task)
    for number in range({"auto": 1, "official": 1}.get(protocol, folds)):
        made = fold_of(data, number, seed, protocol=protocol, folds=folds, select=select)
        names = [set(data.group[getattr(made.fold, part)]) for part in ("train", "select", "test")]
        assert all(names)
        assert sum(map(len, names)) == len(set.union(*names))
        assert made.rows("select").labelled.all()
        assert made.rows("test").labelled.all()


def test_without_groups_no_row_straddles():
    data = make_data(group=None, split=None)
    for number in range(3):
        fold = fold_of(data, number, protocol="random", folds=3).fold
        rows = np.concatenate([fold.train, fold.select, fold.test])
        assert len(set(rows)) == len(rows)


# labels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_hidden_labels_cannot_be_read(task):
    """Of rows without a label, and of those whose label the budget hides, not even the target is there."""
    data = make_data(task)
    made = fold_of(data)
    for part in ("train", "select", "test"):
        for labels in (0.3, 1.0):
            rows, where = made.rows(part, labels), getattr(made.fold, part)
            known = rows.labelled.numpy()
            blank = rows.target.isnan() if task == "regression" else rows.target == -1
            blank = blank.flatten(1).all(1) if blank.dim() > 1 else blank
            assert torch.equal(blank, ~rows.labelled)
            assert np.array_equal(rows.target[rows.labelled].numpy(), data.target[where][known], equal_nan=True)
    few, everyone = made.rows("train", 0.3), made.rows("train", 1.0)
    assert np.array_equal(everyone.labelled.numpy(), data.labelled[made.fold.train])
    assert 0 < few.labelled.sum() < everyone.labelled.sum()
    groups = data.group[made.fold.train]
    for g in np.unique(groups[few.labelled.numpy()]):  # whole groups keep theirs
        mine = torch.as_tensor(groups == g)
        assert torch.equal(few.labelled[mine], everyone.labelled[mine])
    assert equal(made.rows("test", 0.3).target, made.rows("test", 1.0).target)


@pytest.mark.parametrize("task", mostly_slow(OFFICIAL, ["classification"]))
def test_hidden_targets_change_no_result(task, official, tmp_path):
    """Neither what stands at unlabelled rows, nor what the label budget hides."""
    data = make_data(task)
    jobs = REGRESSION if task == "regression" else JOBS
    folder, made = official(task)
    kept = hide_labels(data, made.data.fold.train, 0.5, 0)
    hidden = made.data.fold.train[~kept[made.data.fold.train]]
    assert data.labelled[hidden].any()
    assert not data.labelled[hidden].all()
    target = data.target.copy()
    target[~data.labelled] = 1
    for g in np.unique(data.group[hidden]):  # among each group's rows, so that the same groups keep their labels
        mine = hidden[(data.group[hidden] == g) & data.labelled[hidden]]
        target[mine] = np.roll(target[mine], 1, 0)
    assert not np.array_equal(target[data.labelled], data.target[data.labelled], equal_nan=True)
    again = train(tmp_path, replace(data, target=target), jobs, 0.5, **OFFICIAL[task])
    assert np.array_equal(kept, hide_labels(again.data.dataset, again.data.fold.train, 0.5, 0))
    assert differing(outcome(folder), outcome(tmp_path)) == []


# placebo ------------------------------------------------------------------------------------------------------------


def permutation(of: Tensor, into: Tensor) -> Tensor:
    """The order in which the rows of one tensor, all different, became those of the other."""
    same = (of.flatten(1)[None] == into.flatten(1)[:, None]).all(2)
    assert (same.sum(0) == 1).all(), "not a permutation: a row is missing, or there twice"
    assert (same.sum(1) == 1).all(), "not a permutation: a row is new"
    return same.int().argmax(1)


def equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if a.dtype.is_floating_point is False else torch.equal(a.nan_to_num(9), b.nan_to_num(9))


def check_placebo(made: FoldData) -> None:
    """Raises AssertionError where the placebo is not one permutation of all that is privileged, in train and select."""
    for part in ("train", "select"):
        real, placebo = made.rows(part), made.rows(part, control="placebo")
        order = permutation(real.inputs["pulse"], placebo.inputs["pulse"])
        still = (order == torch.arange(len(order))).float().mean()
        assert still < 0.5, "the privileged rows stayed where they were"
        assert torch.equal(real.present["watch"][order], placebo.present["watch"]), "presence does not go along"
        assert torch.equal(real.inputs["watch"][order], placebo.inputs["watch"]), "modalities go different ways"
        assert torch.equal(real.lengths["pulse"][order], placebo.lengths["pulse"]), "lengths do not go along"
        assert torch.equal(real.inputs["phone"], placebo.inputs["phone"]), "an available modality moved"
        for name in ("target", "labelled", "index"):
            assert equal(getattr(real, name), getattr(placebo, name)), f"{name} moved"
    real, placebo = made.rows("test"), made.rows("test", control="placebo")
    for kind in ("inputs", "present", "lengths"):
        for m, x in getattr(real, kind).items():
            assert torch.equal(x, getattr(placebo, kind)[m]), "test rows moved"


def test_the_statistics_of_a_placebos_images_go_along():
    """Each group by its own: a permuted image is read as its own group's, so a network sees the very same values."""
    made = fold_of(make_data("segmentation"), standardize="group")
    real, placebo = (made.rows("train", control=control) for control in ("", "placebo"))
    order = permutation(real.inputs["pulse"], placebo.inputs["pulse"])
    assert not torch.equal(real.pixels["watch"][0], placebo.pixels["watch"][0])
    assert torch.equal(real.materialize().inputs["watch"][order], placebo.materialize().inputs["watch"])
    assert torch.equal(real.materialize().inputs["phone"], placebo.materialize().inputs["phone"])


CNN = {"encoder": "cnn", "tokens": 2}


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_a_placebo_permutes_privileged_rows_of_train_and_select(task):
    for fold in range(2):
        check_placebo(fold_of(make_data(task), fold, network=CNN))


def shared(batch: Batch, modalities: list[str], seed: int) -> Batch:
    """Only the inputs are permuted, not what is known of their presence and length."""
    return replace(batch, inputs=permute_modalities(batch, modalities, seed).inputs)


def one_by_one(batch: Batch, modalities: list[str], seed: int) -> Batch:
    for m in modalities:
        batch = permute_modalities(batch, [m], seed := seed + 1)
    return batch


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda batch, modalities, seed: batch, "stayed where they were"),
        (lambda batch, modalities, seed: permute_modalities(batch, ["pulse"], seed), "presence does not go along"),
        (one_by_one, "go along|different ways"),
        (shared, "go along"),
        (
            lambda batch, modalities, seed: permute_modalities(batch, ["phone", *modalities], seed),
            "available modality moved",
        ),
        (lambda batch, modalities, seed: batch.index_select(torch.randperm(len(batch))), "moved"),
        (
            lambda batch, modalities, seed: replace(
                batch, inputs=batch.inputs | {m: batch.inputs[m].roll(1, 0).fill_(1) for m in modalities}
            ),
            "not a permutation",
        ),
    ],
    ids=["nothing", "one modality", "one by one", "inputs alone", "available too", "whole rows", "noise"],
)
def test_a_broken_placebo_is_caught(broken, says, monkeypatch):
    monkeypatch.setattr(fold_data, "permute_modalities", broken)
    with pytest.raises(AssertionError, match=says):
        check_placebo(fold_of(make_data(), network=CNN))


def test_placebos_differ_between_parts_folds_and_seeds():
    def orders(part: str, fold: int, seed: int) -> tuple[int, ...]:
        made = fold_of(make_data(), fold, seed, network=CNN)
        real, placebo = made.rows(part), made.rows(part, control="placebo")
        return tuple(permutation(real.inputs["pulse"], placebo.inputs["pulse"]).tolist())

    assert orders("train", 0, 0) == orders("train", 0, 0)
    assert len({orders("train", fold, seed)[:20] for fold in (0, 1) for seed in (0, 1)}) == 4


# who teaches whom ---------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """One call of the loop."""

    method: Method
    train: Batch
    select: Batch
    teacher_fold: Tensor | None


@pytest.fixture
def spied(monkeypatch) -> dict[str, Trained]:
    """What the loop was given, by the name of what it trained."""
    seen: dict[str, Trained] = {}
    fit = alone.fit

    def spy(method, train, select, settings, *, identity, teacher_fold=None, **more):
        seen[identity] = Trained(method, train, select, teacher_fold)
        return fit(method, train, select, settings, identity=identity, teacher_fold=teacher_fold, **more)

    monkeypatch.setattr(alone, "fit", spy)
    return seen


def same_rows(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, b.inputs[m]) for m, x in a.inputs.items()) and set(a.inputs) == set(b.inputs)


def test_a_placebo_is_taught_by_a_teacher_of_permuted_rows(tmp_path, spied):
    made = train(tmp_path, make_data(), [("pkdot", ""), ("pkdot", "placebo")])
    rows = {(p, c): made.data.rows(p, control=c) for p in ("train", "select") for c in ("", "placebo")}
    assert not same_rows(rows["train", ""], rows["train", "placebo"])
    for control, mark in (("", ""), ("placebo", "~placebo")):
        teacher, tnets, student = (
            spied[f"{name}{mark}-l1-f0-s0{stage}"]
            for name, stage in (("teacher", ""), ("teacher", "-tnets"), ("pkdot", ""))
        )
        for trained in (teacher, tnets, student):
            assert same_rows(trained.train, rows["train", control])
            assert same_rows(trained.select, rows["select", control])
        network = load_student(tmp_path / "jobs" / f"teacher{mark}-l1-f0-s0" / "model.safetensors").network
        said = {p: compute_outputs(network, rows[p, control], rows[p, control].index) for p in ("train", "select")}
        assert isinstance(tnets.method, Hallucination)
        for m in ("watch", "pulse"):
            for p, kept in (("train", tnets.method.outputs), ("select", tnets.method.select_outputs)):
                assert torch.equal(kept(rows[p, control]).features[m], said[p].features[m])
        assert isinstance(student.method, Distillation)
        assert torch.equal(student.method.teachers[""].outputs.all_rows.prediction, said["train"].prediction)
        assert torch.equal(student.method.teachers[""].outputs.all_rows.fused, said["train"].fused)
        stored = load_file(tmp_path / "shared" / f"teacher{mark}-l1-f0-s0-tnets.safetensors")
        carried = tensors(tmp_path / "jobs" / f"pkdot{mark}-l1-f0-s0")
        for name, value in stored.items():
            assert np.array_equal(carried[f"network.hallucinators.{name}"], value.numpy())
    real, placebo = (load_file(f) for f in sorted((tmp_path / "shared").glob("*tnets*")))
    assert any(not torch.equal(value, placebo[name]) for name, value in real.items())


def test_a_placebo_is_tested_on_rows_as_they_are(tmp_path):
    made = train(tmp_path, make_data(), [("teacher", "placebo")])
    student = load_student(tmp_path / "jobs" / "teacher~placebo-l1-f0-s0" / "model.safetensors")
    rows = made.data.rows("test")
    told = compute_outputs(student.network, rows, rows.index).prediction.argmax(1)
    accuracy = float((told == rows.target).float().mean())
    assert student.meta["metrics"]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("name", ["pkdot", "pkdot@crossfit"])
def test_self_distillation_knows_the_baseline_alone(name, tmp_path, spied):
    made = train(tmp_path, make_data(), [(name, "self")], student={"hallucinate": "t-net"})
    assert not [identity for identity in spied if "tnets" in identity or "teacher" in identity]
    assert not list((tmp_path / "jobs").glob("teacher*"))
    baseline = load_student(tmp_path / "jobs" / "baseline-l1-f0-s0" / "model.safetensors").network
    student = spied[f"{name}~self-l1-f0-s0"]
    assert isinstance(student.method, Distillation)
    assert student.method.deployed_network().reads == ("phone",)
    assert not student.method.deployed_network().hallucinators
    rows = made.data.rows("train")
    assert same_rows(student.train, rows)
    said = compute_outputs(baseline, rows, rows.index).prediction
    same = (student.method.teachers[""].outputs.all_rows.prediction == said).all(1)
    part = student.method.teachers[""].teacher_fold
    assert torch.equal(same, torch.ones_like(same) if part is None else part == 5)


# cross-fitting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("control", "labels"), [("", 1.0), ("", 0.7), ("placebo", 1.0)])
def test_no_labelled_row_is_taught_by_who_was_trained_on_its_group(control, labels, tmp_path, spied, monkeypatch):
    batches: list[Tensor] = []
    terms = Distillation.terms
    monkeypatch.setattr(Distillation, "terms", lambda *a: batches.append(a[1].index) or terms(*a))
    asked = {"teacher": {"crossfit": 3}, "training": {"epochs": 3}}  # until every row has been in a batch
    made = train(tmp_path, make_data(), [("pkdot+kl@crossfit", control)], labels, **asked)
    rows = made.data.rows("train", labels, control)
    groups = made.data.dataset.group[made.data.fold.train]
    mark = f"{'~placebo' if control else ''}-l{labels:g}-f0-s0"
    student = spied[f"pkdot+kl@crossfit{mark}"]
    assert isinstance(student.method, Distillation)
    part, said = student.method.teachers[""].teacher_fold, student.method.teachers[""].outputs.all_rows
    assert torch.equal(part, student.teacher_fold)
    assert part[rows.labelled].unique().tolist() == [0, 1, 2]
    without = ~np.isin(groups, groups[rows.labelled.numpy()])
    assert np.array_equal((part == 3).numpy(), without), "the fold's own teacher speaks of groups without labels alone"
    for p in range(3):
        sibling = spied[f"teacher{mark}-part{p}"]
        assert same_rows(sibling.train, rows)
        taught_on = sibling.train.labelled
        assert torch.equal(taught_on, rows.labelled & (part != p))
        mine = (part == p).numpy()
        assert not set(groups[taught_on.numpy()]) & set(groups[mine]), "taught on a group that it speaks about"
        spoke = compute_outputs(sibling.method.deployed_network(), rows, torch.as_tensor(mine).nonzero()[:, 0])
        assert torch.equal(said.prediction[mine], spoke.prediction)
        assert torch.equal(said.fused[mine], spoke.fused)
    own = load_student(tmp_path / "jobs" / f"teacher{mark}" / "model.safetensors").network
    rest = (part == 3).nonzero()[:, 0]
    assert len(rest)
    torch.testing.assert_close(
        said.prediction[rest], compute_outputs(own, rows, rest).prediction
    )  # another chunk rounds anew
    assert torch.equal(spied[f"teacher{mark}"].train.labelled, rows.labelled)
    assert sorted(i for i in torch.cat(batches).unique().tolist()) == list(range(len(rows)))
    assert all(len(part[batch].unique()) == 1 for batch in batches), "a batch compares rows of two teachers"


def test_crossfitting_by_setting_is_named():
    made = fold_models(
        Path("unused"), make_data(), methods=["kl", "mse@crossfit"], teacher={"crossfit": 3}, placebo=["kl"]
    )
    assert made.config.methods == ["kl@crossfit", "mse@crossfit"]
    assert made.config.placebo == ["kl@crossfit"]


def parts(data: Dataset, labels: float = 1.0, count: int = 5, seed: int = 0) -> tuple[FoldData, np.ndarray]:
    made = fold_of(data, 0, seed, protocol="official")
    return made, made.assign_teacher_folds(labels, count)


def test_parts_are_of_whole_groups_and_change_with_the_seed():
    drawn = set()
    for seed in range(4):
        made, part = parts(make_data(), count=3, seed=seed)
        groups = made.dataset.group[made.fold.train]
        each = {g: set(part[groups == g].tolist()) for g in np.unique(groups)}
        assert all(len(found) == 1 for found in each.values())
        assert each.pop("g12") == {3}  # has no label
        sizes = [sum(found == {p} for found in each.values()) for p in range(3)]
        assert sum(sizes) == len(each)
        assert max(sizes) - min(sizes) <= 1
        drawn.add(tuple(part))
    assert len(drawn) > 1


@pytest.mark.parametrize("task", ["classification", "regression", "segmentation"])
def test_nobody_speaks_of_the_only_labelled_group(task, tmp_path, spied, monkeypatch):
    data = make_data(task)
    made, part = parts(data, labels=0.01)
    groups, labelled = data.group[made.fold.train], made.rows("train", 0.01).labelled.numpy()
    assert len(np.unique(groups[labelled])) == 1
    assert np.array_equal(part == -1, np.isin(groups, groups[labelled]))
    assert (part[part != -1] == 5).all()
    heard: list[Tensor] = []
    forward = MSE.forward
    monkeypatch.setattr(MSE, "forward", lambda *a: heard.append(a[3].index) or forward(*a))
    train(tmp_path, data, [("mse@crossfit", "")], 0.01, protocol="official")
    assert not [name for name in spied if "-part" in name]
    assert sorted(torch.cat(heard).unique().tolist()) == np.flatnonzero(part != -1).tolist()


def test_without_groups_each_row_is_its_own():
    data = replace(make_data(), group=None)
    made, part = parts(data)
    labelled = made.rows("train").labelled.numpy()
    assert np.array_equal(part == 5, ~labelled)
    sizes = np.bincount(part[labelled])
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 1


def test_the_teacher_is_trained_once_for_all_who_learn_from_it(tmp_path, spied, monkeypatch):
    trained: list[str] = []
    fit = alone.fit
    monkeypatch.setattr(alone, "fit", lambda *a, **k: trained.append(k["identity"]) or fit(*a, **k))
    train(
        tmp_path, make_data(), [("kl", ""), ("pkdot", ""), ("pkdot+kl", ""), ("kl@crossfit", ""), ("mse@crossfit", "")]
    )
    assert len(trained) == len(set(trained))
    assert sum(name.startswith("teacher") for name in trained) == 1 + 1 + 5  # itself, T-Nets, five siblings
    shutil.rmtree(tmp_path / "jobs" / "pkdot-l1-f0-s0")
    trained.clear()
    train(tmp_path, make_data(), [("pkdot", "")])
    assert trained == ["pkdot-l1-f0-s0"]  # what is stored is read back
