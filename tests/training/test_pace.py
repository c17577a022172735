"""Few rows are trained for as many steps as many rows; many rows are trained as the settings say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from helpers.support import make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.experiment.artifacts import describe_end
from sidelight.methods import Method, TrainState
from sidelight.training import fit
from sidelight.training.loop import History, is_finished
from sidelight.training.pace import Pace, set_pace


class Toy(Method):
    """One number; `scores` is what select says after each epoch."""

    learns_from = "all"

    def __init__(self, scores: list[float] | None = None):
        super().__init__(task_of("classification"))
        self.x = nn.Parameter(torch.zeros(()))
        self.scores, self.asked, self.sizes = scores or [], 0, list[int]()

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        self.sizes.append(len(batch))
        return {"distance": (self.x - 10).square()}

    def score(self, select: Batch) -> float:
        self.asked += 1
        return self.scores[self.asked - 1] if self.scores else self.x.item()


@pytest.mark.parametrize(
    ("rows", "pace"),
    [
        (1, Pace(16, 10)),
        (29, Pace(16, 10)),  # 2 batches a pass: an epoch takes five passes
        (70, Pace(16, 10)),
        (160, Pace(16, 10)),
        (320, Pace(32, 10)),
        (1200, Pace(120, 10)),
        (1280, Pace(128, 10)),
        (1281, Pace(128, 11)),
        (100_000, Pace(128, 782)),
    ],
)
def test_an_epoch_of_few_rows_has_ten_steps_of_at_least_sixteen_rows(rows: int, pace: Pace) -> None:
    assert set_pace(TrainingConfig(), rows) == pace


@pytest.mark.parametrize("size", [2, 8, 16, 100, 128])
def test_many_rows_and_single_passes_are_trained_as_before(size: int) -> None:
    for rows in (*range(9 * size + 1, 12 * size), 5000):
        passes = set_pace(TrainingConfig(batch_size=size), rows)
        assert passes.steps == max(10, math.ceil(rows / size)), "the number of batches, on which their rows depend"
    for rows in (1, 29, 500):
        alone = TrainingConfig(batch_size=size, least_steps=1)
        assert set_pace(alone, rows) == Pace(min(size, max(16, rows)), math.ceil(rows / size))


def test_few_rows_take_the_steps_of_the_settings() -> None:
    """40 rows: 3 batches of at most 16 rows a pass, 10 steps an epoch; patience counts such epochs."""
    rows = make_rows("classification", n=40)
    method = Toy([1.0, 0.0, 0.0, 0.0])
    history = fit(method, rows, rows, TrainingConfig(epochs=9, patience=2), seed=0)
    assert len(history.epochs) == 3
    assert len(method.sizes) == 30
    assert set(method.sizes) == {13, 14}


def test_known_scores_end_the_training_at_the_best_without_reading_select_rows() -> None:
    rows, method = make_rows("classification", n=40), Toy()
    history = fit(method, rows, rows, TrainingConfig(epochs=9, patience=1), seed=0, scores=[0.2, 0.1, 0.7, 0.7, 0.3])
    assert method.asked == 0
    assert [e["select"] for e in history.epochs] == [0.2, 0.1, 0.7]
    assert (history.best_epoch, history.best_score) == (3, 0.7)
    assert is_finished(history, TrainingConfig(), [0.2, 0.1, 0.7, 0.7, 0.3])


def test_the_rows_of_an_epoch_may_be_counted_elsewhere() -> None:
    """An inner fold takes as many steps as the whole fold: 400 rows in batches of 40."""
    rows, method = make_rows("classification", n=40), Toy()
    fit(method, rows, rows, TrainingConfig(epochs=1), seed=0, epoch_rows=2560)
    fast = method.x.item()
    other = Toy()
    fit(other, rows, rows, TrainingConfig(epochs=2), seed=0)
    assert fast == other.x.item(), "20 steps either way"


@pytest.mark.parametrize(("best", "ended"), [(1, "first"), (2, "inside"), (9, "inside"), (10, "cap")])
def test_a_training_says_whether_it_ended_at_its_first_or_last_epoch(best: int, ended: str) -> None:
    assert describe_end(History(best_epoch=best), 10) == ended


def test_one_epoch_is_the_cap() -> None:
    assert describe_end(History(best_epoch=1), 1) == "cap"
