"""Batches of rows that are files, decoded by threads while the previous batch is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.data.shard import divide
from sidelight.recordings.lazy import draw_crops
from sidelight.utils.device import CPU
from sidelight.utils.machine import usable_cores
from sidelight.video.crop import CropSampler

AHEAD = 2
"""Batches that are decoded in advance."""
Futures = list[Future[Tensor | None]]
Pending = tuple[Batch, dict[str, Futures], Futures]
"""A batch, the decoding of its files by modality, and the decoding of its label maps."""


def materialized_batches(
    rows: Batch,
    parts: Sequence[Tensor],
    crops: CropSampler | None = None,
    step: int = 0,
    threads: int | None = None,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Yield `rows.index_select(part).materialize(…)` for each part, in order; threads decode files in advance.

    Batches for another device are copied there one batch ahead, in their stored dtype, and standardized there.
    Where several processes train together, each gets its own part of the inputs (`Batch.shard`).

    Args:
        rows: all rows.
        parts: row numbers of each batch.
        crops: draws the crop of every row; None: the centre.
        step: number of the first batch's training step; part i has the crops of step `step` + i.
        threads: None: one per core. 0: files are decoded when the batch is asked for. Batches are the same to the bit.
        device: where the batches are used.

    Raises:
        DataError: a file cannot be decoded; raised where its batch would have come.
    """
    batches = _decoded_batches(rows, parts, crops, step, threads)
    try:
        for batch in batches if device.type == "cpu" else _copy_ahead(batches, device):
            yield batch.materialize()
    finally:
        batches.close()


def _copy_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to a device, each before the one before it is used; from pinned memory to CUDA devices."""
    if device.type == "cuda":
        yield from _copy_beside_steps(batches, device)
        return
    ahead: Batch | None = None
    for batch in batches:
        copied = batch.to(device)
        if ahead is not None:
            yield ahead
        ahead = copied
    if ahead is not None:
        yield ahead


def _copy_beside_steps(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches to a CUDA device on a stream of its own, so that copies run while the step before computes."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = batch.pin_memory().to(device, non_blocking=True)
            done = stream.record_event()
        if ahead is not None:
            yield _hand_over(*ahead)
        ahead = copied, done
    if ahead is not None:
        yield _hand_over(*ahead)


def _hand_over(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Let the current stream wait until a batch is copied, and keep its memory until this stream has used it."""
    current = torch.cuda.current_stream(batch.index.device)
    current.wait_event(copied)

    def keep(x: Tensor) -> Tensor:
        x.record_stream(current)
        return x

    return batch.map_tensors(keep)


def _decoded_batches(
    rows: Batch, parts: Sequence[Tensor], crops: CropSampler | None, step: int, threads: int | None
) -> Generator[Batch]:
    """The batches with decoded files, before pixels are standardized."""
    threads = usable_cores() if threads is None else threads
    # Drawing the crops of a batch takes as long as a small network's step, so rows without files draw none. Label maps
    # follow the crops of their images.
    crops = crops if rows.files else None
    has_files = bool(rows.files) or rows.maps is not None
    if not has_files or not threads:
        for i, part in enumerate(parts):
            batch = rows.index_select(part, divide(len(part), step + i))
            yield batch.decode(draw_crops(crops, step + i, batch.index))
        return

    pool = ThreadPoolExecutor(threads, "decode")
    pending: deque[Pending] = deque()
    try:
        for i, part in enumerate(parts):
            batch = rows.index_select(part, divide(len(part), step + i))
            drawn = draw_crops(crops, step + i, batch.index)
            maps = [] if batch.maps is None else batch.maps.submit(pool, drawn)
            own = batch.own_crops(drawn)
            files = {m: x.submit(pool, own) for m, x in batch.files.items()}
            pending.append((batch, files, maps))
            if len(pending) > AHEAD:
                yield _collect(*pending.popleft())
        while pending:
            yield _collect(*pending.popleft())
    finally:  # also where the training step failed, or the caller stopped early
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(batch: Batch, files: dict[str, Futures], maps: Futures) -> Batch:
    """Wait for the decoded rows of a batch and put them into it."""
    decoded = {}
    for m, futures in files.items():
        decoded[m] = batch.files[m].stack([row.result() for row in futures])
    target = None if batch.maps is None else batch.maps.stack([row.result() for row in maps])
    return batch.with_decoded(decoded, target).decode()  # stored rows too, before the copy to a device
