"""`Dataset`: rows of several modalities with one target, as every reader returns them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sidelight.config.renamed import current_names
from sidelight.data.by_modality import index_rows, map_values
from sidelight.data.dataset_checks import (
    check_columns,
    check_ids,
    check_image_sizes,
    check_longest,
    check_row_counts,
    check_split,
    check_times,
    convert_input,
    convert_target,
    resolve_modalities,
)
from sidelight.data.rows import Rows, is_lazy, name_row, number_rows, read_into_memory, to_text_array
from sidelight.data.target_checks import check_target
from sidelight.data.target_values import count_pixels, hide_target
from sidelight.errors import ConfigError, DataError, unknown

if TYPE_CHECKING:
    from sidelight.data.batch import Batch
    from sidelight.data.preprocess import Preprocessor
    from sidelight.data.stored_rows import StoredRows

T = TypeVar("T")


@dataclass(repr=False)
class Dataset:
    """N rows of several modalities with one target; checked when it is made.

    Arrays that have the dtype below are not copied: do not change them afterwards.

    Args:
        name: name of the data set, in errors and reports.
        inputs: modality -> (N, D) vectors or (N, T, C) signals in float32, (N, C, H, W) images or (N, C, T, H, W)
            clips in uint8, float16 or float32, or `LazyRows`, which stay files. Rows that lack the modality hold
            zeros.
        target: (N,) int64 class codes, (N, K) float32 values, or (N, H, W) class codes of pixels (int8 or int16) with
            −1 for ignored pixels; `LabelMaps` stay files. Rows without a label hold −1 or NaN, whatever was given.
        labelled: (N,) bool.
        task: one of `TARGET_KINDS`.
        class_names: names of the classes, or of a regression's K targets.
        present: modality -> (N,) bool. A modality without an entry is present in every row.
        lengths: modality -> (N,) valid time steps, for variable-length signals only, which are padded with zeros.
        group: (N,) str, the person or session of each row; None: rows are independent.
        split: (N,) "train", "select" or "test", the official split; None: there is none.
        ids: (N,) unique str; by default the row numbers.
        default_modalities: the data set's own defaults: available, privileged, label_fraction.
        about: citation, licence, source, description; target and group: their names in reports.
        impute: "no": NaN is an error. "mean": NaN is kept, and the `Preprocessor` replaces it by the train rows' mean.
        columns: modality -> names of a vector's columns, where the source names them. A student looks for them in new
            rows.
        standard: modality -> fixed standardization, for those that an experiment does not choose: "train" (train rows,
            all groups alike), "none", or a name in `sidelight.video.STATISTICS`.
        schema: modality -> `RecordingType.schema` of its recordings, which new rows have to share.
        skipped: `id`, `modality` and `reason` of rows that were dropped because a recording is unreadable.
        time: (N,) finite time of each row, by which blocks are cut; None: unknown.
        units: modality -> unit of its values, such as "m/s2", where known. The student carries it.
        rates: modality -> sampling rate in Hz, where known. The student carries it.
        longest: modality -> time steps to keep; longer rows of a signal are cut.
        recipes: modality -> what `load(modalities=…)` needs to find it in new rows, such as {"of": "image", "pick":
            [3]}, where its name alone does not say it. The student carries it.
        recordings: modality -> `RecordingType.to_config` of its files, one for each row. The student carries it, and
            reads new files with it.

    Raises:
        DataError: names modality, row and column of the first array that does not fit this description.
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
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    recordings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.target)
        self.class_names = tuple(map(str, self.class_names))
        self.default_modalities = current_names(self.default_modalities)
        self.ids = number_rows(n) if self.ids is None else to_text_array(self.ids)
        self.group = None if self.group is None else to_text_array(self.group)
        self.split = None if self.split is None else to_text_array(self.split)
        self.time = None if self.time is None else np.asarray(self.time, np.float64)
        self.inputs = {m: convert_input(x, f"{self.name}: modality {m!r}") for m, x in self.inputs.items()}

        for attribute in ("present", "lengths", "columns", "standard", "units", "rates", "longest"):
            for m in getattr(self, attribute):
                if m not in self.inputs:
                    raise DataError(f"{attribute}: {unknown('modality', m, self.inputs)}")

        present = {}
        for m in self.inputs:
            present[m] = np.asarray(self.present[m], bool) if m in self.present else np.ones(n, bool)
        self.present = present
        self.lengths = {m: np.asarray(x, np.int64) for m, x in self.lengths.items()}
        self.labelled = np.asarray(self.labelled, bool)
        self.target = convert_target(self.target, self.task, f"{self.name}: the target", len(self.class_names))
        for m, steps in self.longest.items():
            self._truncate(m, steps)
        self.check()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{m} {' × '.join(map(str, self.shape(m)))}" for m in self.modalities)
        return f"Dataset({self.name!r}, {len(self)} rows, {self.task}: {', '.join(self.class_names)}; {shapes})"

    def __len__(self) -> int:
        return len(self.target)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, in order."""
        return tuple(self.inputs)

    @property
    def lazy(self) -> tuple[str, ...]:
        """The modalities whose rows are still files."""
        return tuple(m for m, x in self.inputs.items() if is_lazy(x))

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of a target with a class per pixel, else ()."""
        return tuple(self.target.shape[1:]) if self.target.ndim == 3 else ()

    def shape(self, modality: str) -> tuple[int, ...]:
        """The shape of one row: (D,), (T, C), (C, H, W) or (C, T, H, W)."""
        return tuple(self.inputs[modality].shape[1:])

    def sequence_preset(self, modality: str) -> str:
        """The spectrogram whose frames networks read in place of a modality's sound; "" where there is none."""
        from sidelight.signals.spectrogram import SEQUENCES

        name = self.schema.get(modality, {}).get("spectrogram", "")
        return name if name in SEQUENCES else ""

    def row(self, i: int) -> str:
        """The name of a row in errors."""
        return name_row(i, self.ids)

    def check(self) -> None:
        """Check every array; raises DataError or ConfigError naming the first fault."""
        if self.impute not in ("no", "mean"):
            raise ConfigError(unknown("value of impute", self.impute, ("no", "mean")))
        if not len(self):
            raise DataError(f"{self.name} has no rows")
        if not self.inputs:
            raise DataError(f"{self.name} has no modalities; give at least one array of features")

        per_row = {"labelled": self.labelled, "group": self.group, "split": self.split, "ids": self.ids}
        per_row["time"] = self.time
        for m in self.present:
            per_row[f"present[{m!r}]"] = self.present[m]
        for m in self.lengths:
            per_row[f"lengths[{m!r}]"] = self.lengths[m]
        check_row_counts(self.name, len(self), per_row, self.inputs)
        check_times(self.name, self.time, self.ids)
        check_ids(self.name, self.ids)
        check_split(self.name, self.split, self.ids)

        self.target = check_target(self.name, self.task, self.target, self.labelled, self.class_names, self.ids)
        if self.size:
            check_image_sizes(self.name, self.inputs, self.size)
        check_columns(self.name, self.columns, self.inputs)
        for m, present in self.present.items():
            if not present.any():
                raise DataError(f"{self.name}: modality {m!r} is absent from every row; leave it out of the modalities")

        # The features are checked, and padding and absent rows blanked, by the code that checks new rows.
        rows = Rows(self.name, self.inputs, self.present, self.lengths, self.group, self.ids, columns=self.columns)
        rows.check(self.impute)
        self.inputs, self.lengths = rows.inputs, rows.lengths

    def _truncate(self, m: str, steps: int) -> None:
        """Keep the first `steps` time steps of every row of a signal."""
        check_longest(m, steps, self.shape(m))
        if self.inputs[m].shape[1] > steps:
            self.inputs[m] = np.ascontiguousarray(self.inputs[m][:, :steps])
            if m in self.lengths:
                self.lengths[m] = np.minimum(self.lengths[m], steps)

    def classes(self, rows: NDArray) -> set[int]:
        """The class codes that occur in these row numbers; an empty set for a regression."""
        if self.task == "regression":
            return set()
        target = self.target[rows]
        codes = np.flatnonzero(count_pixels(target).any(0)) if self.size else np.unique(target)
        return set(map(int, codes)) - {-1}

    def class_counts(self) -> NDArray:
        """(C,) labelled rows of each class, or pixels of each class for a segmentation."""
        known = self.target[self.labelled]
        if not self.size:
            return np.bincount(known, minlength=len(self.class_names))
        counts = count_pixels(known).sum(0)
        return np.pad(counts, (0, len(self.class_names) - len(counts)))

    def select(self, modalities: Sequence[str]) -> Dataset:
        """The same rows with only these modalities, in this order; raises ConfigError for an unknown name."""
        for m in modalities:
            if m not in self.inputs:
                raise ConfigError(unknown("modality", m, self.inputs))

        def select(values: dict[str, T]) -> dict[str, T]:
            return {m: values[m] for m in modalities if m in values}

        defaults = dict(self.default_modalities)
        for role, value in self.default_modalities.items():
            if role != "label_fraction":
                defaults[role] = [m for m in value if m in modalities]
        return replace(
            self,
            inputs=select(self.inputs),
            present=select(self.present),
            lengths=select(self.lengths),
            columns=select(self.columns),
            standard=select(self.standard),
            units=select(self.units),
            rates=select(self.rates),
            longest=select(self.longest),
            recipes=select(self.recipes),
            default_modalities=defaults,
        )

    def sample(self, count: int, seed: int = 0) -> Dataset:
        """`count` random rows, decoded and in their order, plus a row of every modality that these all lack."""
        drawn = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.take(np.union1d(drawn, [np.flatnonzero(present)[0] for present in self.present.values()]))

    def take(self, rows: NDArray) -> Dataset:
        """The rows with these numbers, decoded."""
        return replace(
            self,
            inputs=map_values(read_into_memory, index_rows(self.inputs, rows)),
            target=read_into_memory(self.target[rows]),
            labelled=self.labelled[rows],
            present=index_rows(self.present, rows),
            lengths=index_rows(self.lengths, rows),
            group=None if self.group is None else self.group[rows],
            split=None if self.split is None else self.split[rows],
            time=None if self.time is None else self.time[rows],
            ids=self.ids[rows],
        )

    def resolve(
        self, available: Iterable[str] = (), privileged: Iterable[str] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(available, privileged) modalities; an empty list is taken from `default_modalities`.

        Raises ConfigError for an empty list, a misspelt name, and a name that occurs twice or in both lists.
        """
        return resolve_modalities(self.name, self.inputs, self.default_modalities, available, privileged)

    def batch(
        self,
        preprocessor: Preprocessor | None = None,
        modalities: Iterable[str] | None = None,
        labelled: NDArray | None = None,
        deferred: bool = False,
    ) -> Batch:
        """All rows as tensors, optionally preprocessed; `Batch.index` is the row number.

        Vectors and signals are float32. Images keep their stored dtype until `Batch.materialize`.

        Args:
            preprocessor: fitted on the train rows; None: raw values.
            modalities: by default those of the preprocessor, or all.
            labelled: (N,) bool, the rows that keep their label, among those that have one. All other targets are
                overwritten, so that nothing can read them.
            deferred: whether rows are gathered and preprocessed by `Batch.materialize`, so that no copy of them is
                made here; frames of sound and window statistics are computed here all the same. Same bits.

        Returns:
            A batch of all N rows.

        Raises:
            DataError: preprocessed values are not finite.
        """
        import torch

        from sidelight.data.batch import build_batch
        from sidelight.data.overflow import check_preprocessed, check_stored

        if modalities is None:
            modalities = self.inputs if preprocessor is None else preprocessor.modalities
        names = list(modalities)
        for m in names:
            if m not in self.inputs:
                raise ConfigError(unknown("modality", m, self.inputs))
        keep = self.labelled if labelled is None else self.labelled & np.asarray(labelled, bool)

        files = {m: self.inputs[m] for m in names if is_lazy(self.inputs[m])}
        inputs = {m: torch.from_numpy(self.inputs[m]) for m in names if m not in files}
        present = {m: torch.from_numpy(self.present[m]) for m in names}
        lengths = {m: torch.from_numpy(self.lengths[m]) for m in names if m in self.lengths}
        pixels: dict[str, Any] = {}
        stored: dict[str, StoredRows] = {}
        if preprocessor is not None and deferred:
            raw, inputs = inputs, {}
            with torch.no_grad():
                stored, pixels = preprocessor.defer(raw, files, lengths, present, self.group)
                for m, rows in stored.items():
                    if m not in pixels:
                        length = preprocessor.count_steps(lengths).get(m)
                        check_stored(f"{self.name}: modality {m!r}", rows, length, present[m], raw[m], self.ids)
        elif preprocessor is not None:
            raw = inputs
            with torch.no_grad():
                inputs, pixels = preprocessor.transform(raw, files, lengths, present, self.group)
            for m, x in raw.items():
                if x.dim() < 4:
                    check_preprocessed(f"{self.name}: modality {m!r}", inputs[m], x, self.ids)
        if preprocessor is not None:
            lengths = preprocessor.count_steps(lengths)

        return build_batch(inputs, hide_target(self.target, keep), keep, present, lengths, pixels, files, stored)
