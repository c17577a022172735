"""Names of classes and groups that are probably the same, or no name at all: said, never mended in silence."""

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
    """The names that differ only in how they are written, two or more in each tuple.

    The same number ("01", "1", "1.0"), case ("S3", "s3"), zeros before a number ("P01", "P1"), the character between
    words ("left hand", "left_hand"), and truth values beside numbers ("True", "1").
    """
    unique = sorted(set(names))
    keys = {name: _key(name) for name in unique}
    found: dict[str, list[str]] = {}
    for name, key in keys.items():
        key = TRUTH[key] if key in TRUTH and TRUTH[key] in keys.values() else key
        found.setdefault(key, []).append(name)
    return [tuple(same) for same in found.values() if len(same) > 1]


def _key(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).strip().casefold()
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", text):
        sign = "-" * text.startswith("-")
        whole, _, fraction = text.lstrip("+-").partition(".")
        fraction = fraction.rstrip("0")
        return sign + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    text = re.sub(r"[\s_\-]+", "_", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _listed(names: Sequence[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last}" if others else last


def warn_similar_names(source: str, what: str, names: Iterable[str], each: str, then: str) -> None:
    """Warns of names that are alike, and of those that usually say that there is no value.

    Args:
        source: how the warning calls the data.
        what: the column.
        names: the distinct values in it.
        each: what every name stands for, such as "class".
        then: what follows if the names mean one thing.
    """
    unique = set(names)
    if pairs := find_similar_names(unique):
        shown = "; ".join(_listed(pair) for pair in pairs[:SHOWN])
        more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        warnings.warn(
            f"{source}: {what}: {shown}{more} differ only in how they are written, and each is read as a {each} of its "
            f"own{then}. If they are the same, write them in one way.",
            SidelightWarning,
            stacklevel=2,
        )
    if odd := sorted(name for name in unique if name.strip().casefold() in NO_NAME):
        warnings.warn(
            f"{source}: {what}: {_listed(odd[:SHOWN])} is read as the name of a {each}. If it says "
            "that there is no value, leave the cell empty.",
            SidelightWarning,
            stacklevel=2,
        )
