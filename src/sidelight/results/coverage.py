"""Rows that lack privileged modalities: gaps are closed, and teachers scored, where a teacher can see one."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from sidelight.results.budget import BASELINE, TEACHER, Budget
from sidelight.results.job import SEEN
from sidelight.results.remarks import Remark
from sidelight.results.units import metric_name, unit


def keep_seen(b: Budget) -> Budget:
    """The same jobs, compared over the test rows that have a privileged modality; as they are if all rows have one."""
    metric = f"{SEEN}{b.metric}"
    covered = all(metric in frame and frame[metric].notna().any() for frame in b.rows.values())
    return replace(b, metric=metric) if covered and b.rows else b


def find_coverage_remarks(b: Budget) -> tuple[Remark, ...]:
    """Say how many rows lack a privileged modality, and how a teacher scores where it can see one."""
    frame = b.rows.get(TEACHER, b.rows.get(BASELINE))
    if frame is None:
        return ()
    shares = {part: frame.get(f"lacks_{part}", pd.Series(dtype=float)).dropna() for part in ("train", "select", "test")}
    if not any((share > 0).any() for share in shares.values()):
        return ()
    parts = [f"{_percent(share)} of the {part} rows" for part, share in shares.items() if len(share)]
    text = f"Rows lack a privileged modality: {', '.join(parts)} (range over folds and seeds)."
    seen = keep_seen(b)
    if seen is not b and TEACHER in b.rows and BASELINE in b.rows:
        u = unit(b.metric)
        teacher, baseline = (u.score(seen.mean(name, seen.metric)) for name in (TEACHER, BASELINE))
        text += (
            f" Over the test rows that have one, {metric_name(b.metric)} is {teacher} with the teacher and {baseline} "
            f"with the baseline (over all test rows: {u.score(b.mean(TEACHER, b.metric))} and "
            f"{u.score(b.mean(BASELINE, b.metric))}); the share of the teacher's lead is over these rows."
        )
    return (Remark("partial_coverage", text),)


def _percent(share: pd.Series) -> str:
    low, high = 100 * share.min(), 100 * share.max()
    return f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f}–{high:.0f} %"
