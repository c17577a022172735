"""The doubt that failed jobs raise about a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sidelight.results.budget import Budget
from sidelight.results.remarks import Remark
from sidelight.runs.failures import Failure

SHOWN = 5
"""The most rows of the table that a remark names."""
BRIEF = 200
"""The most characters of an error that a remark quotes."""


def find_failure_remarks(b: Budget, failures: Sequence[Failure]) -> list[Remark]:
    """The rows of the table some of whose jobs are missing because a job failed.

    Args:
        b: the jobs at one label fraction.
        failures: those of the run.
    """
    missing: dict[str, list[Failure]] = {}
    for failure in failures:
        name, share = failure.row
        if math.isclose(share, b.label_fraction, abs_tol=1e-6):
            missing.setdefault(name, []).append(failure)
    if not missing:
        return []
    parts = []
    for name, lost in missing.items():
        stored = len(b.rows[name]) if name in b.rows else 0
        parts.append(f"{len(lost)} of {stored + len(lost)} jobs of {name}")
    first = next((f for lost in missing.values() for f in lost if not f.needs), next(iter(missing.values()))[0])
    said = first.message if len(first.message) <= BRIEF else f"{first.message[:BRIEF]}…"
    text = (
        f"Missing because a job failed: {', '.join(parts[:SHOWN])}{', …' * (len(parts) > SHOWN)} (first {first.job}: "
        f"{said.rstrip('.')}). Differences are over the pairs of fold and seed that both rows have, but a row's mean "
        "is over all of its own. A method that fails where rows are hard looks better than it is."
    )
    return [Remark("failed_jobs", text)]
