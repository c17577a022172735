"""Several teachers, each on a set of the privileged modalities, and what of a student stays as its teacher left it."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest
import torch

from helpers.small import fold_models, make_data
from helpers.support import AVAILABLE, ROWS, distillation_subject, make_network, make_rows, speech, task_of
from sidelight.config import Config, TrainingConfig, load_config
from sidelight.errors import ConfigError
from sidelight.experiment.assemble import assemble, run_job
from sidelight.experiment.context import JobContext
from sidelight.experiment.plan import Job
from sidelight.methods import CachedOutputs, Distillation, MethodSpec, Teacher, TrainState
from sidelight.methods.teacher_sets import parse_teacher_sets
from sidelight.training import fit


def several(names: str, silent: torch.Tensor | None = None) -> Distillation:
    task, rows = task_of("classification"), make_rows("classification", "both")
    one = speech("classification", "both")
    terms = MethodSpec.parse(names).losses(Config(), task)
    teachers = {"watch": replace(one, mask=None if silent is None else ~silent), "pulse": one}
    return Distillation(make_network(AVAILABLE, task), teachers, task, terms, rows).eval()


def test_each_of_several_teachers_has_its_share_of_every_term():
    method, rows = several("kl+fitnet"), make_rows("classification", "both")
    said = method.terms(rows, TrainState())
    assert list(said) == ["task", "kl watch", "fitnet watch", "kl pulse", "fitnet pulse"]
    assert {name: method.weights[name] for name in said if name != "task"} == dict.fromkeys(list(said)[1:], 0.5)
    assert torch.equal(said["kl watch"], said["kl pulse"])
    regressors = [method.parts[f"fitnet {m}"].regressors["watch"].weight for m in ("watch", "pulse")]
    assert regressors[0] is not regressors[1]


def test_a_teacher_is_silent_about_rows_without_its_modality():
    silent = torch.arange(ROWS) >= 5
    batch = make_rows("classification", "both")
    batch = replace(batch, inputs={"phone": batch.inputs["phone"].clone().requires_grad_()})
    terms = several("kl", silent).terms(batch, TrainState())
    for name, heard in (("kl watch", 5), ("kl pulse", ROWS)):
        grad = torch.autograd.grad(terms[name], batch.inputs["phone"], retain_graph=True)[0]
        assert grad.abs().sum(1).gt(0).nonzero()[:, 0].tolist() == list(range(heard))


@pytest.mark.parametrize("apart", ["another part", "silent"])
def test_the_negatives_of_crd_lie_in_the_space_of_the_rows_own_teacher(apart):
    """What the bank holds of rows about which another teacher speaks, or nobody, must not matter."""
    task, rows = task_of("classification"), make_rows("classification", "both")
    teacher = speech("classification", "both", crossfit=apart == "another part")
    silent = torch.arange(ROWS) >= 12
    if apart == "silent":
        teacher = replace(teacher, mask=~silent)
    own = (teacher.teacher_fold == 0 if teacher.teacher_fold is not None else ~silent).nonzero()[:, 0]
    other = torch.tensor([i for i in range(ROWS) if i not in own])
    values = []
    for moved in ([], other, own):
        torch.manual_seed(0)
        terms = MethodSpec.parse("crd").losses(Config(), task)
        method = Distillation(make_network(AVAILABLE, task), teacher, task, terms, rows).eval()
        method.parts["crd"].bank[:, moved] *= -1
        values.append(method.terms(rows.index_select(own), TrainState())["crd"].item())
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_one_teacher_for_each_privileged_modality_in_an_experiment(tmp_path):
    data = make_data()
    made = fold_models(tmp_path, data, methods=["mse"], teacher={"sets": "each"})
    run_job(made, Job("mse", "", 1.0, 0, 0))
    curves = pd.read_csv(tmp_path / "jobs" / "mse-l1-f0-s0" / "curves.csv")
    assert {"mse watch", "mse pulse"} <= set(curves.columns)
    assert len(list((tmp_path / "shared").glob("branch-*"))) == 2


@pytest.mark.parametrize("method", ["mse", "dask", "fitnet"])
def test_a_teacher_for_each_set_of_privileged_modalities(tmp_path, method):
    made = fold_models(tmp_path, make_data(), methods=[method], teacher={"sets": ["watch", "watch+pulse"]})
    run_job(made, Job(method, "", 1.0, 0, 0))
    curves = pd.read_csv(tmp_path / "jobs" / f"{method}-l1-f0-s0" / "curves.csv")
    assert {f"{method} watch", f"{method} watch+pulse"} <= set(curves.columns)
    assert [x.name.partition("-l")[0] for x in (tmp_path / "shared").glob("branch-*")] == ["branch-0-1"]


def test_each_teacher_compares_the_slots_that_it_reads():
    """A term on hallucinated features, of teachers for the watch and for both: the pulse is compared by the latter."""
    both = speech("classification", "both")
    said = both.outputs.all_rows
    watch = Teacher(CachedOutputs(replace(said, features={m: said.features[m] for m in ("phone", "watch")})))
    student = distillation_subject("mers", "classification", "both", tnet="encoder").fresh().student
    terms = {"mers": MethodSpec.parse("mers").losses(Config(), task_of("classification"))["mers"]}
    teachers = {"watch": watch, "watch+pulse": both}
    method = Distillation(student, teachers, task_of("classification"), terms, make_rows("classification", "both"))
    assert [method.parts[name].slots for name in ("mers watch", "mers watch+pulse")] == [("watch",), ("watch", "pulse")]


def test_a_teacher_of_a_set_speaks_of_rows_that_have_any_of_it(tmp_path):
    data = make_data()
    parts = JobContext(fold_models(tmp_path, data, methods=["mse"]), Job("mse", "", 1.0, 0, 0))
    lacks = ~parts.rows().present["watch"]
    assert lacks.any()
    assert torch.equal(parts.teacher_on(["watch"]).mask, ~lacks)
    assert parts.teacher_on(["watch", "pulse"]).mask is None


@pytest.mark.parametrize("sets", ["each", "watch"])
def test_the_only_privileged_modality_is_a_set_too(tmp_path, sets):
    """`each` says what the modality's name says; `all` is one teacher, which speaks of every row."""
    masks = []
    for asked in (sets, "all"):
        made = fold_models(
            tmp_path / asked, make_data(), methods=["mse"], privileged=["watch"], teacher={"sets": [asked]}
        )
        parts = JobContext(made, Job("mse", "", 1.0, 0, 0))
        method, _ = assemble(MethodSpec.parse("mse"), parts)
        masks.append({name: teacher.mask for name, teacher in method.teachers.items()})
    assert masks[0].keys() == {"watch"}
    assert torch.equal(masks[0]["watch"], parts.rows().present["watch"])
    assert masks[1] == {"": None}


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["all"], {}),
        (["each"], {"eda": ("eda",), "ecg": ("ecg",), "emg": ("emg",)}),
        (["eda", "ecg+emg"], {"eda": ("eda",), "ecg+emg": ("ecg", "emg")}),
    ],
)
def test_sets_of_teachers_are_read(sets, expected):
    settings = load_config({"privileged": ["eda", "ecg", "emg"], "teacher": {"sets": sets}})
    assert parse_teacher_sets(settings) == expected
    assert load_config(None, [f"teacher.sets={','.join(sets)}"]).teacher.sets == sets


