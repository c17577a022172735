"""`sidelight windows` beside the same work written plainly with pandas, in one run: time, and peak memory.

python benchmarks/windows.py                     20 sessions of an hour, 8 sensors (docs/recordings.md)
python benchmarks/windows.py --sessions 3

Each session is an EDF file of eight sensors at their own rates and a table of labels. Both read the file by edfio. The
plain version puts every sensor on its grid with `merge_asof`, cuts windows by label, and stacks them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SENSORS = {"ecg": 700, "emg": 700, "bvp": 64, "accx": 32, "accy": 32, "face": 30, "eda": 4, "temp": 4}
"""Sensor -> rate in Hz."""
SECONDS, HOP = 30, 15


def make(folder: Path, sessions: int, seconds: int) -> None:
    """Write the sessions."""
    import edfio

    rng = np.random.default_rng(0)
    for i in range(sessions):
        place = folder / f"s{i:02d}"
        place.mkdir(parents=True)
        signals = [
            edfio.EdfSignal(rng.normal(size=rate * seconds), rate, label=name, physical_dimension="uV")
            for name, rate in SENSORS.items()
        ]
        edfio.Edf(signals).write(place / "bio.edf")
        onsets = np.arange(0, seconds, 120)
        rows = "".join(f"{t},120,{'ab'[n % 2]}\n" for n, t in enumerate(onsets))
        (place / "events.csv").write_text(f"onset,duration,label\n{rows}")


def with_sidelight(folder: Path, out: Path) -> None:
    from sidelight.sessions import build_windows

    sensors = {name: {"file": "bio.edf", "name": name} for name in SENSORS}
    build_windows(folder, out, {"seconds": SECONDS, "hop": HOP, "sensors": sensors, "labels": "events.csv"})


def with_pandas(folder: Path, out: Path) -> None:
    import edfio
    import pandas as pd

    windows: dict[str, list[np.ndarray]] = {name: [] for name in SENSORS}
    rows = []
    for place in sorted(folder.iterdir()):
        edf = edfio.read_edf(place / "bio.edf")
        events = pd.read_csv(place / "events.csv")
        length = min(len(s.data) / s.sampling_frequency for s in edf.signals)
        starts = np.arange(0, length - SECONDS + 1e-9, HOP)
        for signal in edf.signals:
            rate = signal.sampling_frequency
            measured = pd.DataFrame({"t": np.arange(len(signal.data)) / rate, "x": signal.data})
            grid = pd.DataFrame({"t": np.arange(int(length * rate)) / rate})
            aligned = pd.merge_asof(grid, measured, on="t", direction="nearest", tolerance=1.5 / rate).set_index("t")
            for start in starts:
                part = aligned.loc[start : start + SECONDS - 0.5 / rate, "x"]
                windows[signal.label].append(part.to_numpy(np.float32)[: round(SECONDS * rate), None])
        for start in starts:
            inside = events.onset.clip(lower=start), (events.onset + events.duration).clip(upper=start + SECONDS)
            held = (inside[1] - inside[0]).clip(lower=0).groupby(events.label).sum()
            rows.append((f"{place.name}:{start}", held.idxmax() if held.max() >= SECONDS / 2 else ""))
    out.mkdir()
    for name, parts in windows.items():
        np.save(out / f"{name}.npy", np.stack(parts))
    pd.DataFrame(rows, columns=["id", "label"]).to_csv(out / "metadata.csv", index=False)


def measure(way: str, folder: Path, out: Path) -> tuple[float, float, float]:
    """(seconds of the work alone, peak memory in MB, memory before the work in MB), in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, "--way", way, "--folder", str(folder), "--out", str(out)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, peak, before = (float(x) for x in result.stdout.split()[-3:])
    return seconds, peak, before


def run_one(way: str, folder: Path, out: Path) -> None:
    import edfio  # noqa: F401
    import pandas  # noqa: F401

    import sidelight.sessions  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    (with_sidelight if way == "sidelight" else with_pandas)(folder, out)
    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--rounds", type=int, default=1)
    for name in ("--way", "--folder", "--out"):
        parser.add_argument(name)
    args = parser.parse_args()
    if args.way:
        run_one(args.way, Path(args.folder), Path(args.out))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        make(folder, args.sessions, args.seconds)
        session = sum(SENSORS.values()) * args.seconds * 8 / 2**20
        ratios = []
        for n in range(args.rounds):
            (ours, our_peak, before), (theirs, their_peak, _) = (
                measure(way, folder, Path(place) / f"{way}-{n}") for way in ("sidelight", "pandas")
            )
            ratios.append(ours / theirs)
            print(
                f"sidelight {ours:.1f} s, {our_peak - before:.0f} MB; pandas {theirs:.1f} s, {their_peak - before:.0f} MB"
            )
        check(Path(place))
        print(f"time: {np.median(ratios):.2f} of pandas (aim: 0.5); a session has {session:.0f} MB as float64")


def check(place: Path) -> None:
    """Both make the same windows and labels."""
    import pandas as pd

    ours, theirs = (
        pd.read_csv(place / f"{way}-0" / "metadata.csv").label.fillna("") for way in ("sidelight", "pandas")
    )
    assert ours.tolist() == theirs.tolist()
    for name in SENSORS:
        a, b = (np.load(place / f"{way}-0" / f"{name}.npy", mmap_mode="r") for way in ("sidelight", "pandas"))
        assert a.shape == b.shape
        assert np.allclose(a[:5], b[:5])


if __name__ == "__main__":
    main()
