"""The loop: how batches are drawn, which epoch is kept, when it stops, and whose gradient moves what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.support import AVAILABLE, distillation_subject, make_network, make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.errors import RunError
from sidelight.methods import Method, Step, Supervised, TrainState
from sidelight.training import fit
from sidelight.training.loop import draw_batches


def drawn(rows: int, part: Tensor | None, size: int, seed: int = 0, count: int | None = None) -> list[Tensor]:
    return draw_batches(torch.arange(rows), part, size, torch.Generator().manual_seed(seed), count)


# batches ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(2, 64), st.integers(0, 4), st.integers(0, 2**30))
def test_batches_hold_each_row_once_within_parts_and_of_nearly_equal_size(n, size, parts, seed):
    part = torch.randint(parts, (n,), generator=torch.Generator().manual_seed(seed)) if parts else None
    made = drawn(n, part, size, seed)
    assert torch.cat(made).sort().values.tolist() == list(range(n))
    where = torch.zeros(n, dtype=torch.int64) if part is None else part
    for p in where.unique().tolist():
        sizes = [len(b) for b in made if int(where[b[0]]) == p]
        assert len(sizes) == math.ceil(sum(sizes) / size)
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
    assert all(len(where[b].unique()) == 1 for b in made)


def test_batches_are_those_of_the_seed():
    part = torch.arange(40) % 3
    for given_part in (None, part):
        first, again, other = (drawn(40, given_part, 7, seed) for seed in (1, 1, 2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(torch.cat(first), torch.cat(other))


def test_batches_of_parts_are_mixed_over_the_epoch():
    """Not all batches of one part before those of the next."""
    order = [int(b[0] >= 100) for b in drawn(200, (torch.arange(200) >= 100).long(), 10)]
    assert sum(a != b for a, b in pairwise(order)) > 3


def test_batches_take_the_given_rows_only():
    made = draw_batches(torch.tensor([3, 9, 11]), None, 2, torch.Generator())
    assert sorted(torch.cat(made).tolist()) == [3, 9, 11]


@given(st.integers(1, 60), st.integers(1, 30))
def test_a_count_of_batches_goes_through_the_rows_again(n, count):
    made = drawn(n, None, 8, count=count)
    each = math.ceil(n / 8)
    assert len(made) == count
    for k in range(count // each):
        assert torch.cat(made[k * each : (k + 1) * each]).sort().values.tolist() == list(range(n))


# toys ---------------------------------------------------------------------------------------------------------------


class Toy(Method):
    """One number; `scores` is what select says after each epoch."""

    learns_from = "all"

    def __init__(self, scores: list[float] | None = None):
        super().__init__(task_of("classification"))
        self.x = nn.Parameter(torch.zeros(()))
        self.scores = scores
        self.asked = 0

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        return {"distance": (self.x - 10).square()}

    def score(self, select: Batch) -> float:
        self.asked += 1
        return self.scores[self.asked - 1] if self.scores else self.x.item()


class Record:
    """A watch that keeps the number after each epoch."""

    def __init__(self):
        self.seen: dict[int, float] = {}

    def __call__(self, method, epoch):
        self.seen[epoch] = method.x.item()

    def state_dict(self):
        return dict(self.seen)

    def load_state_dict(self, state):
        self.seen = dict(state)


ROWS = make_rows("classification")


def run(method: Method, epochs: int = 5, patience: int = 99, rows: Batch = ROWS, **more):
    return fit(method, rows, rows, TrainingConfig(epochs, patience, 8, 0.1, 0.0, least_steps=1), seed=0, **more)


# epochs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scores", "best"), [([1, 3, 2, 2, 1], 2), ([1, 2, 3, 4, 5], 5), ([2, 2, 2, 2, 2], 1)])
def test_the_best_epoch_is_restored_the_earliest_of_equals(scores, best):
    method, watch = Toy([float(s) for s in scores]), Record()
    history = run(method, callback=watch)
    assert history.best_epoch == best
    assert history.best_score == max(scores)
    assert method.x.item() == watch.seen[best]
    assert sorted(watch.seen) == [0, 1, 2, 3, 4, 5]
    assert len(set(watch.seen.values())) == 6
    assert not method.training


@pytest.mark.parametrize(("patience", "epochs", "best"), [(1, 3, 2), (2, 4, 2), (3, 8, 5), (99, 8, 5)])
def test_patience_counts_epochs_without_a_better_score(patience, epochs, best):
    history = run(Toy([1.0, 2.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0]), 8, patience)
    assert (len(history.epochs), history.best_epoch) == (epochs, best)


def test_the_history_says_what_happened():
    method = Toy()
    history = run(method, 3)
    assert [e["epoch"] for e in history.epochs] == [1, 2, 3]
    assert all(set(e) == {"epoch", "select", "distance", "seconds"} for e in history.epochs)
    assert [e["distance"] for e in history.epochs] == sorted((e["distance"] for e in history.epochs), reverse=True)
    assert 0 < sum(e["seconds"] for e in history.epochs) <= history.seconds


def test_the_clock_counts_epochs_and_steps():
    seen = []

    class Watched(Toy):
        def terms(self, batch, state):
            seen.append((state.epoch, state.epochs, state.step))
            return super().terms(batch, state)

    run(Watched(), 2)
    assert seen == [(e, 2, 3 * e + i) for e in range(2) for i in range(3)]


def test_the_best_score_is_that_of_the_network_that_is_left():
    """Scored in evaluation mode, without dropout, as it will be used."""
    method = Supervised(make_network(AVAILABLE, task_of("regression")), task_of("regression"))
    history = run(method, rows=make_rows("regression", "both"))
    assert method.score(make_rows("regression", "both")) == history.best_score > 0


def test_terms_are_weighed_and_recorded_unweighed():
    method = Toy()
    method.weights = {"distance": 0.0}
    history = run(method, 1)
    assert method.x.item() == 0.0
    assert history.epochs[0]["distance"] == 100.0


def test_fit_is_the_same_twice_and_another_with_another_seed():
    def trained(seed):
        method = Supervised(make_network(AVAILABLE, task_of("classification")), task_of("classification"))
        fit(method, ROWS, ROWS, TrainingConfig(3, 3, 8, least_steps=1), seed=seed)
        return torch.cat([p.flatten() for p in method.parameters()])

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


# rows ---------------------------------------------------------------------------------------------------------------


class Seen(Toy):
    """Notes which rows its batches hold, and from which part."""

    def __init__(self):
        super().__init__()
        self.batches: list[list[int]] = []

    def terms(self, batch, state):
        self.batches.append(sorted(batch.index.tolist()))
        return super().terms(batch, state)


def test_who_learns_from_labels_sees_labelled_rows_alone_and_as_many_steps():
    rows = make_rows("classification", "partly labelled")
    labels, everything = Seen(), Seen()
    labels.learns_from = "labelled"  # type: ignore[misc]
    run(labels, 2, rows=rows)
    run(everything, 2, rows=rows)
    assert len(labels.batches) == len(everything.batches) == 6
    assert {i for b in labels.batches for i in b} == set(rows.labelled.nonzero()[:, 0].tolist())
    assert sorted(i for b in everything.batches[:3] for i in b) == list(range(24))


def test_parts_are_kept_apart_only_where_the_method_asks():
    part = (torch.arange(24) >= 12).long()
    apart, mixed = Seen(), Seen()
    apart.within_teacher_folds = True
    for method in (apart, mixed):
        run(method, 2, teacher_fold=part)
    inside = [len({i >= 12 for i in b}) == 1 for b in apart.batches]
    assert all(inside)
    assert not all(len({i >= 12 for i in b}) == 1 for b in mixed.batches)


@pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning")
def test_a_relational_method_compares_rows_of_one_teacher_only():
    subject = distillation_subject("pkdot", "classification", "both", tnet=False, crossfit=True)
    method, seen = subject.fresh(), []
    steps = method.steps

    def watched(batch, state):
        seen.append(tuple(subject.teacher_fold[batch.index].unique().tolist()))
        return steps(batch, state)

    method.steps = watched
    run(method, 5, rows=subject.rows, teacher_fold=subject.teacher_fold)
    assert set(seen) == {(0,), (1,)}


def test_no_labelled_row_is_an_error_for_who_needs_one():
    nobody = replace(ROWS, labelled=torch.zeros(24, dtype=torch.bool))
    method = Supervised(make_network(AVAILABLE, task_of("classification")), task_of("classification"))
    with pytest.raises(RunError, match="no labelled training row"):
        run(method, rows=nobody)
    with pytest.raises(RunError, match="choosing epochs needs labelled `select` rows"):
        fit(method, ROWS, nobody, TrainingConfig(2, least_steps=1), seed=0)


# NaN ----------------------------------------------------------------------------------------------------------------


class Breaks(Toy):
    """The term "second" leaves the numbers in epoch 3, and takes "first" with it a step later."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def terms(self, batch, state):
        broken = self.value if state.step == 6 else 0.0
        return {"first": (self.x - 10).square(), "second": self.x * 0.01 + broken * self.x}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_term_that_broke_first_is_named_with_its_epoch(value):
    with pytest.raises(RunError, match=r"the loss term 'second' became -?(nan|inf) in epoch 3\..*learning_rate"):
        run(Breaks(value), 9)


