"""Doubts about a comparison, e.g. scores at chance, a teacher without a lead, or test sets of one class."""

from __future__ import annotations

import math
from typing import NamedTuple

from sidelight.results.budget import BASELINE, TEACHER, Budget
from sidelight.results.chance import DESCRIBED, chance_levels
from sidelight.results.statistics import Interval
from sidelight.results.units import metric_name, unit

ENOUGH = 3
"""Least number of pairs for "not shown to be above chance"; an interval from two pairs contains almost anything."""
APART, APART_ONCE = 0.05, 0.1
"""Select and test scores may differ by this much without a remark, since choosing the best epoch causes some of it; the
second number is for a single pair, which has no interval."""
SHOWN = 3
"""Number of test sets that a remark names."""
BRIEF = {
    "baseline_at_chance": "the baseline is not above chance",
    "teacher_at_chance": "the teacher is not above chance",
    "teacher_not_above_baseline": "the teacher is not above the baseline",
    "baseline_below_linear": "the baseline is below a linear model on the same inputs",
    "best_below_linear": "the best method is below a linear model on the same inputs",
    "constant_test": "some test sets have labels of one value only",
}
"""Code -> wording in the sentence, for remarks that make a comparison degenerate."""


class Remark(NamedTuple):
    """A doubt about a comparison: a code for machines and one or two sentences for people."""

    code: str
    text: str


def find_remarks(b: Budget, lead: Interval, level: float, primary: bool) -> tuple[Remark, ...]:
    """Find the doubts that stored scores and test labels raise about a comparison.

    Args:
        b: the jobs at one label fraction.
        lead: difference of the teacher to the baseline.
        level: confidence level of the intervals.
        primary: whether `b.metric` is the metric of the `select` column.
    """
    found = [_constant_tests(b), _at_chance(b, BASELINE, level), _at_chance(b, TEACHER, level), _no_lead(b, lead)]
    if primary:
        found += _select_far_from_test(b, level)
    return tuple(Remark(code, text) for code, text in found if text)


def brief_remarks(found: tuple[Remark, ...]) -> str:
    """The remarks that make a comparison degenerate, as a clause of the sentence; "" if there are none."""
    return ", and ".join(BRIEF[r.code] for r in found if r.code in BRIEF)


def _constant_tests(b: Budget) -> Remark:
    """Test sets whose labels do not vary."""
    constant = {pair: test.constant for pair, test in b.tests.items() if test.constant}
    if not constant:
        return Remark("constant_test", "")
    some = len(constant) < len(b.tests)
    share = f"In {len(constant)} of {len(b.tests)} test sets" if some else "In every test set"
    if b.task == "regression":
        names = ", ".join(sorted({repr(name) for names in constant.values() for name in names}))
        text = f"{share} the target {names} has the same value in every row: its CCC is 0 whatever is predicted."
    else:
        what = "pixel" if b.task == "segmentation" else "row"
        first = [f"{names[0]!r} in fold {fold}, seed {seed}" for (fold, seed), names in list(constant.items())[:SHOWN]]
        more = ", …" if len(constant) > SHOWN else ""
        text = f"{share} every {what} is of one class ({', '.join(first)}{more}): always answering it is right there."
    return Remark("constant_test", f"{text} Such test rows cannot tell one network from another.")


def _at_chance(b: Budget, name: str, level: float) -> Remark:
    """A row whose score is not above chance, paired over the same test rows."""
    code = f"{name}_at_chance"
    if name not in b.rows:
        return Remark(code, "")
    levels = chance_levels(b.tests, b.metric)
    lead = b.against(name, levels * b.sign, level)
    if not math.isfinite(lead.mean):
        return Remark(code, "")
    unsure = lead.n >= ENOUGH and math.isfinite(lead.half) and lead.low <= 0
    if lead.mean > 1e-9 and not unsure:
        return Remark(code, "")
    u = unit(b.metric)
    score, chance = u.score(b.mean(name, b.metric)), u.score(float(levels.mean()))
    found = f"its {metric_name(b.metric)} is {score}, and {DESCRIBED.get(b.task, 'chance')} gives {chance} on the same "
    found += f"test rows (difference {_format(b, lead)})"
    if lead.mean > 1e-9:
        return Remark(f"{name}_near_chance", f"The {name} is not shown to be above chance: {found}.")
    meaning = (
        "A gain over it is easy to have and says little."
        if name == BASELINE
        else "It has nothing to teach, whatever the students do."
    )
    return Remark(code, f"The {name} is at chance or below: {found}. {meaning}")


