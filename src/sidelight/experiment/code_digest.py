"""The code of the user's own methods: a run remembers it, and is not gone on with when it has changed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sys
import textwrap
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from sidelight.errors import RunError, SidelightWarning
from sidelight.methods import METHODS, MethodSpec

UNKNOWN = "unknown"
"""The digest where Python has no source: a class typed in at a prompt."""
JOB = re.compile(r"([^~]+?)(@crossfit)?(~\w+)?-l[\d.e-]+-f-?\d+-s\d+")
"""`Job.id`, of which files' names begin: the method's terms come first."""


def own_methods(methods: Iterable[MethodSpec]) -> dict[str, str]:
    """Term -> digest of its code, for the terms of these methods that are not sidelight's own."""
    terms = dict.fromkeys(term for method in methods for term in method.terms)
    return {term: digest(METHODS[term]) for term in terms if _package(METHODS[term]) != "sidelight"}


def digest(method: type) -> str:
    """SHA-256 of a class's source, and of the functions and classes of its own package that it names; or `UNKNOWN`."""
    try:
        sources = _sources(method)
    except (OSError, TypeError, SyntaxError):
        return UNKNOWN
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _sources(method: type) -> list[str]:
    found: dict[Any, str] = {}
    todo: list[Any] = [method]
    while todo:
        thing = todo.pop()
        if thing in found or _package(thing) != _package(method):
            continue
        found[thing] = source = inspect.getsource(thing)
        names = {n.id for n in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(n, ast.Name)}
        around = vars(sys.modules[thing.__module__])
        todo += [x for n in names if inspect.isfunction(x := around.get(n)) or inspect.isclass(x)]
        todo += thing.__mro__ if inspect.isclass(thing) else []
    return sorted(found.values())


def _package(thing: Any) -> str:
    return str(thing.__module__).partition(".")[0]


def checked(
    folder: Path, methods: Collection[MethodSpec], then: Mapping[str, str] | None, now: Mapping[str, str]
) -> dict[str, str]:
    """What the run is to remember: the code as it is now, and as it was of methods that are not asked for this time.

    What a method that finished no job has begun is deleted where its code changed, so that a mended method is trained
    from its start.

    Args:
        then, now: `own_methods` as the run was begun (None: a run of a version that did not say), and of `methods`.

    Raises:
        RunError: a method's code changed since jobs of it were finished.
    """
    if then is None:
        return dict(now)
    asked = dict.fromkeys(term for method in methods for term in method.terms)
    changed = [term for term in asked if then.get(term) != now.get(term)]
    finished = [path.parent for path in folder.glob("jobs/[!.]*/job.json")]
    done = [term for term in _of(finished, changed).values() if UNKNOWN not in (then.get(term), now.get(term))]
    if done:
        raise RunError(
            f"the code of method {done[0]!r} changed since {folder} was begun, and it has finished jobs there, "
            "which cannot be mixed with new ones. Choose another folder with --output (output=…), register the changed "
            "method under another name, or put its code back."
        )
    unsure = [term for term in _of(finished, asked).values() if UNKNOWN in (then.get(term), now.get(term))]
    if unsure:
        warnings.warn(
            f"the code of method {unsure[0]!r} is not known (a class typed in at a prompt has no source): whether it "
            f"changed since {folder} was begun cannot be told.",
            SidelightWarning,
            stacklevel=2,
        )
    for path in _of((folder / "checkpoints").glob("[!.]*"), changed):
        path.unlink()
    return {**{term: code for term, code in then.items() if term not in asked}, **now}


def _of(paths: Iterable[Path], terms: Iterable[str]) -> dict[Path, str]:
    """The jobs, or their checkpoints, of methods that have one of the terms -> the first such term."""
    found = {}
    for path in paths:
        job = JOB.match(path.name)
        if term := next((t for t in job[1].split("+") if t in terms), "") if job else "":
            found[path] = term
    return found
