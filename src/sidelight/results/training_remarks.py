"""Doubts about how networks were trained: the rows that chose their epochs, and where their best epoch lies."""

from __future__ import annotations

import pandas as pd

from sidelight.results.budget import Budget
from sidelight.results.job import CHOSEN
from sidelight.results.remarks import Remark

WAYS = {
    "inner": "epochs were chosen by cross-validation inside the kept labels, all of which then trained",
    "part": "a part of the kept labels chose epochs",
    "extra": "select rows kept all their labels and chose epochs (select_labels=extra)",
}
"""`select_labels` of a job -> how its epochs were chosen."""
MANY = 15
"""Chosen weights that are listed."""
OFTEN = 0.1
"""The least share of networks whose best epoch is their first for a remark: one of many is chance."""


def describe_ways(b: Budget) -> str:
    """How epochs were chosen where labels were hidden; "" with all labels, or if no job says it."""
    if b.label_fraction >= 1:
        return ""
    return "; ".join(WAYS[way] for way in WAYS if way in _ways(b))


def describe_choices(b: Budget) -> str:
    """The weight that `auto` chose in each fold and seed; "" without it."""
    texts = []
    for name, frame in b.rows.items():
        if weights := _chosen(frame):
            listed = ", ".join(f"{weight:g}" for weight in weights[:MANY])
            more = f", … (0 in {weights.count(0.0)} of {len(weights)})" if len(weights) > MANY else ""
            texts.append(f"weight of soft labels chosen by {name.replace('~', '’s ')}: {listed}{more}")
    return "; ".join(texts)


def find_training_remarks(b: Budget, epochs: int | None) -> tuple[Remark, ...]:
    """Find the doubts about how the networks of a comparison were trained.

    Args:
        b: the jobs at one label fraction.
        epochs: the largest number of epochs; None if it is not known.
    """
    found = [_labels_beside(b), *_ends(b, epochs), _never_taught(b)]
    return tuple(remark for remark in found if remark.text)


def _ways(b: Budget) -> set[str]:
    return {str(way) for frame in _compared(b).values() for way in frame.get("select_labels", pd.Series()).dropna()}


def _compared(b: Budget) -> dict[str, pd.DataFrame]:
    """The rows at this label fraction; `all labels` has another."""
    return {name: frame for name, frame in b.rows.items() if name != "all labels"}


def _labels_beside(b: Budget) -> Remark:
    """Labels that the label fraction does not count."""
    ways = _ways(b) if b.label_fraction < 1 else set()
    if len(ways) > 1 and "extra" in ways:
        return Remark(
            "mixed_select_labels",
            "Some networks chose their epochs with labels beside the label fraction, and others did not: they cannot "
            "be compared. Train all of them alike, in a new folder.",
        )
    if "extra" in ways:
        return Remark(
            "extra_select_labels",
            "The label fraction does not count the labels of the select rows, which kept all of theirs and chose "
            "epochs (select_labels=extra). With few labels, training on them may gain more than any method does.",
        )
    return Remark("extra_select_labels", "")


def _chosen(frame: pd.DataFrame) -> list[float]:
    """The weight that a method chose in each fold and seed; [] if it chooses none."""
    return [float(w) for w in frame[CHOSEN].dropna()] if CHOSEN in frame else []


def _never_taught(b: Budget) -> Remark:
    """Methods that chose weight 0 in every fold and seed, so that no teacher taught them."""
    found = [name for name in b.methods if (weights := _chosen(b.rows[name])) and not any(weights)]
    if not found:
        return Remark("weight_zero", "")
    many = len(found) > 1
    return Remark(
        "weight_zero",
        f"{' and '.join(found)} chose weight 0 for the soft labels in every fold and seed: no teacher taught "
        f"{'them' if many else 'it'}, so {'they are' if many else 'it is'} the baseline, and the difference to it is 0 "
        "by construction. No weight that was tried was better on the select rows.",
    )


def _ends(b: Budget, epochs: int | None) -> list[Remark]:
    """Networks whose best epoch is the last one allowed, or their first."""
    ended = {name: frame["ended"] for name, frame in _compared(b).items() if "ended" in frame}
    ended = {name: values[values.isin(("cap", "first", "inside"))] for name, values in ended.items()}
    count = sum(map(len, ended.values()))
    out = []
    for how in ("cap", "first"):
        found = {name: int((values == how).sum()) for name, values in ended.items()}
        n = sum(found.values())
        if not n or (how == "first" and n < OFTEN * count):
            out.append(Remark(f"ended_{how}", ""))
            continue
        which = ", ".join(f"{name} {k}" for name, k in found.items() if k)
        if how == "cap":
            cap = f" of {epochs} epochs" if epochs else ""
            text = f"ended at the cap{cap} ({which}): they may not have learned all they can. Raise training.epochs."
        else:
            text = (
                f"are best after their first epoch ({which}): training did not improve them on the rows that choose "
                "epochs. Lower training.learning_rate, or look whether these rows are like the train rows."
            )
        out.append(Remark(f"ended_{how}", f"{n} of {count} networks {text}"))
    return out
