"""Signals from CSV and sound files, and what is wrong with them by name."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from sidelight.errors import ConfigError, DataError, RunError
from sidelight.signals import read_audio, read_csv
from sidelight.utils import extras


class TestCsv:
    def write(self, path, times, columns, separator="\t"):
        lines = [separator.join(["time", *columns])]
        lines += [separator.join(map(str, row)) for row in zip(times, *columns.values())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def biovid(self, tmp_path, n=100, times=None):
        times = np.round(np.arange(n) * 1e6 / 512).astype(int) if times is None else times
        return self.write(tmp_path / "a_bio.csv", times, {"gsr": np.arange(n) * 0.5, "emg_trapezius": np.ones(n)})

    def test_biovids_layout(self, tmp_path):
        path = self.biovid(tmp_path)
        r = read_csv(path, ["gsr"], modality="eda", unit="uS", rate=512, time="time", time_unit="us", separator="\t")
        assert (r.rate, r.unit, r.start, r.channels, r.source) == (512, "uS", 0, ("gsr",), str(path))
        np.testing.assert_array_equal(r.values[:, 0], np.arange(100) * 0.5)
        found = read_csv(
            path, ["emg_trapezius", "gsr"], modality="x", unit="1", time="time", time_unit="us", separator="\t"
        )
        assert found.rate == pytest.approx(512, rel=1e-4)
        assert found.values.shape == (100, 2)

    def test_the_clock_of_a_session_is_kept(self, tmp_path):
        path = self.write(tmp_path / "s.csv", 60.5 + np.arange(10) / 4, {"eda": np.ones(10)}, ",")
        assert read_csv(path, ["eda"], modality="eda", unit="uS", time="time").start == 60.5

    def test_times_are_checked_and_rows_counted_as_lines(self, tmp_path):
        def read(times, **more):
            path = self.biovid(tmp_path, len(times), times)
            settings = {"rate": 512, "time_unit": "us", **more}
            return read_csv(path, ["gsr"], modality="eda", unit="uS", time="time", separator="\t", **settings)

        times = np.arange(50) * 1e6 / 512
        with pytest.raises(DataError, match=r"declared; correct the rate, or the unit of the time column"):
            read(times, time_unit="ms")
        with pytest.raises(DataError, match=r"sampled at 512 Hz by its timestamps, but 1000 Hz is declared"):
            read(times, rate=1000)
        swapped = times.copy()
        swapped[[20, 21]] = times[[21, 20]]
        with pytest.raises(DataError, match=r"a_bio.csv: 'eda': row 23: timestamp 0.03906. s follows 0.041016 s"):
            read(swapped)
        lines = (tmp_path / "a_bio.csv").read_text().splitlines()
        assert float(lines[22].split()[0]) == pytest.approx(0.039063e6, rel=1e-4)  # the 23rd line
        with pytest.raises(DataError, match=r"row 12: 0.00585.* s after the row before"):
            read(np.delete(times, [10, 11]))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "is empty"),
            ("time,eda\n", "has a header and no rows"),
            ("time,eda\n0,1\n1,x\n2,3\n", "row 3, modality 'eda', column 'eda' is 'x'; expected a number .1 such"),
            ("time,eda\n0,1\n1,\n2,3\n", "row 3, modality 'eda', column 'eda' is empty"),
            ("time,eda\n0,1\n1,nan\n2,3\n", "row 3, modality 'eda', column 'eda' is 'nan'"),
            ("time,eda\n0,1\n1,inf\n2,3\n", "row 3, modality 'eda', column 'eda' is 'inf'"),
            ("time,eda\n0,1\n\n2,3\n", "modality 'eda', row 3 is empty"),
            ("time,eda\n0,1\n1,2\n2", "line 4 has 1 cell, but the header names 2 columns.*is the file truncated"),
            ("time,ed\n0,1\n", "unknown column 'eda'. Did you mean 'ed'"),
            ("time;x\n0;1\n", "unknown column 'eda'. Valid: time, x"),
            ("time,eda,eda\n0,1,2\n", "row 1: column 'eda' occurs 2 times"),
            ('time,eda\n0,1\n1,"2\n', "truncated or not a CSV file"),
        ],
    )
    def test_bad_files_are_named(self, tmp_path, text, says):
        path = tmp_path / "s.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=f"(?s)s.csv.*{says}"):
            read_csv(path, ["eda"], modality="eda", unit="uS", rate=1)

    @pytest.mark.parametrize(("measured", "kept"), [(51.7, False), (52.02, False), (52.002, True)])
    def test_a_declared_rate_only_checks_the_times(self, tmp_path, measured, kept):
        """0.6 % off is within the tolerance, and after 150 s it would put an event 1 s beside its time."""
        times = [f"{i / measured:.6f}" for i in range(round(200 * measured))]
        event = round(150.5 * measured)
        path = self.write(tmp_path / "acc.csv", times, {"x": [int(i == event) for i in range(len(times))]}, ";")
        r = read_csv(path, ["x"], unit="g", rate=52, time="time")
        assert (r.rate == 52) == kept
        assert r.time(int(r.values.argmax())) == pytest.approx(event / measured, abs=0.5 / 52)
        assert r.end == pytest.approx(200, abs=1 / 52)

    def test_a_file_without_a_header_is_read_where_asked(self, tmp_path):
        path = tmp_path / "EDA.csv"
        path.write_text("1600000000.000000\n4.000000\n" + "".join(f"0.{i:02d}\n" for i in range(40)))
        for name in ("eda", "1600000000.000000"):
            with pytest.raises(DataError, match=r"EDA.csv: the header is a number .*header=0.*Empatica E4 file"):
                read_csv(path, [name], unit="uS", rate=4)
        assert read_csv(path, ["1"], unit="uS", rate=4, header=0).values[1:4, 0].tolist() == [4, 0, 0.01]

    def test_dialect_and_line_of_units_of_a_signal(self, tmp_path):
        path = tmp_path / "s.csv"
        lines = [f"{i // 4},{i % 4 * 25};0,{i:02d};\n" for i in range(9)]
        path.write_text("Sensor: X\n\ntime;eda\ns;mS\n" + "".join(lines))
        r = read_csv(path, ["eda"], unit="mS", time="time")
        assert (r.rate, r.values[:3, 0].tolist()) == (4, [0, 0.01, 0.02])
        with pytest.raises(DataError, match="column 'eda' is in 'mS' by its line of units, but 'uS' is given"):
            read_csv(path, ["eda"], unit="uS", time="time")

    def test_bad_questions_are_named(self, tmp_path):
        with pytest.raises(DataError, match=r"none.csv does not exist"):
            read_csv(tmp_path / "none.csv", ["eda"], modality="eda", unit="uS", rate=1)
        with pytest.raises(ConfigError, match=r"name the sampling rate"):
            read_csv(tmp_path / "s.csv", ["eda"], modality="eda", unit="uS")
        with pytest.raises(ConfigError, match=r"unknown unit of time 'sec'"):
            read_csv(tmp_path / "s.csv", ["eda"], modality="eda", unit="uS", rate=1, time="t", time_unit="sec")


class TestAudio:
    @pytest.fixture
    def soundfile(self):
        return pytest.importorskip("soundfile", reason='sound files need soundfile: pip install ".[audio]"')

    @pytest.mark.parametrize("ending", ["wav", "flac"])
    def test_parts_and_the_mean_of_channels(self, tmp_path, soundfile, ending):
        t = np.arange(16000) / 8000
        path = tmp_path / f"a.{ending}"
        soundfile.write(path, np.stack([np.sin(t), 0.5 * np.cos(t)], 1), 8000)
        whole = read_audio(path, rate=8000)
        assert (whole.rate, whole.unit, whole.seconds, whole.start) == (8000, "1", 2, 0)
        np.testing.assert_allclose(whole.values[:, 0], (np.sin(t) + 0.5 * np.cos(t)) / 2, atol=1e-4)
        part = read_audio(path, start=0.5, seconds=0.25)
        assert (part.start, part.seconds) == (0.5, 0.25)
        np.testing.assert_array_equal(part.values, whole.values[4000:6000])

    def test_bad_files_are_named(self, tmp_path, soundfile):
        good, path = tmp_path / "good.wav", tmp_path / "a.wav"
        soundfile.write(good, np.ones(8000) / 2, 8000)
        with pytest.raises(
            DataError, match=r"good.wav: modality 'audio' is sampled at 8000 Hz, but 16000 Hz is declared"
        ):
            read_audio(good, rate=16000)
        with pytest.raises(DataError, match=r"good.wav lasts 1 s; asked for 0.5 s from 0.8 s on"):
            read_audio(good, start=0.8, seconds=0.5)
        with pytest.raises(DataError, match=r"asked for the rest from 2 s on"):
            read_audio(good, start=2)
        path.write_bytes(good.read_bytes()[:5000])
        with pytest.raises(DataError, match=r"a.wav is truncated: 5000 of 16044 bytes are there"):
            read_audio(path)
        path.write_bytes(b"no sound at all")
        with pytest.raises(DataError, match=r"cannot read .*a.wav: it is text"):
            read_audio(path)
        soundfile.write(path, np.zeros(0), 8000)
        with pytest.raises(DataError, match=r"a.wav holds no samples"):
            read_audio(path)
        soundfile.write(path, np.array([0, np.nan, 0]), 8000, subtype="FLOAT")
        with pytest.raises(DataError, match=r"a.wav: 'audio': channel 0 is nan at sample 1"):
            read_audio(path)
        with pytest.raises(DataError, match=r"none.wav does not exist"):
            read_audio(tmp_path / "none.wav")
        with pytest.raises(ConfigError, match=r"expected start >= 0"):
            read_audio(good, start=-1)

    def test_a_truncated_flac_is_named(self, tmp_path, soundfile):
        path = tmp_path / "a.flac"
        soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 80000), 8000)
        path.write_bytes(path.read_bytes()[:60000])
        with pytest.raises(DataError, match=r"a.flac.*truncated"):
            read_audio(path)


def test_an_absent_extra_says_how_to_get_it(monkeypatch, tmp_path):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(RunError, match=r"reading sound files needs soundfile.*\.\[audio\]"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(RunError, match=r"\.\[x\]"):
        extras.optional("nothing", "x", "this")
