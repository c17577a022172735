"""Stacked training as networks and losses see it: each model of a stack draws random numbers from its own stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor


class Streams:
    """The random numbers of a stack's models.

    Code that `torch.vmap` runs cannot draw from a generator for each model, so the numbers of a step are drawn before
    it, in the shapes that the step before asked for; a first step that only asks has no result.

    Args:
        generators: the source of random numbers of each model.
    """

    def __init__(self, generators: Sequence[torch.Generator] = ()):
        self.generators = list(generators)
        self.shapes: list[tuple[int, ...]] | None = None
        self.asked: list[tuple[int, ...]] = []
        self.drawn: list[Tensor] = []

    def draw(self, rows: Sequence[int]) -> list[Tensor]:
        """Draw the uniform numbers (M, B, …) of a step; those of padding rows are 1.

        Args:
            rows: the number of rows of each model that are no padding, which come first.
        """
        drawn = []
        for shape in self.shapes or []:
            numbers = torch.ones(len(rows), max(rows), *shape)
            for part, generator, n in zip(numbers, self.generators, rows):
                part[:n].uniform_(generator=generator)
            drawn.append(numbers)
        return drawn

    def take(self, like: Tensor) -> Tensor:
        """The next numbers of the step, for one model."""
        self.asked.append(tuple(like.shape[1:]))
        if self.shapes is None:
            return torch.ones_like(like, dtype=torch.float32)
        return self.drawn[len(self.asked) - 1].to(like.device)


_streams: ContextVar[Streams | None] = ContextVar("streams", default=None)


@contextmanager
def stacked(streams: Streams) -> Iterator[None]:
    """Mark code as run by `torch.vmap` over the models of a stack, which draw from these streams."""
    token = _streams.set(streams)
    try:
        yield
    finally:
        _streams.reset(token)


def is_stacked() -> bool:
    """Whether this code runs on several models at once, so that no branch may depend on the value of a tensor."""
    return _streams.get() is not None


def draw_uniform(like: Tensor) -> Tensor:
    """Uniform float32 numbers in [0, 1) in the shape of `like` (B, …), on its device.

    In a stack each model draws the numbers that it would draw alone: from its own generator, for its own rows.
    """
    streams = _streams.get()
    if streams is not None:
        return streams.take(like)
    return torch.rand(like.shape, dtype=torch.float32, device=like.device)