def test_a_score_that_is_no_number_is_an_error_and_not_an_untrained_network():
    with pytest.raises(RunError, match="score on the select rows is nan in epoch 2"):
        run(Toy([1.0, math.nan, 1.0]))


# groups -------------------------------------------------------------------------------------------------------------


class Duel(Method):
    """Adversaries on one product: the critic raises it, the maker lowers it; each step's gradient reaches both."""

    learns_from = "all"

    def __init__(self):
        super().__init__(task_of("classification"))
        self.maker, self.critic = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(2.0))
        self.between: list[tuple[float, float]] = []

    def groups(self):
        return {"critic": [self.critic], "main": [self.maker]}

    def note(self):
        self.between.append((self.maker.item(), self.critic.item()))

    def steps(self, batch: Batch, state: TrainState) -> Iterator[Step]:
        self.note()
        yield Step("critic", {"critic": -self.maker * self.critic})
        self.note()
        yield Step("main", {"main": self.maker * self.critic})
        self.note()

    def score(self, select):
        return 0.0


def test_the_gradient_of_one_group_does_not_leak_into_another():
    method = Duel()
    fit(method, ROWS, ROWS, TrainingConfig(1, 1, 24, 0.1, 0.0, least_steps=1), seed=0)
    (m0, c0), (m1, c1), (m2, c2) = method.between
    assert (m0, c0) == (3.0, 2.0)
    assert m1 == m0  # the critic's step moves the critic alone,
    assert c1 == pytest.approx(2.1, abs=1e-4)  # up its own gradient by Adam's first step,
    assert c2 == c1  # and the maker's step the maker alone,
    assert m2 == pytest.approx(2.9, abs=1e-4)
    assert method.maker.grad is None  # and no gradient is left behind
    assert method.critic.grad is None


