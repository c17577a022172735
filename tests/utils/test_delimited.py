"""Every line of a text table is as wide as its header, in manifests, signals, readers' tables and faces alike."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelight.data import load, load_rows
from sidelight.errors import ConfigError, DataError
from sidelight.export.source import names_in
from sidelight.readers.tables import read_cells
from sidelight.signals import read_csv
from sidelight.utils.delimited import CHUNK, read_delimited, read_header
from sidelight.video.faces import read_faces

DOORS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "manifest": (load, "target,face.0,face.1", "{i},0.{i},1"),
    "new rows": (lambda path: load_rows(path, ["face"]), "target,face.0,face.1", "{i},0.{i},1"),
    "signal": (lambda path: read_csv(path, ["eda"], unit="uS", rate=1), "time,eda,hr", "{i},0.{i},1"),
    "reader's table": (lambda path: read_cells(path, ("time",)), "time,eda,hr", "{i},0.{i},1"),
    "faces": (read_faces, "frame,x1,y1,x2,y2", "{i},1,1,5,9"),
}


def write(path: Path, header: str, lines: list[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("door", DOORS)
def test_a_line_of_another_width_is_refused_with_its_number_and_both_counts(tmp_path: Path, door: str) -> None:
    read, header, line = DOORS[door]
    lines = [line.format(i=i) for i in range(4)]
    width = header.count(",") + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pandas warns of what it drops
        read(write(tmp_path / "rows.csv", header, lines))
        for i, at in ((0, 2), (3, 5)):
            wider = [text + ",7" * (k == i) for k, text in enumerate(lines)]
            with pytest.raises(DataError, match=rf"rows.csv: line {at} has {width + 1} cells.*names {width} columns"):
                read(write(tmp_path / "rows.csv", header, wider))
            narrower = [text.rsplit(",", 1)[0] if k == i else text for k, text in enumerate(lines)]
            says = rf"rows.csv: line {at} has {width - 1} cells.*names {width} columns"
            with pytest.raises(DataError, match=says + (".*truncated" if i == 3 else "")):
                read(write(tmp_path / "rows.csv", header, narrower))
        with pytest.raises(DataError, match=rf"line 2 has {width + 1} cells"):  # pandas would take an index
            read(write(tmp_path / "rows.csv", header, [f"9,{text}" for text in lines]))


@pytest.mark.parametrize("door", DOORS)
def test_empty_cells_after_the_last_column_are_nothing(tmp_path: Path, door: str) -> None:
    read, header, line = DOORS[door]
    lines = [line.format(i=i) for i in range(4)]
    read(write(tmp_path / "rows.csv", header, [text + "," for text in lines]))
    read(write(tmp_path / "rows.csv", header + ",", lines))
    read(write(tmp_path / "rows.csv", header + ",,", [text + ", ,," for text in lines]))
    assert read_header(tmp_path / "rows.csv") == header.split(",")
    with pytest.raises(DataError, match="line 3 has"):
        read(write(tmp_path / "rows.csv", header + ",", [lines[0], lines[1] + ",8"]))


def test_a_column_that_shifted_stays_where_it_was(tmp_path: Path) -> None:
    """pandas' silent shift made `pain` 0.1 and put the pulse into the face."""
    lines = [f"s{i % 5},{['low', 'high'][i % 2]},0.{i + 10},0.{i + 50},60," for i in range(20)]
    path = write(tmp_path / "t.csv", "subject,pain,face.au1,face.au2,hr", lines)
    d = load(path, target="pain", group="subject")
    assert d.class_names == ("high", "low")
    np.testing.assert_allclose(d.inputs["face"][:, 0], [(i + 10) / 100 for i in range(20)], rtol=1e-6)


def test_quotes_line_breaks_blank_lines_and_byte_order_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeff\r\n id ,"two, words", \r\n1,"a\r\nb",\r\n\r\n"2","say ""x""",\r\n'.encode())
    table = read_delimited(path)
    assert table.names == ["id", "two, words"]
    assert table.cells.to_numpy(object).tolist() == [["1", "a\r\nb"], ["2", 'say "x"']]
    assert table.lines.tolist() == [3, 6]
    with pytest.raises(DataError, match="line 2 has 3 cells"):
        read_delimited(write(path, "a,b", ['1,"x\ny",3', "1,2"]))
    with pytest.raises(DataError, match="line 5 has 3 cells"):
        read_delimited(write(path, "a,b", ['1,"x\ny"', "1,2", "1,2,3"]))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty; expected the names of the columns"),
        (b"\n \n\n", "is empty"),
        (b'a,b\n1,"2\n3,4\n', "line 2: .*is a quote left open"),
        (b'a,b\n1,"x"y\n', "line 2"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", "line 2: field larger"),
        ("a,b\n1,Слово\n".encode("cp1251"), "neither UTF-8 text nor western .*encoding=cp1251.*save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "neither UTF-8 text nor"),
        (b"a b\n1,5;2\n", "line 2 has 2 cells, but the header names 1 column .*separator another one"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)a.csv.*{says}"):
        read_delimited(tmp_path / "a.csv")
    assert isinstance(names_in(tmp_path / "a.csv"), list)


def test_folders_and_separators_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_delimited(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a folder; expected a file"):
        read_delimited(tmp_path)
    with pytest.raises(ConfigError, match="separator '::'; expected one character"):
        read_delimited(tmp_path / "none.csv", "::")


def test_files_longer_than_a_chunk_keep_their_order(tmp_path: Path) -> None:
    n = 2 * CHUNK + 3
    table = read_delimited(write(tmp_path / "a.csv", "a,b", [f"{i},x" for i in range(n)]))
    assert table.cells[0].tolist() == [str(i) for i in range(n)]
    assert table.lines.tolist() == list(range(2, n + 2))
    assert len(read_delimited(write(tmp_path / "a.csv", "a,b", ["1,2"] * CHUNK))) == CHUNK


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6)


@settings(max_examples=40)
@given(st.integers(1, 4).flatmap(lambda w: st.lists(st.lists(CELL, min_size=w, max_size=w), max_size=6)), st.booleans())
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory: Any, rows: list[list[str]], trailing: bool) -> None:
    width = len(rows[0]) if rows else 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in [[f"c{k}" for k in range(width)], *rows]:
        writer.writerow(row + [""] * trailing)
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert read_delimited(path).cells.to_numpy(object).tolist() == rows
