"""The draws of a sweep: how many each row of the table had, and their scores on the select rows."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sidelight.errors import RunError
from sidelight.results.budget import TEACHER, Budget
from sidelight.results.job import DRAWS, read_record
from sidelight.results.statistics import Interval, nadeau_bengio
from sidelight.results.store import list_job_folders

COLUMNS = ["method", "control", "labels", "fold", "seed", "draw", "replica", "chosen", "select", "n_train", "n_select"]
"""The columns of `load_draws` beside one for each swept setting."""


def load_draws(run: str | Path) -> pd.DataFrame:
    """One row per draw of every finished job of a sweep; no rows for a run without a sweep.

    Args:
        run: the run folder.

    Returns:
        `method, control, labels, fold, seed, draw` (from 0), `replica` (0, or the number of earlier draws of the job
        with the same settings), `chosen`, `select` (the score on the select rows, higher is better), `n_train`,
        `n_select`, and a column for each swept setting, by its dotted name; None where it does not concern the row.
    """
    lines, names = list[dict[str, Any]](), dict[str, None]()
    for folder in list_job_folders(Path(run)):
        try:
            record = read_record(folder)
            drawn = record[DRAWS]
            for number, one in enumerate(drawn["trained"]):
                names |= dict.fromkeys(one["settings"])
                facts = {"draw": number, "replica": int(one["replica"]), "chosen": number == drawn["chosen"]}
                # Where inner folds choose, each of them holds out a third of the rows.
                select = record["n_select"] or record["n_train"] / 2
                sizes = {"n_train": record["n_train"], "n_select": select}
                score = {"select": float(one.get("select", math.nan))}  # a draw that failed has none
                lines.append({**record["job"], **facts, **score, **sizes, **one["settings"]})
        except (RunError, KeyError, TypeError, ValueError, AttributeError):  # `load_results` says which are damaged
            continue
    made = pd.DataFrame(lines, columns=[*COLUMNS, *names], dtype=object)
    kinds: dict[str, type] = {"labels": float, "select": float, "n_train": float, "n_select": float, "chosen": bool}
    kinds |= dict.fromkeys(("fold", "seed", "draw", "replica"), int)
    return made.astype(kinds).where(made.notna(), None) if lines else made


def describe_draws(jobs: Budget) -> str:
    """How many draws the rows of a table had; "" without a sweep."""
    counts = {name: int(frame[DRAWS].max()) for name, frame in jobs.rows.items() if _is_drawn(frame)}
    if not counts:
        return ""
    usual = Counter(n for name, n in counts.items() if not name.startswith(TEACHER)).most_common(1)
    most = usual[0][0] if usual else max(counts.values())
    others = ", ".join(f"{name} {n}" for name, n in counts.items() if n != most)
    told = f"a sweep: in each fold every row is the best of {most} draws of settings on the fold's select rows"
    return f"{told}{f' ({others})' if others else ''}"


def _is_drawn(frame: pd.DataFrame) -> bool:
    return DRAWS in frame and bool(frame[DRAWS].notna().any())


def score_settings(
    draws: pd.DataFrame, names: list[str], level: float = 0.95
) -> list[tuple[tuple[Any, ...], Interval]]:
    """Mean scores on the select rows by setting, with intervals over folds and seeds.

    All settings meet the same folds, some of which are hard. So an interval is that of the difference to the mean of
    all draws of the same fold and seed, laid around the mean score of the setting.

    Args:
        draws: draws of one row of the table, as `load_draws` returns them.
        names: the settings; the draws of a fold and seed that agree in them are averaged.
        level: confidence level of the intervals.

    Returns:
        Values of the settings, in the order of the draws, and the mean score with its interval.
    """
    draws = draws[draws["select"].notna()]
    hard = draws.groupby(["fold", "seed"])["select"].transform("mean")
    draws = draws.assign(above=draws["select"] - hard)
    keys = [*zip(*(draws[name] for name in names))]
    scored = []
    for key in dict.fromkeys(keys):
        rows = draws[[k == key for k in keys]]
        pairs = rows.groupby(["fold", "seed"])[["above", "n_train", "n_select", "select"]].mean()
        above, train, select, score = (pairs[name].to_numpy(dtype=np.float64) for name in pairs)
        found, shift = nadeau_bengio(above, train, select, level), float(score.mean() - above.mean())
        scored.append((key, found._replace(mean=found.mean + shift, low=found.low + shift, high=found.high + shift)))
    return scored


def list_choices(draws: pd.DataFrame, names: list[str]) -> list[tuple[tuple[Any, ...], int]]:
    """The settings that a row of the table chose, and in how many pairs of fold and seed, most often first."""
    chosen = draws[draws["chosen"]]
    return Counter(zip(*(chosen[name] for name in names))).most_common() if len(chosen) else []


def half_width(interval: Interval) -> float:
    """Half of the width of an interval; NaN where it is infinite."""
    half = (interval.high - interval.low) / 2
    return half if np.isfinite(half) else math.nan
