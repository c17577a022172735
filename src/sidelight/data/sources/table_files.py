"""Files that a plain manifest names: their recording types follow from the files, and from settings beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sidelight.data.by_modality import index_rows
from sidelight.data.raw import Raw
from sidelight.data.sources.channels import Channels, pick_from_type
from sidelight.data.sources.checked_files import FILE, OnError, add_files, build_rows, check_files
from sidelight.data.sources.clocks import check_clocks
from sidelight.errors import DataError, unknown
from sidelight.recordings.base import RecordingType
from sidelight.recordings.infer import AS_THEY_ARE, KIND_OF, complete_type, find_kind
from sidelight.recordings.label_maps import LabelMaps, build_label_maps
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Picture
from sidelight.utils.delimited import missing


@dataclass(eq=False)
class FilesOfTable:
    """The files of a table's rows, checked.

    Args:
        rows: modality, or column of the target -> its rows.
        decoded: modality -> its decoded rows, or the content of each label map.
        kept: (n,) rows that are left; None: all.
        skipped: row -> modality and reason of its bad file.
    """

    rows: dict[str, LazyRows] = field(default_factory=dict)
    decoded: dict[str, list[Any]] = field(default_factory=dict)
    kept: NDArray | None = None
    skipped: dict[int, dict[str, str]] = field(default_factory=dict)

    def add(self, raw: Raw, m: str) -> None:
        """Add a modality to `raw`."""
        kind = self.rows[m].kind
        raw.schema[m] = kind.schema()
        raw.recipes[m] = kind.to_config()
        add_files(raw, self.rows[m], self.decoded.get(m))

    def label_maps(self, target: str) -> LabelMaps | None:
        """The target, where it is read from files of a recording type."""
        return build_label_maps(self.rows[target], self.decoded[target]) if target in self.rows else None


class TypesOfTable:
    """Finds the recording types of a table's files.

    Args:
        frame: the table.
        free: columns without a role.
        folder: to which file names are relative.
        name: name of the table in errors.
    """

    def __init__(self, frame: pd.DataFrame, free: Sequence[str], folder: Path, name: str):
        self.frame, self.free, self.folder, self.name = frame, free, folder, name
        self.kinds: dict[str, RecordingType] = {}
        self.columns: dict[str, str] = {}
        self.implied: set[str] = set()
        """Sources of channels that nobody asks for by themselves, and that are read channel by channel."""

    def declare(self, wanted: Mapping[str, Any], picked: Mapping[str, Channels], given: Sequence[str]) -> None:
        """Find the types of all modalities whose files are not read as they are.

        Args:
            wanted: modality -> recipe.
            picked: modality -> channels of another.
            given: the modalities that the user names; empty: all.
        """
        for m, how in wanted.items():
            if isinstance(how, Mapping):
                self._declare(m, str(how.get("of", m)), how)
            elif how is None and m + FILE in self.free and self._has_own_reader(m + FILE):
                self._declare(m, m, {})
        for m, channels in picked.items():
            if channels.of in self.kinds:
                self.kinds[m] = pick_from_type(m, channels, self.kinds[channels.of])
                self.columns[m] = self.columns[channels.of]
                if channels.of not in given:
                    self.implied.add(channels.of)
        for of in self.implied:
            del self.kinds[of]

    def declare_target(self, target: str, settings: Any, ignore: int) -> None:
        """Find the type of label maps that have settings, or that have to follow the size of their images."""
        sizes = [kind.size for kind in self.kinds.values() if isinstance(kind, Picture)]
        if settings is None and not sizes:
            return
        given: dict[str, Any] = {"kind": "labels", **(settings or {})}
        if sizes:
            given.setdefault("size", list(sizes[0]))
        if "colours" not in given:
            given.setdefault("ignore", ignore)
        where = f"{self.name}: target {target!r}"
        self.kinds[target] = complete_type(self._first(self._files(target), where), given, self.folder, where)
        self.columns[target] = target

    def read(self, names: NDArray, on_error: OnError) -> FilesOfTable:
        """Check every file, and read what stays in memory.

        Args:
            names: (N,) names of the rows in errors.
            on_error: "raise" an error for a file that cannot be read, or "skip" its row.
        """
        if not self.kinds:
            return FilesOfTable()
        rows = {
            m: build_rows(self.frame, m, kind, self.folder, names, self.name, self.columns[m])
            for m, kind in self.kinds.items()
        }
        skipped, decoded = check_files(rows, on_error)
        check_clocks(self.name, rows, skipped)
        if not skipped:
            return FilesOfTable(rows, decoded)
        kept = np.setdiff1d(np.arange(len(names)), list(skipped))
        if not len(kept):
            first = next(iter(skipped.values()))
            raise DataError(f"{self.name}: no row can be read; {first['modality']!r}: {first['reason']}")
        left = {m: [values[i] for i in kept] for m, values in decoded.items()}
        return FilesOfTable(index_rows(rows, kept), left, kept, skipped)

    def _declare(self, m: str, of: str, how: Mapping[str, Any]) -> None:
        where = f"{self.name}: modality {m!r}"
        column = of + FILE if of + FILE in self.free else of
        if column not in self.free:
            raise DataError(f"{where}: {unknown('column', of + FILE, self.free)}")
        files = self._files(column)
        first = self._first(files, where)
        settings = {name: value for name, value in how.items() if name != "of"}
        settings["kind"] = find_kind(files, settings, where)
        if of != m:
            settings["of"] = of
        self.kinds[m] = complete_type(first, settings, self.folder, where)
        self.columns[m] = column

    def _files(self, column: str) -> list[str]:
        cells = self.frame[column]
        return [*cells[~missing(cells)].astype(str).str.strip()]

    def _first(self, files: Sequence[str], where: str) -> Path:
        if not files:
            raise DataError(f"{where} is absent from every row")
        return self.folder / files[0]

    def _has_own_reader(self, column: str) -> bool:
        """Whether a recording type reads the files, which are neither images nor arrays that are read as they are."""
        for file in self._files(column):
            suffix = Path(file).suffix.lower()
            if KIND_OF.get(suffix, "") not in ("", *AS_THEY_ARE):
                return True
            if not suffix and (self.folder / file).is_dir():
                return True
        return False
