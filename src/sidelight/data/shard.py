"""Which process holds the inputs of which rows of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sidelight.utils import distributed
from sidelight.utils.distributed import World


class EncoderRandomness:
    """The random numbers that the encoders of one process draw in one step.

    They are apart from those of the rest of the step, which are the same in every process: the numbers that encoders
    draw depend on the rows of the process. They follow from torch's seed, the step and the process alone, so a resumed
    run draws them again.

    Args:
        step: the training step.
        rank: the number of the process.
    """

    def __init__(self, step: int, rank: int):
        self.step, self.rank, self.blocks = step, rank, 0

    @contextmanager
    def drawn(self, device: torch.device) -> Iterator[None]:
        """Inside the block, torch draws from these numbers; each block of a step has others."""
        text = f"{torch.initial_seed()} {self.step} {self.rank} {self.blocks}"
        self.blocks += 1
        on_cpu = device.type == "cpu"
        with torch.random.fork_rng([] if on_cpu else [device], device_type="cuda" if on_cpu else device.type):
            torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
            yield


@dataclass(frozen=True)
class Shard:
    """The division of a batch over processes: each holds the inputs of some rows, and everything else of all rows.

    Args:
        owner: (B,) int64 on the CPU, the process that holds each row.
        world: this process.
        randomness: what encoders draw.
    """

    owner: Tensor
    world: World
    randomness: EncoderRandomness

    @cached_property
    def mine(self) -> Tensor:
        """The positions of the rows that this process holds."""
        return (self.owner == self.world.rank).nonzero()[:, 0]

    @cached_property
    def counts(self) -> list[int]:
        """The number of rows of each process."""
        return torch.bincount(self.owner, minlength=self.world.size).tolist()  # type: ignore[no-any-return]

    @cached_property
    def _order(self) -> Tensor | None:
        """Where each row is once the rows of all processes follow one another; None if they are in order."""
        order = self.owner.argsort(stable=True)
        return None if bool((self.owner.diff() >= 0).all()) else order.argsort()

    def own(self, x: Tensor) -> Tensor:
        """The rows of this process, of a tensor (B, …) that holds all."""
        return x[self.mine.to(x.device)]

    def gather(self, x: Tensor) -> Tensor:
        """(B, …), all rows, from the rows (b, …) of each process; the gradient is that of `share_rows`."""
        rows = distributed.share_rows(x, self.counts)
        return rows if self._order is None else rows[self._order.to(x.device)]

    def index_select(self, rows: Tensor) -> Shard:
        """The division of some of the rows."""
        return Shard(self.owner[rows.to(self.owner.device)], self.world, self.randomness)

    def positions(self, rows: Tensor) -> Tensor:
        """Where the rows among these that this process holds are among all rows that it holds."""
        rows = rows.to(self.owner.device)
        here = (self.owner == self.world.rank).cumsum(0) - 1
        return here[rows[self.owner[rows] == self.world.rank]]


def divide(rows: int, step: int = 0) -> Shard | None:
    """Divide a batch over the processes: neighbouring rows together, nearly the same number for each.

    Args:
        rows: the number of rows.
        step: the training step.

    Returns:
        None for a process alone, and for a batch with fewer rows than processes: each computes all of it then.
    """
    world = distributed.get_world()
    if world.size == 1 or rows < world.size:
        return None
    sizes = [len(part) for part in torch.arange(rows).tensor_split(world.size)]
    owner = torch.repeat_interleave(torch.arange(world.size), torch.tensor(sizes))
    return Shard(owner, world, EncoderRandomness(step, world.rank))
