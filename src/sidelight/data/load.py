"""`load` reads any supported source into a `Dataset`, `load_rows` into `Rows` for prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sidelight.config import CLASS_TASKS, Config
from sidelight.data.arguments import Modalities, check_modalities, check_texts
from sidelight.data.builtin import DATASETS
from sidelight.data.dataset import Dataset
from sidelight.data.lengths import warn_long_rows
from sidelight.data.raw import (
    ORDER,
    TIME_NAMES,
    Raw,
    Roles,
    blank_missing,
    build_groups,
    build_ids,
    build_splits,
    build_times,
    find_roles,
)
from sidelight.data.rows import Rows
from sidelight.data.sources.locate import default_name
from sidelight.data.sources.read import find_present, list_defaults, open_prepared, read_source
from sidelight.data.target import encode_target
from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.utils.keywords import known_keywords
from sidelight.utils.names import split_columns
from sidelight.utils.phases import phase

if TYPE_CHECKING:
    from sidelight.data.sources.prepared import Prepared

OnError = Literal["raise", "skip"]
"""What happens to a prepared folder's unreadable recordings: an error, or their rows are dropped."""


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
    table: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load paired rows and check them.

    `Windows` that `signals.cut` made are rows too: those of one session, or a list or dict of several sessions, each of
    which is a group.

    Args:
        source: a built-in name, a dict of arrays, a DataFrame, an .npz file, a manifest (.csv, .tsv, .txt, .jsonl, each
            also .gz, or .parquet), a folder with a manifest, a prepared folder, or `Windows`.
        target: column or array to predict, or several columns for a regression. This and the next four default to
            the usual names in docs/data.md.
        group: column of the person or session of each row.
        split: column of the official split.
        time: column of each row's time, numbers or dates, by which blocks are cut; "order": rows stand in their order
            in time.
        ids: column of unique row names.
        task: "classification", "regression" or "segmentation"; by default read from the target.
        modalities: names, by default all that are found; or name -> column prefix, list of columns, channels of
            another modality ("image[3]", "bio[eda]"), or settings of its files ({"kind": "depth", "step": 0.0002};
            docs/data.md).
        impute: "no": NaN is an error. "mean": NaN is kept and later replaced by the train rows' mean.
        ignore_index: for a segmentation, the class value of ignored pixels, beside −1. A prepared folder has its own.
        name: name of the data set in errors and reports; by default that of the source.
        on_error: for recordings in files that cannot be read: "raise" an error, or "skip" their rows.
        longest: modality -> time steps to keep of a signal's longer rows, for example where one row pads all others.
        table: how a text manifest is written, where the file does not show it: "separator", "decimal", "encoding", and
            "header", the number of the line of the names (0: none).

    Returns:
        A checked data set.

    Raises:
        DataError: names file, row, modality and value.
        ConfigError: an impossible argument.
    """
    modalities = check_modalities(modalities)
    given = {"group": group, "split": split, "ids": ids, "task": task, "name": name, "impute": impute}
    check_texts(given, target)
    if on_error not in ("raise", "skip"):
        raise ConfigError(unknown("value of on_error", on_error, ("raise", "skip")))
    # A data set is passed through, so that callers need not know what they were given.
    if isinstance(source, Dataset):
        chosen = source if modalities is None else source.select(list(modalities))
        return replace(chosen, longest=chosen.longest | dict(longest)) if longest else chosen
    if isinstance(source, str) and source in DATASETS:
        data = _load_builtin(source, modalities, target=target, group=group, split=split, time=time, ids=ids, task=task)
        return replace(data, longest=dict(longest)) if longest else data

    prepared = open_prepared(source, table=table)
    label = name or (prepared.facts.name if prepared else "") or default_name(source)
    columns: list[str] = []

    def find(found: Sequence[str]) -> Roles:
        # Readers call this once they know the columns, and before they read any feature.
        columns.extend(found)
        return find_roles(label, found, target, group, split, ids, time=time)

    if prepared:
        from sidelight.data.sources.recorded import read_recordings

        info = prepared.facts
        target, group, split = target or info.target, group or info.group, split or info.split
        task = task or ("classification" if info.task in CLASS_TASKS else info.task)
        raw, roles = read_recordings(prepared, find, modalities, on_error, longest)
    else:
        raw, roles = read_source(source, label, find, modalities, longest, table, on_error, ignore_index)

    blank_missing(raw, roles)
    row_names = build_ids(raw, roles)
    encoded = encode_target(raw, roles, row_names, task, ignore_index)
    row_times = build_times(raw, roles, row_names)
    if row_times is None and time == ORDER:
        row_times = np.arange(raw.n, dtype=np.float64)
    about = _describe_source(source, roles, raw) | _find_time_column(roles, columns, row_times)
    units, rates = _read_units(raw)
    try:
        data = Dataset(
            name=label,
            inputs=raw.inputs,
            target=encoded.values,
            labelled=encoded.labelled,
            task=encoded.task,
            class_names=encoded.class_names,
            present=find_present(raw),
            lengths=raw.lengths,
            group=build_groups(raw, roles, row_names),
            split=build_splits(raw, roles, row_names),
            time=row_times,
            ids=row_names,
            about=about | (prepared.facts.about if prepared else {}),
            default_modalities=_read_defaults(prepared, raw) if prepared else {},
            impute=impute,
            columns=raw.features,
            standard=raw.standard,
            schema=raw.schema,
            recordings=raw.recordings,
            skipped=raw.skipped,
            units=units,
            rates=rates,
            longest=dict(longest or {}),
            recipes=raw.recipes,
        )
    except DataError as e:
        # The data set knows only its name; whoever corrects the data needs the file.
        message = str(e)
        if message.startswith(label):
            message = raw.name + message.removeprefix(label)
        raise DataError(message) from None
    warn_long_rows(data.name, data.lengths, data.ids)
    return data


def _describe_source(source: Any, roles: Roles, raw: Raw) -> dict[str, str]:
    """Source, columns with a role, dialect and unread columns for `Dataset.about`; empty ones are left out."""
    about = {}
    if isinstance(source, str | Path):
        about["source"] = str(source)
    about["target"] = ", ".join(roles.target)
    about |= {role: getattr(roles, role) or "" for role in ("group", "split", "time", "ids")}
    about["read_as"] = raw.read_as
    about["not_read"] = listed(raw.not_read, 20) if raw.not_read else ""
    return {key: value for key, value in about.items() if value}


def _find_time_column(roles: Roles, names: Sequence[str], times: Any) -> dict[str, str]:
    """A column that looks like a time but is not used as one, where neither groups nor times relate rows.

    Advice on contiguous blocks then names it.
    """
    if roles.group or times is not None:
        return {}
    for column in names:
        if column.lower() in TIME_NAMES and column not in roles.names:
            return {"time_column": column}
    return {}


def _read_units(raw: Raw) -> tuple[dict[str, str], dict[str, float]]:
    """Modality -> unit, and modality -> rate in Hz, where the recordings' schema knows them."""
    units, rates = {}, {}
    for m, schema in raw.schema.items():
        if schema.get("unit", "1") != "1":
            units[m] = schema["unit"]
        if schema.get("final_rate"):
            rates[m] = float(schema["final_rate"])
    return units, rates


