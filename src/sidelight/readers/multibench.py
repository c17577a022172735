"""MultiBench: the three loaders that its `get_dataloader` functions return, as a prepared folder."""

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
from sidelight.readers.base import Contents, Faults, Reader
from sidelight.readers.sequences import Part, sequence_rows
from sidelight.utils.files import check_file

SPLIT = {"train": "train", "valid": "select", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class MultiBench(Reader):
    """{train,valid,test}.pt, each of `torch.save(list(loader), …)`: the batches of one of MultiBench's loaders.

    A batch is [x_1, …, x_M, y], or, as the affect sets pack it, ([x_1, …, x_M], [lengths_1, …, lengths_M], indices, y),
    of tensors. Files are read with `weights_only=True`: nothing in them executes. Ids are the order in which rows come.

    Args:
        modalities: names of x_1, …, x_M, with commas; "": x1, x2, ….
        task: classification or regression; "": seen from the target.
        available: modalities that experiments take unless told otherwise, with commas; "": the first.
        privileged: the same of those that only a teacher reads; "": all others.
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

    def missing(self, source: Path) -> list[str]:
        return [f"{path}: there is no such file" for path in self._files(source) if not path.is_file()]

    def read(self, source: Path, faults: Faults) -> Contents:
        loaders = [_saved(path) for path in self._files(source)]
        names = _names(self.modalities)
        if not names:
            names = [f"x{i + 1}" for i in range(_modalities(loaders[0]))]
        roles = _names(self.available) or names[:1], _names(self.privileged)
        for m in (*roles[0], *roles[1]):
            if m not in names:
                raise ConfigError(f"multibench: {m!r} is none of the modalities {', '.join(names)}")
        others = roles[1] or [m for m in names if m not in roles[0]]
        return _contents(loaders, names, source.name, self.task, roles[0], others, faults)

    def _files(self, source: Path) -> list[Path]:
        return [source / f"{part}.pt" for part in SPLIT]

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        for part, n in (("train", 24), ("valid", 8), ("test", 8)):
            y = torch.arange(n) % 2
            x = torch.randn(n, 6, generator=generator), torch.randn(n, 5, 3, generator=generator)
            batches = [
                [x[0][i : i + 4] + y[i : i + 4, None], x[1][i : i + 4] + y[i : i + 4, None, None], y[i : i + 4]]
                for i in range(0, n, 4)
            ]
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
    """Write a prepared folder of (train, valid, test) loaders; `load` reads it. Nothing of MultiBench is imported.

    A batch is [x_1, …, x_M, y], or, as the affect sets pack it, ([x_1, …, x_M], [lengths_1, …, lengths_M], indices, y).
    Train loaders shuffle: ids are the order in which rows come. Rows without people: no groups are known.

    Args:
        loaders: train, valid and test.
        out: the new folder.
        modalities: names of x_1, …, x_M.
        name: of the data set.
        task: "classification" or "regression"; "": seen from the target.
        available, privileged: the modalities that experiments take unless told otherwise.
        overwrite: replace a prepared folder that is there.

    Raises:
        DataError: a batch of another form, or a value that is not finite, naming part and row.
        ConfigError: not three loaders.
    """
    if len(loaders) != 3:
        raise ConfigError(f"{len(loaders)} loaders are given; expected three: train, valid, test")
    found = _contents(loaders, modalities, name, task, available, privileged, Faults())
    return write_prepared(out, found.rows, found.modalities, found.facts, files=found.files, overwrite=overwrite)


def _contents(
    loaders: Sequence[Iterable[Any]],
    modalities: Sequence[str],
    name: str,
    task: str,
    available: Sequence[str],
    privileged: Sequence[str],
    faults: Faults,
) -> Contents:
    parts = [_part(part, loader, modalities) for part, loader in zip(SPLIT, loaders)]
    k = parts[0].target[0].size if len(parts[0].target) else 1
    targets = ("target",) if k == 1 else tuple(f"target_{i}" for i in range(k))
    rows, kinds, write = sequence_rows(parts, name, SPLIT, targets, faults)
    facts = DatasetInfo(
        name=name, source="multibench 1", target=targets, split="split", task=task,
        available=tuple(available), privileged=tuple(privileged), citation=MultiBench.citation,
    )  # fmt: skip
    return Contents(rows, kinds, facts, files=write)


def _names(text: str) -> list[str]:
    return [m.strip() for m in text.split(",") if m.strip()]


def _saved(path: Path) -> list[Any]:
    """The batches of one file; raises DataError where it holds anything but a list of tensors."""
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


def _modalities(batches: Sequence[Any]) -> int:
    first = batches[0]
    return len(first[0]) if _is_packed(first) else len(first) - 1


def _part(part: str, loader: Iterable[Any], modalities: Sequence[str]) -> Part:
    rows: dict[str, list[NDArray]] = {m: [] for m in modalities}
    targets: list[NDArray] = []
    for b, batch in enumerate(loader):
        inputs, lengths, y = _unpacked(batch, len(modalities), f"{part}, batch {b}")
        targets += list(y)
        for m, x, length in zip(modalities, inputs, lengths):
            if len(x) != len(y):
                raise DataError(f"multibench: {part}, batch {b}: {m} has {len(x)} rows, the target has {len(y)}")
            rows[m] += [row if length is None else row[: int(length[i])] for i, row in enumerate(x)]
    if not targets:
        raise DataError(f"multibench: {part}: the loader gives no rows")
    return Part(part, rows, np.stack(targets), [f"{part}-{i:06d}" for i in range(len(targets))], {})


def _unpacked(batch: Any, n: int, where: str) -> tuple[list[NDArray], list[NDArray | None], NDArray]:
    """A batch's inputs, their lengths (None: not padded) and its target."""
    packed = _is_packed(batch)
    inputs = batch[0] if packed else batch[:-1]
    if len(inputs) != n:
        raise DataError(f"multibench: {where} has {len(inputs)} modalities; {n} are named")
    lengths: list[NDArray | None] = [np.asarray(x).reshape(-1) for x in batch[1]] if packed else [None] * n
    y = np.asarray(batch[-1])
    return [np.asarray(x) for x in inputs], lengths, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _is_packed(batch: Any) -> bool:
    return len(batch) == 4 and isinstance(batch[0], list | tuple)
