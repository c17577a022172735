"""Compare the clock times at which the signals of a row begin."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from sidelight.errors import DataError, SidelightWarning
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.series import Signal


class _Begin(NamedTuple):
    """Where a row begins in a modality's file, and the file's first and last second, all on the file's clock."""

    m: str
    path: Path
    begins: float
    first: float
    last: float
    period: float
    cut: bool


def check_clocks(source: str, rows: Mapping[str, LazyRows], skipped: Collection[int]) -> None:
    """Compare the clock times at which the signals of each row begin, where their files have a column of times.

    Files whose times have no second in common do not run on one clock, and are not compared. Nor is a file with itself.

    Args:
        source: name of the data in errors.
        rows: modality -> its rows.
        skipped: rows that are left out.

    Raises:
        DataError: `<modality>_start` cuts two files of one clock at different times, more than a sample apart. Where
            rows are whole files this is a warning.
    """
    clocked = {m: x for m, x in rows.items() if isinstance(x.kind, Signal) and x.kind.time}
    if len(clocked) < 2:
        return
    for i in range(len(next(iter(clocked.values())))):
        begins = [] if i in skipped else [_find_begin(m, x, i) for m, x in clocked.items() if x.files[i]]
        for one, other in pairwise(begins):
            together = min(one.last, other.last) > max(one.first, other.first)
            if one.path == other.path:  # one file cut twice, on purpose: BioVid's EMG begins two seconds after its ECG
                continue
            if not together or abs(one.begins - other.begins) <= max(one.period, other.period) + 1e-9:
                continue
            text = (
                f"{source}: {rows[one.m].names[i]}: {one.m!r} begins at {one.begins:.10g} s of its clock, and "
                f"{other.m!r} at {other.begins:.10g} s. Starts count from the first sample of a file: {one.path} "
                f"begins at {one.first:.10g} s, {other.path} at {other.first:.10g} s. Give starts of one clock time, "
                "or let `sidelight windows` cut the files by their clocks; if each file has a clock of its own, leave "
                "the setting `time` out"
            )
            if one.cut or other.cut:
                raise DataError(text)
            warnings.warn(text, SidelightWarning, stacklevel=4)
            return


def _find_begin(m: str, x: LazyRows, i: int) -> _Begin:
    assert isinstance(x.kind, Signal)
    segment = x.segment(i)
    first, last = x.kind.clock(segment.path) or (0.0, 0.0)
    period = 1 / x.kind.final_rate
    return _Begin(m, segment.path, first + (segment.start or 0.0), first, last, period, segment.start is not None)
