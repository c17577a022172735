"""`load`: any supported source to a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sidelight.config import CLASS_TASKS, Config
from sidelight.data.arguments import Modalities, check_texts, checked_modalities
from sidelight.data.builtin import DATASETS
from sidelight.data.dataset import Dataset
from sidelight.data.lengths import warn_long
from sidelight.data.raw import (
    KINDS_FILE,
    ORDER,
    TABLE_FILE,
    TIME_NAMES,
    Raw,
    Roles,
    find_roles,
    groups,
    row_ids,
    splits,
    times,
)
from sidelight.data.rows import Rows, is_lazy
from sidelight.data.sources.arrays import read_arrays
from sidelight.data.sources.locate import label_of, locate
from sidelight.data.target import encode_target
from sidelight.errors import ConfigError, DataError, shown, unknown
from sidelight.utils.array_files import load_npz
from sidelight.utils.files import exists, path_fault
from sidelight.utils.keywords import known_keywords

if TYPE_CHECKING:
    from sidelight.data.sources.prepared import Prepared

OnError = Literal["raise", "skip"]


@known_keywords
def load(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    group: str | None = None,
    split: str | None = None,
    time: str | None = None,
    ids: str | None = None,
    task: str | None = None,
    modalities: Modalities | None = None,
    impute: str = "no",
    ignore_index: int = 255,
    name: str | None = None,
    on_error: OnError = "raise",
    longest: Mapping[str, int] | None = None,
) -> Dataset:
    """Paired rows from a built-in name, a dict of arrays, a DataFrame, an .npz, a manifest or a (prepared) folder.

    `Windows` that `signals.cut` made are rows too: of one session, or a list or dict of several, each a group.

    target, group, split, ids: column or array names (default: the usual ones, see docs/data.md).
    time: column or array of each row's time, numbers or dates, by which blocks are cut; "order": rows stand in order.
    task: "classification", "regression" or "segmentation" (default: read from the target).
    modalities: names (default: all that are found), or name -> column prefix or list of columns.
    impute: "no": NaN is an error; "mean": kept, and replaced by the train rows' mean later.
    ignore_index: of a segmentation, the class value of pixels that have none, beside −1 (prepared folders: their own).
    on_error: of a prepared folder's recordings that cannot be read: "raise", or "skip" their rows.
    longest: modality -> time steps that are kept of a signal's longer rows, e.g. where one pads all others.
    Raises DataError naming file, row, modality and value; ConfigError for a setting that cannot be.
    """
    modalities = checked_modalities(modalities)
    given = {"group": group, "split": split, "ids": ids, "task": task, "name": name, "impute": impute}
    check_texts(given, target)
    if on_error not in ("raise", "skip"):
        raise ConfigError(unknown("value of on_error", on_error, ("raise", "skip")))
    if isinstance(source, Dataset):
        chosen = source if modalities is None else source.select(list(modalities))
        return replace(chosen, longest=chosen.longest | dict(longest)) if longest else chosen
    if isinstance(source, str) and source in DATASETS:
        data = _builtin(source, modalities, target=target, group=group, split=split, time=time, ids=ids, task=task)
        return replace(data, longest=dict(longest)) if longest else data
    names: list[str] = []

    def find(columns: Sequence[str]) -> Roles:
        names.extend(columns)
        return find_roles(label, columns, target, group, split, ids, time=time)

    prepared = _prepared(source)
    label = name or (prepared.facts.name if prepared else "") or label_of(source)
    if prepared:
        from sidelight.data.sources.recorded import read_recordings

        facts = prepared.facts
        target, group, split = target or facts.target, group or facts.group, split or facts.split
        task = task or ("classification" if facts.task in CLASS_TASKS else facts.task)
        wanted = None if modalities is None else list(modalities)
        raw, roles = read_recordings(prepared, find, wanted, on_error, longest)
    else:
        raw, roles = _read(source, label, find, modalities, longest)
    row_names = row_ids(raw, roles)
    y = encode_target(raw, roles, row_names, task, ignore_index)
    timed = times(raw, roles, row_names)
    if timed is None and time == ORDER:
        timed = np.arange(raw.n, dtype=np.float64)
    try:
        data = Dataset(
            name=label,
            inputs=raw.inputs,
            target=y.values,
            labelled=y.labelled,
            task=y.task,
            class_names=y.class_names,
            present=_present(raw),
            lengths=raw.lengths,
            group=groups(raw, roles, row_names),
            split=splits(raw, roles, row_names),
            time=timed,
            ids=row_names,
            about=_about(source, roles) | _time_column(roles, names, timed) | (prepared.facts.told if prepared else {}),
            default_modalities=prepared.facts.default_modalities if prepared else {},
            impute=impute,
            columns=raw.features,
            standard=raw.standard,
            schema=raw.schema,
            skipped=raw.skipped,
            units={m: told["unit"] for m, told in raw.schema.items() if told.get("unit", "1") != "1"},
            rates={m: float(told["final_rate"]) for m, told in raw.schema.items() if told.get("final_rate")},
            longest=dict(longest or {}),
        )
    except DataError as e:
        raise DataError(str(e).replace(f"{label}: ", f"{raw.name}: ", 1)) from None
    warn_long(data.name, data.lengths, data.ids)
    return data


def _about(source: Any, roles: Roles) -> dict[str, str]:
    told = {"source": str(source) if isinstance(source, str | Path) else ""}
    told |= {"target": ", ".join(roles.target), "group": roles.group or ""}
    return {key: text for key, text in told.items() if text}


def _time_column(roles: Roles, names: Sequence[str], timed: Any) -> dict[str, str]:
    """The column that looks like a time and is not used as one, where it is needed to say how rows belong together."""
    if roles.group or timed is not None:
        return {}
    column = next((c for c in names if c.lower() in TIME_NAMES and c not in roles.names), "")
    return {"time_column": column} if column else {}


def load_for(config: Config, source: Any = None) -> Dataset:
    """The data set that an experiment's settings name, or `source` read as they say."""
    target: list[str] = config.target
    return load(
        config.data if source is None else source,
        target=target[0] if len(target) == 1 else target or None,
        group=config.group or None,
        split=config.split or None,
        time=config.time or None,
        task={"auto": None, **dict.fromkeys(CLASS_TASKS, "classification")}.get(config.task, config.task),
        impute=config.impute,
        ignore_index=config.ignore_index,
        on_error=config.on_error,
        longest=config.longest,
    )


