"""`sidelight compare`: the rows of two or more runs, paired by fold and seed where their test rows are the same."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sidelight.config import FREE, difference, load_config
from sidelight.errors import ConfigError, RunError, SidelightError
from sidelight.results import budgets, get_budget, load_results, primary_metric
from sidelight.results.between import ROPE, Difference, subtract
from sidelight.results.budget import Budget
from sidelight.results.job import job_id
from sidelight.results.statistics import holm
from sidelight.results.units import Unit, labels_phrase, metric_name, unit
from sidelight.verbs.text import section

ROW_COLUMNS = ("id", "group", "target")
"""The columns of predictions.csv by which test rows are known to be the same; a regression has `target.<name>`."""


@dataclass(frozen=True)
class RowPair:
    """A row of the first run and one of another run, at one label fraction.

    Attributes:
        label_fraction: share of the training groups that keep their labels.
        first, second: names of the rows.
        means: their means, as stored.
        difference: second − first, positive is better; None if the runs cannot be paired.
        p_value: two-sided p of no difference; NaN if unknown.
        p_holm: `p_value` adjusted for the number of differences of the whole comparison.
    """

    label_fraction: float
    first: str
    second: str
    means: tuple[float, float]
    difference: Difference | None = None
    p_value: float = math.nan
    p_holm: float = math.nan


@dataclass(frozen=True)
class RunsCompared:
    """Two runs.

    Attributes:
        first, second: the run folders.
        metric: the metric that is compared.
        unpaired: why they cannot be paired; "" if they are.
        settings: the settings that differ, beside those that only say which jobs run -> the two values.
        counted: what the intervals count.
        rows: the rows that both runs have, and the best methods where they are not the same.
    """

    first: Path
    second: Path
    metric: str
    unpaired: str
    settings: dict[str, tuple[Any, Any]]
    counted: str
    rows: list[RowPair] = field(default_factory=list)


def compare_verb(args: argparse.Namespace) -> None:
    """Compare the runs of a command line, and print the comparison."""
    compared = compare_runs(args.runs)
    if args.json:
        print(json.dumps([runs_to_dict(c) for c in compared], indent=1, ensure_ascii=False))
    else:
        print("\n".join(format_runs(c) for c in compared).rstrip("\n"))


def compare_runs(runs: Sequence[str | Path]) -> list[RunsCompared]:
    """Compare every run with the first.

    Two runs are paired over fold and seed if their jobs store the same digest of the data, their protocols are the
    same and the same fold and seed have the same test rows with the same targets, by predictions.csv. The settings may
    differ: what they change is what is compared.

    Args:
        runs: two or more run folders.

    Raises:
        ConfigError: fewer than two runs, or one is named twice.
        RunError: a folder is no run folder, has no finished job, or shares no row or metric with the first.
    """
    folders = [Path(run) for run in runs]
    if len(folders) < 2:
        raise ConfigError("compare needs two runs: sidelight compare runs/a runs/b")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(
            "compare: one run is named twice; within a run, `sidelight report RUN --between A B` compares"
        )
    results = [load_results(folder, rebuild=False) for folder in folders]
    compared = [_compare_two(folders[0], results[0], f, r) for f, r in zip(folders[1:], results[1:])]
    return _adjust(compared)


def _compare_two(first: Path, ours: pd.DataFrame, second: Path, theirs: pd.DataFrame) -> RunsCompared:
    metric = primary_metric(ours)
    shares = [share for share in budgets(ours) if any(math.isclose(share, s, abs_tol=1e-6) for s in budgets(theirs))]
    if not shares:
        raise RunError(
            f"{first} and {second} share no label fraction: {budgets(ours)} and {budgets(theirs)}; nothing to compare"
        )
    reason = _reason_unpaired(first, ours, second, theirs)
    compared = RunsCompared(first, second, metric, reason, _differing_settings(first, second), "")
    for share in shares:
        a, b = get_budget(ours, share, metric), get_budget(theirs, share, metric)
        merged = _merge(a, b)
        for name, other in _name_pairs(a, b):
            means = a.mean(name, metric), b.mean(other, metric)
            pair = RowPair(share, name, other, means)
            if not reason:
                keys = f"2:{other}", f"1:{name}"
                found = subtract(merged, *keys, rope=ROPE)._replace(first=other, second=name)
                pair = replace(pair, difference=found, p_value=merged.p_value(*keys))
            compared.rows.append(pair)
        compared = replace(compared, counted=merged.counted)
    if not compared.rows:
        raise RunError(f"{first} and {second} share no row: nothing to compare")
    return compared


def _reason_unpaired(first: Path, ours: pd.DataFrame, second: Path, theirs: pd.DataFrame) -> str:
    """Why jobs of the same fold and seed cannot be subtracted; "" if they can."""
    digest, other = (str(r.attrs.get("data_sha256") or "") for r in (ours, theirs))
    if not digest or not other:
        return f"the jobs of {second if digest else first} store no digest of their data"
    if digest != other:
        return f"their data differ (SHA-256 {digest[:12]}… and {other[:12]}…)"
    protocols = ours.attrs.get("protocol"), theirs.attrs.get("protocol")
    if protocols[0] != protocols[1]:
        return f"their protocols differ ({protocols[0]} and {protocols[1]})"
    jobs = [r.drop_duplicates(["fold", "seed"]).set_index(["fold", "seed"]) for r in (ours, theirs)]
    common = jobs[0].index.intersection(jobs[1].index)
    if not len(common):
        return "they share no fold and seed"
    for pair in common:
        rows, others = (_test_rows(run, pair, of_run.loc[pair]) for run, of_run in zip((first, second), jobs))
        if rows is None or others is None:
            return f"the predictions of fold {pair[0]}, seed {pair[1]} cannot be read, so its test rows are unknown"
        if not rows.equals(others):
            return f"the test rows of fold {pair[0]}, seed {pair[1]} differ (folds, seed, group or gap of the settings)"
    return ""


def _test_rows(run: Path, pair: tuple[int, int], job: pd.Series) -> pd.DataFrame | None:
    """The names and targets of a job's test rows, in an order that does not depend on the run; None if unreadable."""
    control = "" if pd.isna(job["control"]) else str(job["control"])
    file = run / "jobs" / job_id(str(job["method"]), control, float(job["labels"]), *pair) / "predictions.csv"
    try:
        table = pd.read_csv(
            file,
            dtype=str,
            keep_default_na=False,
            usecols=lambda c: c in ROW_COLUMNS or c.startswith("target."),
        )
    except (OSError, ValueError):
        return None
    return table.sort_values(list(table.columns)).reset_index(drop=True) if "id" in table else None


