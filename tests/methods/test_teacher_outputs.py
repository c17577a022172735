"""Teachers that are asked at every step, since the maps that they say of all rows are too large to keep."""

from __future__ import annotations

import copy
import gc
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.slow import mostly_slow
from helpers.small import curves, differing, fold_models, make_data, outcome, study
from helpers.support import AVAILABLE, PRIVILEGED, make_network, make_rows, task_of, trained_teacher
from sidelight.config import Config
from sidelight.errors import ConfigError
from sidelight.experiment import teachers
from sidelight.experiment.assemble import assemble, run_job
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.export import load_student
from sidelight.methods import Distillation, MethodSpec, Teacher
from sidelight.methods.osmd import OSMD
from sidelight.methods.teacher_outputs import CachedOutputs, OnlineOutputs
from sidelight.networks.network import Output, compute_outputs, predict_in_chunks
from sidelight.testing import (
    CHECKS,
    Subject,
    check_terms_are_finite_scalars,
    check_terms_depend_on_the_teacher,
    check_terms_have_a_gradient,
    check_terms_leave_the_batch_alone,
)

pytestmark = pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning", "ignore:transport:UserWarning")
QUESTION = {"training": {"epochs": 1, "patience": 1, "batch_size": 16}}


@pytest.fixture(scope="module")
def data():
    return make_data("segmentation", n=96)


@pytest.fixture
def nothing_kept(monkeypatch):
    monkeypatch.setattr(teachers, "MAPS_IN_MEMORY", 0)


def parts_of(folder: Path, data, method: str, control: str = "", **changes) -> JobContext:
    return JobContext(
        fold_models(folder, data, methods=[method], **QUESTION, **changes), Job(method, control, 1.0, 0, 0)
    )


def built(parts: JobContext):
    return assemble(MethodSpec.parse(parts.job.method), parts)[0]


def close(one: Output, two: Output) -> bool:
    pairs = [(one.prediction, two.prediction), (one.fused, two.fused)]
    pairs += [(one.features[m], two.features[m]) for m in two.features]
    return set(one.features) == set(two.features) and all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


# what is said ---------------------------------------------------------------------------------------------------------


def test_vectors_and_small_maps_are_kept(data, tmp_path, monkeypatch):
    assert isinstance(parts_of(tmp_path / "maps", data, "kl").teacher().outputs, CachedOutputs)
    monkeypatch.setattr(teachers, "MAPS_IN_MEMORY", 0)
    assert isinstance(parts_of(tmp_path / "vectors", make_data(), "kl").teacher().outputs, CachedOutputs)
    assert isinstance(parts_of(tmp_path / "large", data, "kl").teacher().outputs, OnlineOutputs)


@pytest.mark.parametrize(
    ("control", "crossfit"),
    [
        ("placebo", True),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in (("", False), ("", True), ("placebo", False))),
    ],
)
def test_a_live_teacher_says_what_would_be_kept(control, crossfit, data, tmp_path, monkeypatch):
    """Of rows without a privileged modality too; a placebo's of permuted rows; of each part its own teacher."""
    few = {"teacher": {"crossfit": 3}}
    kept = parts_of(tmp_path / "kept", data, "kl", control, **few).teacher(crossfit)
    monkeypatch.setattr(teachers, "MAPS_IN_MEMORY", 0)
    parts = parts_of(tmp_path / "live", data, "kl", control, **few)
    for _ in ("trained", "read back"):
        live = parts.teacher(crossfit)
        lacking = (~parts.rows().present["watch"]).nonzero()[:2, 0]
        rows = torch.cat([torch.tensor([3, 30, 1, 17]), lacking])
        batch = parts.rows().index_select(rows).materialize()
        assert not batch.present["watch"].all()
        assert close(live(batch), kept(batch))
        assert (live.teacher_fold is None) is not crossfit
        assert not crossfit or torch.equal(live.teacher_fold, kept.teacher_fold)
        parts = parts_of(tmp_path / "live", data, "kl", control, **few)


