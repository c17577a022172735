"""What the classifier and the regressor share: settings, rows, training and the inputs of the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data

from sidelight.config import Config, load_config
from sidelight.data import Dataset
from sidelight.data.rows import Rows
from sidelight.errors import ConfigError, DataError, listed, shown, unknown
from sidelight.estimators.columns import (
    Columns,
    check_filled,
    choose_modalities,
    is_frame,
    name_columns,
    read_rows,
    to_table,
)
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.pool import run_jobs
from sidelight.experiment.progress import Progress
from sidelight.experiment.resolve import resolve
from sidelight.export import Student, load_student
from sidelight.protocols import WHOLE

SETTINGS = (
    "network", "training", "augment", "teacher", "student", "transport", "balance", "options", "select", "impute",
    "metric",
)  # fmt: skip
"""What `settings` may hold; the rest of a `Config` belongs to a comparison."""
BASELINE = "baseline"


class PrivilegedEstimator(BaseEstimator):
    """Trains a teacher on every column and a student that reads the available ones; see its two subclasses."""

    _task: ClassVar[str]

    def __init__(
        self,
        available: Any = None,
        privileged: Any = None,
        method: str = "auto",
        *,
        epochs: int = 50,
        seed: int = 0,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
    ):
        self.available = available
        self.privileged = privileged
        self.method = method
        self.epochs = epochs
        self.seed = seed
        self.device = device
        self.settings = settings

    def _check(self, X: Any, y: Any, dtype: str | None) -> NDArray:
        """Check `y` and count the columns of `X`, as scikit-learn does.

        Args:
            X, y: as in `fit`.
            dtype: "numeric", or None for any.

        Returns:
            (N,) or (N, K) values without gaps.
        """
        if y is None:
            raise DataError("fit requires y to be passed, but the target y is None.")
        if isinstance(X, Mapping):  # has no columns to count; those of an earlier fit are forgotten
            for counted in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(counted, None)
        else:
            validate_data(self, X, skip_check_array=True)
        try:
            values = np.asarray(check_array(y, dtype=dtype, ensure_2d=False, input_name="y"))
        except ValueError as error:
            if "NaN" not in str(error).splitlines()[0]:
                raise
            raise DataError(f"{error} Rows without a label belong into fit(…, X_unlabelled=…).") from None
        if len(values) < 2:
            raise DataError("X has 1 sample; fit needs rows that train and others that choose the epoch.")
        return values

    def _fit(self, X: Any, y: NDArray, names: tuple[str, ...], groups: Any, X_unlabelled: Any) -> None:
        """Train, and store the student and the columns that it reads.

        Args:
            X, groups, X_unlabelled: as in `fit`.
            y: (N,) class codes or (N, K) values.
            names: names of the classes or values.
        """
        config = self._read_settings()
        table = to_table(X)
        self._available, self._privileged = choose_modalities(table, self.available, self.privileged)
        self._kind, self._names = _kind(table), name_columns(table)
        modalities = {**self._available, **self._privileged}
        self._fills_gaps = config.impute == "mean" or config.student.drop > 0
        if not self._fills_gaps:
            check_filled(table, self._available)
        dataset = self._build_dataset(table, modalities, y, names, groups, X_unlabelled, config.impute)
        config = replace(config, available=list(self._available), privileged=list(self._privileged))
        self.student_ = self._train(config, dataset)

    def _read_settings(self) -> Config:
        """The settings of the training; ConfigError for one that is unknown or not for an estimator."""
        given = {} if self.settings is None else self.settings
        if not isinstance(given, Mapping):
            raise ConfigError(f"settings: expected a dict, not {shown(given)}.")
        every = {f.name for f in fields(Config)}
        for name in given:
            first = str(name).partition(".")[0]
            if first in every and first not in SETTINGS:
                raise ConfigError(
                    f"settings: {first!r} is not for an estimator, which takes: {listed(SETTINGS)}. Give method, "
                    "epochs, seed, device and the columns as parameters."
                )
            if first not in SETTINGS:
                raise ConfigError(f"settings: {unknown('setting', name, SETTINGS)}")
        return load_config(
            {
                **given,
                "data": "(in memory)",
                "task": self._task,
                "seed": self.seed,
                "training.epochs": self.epochs,
                "training.device": self.device,
                "methods": ["auto" if self.method == BASELINE else self.method],
                "placebo": ["none"],
                "reference": ["none"],
                "max_failures": 0,
            }
        )

    def _build_dataset(
        self,
        table: Any,
        modalities: Columns,
        y: NDArray,
        names: tuple[str, ...],
        groups: Any,
        X_unlabelled: Any,
        impute: str,
    ) -> Dataset:
        """All rows as one data set, the unlabelled ones last."""
        parts = [read_rows(table, modalities, impute)]
        if X_unlabelled is not None:
            more = to_table(X_unlabelled, "X_unlabelled")
            if _kind(more) != self._kind:
                raise DataError(f"X_unlabelled is {_kind(more)} and X {self._kind}; give both in one form.")
            for c in (c for named in modalities.values() for c in named):
                if c not in name_columns(more):
                    raise DataError(f"X_unlabelled: {unknown('column', c, name_columns(more))}")
            parts.append(read_rows(more, modalities, impute, "X_unlabelled"))
        # Rows that happen to be of one length are still signals of variable length beside those of another.
        for m in {m for part in parts for m in part.lengths}:
            for part in parts:
                part.lengths.setdefault(m, np.full(len(part), part.inputs[m].shape[1]))
        n = [len(part) for part in parts]
        check_consistent_length(y, np.empty(n[0]))
        blank: Any = -1 if y.ndim == 1 else np.nan
        target = np.concatenate([y, *(np.full((k, *y.shape[1:]), blank, y.dtype) for k in n[1:])])
        group = None
        if groups is not None:
            group = np.asarray(groups).astype(str)
            if group.shape != (n[0],):
                raise DataError(f"groups has shape {group.shape}; expected one group for each of the {n[0]} rows of X.")
            # Nothing is known of the people of unlabelled rows, which choose no epoch and only train.
            group = np.concatenate([group, *([f"(unlabelled row {i})" for i in range(k)] for k in n[1:])])
        return Dataset(
            name="X",
            inputs={m: _stack(parts, m) for m in modalities},
            present={m: np.concatenate([part.present[m] for part in parts]) for m in modalities},
            lengths={
                m: np.concatenate([part.lengths[m] for part in parts]) for m in parts[0].lengths if m in modalities
            },
            target=target,
            labelled=np.arange(sum(n)) < n[0],
            task=self._task,
            class_names=names,
            group=group,
            impute=impute,
            columns={m: tuple(c) for m, c in modalities.items() if is_frame(table)},
        )

    def _train(self, config: Config, dataset: Dataset) -> Student:
        """Train teacher and student in a temporary folder, which is gone afterwards."""
        protocol = "random" if dataset.group is None else "group-kfold"
        config = resolve(replace(config, protocol=protocol), dataset)  # type: ignore[arg-type]
        job = Job(BASELINE if self.method == BASELINE else config.methods[0], "", 1.0, WHOLE, config.seed)
        with TemporaryDirectory(prefix="sidelight-") as place:
            folder = Path(place)
            make_models = partial(FoldModels, config, dataset, folder, {})
            run_jobs(make_models, folder, [job], 1, Progress(folder, 1, quiet=True), {})
            student = load_student(folder / "jobs" / job.id / "model.safetensors")
        # Its "metrics" are those of the rows that chose the epoch.
        student.meta = {name: value for name, value in student.meta.items() if name not in ("fold", "metrics")}
        return student

    def _read(self, X: Any) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """The available modalities of new rows, and their lengths; privileged columns are not read."""
        check_is_fitted(self, "student_")
        table = to_table(X)
        if _kind(table) != self._kind:
            raise DataError(f"X is {_kind(table)}, but fit was given {self._kind}; give both in one form.")
        columns = self._find_available(X, table)
        if not self._fills_gaps:
            check_filled(table, columns)
        rows = read_rows(table, columns, "mean")
        for m, here in rows.present.items():
            if not here.all():  # the student decides whether it can do without the modality
                rows.inputs[m] = np.where(here.reshape(-1, *[1] * (rows.inputs[m].ndim - 1)), rows.inputs[m], np.nan)
        return rows.inputs, rows.lengths

    def _find_available(self, X: Any, table: Any) -> Columns:
        """The columns of the available modalities in new rows, whether or not the privileged ones are there."""
        columns = name_columns(table)
        needed = [c for named in self._available.values() for c in named]
        if self._kind == "an array" and len(columns) == len(needed) < len(self._names):
            place = {c: i for i, c in enumerate(sorted(needed))}
            return {m: [place[c] for c in named] for m, named in self._available.items()}
        if self._kind == "an array" or (self._kind == "a DataFrame" and set(columns) == set(self._names)):
            validate_data(self, X, skip_check_array=True, reset=False)
        for c in needed:
            if c not in columns:
                raise DataError(f"predict needs the available column {c!r}: {unknown('column', c, columns)}")
        return self._available


def _stack(parts: Sequence[Rows], m: str) -> NDArray:
    """The rows of a modality, labelled ones first; signals of variable length are padded alike."""
    arrays = [part.inputs[m] for part in parts]
    if m in parts[0].lengths:
        longest = max(x.shape[1] for x in arrays)
        arrays = [np.pad(x, [(0, 0), (0, longest - x.shape[1]), (0, 0)]) for x in arrays]
    if len({x.shape[1:] for x in arrays}) > 1:
        raise DataError(
            f"X_unlabelled: the rows of {m!r} have shape {arrays[1].shape[1:]}, but those of X {arrays[0].shape[1:]}."
        )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def _kind(table: Any) -> str:
    """What `to_table` returned, in words."""
    return "a dict" if isinstance(table, Mapping) else "a DataFrame" if is_frame(table) else "an array"