def _merge(a: Budget, b: Budget) -> Budget:
    """The rows of two runs in one `Budget`: those of the first as `1:<name>`, of the second as `2:<name>`."""
    rows = {f"{i}:{name}": frame for i, budget in ((1, a), (2, b)) for name, frame in budget.rows.items()}
    groups = {f"{i}:{name}": scores for i, budget in ((1, a), (2, b)) for name, scores in budget.groups.items()}
    return replace(a, rows=rows, groups=groups)


def _name_pairs(a: Budget, b: Budget) -> list[tuple[str, str]]:
    """The rows that both have, in the order of the first; then the best methods where these are not the same."""
    pairs = [(name, name) for name in a.order if name in b.rows]
    if a.best and b.best and a.best != b.best:
        pairs.append((a.best, b.best))
    return pairs


def _differing_settings(first: Path, second: Path) -> dict[str, tuple[Any, Any]]:
    """The settings that differ and may change a job's result; {} if a config.yaml cannot be read."""
    try:
        a, b = (load_config(run / "config.yaml") for run in (first, second))
    except SidelightError:
        return {}
    return difference(a, b, (*FREE, "data"))  # the digest says whether the data are the same, wherever they lie


def _adjust(compared: list[RunsCompared]) -> list[RunsCompared]:
    """Adjust the p-values for the number of differences of the whole comparison."""
    adjusted = iter(holm([row.p_value for c in compared for row in c.rows]).tolist())
    return [replace(c, rows=[replace(row, p_holm=next(adjusted)) for row in c.rows]) for c in compared]


