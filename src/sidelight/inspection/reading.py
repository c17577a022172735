"""What a data set was read from and how, and the commands that may follow, with the names of the data in them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sidelight.data.builtin import DATASETS
from sidelight.data.dataset import Dataset
from sidelight.data.raw import DEFAULT_NAMES, MODALITIES_FILE, ORDER
from sidelight.data.sources.locate import MANIFESTS
from sidelight.errors import SidelightError
from sidelight.protocols import resolve_protocol

ROLES = {"target": "target", "group": "groups", "split": "official split", "time": "times", "ids": "row names"}
"""Entry of `Dataset.about` -> its name in a sentence."""
DROPPED = "dropped.csv"
"""The file in which `sidelight windows` lists what it left out: session, start, sensor, reason."""
SHOWN = 6
"""Reasons that are listed."""


def describe_reading(dataset: Dataset) -> tuple[str, ...]:
    """Sentences on the source of a data set, the columns that have a role, and what was not read."""
    about, source = dataset.about, _find_source(dataset)
    lines = [f"read from {_describe_source(dataset, source)}"]
    # What the reader of a table found out: separator, decimal mark, encoding; columns that belong to no modality.
    if about.get("read_as"):
        lines.append(f"read as: {about['read_as']}")
    if roles := [f"{word} {about[role]!r}" for role, word in ROLES.items() if about.get(role)]:
        lines.append("; ".join(roles))
    if about.get("not_read"):
        lines.append(f"not read: {about['not_read']} (--modality NAME=COLUMN,COLUMN reads them)")
    if dataset.skipped:
        first = dataset.skipped[0]
        lines.append(
            f"{len(dataset.skipped)} rows left out because a recording cannot be read; the first: {first['id']}, "
            f"{first['modality']}: {first['reason']}"
        )
    return (*lines, *_describe_dropped(source))


def _find_source(dataset: Dataset) -> str:
    """The path that was loaded, the name of a built-in data set, or "" for data in memory."""
    source = str(dataset.about.get("source", ""))
    if source and Path(source).exists():
        return source
    return dataset.name if dataset.name in DATASETS else ""


def _describe_source(dataset: Dataset, source: str) -> str:
    path = Path(source)
    if not source:
        return "arrays in memory"
    if not path.exists():
        return f"{source}, which is built in"
    if (path / MODALITIES_FILE).is_file():
        return f"the prepared folder {source}"
    if path.is_dir():
        manifest = next((name for name in MANIFESTS if (path / name).exists()), "arrays")
        return f"{manifest} in the folder {source}"
    if (path.parent / MODALITIES_FILE).is_file() and path.name in MANIFESTS:
        return f"the prepared folder {path.parent}"
    return f"{source}: {'arrays' if path.suffix == '.npz' else 'a table'}"


def _describe_dropped(source: str) -> list[str]:
    """What `sidelight windows` left out of a prepared folder, by sensor and reason."""
    import pandas as pd

    path = Path(source, DROPPED)
    if not source or not path.is_file():
        return []
    try:
        table = pd.read_csv(path, dtype=str)
        reasons = Counter(zip(table["sensor"], table["reason"]))
    except (ValueError, KeyError):  # another file of that name
        return []
    named = [f"{sensor}: {reason}, {n}" for (sensor, reason), n in reasons.most_common(SHOWN)]
    return [f"windows not covered by a sensor ({path}): {'; '.join(named)}"] if named else []


def suggest_commands(
    dataset: Dataset, flags: Sequence[str] = (), in_order: bool = False
) -> tuple[tuple[str, str], ...]:
    """The commands that may follow, and what each is for.

    Where the data do not say which modalities the product will have, the first complete one is taken as an example.

    Args:
        dataset: the data.
        flags: those of the command line that read the data; by default the columns with a role are named.
        in_order: whether neighbouring rows resemble each other.
    """
    source, protocol = _find_source(dataset), _choose_protocol(dataset, in_order)
    if not source:
        return _suggest_python(dataset, protocol)
    again = " ".join(map(shlex.quote, [source, *(flags or _name_roles(dataset, source))]))
    out = []
    if protocol == "random":
        out.append((f"sidelight inspect {again} --group COLUMN", "if rows of one person or session belong together"))
    roles, why = _split_modalities(dataset)
    if roles is None:
        return tuple(out)
    again += "".join(f" --{role} {' '.join(map(shlex.quote, names))}" for role, names in roles.items())
    if not dataset.size:
        out.append((f"sidelight advise {again}", f"is a teacher worth it?{why}"))
    again += {"random": " --protocol random", "blocks": " --protocol blocks"}.get(protocol, "")
    out.append((f"sidelight run {again} --dry-run", "how many networks that trains; without --dry-run it does"))
    return tuple(out)


def _name_roles(dataset: Dataset, source: str) -> list[str]:
    """The flags of columns that loaders would not find by themselves."""
    if source in DATASETS or Path(source, MODALITIES_FILE).is_file():
        return []
    words = []
    for role in ("target", "group", "split", "time"):
        name = dataset.about.get(role, "")
        if name and name not in DEFAULT_NAMES.get(role, ()):
            words += [f"--{role}", *(name.split(", ") if role == "target" and dataset.task == "regression" else [name])]
    if dataset.time is not None and not dataset.about.get("time"):
        words += ["--time", ORDER]
    return words + (["--impute", dataset.impute] if dataset.impute != "no" else [])


def _choose_protocol(dataset: Dataset, in_order: bool) -> str:
    """The protocol to name, "" where the data themselves say which rows belong together."""
    try:
        resolve_protocol(dataset, "auto")
        return ""
    except SidelightError:
        return "blocks" if in_order else "random"


def _split_modalities(dataset: Dataset) -> tuple[dict[str, list[str]] | None, str]:
    """The roles to name, and what to say of them; None where a study is impossible."""
    if dataset.default_modalities.get("available"):
        return {}, ""
    if len(dataset.modalities) < 2:
        return None, ""
    whole = [m for m in dataset.modalities if dataset.present[m].all()] or list(dataset.modalities)
    rest = [m for m in dataset.modalities if m != whole[0]]
    return {"available": whole[:1], "privileged": rest}, " (--available: what the product will have; here an example)"


def _suggest_python(dataset: Dataset, protocol: str) -> tuple[tuple[str, str], ...]:
    roles, why = _split_modalities(dataset)
    if roles is None:
        return ()
    given = "".join(f", {role}={names!r}" for role, names in roles.items())
    how = f", protocol={protocol!r}" if protocol else ""
    advice = [] if dataset.size else [(f"sidelight.advise(data{given})", f"is a teacher worth it?{why}")]
    return (*advice, (f"sidelight.compare(data{given}{how})", "train and compare"))
