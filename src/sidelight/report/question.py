"""The head of the report: what the run asked, on which data."""

from __future__ import annotations

from typing import Any

from sidelight.report.stored import Stored
from sidelight.results import budgets
from sidelight.results.budget import BLOCKS, COUNTED, FORWARD
from sidelight.results.training_remarks import WAYS
from sidelight.utils.names import name_targets

SKIPPED_SHOWN = 5


def describe_question(stored: Stored) -> list[tuple[str, str]]:
    """Name and value of everything that the run asked: modalities, task, protocol, rows and labels."""
    config = stored.config

    def names(key: str) -> str:
        value = config.get(key)
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")

    target = names("target") or stored.data.get("target", "")
    target = name_targets(target) or (", ".join(stored.class_names) if stored.task == "regression" else "")
    classes = f"one of {', '.join(stored.class_names)}" if stored.task != "regression" and stored.class_names else ""
    classes = f"of every pixel {classes}" if stored.task == "segmentation" else classes
    asked = config.get("protocol") in (BLOCKS, FORWARD) or config.get("protocol") not in COUNTED
    folds = config.get("folds") if asked else None  # with other protocols the data decide, not the setting
    counted = ((folds, "fold"), (config.get("seeds"), "seed"))
    repeated = " × ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counted if isinstance(n, int))
    protocol = ", ".join(p for p in (names("protocol").replace("auto", ""), repeated) if p)
    rows = [
        ("Reads at deployment", names("available")),
        ("In training only", names("privileged")),
        ("Task", _named_task(stored)),
        ("Predicts", ", ".join(p for p in (target, classes) if p)),
        ("Protocol", protocol),
        ("Split by", group_name(stored)),
        ("Rows", _rows(stored)),
        ("Labels kept", _labels_kept(stored)),
    ]
    return [(name, value) for name, value in rows if value]


def describe_setting(stored: Stored) -> str:
    """What is read at deployment and what in training only, in a sentence; "" if the settings are not known."""
    given, more = (stored.config.get(key) for key in ("available", "privileged"))
    if not isinstance(given, list) or not isinstance(more, list):
        return ""
    return f"At deployment {_join(given)} alone; in training also {_join(more)}."


def _join(names: list[Any]) -> str:
    """`a`, `b` and `c`; of more than five the number."""
    words = [str(name) for name in names]
    if len(words) > 5:
        return f"{', '.join(words[:4])} and {len(words) - 4} more modalities"
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"


def _named_task(stored: Stored) -> str:
    """The task, with its settings, unless the target already shows it."""
    name, live = str(stored.results.attrs.get("task", "")), stored.config.get("live")
    if name == stored.task:
        return ""
    return f"{name}, live: {live}" if live else name


def group_name(stored: Stored) -> str:
    """The name of the groups in the data: "subject", "session", …"""
    return str(stored.config.get("group") or stored.data.get("group") or "")


def _rows(stored: Stored) -> str:
    """Number of rows, of rows that lack a modality, of imputed values and of skipped rows."""
    data, gaps = stored.data, []
    for m, n in dict(data.get("missing") or {}).items():
        gaps.append(f"{n} lack {m}")
    if n := int(data.get("skipped") or 0):
        gaps.append(
            f"{n} more {'was' if n == 1 else 'were'} skipped, whose recordings cannot be read{_named(stored, n)}"
        )
    for m, n in dict(data.get("imputed") or {}).items():
        gaps.append(f"{n} value{'s' * (n != 1)} of {m} imputed (the train rows' mean)")
    return "; ".join([str(data["rows"]), *gaps]) if "rows" in data else ""


def _named(stored: Stored, count: int) -> str:
    """The first skipped rows by id and modality, with a pointer to skipped.csv."""
    table = stored.skipped
    if table is None:
        return " (skipped.csv)"
    first = [f"{row['id']} ({row['modality']})" for _, row in table.head(SKIPPED_SHOWN).iterrows()]
    return f": {', '.join(first)}{', …' * (count > len(first))} (skipped.csv says why)"


def _labels_kept(stored: Stored) -> str:
    """The label fractions, in groups and in rows."""
    shares = budgets(stored.results) if len(stored.results) else []
    if not shares:
        return ""
    text = f"of {', '.join(f'{100 * s:g} %' for s in shares)} of the training groups"
    sizes = []
    for share in shares:
        size = stored.train_rows(share)
        if size is not None:
            sizes.append(f"{size[0]} of {size[1]}")
    if sizes:
        text += f": {', '.join(sizes)} train rows (median over folds and seeds)"
    ways = set(stored.results.loc[stored.results["labels"] < 1, "select_labels"].dropna())
    return text + "".join(f"; {WAYS[way]}" for way in WAYS if way in ways)
