"""Advice beside what a small study showed, on draws of the eight synthetic regimes: python benchmarks/advise.py --draws 3

Prints a Markdown table, and how often the interval of the advice held what the study showed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings

import sidelight as sl
from sidelight.advice import Advice
from sidelight.data.builtin.synthetic import REGIMES


def study(regime: str, draw: int) -> dict[str, float]:
    """Method -> its accuracy on the test rows, in points over the baseline."""
    with tempfile.TemporaryDirectory() as folder:
        made = sl.compare(
            sl.synthetic(regime, draw), methods=["kl", "auto"], placebo=["none"], seeds=1, seed=draw,
            output=f"{folder}/run", quiet=True, jobs=1,
        )  # fmt: skip
        share = made.budgets[0]
        scores = made.results[made.results.labels == share].set_index("method")["accuracy"]
    return {name: 100 * float(scores[name] - scores["baseline"]) for name in ("kl", "auto", "teacher")}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=3)
    draws = parser.parse_args().draws
    warnings.simplefilter("ignore")
    start, held, count = time.process_time(), {"kl": 0, "auto": 0}, 0
    print("| regime | advice | expected gain | teacher's lead | study: kl | auto | teacher | kl inside |")
    print("|---|---|---|---|---|---|---|---|")
    for regime in REGIMES:
        told: list[Advice] = []
        shown: list[dict[str, float]] = []
        for draw in range(draws):
            told.append(sl.advise(sl.synthetic(regime, draw), seed=draw))
            shown.append(study(regime, draw))
        inside = {
            m: sum(100 * a.gain_low <= s[m] <= 100 * a.gain_high for a, s in zip(told, shown)) for m in ("kl", "auto")
        }
        held = {m: held[m] + inside[m] for m in held}
        count += draws
        recipes = ", ".join(a.recipe for a in told)
        low, high = 100 * mean([a.gain_low for a in told]), 100 * mean([a.gain_high for a in told])
        print(
            f"| {regime} | {recipes} | {100 * mean([a.gain for a in told]):+.1f} [{low:+.1f}, {high:+.1f}] "
            f"| {100 * mean([a.lead for a in told]):+.1f} | {mean([s['kl'] for s in shown]):+.1f} "
            f"| {mean([s['auto'] for s in shown]):+.1f} | {mean([s['teacher'] for s in shown]):+.1f} "
            f"| {inside['kl']}/{draws} |",
            flush=True,
        )
    print(f"\nThe interval held kl's gain in {held['kl']} of {count} draws and auto's in {held['auto']} of {count}.")
    print(f"{time.process_time() - start:.0f} s of CPU time in this process.")


if __name__ == "__main__":
    main()