def test_each_group_steps_as_if_it_were_alone():
    """Each group has its own optimiser: a duel is that of two Adams with a gradient each."""
    method = Duel()
    fit(method, ROWS, ROWS, TrainingConfig(1, 1, 2, 0.05, 0.01, least_steps=1), seed=0)
    maker, critic = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.tensor(2.0))
    adams = [torch.optim.AdamW([p], lr=0.05, weight_decay=0.01) for p in (critic, maker)]
    for _ in range(12):
        for adam, mine, sign in ((adams[0], critic, -1), (adams[1], maker, 1)):
            mine.grad = torch.autograd.grad(sign * maker * critic, mine)[0]
            adam.step()
    assert method.maker.item() == pytest.approx(maker.item(), rel=1e-6)
    assert method.critic.item() == pytest.approx(critic.item(), rel=1e-6)


def test_a_parameter_outside_every_group_stays():
    method = Toy()
    method.register_parameter("frozen", nn.Parameter(torch.ones(3), requires_grad=False))
    run(method, 2)
    assert method.frozen.tolist() == [1, 1, 1]


# balanced batches ---------------------------------------------------------------------------------------------------


def test_balanced_batches_hold_as_many_rows_of_each_class_and_every_unlabelled_row_once():
    classes = torch.tensor([0] * 40 + [1] * 10 + [2] * 10 + [-1] * 12)
    made = draw_batches(torch.arange(72), None, 24, torch.Generator().manual_seed(0), None, classes)
    counts = [torch.bincount(classes[b] + 1, minlength=4).tolist() for b in made]
    # 60 labelled rows of three classes: 20 of each, over three batches.
    assert [sum(column) for column in zip(*counts)] == [12, 20, 20, 20]
    assert all(c[0] == 4 and set(c[1:]) <= {6, 7} and sum(c) <= 24 for c in counts)
    drawn_rows = torch.cat(made)
    of_small = drawn_rows[classes[drawn_rows] == 1].bincount(minlength=50)[40:50]
    assert of_small.tolist() == [2] * 10
    assert len(drawn_rows[classes[drawn_rows] == 0].unique()) == 20


def test_balanced_batches_keep_to_their_teacher_folds_and_are_those_of_the_seed():
    classes, fold = torch.tensor([0] * 24 + [1] * 8), torch.arange(32) % 2
    first, again, other = (
        draw_batches(torch.arange(32), fold, 8, torch.Generator().manual_seed(s), 6, classes) for s in (1, 1, 2)
    )
    assert all(len(fold[b].unique()) == 1 and int(classes[b].sum()) == 4 for b in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) == 6
    assert not torch.equal(torch.cat(first), torch.cat(other))


def test_t_nets_read_no_labels_and_draw_every_row_alike():
    """Balanced batches repeat labelled rows of rare classes, which says nothing to a loss without labels."""
    from sidelight.methods.base import Supervised
    from sidelight.methods.tnet_training import Hallucination
    from sidelight.testing.synthetic import AVAILABLE, make_network, make_rows, task_of
    from sidelight.training.job import TrainingJob

    task, rows = task_of("classification"), make_rows("classification", "both")
    settings = TrainingConfig(batches="balanced")
    network = make_network(AVAILABLE, task)
    supervised = TrainingJob("", Supervised(network, task), rows, rows, 0, None, None)
    classes = supervised.classes_to_draw(settings)
    assert classes is not None
    assert ((classes >= 0) == rows.labelled).all()
    assert not Hallucination.reads_labels
    supervised.method.reads_labels = False
    assert supervised.classes_to_draw(settings) is None
