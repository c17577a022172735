"""MMANet: its two terms by hand, how the weakest combination is found and kept, and the students that it refuses."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from helpers.support import build_standalone, shapes_of, standalone_parts, task_of
from sidelight.config import TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.methods import MethodSpec, TrainState
from sidelight.methods.mmanet import CombinationRegularised, margin_aware_similarity, weakness
from sidelight.training import fit

S = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
T = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
LOGITS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])


@cache
def _built() -> CombinationRegularised:
    made = build_standalone("mmanet", "classification", "complete", begin=3)
    assert isinstance(made, CombinationRegularised)
    return made


def built() -> CombinationRegularised:
    return copy.deepcopy(_built())


def rows() -> Batch:
    return standalone_parts("mmanet", "classification", "complete").rows().materialize()


@pytest.mark.parametrize(("weigh", "value"), [("rows", 0.405688), ("columns", 0.536507)])
def test_the_margin_aware_distance_by_hand(weigh, value):
    s = S.clone().requires_grad_()
    found = margin_aware_similarity(s, T, LOGITS, weigh)
    assert found.item() == pytest.approx(value, abs=1e-6)
    assert torch.autograd.grad(found, s)[0].any()


@pytest.mark.parametrize("weigh", ["rows", "columns"])
@pytest.mark.parametrize("logits", [torch.zeros(3, 2), torch.zeros(3, 1), torch.tensor([[1e4, 0.0]] * 3)])
def test_rows_of_one_entropy_weigh_the_same(logits, weigh):
    """Also where the teacher is sure of every row, and of a single class: 0 · log 0, and a sum of 0."""
    found = margin_aware_similarity(S, T, logits, weigh)
    assert found.item() == pytest.approx(3 * 0.176536, abs=1e-5)
    assert margin_aware_similarity(torch.zeros(3, 2), T, logits, weigh).isfinite()


def test_the_weakness_by_hand():
    assert weakness(torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.5])).item() == pytest.approx(0.074026, abs=1e-6)
    assert weakness(torch.tensor([0.3, 0.7]), torch.tensor([0.3, 0.7])).item() == 0


def test_the_terms_begin_late_and_reach_what_they_should():
    method, batch = built().train(), rows()
    assert "mad" not in method.terms(batch, TrainState(2))
    torch.manual_seed(1)
    terms = method.terms(batch, TrainState(3))
    assert terms.keys() == {"task", "complete", "mad", "mar"}
    assert method.weights == {"mad": 30.0, "mar": 0.5}
    teacher = method.teacher(batch)
    torch.manual_seed(1)
    student = method.student(batch).embedding
    expected = margin_aware_similarity(student, teacher.embedding, teacher.prediction)
    assert terms["mad"].item() == pytest.approx(expected.item(), rel=1e-5)
    head = [p for n, p in method.student.named_parameters() if n.startswith("head")]
    assert all(g is None for g in torch.autograd.grad(terms["mar"], head, retain_graph=True, allow_unused=True))
    for p in method.auxiliary.parameters():
        assert torch.autograd.grad(terms["mar"], p, retain_graph=True)[0].any()


def test_the_second_head_learns_from_rows_of_the_weakest_combination_alone():
    method, batch = built().eval(), rows()  # in evaluation nothing more is left out than what is missing
    n = len(batch)
    present = {"phone": torch.arange(n) % 3 != 1, "watch": torch.arange(n) % 3 != 2}
    batch = replace(batch, present=present)
    method.scores.copy_(torch.tensor([0.1, 0.3]))  # without the watch it is weakest: the phone alone
    terms = method.terms(batch, TrainState(3))
    weak = ~present["watch"]
    assert method.logged["weak rows"].item() == pytest.approx(weak.float().mean().item())
    logits = method.auxiliary(method.student(batch).fused)
    expected = torch.nn.functional.cross_entropy(logits[weak], batch.target[weak], reduction="sum") / n
    assert terms["mar"].item() == pytest.approx(expected.item(), rel=1e-5)
    nobody = method.terms(replace(batch, present={}), TrainState(3))
    assert nobody["mar"].item() == 0
    method.scores.zero_()  # nothing was seen yet: every row that lacks something
    method.terms(batch, TrainState(3))
    assert method.logged["weak rows"].item() == pytest.approx((torch.arange(n) % 3 != 0).float().mean().item())


def test_the_weakest_combination_is_found_on_the_select_rows_in_the_epochs_before_the_terms():
    method, batch = built(), rows()
    with torch.no_grad():  # a student that reads the watch alone, and says one class for half of the rows
        method.student.fusion.out[0].weight[:, :8] = 0
        fused = method.student.eval()(batch).fused
        unit = int(fused.std(0).argmax())
        head = method.student.head
        head.weight.zero_()
        head.weight[0, unit] = 1
        head.bias.copy_(torch.stack([-fused[:, unit].median(), torch.tensor(0.0), torch.tensor(-9.0)]))
    for epoch, seen in ((3, False), (0, True), (1, True), (2, True), (4, False)):
        before = method.scores.clone()
        method.terms(batch, TrainState(epoch))
        method.score(batch)
        assert bool((method.scores != before).any()) is seen
    assert int(method.scores.argmax()) == 1
    assert method.scores[0] == 0


def test_a_resumed_training_remembers_the_weakest_combination(tmp_path: Path):
    settings, batch = TrainingConfig(epochs=5, batch_size=12), rows()
    whole = built()
    history = fit(whole, batch, batch, settings, seed=0)
    assert "mar" not in history.epochs[2]
    assert 0 < history.epochs[3]["weak rows"] < 1

    class Killed(Exception):
        pass

    class KillIn4:
        def __call__(self, method, epoch):
            if epoch == 4:
                raise Killed

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    place = tmp_path / "state.pt"
    with pytest.raises(Killed):
        fit(built(), batch, batch, settings, seed=0, checkpoint=place, checkpoint_seconds=0, callback=KillIn4())
    again = built()
    resumed = fit(again, batch, batch, settings, seed=0, checkpoint=place)
    assert [{n: x for n, x in e.items() if n != "seconds"} for e in resumed.epochs] == [
        {n: x for n, x in e.items() if n != "seconds"} for e in history.epochs
    ]


def test_students_of_all_their_modalities_are_refused_and_late_terms_are_told():
    both = {"data": "synthetic", "available": ["phone", "watch"], "privileged": ["pulse"]}
    for config in (load_config(both), load_config({"data": "synthetic", "available": ["phone"], "student.drop": 0.3})):
        with pytest.raises(ConfigError, match="'mmanet' helps a student that reads any subset of two or more"):
            MethodSpec.parse("mmanet").check(config, task_of("classification"), shapes_of("classification"))
    late = load_config(both | {"student.drop": 0.3, "training.epochs": 5})
    with pytest.warns(SidelightWarning, match="begin=5 leaves none of 5 epochs"):
        MethodSpec.parse("mmanet").check(late, task_of("classification"), shapes_of("classification"))
