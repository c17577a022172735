"""The solver's arithmetic on either torch tensors or numpy arrays.

Small problems are ruled by the price of a call, not of its arithmetic, and a numpy call on a hundred numbers costs a
quarter of a torch call; its ``exp`` also takes half the time. So on a CPU the solver works on numpy views of the same
memory, unless there is more than one thread to share large matrices. ``*``, ``@``, ``.T``, ``.sum()`` and their like
mean the same in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any  # Tensor | np.ndarray, the same kind throughout one solve

SMALL = 1 << 18  # elements up to which numpy is the faster even if torch may use several threads


def native(cost: Tensor, *others: Tensor) -> tuple[Array, ...]:
    """The tensors in the kind of array that suits a problem of this size and place."""
    if cost.device.type == "cpu" and (cost.numel() <= SMALL or torch.get_num_threads() == 1):
        return tuple(t.numpy() for t in (cost, *others))
    return cost, *others


def namespace(array: Array) -> Any:
    """``torch`` or ``numpy``: their ``exp``, ``log``, ``sqrt`` and ``abs`` agree."""
    return torch if isinstance(array, Tensor) else np


def tensor(array: Array) -> Tensor:
    """A tensor over the same memory."""
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def double(array: Array) -> Array:
    return array.double() if isinstance(array, Tensor) else array.astype(np.float64)


def is_double(array: Array) -> bool:
    return bool(array.dtype in (torch.float64, np.float64)) if isinstance(array, Tensor) else array.itemsize == 8


def l1(vector: Array) -> float:
    return float(namespace(vector).abs(vector).sum())
