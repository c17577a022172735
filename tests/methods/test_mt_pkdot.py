"""MT-PKDOT: its formulas by hand, which teacher it chooses, what its alignment trains, and what it logs."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers.support import AVAILABLE, PRIVILEGED, build_standalone, standalone_parts, task_of
from sidelight import losses
from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.methods import MethodSpec, TrainState
from sidelight.methods.aligned_teachers import Alignment, TeacherChoice, cosine_distance_to_joint
from sidelight.methods.mt_pkdot import ChosenTeacher
from sidelight.methods.structural import PKDOTReleased
from sidelight.networks.network import Output
from sidelight.tasks import make_task
from sidelight.testing import make_subject
from sidelight.training import fit

pytestmark = pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning")


def batch_of(target: list[int], labelled: list[bool] | None = None, **present: list[bool]) -> Batch:
    said = torch.tensor(labelled or [True] * len(target))
    there = {m: torch.tensor(x) for m, x in present.items()}
    return Batch({}, torch.tensor(target), said, there, torch.arange(len(target)), {})


def says(logits: list[list[float]]) -> Output:
    rows = torch.tensor(logits, dtype=torch.float32)
    return Output(rows, rows, {})


@cache
def _built(kind: str, **options) -> ChosenTeacher:
    made = build_standalone("mt-pkdot", "classification", kind, **options)
    assert isinstance(made, ChosenTeacher)
    return made


def built(kind: str = "complete", **options) -> ChosenTeacher:
    return copy.deepcopy(_built(kind, **options))


def rows(kind: str = "complete") -> Batch:
    return standalone_parts("mt-pkdot", "classification", kind).rows()


# by hand ------------------------------------------------------------------------------------------------------------


def test_the_cosine_of_the_alignment_by_hand():
    a, j = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]], requires_grad=True)
    value = cosine_distance_to_joint(a, j)
    assert value.item() == pytest.approx(0.146447, abs=1e-6)
    assert torch.autograd.grad(value, j)[0].abs().sum() > 0  # the joint embedding moves too
    assert cosine_distance_to_joint(a[:0], j[:0]).item() == 0
    assert cosine_distance_to_joint(torch.zeros(1, 2), j[:1]).item() == 1


def test_the_centroid_by_hand():
    s = torch.tensor([[1.0, 0.0], [1.0, 1.0]], requires_grad=True)
    assert losses.centroid_distance(s, torch.eye(2)).item() == pytest.approx(0.5, abs=1e-6)
    same = losses.centroid_distance(s, s.detach())
    assert torch.autograd.grad(same, s)[0].isfinite().all()  # the norm alone has no gradient at 0


def test_the_choice_by_hand():
    """Visual and physiological tie at 0.220095, so that the first teaches; the joint teacher has 0.680925."""
    choice = TeacherChoice(make_task("classification", ("a", "b")), ("visual", "physio"))
    visual, physio, joint = says([[2, 0], [0, 1]]), says([[1, 0], [0, 2]]), says([[3, 0], [1, 0]])
    batch = batch_of([0, 1])
    found = choice.losses([visual, physio, joint], batch, choice.comparable(batch)).tolist()
    assert found == pytest.approx([0.220095, 0.220095, 0.680925], abs=1e-6)
    assert choice([visual, physio, joint], batch) == 0
    assert choice([joint, physio, visual], batch) == 1
    assert choice([joint, joint, visual], batch) == 2


def test_where_teachers_cannot_be_compared_the_joint_one_teaches():
    choice = TeacherChoice(make_task("classification", ("a", "b")), ("visual", "physio"))
    wrong = says([[-9, 9], [9, -9]])
    teachers = [says([[2, 0], [0, 1]]), says([[1, 0], [0, 2]]), wrong]
    assert choice(teachers, batch_of([0, 1], [False, False])) == 2
    assert choice(teachers, batch_of([0, 1], physio=[False, False])) == 2
    # the row that both teachers can read decides, and a label that is hidden does not
    assert choice(teachers, batch_of([1, 1], physio=[False, True])) == 1
    assert choice(teachers, batch_of([0, -1], [True, False])) == 0
    values = TeacherChoice(make_task("regression", ("valence",)), ("visual",))
    one = replace(batch_of([0]), target=torch.tensor([[0.5]]))
    assert values([says([[0.5]]), says([[0.9]])], one) == 1  # a single value has no correlation
    three = replace(batch_of([0, 0, 0]), target=torch.tensor([[0.5], [0.1], [torch.nan]]))
    assert values([says([[0.5], [0.1], [0.0]]), says([[0.9], [0.8], [0.0]])], three) == 0


# the stages ---------------------------------------------------------------------------------------------------------


def test_the_alignment_trains_fusion_adapters_and_heads_and_no_encoder():
    context = standalone_parts("mt-pkdot", "classification", "both")
    joint = context.trained_network([*AVAILABLE, *PRIVILEGED])
    before = copy.deepcopy(joint.state_dict())
    alignment = Alignment(joint, context.teacher_outputs(joint), context.task)
    history = fit(alignment, context.rows(), context.rows("select"), TrainingConfig(epochs=8, batch_size=36), seed=0)
    moved = {name.split(".")[0] for name, x in joint.state_dict().items() if not torch.equal(x, before[name])}
    assert moved == {"fusion", "head"}
    assert list(history.epochs[0])[2:5] == ["align", "joint", "heads"]
    assert history.epochs[-1]["align"] < history.epochs[0]["align"]
    assert history.best_score == pytest.approx(alignment.score(context.rows("select")))


def test_a_modality_is_aligned_over_the_rows_that_have_it():
    context = standalone_parts("mt-pkdot", "classification", "complete")
    joint = context.trained_network([*AVAILABLE, *PRIVILEGED])
    alignment = Alignment(joint, context.teacher_outputs(joint), context.task).eval()
    batch = context.rows()
    every, nobody = torch.ones(len(batch), dtype=torch.bool), torch.zeros(len(batch), dtype=torch.bool)
    whole, lacks = (alignment.terms(replace(batch, present={"watch": x}), TrainState()) for x in (every, nobody))
    single = alignment.teachers(alignment.outputs(batch).features)
    watch = alignment.teachers.modalities.index("watch")
    part = cosine_distance_to_joint(single[watch].embedding, single[-1].embedding)
    assert (whole["align"] - lacks["align"]).item() == pytest.approx(part.item(), rel=1e-5)
    assert (whole["heads"] - lacks["heads"]).item() == pytest.approx(
        task_of("classification").loss(single[watch].prediction, batch.target, batch.labelled).item() / 3, rel=1e-5
    )


def test_the_terms_are_those_of_the_chosen_teacher():
    method, batch = built().eval(), rows()
    terms = method.terms(batch, TrainState())
    teachers = method.teachers(method.outputs(batch).features)
    chosen = method.choose(teachers, batch)
    student = method.student(batch).embedding
    expected = losses.structural_transport(student, teachers[chosen].embedding, k=30, epsilon=0.1)
    assert terms["transport"].item() == pytest.approx(expected.item(), rel=1e-5)
    expected = losses.centroid_distance(student, teachers[chosen].embedding)
    assert terms["centroid"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert method.weights == {"transport": 0.25, "centroid": 0.25}
    assert [x.item() for x in method.logged.values()] == [float(i == chosen) for i in range(4)]


def test_a_teacher_of_one_modality_teaches_the_rows_that_have_it():
    method, batch = built().eval(), rows()
    method.fixed = method.teachers.modalities.index("watch")
    has = torch.arange(len(batch)) % 3 > 0
    some = method.terms(replace(batch, present={"watch": has}), TrainState())
    cut = method.terms(batch.index_select(has.nonzero()[:, 0]), TrainState())
    assert some["transport"].item() == pytest.approx(cut["transport"].item(), rel=1e-5)
    one = method.terms(replace(batch, present={"watch": torch.arange(len(batch)) == 1}), TrainState())
    assert (one["transport"].item(), one["centroid"].item()) == (0, 0)
    assert one["transport"].requires_grad


def test_the_record_holds_the_share_of_batches_that_each_teacher_taught():
    method, batch = built("both"), rows("both")
    history = fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=9), seed=0)
    for epoch in history.epochs:
        shares = {name: value for name, value in epoch.items() if name.startswith("chosen ")}
        assert list(shares) == ["chosen phone", "chosen watch", "chosen pulse", "chosen joint teacher"]
        assert sum(shares.values()) == pytest.approx(1)


def test_the_other_choices_hold_for_the_whole_training():
    joint, select = built(choose="joint"), built(choose="select")
    assert joint.fixed == 3
    context = standalone_parts("mt-pkdot", "classification", "complete")
    rows_of_select = context.rows("select")
    network = context.trained_network([*AVAILABLE, *PRIVILEGED])
    outputs = context.teacher_outputs(network, "select")(rows_of_select)
    scores = [
        context.task.loss(x.prediction, rows_of_select.target, rows_of_select.labelled).item()
        for x in select.teachers(outputs.features)
    ]
    assert select.fixed == scores.index(min(scores))


def test_the_released_preset_has_the_transport_of_the_released_code_and_no_centroid():
    method = make_subject("mt-pkdot-released", "classification").fresh()
    assert isinstance(method, ChosenTeacher)
    assert method.transport.settings == PKDOTReleased("released").transport.settings
    assert method.weights == {"transport": 0.25}
    with pytest.raises(ConfigError, match=r"options\.mt-pkdot-released"):
        make_subject("mt-pkdot-released", "classification", options={"k": 4})


@pytest.mark.parametrize("options", [{"k": 0}, {"epsilon": 0.0}, {"weight": -1.0}, {"centroid": -0.1}])
def test_settings_that_cannot_work_are_refused(options):
    with pytest.raises(ConfigError, match=rf"options\.mt-pkdot\.{next(iter(options))}: expected"):
        build_standalone("mt-pkdot", "classification", "complete", **options)


def test_it_is_no_term_of_a_sum():
    with pytest.raises(ConfigError, match="'mt-pkdot' is a method of several stages"):
        MethodSpec.parse("mt-pkdot+kl")
