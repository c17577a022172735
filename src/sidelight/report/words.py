"""What the rows of a comparison are, in a few words that stand beside their names."""

from __future__ import annotations

from sidelight.results import Row
from sidelight.results.budget import ALL_LABELS, BASELINE, BOOSTED, LINEAR, MAJORITY, TEACHER, WARM_START

MEANINGS = {
    BASELINE: "same inputs, no teacher",
    MAJORITY: "the most common answer, or the mean",
    LINEAR: "linear model on the same inputs",
    BOOSTED: "boosted trees on the same inputs",
    WARM_START: "starts from the teacher’s weights, no distillation",
    ALL_LABELS: "baseline with every label",
    TEACHER: "reads every sensor, not deployable",
}
METHOD = "taught by the teacher"
CHOSEN = "chosen, without test rows"
CONTROLS = {"placebo": "taught with shuffled privileged rows", "self": "taught by a baseline"}
COUNTS = {
    "pairs": "folds × seeds",
    "folds": "folds",
    "groups": "test groups",
    "blocks": "blocks of test rows",
    "seeds": "seeds",
}
"""`Comparison.counted` -> its name on the page."""
VERDICTS = {
    "better": "better",
    "equal": "no difference",
    "worse": "worse",
    "unclear": "not shown",
    "unknown": "too few",
}
STANDINGS = {**VERDICTS, "better": "above", "worse": "below", "unclear": "unclear"}
"""Verdict -> its word in the table, for methods and for rows that are no remedy."""


def row_label(name: str) -> str:
    """`kl~placebo` -> "placebo of kl"."""
    method, _, control = name.partition("~")
    return f"{control} of {method}" if control else method


def describe_row(name: str, row: Row) -> str:
    """What a row of the comparison is: "same inputs, no teacher".

    Args:
        name: the row's name, e.g. `kl~placebo`.
        row: the row.
    """
    if row.role == "control":
        if row.method == TEACHER and row.control == "placebo":
            return "reads shuffled privileged rows"
        return CONTROLS.get(row.control, row.control)
    return MEANINGS.get(name, CHOSEN if row.best else METHOD)
