"""`inspect`: the content of a data set, and how well each modality predicts, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sidelight.data.dataset import Dataset
from sidelight.data.rows import is_lazy
from sidelight.inspection.balance import count_classes, count_classes_of, describe_range, score_majority
from sidelight.inspection.coverage import Coverage, TimeInfo, count_coverage, describe_times
from sidelight.inspection.leakage import find_leaks
from sidelight.inspection.modalities import ModalityInfo, describe_modality
from sidelight.inspection.reading import describe_reading, suggest_commands
from sidelight.inspection.remarks import collect_remarks, describe_order
from sidelight.inspection.strength import Scored, Strength, choose_protocol, compute_strengths, hide_test_rows
from sidelight.protocols.neighbours import find_similar_neighbours, is_sorted_by_class
from sidelight.utils.keywords import known_keywords

SAMPLE_ROWS = 500
"""Rows that are decoded if they are files."""


@dataclass(frozen=True)
class Inspection:
    """What `sidelight inspect` prints.

    Args:
        name: of the data set.
        rows: in all.
        unlabelled: rows without a label.
        task: the kind of target.
        modalities: what each holds.
        groups: group -> rows.
        split: part of the official split -> rows.
        classes: class -> labelled rows, or pixels.
        targets: target of a regression -> its range.
        metric: metric of the strengths.
        chance: what the most common class scores by it, on the rows of the strengths.
        strengths: scores of a linear model.
        remarks: what to look at.
        folds: protocol of the strengths.
        read: how the data were read.
        coverage: "all", "split", "group" -> the rows that have each modality.
        balance: "split", "group" -> part -> labelled rows, or pixels, of each class.
        majority: metric -> the score of the most common class, or of the mean, everywhere.
        times: the times of the rows; None without times.
        n_folds: folds of the strengths.
        test_hidden: whether rows of an official test part were left out of them.
        commands: what may be run next, and what for.
    """

    name: str
    rows: int
    unlabelled: int
    task: str
    modalities: tuple[ModalityInfo, ...]
    groups: dict[str, int]
    split: dict[str, int]
    classes: dict[str, int]
    targets: dict[str, dict[str, float]]
    metric: str
    chance: float
    strengths: tuple[Strength, ...]
    remarks: tuple[str, ...] = field(default=())
    folds: str = "group-kfold"
    read: tuple[str, ...] = ()
    coverage: dict[str, Coverage] = field(default_factory=dict)
    balance: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    majority: dict[str, float] = field(default_factory=dict)
    times: TimeInfo | None = None
    n_folds: int = 0
    test_hidden: bool = False
    commands: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)

    def to_text(self, width: int = 100) -> str:
        """The same as tables for a terminal of this width."""
        from sidelight.inspection.text import format_inspection

        return format_inspection(self, width)


@known_keywords
def inspect(
    dataset: Dataset, strength: bool = True, folds: int = 5, seed: int = 0, flags: Sequence[str] = ()
) -> Inspection:
    """Describe a data set: what was read, counts, shapes, gaps, balance, and how well each modality predicts.

    Scores come from a linear model on standardized features or window statistics, cross-validated with disjoint groups,
    or with blocks of rows in time. They compare the modalities and are no target for a network. Rows of an official
    test part are in no score.

    Args:
        dataset: the data.
        strength: whether to compute scores.
        folds: number of folds of the scores.
        seed: of folds and samples.
        flags: those of the command line that read the data, for the commands to run next.

    Returns:
        The tables that `sidelight inspect` prints.
    """
    classes = count_classes(dataset)
    targets = {}
    if dataset.task == "regression":
        targets = {name: describe_range(dataset.target[:, k]) for k, name in enumerate(dataset.class_names)}
    decoded, sampled = dataset, []
    if dataset.lazy or is_lazy(dataset.target):
        decoded = dataset.sample(SAMPLE_ROWS, seed)
        if len(decoded) < len(dataset):
            sampled = [
                f"{', '.join(dataset.lazy) or 'all'}: values and strengths are those of {len(decoded)} rows "
                "drawn at random"
            ]
    scored = compute_strengths(hide_test_rows(decoded), folds, seed) if strength else Scored(())
    modalities = tuple(
        describe_modality(decoded if m in dataset.lazy else dataset, m, dataset) for m in dataset.modalities
    )
    parts = {"split": dataset.split, "group": dataset.group}
    counted = {name: count_coverage(dataset, part) for name, part in parts.items() if part is not None}
    groups, split = (_count_rows(counted.get(name)) for name in ("group", "split"))
    times, alone = describe_times(dataset), dataset.group is None
    in_classes = alone and is_sorted_by_class(dataset)
    similar = find_similar_neighbours(dataset) if alone and not in_classes and dataset.time is None else None
    return Inspection(
        name=dataset.name,
        rows=len(dataset),
        unlabelled=int((~dataset.labelled).sum()),
        task=dataset.task,
        modalities=modalities,
        groups=groups,
        split=split,
        classes=classes,
        targets=targets,
        # The metrics of a linear model, whatever metric an experiment selects by.
        metric={"regression": "ccc", "segmentation": "miou"}.get(dataset.task, "accuracy"),
        chance=_score_chance(dataset),
        strengths=scored.strengths,
        remarks=(
            *collect_remarks(dataset, classes, groups, modalities, times),
            *describe_order(dataset, in_classes, similar),
            *find_leaks(dataset, decoded, scored.strengths),
            *sampled,
            *([scored.remark] if scored.remark else []),
        ),
        folds=choose_protocol(dataset),
        read=describe_reading(dataset),
        coverage={"all": count_coverage(dataset, None), **counted},
        balance={name: count_classes_of(dataset, part) for name, part in parts.items() if part is not None},
        majority=score_majority(dataset, classes),
        times=times,
        n_folds=scored.folds,
        test_hidden=hide_test_rows(dataset) is not dataset,
        commands=suggest_commands(dataset, flags, in_order=similar is not None),
    )


def _count_rows(parts: Coverage | None) -> dict[str, int]:
    return {} if parts is None else dict(zip(parts.parts, parts.rows))


def _score_chance(dataset: Dataset) -> float:
    """The score of the most common class everywhere, by the metric of the strengths, on the rows that they read."""
    shown = hide_test_rows(dataset)
    majority = score_majority(shown, count_classes(shown))
    return next(iter(majority.values()), 0.0)
