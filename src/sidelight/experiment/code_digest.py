"""Digests of the code of the user's own methods: a run cannot be resumed with finished jobs of changed code."""

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
"""The digest of a class without source code, such as one defined at a prompt."""
JOB_ID = re.compile(r"([^~]+?)(@crossfit)?(~\w+)?-l[\d.e-]+-f-?\d+-s\d+")
"""`Job.id`, with which names of files begin; the first group holds the method's terms."""


def digest_own_methods(methods: Iterable[MethodSpec]) -> dict[str, str]:
    """Term -> digest of its code, for the terms of these methods that are not part of sidelight."""
    digests = {}
    for term in _list_terms(methods):
        if _package(METHODS[term]) != "sidelight":
            digests[term] = compute_digest(METHODS[term])
    return digests


def compute_digest(method: type) -> str:
    """SHA-256 of the source of a class and of the functions and classes of its package that it names; or `UNKNOWN`."""
    try:
        sources = _collect_sources(method)
    except (OSError, TypeError, SyntaxError):
        return UNKNOWN
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()


def _collect_sources(method: type) -> list[str]:
    """The source of a class, of its bases, and of the functions and classes of its package that these name."""
    sources: dict[Any, str] = {}
    todo: list[Any] = [method]
    while todo:
        thing = todo.pop()
        # Other packages are not part of the user's method.
        if thing in sources or _package(thing) != _package(method):
            continue
        source = inspect.getsource(thing)
        sources[thing] = source
        # Names in the source that are functions or classes of the same module (or imported into it).
        module = vars(sys.modules[thing.__module__])
        for node in ast.walk(ast.parse(textwrap.dedent(source))):
            value = module.get(node.id) if isinstance(node, ast.Name) else None
            if inspect.isfunction(value) or inspect.isclass(value):
                todo.append(value)
        if inspect.isclass(thing):
            todo += thing.__mro__
    return sorted(sources.values())


def _package(thing: Any) -> str:
    return str(thing.__module__).partition(".")[0]


def _list_terms(methods: Iterable[MethodSpec]) -> list[str]:
    """The terms of some methods, each once."""
    return list(dict.fromkeys(term for method in methods for term in method.terms))


def check_code(
    folder: Path, methods: Collection[MethodSpec], then: Mapping[str, str] | None, now: Mapping[str, str]
) -> dict[str, str]:
    """Check that the code of the user's methods did not change since jobs of these methods were finished.

    If the code of a method without finished jobs changed, its checkpoints are deleted, so that the corrected method is
    trained from the beginning.

    Args:
        folder: the run folder.
        methods: the methods of this call.
        then: `digest_own_methods` when the run started; None for a run of a version that did not store it.
        now: `digest_own_methods` of `methods`.

    Returns:
        The digests to store: `now`, and those in `then` of methods that this call does not name.

    Raises:
        RunError: the code of a method with finished jobs changed.
    """
    if then is None:
        return dict(now)

    terms = _list_terms(methods)
    changed = [term for term in terms if then.get(term) != now.get(term)]
    unknown = [term for term in terms if UNKNOWN in (then.get(term), now.get(term))]
    finished = [path.parent for path in folder.glob("jobs/[!.]*/job.json")]

    conflicts = [term for term in _find_by_term(finished, changed).values() if term not in unknown]
    if conflicts:
        raise RunError(
            f"the code of method {conflicts[0]!r} changed since {folder} was started, and its finished jobs there "
            "cannot be mixed with new ones. Choose another folder with --output (output=…), register the changed "
            "method under another name, or restore its code."
        )

    unsure = [term for term in _find_by_term(finished, terms).values() if term in unknown]
    if unsure:
        warnings.warn(
            f"the source code of method {unsure[0]!r} is unknown (a class defined at a prompt has none), so a change "
            f"since {folder} was started cannot be detected.",
            SidelightWarning,
            stacklevel=2,
        )

    # Checkpoints of the old code: their jobs are not finished, so they are trained from the beginning.
    for path in _find_by_term((folder / "checkpoints").glob("[!.]*"), changed):
        path.unlink()
    return {**{term: code for term, code in then.items() if term not in terms}, **now}


def _find_by_term(paths: Iterable[Path], terms: Iterable[str]) -> dict[Path, str]:
    """The jobs, or their checkpoints, whose method has one of the terms -> the first such term."""
    wanted, found = set(terms), {}
    for path in paths:
        job = JOB_ID.match(path.name)
        matching = [term for term in job[1].split("+") if term in wanted] if job else []
        if matching:
            found[path] = matching[0]
    return found
