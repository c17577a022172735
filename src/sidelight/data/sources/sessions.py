"""Windows of recordings (`signals.cut`) as rows; several sessions are groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sidelight.errors import DataError
from sidelight.signals.windows import Windows


def name_sessions(source: Any) -> dict[str, Windows]:
    """Session name -> windows, from `Windows`, a list or a mapping of them; raises DataError for anything else."""
    if isinstance(source, Windows):
        return {"": source}
    named: dict[Any, Any] = dict(source if isinstance(source, Mapping) else enumerate(source))
    for name, w in named.items():
        if not isinstance(w, Windows):
            raise DataError(f"session {name!r} is a {type(w).__name__}; if one is Windows, all have to be")
    return {str(name): w for name, w in named.items()}


def concat_sessions(sessions: Mapping[str, Windows]) -> dict[str, Any]:
    """The windows of all sessions, one session after another, as arrays for `read_arrays`.

    A window without a label is unlabelled. With several sessions, a window's group is its session. Its id is the
    session and the second at which it begins.

    Raises:
        DataError: sessions differ in modalities, shapes, rates or units, or only some have labels.
    """
    first_name, first = next(iter(sessions.items()))
    for name, w in sessions.items():
        _check_compatible(first, repr(first_name), w, f"session {name!r}")
    for m in first.values:
        if m in ("target", "labelled", "group", "id"):
            raise DataError(f"a modality of windows cannot be called {m!r}; rename it")
    out: dict[str, Any] = {m: np.concatenate([w.values[m] for w in sessions.values()]) for m in first.values}
    ids: list[str] = []
    for name, w in sessions.items():
        ids += [f"{name}:{round(start, 6)}".lstrip(":") for start in w.starts]
    out["id"] = np.array(ids)
    if len(sessions) > 1:
        out["group"] = np.repeat(list(sessions), list(map(len, sessions.values())))
    if first.labels is not None:
        out["target"] = np.concatenate([np.asarray(w.labels) for w in sessions.values()])
        if all(w.labelled is not None for w in sessions.values()):
            out["labelled"] = np.concatenate([np.asarray(w.labelled, bool) for w in sessions.values()])
    return out


def build_session_schema(sessions: Mapping[str, Windows]) -> dict[str, dict[str, Any]]:
    """Modality -> unit and rate of its recordings, which new rows have to share."""
    metadata = next(iter(sessions.values())).metadata
    return {m: {"unit": entry["unit"], "final_rate": float(entry["rate"])} for m, entry in metadata.items()}


def _check_compatible(first: Windows, first_name: str, w: Windows, where: str) -> None:
    """Raise DataError where two sessions cannot be rows of one data set."""
    if set(w.values) != set(first.values):
        raise DataError(f"{where} has {', '.join(w.values)}, but {first_name} has {', '.join(first.values)}")
    for m, x in w.values.items():
        if x.shape[1:] != first.values[m].shape[1:]:
            raise DataError(
                f"{where}: windows of {m!r} have shape {x.shape[1:]}, but those of {first_name} have "
                f"{first.values[m].shape[1:]}; cut them to one length"
            )
        for key in ("rate", "unit"):
            has, expected = w.metadata.get(m, {}).get(key), first.metadata.get(m, {}).get(key)
            if has != expected:
                raise DataError(f"{where}: the {key} of {m!r} is {has}, but in {first_name} it is {expected}")
    if w.labels is None or first.labels is None:
        if w.labels is not first.labels:
            raise DataError(f"{where} has {'no ' * (w.labels is None)}labels, unlike {first_name}")
        return
    # Signed and unsigned codes may be mixed.
    kind, first_kind = w.labels.dtype.kind.replace("u", "i"), first.labels.dtype.kind.replace("u", "i")
    if kind != first_kind or w.labels.shape[1:] != first.labels.shape[1:]:
        raise DataError(
            f"{where} has labels {w.labels.dtype} of shape {w.labels.shape}, but {first_name} has "
            f"{first.labels.dtype} of shape {first.labels.shape}; give labels of one kind"
        )
