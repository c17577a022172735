"""MST-Distill: its divergence and load balance by hand, what each stage trains, how rows are routed, what is logged."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from helpers.support import AVAILABLE, PRIVILEGED, SHAPES, build_standalone, shapes_of, standalone_parts, task_of
from sidelight.config import TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.methods import MethodSpec, TrainState
from sidelight.methods.masked_teachers import ChannelMask, CoTraining, MaskTraining, distances
from sidelight.methods.mst import Routing, label_losses, load_balance
from sidelight.tasks import make_task
from sidelight.training import fit

NAMES = ["joint features", "joint embedding", "privileged features", "privileged embedding"]


@cache
def _built(task: str, kind: str) -> Routing:
    made = build_standalone("mst", task, kind)
    assert isinstance(made, Routing)
    return made


def built(task: str = "classification", of: str = "complete", **settings) -> Routing:
    """The method with settings of its last stage; the earlier ones are trained once."""
    method = copy.deepcopy(_built(task, of))
    for name, value in settings.items():
        assert hasattr(method, name)
        setattr(method, name, value)
    return method


def parts(task: str = "classification", kind: str = "complete"):
    return standalone_parts("mst", task, kind)


def rows(task: str = "classification", kind: str = "complete") -> Batch:
    return parts(task, kind).rows().materialize()


# by hand ------------------------------------------------------------------------------------------------------------


def test_the_load_balance_by_hand():
    gates = torch.tensor([[0.7, 0.2, 0.05, 0.05], [0.1, 0.6, 0.2, 0.1]])
    assert load_balance(gates).item() == pytest.approx(0.239278 / 4, abs=1e-6)
    assert load_balance(gates, "cv").item() == pytest.approx(0.697615, abs=1e-6)
    even = torch.full((3, 4), 0.25)
    assert load_balance(even).item() == pytest.approx(0, abs=1e-7)
    assert load_balance(even, "cv").item() == 0
    assert load_balance(gates[:0]).item() == 0
    certain = torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    assert torch.autograd.grad(load_balance(certain), certain)[0].isfinite().all()


def test_the_divergence_by_hand():
    teacher = torch.tensor([[4.0, 0.0, 0.0]], requires_grad=True)
    student = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    value = distances(student, teacher, task_of("classification"), 4.0)
    assert value.tolist() == pytest.approx([1.115406], abs=1e-6)
    assert all(bool(g.any()) for g in torch.autograd.grad(value.sum(), [student, teacher]))  # nothing is fixed
    assert distances(teacher, student, task_of("regression"), 4.0).tolist() == pytest.approx([3.0])
    maps = distances(student.view(1, 3, 1, 1).expand(2, 3, 4, 5), teacher.view(1, 3, 1, 1).expand(2, 3, 4, 5),
                     task_of("segmentation"), 4.0)  # fmt: skip
    assert maps.tolist() == pytest.approx([1.115406] * 40, abs=1e-6)


def test_the_label_losses_by_hand():
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    found, known = label_losses(
        logits, torch.tensor([2, 0, -1]), torch.tensor([True, True, False]), task_of("classification")
    )
    assert found.tolist() == pytest.approx([math.log(3), math.log(math.e + 2) - 1, 0])
    assert known.tolist() == [True, True, False]
    task = make_task("regression", ("valence", "arousal"), mean=(1.0, 0.0), scale=(2.0, 1.0))
    target = torch.tensor([[3.0, math.nan], [math.nan, math.nan], [1.0, 4.0]])
    found, known = label_losses(torch.zeros(3, 2), target, torch.ones(3, dtype=torch.bool), task)
    assert found.tolist() == pytest.approx([1, 0, 8])
    assert known.tolist() == [True, False, True]


def test_a_mask_has_a_number_between_0_and_1_for_every_channel_and_the_released_width():
    torch.manual_seed(0)
    mask = ChannelMask(20, 0)
    assert mask.width == 9
    assert ChannelMask(4, 0).width == 3
    made = mask(torch.randn(5, 20))
    assert made.shape == (5, 20)
    assert bool(((made > 0) & (made < 1)).all())


# the stages ---------------------------------------------------------------------------------------------------------


def test_co_training_is_three_task_losses_and_six_divergences():
    context, batch = parts(), rows()
    networks = {
        "joint": context.network(tuple(SHAPES)),
        "privileged": context.network(PRIVILEGED),
        "student": context.network(AVAILABLE),
    }
    method = CoTraining(networks, context.task, 4.0).eval()
    terms = method.terms(batch, TrainState())
    assert list(terms) == ["joint", "privileged", "student", "mutual"]
    said = {name: network(batch).prediction for name, network in networks.items()}
    pairs = [(a, b) for a in said for b in said if a != b]
    expected = sum(distances(said[a], said[b], context.task, 4.0).mean() for a, b in pairs)
    assert terms["mutual"].item() == pytest.approx(expected.item(), rel=1e-5)
    lacks = torch.arange(len(batch)) < 7
    some = method.terms(replace(batch, present=dict.fromkeys(PRIVILEGED, ~lacks)), TrainState())
    cut = method.terms(batch.index_select((~lacks).nonzero()[:, 0]), TrainState())
    assert some["privileged"].item() == pytest.approx(cut["privileged"].item(), rel=1e-5)
    for network in networks.values():
        grads = torch.autograd.grad(terms["mutual"], list(network.parameters()), retain_graph=True, allow_unused=True)
        assert any(g is not None and bool(g.any()) for g in grads)


def test_the_masks_alone_are_trained_towards_the_student():
    method, batch, context = built(), rows(), parts()
    specialists = copy.deepcopy(method.specialists)
    specialists.remembered = None
    for teacher in specialists.teachers:  # thawed: another training of the masks
        for p in teacher.mask.parameters():
            p.requires_grad_(True)
    student = context.teacher_outputs(method.student)
    select = dict(specialists.outputs.items()) | {"student": student}
    masks = MaskTraining(specialists, student, select, context.task, 4.0)
    before = copy.deepcopy(masks.state_dict())
    history = fit(masks, batch, batch, TrainingConfig(epochs=6, batch_size=36, learning_rate=0.01), seed=0)
    assert list(history.epochs[0])[2:-1] == [f"mask {name}" for name in NAMES]
    assert history.best_score > history.epochs[0]["select"] - 1e-9
    moved = {n for n, x in masks.state_dict().items() if not torch.equal(x, before[n])}
    assert moved
    assert all(".mask." in name for name in moved)
    terms = masks.eval().terms(batch, TrainState())
    assert masks.score(batch) == pytest.approx(-sum(x.item() for x in terms.values()), rel=1e-5)


def test_every_specialist_has_one_mask():
    method, batch = built().eval(), rows()
    teachers = method.specialists.teachers
    network = parts().network(tuple(SHAPES))
    network.fusion, network.head = teachers[0].fusion, teachers[0].head
    output = method.specialists.outputs["joint"](batch)
    embedding = output.fused * teachers[1].mask(output.fused)
    said = method.specialists(batch)
    assert torch.allclose(said[1], network.head(embedding))
    mask = teachers[0].mask(torch.cat([output.vector(m) for m in SHAPES], dim=1)).split(8, dim=1)
    masked = {m: output.features[m] * part[:, None] for m, part in zip(SHAPES, mask, strict=True)}
    assert torch.allclose(said[0], network.head(network.fusion(masked)))
    assert method.specialists.names == NAMES


def test_the_terms_of_the_student_by_the_route_of_each_row():
    method, batch = built(decay=False).eval(), rows()
    terms = method.terms(batch, TrainState())
    assert list(terms) == ["task", "distil", "balance", "gate"]
    assert method.weights == {"distil": 1.0, "balance": 1.0}
    student, teachers = method.student(batch).prediction, method.specialists(batch)
    gates = method.gate(student).softmax(1)
    best = gates.argmax(1).tolist()
    each = [distances(student, t, method.task, 4.0) for t in teachers]
    expected = sum(each[k][i] for i, k in enumerate(best)) / len(batch)
    assert terms["distil"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["balance"].item() == pytest.approx(load_balance(gates).item(), rel=1e-4, abs=1e-7)
    lowest = torch.stack([label_losses(t, batch.target, batch.labelled, method.task)[0] for t in teachers]).argmin(0)
    assert terms["gate"].item() == pytest.approx(
        torch.nn.functional.cross_entropy(method.gate(student), lowest).item(), rel=1e-5
    )
    shares = [best.count(k) / len(best) for k in range(4)]
    assert [x.item() for x in method.logged.values()] == pytest.approx(shares)
    assert list(method.logged) == [f"routed to {name}" for name in NAMES]


def test_two_specialists_share_a_row_and_a_soft_gate_has_all():
    method, batch = built(k=2, decay=False).eval(), rows()
    value = method.terms(batch, TrainState())["distil"]
    student, teachers = method.student(batch).prediction, method.specialists(batch)
    gates = method.gate(student).softmax(1)
    each = torch.stack([distances(student, t, method.task, 4.0) for t in teachers], dim=1)
    expected = each.gather(1, gates.topk(2, dim=1).indices).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    method.kind = "soft"
    terms = method.terms(batch, TrainState())
    assert terms["distil"].item() == pytest.approx((gates * each).sum(1).mean().item(), rel=1e-5)
    assert "gate" not in terms


def test_the_released_gate_learns_from_the_balance_alone_and_moves_the_student():
    batch = rows()
    for kind, terms_of_gate, moves_student in (
        ("released", {"balance"}, True), ("soft", {"balance", "distil"}, False), ("loss", {"balance", "gate"}, False),
    ):  # fmt: skip
        method = built(kind=kind).eval()
        terms = method.terms(batch, TrainState())
        gate, student = list(method.gate.parameters()), list(method.student.parameters())
        reached = {
            name
            for name, value in terms.items()
            if any(g is not None for g in torch.autograd.grad(value, gate, retain_graph=True, allow_unused=True))
        }
        assert reached == terms_of_gate
        grads = torch.autograd.grad(terms["balance"], student, allow_unused=True)
        assert any(g is not None for g in grads) is moves_student


@pytest.mark.parametrize(
    ("epoch", "distil", "balance"), [(0, 1, 1), (1, 0.5, 0.9), (30, 0.5, 0.9**3), (31, 0.25, 0.9**4)]
)
def test_the_weights_decay_as_released(epoch, distil, balance):
    """½ after epochs 0, 30, …, and 0.9 after 0, 10, …: epoch 0 is included."""
    assert built()._scales(epoch) == pytest.approx((distil, balance))
    assert built(decay=False)._scales(epoch) == (1, 1)


def test_rows_without_a_privileged_modality_go_to_the_joint_teachers():
    method, batch = built(k=4).eval(), rows()
    lacks = torch.arange(len(batch)) < 7
    method.terms(replace(batch, present=dict.fromkeys(PRIVILEGED, ~lacks)), TrainState())
    share = 1 - 7 / len(batch)
    with_all, with_two = share / 4, (1 - share) / 2
    assert [x.item() for x in method.logged.values()] == pytest.approx(
        [with_all + with_two, with_all + with_two, with_all, with_all]
    )


@pytest.mark.slow
def test_every_pixel_is_routed():
    method, batch = built("segmentation", "both", decay=False).eval(), rows("segmentation", "both")
    student, teachers = method.student(batch).prediction, method.specialists(batch)
    gates = method.gate(student.movedim(1, -1)).softmax(-1)
    batch = replace(batch, present={"watch": torch.arange(len(batch)) > 5, "pulse": torch.arange(len(batch)) > 5})
    terms = method.terms(batch, TrainState())
    there = method.specialists.teaches(batch)
    assert there.all(1).tolist() == (torch.arange(len(batch)) > 5).tolist()
    gates = gates.where(there[:, None, None], 0.0)
    total = 0.0
    for k, teacher in enumerate(teachers):
        each = distances(student, teacher, method.task, 4.0).view(gates.shape[:3])
        total += each[gates.argmax(-1) == k].sum().item()
    assert terms["distil"].item() == pytest.approx(total / gates[..., 0].numel(), rel=1e-4)


def test_the_student_goes_on_from_its_co_training_and_the_record_has_the_routes():
    method, batch = built("classification", "both"), rows("classification", "both")
    fresh = parts("classification", "both").network(AVAILABLE).state_dict()
    assert any(not torch.equal(x, fresh[name]) for name, x in method.student.state_dict().items())
    history = fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=12), seed=0)
    for epoch in history.epochs:
        assert sum(epoch[f"routed to {name}"] for name in NAMES) == pytest.approx(1)


def test_what_it_cannot_do_is_refused():
    config = load_config({"data": "synthetic", "privileged": ["pulse"]})
    with pytest.raises(ConfigError, match=r"'mst' trains a teacher on the privileged .*pulse has none"):
        MethodSpec.parse("mst").check(config, task_of("segmentation"), shapes_of("segmentation"))
    for name, value in (("k", 5), ("mask_width", 4)):
        with pytest.raises(ConfigError, match=rf"options\.mst\.{name}: expected"):
            build_standalone("mst", "classification", "complete", **{name: value})
