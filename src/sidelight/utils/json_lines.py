"""Read tables of JSON lines, one object a row, as data hubs have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidelight.errors import DataError, shown
from sidelight.utils.files import parse_json
from sidelight.utils.text_files import open_text

if TYPE_CHECKING:
    import pandas as pd


def read_json_lines(path: Path) -> pd.DataFrame:
    """Read a .jsonl file: a column for every key, empty where an object lacks it.

    Raises:
        DataError: a line is no JSON object, or has a key twice; names the line.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    with open_text(path, "utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                rows.append(_parse(line, f"{path}: line {number}"))
    if not rows:
        raise DataError(f"{path} is empty; expected a JSON object in each line")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pd.DataFrame({key: pd.Series([row.get(key) for row in rows], dtype=object) for key in columns})


def _parse(line: str, where: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise DataError(f"{where}: key {key!r} occurs twice; every column needs a name of its own")
        return dict(pairs)

    try:
        row = parse_json(line, once)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise DataError(f'{where} is {shown(row)}; expected a JSON object such as {{"id": "a1", "label": "low"}}')
    return row
