"""MultiBench: writes the three loaders that its `get_dataloader` functions return as a prepared folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Contents, Reader, RowErrors
from sidelight.readers.sequences import SplitArrays, build_sequence_rows
from sidelight.utils.files import check_file

SPLIT = {"train": "train", "valid": "select", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class MultiBench(Reader):
    """Reads {train,valid,test}.pt, each written by `torch.save(list(loader), …)` from a loader of MultiBench.

    A batch of tensors is [x_1, …, x_M, y]; loaders of the affect sets pack it as ([x_1, …, x_M], [lengths_1, …,
    lengths_M], indices, y). Files are read with `weights_only=True`, so nothing in them executes. Row ids number the
    rows in the order of the loader.

    Args:
        modalities: names of x_1, …, x_M, separated by commas; default: x1, x2, ….
        task: classification or regression; default: chosen by the target.
        available: default available modalities of experiments, separated by commas; default: the first.
        privileged: default privileged modalities of experiments; default: all others.
    """

    name: ClassVar[str] = "multibench"
    summary: ClassVar[str] = "MultiBench: the batches of its train, valid and test loaders, saved by torch"
    obtain: ClassVar[str] = (
        "https://github.com/pliang279/MultiBench links each set. Save what its loaders give: for part, loader in "
        "zip(('train', 'valid', 'test'), get_dataloader(…)): torch.save(list(loader), f'{part}.pt')"
    )
    citation: ClassVar[str] = (
        "Liang et al.: MultiBench: multiscale benchmarks for multimodal representation learning. 2021. And the set's "
        "own."
    )
    licence: ClassVar[str] = "that of the set"

    modalities: str = ""
    task: str = ""
    available: str = ""
    privileged: str = ""

    def find_missing(self, source: Path) -> list[str]:
        return [f"{path}: there is no such file" for path in self._list_files(source) if not path.is_file()]

    def read(self, source: Path, errors: RowErrors) -> Contents:
        loaders = [_load_batches(path) for path in self._list_files(source)]
        names = _split_names(self.modalities)
        if not names:
            names = [f"x{i + 1}" for i in range(_count_modalities(loaders[0]))]

        available = _split_names(self.available) or names[:1]
        privileged = _split_names(self.privileged)
        for m in (*available, *privileged):
            if m not in names:
                raise ConfigError(f"multibench: {m!r} is none of the modalities {', '.join(names)}")
        privileged = privileged or [m for m in names if m not in available]
        return _build_contents(loaders, names, source.name, self.task, available, privileged, errors)

    def _list_files(self, source: Path) -> list[Path]:
        return [source / f"{part}.pt" for part in SPLIT]

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        for part, n in (("train", 24), ("valid", 8), ("test", 8)):
            y = torch.arange(n) % 2
            x1 = torch.randn(n, 6, generator=generator)
            x2 = torch.randn(n, 5, 3, generator=generator)
            batches = []
            for i in range(0, n, 4):
                label = y[i : i + 4]
                batches.append([x1[i : i + 4] + label[:, None], x2[i : i + 4] + label[:, None, None], label])
            torch.save(batches, out / f"{part}.pt")


def prepare_multibench(
    loaders: Sequence[Iterable[Any]],
    out: str | Path,
    modalities: Sequence[str],
    *,
    name: str = "multibench",
    task: str = "",
    available: Sequence[str] = (),
    privileged: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write a prepared folder from (train, valid, test) loaders; `load` reads it. MultiBench is not imported.

    A batch is [x_1, …, x_M, y]; loaders of the affect sets pack it as ([x_1, …, x_M], [lengths_1, …, lengths_M],
    indices, y). The loaders do not name people, so the rows have no groups.

    Args:
        loaders: train, valid and test.
        out: the new folder.
        modalities: names of x_1, …, x_M.
        name: of the data set.
        task: "classification" or "regression"; default: chosen by the target.
        available: default available modalities of experiments.
        privileged: default privileged modalities of experiments.
        overwrite: replace an existing prepared folder.

    Returns:
        The prepared folder.

    Raises:
        DataError: a batch of another form, or a value that is not finite; names part and row.
        ConfigError: the number of loaders is not three.
    """
    if len(loaders) != 3:
        raise ConfigError(f"{len(loaders)} loaders are given; expected three: train, valid, test")
    found = _build_contents(loaders, modalities, name, task, available, privileged, RowErrors())
    return write_prepared(out, found.rows, found.modalities, found.facts, files=found.files, overwrite=overwrite)


