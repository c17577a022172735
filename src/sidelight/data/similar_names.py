"""Names of classes and groups that are probably the same, or that mean "no value": a warning, never a silent change."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence

from sidelight.errors import SidelightWarning

SHOWN = 5
NO_NAME = {"nan", "na", "n/a", "n.a.", "#n/a", "<na>", "null", "-", "--", "?"}
TRUTH = {"true": "1", "false": "0"}


def find_similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The names that differ only in spelling, two or more in each tuple.

    They may differ in how a number is written ("01", "1", "1.0"), in case ("S3", "s3"), in zeros before a number
    ("P01", "P1"), in the character between words ("left hand", "left_hand"), or as truth values beside numbers ("True",
    "1").
    """
    keys = {name: _normalize(name) for name in sorted(set(names))}
    all_keys = set(keys.values())
    same: dict[str, list[str]] = {}
    for name, key in keys.items():
        # "True" is "1" only where numbers stand beside it.
        if TRUTH.get(key) in all_keys:
            key = TRUTH[key]
        same.setdefault(key, []).append(name)
    return [tuple(spellings) for spellings in same.values() if len(spellings) > 1]


def _normalize(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).strip().casefold()
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", text):
        sign = "-" * text.startswith("-")
        whole, _, fraction = text.lstrip("+-").partition(".")
        fraction = fraction.rstrip("0")
        return sign + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    text = re.sub(r"[\s_\-]+", "_", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _join(names: Sequence[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last}" if others else last


def warn_similar_names(source: str, what: str, names: Iterable[str], each: str, then: str) -> None:
    """Warn of names that differ only in spelling, and of names that usually mean "no value".

    Args:
        source: name of the data in the warning.
        what: the column.
        names: the values in it.
        each: what a name stands for, such as "class".
        then: the consequence if two spellings mean one thing.
    """
    unique = set(names)
    if groups := find_similar_names(unique):
        shown = "; ".join(map(_join, groups[:SHOWN]))
        more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
        warnings.warn(
            f"{source}: {what}: {shown}{more} differ only in how they are written, and each is read as a {each} of its "
            f"own{then}. If they are the same, write them in one way.",
            SidelightWarning,
            stacklevel=2,
        )
    if odd := sorted(name for name in unique if name.strip().casefold() in NO_NAME):
        warnings.warn(
            f"{source}: {what}: {_join(odd[:SHOWN])} is read as the name of a {each}. If it means "
            "'no value', leave the cell empty.",
            SidelightWarning,
            stacklevel=2,
        )
