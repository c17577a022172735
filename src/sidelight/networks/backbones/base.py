"""What every public network has, however it is built: maps of a row, and their pooling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sidelight.networks.tokens import resample

Returns = Literal["vector", "tokens", "map"]


class Net:
    """What a `Backbone` asks of its network; a mixin beside `nn.Module`.

    out_channels: D, channels of the last map. reads_length: whether `maps` takes each row's `length`.
    """

    out_channels: int
    reads_length = False

    def maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """(B, *shape) -> (B, D, *grid); the grid is (T',), (H', W') or (T', H', W')."""
        raise NotImplementedError

    def pooled(self, maps: Tensor, tokens: int, length: Tensor | None = None) -> Tensor:
        """(B, D, *grid) -> (B, tokens, D) by averages over equal stretches of time.

        Clips are averaged over space first. An image's positions are taken column by column, so that the stretches of a
        spectrogram (1, frequency, time) are stretches of time.
        """
        if maps.dim() == 5:
            maps = maps.mean((3, 4))
        if maps.dim() == 4:
            maps = maps.transpose(2, 3).flatten(2)
        return resample(maps.transpose(1, 2), tokens)

    def unused(self, returns: Returns) -> list[nn.Parameter]:
        """Parameters that have no part in what is returned; they are frozen."""
        return []

    def local_name(self, name: str) -> str:
        """This network's name of the tensor that public checkpoints call `name`."""
        return name


@contextmanager
def running_statistics(module: nn.Module, use: bool) -> Iterator[None]:
    """While it lasts, and if `use`, batch normalisation reads its running statistics and leaves them as they are."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training] if use else []
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True
