"""Two files of one clock that begin at different times: the same clock time in every modality, or a refusal."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from sidelight.data import load
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.errors import DataError, SidelightWarning
from sidelight.recordings import Signal

FACTS = DatasetInfo("c", target=("label",), group="subject", available=("a",), privileged=("b",))


def write_signals(folder: Path, starts: dict[str, float], n: int = 600, rate: float = 1.0, event: float = 1300) -> None:
    """A sample a second from each start on, with an event at one clock time."""
    for name, start in starts.items():
        times = [start + i / rate for i in range(n)]
        lines = [f"{t:.6f},{abs(t - event) < 0.5 / rate:d}\n" for t in times]
        (folder / f"{name}.csv").write_text("t,x\n" + "".join(lines))


def prepare(folder: Path, later: float, time: str = "t", rows: int = 50, whole: bool = False, rate: float = 1) -> Path:
    """Rows of 10 s; those of b begin `later` seconds after the file's first sample."""
    table = []
    for i in range(rows):
        row = {"id": str(i), "label": "pq"[i % 2], "subject": f"s{i % 6}"}
        row |= {"a_file_name": "../a.csv", "b_file_name": "../b.csv"}
        table.append(row if whole else row | {"a_start": 10 * i, "b_start": 10 * i + later})
    kind = Signal(columns=("x",), rate=rate, time=time, seconds=0 if whole else 10)
    return write_prepared(folder / "clock", table, {"a": kind, "b": kind}, FACTS, overwrite=True)


def test_starts_of_different_clock_times_are_refused(tmp_path: Path) -> None:
    write_signals(tmp_path, {"a": 1000, "b": 990})
    with pytest.raises(DataError, match=r"row 0.*'a' begins at 1000 s of its clock, and 'b' at 990 s.*windows"):
        load(prepare(tmp_path, 0))
    d = load(prepare(tmp_path, 10))
    assert {int(x.max((1, 2)).argmax()) for x in d.inputs.values()} == {30}


def test_files_of_other_clocks_and_of_none_are_not_compared(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_signals(tmp_path, {"a": 1000, "b": 1000.8})  # less than a sample
        load(prepare(tmp_path, 0))
        write_signals(tmp_path, {"a": 1000, "b": 1.6e9})
        load(prepare(tmp_path, 0))
        write_signals(tmp_path, {"a": 1000, "b": 990})
        load(prepare(tmp_path, 0, time=""))


def test_one_file_may_be_cut_at_two_times(tmp_path: Path) -> None:
    """BioVid's EMG begins two seconds after the ECG of the same file, as the published protocol has it."""
    write_signals(tmp_path, {"a": 1000}, event=1105)
    table = [
        {"id": str(i), "label": "pq"[i % 2], "subject": f"s{i % 6}", "a_file_name": "../a.csv", "a_start": 20 * i}
        for i in range(12)
    ]
    table = [row | {"b_file_name": "../a.csv", "b_start": row["a_start"] + 2} for row in table]
    kind = Signal(columns=("x",), rate=1, time="t", seconds=10)
    d = load(write_prepared(tmp_path / "clock", table, {"a": kind, "b": kind}, FACTS))
    at = {m: divmod(int(x[..., 0].argmax()), x.shape[1]) for m, x in d.inputs.items()}
    assert at == {"a": (5, 5), "b": (5, 3)}


def test_whole_files_that_begin_apart_are_said(tmp_path: Path) -> None:
    write_signals(tmp_path, {"a": 1000, "b": 1005})
    with pytest.warns(SidelightWarning, match="'a' begins at 1000 s of its clock, and 'b' at 1005 s"):
        load(prepare(tmp_path, 0, whole=True))


def test_rows_of_a_drifting_file_lie_at_their_times(tmp_path: Path) -> None:
    """A rate that is declared 0.6 % too high moved the event by half a row."""
    write_signals(tmp_path, {"a": 0, "b": 0}, 6000, 9.94, event=501)
    d = load(prepare(tmp_path, 0, rows=58, rate=10))
    for x in d.inputs.values():
        row, step = divmod(int(x[..., 0].argmax()), x.shape[1])
        assert row * 10 + step / 10 == pytest.approx(501, abs=0.11)
