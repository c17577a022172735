"""Windows of recordings (`signals.cut`) as rows: of one session, or of several, which are then the groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sidelight.errors import DataError
from sidelight.signals.windows import Windows


def name_sessions(source: Any) -> dict[str, Windows]:
    """Name -> windows, of `Windows`, a list of them or a mapping; raises DataError where one is something else."""
    if isinstance(source, Windows):
        return {"": source}
    named: dict[Any, Any] = dict(source if isinstance(source, Mapping) else enumerate(source))
    for name, w in named.items():
        if not isinstance(w, Windows):
            raise DataError(f"session {name!r} is a {type(w).__name__}; where one is Windows, all have to be")
    return {str(name): w for name, w in named.items()}


def concat_sessions(sessions: Mapping[str, Windows]) -> dict[str, Any]:
    """The arrays of all sessions' windows, one after another, as `load` reads them.

    A window without a label is unlabelled. With several sessions, a window's group is its session. Its id is the
    session and the second that it begins at.

    Raises:
        DataError: sessions of other modalities, shapes, rates or units, or of which only some have labels.
    """
    first_name, first = next(iter(sessions.items()))
    for name, w in sessions.items():
        _check_like(first, repr(first_name), w, f"session {name!r}")
    for m in first.values:
        if m in ("target", "labelled", "group", "id"):
            raise DataError(f"a modality of windows cannot be called {m!r}; rename it")
    out: dict[str, Any] = {m: np.concatenate([w.values[m] for w in sessions.values()]) for m in first.values}
    out["id"] = np.array([f"{name}:{round(s, 6)}".lstrip(":") for name, w in sessions.items() for s in w.starts])
    if len(sessions) > 1:
        out["group"] = np.repeat(list(sessions), [len(w) for w in sessions.values()])
    if first.labels is not None:
        out["target"] = np.concatenate([np.asarray(w.labels) for w in sessions.values()])
        if all(w.labelled is not None for w in sessions.values()):
            out["labelled"] = np.concatenate([np.asarray(w.labelled, bool) for w in sessions.values()])
    return out


def build_session_schema(sessions: Mapping[str, Windows]) -> dict[str, dict[str, Any]]:
    """Modality -> unit and rate of its recordings, which new rows have to share."""
    facts = next(iter(sessions.values())).metadata
    return {m: {"unit": told["unit"], "final_rate": float(told["rate"])} for m, told in facts.items()}


def _check_like(first: Windows, first_name: str, w: Windows, where: str) -> None:
    """Raises DataError where two sessions cannot be rows of one data set."""
    if set(w.values) != set(first.values):
        raise DataError(f"{where} has {', '.join(w.values)}, but {first_name} has {', '.join(first.values)}")
    for m, x in w.values.items():
        if x.shape[1:] != first.values[m].shape[1:]:
            raise DataError(
                f"{where}: windows of {m!r} have shape {x.shape[1:]}, but those of {first_name} have "
                f"{first.values[m].shape[1:]}; cut them to one length"
            )
        for fact in ("rate", "unit"):
            has, had = (of.metadata.get(m, {}).get(fact) for of in (w, first))
            if has != had:
                raise DataError(f"{where}: the {fact} of {m!r} is {has}, but in {first_name} it is {had}")
    if w.labels is None or first.labels is None:
        if w.labels is not first.labels:
            raise DataError(f"{where} has {'no ' * (w.labels is None)}labels, unlike {first_name}")
        return
    kinds = [of.dtype.kind.replace("u", "i") for of in (w.labels, first.labels)]
    if kinds[0] != kinds[1] or w.labels.shape[1:] != first.labels.shape[1:]:
        raise DataError(
            f"{where} has labels {w.labels.dtype} of shape {w.labels.shape}, but {first_name} has "
            f"{first.labels.dtype} of shape {first.labels.shape}; give all the same kind"
        )
