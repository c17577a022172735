"""`inspect`: what a data set holds and how much each modality knows, before anything is trained."""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.dataset import Dataset
from sidelight.errors import SidelightError

STRENGTH_ROWS = 5000


@dataclass(frozen=True)
class ModalityInfo:
    """One modality: a row's shape, missing rows, NaN values, (shortest, median, longest) length, range of values."""

    name: str
    role: str
    shape: tuple[int, ...]
    missing: int
    nan: int
    lengths: tuple[int, int, int] | None
    minimum: float
    maximum: float
    constant: int


@dataclass(frozen=True)
class Strength:
    """Mean and standard deviation over the folds of a plain linear model's score on these modalities."""

    modalities: tuple[str, ...]
    mean: float
    std: float


@dataclass(frozen=True)
class Inspection:
    """The tables of `sidelight inspect`."""

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def to_text(self, width: int = 100) -> str:
        """Tables for a terminal."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=width, force_terminal=False)
        for table in _tables(self):
            console.print(table)
        for remark in self.remarks:
            console.print(f"! {remark}", markup=False, highlight=False)
        return str(console.file.getvalue())  # type: ignore[attr-defined]


def inspect(dataset: Dataset, strength: bool = True, folds: int = 5, seed: int = 0) -> Inspection:
    """Counts, shapes, gaps, balance, and (unless strength=False) how well each modality alone and all together predict.

    The score comes from a linear model on features or window statistics, standardised, cross-validated with disjoint
    groups; it shows how far apart the modalities are and is no goal.
    """
    labelled = dataset.labelled
    classes: dict[str, int] = {}
    targets: dict[str, dict[str, float]] = {}
    if dataset.task == "classification":
        counts = np.bincount(dataset.target[labelled], minlength=len(dataset.labels))
        classes = dict(zip(dataset.labels, counts.tolist()))
    else:
        targets = {name: _range(dataset.target[:, k]) for k, name in enumerate(dataset.labels)}
    metric = "accuracy" if dataset.task == "classification" else "ccc"
    chance = max(classes.values()) / max(int(labelled.sum()), 1) if classes else 0.0
    strengths, remarks = _strengths(dataset, folds, seed) if strength else ((), [])
    return Inspection(
        name=dataset.name,
        rows=len(dataset),
        unlabelled=int((~labelled).sum()),
        task=dataset.task,
        modalities=tuple(_modality(dataset, m) for m in dataset.modalities),
        groups={} if dataset.group is None else _count(dataset.group),
        split={} if dataset.split is None else _count(dataset.split),
        classes=classes,
        targets=targets,
        metric=metric,
        chance=chance,
        strengths=strengths,
        remarks=(*_remarks(dataset, classes), *remarks),
    )


def _count(values: NDArray) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist()))


def _range(values: NDArray) -> dict[str, float]:
    v = values[np.isfinite(values)]
    if not len(v):
        return {"rows": 0.0}
    return {
        "rows": float(len(v)),
        "min": float(v.min()),
        "mean": float(v.mean()),
        "max": float(v.max()),
        "std": float(v.std()),
    }


def _modality(dataset: Dataset, m: str) -> ModalityInfo:
    x, present = dataset.inputs[m], dataset.present[m]
    here = x[present]
    flat = here.reshape(-1, here.shape[-1])
    length = dataset.lengths.get(m)
    lengths = None
    if length is not None:
        kept = length[present]
        lengths = (int(kept.min()), int(np.median(kept)), int(kept.max()))
    role = next((k for k in ("available", "privileged") if m in dataset.question.get(k, [])), "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of nothing but NaN
        low, high = np.nanmin(flat, 0), np.nanmax(flat, 0)
        return ModalityInfo(
            name=m,
            role=role,
            shape=dataset.shape(m),
            missing=int((~present).sum()),
            nan=int(np.isnan(here).sum()),
            lengths=lengths,
            minimum=float(np.nanmin(low)),
            maximum=float(np.nanmax(high)),
            constant=int((~(high > low)).sum()),
        )


def _remarks(dataset: Dataset, classes: dict[str, int]) -> list[str]:
    out = []
    if dataset.group is None:
        out.append("no groups: if several rows come from one person or session, say so, or scores will be too good")
    elif len(set(dataset.group.tolist())) == len(dataset):
        out.append("every row is its own group")
    for name, n in classes.items():
        if n == 0:
            out.append(f"class {name!r} has no row")
    for m in dataset.modalities:
        info = _modality(dataset, m)
        if info.constant:
            out.append(f"{m}: {info.constant} of {info.shape[-1]} columns are constant and will be ignored")
        if dataset.task == "classification" and m in dataset.lengths:
            out.append(f"{m}: rows differ in length; check that length does not give the class away")
    return out


def features(dataset: Dataset, m: str) -> NDArray:
    """(N, D) float: vectors as they are, signals as window statistics; NaN where a value or the row is missing."""
    x = dataset.inputs[m]
    if x.ndim == 3:
        import torch

        from sidelight.data.statistics import window_statistics

        length = dataset.lengths.get(m)
        chunks = [
            window_statistics(
                torch.from_numpy(np.nan_to_num(x[i : i + 4096])),
                None if length is None else torch.from_numpy(length[i : i + 4096]),
            )
            for i in range(0, len(x), 4096)
        ]
        x = torch.cat(chunks).numpy()
    return np.where(dataset.present[m][:, None], x, np.float32(np.nan))


def _strengths(dataset: Dataset, folds: int, seed: int) -> tuple[tuple[Strength, ...], list[str]]:
    """Score of each modality alone and of all; a remark instead where the data allow no such score."""
    from sidelight.protocols import split

    units = np.arange(len(dataset)) if dataset.group is None else dataset.group
    n_units = len(np.unique(units[dataset.labelled]))
    try:
        parts = split(
            dataset, "random" if dataset.group is None else "group-kfold", max(min(folds, n_units), 2), 0.25, seed
        )
    except SidelightError as e:
        return (), [f"no strengths: {e}"]
    blocks = {m: features(dataset, m) for m in dataset.modalities}
    out = []
    for names in [*((m,) for m in blocks), *([tuple(blocks)] if len(blocks) > 1 else [])]:
        x = np.concatenate([blocks[m] for m in names], 1)
        scores = [_score(dataset, x, np.union1d(f.train, f.select), f.test, seed) for f in parts]
        out.append(Strength(tuple(names), float(np.mean(scores)), float(np.std(scores))))
    return tuple(out), []


def _score(dataset: Dataset, x: NDArray, train: NDArray, test: NDArray, seed: int) -> float:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sidelight.metrics import ccc

    train = train[dataset.labelled[train]]
    if len(train) > STRENGTH_ROWS:
        train = np.random.default_rng(seed).choice(train, STRENGTH_ROWS, replace=False)
    prepare = (SimpleImputer(keep_empty_features=True), StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a linear model that has not fully converged is good enough here
        if dataset.task == "classification":
            model = make_pipeline(*prepare, LogisticRegression(C=0.1, max_iter=100, random_state=seed))
            model.fit(x[train], dataset.target[train])
            return float(np.mean(model.predict(x[test]) == dataset.target[test]))
        values = []
        for k in range(dataset.target.shape[1]):
            y = dataset.target[:, k]
            rows, scored = train[np.isfinite(y[train])], test[np.isfinite(y[test])]
            if len(rows) > 1 and len(scored) > 1:
                model = make_pipeline(*prepare, Ridge(alpha=10.0)).fit(x[rows], y[rows])
                values.append(ccc(model.predict(x[scored]), y[scored]))
        return float(np.mean(values)) if values else float("nan")


def _tables(found: Inspection) -> list[Any]:
    """The same as rich tables."""
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for i, c in enumerate(columns):
            made.add_column(c, justify="left" if i == 0 else "right")
        return made

    head = f"{found.name}: {found.rows} rows ({found.unlabelled} unlabelled), {found.task}"
    first = table(head, "modality", "role", "row shape", "missing", "NaN", "lengths", "min", "max")
    for m in found.modalities:
        shape = " × ".join(map(str, m.shape))
        lengths = "–".join(map(str, m.lengths)) if m.lengths else ""
        cells = (m.role, shape, str(m.missing), str(m.nan), lengths, f"{m.minimum:.4g}", f"{m.maximum:.4g}")
        first.add_row(m.name, *cells)
    out = [first]
    if found.classes:
        classes = table("classes", "class", "rows", "share")
        total = max(sum(found.classes.values()), 1)
        for name, n in found.classes.items():
            classes.add_row(name, str(n), f"{n / total:.1%}")
        out.append(classes)
    if found.targets:
        targets = table("targets", "target", "rows", "min", "mean", "max", "std")
        for name, r in found.targets.items():
            spread = (f"{r[k]:.4g}" if k in r else "" for k in ("min", "mean", "max", "std"))
            targets.add_row(name, f"{r['rows']:.0f}", *spread)
        out.append(targets)
    if found.groups:
        sizes = np.array(list(found.groups.values()))
        groups = table("groups", "groups", "fewest rows", "median", "most rows")
        groups.add_row(str(len(sizes)), str(sizes.min()), f"{np.median(sizes):g}", str(sizes.max()))
        out.append(groups)
    if found.split:
        split = table("official split", *found.split)
        split.add_row(*map(str, found.split.values()))
        out.append(split)
    if found.strengths:
        how = "disjoint groups" if found.groups else "random folds"
        strengths = table(f"strength of a linear model ({found.metric}, {how})", "modalities", "mean", "std of folds")
        for s in found.strengths:
            label = "all" if len(s.modalities) > 1 else s.modalities[0]
            strengths.add_row(label, f"{s.mean:.3f}", f"{s.std:.3f}")
        strengths.add_row("chance", f"{found.chance:.3f}", "")
        out.append(strengths)
    return out
