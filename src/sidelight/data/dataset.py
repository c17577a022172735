"""Rows as arrays, paired over modalities: what every reader returns and everything else is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight.config.renamed import current_names
from sidelight.data.lengths import far_longer, typical_length
from sidelight.data.rows import Rows, float32, in_memory, is_lazy, name_row
from sidelight.data.target_checks import check_target
from sidelight.data.target_values import hidden, pixel_counts
from sidelight.errors import ConfigError, DataError, unknown
from sidelight.utils.images import compact

if TYPE_CHECKING:
    from sidelight.data.batch import Batch
    from sidelight.data.preprocess import Preprocessor

SPLITS = ("train", "select", "test")


@dataclass(repr=False)
class Dataset:
    """N rows of several modalities with one target; checked when it is made.

    inputs:   modality -> (N, D) vectors or (N, T, C) signals, float32, or (N, C, H, W) images or (N, C, T, H, W) clips,
              uint8, float16 or float32. Rows where the modality is absent hold zeros. `LazyRows` stay files.
    target:   (N,) int64 class codes, (N, K) float32, or (N, H, W) class codes of pixels (int8 or int16), −1 where one
              is ignored; `LabelMaps` stay files. Rows without a label hold −1 or NaN, whatever was given.
    labelled: (N,) bool.
    task:     one of `TASKS`.
    class_names: names of the classes, or of the targets of a regression.
    present:  modality -> (N,) bool; modalities that are left out are present everywhere.
    lengths:  modality -> (N,) valid time steps, only for variable-length signals, which are padded with zeros.
    group:    (N,) str, whose rows these are; None: nobody's, rows are independent.
    split:    (N,) "train", "select" or "test": the official split, if there is one.
    time:     (N,) finite numbers, when each row was, by which blocks are cut; None: nobody said.
    ids:      (N,) str, unique; left out: the row numbers.
    default_modalities: the data set's own defaults: available, privileged, label_fraction.
    about:    citation, licence, source, description; target and group: what reports call them.
    columns:  modality -> names of its columns, where the source had names: a student looks for them in new rows.
    impute:   "no" (NaN is an error) or "mean" (NaN is kept; the Preprocessor puts the train rows' mean there).
    standard: modality -> what its values are standardised by where that is not for the experiment to say: "train" (the
              train rows, all groups alike), "none", or a name of `sidelight.video.STATISTICS`.
    schema:   modality -> what recordings its rows were made of (`RecordingType.schema`), which new rows have to share.
    skipped:  rows that were dropped since a recording cannot be read: their `id`, `modality` and `reason`.
    units:    modality -> the unit of its values, e.g. "m/s2", where it is known. The student carries it.
    rates:    modality -> samples a second (Hz), where that is known. The student carries it.
    longest:  modality -> how many time steps of a signal's rows are read; longer rows are cut after so many.

    Raises DataError, which names modality, row and column, where the arrays are not that.
    """

    name: str
    inputs: dict[str, Any]
    target: Any
    labelled: NDArray
    task: str
    class_names: tuple[str, ...]
    present: dict[str, NDArray] = field(default_factory=dict)
    lengths: dict[str, NDArray] = field(default_factory=dict)
    group: NDArray | None = None
    split: NDArray | None = None
    ids: NDArray = field(default=None)  # type: ignore[arg-type]
    default_modalities: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    impute: str = "no"
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    standard: dict[str, str] = field(default_factory=dict)
    schema: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: tuple[dict[str, str], ...] = ()
    time: NDArray | None = None
    units: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.target)
        self.class_names = tuple(str(name) for name in self.class_names)
        self.default_modalities = current_names(self.default_modalities)
        self.ids = np.arange(n).astype(str) if self.ids is None else np.asarray(self.ids).astype(str)
        self.group = None if self.group is None else np.asarray(self.group).astype(str)
        self.split = None if self.split is None else np.asarray(self.split).astype(str)
        self.time = None if self.time is None else np.asarray(self.time, np.float64)
        self.inputs = {
            m: x
            if is_lazy(x)
            else compact(np.asarray(x))
            if np.ndim(x) >= 4
            else np.ascontiguousarray(float32(np.asarray(x), f"{self.name}: modality {m!r}"))
            for m, x in self.inputs.items()
        }
        for kind in ("present", "lengths", "columns", "standard", "units", "rates", "longest"):
            for m in getattr(self, kind):
                if m not in self.inputs:
                    raise DataError(f"{kind}: {unknown('modality', m, self.inputs)}")
        self.present = {
            m: np.asarray(self.present[m], bool) if m in self.present else np.ones(n, bool) for m in self.inputs
        }
        self.lengths = {m: np.asarray(x, np.int64) for m, x in self.lengths.items()}
        if self.task == "segmentation" and not is_lazy(self.target):
            self.target = np.asarray(self.target)
            self.target = self.target.astype(np.int32) if self.target.dtype.kind == "u" else self.target
        elif self.task == "classification":
            self.target = np.asarray(self.target, np.int64)
        elif self.task != "segmentation":
            self.target = float32(np.asarray(self.target), f"{self.name}: the target")
            self.target = self.target.reshape(n, -1) if n else self.target.reshape(0, len(self.class_names))
        self.labelled = np.asarray(self.labelled, bool)
        for m, steps in self.longest.items():
            self._cut(m, steps)
        self.check()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{m} {' × '.join(map(str, self.shape(m)))}" for m in self.modalities)
        return f"Dataset({self.name!r}, {len(self)} rows, {self.task}: {', '.join(self.class_names)}; {shapes})"

    def __len__(self) -> int:
        return len(self.target)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.inputs)

    def shape(self, modality: str) -> tuple[int, ...]:
        """One row's shape, (D,), (T, C), (C, H, W) or (C, T, H, W)."""
        return tuple(self.inputs[modality].shape[1:])

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of a target with a class per pixel, else ()."""
        return tuple(self.target.shape[1:]) if self.target.ndim == 3 else ()

    def row(self, i: int) -> str:
        """How errors name a row."""
        return name_row(i, self.ids)

    def check(self) -> None:
        """Everything that a Dataset promises; raises DataError naming the first thing that is not so."""
        if self.impute not in ("no", "mean"):
            raise ConfigError(unknown("value of impute", self.impute, ("no", "mean")))
        if not len(self):
            raise DataError(f"{self.name}: there are no rows")
        if not self.inputs:
            raise DataError(f"{self.name}: there are no modalities; give at least one array of features")
        self._check_rows()
        self.target = check_target(self.name, self.task, self.target, self.labelled, self.class_names, self.ids)
        if self.size:
            self._check_images()
        for m, names in self.columns.items():
            if self.inputs[m].ndim != 2 or len(names) != self.inputs[m].shape[1]:
                raise DataError(f"{self.name}: {len(names)} column names for rows of {m!r} of shape {self.shape(m)}")
        for m, present in self.present.items():
            if not present.any():
                raise DataError(f"{self.name}: modality {m!r} is absent from every row; leave it out of the modalities")
        rows = Rows(self.name, self.inputs, self.present, self.lengths, self.group, self.ids)
        rows.check(self.impute)
        self.inputs, self.lengths = rows.inputs, rows.lengths

    def _cut(self, m: str, steps: int) -> None:
        """The first `steps` time steps of every row of a signal."""
        if steps < 1:
            raise ConfigError(f"longest: {m!r} is to have {steps} time steps; expected at least 1")
        if self.inputs[m].ndim != 3:
            raise ConfigError(f"longest: rows of {m!r} have shape {self.shape(m)}; only signals (T, C) have time steps")
        if self.inputs[m].shape[1] > steps:
            self.inputs[m] = np.ascontiguousarray(self.inputs[m][:, :steps])
            if m in self.lengths:
                self.lengths[m] = np.minimum(self.lengths[m], steps)

    def _check_rows(self) -> None:
        n = len(self)
        named = {"labelled": self.labelled, "group": self.group, "split": self.split, "ids": self.ids}
        named |= {"time": self.time}
        named |= {f"modality {m!r}": x for m, x in self.inputs.items()}
        named |= {f"present[{m!r}]": x for m, x in self.present.items()}
        named |= {f"lengths[{m!r}]": x for m, x in self.lengths.items()}
        for what, x in named.items():
            if x is None:
                continue
            if x.ndim != 1 and not what.startswith("modality"):
                raise DataError(f"{self.name}: {what} has shape {x.shape}; expected ({n},), one value per row")
            if len(x) != n:
                raise DataError(f"{self.name}: {what} has {len(x)} rows, but the target has {n}; rows must be paired")
        if self.time is not None:
            for i in np.flatnonzero(~np.isfinite(self.time)):
                raise DataError(f"{self.name}: the time of {self.row(int(i))} is {self.time[i]}; expected a number")
        values, counts = np.unique(self.ids, return_counts=True)
        if len(values) != n:
            worst = int(np.argmax(counts > 1))
            rows = np.flatnonzero(self.ids == values[worst])[:4].tolist()
            raise DataError(
                f"{self.name}: id {str(values[worst])!r} occurs {counts[worst]} times (rows {rows}); ids must be unique"
            )
        if self.split is not None:
            for i in np.flatnonzero(~np.isin(self.split, SPLITS)):
                raise DataError(f"{self.name}: {self.row(int(i))}: {unknown('split', self.split[i], SPLITS)}")

    def _check_images(self) -> None:
        """Images have as many pixels as a target with a class per pixel."""
        for m, x in self.inputs.items():
            if x.ndim == 4 and x.shape[2:] != self.size:
                raise DataError(
                    f"{self.name}: images of {m!r} are {x.shape[2]} × {x.shape[3]}, but the target has "
                    f"{self.size[0]} × {self.size[1]} pixels; images are not resized: bring them to one size first"
                )

    def classes(self, rows: NDArray) -> set[int]:
        """The class codes that occur in these rows; of a regression none."""
        if self.task == "regression":
            return set()
        found = np.flatnonzero(pixel_counts(self.target[rows]).any(0)) if self.size else np.unique(self.target[rows])
        return {int(c) for c in found} - {-1}

    def class_counts(self) -> NDArray:
        """(C,) how many labelled rows, or of a segmentation pixels of them, are of each class."""
        known = self.target[self.labelled]
        if not self.size:
            return np.bincount(known, minlength=len(self.class_names))
        counts = pixel_counts(known).sum(0)
        return np.pad(counts, (0, len(self.class_names) - len(counts)))

    def select(self, modalities: Sequence[str]) -> Dataset:
        """The same rows with only these modalities; raises ConfigError for a name that does not exist."""
        for m in modalities:
            if m not in self.inputs:
                raise ConfigError(unknown("modality", m, self.inputs))
        names = set(modalities)
        question = {
            k: [m for m in v if m in names] if k != "label_fraction" else v for k, v in self.default_modalities.items()
        }
        return replace(
            self,
            inputs={m: self.inputs[m] for m in modalities},
            present={m: self.present[m] for m in modalities},
            lengths={m: self.lengths[m] for m in modalities if m in self.lengths},
            columns={m: self.columns[m] for m in modalities if m in self.columns},
            standard={m: self.standard[m] for m in modalities if m in self.standard},
            units={m: self.units[m] for m in modalities if m in self.units},
            rates={m: self.rates[m] for m in modalities if m in self.rates},
            longest={m: self.longest[m] for m in modalities if m in self.longest},
            default_modalities=question,
        )

    @property
    def lazy(self) -> tuple[str, ...]:
        """The modalities whose rows are still files."""
        return tuple(m for m, x in self.inputs.items() if is_lazy(x))

    def sample(self, count: int, seed: int = 0) -> Dataset:
        """`count` rows drawn without replacement, in their order, and of every modality at least one; all decoded."""
        drawn = np.random.default_rng(seed).permutation(len(self))[:count]
        rows = np.union1d(drawn, [np.flatnonzero(here)[0] for here in self.present.values()])

        def of(arrays: dict[str, Any]) -> dict[str, Any]:
            return {m: in_memory(x[rows]) for m, x in arrays.items()}

        return replace(
            self,
            inputs=of(self.inputs),
            target=in_memory(self.target[rows]),
            labelled=self.labelled[rows],
            present=of(self.present),
            lengths=of(self.lengths),
            group=None if self.group is None else self.group[rows],
            split=None if self.split is None else self.split[rows],
            time=None if self.time is None else self.time[rows],
            ids=self.ids[rows],
        )

    def resolve(
        self, available: Iterable[str] = (), privileged: Iterable[str] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The two lists of modalities, an empty one taken from the set's own question.

        Raises ConfigError: nothing privileged, nothing available, a name twice or in both lists, a misspelt name.
        """
        found = []
        for kind, names in (("available", list(available)), ("privileged", list(privileged))):
            for m in names:
                if m not in self.inputs:
                    raise ConfigError(f"{kind}: {unknown('modality', m, self.inputs)}")
                if names.count(m) > 1:
                    raise ConfigError(f"{kind}: modality {m!r} is given {names.count(m)} times")
            found.append(names or list(self.default_modalities.get(kind, [])))
        for kind, names in zip(("available", "privileged"), found):
            if not names:
                meaning = "remain at deployment" if kind == "available" else "teach in training only"
                raise ConfigError(
                    f"no {kind} modality: name at least one that will {meaning}. "
                    f"{self.name} has: {', '.join(self.inputs)}"
                )
        both = [m for m in found[0] if m in found[1]]
        if both:
            raise ConfigError(f"{both[0]!r} is in both lists; a modality is either available or privileged")
        return tuple(found[0]), tuple(found[1])

    def batch(
        self,
        preprocessor: Preprocessor | None = None,
        modalities: Iterable[str] | None = None,
        labelled: NDArray | None = None,
    ) -> Batch:
        """All rows as tensors, preprocessed if asked; `index` is the row number.

        Vectors and signals are float32. Images stay as they are stored: `Batch.materialize` makes floating point of them.

        modalities: default those of the preprocessor, or all.
        labelled: (N,) bool, which rows keep their label (a part of those that have one). The others' targets are
        overwritten, so that nothing can read them.
        """
        import torch

        from sidelight.data.batch import Batch
        from sidelight.data.overflow import check_read

        if modalities is None:
            modalities = self.inputs if preprocessor is None else preprocessor.modalities
        names = list(modalities)
        view = self.select(names)
        keep = self.labelled if labelled is None else self.labelled & np.asarray(labelled, bool)
        target_array = hidden(self.target, keep)
        maps = target_array if is_lazy(target_array) else None
        target = torch.from_numpy(target_array) if maps is None else torch.zeros(len(self), 0, 0, dtype=torch.int16)
        files = {m: x for m, x in view.inputs.items() if is_lazy(x)}
        inputs = {m: torch.from_numpy(x) for m, x in view.inputs.items() if m not in files}
        images = {m: x for m, x in inputs.items() if x.dim() >= 4}
        pixels = {}
        present = {m: torch.from_numpy(x) for m, x in view.present.items()}
        lengths = {m: torch.from_numpy(x) for m, x in view.lengths.items()}
        if preprocessor is not None:
            with torch.no_grad():
                stored = images | files
                pixels = {m: preprocessor.pixels(m, x, present[m], self.group) for m, x in stored.items()}
                others = {m: x for m, x in inputs.items() if m not in images}
                inputs |= preprocessor(others, lengths, present, self.group)
            for m, raw in others.items():
                check_read(f"{self.name}: modality {m!r}", inputs[m], raw, self.ids)
            lengths = {m: x for m, x in lengths.items() if inputs[m].dim() == 3}
        uneven = {m: typical_length(self.lengths[m]) for m in lengths if far_longer(self.lengths[m])}
        return Batch(
            inputs,
            target,
            torch.from_numpy(keep),
            present,
            torch.arange(len(self)),
            lengths,
            pixels,
            files,
            maps,
            uneven,
        )
