"""MultiBench: the three loaders that its `get_dataloader` functions return, as a prepared folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.data.prepared import Facts, write_prepared
from sidelight.errors import ConfigError, DataError
from sidelight.readers.base import Faults
from sidelight.readers.sequences import Part, sequence_rows

SPLIT = {"train": "train", "valid": "select", "test": "test"}


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
    parts = [_part(part, loader, modalities) for part, loader in zip(SPLIT, loaders)]
    k = parts[0].target[0].size if len(parts[0].target) else 1
    targets = ("target",) if k == 1 else tuple(f"target_{i}" for i in range(k))
    rows, kinds, write = sequence_rows(parts, name, SPLIT, targets, Faults())
    facts = Facts(
        name=name, source="multibench 1", target=targets, split="split", task=task,
        available=tuple(available), privileged=tuple(privileged),
        citation="Liang et al.: MultiBench: multiscale benchmarks for multimodal representation learning. 2021.",
    )  # fmt: skip
    return write_prepared(out, rows, kinds, facts, files=write, overwrite=overwrite)


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
    packed = len(batch) == 4 and isinstance(batch[0], list | tuple)
    inputs = batch[0] if packed else batch[:-1]
    if len(inputs) != n:
        raise DataError(f"multibench: {where} has {len(inputs)} modalities; {n} are named")
    lengths: list[NDArray | None] = [np.asarray(x).reshape(-1) for x in batch[1]] if packed else [None] * n
    y = np.asarray(batch[-1])
    return [np.asarray(x) for x in inputs], lengths, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