@pytest.mark.parametrize(
    ("methods", "sets", "sentence"),
    [
        (["kl"], ["all", "watch"], "teacher.sets: 'all' cannot be combined with other sets"),
        (["kl"], ["wach"], "teacher.sets: unknown privileged modality 'wach'. Did you mean 'watch'"),
        (["kl"], ["phone+watch"], "teacher.sets: unknown privileged modality 'phone'"),
        (["kl"], ["watch+watch"], "teacher.sets: 'watch+watch' names a modality twice"),
        (["kl"], ["watch+pulse", "pulse+watch"], "teacher.sets: watch+pulse and pulse+watch are the same set"),
        (["kl"], [], "teacher.sets: expected all, each, or sets"),
        (["kl@crossfit"], ["each"], "method 'kl@crossfit' is cross-fitted, which teachers of teacher.sets cannot be"),
    ],
)
def test_sets_of_teachers_that_cannot_be_are_refused(tmp_path, methods, sets, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        fold_models(tmp_path, make_data(), methods=methods, teacher={"sets": sets})


@pytest.mark.parametrize("method", ["kl", "mers", "admd"])
def test_encoders_that_are_to_stay_as_the_teacher_left_them_do(tmp_path, method):
    made = fold_models(tmp_path, make_data(), methods=[method], student={"freeze": True})
    parts = JobContext(made, Job(method, "", 1.0, 0, 0))
    built, _ = assemble(MethodSpec.parse(method), parts)
    fit(built, parts.rows(), parts.rows("select"), TrainingConfig(epochs=1, batch_size=32, least_steps=1), seed=0)
    wanted = parts.trained_network(parts.models.data.modalities).encoders["phone"].state_dict()
    assert all(
        torch.equal(wanted[name], x) for name, x in built.deployed_network().encoders["phone"].state_dict().items()
    )
    assert any(p.requires_grad for p in built.deployed_network().head.parameters())
