"""Whether sound can be learnt from a hundred clips: select and test accuracy of the baseline with each encoder.

python benchmarks/speech.py [--data 3] [--encoders auto cnn] [--test]

A data set is 100 made voices (`sidelight.readers.voices`): 20 people, 5 clips of 1.6 to 3.4 s each, 4 classes that are in how it is said,
people with pitches, tracts and noise of their own. Five folds of people; 64 clips or so train. Encoders were compared by the select rows alone;
--test adds the test rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import pandas as pd

import sidelight as sl
from sidelight.config import load_config
from sidelight.errors import SidelightWarning
from sidelight.experiment.resolve import resolve
from sidelight.experiment.runner import plan_jobs
from sidelight.methods import parse_methods
from sidelight.readers import make_reader
from sidelight.readers.base import prepare
from sidelight.readers.voices import write_voices

ROWS = ("baseline", "linear", "boosted")


def measure(folder: Path, encoder: str) -> tuple[pd.DataFrame, float]:
    """The rows of the results of the baseline and the reference rows, and the seconds that they took."""
    data = sl.load(folder / "prepared")
    settings = {
        "methods": ["kl"], "reference": ["linear", "boosted"], "folds": 5, "seeds": 1, "jobs": 1,
        "network": {"encoders": {"audio": encoder}}, "output": str(folder / encoder),
    }  # fmt: skip
    config = resolve(load_config({**settings, "data": "x", "available": ["audio"], "privileged": ["face"]}), data)
    jobs = plan_jobs(config, data, parse_methods(config.methods))
    only = [job.id for job in jobs if job.method in ROWS and not job.control]
    started = time.process_time()
    sl.compare(data, ["audio"], ["face"], quiet=True, only=only, **settings)
    return pd.read_csv(folder / encoder / "results.csv"), time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=int, default=3, help="number of data sets")
    parser.add_argument("--encoders", nargs="+", default=["auto", "cnn"])
    parser.add_argument("--test", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore", SidelightWarning)
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        for seed in range(args.data):
            folder = Path(place) / str(seed)
            write_voices(folder, seed, people=20, clips=5, seconds=(1.6, 3.4))
            prepare(make_reader("folder"), folder, folder / "prepared")
            for encoder in args.encoders:
                table, seconds = measure(folder, encoder)
                for row, part in table.groupby("method"):
                    name = f"baseline, {encoder}" if row == "baseline" else str(row)
                    found.setdefault(name, []).append((part["select"].mean(), part["accuracy"].mean()))
                    print(f"data set {seed}, {name}: select {part['select'].mean():.3f}", flush=True)
                print(f"data set {seed}, {encoder}: {seconds:.0f} s of CPU", flush=True)
    print("\n| row | select | test |" if args.test else "\n| row | select |")
    for name, scores in found.items():
        select, test = np.array(scores).T
        cells = [
            f"{x.mean():.3f} ({x.min():.3f} to {x.max():.3f})" for x in ([select, test] if args.test else [select])
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
