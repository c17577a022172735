"""Rows of a prepared folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sidelight.data.arguments import Modalities
from sidelight.data.by_modality import index_rows
from sidelight.data.raw import MODALITIES_FILE, Raw, Roles
from sidelight.data.rows import name_row
from sidelight.data.sources.channels import Channels, pick_channels, pick_from_type, plan_sources
from sidelight.data.sources.checked_files import END, FILE, START, OnError, add_files, build_rows, check_files, get_view
from sidelight.data.sources.clocks import check_clocks
from sidelight.data.sources.prepared import Prepared
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.recordings.base import RecordingType
from sidelight.recordings.infer import change_type, complete_type
from sidelight.recordings.label_maps import build_label_maps
from sidelight.recordings.pictures import Picture
from sidelight.recordings.registry import Labels, Rows


def read_recordings(
    prepared: Prepared,
    find: Callable[[Sequence[str]], Roles],
    modalities: Modalities | None,
    on_error: OnError = "raise",
    longest: Mapping[str, int] | None = None,
) -> tuple[Raw, Roles]:
    """Read the rows of a prepared folder: modalities as arrays or, where their rows stay files, as `LazyRows`.

    Args:
        prepared: the folder.
        find: called with the columns; returns those with a role.
        modalities: names, or name -> recipe: settings that replace the folder's, or channels; None: all.
        on_error: "raise": an unreadable file is an error. "skip": its row is dropped and listed in `Raw.skipped`.
        longest: modality -> time steps to keep of longer rows.

    Raises:
        DataError: a file is missing, damaged or not as declared (`RecordingType.probe`); names row, modality and file.
        ConfigError: images that do not lie on the label maps, or an impossible recipe.
    """
    table = prepared.table
    asked, picked = plan_sources(modalities)
    types = _declare(prepared, asked, picked)
    dense = [m for m, kind in types.items() if isinstance(kind, Labels)]
    roles = find([*table.columns, *dense])
    usable = [m for m in types if m not in dense]
    if modalities is None:
        wanted = usable
    else:  # the source of channels that are read by themselves is not needed
        # Settings of the target, which is no modality, may stand among the others.
        given = [m for m in asked or () if not (m in dense and isinstance(asked, Mapping))]
        implied = {c.of for m, c in picked.items() if m in types} - {c.of for m, c in picked.items() if m not in types}
        wanted = [m for m in given if m in modalities or m not in implied] + [m for m in picked if m in types]
    for m in wanted:
        if m not in usable:
            raise DataError(f"{prepared.source}: {unknown('modality', m, usable)}")
        if not isinstance(types[m], Rows) and (types[m].of or m) + FILE not in table.columns:
            column = (types[m].of or m) + FILE
            raise DataError(f"{prepared.source}: {m!r}: {unknown('column', column, table.columns)}")
    dense_targets = [t for t in roles.target if t in dense]
    if dense_targets:
        _check_views(prepared, types, wanted, dense_targets[0])

    names = np.array([name_row(i, table["id"].to_numpy()) for i in range(len(table))])
    stacked = {m: kind for m in wanted if isinstance(kind := types[m], Rows)}
    of_files = [m for m in [*wanted, *dense_targets] if m not in stacked]
    rows = {m: build_rows(table, m, types[m], prepared.folder, names, prepared.source) for m in of_files}
    skipped, decoded = check_files(rows, on_error)
    check_clocks(prepared.source, rows, skipped)
    # From here on skipped rows do not exist.
    kept = np.setdiff1d(np.arange(len(table)), list(skipped))
    if not len(kept):
        first = next(iter(skipped.values()))
        raise DataError(f"{prepared.source}: no row can be read; {first['modality']!r}: {first['reason']}")
    rows = index_rows(rows, kept)

    ids = table["id"].to_numpy()
    raw = Raw(prepared.source, len(kept), {}, class_names=tuple(prepared.facts.classes), longest=longest or {})
    raw.read_as = table.attrs.get("read_as", "")
    named = {*roles.names, "id", *((types[m].of or m) + end for m in types for end in (FILE, START, END))}
    raw.not_read = tuple(c for c in table.columns if c not in named)
    raw.skipped = tuple({"id": str(ids[i]), **fault} for i, fault in sorted(skipped.items()))
    raw.columns = {c: table[c].to_numpy(object)[kept] for c in roles.names if c not in dense}
    raw.schema = {m: types[m].schema() for m in wanted}
    raw.recordings = {m: types[m].to_config() for m in wanted if m not in stacked}
    for m in wanted:
        if m in stacked:
            x, present = stacked[m].read_all(prepared.folder, len(table))
            everything = len(kept) == len(table)
            raw.inputs[m], raw.present[m] = (x, present) if everything else (x[kept], present[kept])
            if not raw.present[m].any():
                raise DataError(f"{raw.name}: modality {m!r} is absent from every row")
            continue
        add_files(raw, rows[m], [decoded[m][i] for i in kept] if m in decoded else None)
    for t in dense_targets:
        raw.columns[t] = build_label_maps(rows[t], [decoded[t][i] for i in kept])
    pick_channels(raw, picked, modalities)
    return raw, roles


def _declare(prepared: Prepared, asked: Modalities | None, picked: Mapping[str, Channels]) -> dict[str, RecordingType]:
    """The folder's recording types, with those that a user changes or adds, and those that read channels of files."""
    types = dict(prepared.modalities)
    for m, how in asked.items() if isinstance(asked, Mapping) else ():
        where = f"modality {m!r}"
        if how is None:
            continue
        if not isinstance(how, Mapping):
            raise ConfigError(
                f"{where} is {how!r}, but {prepared.folder} says in {MODALITIES_FILE} how each is stored; give "
                "settings of its recording type, or channels (image[3])"
            )
        of = str(how.get("of", m))
        if of not in types:
            raise ConfigError(f"{where}: {unknown('modality', of, types)}")
        if m in types:
            types[m] = change_type(types[m], how, prepared.folder, where)
        elif how.get("kind", types[of].kind) == types[of].kind:
            types[m] = change_type(types[of], {**how, "of": types[of].of or of}, prepared.folder, where)
        else:
            types[m] = _of_other_kind(prepared, types[of].of or of, how, where)
    for m, channels in picked.items():
        if channels.of not in types:
            fault = unknown("modality", channels.of, types)
            raise DataError(f"{prepared.source}: modality {m!r} = {channels}: {fault}")
        kind = types[channels.of]
        if not isinstance(kind, Rows):  # whose channels are taken once they are read
            types[m] = pick_from_type(m, channels, kind)
    return types


def _of_other_kind(prepared: Prepared, of: str, how: Mapping[str, Any], where: str) -> RecordingType:
    """A type that reads the files of another modality in its own way, as the sound of a video."""
    if of + FILE not in prepared.table.columns:
        raise DataError(f"{prepared.source}: {where}: {unknown('column', of + FILE, prepared.table.columns)}")
    files = [f for f in prepared.table[of + FILE].astype(str).str.strip() if f]
    if not files:
        raise DataError(f"{prepared.source}: {where}: no row has a file in column {of + FILE!r}")
    return complete_type(prepared.folder / files[0], {**how, "of": of}, prepared.folder, where)


def _check_views(
    prepared: Prepared, types: Mapping[str, RecordingType], modalities: Sequence[str], target: str
) -> None:
    """Raise ConfigError for images that show another view than the label maps."""
    view = get_view(types[target])
    for m in modalities:
        kind = types[m]
        if isinstance(kind, Picture) and get_view(kind) != view:
            raise ConfigError(
                f"{prepared.source}: {m!r} shows another view ({get_view(kind) or 'the scene'}) than the label maps "
                f"{target!r}; where every pixel has a class, all images have to lie on it: leave {m!r} out"
            )
