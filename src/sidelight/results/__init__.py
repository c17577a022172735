"""Results: the finished jobs of a run, paired statistics over folds and seeds, and the answer as table and sentence."""

from sidelight.results.between import Difference, between
from sidelight.results.budget import LEVEL, Budget
from sidelight.results.chance import TestSet, describe_test
from sidelight.results.comparison import ROPE, Comparison, Row, compare, table
from sidelight.results.formulas import escape_formulas
from sidelight.results.other_metrics import MetricScore, compare_metrics
from sidelight.results.printing import print_table
from sidelight.results.remarks import Remark
from sidelight.results.selection import budgets, get_budget, metric_columns, primary_metric
from sidelight.results.statistics import Interval, Probabilities, correlated_t, gap_closed, nadeau_bengio
from sidelight.results.store import load_results
from sidelight.results.verdict import headline, sentence, summary, verdict
from sidelight.results.winner import Winner

__all__ = [
    "LEVEL",
    "ROPE",
    "Budget",
    "Comparison",
    "Difference",
    "Interval",
    "MetricScore",
    "Probabilities",
    "Remark",
    "Row",
    "TestSet",
    "Winner",
    "between",
    "budgets",
    "compare",
    "compare_metrics",
    "correlated_t",
    "describe_test",
    "escape_formulas",
    "gap_closed",
    "get_budget",
    "headline",
    "load_results",
    "metric_columns",
    "nadeau_bengio",
    "primary_metric",
    "print_table",
    "sentence",
    "summary",
    "table",
    "verdict",
]
