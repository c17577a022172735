"""Texts that say how to read the numbers of a run: the caveats that apply to it."""

from __future__ import annotations

from sidelight.results import Comparison
from sidelight.results.units import metric_name, unit

OVERLAP = (
    "The training sets of folds overlap, so {n} {counted} are not {n} independent experiments: intervals are {level:g} "
    "% by the corrected resampled t (Nadeau and Bengio), probabilities by the correlated Bayesian t-test. Both apply "
    "to this data set and these settings, not to others."
)
PAIRS = {
    "pairs": "A pair is one fold of one seed, trained with and without distillation. " + OVERLAP,
    "folds": "A fold's test rows are the same with every seed, so seeds repeat them: differences are averaged over "
    "seeds, and n counts folds. " + OVERLAP,
    "groups": "There is one official test set, which every seed repeats. Its {n} groups are the sample: intervals "
    "({level:g} %) add the spread over test groups and the spread over seeds, so a gain that holds for these seeds or "
    "for these people alone is not called one. Both apply to people like these, not to other data.",
    "blocks": "There is one official test set without groups, which every seed repeats. Its rows are cut into {n} "
    "blocks of neighbours: intervals ({level:g} %) add the spread over blocks and over seeds. Rows of one person or "
    "recording that lie far apart would make them too narrow.",
    "seeds": "There is one official test set, which every seed repeats. Seeds cannot tell how other test rows would "
    "come out, and the predictions say nothing about test groups: there is no interval and no verdict.",
}
EQUAL = (
    "“Equal” means that the true difference is at most {threshold}. The method is chosen without test rows, which "
    "are read once, by its score on the select rows."
)
MANY = (
    "{count} methods are compared with the baseline. The sentence tests what choosing among them gains: in each pair "
    "the method that the other seeds choose (with one seed: the other folds), so that no method is tested where it was "
    "lucky. A method is bold if its "
    "difference is not zero after Holm’s adjustment for {count} methods; the intervals are of each method alone."
)
NO_PLACEBO = (
    "No placebo has been run. A gain may then come from distillation itself (softer targets, regularisation, more rows "
    "with a target) and not from the privileged modalities."
)
PLACEBO = (
    "The placebo is the same method with the privileged rows shuffled over the training rows, so that they carry no "
    "information. What a method gains more than its placebo is the method minus its placebo."
)
UNFINISHED = (
    "The run is not finished. Its numbers will change, and stopping a run when it looks good makes it look too good: "
    "let it finish."
)
MISSING = "Some pairs lack one side (unfinished or unreadable jobs). They are left out of the differences."
LOWER = "Lower {metric} is better; differences are turned so that positive is better."


def list_caveats(found: list[Comparison], unfinished: bool = False) -> list[str]:
    """List the caveats that apply to a run.

    Args:
        found: a comparison for each label fraction.
        unfinished: whether jobs are still missing.
    """
    if not found:
        return []
    c, rows = found[0], list(found[0].rows.values())
    u, n = unit(c.metric), max((r.difference.n for r in rows), default=0)
    methods, placebos = [r for r in rows if r.role == "method"], {r.method for r in rows if r.control == "placebo"}
    without = [r.method for r in methods if r.method not in placebos]
    fixed = {
        PAIRS[c.counted].format(n=n, level=100 * c.level, counted=c.counted): True,
        EQUAL.format(threshold=u.threshold(c.rope)): True,
        MANY.format(count=len(methods)): len(methods) > 1,
        NO_PLACEBO: not placebos,
        PLACEBO + (f" Not run for: {', '.join(without)}." if without else ""): bool(placebos),
        UNFINISHED: unfinished,
        MISSING: any(r.missing for r in rows),
        LOWER.format(metric=metric_name(c.metric)): c.sign < 0,
    }
    return [text for text, applies in fixed.items() if applies]
