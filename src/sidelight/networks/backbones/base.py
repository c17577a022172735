"""The interface of every public network: maps of a row, and their pooling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sidelight.networks.tokens import resample_tokens

Returns = Literal["vector", "tokens", "map"]


class BackboneNet:
    """The interface that a `Backbone` needs of its network; a mixin beside `nn.Module`.

    out_channels: D, channels of the last map. reads_length: whether `forward_maps` takes each row's `length`.
    """

    out_channels: int
    reads_length = False

    def forward_maps(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """(B, *shape) -> (B, D, *grid); the grid is (T',), (H', W') or (T', H', W')."""
        raise NotImplementedError

    def pool(self, maps: Tensor, tokens: int, length: Tensor | None = None) -> Tensor:
        """Averages over equal stretches of time.

        Clips are averaged over space first. An image's positions are taken column by column, so that the stretches of a
        spectrogram (1, frequency, time) are stretches of time.

        Args:
            maps: (B, D, *grid), the result of `forward_maps`.
            tokens: number of stretches.
            length: (B,) valid steps of each row, for networks that read them.

        Returns:
            (B, tokens, D).
        """
        if maps.dim() == 5:
            maps = maps.mean((3, 4))
        if maps.dim() == 4:
            maps = maps.transpose(2, 3).flatten(2)
        return resample_tokens(maps.transpose(1, 2), tokens)

    def unused_parameters(self, returns: Returns) -> list[nn.Parameter]:
        """Parameters that the returned features do not depend on; they are frozen."""
        return []

    def local_name(self, name: str) -> str:
        """The name in this network of the tensor that public checkpoints call `name`."""
        return name


@contextmanager
def running_statistics(module: nn.Module, use: bool) -> Iterator[None]:
    """Inside the context, and if `use`, batch normalisation uses its running statistics and does not update them."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training] if use else []
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True
