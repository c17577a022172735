"""A pretend accelerator: the device "pretend" computes on the CPU, and raises where its tensors meet the CPU's.

A machine without an accelerator shows with it that nothing mixes devices: what runs on `PRETEND` runs on CUDA, and
gives what the CPU gives. It follows CUDA in what may be mixed:

- an operator that works value by value takes a CPU tensor without dimensions beside a pretend one, as a number;
- indexing takes CPU indices; copies go from any device to any other;
- everything else raises, and so does a generator of another device, and `.numpy()`.

Importing this module registers the device, and skips the importing tests where torch is too old for it. Known limits:
there is no `torch.Generator("pretend")` and no pinned memory (Python cannot register them), and `NOT_PRETENDED`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch

from helpers import pretend_autocast

if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip(f"torch {torch.__version__} cannot register a device from Python; 2.10 can", allow_module_level=True)

CPU = torch.device("cpu")

ROOM = 2**50
"""Bytes that a tensor says its storage has: it has none, and operators in place may give it any shape."""

NOT_PRETENDED: dict[str, str] = {}
"""Operator -> why it cannot be pretended. A test holds what is here; each entry is a gap in what the device proves."""

READ_ON_ANY_DEVICE = ("aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_",
                      "aten::_unsafe_index_put", "aten::_index_put_impl_")  # fmt: skip
"""Operators whose indices may be on the CPU."""
TAKE_A_NUMBER = ("aten::fill", "aten::fill_", "aten::masked_fill", "aten::masked_fill_", *READ_ON_ANY_DEVICE)
"""Operators that are not marked as pointwise, and take a CPU tensor without dimensions as a number."""


class Backend:
    """What `torch.pretend` is: one device, with a random stream of its own."""

    def __init__(self) -> None:
        self.stream = torch.Generator().manual_seed(0).get_state()
        self.shares_the_cpu_stream = False

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None:
        pass

    def synchronize(self, device: Any = None) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def manual_seed(self, seed: int) -> None:
        self.stream = torch.Generator().manual_seed(seed).get_state()

    manual_seed_all = manual_seed

    def get_rng_state(self, device: Any = None) -> Tensor:
        return self.stream.clone()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        self.stream = state.clone()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Random numbers come from the device's own stream, unless it shares that of the CPU."""
        if self.shares_the_cpu_stream:
            yield
            return
        cpu = torch.get_rng_state()
        torch.set_rng_state(self.stream)
        try:
            yield
        finally:
            self.stream = torch.get_rng_state()
            torch.set_rng_state(cpu)


BACKEND = Backend()
backend_registration._setup_privateuseone_for_python_backend("pretend", BACKEND)
PRETEND = torch.device("pretend:0")


@contextmanager
def sharing_the_cpu_stream() -> Iterator[None]:
    """The device draws the random numbers that the CPU would draw, so that dropout is the same on both."""
    before, BACKEND.shares_the_cpu_stream = BACKEND.shares_the_cpu_stream, True
    try:
        yield
    finally:
        BACKEND.shares_the_cpu_stream = before


class PretendTensor(torch.Tensor):
    """A tensor of the device; its values are those of `host`, a tensor on the CPU that nobody else holds."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> PretendTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=PRETEND,
            storage_size=ROOM,
        )
        made.host = host
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.host!r} on {self.device}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) in memo:
            return memo[id(self)]
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied.detach(), requires_grad=self.requires_grad)
        memo[id(self)] = copied
        return copied

    @property
    def data(self) -> Tensor:
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, values: PretendTensor) -> None:
        torch.Tensor.data.__set__(self, values)
        self.host = values.host

    def tolist(self) -> list[Any]:
        """As CUDA's, which copies to the host; torch refuses tensors of this kind."""
        return self.host.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {PRETEND} device type tensor to numpy. Use Tensor.cpu() first.")
        return self.host.clone().numpy()


class Operator(NamedTuple):
    """What the device must know of an operator."""

    name: str
    pointwise: bool
    writes: bool
    random: bool


