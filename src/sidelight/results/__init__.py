"""The store of finished jobs, paired statistics over folds × seeds, and what they say in a table and in words."""

from sidelight.results.chance import TestSet, describe_test
from sidelight.results.comparison import (
    LEVEL,
    ROPE,
    Budget,
    Comparison,
    Row,
    budget,
    budgets,
    compare,
    metric_columns,
    primary_metric,
    table,
)
from sidelight.results.formulas import escape_formulas
from sidelight.results.printing import print_table
from sidelight.results.remarks import Remark
from sidelight.results.statistics import Interval, Probabilities, correlated_t, gap_closed, nadeau_bengio
from sidelight.results.store import load_results, read_plan
from sidelight.results.verdict import sentence, summary, verdict

__all__ = [
    "LEVEL",
    "ROPE",
    "Budget",
    "Comparison",
    "Interval",
    "Probabilities",
    "Remark",
    "Row",
    "TestSet",
    "budget",
    "budgets",
    "compare",
    "correlated_t",
    "describe_test",
    "escape_formulas",
    "gap_closed",
    "load_results",
    "metric_columns",
    "nadeau_bengio",
    "primary_metric",
    "print_table",
    "read_plan",
    "sentence",
    "summary",
    "table",
    "verdict",
]
