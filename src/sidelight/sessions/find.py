"""The sessions of a data set: folders, files, or the lines of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from sidelight.errors import ConfigError, DataError
from sidelight.sessions.settings import Plan
from sidelight.sessions.times import column
from sidelight.utils.delimited import read_delimited

OWN = ("id", "label", "session", "start", "end", "share")
"""Columns of the rows that a table of sessions cannot fill."""


@dataclass(frozen=True)
class Session:
    """One session.

    Args:
        name: unique.
        path: its folder, or its one file.
        subject: the person; "": unknown.
        columns: further columns of its rows.
    """

    name: str
    path: Path
    subject: str = ""
    columns: dict[str, str] = field(default_factory=dict)


def find_sessions(plan: Plan, out: Path) -> list[Session]:
    """Find the sessions, in the order of their names or of the table.

    Args:
        plan: the settings.
        out: the folder that will be written, which is no session.

    Raises:
        DataError: there is none, two have one name, or a path of the table does not exist.
        ConfigError: the pattern of subjects does not fit a name.
    """
    pattern = plan.settings.sessions
    table = plan.folder / pattern
    if Path(pattern).suffix.lower() in (".csv", ".tsv") and table.is_file():
        sessions = _read_table(plan, table)
    else:
        sessions = _find_paths(plan, out)
    seen: dict[str, Path] = {}
    for one in sessions:
        if one.name in seen:
            raise DataError(f"{one.path} and {seen[one.name]} are both called {one.name!r}; sessions need own names")
        seen[one.name] = one.path
    return sessions


def _find_paths(plan: Plan, out: Path) -> list[Session]:
    pattern = plan.settings.sessions
    folder = plan.folder
    if Path(pattern).is_absolute():
        folder, pattern = Path(Path(pattern).anchor), str(Path(pattern).relative_to(Path(pattern).anchor))
    found = [folder] if pattern in (".", "./", "") else sorted(folder.glob(pattern.rstrip("/")))
    paths = [p for p in found if not p.name.startswith(".") and p.resolve() != out.resolve()]
    # Folders are sessions where there are any: a README beside them is none.
    paths = [p for p in paths if p.is_dir()] or paths
    if not paths:
        raise DataError(f"no session: nothing in {plan.folder} matches {plan.settings.sessions!r} (sessions)")
    # Names begin where the pattern has its first wildcard, so that they are the same for one session as for many.
    fixed = takewhile(lambda part: not set(part) & set("*?["), Path(pattern).parts[:-1])
    common = folder.joinpath(*fixed)
    names = {p: p.resolve().name if p == folder else p.relative_to(common).as_posix() for p in paths}
    return [Session(name, path, _find_subject(plan, name)) for path, name in names.items()]


def _find_subject(plan: Plan, name: str) -> str:
    if not plan.settings.subject:
        return ""
    try:
        match = re.search(plan.settings.subject, name)
    except re.error as error:
        raise ConfigError(f"subject: {plan.settings.subject!r} is no regular expression ({error})") from None
    if not match:
        raise ConfigError(f"subject: {plan.settings.subject!r} finds nothing in the session {name!r}")
    return match[1] if match.groups() else match[0]


def _read_table(plan: Plan, path: Path) -> list[Session]:
    table = read_delimited(path)
    where = column(table, "session").astype(str).str.strip()
    others = [name for name in table.names if name and name not in ("session", "subject")]
    for name in others:
        if name in OWN or name in plan.sensors:
            raise DataError(f"{path}: column {name!r} is one that the rows get by themselves; rename it")
    cells = {name: column(table, name).astype(str).str.strip() for name in [*others, "subject"] if name in table.names}
    sessions = []
    for i, text in enumerate(where):
        place = plan.folder / text
        if not text or not place.exists():
            raise DataError(f"{path}: line {table.lines[i]}: session {text!r}: there is no {place}")
        subject = cells["subject"].iloc[i] if "subject" in cells else _find_subject(plan, text)
        sessions.append(Session(text, place, subject, {name: cells[name].iloc[i] for name in others}))
    return sessions
