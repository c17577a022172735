"""Texts that a spreadsheet would run as formulas."""

from __future__ import annotations

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that spreadsheets take for a formula (OWASP, CSV injection)."""


def escape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table with an apostrophe before each text, and column's name, that a spreadsheet would run as a formula.

    Numbers stay what they are. For a table that is to be opened in a spreadsheet: ids, groups and class names come from
    the data, which someone else may have written.
    """

    def safe(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

    texts = [c for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    return frame.assign(**{str(c): frame[c].map(safe) for c in texts}).rename(columns=safe)
