"""Doubts about the rows that chose epochs, and about networks whose best epoch is their first or last."""

from __future__ import annotations

import pandas as pd
import pytest

from sidelight.results import Comparison, compare
from sidelight.results.printing import plus_minus
from sidelight.results.units import unit


def _remarks(ended: dict[str, list[str]], way: str | list[str] = "inner", epochs: int | None = 50) -> dict[str, str]:
    rows = []
    for method, ends in ended.items():
        ways = [way] * len(ends) if isinstance(way, str) else way
        for fold, (end, chosen) in enumerate(zip(ends, ways)):
            row = {"method": method, "control": "", "labels": 0.2, "fold": fold, "seed": 0, "select": 0.5}
            row |= {"accuracy": 0.5 + fold / 10, "seconds": 1.0, "n_train": 90, "n_test": 30}
            rows.append(row | {"ended": end, "select_labels": chosen})
    results = pd.DataFrame(rows)
    results.attrs = {} if epochs is None else {"epochs": epochs}
    found = compare(results)
    return {r.code: r.text for r in found.remarks} | {"note": found.note}


def test_a_network_at_the_cap_is_named() -> None:
    ends = {"baseline": ["inside", "cap", "cap"], "kl": ["inside", "cap", "first"]}
    text = _remarks(ends)["ended_cap"]
    assert text == (
        "3 of 6 networks ended at the cap of 50 epochs (baseline 2, kl 1): they may not have learned all they can. "
        "Raise training.epochs."
    )
    assert "at the cap (baseline 2, kl 1)" in _remarks(ends, epochs=None)["ended_cap"]


@pytest.mark.parametrize(("first", "named"), [(1, False), (2, True)])
def test_first_epochs_are_named_from_a_tenth_of_the_networks(first: int, named: bool) -> None:
    ends = ["first"] * first + ["inside"] * (10 - first)
    assert ("ended_first" in _remarks({"baseline": ends, "kl": ["inside"] * 10})) is named


def test_jobs_that_do_not_say_how_they_ended_are_not_counted() -> None:
    assert not [code for code in _remarks({"baseline": ["", ""], "kl": ["", ""]}) if code.startswith("ended")]


def test_labels_beside_the_fraction_are_named() -> None:
    ends = {"baseline": ["inside"] * 2, "kl": ["inside"] * 2}
    inner, part = _remarks(ends), _remarks(ends, "part")
    assert "extra_select_labels" not in inner | part
    assert inner["note"] == "epochs were chosen by cross-validation inside the kept labels, all of which then trained"
    assert part["note"] == "a part of the kept labels chose epochs"
    assert "select_labels=extra" in _remarks(ends, "extra")["extra_select_labels"]
    assert "cannot be compared" in _remarks(ends, ["extra", "inner"])["mixed_select_labels"]


def test_a_method_that_never_chose_a_teacher_is_said_to_be_the_baseline() -> None:
    def compare_chosen(weights: list[float], scores: list[float]) -> tuple[Comparison, dict[str, str]]:
        rows = [
            {"method": m, "control": "", "labels": 1.0, "fold": k, "seed": 0, "select": 0.5, "accuracy": found[k]}
            | {"seconds": 1.0, "n_train": 90, "n_test": 30, "chosen": chosen[k]}
            for m, found, chosen in (("baseline", [0.5, 0.6, 0.7], [None] * 3), ("auto", scores, weights))
            for k in range(3)
        ]
        c = compare(pd.DataFrame(rows))
        return c, {r.code: r.text for r in c.remarks}

    c, remarks = compare_chosen([0.0, 0.0, 0.0], [0.5, 0.6, 0.7])
    assert (
        "auto chose weight 0 for the soft labels in every fold and seed: no teacher taught it, so it is the"
        in (remarks["weight_zero"])
    )
    assert plus_minus(unit("accuracy"), c.rows["auto"].difference) == "+0.0 (same)"
    c, remarks = compare_chosen([0.0, 0.0, 4.0], [0.5, 0.6, 0.8])
    assert "weight_zero" not in remarks
    assert "±" in plus_minus(unit("accuracy"), c.rows["auto"].difference)
