"""The front of all formats: which one reads a path, and what every reader has in common."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

import sidelight.formats
from sidelight.errors import ConfigError, DataError, RunError, SidelightWarning
from sidelight.formats import FORMATS, read_events, read_recordings
from sidelight.formats.content import Content
from sidelight.formats.registry import find_format
from sidelight.formats.units import SPELLINGS, translate
from sidelight.utils.units import parse_unit


def biosppy(path, text="1\t2\n3\t4\n5\t6\n"):
    path.write_text(f"# Simple Text Format\n# Sampling Rate (Hz):= 100.00\n# Labels:= a\tb\n{text}")
    return path


def test_unknown_files_and_formats_are_named(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(b"PK\x03\x04 something")
    with pytest.raises(
        DataError, match=r"a.xyz: no format .* \(by its first bytes it is a zip archive.*edf: .edf, .bdf"
    ):
        read_recordings(path)
    with pytest.raises(DataError, match=r"none.edf does not exist"):
        read_recordings(tmp_path / "none.edf")
    with pytest.raises(DataError, match=r"no format of recordings looks like this"):
        read_recordings(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown format 'edff'. Did you mean 'edf'"):
        read_recordings(path, format="edff")


def test_rate_units_and_names_are_checked(tmp_path):
    path = biosppy(tmp_path / "a.txt")
    with pytest.raises(ConfigError, match=r"format 'biosppy' state their own sampling rates; leave rate out"):
        read_recordings(path, rate=5)
    with pytest.raises(ConfigError, match=r"unknown recording 'c'.*Valid: a, b"):
        read_recordings(path, names=["c"])
    with pytest.raises(ConfigError, match=r"unknown unit 'foo'"):
        read_recordings(path, units={"a": "foo"})
    one = read_recordings(path, units={"b": "uS"}, names=["b"])
    assert list(one) == ["b"]
    assert (one["b"].unit, one["b"].rate, one["b"].modality, one["b"].source) == ("uS", 100, "b", str(path))


def test_samples_that_were_not_measured_leave_a_gap_in_time_and_are_counted(tmp_path):
    content = Content(tmp_path)
    x = np.arange(10.0)
    x[3:5] = np.nan
    content.add("a", x, rate=2, start=1)
    content.add("b", x, rate=2, start=1, present=np.arange(10) != 9)
    content.add("empty", [np.nan, np.nan], rate=2)
    content.add("a", np.ones(3), rate=2)
    with pytest.warns(SidelightWarning) as said:
        content.finish()
    assert "a (2 of 10, the first at 1.5 s), b (3 of 10" in str(said[0].message)
    assert "without a single sample are left out: empty" in str(said[1].message)
    assert list(content.recordings) == ["a", "b", "a.2"]
    np.testing.assert_array_equal(content.recordings["a"].times, 1 + np.delete(np.arange(10), [3, 4]) / 2)
    np.testing.assert_array_equal(content.recordings["a"].values[:, 0], np.delete(np.arange(10), [3, 4]))
    assert content.recordings["a.2"].times is None


def test_units_are_written_one_way():
    for unit, spellings in SPELLINGS.items():
        parse_unit(unit)
        assert {translate(s.upper()) for s in spellings} == {unit}, unit
    assert [translate(u) for u in ("µV", "μS", "[mV]", "mm", "°C", "kΩ", "", "beats/min")] == [
        "µV", "μS", "mV", "mm", "degC", "kΩ", "1", "bpm",
    ]  # fmt: skip
    assert translate("furlong") is None


def test_unknown_units_are_said_and_the_values_kept(tmp_path):
    content = Content(tmp_path)
    content.add("a", [1.0, 2.0], rate=1, unit="furlong")
    with pytest.warns(SidelightWarning, match=r"units that are not known.*without a unit: 'a' in 'furlong'"):
        content.finish()
    assert content.recordings["a"].unit == "1"


def test_a_file_without_recordings_says_so(tmp_path):
    path = tmp_path / "sub-1_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n1\t2\tx\n")
    with pytest.raises(DataError, match=r"holds no recording; read_events reads its events"):
        read_recordings(path)
    assert len(read_events(path)) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_a_pickle_is_refused_by_every_format(tmp_path, name):
    """No reader loads Python objects, whatever a file is called."""
    path = tmp_path / "trap"
    path.write_bytes(b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.")
    with pytest.raises((DataError, RunError)):  # RunError: its library is not installed
        read_recordings(path, format=name, rate=1 if FORMATS[name].takes_rate else None)


def test_the_first_lines_tell_text_formats_apart(tmp_path):
    assert find_format(biosppy(tmp_path / "a.txt")).name == "biosppy"
    (tmp_path / "b.txt").write_text("# some other text\n")
    with pytest.raises(DataError, match="no format"):
        find_format(tmp_path / "b.txt")


def test_a_library_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyxdf", None)
    (tmp_path / "a.xdf").write_bytes(b"XDF:")
    with pytest.raises(RunError, match=r'reading XDF files needs pyxdf.*pip install ".\[recordings\]"'):
        read_recordings(tmp_path / "a.xdf")


def test_formats_load_no_library_before_it_is_needed():
    for path in Path(sidelight.formats.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:  # what a module imports at once, not in its functions
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            strange = {n.split(".")[0] for n in names} - {"numpy", "sidelight"} - sys.stdlib_module_names
            assert not strange, f"{path.name} imports {strange}"


def test_every_format_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text("utf-8")
    assert [name for name in FORMATS if f"`{name}`" not in page] == []
