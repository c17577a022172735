"""What a student's file and its run say of it: its inputs, its scores with intervals, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sidelight.export.file import locate, read_student
from sidelight.results import LEVEL, Comparison, Interval, Row, compare, compare_metrics, load_results, metric_columns
from sidelight.results.verdict import write_sentence
from sidelight.utils.names import name_targets


def describe_student(path: str | Path) -> dict[str, Any]:
    """Describe a student from its file, and from the run folder that it lies in, if it does.

    No network is built, so a student with encoders of the user's own needs no `encoders` here.

    Args:
        path: student.safetensors, its folder, or a run or refit folder.

    Returns:
        What JSON can hold: `file`, `task`, `labels`, `inputs` (as `Student.inputs`), `files` (modalities of which it
        reads recordings), `windows` (those whose rows `sidelight windows` cuts), `any_subset` and `groups` (whether it
        accepts missing modalities, and needs the group of each row), `privileged`, `parameters`, `bytes`, `method`,
        `control`, `label_fraction`, `fold`, `seed`, `data`, `versions`, `metrics` of its own fold; of a refitted
        student `rows`, `cross_validated` and a `note`; and `run`: the scores of its method with intervals over the
        whole run in every metric, None without a run folder.

    Raises:
        RunError: there is no student, or it cannot be read.
    """
    file = locate(Path(path))
    tensors, description = read_student(file)
    meta = description["meta"]
    weights = [tensor.numel() for name, tensor in tensors.items() if name.startswith("network.")]
    return {
        "file": str(file),
        "task": description["task"]["name"],
        "labels": list(description["task"]["labels"]),
        "inputs": description["inputs"],
        "files": list(meta.get("files", {})),
        "windows": _find_windows(description["inputs"], meta),
        "any_subset": "drop" in description["network"],
        "groups": _standardises_groups(description),
        "privileged": list(description["privileged"]),
        "parameters": sum(weights),
        "bytes": file.stat().st_size,
        "method": meta.get("method", ""),
        "control": meta.get("control", ""),
        "label_fraction": meta.get("labels"),
        "fold": meta.get("fold"),
        "seed": meta.get("seed"),
        "rows": meta.get("rows"),
        "data": _describe_data(meta.get("data", {})),
        "versions": meta.get("versions", {}),
        "metrics": meta.get("metrics", {}),
        "cross_validated": meta.get("cross_validated"),
        "note": meta.get("refit", ""),
        "run": _describe_run(file, meta),
    }


def _find_windows(inputs: Mapping[str, Any], meta: Mapping[str, Any]) -> list[str]:
    """The signals that were stored as windows of one rate in an array of all rows, as `sidelight windows` does."""
    recordings = meta.get("recordings", {})
    one_file_a_row = {*meta.get("files", {}), *(m for m, how in meta.get("modalities", {}).items() if "kind" in how)}
    windows = [m for m in inputs if m not in one_file_a_row and "final_rate" in recordings.get(m, {})]
    return [m for m in windows if "time" in inputs[m]["axes"]]


def _describe_data(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "target": name_targets(str(about["target"]))} if about.get("target") else dict(about)


def _standardises_groups(description: Mapping[str, Any]) -> bool:
    """Whether each person's rows are standardised by that person's own, so that predictions need the group."""
    return bool(description["preprocessor"].get("standardize") == "group")


def _describe_run(file: Path, meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The scores of the student's method over its run; None if it does not lie in the run that made it."""
    run = next((p for p in list(file.resolve().parents)[1:3] if (p / "jobs").is_dir()), None)
    if run is None or "method" not in meta:
        return None
    results = load_results(run, rebuild=False)
    rows = results[
        (results["method"] == meta["method"])
        & (results["control"].fillna("") == meta.get("control", ""))
        & (results["labels"] == meta.get("labels"))
    ]
    if not len(rows) or not _is_from(rows, meta):
        return {"folder": str(run), "fault": "the run beside this file has no job with this student's figures"}
    c = compare(results, float(meta["labels"]))
    name = meta["method"] + (f"~{meta['control']}" if meta.get("control") else "")
    row, baseline, teacher = c.rows[name], c.rows.get("baseline"), c.rows.get("teacher")
    return {
        "folder": str(run),
        "answer": write_sentence(c, alone=results["labels"].nunique() == 1),
        "protocol": c.protocol,
        "metric": c.metric,
        "higher_is_better": c.sign > 0,
        "networks": len(rows),
        "mean": row.mean,
        "sd": _finite(row.sd),
        "trained": round(float(rows["n_train"].mean())),
        "tested": int(rows.groupby("seed")["n_test"].sum().max()),
        "baseline": None if baseline is None else baseline.mean,
        "teacher": None if teacher is None else teacher.mean,
        "chance": _finite(c.chance),
        "counted": c.counted,
        "level": LEVEL,
        "over_baseline": _interval(row.difference),
        "over_placebo": _interval(row.effect),
        "gap_closed": _interval(row.gap),
        "survives_holm": row.survives,
        "placebo_ran": f"{name}~placebo" in c.rows,
        "remarks": [remark.text for remark in c.remarks],
        "verdict": _verdict(row),
        "metrics": _every_metric(results, c, name),
    }


def _every_metric(results: pd.DataFrame, c: Comparison, name: str) -> dict[str, Any]:
    """Metric -> the means of the row, the baseline and the teacher, and the row's difference to the baseline."""
    found = {}
    for metric, scores in compare_metrics(results, c.budget, metric_columns(results)).items():
        means = {who: _finite(scores[row].mean) if row in scores else None for who, row in _rows(name).items()}
        found[metric] = {**means, "over_baseline": _interval(scores[name].difference)}
    return found


def _rows(name: str) -> dict[str, str]:
    return {"student": name, "baseline": "baseline", "teacher": "teacher", "placebo": f"{name}~placebo"}


def _is_from(rows: pd.DataFrame, meta: Mapping[str, Any]) -> bool:
    """Whether the figures that a student holds are those of the run's jobs."""
    if crossed := meta.get("cross_validated"):
        held = {m: crossed[m]["mean"] for m in metric_columns(rows) if m in crossed}
        found = {m: float(rows[m].mean()) for m in held}
    else:
        held = dict(meta.get("metrics", {}))
        job = rows[(rows["fold"] == meta.get("fold")) & (rows["seed"] == meta.get("seed"))]
        found = {m: float(job[m].iloc[0]) for m in held if m in job and len(job)}
    known = {m: value for m, value in held.items() if value is not None and m in found}
    return bool(known) and all(math.isclose(found[m], value, rel_tol=1e-6) for m, value in known.items())


def _verdict(row: Row) -> str:
    """The row against the baseline in one word."""
    d = row.difference
    if not math.isfinite(d.mean) or not math.isfinite(d.half):
        return "unknown"
    return "better" if d.low > 0 else "worse" if d.high < 0 else "not shown to differ"


def _interval(interval: Interval) -> dict[str, Any] | None:
    """An interval as JSON; None if there is nothing to compare."""
    if not math.isfinite(interval.mean):
        return None
    low, high = _finite(interval.low), _finite(interval.high)
    return {"mean": interval.mean, "low": low, "high": high, "n": interval.n, "note": interval.note}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
