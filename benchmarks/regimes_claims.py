"""Claims of the papers, as a difference of two rows of the regime map each."""

from __future__ import annotations

import pandas as pd

from regimes_table import differences, interval, p_value
from sidelight.data.builtin.synthetic import REGIMES
from sidelight.results.statistics import holm

CLAIMS = [
    ("PKDOT: better than the student without a teacher", "pkdot", "baseline"),
    ("PKDOT: better than soft labels", "pkdot", "kl"),
    ("PKDOT: transport of structure beats comparing rows one by one (features, cosine)", "pkdot", "cosine"),
    ("… and the mean squared error of predictions", "pkdot", "mse"),
    ("… and relational losses (RKD)", "pkdot", "rkd"),
    ("PKDOT: the hallucinated modality (T-Net) helps", "pkdot", "pkdot-no-t-net"),
    ("the same beside soft labels", "kl-t-net", "kl"),
    ("structure adds to soft labels", "pkdot+kl", "kl"),
    ("ours: rows aligned beat transport between clouds (both without T-Net; λ differs)", "pkdot-sidelight", "pkdot-no-t-net"),
    ("MT-PKDOT: several teachers beat one", "mt-pkdot", "pkdot"),
    ("MERS: hallucination beats soft labels alone", "mers", "kl"),
    ("ADMD: adversarial hallucination beats MERS", "admd", "mers"),
    ("OS-MD: one stage beats hallucination in stages (ADMD)", "osmd", "admd"),
    ("AMID: better than soft labels", "amid", "kl"),
    ("C2KD: better than soft labels across modalities", "c2kd", "kl"),
    ("MST: better than C2KD", "mst", "c2kd"),
    ("CRD: better than soft labels", "crd", "kl"),
    ("DKD: better than soft labels", "dkd", "kl"),
    ("DIST: better than soft labels", "dist", "kl"),
    ("WKD-L: better than soft labels", "wkd-l", "kl"),
    ("FD-CMKD: better than comparing whole features (FitNet)", "fdcmkd", "fitnet"),
    ("ours: `auto` is never below the baseline", "auto", "baseline"),
    ("soft labels add to a student that starts from the teacher's weights", "kl", "warm-start"),
]  # fmt: skip
"""(claim, row, the row that it should be above)."""


def claims_table(table: pd.DataFrame) -> list[str]:
    """A line for each claim; Holm counts the regimes of a claim."""
    lines = [f"| claim | difference | {' | '.join(REGIMES)} | holds in | contrary in |"]
    lines.append("|---" * (len(REGIMES) + 4) + "|")
    for claim, a, b in CLAIMS:
        found = {regime: differences(table, regime, a, b) for regime in REGIMES}
        adjusted = dict(zip(REGIMES, holm([p_value(d) for d in found.values()])))
        shown, each = {1: 0, -1: 0}, []
        for regime, d in found.items():
            if not len(d):
                each.append("")
                continue
            mean, certain = interval(d).mean, adjusted[regime] < 0.05
            shown[1 if mean > 0 else -1] += certain
            own = interval(d)
            star = "" if certain or own.low <= 0 <= own.high else "\\*"
            each.append(f"**{mean:+.1f}**" if certain else f"{mean:+.1f}{star}")
        if any(each):
            lines.append(f"| {claim} | `{a}` − `{b}` | {' | '.join(each)} | {shown[1]} | {shown[-1]} |")
    return lines
