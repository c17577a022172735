"""C2KD: its rank correlation and divergence by hand, which rows it keeps, who learns from whom, and what it refuses."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor

from helpers.support import PRIVILEGED, build_standalone, shapes_of, standalone_parts, task_of
from sidelight.config import TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses import kendall_tau, nontarget_kl, soft_label_kl
from sidelight.methods import MethodSpec, TrainState
from sidelight.methods.c2kd import OnlinePair, Proxy
from sidelight.tasks import make_task
from sidelight.training import fit

TEACHER = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
STUDENT = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, -1.0]])
LABELS = torch.tensor([0, 1])


@cache
def _built(task: str, kind: str, **options) -> OnlinePair:
    made = build_standalone("c2kd", task, kind, **options)
    assert isinstance(made, OnlinePair)
    return made


def built(task: str = "classification", kind: str = "complete", **options) -> OnlinePair:
    return copy.deepcopy(_built(task, kind, **options))


def rows(task: str = "classification", kind: str = "complete") -> Batch:
    return standalone_parts("c2kd", task, kind).rows().materialize()


# by hand ------------------------------------------------------------------------------------------------------------


def test_the_rank_correlation_by_hand_and_against_scipy():
    assert kendall_tau(TEACHER, STUDENT).tolist() == pytest.approx([1 / 3, -1])
    g = torch.Generator().manual_seed(0)
    one, other = torch.randint(0, 4, (2, 12, 6), generator=g).double()  # with ties
    expected = [kendalltau(a, b).statistic for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    assert kendall_tau(one, other).tolist() == pytest.approx(expected)
    assert kendall_tau(torch.ones(1, 3), STUDENT[:1]).item() == 0  # scipy has no number here
    maps = kendall_tau(one.T.reshape(1, 6, 3, 4), other.T.reshape(1, 6, 3, 4))
    assert maps.flatten().tolist() == pytest.approx(expected)


def test_two_classes_agree_or_they_do_not():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0, -1.0], [3.0, 0.0], [2.0, 0.0]])
    assert kendall_tau(a, b).tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("nontarget", "each", "kept"),
    [("zeroed", (0.364175, 1.422512), 0.182088), ("removed", (0.462117, 1.523188), 0.231059)],
)
def test_the_divergence_by_hand(nontarget, each, kept):
    for row, value in enumerate(each):
        found = nontarget_kl(STUDENT[row : row + 1], TEACHER[row : row + 1], LABELS[row : row + 1], None, nontarget)
        assert found.item() == pytest.approx(value, abs=1e-6)
    chosen = kendall_tau(STUDENT, TEACHER) > 0
    assert chosen.tolist() == [True, False]
    assert nontarget_kl(STUDENT, TEACHER, LABELS, chosen, nontarget).item() == pytest.approx(kept, abs=1e-6)
    # an unlabelled row neither counts nor is divided by
    found = nontarget_kl(STUDENT, TEACHER, torch.tensor([0, -1]), None, nontarget)
    assert found.item() == pytest.approx(each[0], abs=1e-6)


def test_the_divergence_of_two_classes_by_hand():
    s, t = torch.tensor([[1.0, -1.0]], requires_grad=True), torch.tensor([[2.0, 0.0]])
    zeroed, removed = (nontarget_kl(s, t, LABELS[:1], None, kind) for kind in ("zeroed", "removed"))
    assert (zeroed.item(), removed.item()) == (pytest.approx(0.120115, abs=1e-6), 0)
    assert torch.autograd.grad(removed, s)[0].isfinite().all()


@pytest.mark.parametrize("nontarget", ["zeroed", "removed"])
def test_pixels_are_rows_and_ignored_ones_do_not_count(nontarget):
    g = torch.Generator().manual_seed(1)
    s, t = torch.randn(2, 2, 4, 3, 5, generator=g)
    labels = torch.randint(-1, 4, (2, 3, 5), generator=g)
    flat = [x.movedim(1, -1).reshape(-1, 4) for x in (s, t)]
    kept = kendall_tau(s, t) > 0
    whole = nontarget_kl(s, t, labels, kept, nontarget)
    assert whole.item() == pytest.approx(
        nontarget_kl(*flat, labels.flatten(), kept.flatten(), nontarget).item(), rel=1e-5
    )


# the method ---------------------------------------------------------------------------------------------------------


def test_the_terms_are_those_of_the_formula():
    method, batch = built().eval(), rows()
    terms = method.terms(batch, TrainState())
    s, t = method.student(batch), method.teacher(batch)
    s2, t2 = method.student_proxy(s.features), method.teacher_proxy(t.features)
    kept = kendall_tau(s2, t2) > 0
    pairs = {"student proxy": (s.prediction, s2), "teacher proxy": (t.prediction, t2)}
    expected = {name: soft_label_kl(a, b, 1.0) + soft_label_kl(b, a, 1.0) for name, (a, b) in pairs.items()}
    expected["to student"] = nontarget_kl(s2, t2, batch.target, kept)
    expected["to teacher"] = nontarget_kl(t2, s2, batch.target, kept)
    expected["task"], expected["teacher"] = (
        method.task.loss(x.prediction, batch.target, batch.labelled) for x in (s, t)
    )
    assert {name: x.item() for name, x in terms.items()} == pytest.approx(
        {name: x.item() for name, x in expected.items()}, rel=1e-5
    )
    assert method.logged["kept rows"].item() == pytest.approx(kept.float().mean().item())


def test_teacher_and_student_meet_in_the_proxies_alone():
    method, batch = built().train(), rows()
    parts = {"student": method.student, "teacher": method.teacher}
    proxies = {"student": method.student_proxy, "teacher": method.teacher_proxy}
    moved: dict[str, set[str]] = {}
    for name, value in method.terms(batch, TrainState()).items():
        moved[name] = set()
        for who in parts:
            for what, module in (("", parts[who]), (" proxy", proxies[who])):
                grads = torch.autograd.grad(value, list(module.parameters()), retain_graph=True, allow_unused=True)
                if any(g is not None and bool(g.any()) for g in grads):
                    moved[name].add(who + what)
    assert moved == {
        "task": {"student"},
        "teacher": {"teacher"},
        "student proxy": {"student", "student proxy"},
        "teacher proxy": {"teacher", "teacher proxy"},
        "to student": {"student", "student proxy"},
        "to teacher": {"teacher", "teacher proxy"},
    }


def test_the_teacher_starts_from_its_own_training_and_learns_on():
    method, batch = built(), rows()
    start = standalone_parts("c2kd", "classification", "complete").trained_network(PRIVILEGED).state_dict()
    assert all(torch.equal(start[name], x) for name, x in method.teacher.state_dict().items())
    history = fit(method, batch, batch, TrainingConfig(epochs=2, batch_size=24), seed=0)
    assert any(not torch.equal(start[name], x) for name, x in method.teacher.state_dict().items())
    assert all(0 < epoch["kept rows"] < 1 for epoch in history.epochs)


def gradient_of(terms: dict[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    """Term -> how much the inputs of each row move it."""
    found = {}
    for name, value in terms.items():
        grad = torch.autograd.grad(value, inputs, retain_graph=True, allow_unused=True)[0]
        if grad is not None:
            found[name] = grad.abs().sum(1)
    return found


def test_rows_without_teacher_or_label_take_part_in_what_needs_none():
    method, batch = built().eval(), rows()
    method.threshold = -2.0  # the untrained proxies rank these few rows alike in none
    phone = batch.inputs["phone"].clone().requires_grad_()
    lacks = torch.arange(len(batch)) < 8
    unlabelled = (torch.arange(len(batch)) >= 8) & (torch.arange(len(batch)) < 16)
    batch = replace(
        batch, inputs=batch.inputs | {"phone": phone}, present=dict.fromkeys(PRIVILEGED, ~lacks), labelled=~unlabelled
    )
    moved = gradient_of(method.terms(batch, TrainState()), phone)
    assert moved.keys() == {"task", "student proxy", "to student"}
    assert not moved["to student"][lacks | unlabelled].any()
    assert moved["to student"][~lacks & ~unlabelled].any()
    assert moved["task"][lacks].all()
    assert not moved["task"][unlabelled].any()
    assert moved["student proxy"].all()


def test_a_row_alone_is_normalised_by_the_running_statistics():
    torch.manual_seed(0)
    proxy = Proxy({"watch": (1, 4)}, 6, 3).train()
    features = {"watch": torch.randn(3, 1, 4)}
    proxy(features)
    before = copy.deepcopy(proxy.norm.state_dict())
    alone = proxy({"watch": features["watch"][:1]})
    assert torch.equal(alone, proxy.eval()({"watch": features["watch"][:1]}))
    assert proxy({"watch": features["watch"][:0]}).shape == (0, 3)
    assert all(torch.equal(x, before[name]) for name, x in proxy.norm.state_dict().items())


# what it refuses ------------------------------------------------------------------------------------------------------


def test_two_classes_have_the_released_form_and_one_class_none():
    assert built("anti-spoofing").nontarget == "zeroed"
    assert (built().nontarget, built(nontarget="zeroed").nontarget) == ("removed", "zeroed")
    asked = load_config({"data": "synthetic", "options.c2kd.nontarget": "removed"})
    with pytest.raises(ConfigError, match="leaves one class of two, which teaches nothing: set it to zeroed"):
        MethodSpec.parse("c2kd").check(asked, make_task("classification", ("a", "b")), shapes_of("classification"))
    with pytest.raises(ConfigError, match="has one class: use 'cosine'"):
        MethodSpec.parse("c2kd").check(
            load_config({"data": "synthetic"}), make_task("classification", ("a",)), shapes_of("classification")
        )


def test_a_segmentation_without_privileged_images_is_refused():
    config = load_config({"data": "synthetic", "privileged": ["pulse"]})
    with pytest.raises(ConfigError, match=r"'c2kd' trains a teacher on the privileged .*pulse has none"):
        MethodSpec.parse("c2kd").check(config, task_of("segmentation"), shapes_of("segmentation"))
