"""`sidelight windows`: from the files of several sessions to labelled rows on one clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sidelight as sl
from sidelight.cli import main
from sidelight.errors import ConfigError, DataError, SidelightError, SidelightWarning
from sidelight.sessions import build_windows, draft_plan


def write_ramp(path: Path, times: np.ndarray, value: Sequence[float] | None = None, name: str = "x") -> None:
    """A table whose values are the true times of its samples, so that every window says which time it covers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = times if value is None else value
    pd.DataFrame({"time": times, name: values}).to_csv(path, index=False)


def sensor(file: str, **more: Any) -> dict[str, Any]:
    return {"file": file, "columns": ["x"], "time": "time", **more}


def make(folder: Path, out: Path, **settings: Any) -> sl.Dataset:
    build_windows(folder, out, {"seconds": 10, "hop": 5, **settings})
    return sl.load(out, target="label")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sessions of 60 s: a sensor of 20 Hz, one of 4 Hz that begins 1.5 s later, and three labels."""
    for session in ("s1", "s2"):
        write_ramp(tmp_path / "data" / session / "fast.csv", np.arange(0, 60, 0.05))
        write_ramp(tmp_path / "data" / session / "slow.csv", np.arange(1.5, 60, 0.25))
        (tmp_path / "data" / session / "events.csv").write_text(
            "onset,duration,label\n0,20,calm\n20,25,stress\n45,10,calm\n"
        )
    return tmp_path / "data"


SENSORS = {"fast": sensor("fast.csv"), "slow": sensor("slow.csv")}


def test_a_window_covers_the_same_time_in_every_sensor(folder: Path, tmp_path: Path) -> None:
    data = make(folder, tmp_path / "out", sensors=SENSORS, labels="events.csv")
    starts = np.array([float(name.partition(":")[2]) for name in data.ids])
    assert starts[:3].tolist() == [1.5, 6.5, 11.5]  # from the later sensor on
    for m, rate in (("fast", 20), ("slow", 4)):
        expected = starts[:, None] + np.arange(10 * rate) / rate
        np.testing.assert_allclose(data.inputs[m][:, :, 0], expected, atol=0.51 / rate)
    assert set(data.group.tolist()) == {"s1", "s2"}
    assert data.rates == {"fast": 20.0, "slow": 4.0}


def test_labels_are_those_that_hold_longest(folder: Path, tmp_path: Path) -> None:
    build_windows(folder, tmp_path / "out", {"seconds": 10, "hop": 5, "sensors": SENSORS, "labels": "events.csv"})
    rows = pd.read_csv(tmp_path / "out" / "metadata.csv").query("session == 's1'")
    spans = [(0, 20, "calm"), (20, 45, "stress"), (45, 55, "calm")]
    for start, label, share in zip(rows.start, rows.label.fillna(""), rows.share, strict=True):
        held: dict[str, float] = {}
        for a, b, name in spans:
            held[name] = held.get(name, 0.0) + max(0.0, min(b, start + 10) - max(a, start)) / 10
        best = max(sorted(held), key=lambda name: held[name])
        assert label == (best if held[best] >= 0.5 else "")
        assert share == pytest.approx(held[best], abs=1e-6)


def test_clocks_that_drift_jitter_and_stamp_packets_are_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    true = np.arange(0, 60, 1 / 20.05)  # declared as 20 Hz; half a second off after a minute if samples were counted
    write_ramp(tmp_path / "d/s1/drift.csv", true)
    even = np.arange(0, 60, 0.05)
    write_ramp(tmp_path / "d/s1/jitter.csv", np.sort(even + rng.uniform(-0.02, 0.02, len(even))), even)
    packets = np.repeat(even[4::5], 5)  # five samples share the time at which the last of them was taken
    write_ramp(tmp_path / "d/s1/packets.csv", packets, even[: len(packets)])
    (tmp_path / "d/s1/events.csv").write_text("onset,duration,label\n0,30,a\n30,30,b\n")
    sensors = {m: sensor(f"{m}.csv", rate=20, largest_gap=0.5) for m in ("drift", "jitter", "packets")}
    data = make(tmp_path / "d", tmp_path / "out", sensors=sensors, labels="events.csv")
    starts = np.array([float(name.partition(":")[2]) for name in data.ids])
    expected = starts[:, None] + np.arange(200) / 20
    for m, off in (("drift", 0.03), ("jitter", 0.04), ("packets", 0.13)):
        np.testing.assert_allclose(data.inputs[m][:, :, 0], expected, atol=off, err_msg=m)


def test_windows_over_a_gap_are_left_out_and_listed(folder: Path, tmp_path: Path) -> None:
    t = np.arange(0, 60, 0.05)
    write_ramp(folder / "s1/fast.csv", t[(t < 22) | (t > 24)])
    summary = build_windows(folder, tmp_path / "out", {"seconds": 10, "hop": 5, "sensors": SENSORS})
    listed = pd.read_csv(tmp_path / "out" / "dropped.csv")
    starts = 1.5 + 5 * np.arange(10)
    across = starts[(starts < 24) & (starts + 10 > 22)]
    assert listed.start.tolist() == across.tolist()
    assert set(listed.sensor) == {"fast"}
    assert set(listed.session) == {"s1"}
    rows = pd.read_csv(tmp_path / "out" / "metadata.csv")
    assert not set(rows.query("session == 's1'").start) & set(across)
    assert summary.dropped == {("fast", "a gap in its samples"): len(across)}
    assert "a gap in its samples" in summary.to_text()


def test_an_optional_sensor_may_be_absent_from_windows_and_sessions(folder: Path, tmp_path: Path) -> None:
    (folder / "s1/slow.csv").unlink()
    write_ramp(folder / "s2/slow.csv", np.arange(0, 30, 0.25))
    sensors = {"fast": sensor("fast.csv"), "slow": sensor("slow.csv", optional=True)}
    data = make(folder, tmp_path / "out", sensors=sensors, labels="events.csv")
    starts = np.array([float(name.partition(":")[2]) for name in data.ids])
    np.testing.assert_array_equal(data.present["slow"], (data.group == "s2") & (starts + 10 <= 30))
    assert data.present["fast"].all()
    with pytest.raises(DataError, match=r"sensor 'slow': there is no 'slow.csv' in it \(optional: true"):
        make(folder, tmp_path / "again", sensors=SENSORS)


def test_rows_at_events(folder: Path, tmp_path: Path) -> None:
    settings = {"at": "events", "offset": 2, "seconds": 5, "sensors": SENSORS, "labels": "events.csv"}
    data = make(folder, tmp_path / "out", **settings)
    assert data.ids.tolist()[:3] == ["s1:2.0", "s1:22.0", "s1:47.0"]
    assert [data.class_names[c] for c in data.target[:3]] == ["calm", "stress", "calm"]


def test_one_table_of_sessions_and_one_of_labels(folder: Path, tmp_path: Path) -> None:
    (folder / "sessions.csv").write_text("session,subject,split\ns1,anna,train\ns2,ben,test\n")
    (folder / "all.csv").write_text(
        "who;from;to;state\ns1;00:00:00,000;00:00:30,500;1\ns1;00:00:30,500;00:01:00,000;2\ns2;00:00:00,000;00:01:00,000;3\n"
    )
    labels = {"file": "all.csv", "session": "who", "onset": "from", "end": "to", "label": "state"}
    labels |= {"names": {1: "calm", 2: "stress"}, "unlabelled": "drop"}
    (folder / "sessions2.csv").write_text("session,subject\ns1,anna\n")
    summary = build_windows(
        folder,
        tmp_path / "out",
        {"sessions": "sessions2.csv", "seconds": 10, "sensors": SENSORS, "labels": labels},
    )
    rows = pd.read_csv(tmp_path / "out" / "metadata.csv")
    assert rows.label.tolist() == ["calm", "calm", "calm", "stress", "stress"]  # 21.5 to 31.5 is calm for nine tenths
    assert set(rows.subject) == {"anna"}
    assert summary.sessions == 1
    labels["names"] = {3: "rest", 4: "none"}
    with pytest.raises(ConfigError, match="unknown label '3'"):
        build_windows(
            folder, tmp_path / "b", {"sessions": "sessions2.csv", "seconds": 10, "sensors": SENSORS, "labels": labels}
        )
    build_windows(folder, tmp_path / "c", {"sessions": "sessions.csv", "seconds": 10, "sensors": SENSORS})
    assert json.loads((tmp_path / "c/modalities.json").read_text())["split"] == "split"


def test_the_mean_of_a_track_is_over_time(folder: Path, tmp_path: Path) -> None:
    for session in ("s1", "s2"):
        write_ramp(folder / session / "rating.csv", np.arange(0, 60, 2.0), np.arange(30) / 10, "value")
    labels = {"file": "rating.csv", "rule": "mean"}
    data = make(folder, tmp_path / "out", sensors=SENSORS, labels=labels)
    # From 1.5 to 11.5: 0 for 0.5 s, 0.1 to 0.4 for 2 s each, 0.5 for 1.5 s.
    assert data.task == "regression"
    assert float(data.target[0, 0]) == pytest.approx((2 * (0.1 + 0.2 + 0.3 + 0.4) + 0.5 * 1.5) / 10, abs=1e-6)


def test_files_with_dates_are_aligned_by_them(tmp_path: Path) -> None:
    session = tmp_path / "d/s1"
    session.mkdir(parents=True)
    moments = pd.Timestamp("2026-05-31T14:00:00+02:00") + pd.to_timedelta(np.arange(0, 60, 0.25), unit="s")
    pd.DataFrame({"time": [m.isoformat() for m in moments], "x": np.arange(0, 60, 0.25)}).to_csv(
        session / "a.csv", index=False
    )
    unix = pd.Timestamp("2026-05-31T12:00:20Z").timestamp() + np.arange(0, 60, 0.5)
    write_ramp(session / "b.csv", unix * 1000, 20 + np.arange(0, 60, 0.5))
    (session / "events.csv").write_text("onset,duration,label\n20,20,a\n40,20,b\n")
    sensors = {"a": sensor("a.csv"), "b": sensor("b.csv", time_unit="ms")}
    labels = {"file": "events.csv", "zero": "a"}
    data = make(tmp_path / "d", tmp_path / "out", sensors=sensors, labels=labels)
    np.testing.assert_allclose(data.inputs["a"][:, ::2, 0], data.inputs["b"][:, :, 0], atol=0.26)
    assert data.ids[0] == "s1:20.0"
    assert data.labelled.all()
    with pytest.raises(DataError, match="counts seconds from a moment that is not known"):
        make(tmp_path / "d", tmp_path / "no", sensors=sensors, labels="events.csv")


def test_channels_of_a_recording_are_sensors(tmp_path: Path) -> None:
    e4 = tmp_path / "data/s1/e4"
    e4.mkdir(parents=True)
    rows = [f"{64},{i % 2 * 64},{-64}" for i in range(20 * 32)]
    (e4 / "ACC.csv").write_text("\n".join(["1.7e9, 1.7e9, 1.7e9", "32, 32, 32", *rows]) + "\n")
    sensors = {"down": {"file": "e4", "name": "ACC[2]"}, "plane": {"file": "e4", "name": "ACC[0:2]"}}
    build_windows(tmp_path / "data", tmp_path / "out", {"seconds": 5, "sensors": sensors})
    down, plane = (np.load(tmp_path / f"out/{m}.npy") for m in ("down", "plane"))
    assert (down.shape, plane.shape) == ((4, 160, 1), (4, 160, 2))
    assert (down == -1).all()
    assert (plane[:, :2, 1] == [0, 1]).all()
    settings = {"seconds": 5, "sensors": {"down": {"file": "e4", "name": "ACC[3]"}}}
    with pytest.raises(DataError, match="sensor 'down': 'ACC' has 3 channels, and channel 3 is asked for"):
        build_windows(tmp_path / "data", tmp_path / "more", settings)


def test_sound_stays_in_its_files(folder: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for session in ("s1", "s2"):
        soundfile.write(folder / session / "talk.wav", np.arange(8000 * 40) / (8000 * 40) - 0.5, 8000, subtype="FLOAT")
    talk = {"file": "talk.wav", "kind": "audio", "shift": 5, "settings": {"rate": 8000, "seconds": 10}}
    data = make(folder, tmp_path / "out", sensors={**SENSORS, "talk": talk}, labels="events.csv")
    starts = np.array([float(name.partition(":")[2]) for name in data.ids])
    assert starts.min() == 5.0
    assert starts.max() + 10 <= 45
    np.testing.assert_allclose(data.inputs["talk"][:, 0, 0], (starts - 5) / 40 - 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sensors": {"fast": sensor("fast.csv", larges_gap=1)}}, "Did you mean 'largest_gap'"),
        ({"sensors": {"fast": {"file": "fast.csv"}}}, "plain table; name its columns"),
        ({"sensors": {"fast": sensor("*.csv")}}, "3 files match"),
        ({"sensors": {"label": sensor("fast.csv")}}, "is a column of the rows"),
        ({"sensors": {"fast": sensor("fast.csv", kind="text")}}, r"unknown kind 'text'.*\('text' has no time\)"),
        ({"sensors": {"fast": sensor("fast.csv", optional=True)}}, "every sensor is optional"),
        ({"sensors": {"fast": sensor("fast.csv", columns=["y"])}}, "unknown column 'y'"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": 100}, "less than one window of 100 s"),
        ({"hopp": 3}, "unknown setting 'hopp'. Did you mean 'hop'"),
        ({"sessions": "t*"}, "no session: nothing in"),
        ({"subject": "x(.)"}, "finds nothing in the session 's1'"),
        ({"labels": {"file": "none.csv"}}, "there is no 'none.csv'"),
        ({"labels": {"file": "events.csv", "label": "lable"}}, "unknown column 'lable'. Did you mean 'label'"),
        ({"labels": {"file": "events.csv", "rule": "mean"}}, "is no number; rule 'mean'"),
        ({"labels": {"file": "events.csv", "threshold": 2}}, "expected a share"),
        ({"at": "events"}, "needs labels"),
        ({"available": ["slwo"]}, "Did you mean 'slow'"),
        ({"labels": {"file": "events.csv", "zero": "quick"}}, "labels.zero: unknown modality"),
    ],
)
def test_wrong_settings_are_named(folder: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SidelightError, match=message):
        build_windows(folder, tmp_path / "out", {"seconds": 10, "sensors": SENSORS, **settings})
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_session_without_a_window_is_said(folder: Path, tmp_path: Path) -> None:
    t = np.arange(0, 60, 0.05)
    write_ramp(folder / "s1/fast.csv", t[(t % 8) < 5])
    with pytest.warns(SidelightWarning, match="1 sessions have no window: s1"):
        summary = build_windows(folder, tmp_path / "out", {"seconds": 10, "sensors": SENSORS})
    assert "no window in s1" in summary.to_text()


def test_from_a_folder_to_a_table_with_two_commands(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out = tmp_path / "data" / "recordings.yaml", tmp_path / "out"
    assert main(["windows", str(folder)]) == 0
    plan.write_text(capsys.readouterr().out)
    assert "fast: {" in plan.read_text()
    assert "labels:" in plan.read_text()
    assert main(["windows", str(plan), str(out), "seconds=10", "hop=5", "labels.threshold=0.9"]) == 0
    text = capsys.readouterr().out
    assert "windows of 10 s every 5 s, from 2 sessions" in text
    assert f"next: sidelight run {out}" in text
    assert main(["windows", str(plan), str(out)]) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert main(["windows", str(plan), str(out), "--overwrite"]) == 0
    assert pd.read_csv(out / "metadata.csv").end.iloc[0] == 31.5
    assert main(["inspect", str(out)]) == 0
    assert main(["windows", str(plan)]) == 2


def test_a_draft_names_what_it_cannot_read(folder: Path) -> None:
    (folder / "s1/notes.docx").write_bytes(b"PK\x03\x04")
    text = draft_plan(folder)
    assert "# not read:\n#   notes.docx" in text


def test_the_array_of_a_modality_is_checked(folder: Path, tmp_path: Path) -> None:
    make(folder, tmp_path / "out", sensors=SENSORS, labels="events.csv")
    x = np.load(tmp_path / "out/fast.npy")
    np.save(tmp_path / "out/fast.npy", x[:-1])
    with pytest.raises(DataError, match=r"fast.npy holds float32 of shape .* the lines of the table"):
        sl.load(tmp_path / "out")
    text = (tmp_path / "out/modalities.json").read_text()
    (tmp_path / "out/modalities.json").write_text(text.replace('"fast.npy"', '"../fast.npy"'))
    with pytest.raises(ConfigError, match="expected a path inside"):
        sl.load(tmp_path / "out")


def test_a_draft_of_people_with_recordings_is_ready_to_use(tmp_path: Path) -> None:
    place = tmp_path / "data/P01/rec1"
    place.mkdir(parents=True)
    (place / "wrist.csv").write_text("time_ms;x\n0;0,5\n40;0,25\n80;0,75\n")
    (place / "labels.csv").write_text("onset,duration,activity\n0,1,walking\n")
    text = draft_plan(tmp_path / "data")
    assert 'sessions: "*/*"' in text
    assert "columns: [x], time: time_ms, time_unit: ms}" in text
    assert '{file: "labels.csv", label: activity}' in text


def test_a_session_is_called_alike_alone_and_among_others(tmp_path: Path) -> None:
    settings = {"sessions": "P*/rec*", "subject": "(P[0-9]+)", "seconds": 10, "sensors": {"fast": SENSORS["fast"]}}
    for person in ("P01", "P02"):
        (tmp_path / f"data/{person}/rec1").mkdir(parents=True)
        write_ramp(tmp_path / f"data/{person}/rec1/fast.csv", np.arange(0, 40, 0.1))
        build_windows(tmp_path / "data", tmp_path / person, settings)
    alone, both = (pd.read_csv(tmp_path / p / "metadata.csv") for p in ("P01", "P02"))
    assert set(alone.session) == {"P01/rec1"}
    assert set(alone.subject) == {"P01"}
    assert set(alone.id) <= set(both.id)
