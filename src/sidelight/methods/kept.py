"""What finished networks say of the training rows, computed once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Kept(nn.Module):
    """Tensors over all training rows by name: `Batch.index` (B,) -> name -> their rows (B, …), without gradient.

    They move along with the method that keeps them (`Module.to`) and are no part of its state: building the method
    again makes them again.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.names = tuple(tensors)
        for name, value in tensors.items():
            self.register_buffer(f"kept_{name}", value.detach(), persistent=False)

    def forward(self, index: Tensor) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"kept_{name}")[index] for name in self.names}


def rows_of(mask: Tensor) -> Tensor | None:
    """The positions where a mask (B,) holds; None where it does everywhere, so that nothing need be copied."""
    return None if bool(mask.all()) else mask.nonzero()[:, 0]


def those(x: Tensor, rows: Tensor | None) -> Tensor:
    """x[rows], or x itself for None."""
    return x if rows is None else x[rows]
