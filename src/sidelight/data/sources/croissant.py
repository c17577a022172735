"""Croissant metadata (JSON-LD 1.0) of a prepared folder, by which catalogues and other tools read its table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidelight.data.raw import TABLE_FILE
from sidelight.recordings.registry import RecordingType

if TYPE_CHECKING:
    import pandas as pd

    from sidelight.data.sources.prepared import DatasetInfo

CROISSANT_FILE = "croissant.json"
ROWS = "rows"
"""The id of the one record set."""
VERSION = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip
"""The context that the specification asks for, word for word."""


def describe_croissant(
    folder: Path, table: pd.DataFrame, modalities: Mapping[str, RecordingType], facts: DatasetInfo, suffix: str
) -> dict[str, Any]:
    """Describe a prepared folder; its table has to be written already.

    Every column of the table is a field. A recording is a field too: the path of its file. What the recordings hold
    stands in `modalities.json`, and in the fields' descriptions in words.

    Args:
        folder: the folder.
        table: its table.
        modalities: modality -> recording type.
        facts: metadata of the data set.
        suffix: of a modality's column that names its file.
    """
    about = {"description": facts.description, "license": facts.licence, "citeAs": facts.citation}
    digest = hashlib.sha256((folder / TABLE_FILE).read_bytes()).hexdigest()
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": facts.name,
        **{key: text for key, text in about.items() if text},
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": TABLE_FILE,
                "name": TABLE_FILE,
                "description": "A row per recording: labels, groups, and the files of every modality.",
                "contentUrl": TABLE_FILE,
                "encodingFormat": "text/csv",
                "sha256": digest,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": ROWS,
                "name": ROWS,
                "description": f"{len(table)} rows, prepared by {facts.source or 'sidelight'}.",
                "key": {"@id": f"{ROWS}/id"},
                "field": list(_fields(table, modalities, facts, suffix)),
            }
        ],
    }


def _fields(
    table: pd.DataFrame, modalities: Mapping[str, RecordingType], facts: DatasetInfo, suffix: str
) -> Iterator[dict[str, Any]]:
    """A field for each column."""
    roles = {"id": "the unique name of the row", facts.group: "the person or session of the row"}
    roles |= {facts.split: "the official split", **dict.fromkeys(facts.target, "what is predicted")}
    for m, kind in modalities.items():
        settings = json.dumps(kind.to_config(), ensure_ascii=False)
        use = "available" if m in facts.available else "privileged" if m in facts.privileged else ""
        roles[m + suffix] = f"the file of {m}{f' ({use})' if use else ''}, beside this file or absolute: {settings}"
    for column in map(str, table.columns):
        yield {
            "@type": "cr:Field",
            "@id": f"{ROWS}/{column}",
            "name": f"{ROWS}/{column}",
            "description": roles.get(column, "a column of the table"),
            "dataType": _data_type(table[column]),
            "source": {"fileObject": {"@id": TABLE_FILE}, "extract": {"column": column}},
        }


def _data_type(column: pd.Series) -> str:
    """Croissant's type of a column; a column with gaps or of mixed types is text."""
    return {"i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float", "b": "sc:Boolean"}.get(column.dtype.kind, "sc:Text")
