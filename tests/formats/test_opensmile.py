"""openSMILE: CSV and ARFF of SMILExtract, CSV of the Python package."""

from __future__ import annotations

import numpy as np
import pytest

from sidelight.errors import DataError
from sidelight.formats import read_recordings

LLD = "name;frameTime;Loudness_sma3;F0semitoneFrom27.5Hz_sma3nz\n"
ARFF = """@relation lld
% comment
@attribute name string
@attribute frameTime numeric
@attribute 'pcm loudness' numeric
@attribute class {a, b}

@data

'clip 1',0.00,0.5,a
'clip 1',0.01,0.75,a
"""


def test_descriptors_over_time(tmp_path):
    (tmp_path / "a.csv").write_text(LLD + "".join(f"'clip';{i / 100:.6f};{i};0.5\n" for i in range(20)))
    found = read_recordings(tmp_path / "a.csv")
    assert list(found) == ["features"]
    x = found["features"]
    assert x.channels == ("Loudness_sma3", "F0semitoneFrom27.5Hz_sma3nz")
    assert (x.rate, x.start) == (pytest.approx(100), 0)
    np.testing.assert_array_equal(x.values[:, 0], np.arange(20))


def test_arff(tmp_path):
    (tmp_path / "a.arff").write_text(ARFF)
    x = read_recordings(tmp_path / "a.arff")["features"]
    assert x.channels == ("pcm loudness",)
    np.testing.assert_allclose(x.times, [0, 0.01])
    np.testing.assert_array_equal(x.values[:, 0], [0.5, 0.75])


def test_csv_of_the_python_package_with_several_files(tmp_path):
    stamp = "0 days 00:00:{:02d}.{:06d}"
    rows = [
        f"audio/{file}.wav,{stamp.format(0, 10000 * i)},{stamp.format(0, 10000 * i + 20000)},{i}"
        for file in ("x", "y")
        for i in range(5)
    ]
    rows[0] = "audio/x.wav,0 days 00:00:00,0 days 00:00:00.020000,0"  # as pandas writes a whole second
    (tmp_path / "a.csv").write_text("\n".join(["file,start,end,Loudness_sma3", *rows]) + "\n")
    found = read_recordings(tmp_path / "a.csv")
    assert list(found) == ["x", "y"]
    np.testing.assert_allclose(found["x"].times, np.arange(5) / 100, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", LLD + "'clip';0.0;1;2\n", "has one row: functionals of a whole recording"),
        ("a.csv", LLD + "'clip';0.0;1;2\n'clip';0.01;1", "line 3 has 3 cells, but 4 columns.*truncated"),
        ("a.csv", LLD + "'clip';0.0;1;2\n'clip';0.01;1;x\n", "line 3, column 'F0semi.*' is 'x'"),
        ("a.arff", ARFF.partition("@data")[0], "has no line @data"),
        ("a.arff", ARFF + "{0 1, 1 2}\n", "line 12 has 2 cells"),
        ("a.arff", ARFF.partition("'clip 1',0.00")[0] + "{0 1, 1 2}\n", "sparse ARFF rows are not read"),
        ("a.arff", ARFF.replace("frameTime", "when"), "neither 'frameTime' nor 'start'"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"(?s){name}.*{says}"):
        read_recordings(tmp_path / name)
