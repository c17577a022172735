"""Guard tables against texts that a spreadsheet would run as formulas."""

from __future__ import annotations

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets read as formulas (OWASP, CSV injection)."""


def escape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before each text and column name that a spreadsheet would run as a formula.

    Use it for tables that will be opened in a spreadsheet: ids, groups and class names come from the data, which
    someone else may have written. Numbers are not changed.
    """

    def safe(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

    texts = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    return frame.assign(**{str(c): frame[c].map(safe) for c in texts}).rename(columns=safe)
