"""Batches of rows that are files, decoded ahead by threads while the one before is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.recordings.lazy import draw_crops
from sidelight.utils.machine import usable_cores
from sidelight.video.crop import CropSampler

AHEAD = 2
"""Batches decoded before they are asked for."""
Begun = list[Future[Tensor | None]]
Pending = tuple[Batch, dict[str, Begun], Begun]


def materialized_batches(
    rows: Batch, parts: Sequence[Tensor], crops: CropSampler | None = None, step: int = 0, threads: int | None = None
) -> Iterator[Batch]:
    """`rows.index_select(part).materialize(…)` for each part, in order; files are decoded ahead by a thread per core.

    looks: how views are drawn; part i has those of step `step` + i. threads: 0 decodes when a batch is asked for; the
    batches are the same to the bit. An error in a thread is raised where its batch would have come.
    """
    threads = usable_cores() if threads is None else threads
    # drawing the views of a batch takes as long as a small network's step; label maps have the views of images
    crops = crops if rows.files else None
    if not (rows.files or rows.maps is not None) or not threads:
        for i, part in enumerate(parts):
            batch = rows.index_select(part)
            yield batch.materialize(draw_crops(crops, step + i, batch.index))
        return
    pool = ThreadPoolExecutor(threads, "decode")
    pending: deque[Pending] = deque()
    try:
        for i, part in enumerate(parts):
            batch = rows.index_select(part)
            views = draw_crops(crops, step + i, batch.index)
            maps = [] if batch.maps is None else batch.maps.submit(pool, views)
            pending.append((batch, {m: x.submit(pool, views) for m, x in batch.files.items()}, maps))
            if len(pending) > AHEAD:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())
    finally:  # also where the training step failed, or the caller has enough
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(batch: Batch, begun: dict[str, Begun], maps: Begun) -> Batch:
    decoded = {m: batch.files[m].stack([row.result() for row in rows]) for m, rows in begun.items()}
    target = None if batch.maps is None else batch.maps.stack([row.result() for row in maps])
    return batch.with_decoded(decoded, target).materialize()
