"""Networks that a linear model on the same inputs, labels and test rows surpasses."""

from __future__ import annotations

from sidelight.results.budget import BASELINE, LINEAR, Budget
from sidelight.results.remarks import Remark
from sidelight.results.statistics import Interval
from sidelight.results.units import metric_name, unit

SAME = "a regularised linear model on the same inputs and labels"


def find_reference_remarks(b: Budget, level: float) -> tuple[Remark, ...]:
    """Say which of baseline and methods are below the row `linear`, if there is one.

    Args:
        b: the jobs at one label fraction.
        level: confidence level of the intervals, in (0, 1).
    """
    if LINEAR not in b.rows:
        return ()
    differences = {name: b.difference(name, LINEAR, level) for name in (BASELINE, *b.methods) if name in b.rows}
    below = {name: d for name, d in differences.items() if d.high < 0}
    found = []
    if BASELINE in below:
        text = f"The baseline is below {SAME} ({_describe(b, BASELINE, below.pop(BASELINE))}). "
        text += "Where it falls short of that, a gain over it needs no teacher: look at network.* and training.* first."
        found.append(Remark("baseline_below_linear", text))
    elif BASELINE in differences and differences[BASELINE].mean < 0:
        text = f"The baseline is not shown to be above {SAME} ({_describe(b, BASELINE, differences[BASELINE])})."
        found.append(Remark("baseline_near_linear", text))
    if below:
        listed = "; ".join(f"{name} {_describe(b, name, d)}" for name, d in below.items())
        code = "best_below_linear" if b.best in below else "methods_below_linear"
        found.append(Remark(code, f"Methods below {SAME}: {listed}."))
    return tuple(found)


def _describe(b: Budget, name: str, d: Interval) -> str:
    """`accuracy 61.2 and 71.0, difference −9.8, −14.1 to −5.5`."""
    u = unit(b.metric)
    scores = f"{metric_name(b.metric)} {u.score(b.mean(name, b.metric))} and {u.score(b.mean(LINEAR, b.metric))}"
    ends = f", {u.difference(d.low)} to {u.difference(d.high)}" if d.high - d.low < float("inf") else ""
    return f"{scores}, difference {u.difference(d.mean)}{ends}"
