"""Advice beside what full studies showed, and how wide its interval has to be.

    python benchmarks/advise.py --draws 10      # resumable: advice on draws of the eight regimes, into advise.csv
    python benchmarks/advise.py --page          # prints the calibration and the table of docs/advise.md

    python benchmarks/advise.py --runs runs/mfeat runs/air-quality      # the same for finished runs on data of your own

What a study shows is read from `regimes.csv` (`benchmarks/regimes.py`).
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import sidelight as sl
from sidelight.config import load_config
from sidelight.data.builtin.synthetic import REGIMES
from sidelight.data.load import load_for
from sidelight.results import load_results

STORED = Path(__file__).with_name("advise.csv")
STUDIES = Path(__file__).with_name("regimes.csv")
T_OF_15 = 2.145
"""The t quantile of the pilot's fifteen folds: what its own interval was made of."""
COLUMNS = ["recipe", "gain", "spread", "lead", "more_labels", "noise", "passes", "knows", "seconds"]


def collect(draws: int, regimes: Sequence[str]) -> None:
    """Add the advice on draws that the table lacks."""
    found = (
        load() if STORED.exists() else pd.DataFrame(columns=COLUMNS, index=pd.MultiIndex.from_tuples([], names=KEYS))
    )
    for draw in range(draws):
        for regime in regimes:
            if (regime, draw) in found.index:
                continue
            start = time.process_time()
            told = sl.advise(sl.synthetic(regime, draw), seed=draw)
            row = [told.recipe, told.gain, told.spread, told.lead, told.more_labels, told.noise, *told.passes]
            found.loc[(regime, draw), COLUMNS] = [*row, time.process_time() - start]
            found.round(5).to_csv(STORED)
            print(f"{regime} {draw}: {told.recipe}, {told.gain:+.3f} ± {told.spread:.3f}", flush=True)


KEYS = ["regime", "draw"]


def load() -> pd.DataFrame:
    return pd.read_csv(STORED, index_col=KEYS)


def join() -> pd.DataFrame:
    """Advice beside the studies, in points: `gain` and `spread` of the pilot, `auto`, `kl` and `leads` of the study."""
    told = load()
    told[["gain", "spread", "lead"]] *= 100
    study = pd.read_csv(STUDIES, index_col=KEYS)
    shown = study[["auto", "kl", "teacher"]].sub(study["baseline"], axis=0).rename(columns={"teacher": "leads"})
    return told.join(shown, how="inner").dropna(subset=["gain", "auto"])


def scale(table: pd.DataFrame, error: float) -> NDArray:
    return np.sqrt(table["spread"].to_numpy() ** 2 + error**2)


def calibrate(table: pd.DataFrame, level: float = 0.95) -> tuple[float, float]:
    """The error of the pilot beyond its own spread, and the width, so that gain ± width · √(spread² + error²) holds
    what a study shows in a share `level` of studies.

    The error is the most likely one of Gaussian residuals; the width is the conformal quantile of the scaled residuals.
    """
    missed = (table["auto"] - table["gain"]).to_numpy()

    def likelihood(error: float) -> float:
        return float(-(np.log(scale(table, error)) + missed**2 / (2 * scale(table, error) ** 2)).sum())

    error = max(np.arange(0.2, 12.0, 0.1), key=likelihood)
    n = len(missed)
    rank = min(n, math.ceil((n + 1) * level))
    return float(error), float(np.sort(np.abs(missed) / scale(table, error))[rank - 1])


def held(table: pd.DataFrame, half: NDArray) -> NDArray:
    return np.abs((table["auto"] - table["gain"]).to_numpy()) <= half


def leave_one_out(table: pd.DataFrame) -> pd.Series:
    """Half the width in each draw, from an interval that was calibrated on the other regimes."""
    half = pd.Series(np.nan, table.index)
    regimes = table.index.get_level_values("regime")
    for regime in regimes.unique():
        error, width = calibrate(table[regimes != regime])
        half[regimes == regime] = width * scale(table[regimes == regime], error)
    return half


def write_tables() -> None:
    """Print the calibration and the tables as Markdown."""
    table = join()
    table["half"] = leave_one_out(table)
    error, width = calibrate(table)
    before = held(table, T_OF_15 * table["spread"].to_numpy())
    after = held(table, table["half"].to_numpy())
    print(f"error {error:.2f} points, width {width:.2f}, {len(table)} draws")
    print(f"held: pilot's own interval {before.mean():.1%}, left-out regime {after.mean():.1%}")
    print(f"mean half width {table['half'].mean():.1f}, bias {(table['auto'] - table['gain']).mean():+.2f}")
    print(
        "\n| regime | advice | expected gain | teacher's lead | study: `auto` | `kl` | teacher | held before | held |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for regime in REGIMES:
        rows = table.index.get_level_values("regime") == regime
        if not rows.any():
            continue
        of = table[rows]
        recipes = ", ".join(f"{name} {n}" for name, n in of["recipe"].value_counts().items())
        print(
            f"| {regime} | {recipes} | {of['gain'].mean():+.1f} ± {of['half'].mean():.1f} | {of['lead'].mean():+.1f} "
            f"| {of['auto'].mean():+.1f} ± {of['auto'].std():.1f} | {of['kl'].mean():+.1f} | {of['leads'].mean():+.1f} "
            f"| {before[rows].sum()}/{rows.sum()} | {after[rows].sum()}/{rows.sum()} |"
        )


def compare_runs(folders: Sequence[Path]) -> None:
    """Print the advice on the data of finished runs beside what `auto` and the teacher showed in them."""
    print("| run | advice | expected gain of `auto` | study: `auto` | teacher's lead | study: teacher | CPU time |")
    print("|---|---|---|---|---|---|---|")
    for folder in folders:
        config, results = load_config(folder / "config.yaml"), load_results(folder, rebuild=False)
        share, start = min(config.label_fraction), time.process_time()
        told = sl.advise(load_for(config), config.available, config.privileged, label_fraction=share)
        spent, of = time.process_time() - start, results[(results.labels == share) & (results.control == "")]
        scores = of.pivot(index=["fold", "seed"], columns="method", values=told.metric)
        shown = 100 * scores[["auto", "teacher"]].sub(scores["baseline"], axis=0).mean()
        print(
            f"| {folder.name} | {told.recipe} | {100 * told.gain:+.1f} [{100 * told.gain_low:+.1f}, {100 * told.gain_high:+.1f}] "
            f"| {shown['auto']:+.1f} | {100 * told.lead:+.1f} | {shown['teacher']:+.1f} | {spent:.0f} s |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=list(REGIMES))
    parser.add_argument("--page", action="store_true", help="print the tables of what is stored")
    parser.add_argument("--runs", nargs="+", type=Path, help="run folders, whose data are read again")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.runs:
        return compare_runs(args.runs)
    if args.page:
        return write_tables()
    collect(args.draws, args.regimes)


if __name__ == "__main__":
    main()