@functools.cache
def look_up(func: Any) -> Operator:
    """The facts of an operator, which torch looks up slowly."""
    name, tags = func._schema.name, func.tags
    pointwise, random = torch.Tag.pointwise in tags, torch.Tag.nondeterministic_seeded in tags
    return Operator(name, pointwise, func._schema.is_mutable, random)


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operator of which an argument, or the result, is on the device."""
    operator = look_up(func)
    if operator.name in NOT_PRETENDED:
        raise NotImplementedError(f"{operator.name} cannot be pretended: {NOT_PRETENDED[operator.name]}")
    if operator.name == "aten::copy_":
        host_of(args[0]).copy_(host_of(args[1]))
        return args[0]
    tensors: list[Tensor] = []

    def unwrap(x: Tensor) -> Tensor:
        tensors.append(x)
        return host_of(x)

    host_args = map_tensors(unwrap, args)
    host_kwargs = {name: map_tensors(unwrap, value) for name, value in kwargs.items()}
    check_devices(operator, args, kwargs, tensors)
    pretend = [x for x in tensors if is_pretend(x)]
    made_here, place = bool(pretend), kwargs.get("device")
    if place is not None:
        made_here, host_kwargs["device"] = torch.device(place).type == PRETEND.type, CPU
    with BACKEND.drawing() if operator.random else nullcontext():
        result = func(*host_args, **host_kwargs)
    if operator.writes:
        for x in pretend:
            follow_shape(x)
    known = {id(x.host): x for x in pretend}
    return map_tensors(lambda x: known[id(x)] if id(x) in known else PretendTensor(x), result) if made_here else result


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """A nest of lists and tuples with a function applied to its tensors; torch's `tree_map` takes much longer."""
    if isinstance(tree, Tensor):
        return function(tree)
    return type(tree)(map_tensors(function, x) for x in tree) if isinstance(tree, list | tuple) else tree


def is_pretend(x: object) -> bool:
    return isinstance(x, PretendTensor)


def host_of(x: Tensor) -> Tensor:
    """The values of a tensor, on the CPU."""
    return x.host if isinstance(x, PretendTensor) else x


def check_devices(operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Sequence[Tensor]) -> None:
    """Raise what CUDA raises where an operator's tensors, or its generator, are on different devices."""
    cpu = [x for x in tensors if not is_pretend(x)]
    if cpu and len(cpu) < len(tensors):
        first = args[0] if args else None
        if operator.name in READ_ON_ANY_DEVICE and is_pretend(first):  # self, indices, values
            cpu = [x for x in args[2:3] if not is_pretend(x)]
        numbers = operator.pointwise or operator.name in TAKE_A_NUMBER
        written = operator.writes and isinstance(first, Tensor) and not is_pretend(first)
        if written or any(x.dim() > 0 or not numbers for x in cpu):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {PRETEND} and cpu! "
                f"({operator.name}: {', '.join(f'{tuple(x.shape)} on {x.device}' for x in tensors)})"
            )
    generator = kwargs.get("generator")
    if generator is not None:
        raise RuntimeError(f"Expected a {PRETEND.type!r} device type for generator but found {generator.device.type!r}")


def follow_shape(x: PretendTensor) -> None:
    """Give a tensor the shape that an operator in place gave its values."""
    if x.shape != x.host.shape or x.stride() != x.host.stride():
        with no_dispatch():
            x.as_strided_(x.host.shape, x.host.stride(), x.host.storage_offset())


LIBRARY = torch.library.Library("_", "IMPL")
LIBRARY.fallback(lambda func, *args, **kwargs: compute(func, args, kwargs), "PrivateUse1")
OPERATORS = torch.library.Library("aten", "IMPL")
# `torch.tensor` copies past `__torch_dispatch__`, and there the fallback meets an internal assertion of torch.
OPERATORS.impl("copy_", lambda *args: compute(torch.ops.aten.copy_.default, args, {}), "PrivateUse1")
LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
pretend_autocast.register(OPERATORS, PRETEND.type, map_tensors)
