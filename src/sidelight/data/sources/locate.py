"""The file behind a path or a folder, and the default name of its data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sidelight.config.paths import looked_for
from sidelight.data.builtin import DATASETS
from sidelight.errors import DataError, shown, unknown
from sidelight.utils.files import check_file, exists, path_fault
from sidelight.utils.text_files import table_stem

MANIFESTS = (
    *("metadata.csv", "metadata.parquet", "metadata.tsv", "metadata.jsonl", "metadata.txt"),
    *("metadata.csv.gz", "metadata.tsv.gz", "metadata.jsonl.gz"),
)
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".csv.gz", ".tsv.gz", ".txt.gz", ".jsonl.gz", ".parquet", ".npz")


def default_name(source: Any) -> str:
    """The name of a source's data: that of its file or folder, or "data" for data in memory."""
    if not isinstance(source, str | Path):
        return "data"
    if wrong := path_fault(str(source)):
        raise DataError(f"{shown(str(source))} {wrong}")
    path = Path(source)
    if not path.suffix:
        return path.resolve().name
    # Many files are called metadata.csv; their folder tells them apart.
    stem = table_stem(path)
    return path.resolve().parent.name if stem in ("metadata", "data") else stem


def locate(source: str | Path) -> Path:
    """The file to read: the path itself, or the manifest of a folder. Raises DataError if it does not exist."""
    path = Path(source)
    if os.path.isdir(path):
        for name in MANIFESTS:
            if exists(path / name):
                return check_file(path / name)
        raise DataError(f"folder {path} has no manifest; expected one of {', '.join(MANIFESTS)} in it")
    looks_like_path = path.suffix or len(path.parts) > 1 or "\\" in str(source)
    if not looks_like_path and not os.path.lexists(path):
        # It may be a misspelt name of a built-in data set.
        missing = f"no such file or folder, and {unknown('built-in data set', source, DATASETS)}"
        raise DataError(missing + looked_for(source))
    check_file(path, missing=looked_for(source))
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; expected {', '.join(SUFFIXES)}")
    return path