def _no_lead(b: Budget, lead: Interval) -> Remark:
    """A teacher that does not lead the baseline by more than the interval of its lead."""
    if math.isfinite(lead.mean) and lead.mean <= 1e-9:
        return Remark(
            "teacher_not_above_baseline",
            f"The teacher is not above the baseline (difference {_format(b, lead)}): the privileged modalities do "
            "not help even a network that reads them, so there is no gap to close.",
        )
    if math.isfinite(lead.half) and lead.low <= 0:
        return Remark(
            "teacher_lead_unclear",
            f"The teacher's lead over the baseline is smaller than its interval ({_format(b, lead)}): it may be "
            "zero, so no share of it can be said to be closed.",
        )
    return Remark("", "")


def _select_far_from_test(b: Budget, level: float) -> list[Remark]:
    """Rows whose scores on select and test rows differ by much.

    A row is named if the mean of select − test, paired over fold and seed, is larger than `APART` and than the half
    width of its interval; with one pair, which has no interval, if it is larger than `APART_ONCE`.
    """
    u, found = unit(b.metric), dict[int, list[str]]()
    if u.factor != 100 and not b.metric.startswith("ccc"):
        return []  # the metric has no scale on which 0.05 means something
    for name in dict.fromkeys(n for n in (BASELINE, b.best, TEACHER) if n in b.rows):
        d = b.against(str(name), b.rows[str(name)]["select"], level)  # test − select, both signed
        floor = max(APART, d.half) if math.isfinite(d.half) else APART_ONCE
        if d.n and abs(d.mean) > floor:
            both = b.rows[str(name)][["select", b.metric]].dropna().mean()
            shown = u.difference(-d.mean) + (f", ±{u.score(d.half)}" if math.isfinite(d.half) else "")
            text = f"{name} {u.score(both['select'] * b.sign)} and {u.score(both[b.metric])} ({shown})"
            found.setdefault(int(math.copysign(1, -d.mean)), []).append(text)
    name = metric_name(b.metric)
    better = f"{name} on the select rows and on the test rows lie far apart, better on select: "
    worse = f"{name} on the select rows and on the test rows lie far apart, worse on select: "
    out = []
    if 1 in found:
        why = (
            "Select rows then resemble the train rows more than test rows do, as when they are drawn between them from "
            "one time series or one person, and epochs are chosen by what was memorised. Let them be whole groups "
            "(group=…) or contiguous blocks (protocol=blocks, or time=… beside an official split)."
        )
        out.append(Remark("select_above_test", f"{_capitalize(better)}{'; '.join(found[1])}. {why}"))
    if -1 in found:
        why = "Epochs are then chosen on rows that are harder than those tested, or unlike them."
        out.append(Remark("select_below_test", f"{_capitalize(worse)}{'; '.join(found[-1])}. {why}"))
    return out


def _format(b: Budget, d: Interval) -> str:
    """`+1.2, −0.5 to +2.9`, or `+1.2` if there is no interval."""
    u = unit(b.metric)
    ends = f", {u.difference(d.low)} to {u.difference(d.high)}" if math.isfinite(d.half) else ""
    return f"{u.amount(d.mean, signed=True)}{ends}"


def _capitalize(text: str) -> str:
    """Start with a capital letter, except in names such as mIoU."""
    return text if text[1:2].isupper() else text[0].upper() + text[1:]