def _build_contents(
    loaders: Sequence[Iterable[Any]],
    modalities: Sequence[str],
    name: str,
    task: str,
    available: Sequence[str],
    privileged: Sequence[str],
    errors: RowErrors,
) -> Contents:
    """The rows of the three loaders; parameters as in `prepare_multibench`."""
    parts = [_collect_arrays(part, loader, modalities) for part, loader in zip(SPLIT, loaders)]
    k = parts[0].target[0].size if len(parts[0].target) else 1
    targets = ("target",) if k == 1 else tuple(f"target_{i}" for i in range(k))
    rows, kinds, write = build_sequence_rows(parts, name, SPLIT, targets, errors)
    facts = DatasetInfo(
        name=name, source="multibench 1", target=targets, split="split", task=task,
        available=tuple(available), privileged=tuple(privileged), citation=MultiBench.citation,
    )  # fmt: skip
    return Contents(rows, kinds, facts, files=write)


def _split_names(text: str) -> list[str]:
    return [m.strip() for m in text.split(",") if m.strip()]


def _load_batches(path: Path) -> list[Any]:
    """Load the batches of one file; raises DataError if it holds anything but a list of batches of tensors."""
    check_file(path)
    try:
        batches = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything
        first = str(error).strip().partition("\n")[0]
        raise DataError(
            f"cannot read {path}: {first}. Expected torch.save(list(loader), {path.name!r}), batches of tensors"
        ) from None
    if not isinstance(batches, list) or not batches or not all(isinstance(b, list | tuple) for b in batches):
        raise DataError(f"{path} holds no batches; expected torch.save(list(loader), {path.name!r})")
    return batches


def _count_modalities(batches: Sequence[Any]) -> int:
    """M, by the first batch; the last element of a batch is the target."""
    first = batches[0]
    return len(first[0]) if _is_packed(first) else len(first) - 1


def _collect_arrays(part: str, loader: Iterable[Any], modalities: Sequence[str]) -> SplitArrays:
    """The rows of one loader; padding is cut off where the loader gives lengths."""
    rows: dict[str, list[NDArray]] = {m: [] for m in modalities}
    targets: list[NDArray] = []
    for b, batch in enumerate(loader):
        inputs, lengths, y = _unpack(batch, len(modalities), f"{part}, batch {b}")
        targets += list(y)
        for m, x, length in zip(modalities, inputs, lengths):
            if len(x) != len(y):
                raise DataError(f"multibench: {part}, batch {b}: {m} has {len(x)} rows, the target has {len(y)}")
            rows[m] += [row if length is None else row[: int(length[i])] for i, row in enumerate(x)]
    if not targets:
        raise DataError(f"multibench: {part}: the loader gives no rows")
    # Loaders give no names, and those of train shuffle: the ids number the rows in the order in which they came.
    ids = [f"{part}-{i:06d}" for i in range(len(targets))]
    return SplitArrays(part, rows, np.stack(targets), ids, {})


def _unpack(batch: Any, n: int, where: str) -> tuple[list[NDArray], list[NDArray | None], NDArray]:
    """(inputs, lengths or None for each input, target) of a batch with n modalities."""
    packed = _is_packed(batch)
    inputs = batch[0] if packed else batch[:-1]
    if len(inputs) != n:
        raise DataError(f"multibench: {where} has {len(inputs)} modalities; {n} are named")
    lengths: list[NDArray | None] = [np.asarray(x).reshape(-1) for x in batch[1]] if packed else [None] * n
    y = np.asarray(batch[-1])
    if y.ndim == 2 and y.shape[1] == 1:  # the affect sets give their single target as a column
        y = y[:, 0]
    return [np.asarray(x) for x in inputs], lengths, y


def _is_packed(batch: Any) -> bool:
    """Whether a batch has the form of MultiBench's affect sets (datasets/affect/get_data.py)."""
    return len(batch) == 4 and isinstance(batch[0], list | tuple)