def runs_to_dict(c: RunsCompared) -> dict[str, Any]:
    """A comparison as JSON; what is unknown is null.

    Args:
        c: the comparison.
    """
    return {
        "first": str(c.first),
        "second": str(c.second),
        "metric": c.metric,
        "paired": not c.unpaired,
        "unpaired_because": c.unpaired,
        "counted": c.counted,
        "settings": {name: list(values) for name, values in c.settings.items()},
        "rows": [_row_to_dict(row) for row in c.rows],
    }


def _row_to_dict(row: RowPair) -> dict[str, Any]:
    told = {
        "label_fraction": row.label_fraction,
        "first": row.first,
        "second": row.second,
        "mean_first": row.means[0],
        "mean_second": row.means[1],
    }
    if d := row.difference:
        told |= {"difference": d.interval.mean, "low": d.interval.low, "high": d.interval.high, "n": d.interval.n}
        told |= {"missing": d.interval.dropped, "note": d.interval.note}
        told |= {"p_worse": d.p.worse, "p_equal": d.p.equal, "p_better": d.p.better}
        told |= {"p_value": row.p_value, "p_holm": row.p_holm}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in told.items()}


def format_runs(c: RunsCompared) -> str:
    """A comparison as text.

    Args:
        c: the comparison.
    """
    u = unit(c.metric)
    scale = " in %" if u.factor == 100 else ""
    parts = [f"{c.second} − {c.first}: {metric_name(c.metric)}{scale}\n"]
    if c.unpaired:
        why = f"not paired: {c.unpaired}. The means stand side by side; no difference is claimed."
        parts.append(section("note", [why]))
    for share in dict.fromkeys(row.label_fraction for row in c.rows):
        rows = [row for row in c.rows if row.label_fraction == share]
        parts.append(_table(labels_phrase(share), rows, u, bool(c.unpaired)))
    if not c.unpaired:
        missing = max(row.difference.interval.dropped for row in c.rows if row.difference)
        legend = f"differences are positive where the second run is better; 95 % intervals over n {c.counted}"
        legend += f", paired by fold and seed; p after Holm over {len(c.rows)} differences"
        parts.append(section("how", [legend + (f"; up to {missing} pairs are missing in one run" if missing else "")]))
    same = "none that changes a result" if not c.unpaired else ""
    settings = [f"{name}: {a} and {b}" for name, (a, b) in c.settings.items()] or ([same] if same else [])
    parts.append(section("settings that differ", settings))
    return "\n".join(part for part in parts if part)


def _table(title: str, rows: Sequence[RowPair], u: Unit, unpaired: bool) -> str:
    """Lines of equal columns: the row, both means, and the difference with its interval."""
    heads = ["", "first", "second"] + ([] if unpaired else ["difference", "95 % interval", "p", "n"])
    cells = [heads, *(_cells(row, u) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip()
        for line in cells
    ]
    return "\n".join([title, *(f"  {line}" for line in lines), ""])


def _cells(row: RowPair, u: Unit) -> list[str]:
    name = row.first if row.first == row.second else f"{row.second} − {row.first} (best)"
    cells = [name, *map(u.score, row.means)]
    if row.difference is None:
        return cells
    i = row.difference.interval
    ends = f"{u.difference(i.low)} to {u.difference(i.high)}" if math.isfinite(i.half) else i.note or "none"
    p = f"{row.p_holm:.3f}" if math.isfinite(row.p_holm) else "–"
    return [*cells, u.difference(i.mean), ends, p, str(i.n)]