def _read_defaults(prepared: Prepared, raw: Raw) -> dict[str, list[str]]:
    """The default modalities of a prepared folder, of those that were read."""
    defaults = prepared.facts.default_modalities
    return {role: [m for m in names if m in raw.inputs] for role, names in defaults.items()}


@phase("read the data")
def load_for(config: Config, source: Any = None) -> Dataset:
    """Load the data set that an experiment's settings name, or `source` with the same settings."""
    target: list[str] = config.target
    modalities = {m: split_columns(how) if isinstance(how, str) else how for m, how in config.modalities.items()}
    # Retrieval and anti-spoofing are tasks of an experiment; their data are class codes.
    tasks = {"auto": None, **dict.fromkeys(CLASS_TASKS, "classification")}
    return load(
        config.data if source is None else source,
        target=target[0] if len(target) == 1 else target or None,
        group=config.group or None,
        split=config.split or None,
        time=config.time or None,
        task=tasks.get(config.task, config.task),
        modalities=_with_named(config, config.data if source is None else source, modalities) or None,
        table=config.table,
        impute=config.impute,
        ignore_index=config.ignore_index,
        on_error=config.on_error,
        longest=config.longest,
    )


def _with_named(config: Config, source: Any, modalities: Mapping[str, Any]) -> dict[str, Any]:
    """The recipes of an experiment, and the other modalities that it names or that a prepared folder has by default."""
    if not modalities:
        return {}
    named = [*config.available, *config.privileged] or list_defaults(source)
    return {**{m: None for m in named if m not in modalities}, **modalities}


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
    table: Mapping[str, Any] | None = None,
) -> Rows:
    """Load the features of new rows, for prediction; they need no target.

    Args:
        source: as for `load`.
        modalities: the modalities to read, or name -> recipe, as for `load`.
        group: column of the person or session of each row.
        ids: column of unique row names.
        impute: "no": NaN is an error; "mean": NaN is kept.
        on_error: for recordings in files that cannot be read: "raise" an error, or "skip" their rows.
        longest: modality -> time steps to keep of a signal's longer rows.
        table: how a text manifest is written, as for `load`.

    Returns:
        Checked rows.

    Raises:
        DataError: names file, row, modality and value.
        ConfigError: an impossible argument.
    """
    checked = check_modalities(modalities)
    assert checked is not None
    label = default_name(source)

    def find(columns: Sequence[str]) -> Roles:
        return find_roles(label, columns, None, group, None, ids, target_needed=False)

    from sidelight.data.sources.prepared import Prepared

    given = source if isinstance(source, Prepared) else None
    if prepared := given or open_prepared(source, target_needed=False, table=table):
        from sidelight.data.sources.recorded import read_recordings

        # New rows may come without the group column of the training data.
        group = group or (prepared.facts.group if prepared.facts.group in prepared.table.columns else None)
        raw, roles = read_recordings(prepared, find, checked, on_error, longest)
    else:
        raw, roles = read_source(source, label, find, checked, longest, table, on_error)

    blank_missing(raw, roles)
    present = find_present(raw)
    for m in raw.inputs:
        present.setdefault(m, np.ones(raw.n, bool))
    row_names = build_ids(raw, roles)
    rows = Rows(
        name=raw.name,
        inputs=raw.inputs,
        present={m: present[m] for m in raw.inputs},
        lengths=raw.lengths,
        group=build_groups(raw, roles, row_names),
        ids=row_names,
        schema=raw.schema,
        skipped=raw.skipped,
        columns=raw.features,
    )
    rows.check(impute)
    return rows


def _load_builtin(name: str, modalities: Modalities | None, **given: Any) -> Dataset:
    """A built-in data set, which has its own roles and refuses others."""
    data = DATASETS[name].load()
    for setting, value in given.items():
        if value and not (setting == "task" and value in ("auto", data.task)):
            own = "no times" if setting == "time" else f"its own {setting}"
            raise ConfigError(f"{name} is built in and has {own}; leave {setting}={value!r} out")
    return data if modalities is None else data.select(list(modalities))
