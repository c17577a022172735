"""The solver's arithmetic on either torch tensors or numpy arrays.

The cost of small problems is the cost of a call, not of its arithmetic, and a numpy call on a hundred numbers takes a
quarter of the time of a torch call. So on a CPU the solver works on numpy views of the same memory, unless several
threads can share a large matrix. ``*``, ``@``, ``.T``, ``.sum()`` and the like mean the same in both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any  # Tensor | np.ndarray, the same kind throughout one solve

# Exponents are clamped before exp: results below the normal range would make later products several times slower.
LOWEST, HIGHEST = -60.0, 60.0
# Elements of a matrix that are visited together, so that they stay in the cache.
CHUNK = 1 << 18
# Up to this many elements numpy is faster, even if torch may use several threads.
SMALL = 1 << 18


def suits_numpy(size: int, place: Tensor) -> bool:
    """Whether a problem with ``size`` matrix elements is best solved in numpy."""
    return place.device.type == "cpu" and (size <= SMALL or torch.get_num_threads() == 1)


def array_namespace(array: Array) -> Any:
    """``torch`` or ``numpy``: their ``exp``, ``log``, ``abs``, ``multiply``, ``divide`` and ``clip`` agree."""
    return torch if isinstance(array, Tensor) else np


def tensor(array: Array) -> Tensor:
    """A tensor over the same memory."""
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def convert_like(other: Tensor, array: Array) -> Array:
    """``other`` as the same kind and type of array."""
    return other.to(array) if isinstance(array, Tensor) else other.numpy().astype(array.dtype, copy=False)


def full(size: int, value: float, array: Array) -> Array:
    """A read-only vector of the same kind and type as another array.

    Args:
        size: number of entries.
        value: their common value.
        array: the tensor or numpy array whose kind, dtype and device the vector gets.

    Returns:
        A vector (size,). Do not write to it: numpy vectors are cached.
    """
    return array.new_full((size,), value) if isinstance(array, Tensor) else _full(size, value, array.dtype)


@lru_cache(maxsize=64)
def _full(size: int, value: float, dtype: Any) -> Array:
    vector = np.full(size, value, dtype)
    vector.flags.writeable = False
    return vector


def empty(shape: tuple[int, ...], array: Array) -> Array:
    """A matrix to write into; numpy allocates large pages, which makes the first write to them cheaper."""
    if not isinstance(array, Tensor):
        return np.empty(shape, array.dtype)
    if array.is_cpu:
        return torch.from_numpy(np.empty(shape, array.numpy()[:0].dtype))
    return array.new_empty(shape)


def to_double(array: Array) -> Array:
    """The array in float64."""
    return array.double() if isinstance(array, Tensor) else array.astype(np.float64)


def is_double(array: Array) -> bool:
    """Whether the array is in float64."""
    return bool(array.dtype in (torch.float64, np.float64)) if isinstance(array, Tensor) else array.itemsize == 8


def copy_with(thing: Any, **changes: Any) -> Any:
    """A shallow copy with some attributes changed; ``copy.copy`` takes several times longer."""
    other = object.__new__(type(thing))
    other.__dict__.update(thing.__dict__, **changes)
    return other


def expand_batch(vector: Array, count: int) -> Array:
    """One vector (n,) for each of ``count`` problems, (count, n), without copies."""
    if vector.ndim == 2:
        return vector
    if isinstance(vector, Tensor):
        return vector.expand(count, -1)
    return np.broadcast_to(vector, (count, len(vector)))


def soft_maximum(exponents: Tensor) -> Tensor:
    """``log sum_j exp(E_ij)`` of (..., n, m), which is overwritten.

    torch's own takes several times as long where exponents are far below the largest: their exponentials are subnormal.
    """
    top = exponents.amax(-1, keepdim=True)
    return exponents.sub_(top).clamp_min_(LOWEST).exp_().sum(-1).log_().add_(top.squeeze(-1))


def l1_norm(vector: Array) -> float:
    """The sum of absolute values, as a float."""
    return float(abs(vector).sum())


def sum_last(vector: Array) -> Array:
    """The sum of a vector as a float, or one sum for each row of a batch."""
    return float(vector.sum()) if vector.ndim == 1 else vector.sum(-1)


def inner_product(one: Array, two: Array) -> Array:
    """The inner product as a float, or one for each row of a batch."""
    return float(one @ two) if two.ndim == 1 else (one * two).sum(-1)


def min_max(vector: Array) -> tuple[Array, Array]:
    """The smallest and the largest entry, or those of each row of a batch."""
    if isinstance(vector, Tensor):
        return vector.amin(-1), vector.amax(-1)
    return vector.min(-1), vector.max(-1)


def matmul_thin(matrix: Array, z: Array) -> Array:
    """``matrix @ z`` for a few columns; torch's BLAS is several times faster with few long rows."""
    return (z.mT.contiguous() @ matrix.mT).mT if isinstance(z, Tensor) else matrix @ z


def matvec(matrix: Array, vector: Array) -> Array:
    """``matrix @ vector`` for (..., n, m) and (..., m)."""
    return matrix @ vector if matrix.ndim == 2 else (matrix @ vector[..., None])[..., 0]


def row_blocks(matrix: Array) -> list[slice]:
    """Slices of rows that fit in the cache together; a batch of matrices is one slice."""
    if matrix.ndim > 2:
        return [slice(None)]
    n, m = matrix.shape
    height = n if isinstance(matrix, Tensor) and not matrix.is_cpu else max(1, CHUNK // m)
    return [slice(i, i + height) for i in range(0, n, height)]