def test_a_term_that_needs_every_row_is_refused(data, tmp_path, nothing_kept):
    with pytest.raises(ConfigError, match="the teacher's outputs of every row"):
        parts_of(tmp_path, data, "kl").teacher().outputs.all_rows  # noqa: B018


def test_what_is_gathered_is_what_all_outputs_say(data, tmp_path):
    parts = parts_of(tmp_path, data, "kl")
    network, rows = parts.trained_network(parts.available), parts.rows("select")
    said = compute_outputs(network, rows, rows.index)
    codes = predict_in_chunks(network, rows, rows.index, parts.task.compact_answer)
    assert codes.dtype == torch.uint8
    assert np.array_equal(parts.task.decide(codes), parts.task.decide(said.prediction))
    scores = [parts.task.score(x, rows.target, rows.labelled) for x in (codes, said.prediction)]
    assert scores[0] == scores[1]


# training -------------------------------------------------------------------------------------------------------------

EVERY = {
    "kl": {},
    "fitnet+kl": {"teacher": {"sets": "each"}},
    "pkdot": {"student": {"hallucinate": "t-net"}},
    "dask": {},
    "mse@crossfit": {"teacher": {"crossfit": 2}},
    "osmd": {},
}


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=() if m == "mse@crossfit" else pytest.mark.slow) for m in EVERY],
)
def test_training_is_the_same(method, data, tmp_path, monkeypatch):
    """To the rounding of networks that are asked about other numbers of rows at a time."""
    for limit, place in ((2**30, "kept"), (0, "live")):
        monkeypatch.setattr(teachers, "MAPS_IN_MEMORY", limit)
        parts = parts_of(tmp_path / place, data, method, **EVERY[method])
        run_job(parts.models, parts.job)
    kept, live = (curves(tmp_path / place / "jobs" / f"{method}-l1-f0-s0") for place in ("kept", "live"))
    assert list(kept) == list(live)
    assert np.allclose(kept, live, rtol=2e-3, atol=2e-3)


