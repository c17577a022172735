"""Draws by Optuna: the same after a restart, none twice, and only of this sweep."""

from __future__ import annotations

import math

import optuna
import pytest

from sidelight.errors import RunError, SidelightWarning
from sidelight.sweeps import Choices, Interval
from sidelight.sweeps.search import Search, draw_random

SPACE = {
    "training.learning_rate": Interval(1e-4, 1e-2, log=True),
    "transport.k": Interval(5, 60, whole=True),
    "student.init": Choices(("teacher", "random")),
}


def score(settings) -> float:
    return -abs(math.log10(settings["training.learning_rate"]) + 3) - settings["transport.k"] / 100


def test_random_draws_depend_on_seed_and_number_alone():
    draws = [draw_random(SPACE, 0, number) for number in range(6)]
    assert [draw_random(SPACE, 0, number) for number in (3, 1)] == [draws[3], draws[1]]
    assert len({draw["training.learning_rate"] for draw in draws}) == 6
    assert draw_random(SPACE, 1, 0) != draws[0]
    for draw in draws:
        assert 1e-4 <= draw["training.learning_rate"] <= 1e-2
        assert isinstance(draw["transport.k"], int)
        assert draw["student.init"] in ("teacher", "random")


def search(file, restart: bool, trials: int = 14) -> list[dict]:
    drawn, made = [], None
    for number in range(trials):
        if made is None or restart:
            made = Search(file, "kl-l1-f0-s0", SPACE, seed=0)
            made.ask(number)  # and was killed
            made = Search(file, "kl-l1-f0-s0", SPACE, seed=0)
        drawn.append(made.ask(number))
        made.tell(number, drawn[-1], None if number == 4 else score(drawn[-1]))
    return drawn


def test_a_search_that_was_killed_at_every_draw_draws_the_same_and_nothing_twice(tmp_path):
    whole = search(tmp_path / "whole.log", restart=False)
    assert search(tmp_path / "killed.log", restart=True) == whole
    assert len({draw["training.learning_rate"] for draw in whole}) == len(whole)
    again = Search(tmp_path / "killed.log", "kl-l1-f0-s0", SPACE, seed=0)
    assert [again.ask(number) for number in range(14)] == whole
    assert [trial.state.name for trial in again.study.trials].count("FAIL") == 1
    assert again.study.best_value == max(score(draw) for number, draw in enumerate(whole) if number != 4)


def test_a_journal_that_was_torn_or_damaged_leads_to_the_same_draws(tmp_path):
    file = tmp_path / "journal.log"
    whole = search(file, restart=False, trials=4)
    with file.open("ab") as opened:
        opened.write(b'{"op_code":4,"work')  # killed while it wrote
    assert [Search(file, "kl-l1-f0-s0", SPACE, 0).ask(number) for number in range(4)] == whole
    (tmp_path / "journal.log.lock").write_text("")  # killed while it held the lock
    assert Search(file, "kl-l1-f0-s0", SPACE, 0).ask(3) == whole[3]
    file.write_text("{nothing\nof this\n")
    with pytest.warns(SidelightWarning, match="is damaged"):
        assert Search(file, "kl-l1-f0-s0", SPACE, 0).ask(0) == whole[0]


def test_a_study_of_other_ranges_or_another_direction_is_refused(tmp_path):
    file = tmp_path / "journal.log"
    search(file, restart=False, trials=1)
    with pytest.raises(RunError, match="has the ranges"):
        Search(file, "kl-l1-f0-s0", SPACE | {"transport.k": Interval(5, 61, whole=True)}, 0)
    other = tmp_path / "other.log"
    journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(other)))
    optuna.create_study(study_name="kl-l1-f0-s0", storage=journal, direction="minimize")
    with pytest.raises(RunError, match="looks for the smallest value"):
        Search(other, "kl-l1-f0-s0", SPACE, 0)