@known_keywords
def load_rows(
    source: Any,
    modalities: Modalities,
    *,
    group: str | None = None,
    ids: str | None = None,
    impute: str = "no",
    on_error: OnError = "raise",
    longest: Mapping[str, int] | None = None,
) -> Rows:
    """The features of new rows, for prediction: as `load`, but no target is needed and only `modalities` are read."""

    def find(columns: Sequence[str]) -> Roles:
        return find_roles(label, columns, None, group, None, ids, target_needed=False)

    checked = checked_modalities(modalities)
    assert checked is not None
    modalities, label = checked, label_of(source)
    if prepared := _prepared(source, target_needed=False):
        from sidelight.data.sources.recorded import read_recordings

        group = group or (prepared.facts.group if prepared.facts.group in prepared.table.columns else None)
        raw, roles = read_recordings(prepared, find, list(modalities), on_error, longest)
    else:
        raw, roles = _read(source, label, find, modalities, longest)
    row_names = row_ids(raw, roles)
    present = _present(raw)
    whole = {m: present.get(m, np.ones(raw.n, bool)) for m in raw.inputs}
    rows = Rows(raw.name, raw.inputs, whole, raw.lengths, groups(raw, roles, row_names), row_names, raw.schema)
    rows.skipped = raw.skipped
    rows.check(impute)
    return rows


def _read(
    source: Any,
    label: str,
    find: Callable[[Sequence[str]], Roles],
    modalities: Modalities | None,
    longest: Mapping[str, int] | None,
) -> tuple[Raw, Roles]:
    if _holds_windows(source):
        from sidelight.data.sources.sessions import meaning_of, session_arrays, sessions_of

        sessions, chosen = sessions_of(source), None if modalities is None else list(modalities)
        raw, roles = read_arrays(session_arrays(sessions), label, find, chosen, longest)
        raw.schema = {m: told for m, told in meaning_of(sessions).items() if m in raw.inputs}
        return raw, roles
    if isinstance(source, Mapping):
        return read_arrays(source, label, find, None if modalities is None else list(modalities), longest)
    if isinstance(source, str | Path):
        path = locate(source)
        if path.suffix == ".npz":
            return read_arrays(
                load_npz(path), str(path), find, None if modalities is None else list(modalities), longest
            )
        from sidelight.data.sources.tables import read_frame, read_table

        return read_table(read_frame(path), str(path), path.parent, find, modalities, longest)
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        from sidelight.data.sources.tables import read_table

        return read_table(source, label, None, find, modalities, longest)
    raise DataError(
        f"cannot load a {type(source).__name__}; expected a built-in name, a path, a dict of arrays, a DataFrame, or "
        "Windows of one or several sessions"
    )


def _holds_windows(source: Any) -> bool:
    """Whether it is `Windows` or some of them, asked without importing signals, which need torch."""
    each = source.values() if isinstance(source, Mapping) else source if isinstance(source, list | tuple) else [source]
    return any(hasattr(w, "starts") and hasattr(w, "labelled") for w in each)


def _prepared(source: Any, target_needed: bool = True) -> Prepared | None:
    """A prepared folder, named itself or by its table; None for any other source."""
    if not isinstance(source, str | Path):
        return None
    if wrong := path_fault(str(source)):
        raise DataError(f"{shown(str(source))} {wrong}")
    folder = Path(source).parent if Path(source).name == TABLE_FILE else Path(source)
    if not exists(folder / KINDS_FILE):
        return None
    from sidelight.data.sources.prepared import read_prepared

    return read_prepared(folder, target_needed)


def _present(raw: Raw) -> dict[str, Any]:
    """What the reader said, less the rows that are NaN throughout."""
    present = dict(raw.present)
    for m, x in raw.inputs.items():
        if is_lazy(x) or x.dtype.kind != "f":
            continue
        nothing = np.isnan(x).reshape(len(x), -1).all(1)
        if nothing.any():
            present[m] = present.get(m, np.ones(raw.n, bool)) & ~nothing
    return present


def _builtin(name: str, modalities: Modalities | None, **given: Any) -> Dataset:
    data = DATASETS[name].load()
    for setting, value in given.items():
        if value and not (setting == "task" and value in ("auto", data.task)):
            own = "no times" if setting == "time" else f"its own {setting}"
            raise ConfigError(f"{name} is built in and has {own}; leave {setting}={value!r} out")
    return data if modalities is None else data.select(list(modalities))