def maps_held(n: int, shapes: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The shapes of all floating point maps of n rows that anything holds."""
    gc.collect()
    found = [x for x in gc.get_objects() if type(x) is Tensor and x.dtype == torch.float32]
    return [tuple(x.shape) for x in found if x.dim() == 4 and len(x) == n and tuple(x.shape[1:]) in shapes]


@pytest.mark.parametrize("method", mostly_slow(["fitnet+kl", "pkdot", "osmd"], ["fitnet+kl"]))
def test_no_map_of_every_row_is_held(method, tmp_path, monkeypatch):
    data = make_data("segmentation")  # of more rows than what other tests hold
    seen: dict[int, list] = {}
    for limit in (0, 2**30):
        monkeypatch.setattr(teachers, "MAPS_IN_MEMORY", limit)
        parts = parts_of(tmp_path / f"{limit}", data, method)
        trained = built(parts)
        n, shapes = len(parts.rows()), {(3, 8, 12), (8, 2, 3)}
        seen[limit] = maps_held(n, shapes)
        assert bool(seen[limit]) == bool(limit)
        del trained, parts
    assert seen[0] == []


def test_a_resumed_run_is_the_same_to_the_bit(data, tmp_path, nothing_kept):
    asked = QUESTION | {"methods": ["mse@crossfit", "osmd"], "placebo": ["none"], "teacher": {"crossfit": 2}}
    asked |= {"protocol": "official"}
    study(tmp_path / "whole", data, **asked)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for lost in (tmp_path / "again" / "jobs").glob("*-f0-*"):
        if lost.name.startswith(("mse", "osmd")):
            shutil.rmtree(lost)
    study(tmp_path / "again", data, resume=True, **asked)
    assert differing(outcome(tmp_path / "whole"), outcome(tmp_path / "again")) == []
    shared = {x.name for x in (tmp_path / "whole" / "shared").iterdir()}
    assert {"teacher-l1-f0-s0-part0.safetensors", "teacher-l1-f0-s0-part1.safetensors"} <= shared
    assert not [name for name in shared if "crossfit" in name]


# the contract of methods ----------------------------------------------------------------------------------------------


def live_teacher(kind: str, dtype: torch.dtype) -> Teacher:
    network, rows = trained_teacher("segmentation"), make_rows("segmentation", kind)
    return Teacher(OnlineOutputs([network], compute_outputs(network, rows, rows.index[:1])).to(dtype))


def live_subject(name: str, kind: str) -> Subject:
    task, rows = task_of("segmentation"), make_rows("segmentation", kind)

    def factory(dtype: torch.dtype) -> Distillation:
        student = make_network(AVAILABLE, task, seed=3).to(dtype)
        terms = MethodSpec.parse(name).losses(Config(), task)
        return Distillation(student, live_teacher(kind, dtype), task, terms, rows.to(dtype)).to(dtype)

    return Subject(factory, rows, AVAILABLE, PRIVILEGED)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", [pytest.param("kl", marks=pytest.mark.slow), "fitnet"])
def test_a_student_of_a_live_teacher_keeps_the_contract(name, check):
    check(live_subject(name, "both"))


@pytest.fixture(scope="module")
def live_osmd(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "MAPS_IN_MEMORY", 0)
        parts = parts_of(tmp_path_factory.mktemp("osmd"), data, "osmd")
        method = built(parts)
    assert isinstance(method, OSMD)
    return method, parts.rows().index_select(torch.arange(24)).materialize()


OF_ITS_TEACHER = (
    check_terms_are_finite_scalars,
    check_terms_depend_on_the_teacher,
    check_terms_have_a_gradient,
    check_terms_leave_the_batch_alone,
)
"""The checks that ask the branch; `test_registry.py` has all of them beside a branch whose answers are kept."""


@pytest.mark.parametrize(
    "check", mostly_slow(CHECKS, OF_ITS_TEACHER), ids=lambda check: check.__name__.removeprefix("check_")
)
def test_osmd_beside_a_live_branch_keeps_the_contract(check, live_osmd):
    method, rows = live_osmd
    check(Subject(lambda dtype: copy.deepcopy(method).to(dtype), rows, AVAILABLE, PRIVILEGED))


def test_the_networks_that_are_asked_are_no_part_of_the_method(live_osmd):
    method, rows = live_osmd
    branch = method.adaptation.outputs
    assert isinstance(branch, OnlineOutputs)
    assert set(method.reads) == {*AVAILABLE, *PRIVILEGED}
    inside = {id(p) for network in branch.networks for p in network.parameters()}
    assert not inside & {id(p) for p in method.parameters()}
    assert not [name for name in method.state_dict() if "said" in name]
    before = [p.clone() for network in branch.networks for p in network.parameters()]
    method.train()
    assert not any(module.training for network in branch.networks for module in network.modules())
    assert torch.equal(branch(rows).prediction, branch(rows).prediction)
    assert not branch(rows).prediction.requires_grad
    assert all(map(torch.equal, before, (p for network in branch.networks for p in network.parameters())))
    doubled = copy.deepcopy(method).double().adaptation.outputs
    assert doubled(rows.to(torch.float64)).prediction.dtype == torch.float64
    assert branch(rows).prediction.dtype == torch.float32  # a copy's are its own


def test_what_is_kept_moves_along():
    said = CachedOutputs(Output(torch.zeros(3, 2), torch.zeros(3, 4), {"watch": torch.zeros(3, 1, 4)})).double()
    batch = replace(make_rows("classification"), index=torch.tensor([2, 0]))
    assert said(batch).features["watch"].dtype == torch.float64
    assert said.state_dict() == {}


def test_a_placebos_live_teacher_is_the_placebos(data, tmp_path, nothing_kept):
    parts = parts_of(tmp_path, data, "kl", "placebo")
    method = built(parts)
    network = load_student(tmp_path / "jobs" / "teacher~placebo-l1-f0-s0" / "model.safetensors").network
    permuted, plain = (parts.models.data.rows("train", control=c) for c in ("placebo", ""))
    assert not torch.equal(permuted.inputs["watch"], plain.inputs["watch"])
    batch = parts.rows().index_select(torch.arange(8)).materialize()
    assert torch.allclose(
        method.teachers[""](batch).prediction, compute_outputs(network, permuted, torch.arange(8)).prediction, atol=1e-5
    )
