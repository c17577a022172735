"""Series in a text table for each row, such as a face over the frames of its video: the settings that read them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from sidelight.errors import ConfigError, DataError, listed, unknown
from sidelight.recordings.registry import Signal
from sidelight.recordings.signal_table import TIMES, choose_measured, find_time, find_time_unit, round_rate
from sidelight.signals.csv import read_csv
from sidelight.utils.delimited import Delimited, read_delimited

LOOKED_AT = 50
"""Files whose rates are read."""
NEAR = 0.01
"""Files whose rates differ by less count as one rate, as a declared rate does (`signals.check_times`)."""


def guess_signal(
    modality: str, files: Sequence[Path], columns: Sequence[str], rate: float, unit: str, seconds: float
) -> Signal:
    """The settings that read a text table for each row.

    Args:
        modality: its name, for errors.
        files: the tables, of one layout.
        columns: names or patterns (`AU*_r`) of columns; (): all columns of numbers, of an OpenFace table its AU*_r.
        rate: sampling rate in Hz of tables without times; of others, the rate to resample to. 0: that of the times.
        unit: of the values.
        seconds: length of a row; 0: that of its table.

    Raises:
        DataError: the first table cannot be read, or has no column of numbers.
        ConfigError: a pattern that no column has, or neither times nor a rate.
    """
    first = files[0]
    table, numbers = _read_columns(first)
    names, time = table.names, find_time(numbers)
    chosen = _choose(modality, first, columns, names, choose_measured(numbers, time))
    settings: dict[str, Any] = {"columns": chosen, "unit": unit, "seconds": seconds}
    if not time:
        if not rate:
            raise ConfigError(
                f"{modality!r}: {first} has no column of times ({listed(TIMES)}), so its sampling rate "
                f"is not known: give rate=… in Hz. Columns: {', '.join(names[:20])}"
            )
        return Signal(rate=rate, **settings)
    time_unit = find_time_unit(time, table.dialect.units or {})
    settings |= {"time": time, "time_unit": time_unit}
    found, seconds_of = _measure_rates(files, chosen[0], time, time_unit)
    usual = round_rate(float(np.median(found)), float(np.median(seconds_of))) if found else rate
    if rate and abs(usual / rate - 1) > NEAR:
        return Signal(rate=0, resample_to=rate, **settings)
    if found and max(found) - min(found) > NEAR * usual:
        return Signal(rate=0, resample_to=rate or usual, **settings)
    return Signal(rate=rate or usual, **settings)


def _read_columns(path: Path) -> tuple[Delimited, list[str]]:
    """A table, and the names of the columns that hold numbers."""
    import pandas as pd

    table = read_delimited(path)
    numbers = []
    for k, name in enumerate(table.names):
        if name and pd.to_numeric(table.cells[k], errors="coerce").notna().any():
            numbers.append(name)
    return table, numbers


def _choose(
    modality: str, path: Path, wanted: Sequence[str], names: Sequence[str], measured: Sequence[str]
) -> tuple[str, ...]:
    if not wanted:
        if not measured:
            raise DataError(f"{modality!r}: {path} has no column of numbers; columns: {', '.join(names[:20])}")
        return tuple(measured)
    chosen: dict[str, None] = {}
    for pattern in wanted:
        fits = [name for name in names if fnmatchcase(name, pattern)]
        if not fits:
            raise ConfigError(f"{modality!r}: {path}: {unknown('column', pattern, [n for n in names if n])}")
        chosen |= dict.fromkeys(fits)
    return tuple(chosen)


def _measure_rates(files: Sequence[Path], column: str, time: str, unit: str) -> tuple[list[float], list[float]]:
    """Sampling rates and lengths of some of the tables; one that cannot be read is reported when its row is."""
    some = np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).round().astype(int))
    rates, seconds = [], []
    for i in some.tolist():
        try:
            one = read_csv(files[i], [column], unit="1", time=time, time_unit=unit)
        except DataError:
            continue
        rates.append(one.rate)
        seconds.append(one.seconds)
    return rates, seconds
