"""Tables as programs write them: read where the file shows how, and otherwise refused with both readings."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from sidelight.errors import ConfigError, DataError
from sidelight.utils.delimited import read_delimited, read_header
from sidelight.utils.dialect import build_dialect, find_dialect

NAMES = ["id", "subject", "pain", "eda.mean"]
ROWS = [[f"r{i}", f"s{i % 3}", ["low", "high"][i % 2], f"0.{i + 10}"] for i in range(6)]


def table(separator: str = ",", decimal: str = ".", names: list[str] = NAMES) -> str:
    lines = [separator.join(names), *(separator.join([*row[:3], row[3].replace(".", decimal)]) for row in ROWS)]
    return "\n".join(lines) + "\n"


READ: dict[str, tuple[str, str, str]] = {
    "semicolons": (table(";", ","), "utf-8", "`;`, decimal comma"),
    "tabs": (table("\t"), "utf-8", "tab"),
    "tabs and decimal commas": (table("\t", ","), "utf-8", "tab, decimal comma"),
    "pipes": (table("|"), "utf-8", "`|`"),
    "blanks": (table("  "), "utf-8", "blanks"),
    "a comment": ("# exported\n" + table(), "utf-8", "names in line 2"),
    "comments and a blank line": ("% a\n%\n\n" + table(";"), "utf-8", "`;`, names in line 4"),
    "names in the comment": ("# " + table(), "utf-8", "names in line 1"),
    "lines about the device": ("Device;X\nRate;64\n\n" + table(";"), "utf-8", "`;`, names in line 4"),
    "the spreadsheet's sep=": ("sep=;\n" + table(";", ","), "utf-8", "`;`, decimal comma, names in line 2"),
    "blanks after commas": (table(", "), "utf-8", ""),
    "blanks around names": (table(names=[" id", "subject ", " pain ", "eda.mean "]), "utf-8", ""),
    "quotes": (table('","').replace("\n", '"\n"')[:-1].join(['"', ""]), "utf-8", ""),
    "line ends of Windows": (table().replace("\n", "\r\n"), "utf-8", ""),
    "line ends of an old Mac": (table().replace("\n", "\r"), "utf-8", ""),
    "trailing separators": (table(";").replace("\n", ";\n"), "utf-8", "`;`"),
    "a mark": (table(), "utf-8-sig", ""),
    "UTF-16": (table("\t"), "utf-16", "tab, utf-16"),
}


@pytest.mark.parametrize("name", READ)
def test_what_a_file_shows_is_found_and_told(tmp_path: Path, name: str) -> None:
    text, encoding, told = READ[name]
    for path in (tmp_path / "a.csv", tmp_path / "a.txt.gz"):
        raw = text.encode(encoding)
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
        found = read_delimited(path)
        assert found.names == NAMES == read_header(path)
        assert found.cells.to_numpy(object).tolist() == ROWS
        assert found.dialect.describe() == told
    if "\r" not in text:
        assert found.lines[0] == 2 + text[: text.index("id")].count("\n")


def test_encodings_of_western_text_are_found_and_others_have_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for word, encoding in (("Jör", "latin-1"), ("Šárka – 3 €", "cp1252")):
        path.write_bytes(table().replace("s1", word).encode(encoding))
        found = read_delimited(path)
        assert (found.cells[1][1], found.dialect.describe()) == (word, encoding)
    for word, encoding in (("Иванов", "cp1251"), ("ひらがな", "shift_jis"), ("王小明", "gbk")):
        path.write_bytes(table().replace("s1", word).encode(encoding))
        with pytest.raises(DataError, match="neither UTF-8 text nor western text in Latin-1; name its encoding"):
            read_delimited(path)
        assert read_delimited(path, build_dialect({"encoding": encoding})).cells[1][1] == word


def test_a_line_of_units_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,time,eda,temp\n,[ms],µS,°C\n" + "".join(f"a{i},{i},0.{i},3{i}\n" for i in range(5)))
    found = read_delimited(path)
    assert found.dialect.units == {"time": "ms", "eda": "µS", "temp": "°C"}
    assert (len(found), found.lines[0], found.dialect.describe()) == (5, 3, "a line of units")
    for row in ("a,x,0.1,2", "a,-,-,-", "a,n/a,n/a,n/a", "s,s,s,s"):  # a row of its own, with something odd in it
        path.write_text(f"id,time,eda,temp\n{row}\n" + "".join(f"s,{i},0.{i},3{i}\n" for i in range(5)))
        found = read_delimited(path)
        assert len(found) == (5 if row == "s,s,s,s" else 6)


@pytest.mark.parametrize(
    ("text", "given", "says"),
    [
        (
            "a;b,c\n1;2,3\n4;5,6\n",
            {"separator": "semicolon"},
            "both `,` .2 columns. and `;` .*separator=comma,",
        ),
        ("a;b\n1,234;2\n5,678;3\n", {"decimal": "comma"}, "column 'a': '1,234' may be 1.234 or 1234.*decimal=comma"),
        ("eda\n25,1\n26,2\n", {"decimal": ","}, "names one column, 'eda', but its cells hold a comma"),
        ("1600000000.0\n4.0\n0.1\n", {"header": 0}, "the header is a number .1600000000.0.*header=0.*Empatica E4"),
        ("0.5;0.7\n0.1;0.2\n", {"header": "0"}, "the header is a number .0.5, 0.7."),
    ],
)
def test_two_readings_are_named_with_the_option_that_decides(
    tmp_path: Path, text: str, given: dict[str, Any], says: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_delimited(path)
    found = read_delimited(path, build_dialect(given))
    assert not any("," in cell for cell in found.cells[0])
    assert len(found) == text.count("\n") - ("header" not in given)


def test_commas_that_are_not_decimal_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;tags;x;both;n\na;p,q;1,5;0,1;1,234\nb;r;2,5;0.2;5,678\n")
    found = read_delimited(path)
    assert found.cells.to_numpy(object).tolist() == [
        ["a", "p,q", "1.5", "0,1", "1.234"],
        ["b", "r", "2.5", "0.2", "5.678"],
    ]
    path.write_text('id,x\na,"0,10"\nb,"0,20"\n')  # between commas it may be a list: only where the user says so
    assert read_delimited(path).cells[1].tolist() == ["0,10", "0,20"]
    assert read_delimited(path, build_dialect({"decimal": "comma"})).cells[1].tolist() == ["0.10", "0.20"]


def test_names_that_count_columns_are_names(tmp_path: Path) -> None:
    for first in (0, 1):
        (tmp_path / "a.csv").write_text(f"{first},{first + 1}\n5,6\n")
        assert find_dialect(tmp_path / "a.csv").header == 1


def test_options_that_cannot_be(tmp_path: Path) -> None:
    for given, says in (
        ({"seperator": ";"}, "unknown setting of table 'seperator'. Did you mean 'separator'"),
        ({"separator": "::"}, "expected one character, or comma, semicolon, tab"),
        ({"decimal": ";"}, "expected '.' or ','"),
        ({"header": -1}, "header is -1; expected the number of the line"),
        ({"header": True}, "header is True"),
        ({"encoding": "latin-one"}, "unknown encoding 'latin-one'"),
        ({"separator": 3}, "separator is 3; expected a text"),
        *(({"separator": sign}, "expected one character, .*; letters, digits, quotes") for sign in '"\n\0a1'),
        *(({"encoding": name}, "unknown encoding") for name in ("rot13", "base64", "a\0b")),
        *(({"header": n}, "header is .*; expected the number of the line") for n in (10**30, "9" * 5000)),
    ):
        with pytest.raises(ConfigError, match=says):
            build_dialect(given)
    with pytest.raises(ConfigError, match="table is ';'; expected settings such as"):
        build_dialect(";")  # type: ignore[arg-type]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(table().encode())[:40])
    with pytest.raises(DataError, match=r"a.csv.gz: truncated or not a .gz file"):
        read_delimited(tmp_path / "a.csv.gz")


def test_files_in_two_encodings_are_not_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,x\nJosé,1\n".encode() + "Zoë,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="some of it is UTF-8 text \\('é'\\), and some is not"):
        find_dialect(path)
    assert read_delimited(path, build_dialect({"encoding": "latin-1"})).cells[0].tolist() == ["JosÃ©", "Zoë"]
    path.write_bytes("id,x\nZoë,1\n".encode("utf-32"))
    assert read_delimited(path).cells[0].tolist() == ["Zoë"]


def test_a_comment_that_may_name_texts_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# id,file,label\nr1,a.wav,cat\nr2,b.wav,dog\nr3,c.wav,cat\n")
    with pytest.raises(
        DataError, match=r"both line 2 \(r1, .*and the comment above it \(id, .*--table header=1 for the"
    ):
        read_delimited(path)
    table = read_delimited(path, build_dialect({"header": 1}))
    assert (table.names, len(table)) == (["id", "file", "label"], 3)
    assert read_delimited(path, build_dialect({"header": 2})).names == ["r1", "a.wav", "cat"]


def test_headers_that_are_long_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = [f"a-rather-long-name-{i}" for i in range(1500)]
    path.write_text(" ".join(names) + "\n" + "\n".join(" ".join(["1.5"] * 1500) for _ in range(3)) + "\n")
    assert read_header(path) == names
    path.write_text(table())
    with pytest.raises(DataError, match="has no line 70 with the names of the columns"):
        read_delimited(path, build_dialect({"header": 70}))
    path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbf,,\n1,2,3\n")
    with pytest.raises(DataError, match="its first line names no column"):
        read_delimited(path)
