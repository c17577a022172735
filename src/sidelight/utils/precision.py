"""Full precision where half precision, or the rounding of TF32, would lose small differences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

ROUNDED = ("tf32", "bf16")
"""The types to which torch may round the factors of a product of float32 matrices."""


def full_precision(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function: it computes in at least float32, without autocast and without rounded products.

    Tensors of half precision among its arguments, also those in lists, tuples and mappings, become float32. This is for
    similarities, distances, softmax, variances and transport; its result has the gradient of its arguments.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        some = _find_tensor((*args, *kwargs.values()))
        if some is None:
            return function(*args, **kwargs)
        with in_full_precision(some.device):
            call: Callable[..., T] = function
            return call(*map(to_float32, args), **{name: to_float32(x) for name, x in kwargs.items()})

    return wrapped


def in_full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A block without autocast, in which products of float32 matrices are not rounded to TF32 or bfloat16.

    `torch.set_float32_matmul_precision("high")`, or `torch.backends.fp32_precision`, allow that rounding; a Sinkhorn
    iteration then may not reach its tolerance. The flags are as before at the end of the block.

    Args:
        device: the device of the tensors.
    """
    mkldnn: Any = torch.backends.mkldnn
    rounded = [b for b in (torch.backends.cuda.matmul, mkldnn.matmul) if b.fp32_precision in ROUNDED]
    if not rounded:
        return without_autocast(device)
    return _full_precision(device, rounded)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A block without autocast on a device."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


@contextmanager
def _full_precision(device: torch.device, rounded: list[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(without_autocast(device))
        for backend in rounded:
            stack.enter_context(_without_rounding(backend))
        yield


@contextmanager
def _without_rounding(backend: Any) -> Iterator[None]:
    """Products of float32 matrices in IEEE arithmetic, in one of torch's backends."""
    # These flags, not torch.set_float32_matmul_precision: torch raises on some reads of one after a write of the other.
    before = backend.fp32_precision
    backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.fp32_precision = "none"  # as the flags above it say
        if backend.fp32_precision != before:
            backend.fp32_precision = before


def to_float32(x: Any) -> Any:
    """Tensors of half precision as float32, also those in lists, tuples and mappings; everything else as it is."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if type(x) in (list, tuple):
        return type(x)(map(to_float32, x))
    if isinstance(x, Mapping):
        return {key: to_float32(item) for key, item in x.items()}
    return x


def find_device(*values: Any) -> torch.device:
    """The device of the first tensor among values; the CPU without any."""
    some = _find_tensor(values)
    return torch.device("cpu") if some is None else some.device


def _find_tensor(values: Any) -> Tensor | None:
    """The first tensor among values, and in the lists, tuples and mappings among them."""
    for value in values:
        if isinstance(value, Tensor):
            return value
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        if inside and (found := _find_tensor(inside)) is not None:
            return found
    return None
