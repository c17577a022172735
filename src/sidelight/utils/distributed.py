"""Several processes that train one network together: who they are, and the few collectives that they need.

Every collective of sidelight is here: each one makes its tensors contiguous first, because gloo is silently wrong with
others. A process that runs alone is process 0 of 1, for which every function here does nothing.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from sidelight.errors import ConfigError, RunError
from sidelight.utils.machine import launched

T = TypeVar("T")
TIMEOUT = datetime.timedelta(minutes=30)
"""How long a process waits for the others: process 0 alone writes jobs and reports."""

PATIENCE = 5.0
"""Seconds that process 0 waits for the others at its end."""


class World(NamedTuple):
    """The number of a process, from 0, and how many there are."""

    rank: int = 0
    size: int = 1


_world = World()
_store: Any = None  # what all processes can read and write (a torch.distributed Store)


def get_world() -> World:
    """The number of this process and how many train together; (0, 1) for a process alone."""
    return _world


def is_first() -> bool:
    """Whether this process writes files and shows progress."""
    return _world.rank == 0


@contextmanager
def joined(timeout: datetime.timedelta = TIMEOUT) -> Iterator[World]:
    """Join the other processes of torchrun for the length of the block; nothing for a process alone.

    Where one process fails, it alone raises; the others end with exit code 2, and print nothing.

    Args:
        timeout: how long to wait for the others.

    Raises:
        RunError: the other processes cannot be reached, or one of them died.
    """
    global _world, _store
    world = World(*launched())
    if _world.size > 1 or world.size == 1:  # joined already, or alone
        yield _world
        return
    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"  # gloo for tensors on the CPU, so that numbers and decisions need no GPU
        here = int(os.environ.get("LOCAL_RANK", world.rank))
        torch.cuda.set_device(min(here, torch.cuda.device_count() - 1))  # what "cuda" means in this process
    try:
        dist.init_process_group(backend, timeout=timeout)
        _store = dist.distributed_c10d._get_default_store()  # type: ignore[attr-defined]
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"process {world.rank} of {world.size} cannot reach the others at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']}: {error}. Start them with torchrun, all at once."
        ) from error
    _world = world
    try:
        yield world
        barrier()
    except BaseException as error:
        if _claim_failure(error):
            raise
        raise SystemExit(2) from error
    finally:
        _world, store, _store = World(), _store, None
        dist.destroy_process_group()
        _leave(store, world)


def _leave(store: Any, world: World) -> None:
    """Say that this process is done; process 0, which may keep the store, waits for the others for a few seconds."""
    try:
        store.add("sidelight done", 1)
        ends = time.monotonic() + PATIENCE
        while world.rank == 0 and store.add("sidelight done", 0) < world.size and time.monotonic() < ends:
            time.sleep(0.02)
    except RuntimeError:  # the process that keeps the store is gone
        pass


def _claim_failure(error: BaseException) -> bool:
    """Whether this process is the first that fails, and so has to say why; later failures follow from it."""
    assert _store is not None
    try:
        mine = f"{_world.rank} {type(error).__name__}"
        return bool(_store.compare_set("sidelight failed", "", mine).decode() == mine)
    except RuntimeError:  # the process that keeps the store is gone
        return True


@contextmanager
def alone() -> Iterator[None]:
    """Inside the block this process computes as if there were no others."""
    global _world
    before, _world = _world, World()
    try:
        yield
    finally:
        _world = before


def _collective(run: Callable[..., Any], *tensors: Any, **options: Any) -> None:
    """Run a collective; RunError where another process is gone."""
    try:
        run(*tensors, **options)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"process {_world.rank} of {_world.size} lost the others: {error}. One of them ended (out of memory, "
            "killed) or waited too long. Finished jobs are kept: continue with --resume."
        ) from error


def barrier() -> None:
    """Wait until every process is here."""
    share(torch.zeros(1))


def share(x: Tensor) -> list[Tensor]:
    """The tensors of all processes, in their order; they have the same shape and dtype in all of them."""
    if _world.size == 1:
        return [x]
    x = x.detach().contiguous()
    found = [torch.empty_like(x) for _ in range(_world.size)]
    _collective(dist.all_gather, found, x)
    return found


def share_rows(x: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all processes one after the other, with a gradient.

    Every process has to compute the same loss from them. The gradient needs no communication then: that of the rows of
    a process is its part of the whole, times the number of processes, because `average` divides by that number.

    Args:
        x: (counts[rank], …), the rows of this process.
        counts: the number of rows of each process.

    Returns:
        (Σ counts, …).
    """
    if _world.size == 1:
        return x
    out: Tensor = _ShareRows.apply(x, tuple(counts))  # type: ignore[no-untyped-call]
    return out


class _ShareRows(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: tuple[int, ...]) -> Tensor:
        ctx.counts = counts
        most = max(counts)  # gloo refuses unequal sizes
        if len(x) < most:
            x = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
        return torch.cat([part[:count] for part, count in zip(share(x), counts)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        start = sum(ctx.counts[: _world.rank])
        return grad[start : start + ctx.counts[_world.rank]] * len(ctx.counts), None


def total(x: Tensor) -> Tensor:
    """The sum over all processes, without gradient."""
    if _world.size == 1:
        return x
    x = x.detach().clone(memory_format=torch.contiguous_format)
    _collective(dist.all_reduce, x)
    return x


def average(grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The means over all processes; a None is None in all of them. One collective for each dtype.

    Args:
        grads: gradients of the same parameters in every process.
    """
    means = list(grads)
    if _world.size == 1:
        return means
    for dtype in dict.fromkeys(g.dtype for g in grads if g is not None):
        where = [i for i, g in enumerate(grads) if g is not None and g.dtype == dtype]
        some = [g for g in grads if g is not None and g.dtype == dtype]
        flat = torch.cat([g.detach().reshape(-1) for g in some])
        _collective(dist.all_reduce, flat)
        flat /= _world.size
        for i, g, part in zip(where, some, torch.split(flat, [g.numel() for g in some])):
            means[i] = part.view(g.shape)
    return means


@torch.no_grad()
def copy_from_first(tensors: Sequence[Tensor]) -> None:
    """Give the tensors of every process the values of process 0, in place. One collective for each dtype."""
    if _world.size == 1:
        return
    for dtype in dict.fromkeys(x.dtype for x in tensors):
        some = [x for x in tensors if x.dtype == dtype]
        flat = torch.cat([x.reshape(-1) for x in some])
        _collective(dist.broadcast, flat, src=0)
        for x, part in zip(some, torch.split(flat, [x.numel() for x in some])):
            x.copy_(part.view(x.shape))


def from_first(value: T) -> T:
    """The value of process 0, such as a decision: numbers, texts, None, and lists and dicts of them."""
    if _world.size == 1:
        return value
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor([len(text)])
    copy_from_first([size])
    text = text if is_first() else text.new_zeros(int(size))
    copy_from_first([text])
    return json.loads(text.numpy().tobytes())  # type: ignore[no-any-return]


def in_all(function: Callable[[], T]) -> T:
    """Call a function in every process; where it raises in one, it raises in all, so that none waits for the others."""
    result, error = None, None
    try:
        result = function()
    except Exception as raised:
        error = raised
    if _world.size == 1 or not float(total(torch.tensor(float(error is not None)))):
        if error is not None:
            raise error
        return cast(T, result)
    raise error or RunError(f"process {_world.rank} of {_world.size} succeeded where another one failed.")


def on_first(write: Callable[[], object]) -> None:
    """Call a function in process 0 alone; every process returns when it is done."""
    if is_first():
        write()
    if _world.size > 1:
        barrier()


def check_same(**found: str) -> None:
    """Check that every process has the same texts, such as digests of its data.

    Args:
        found: what is compared -> its text.

    Raises:
        RunError: names the first thing that differs, and the processes that differ from process 0.
    """
    for what, text in found.items():
        every = share(torch.frombuffer(bytearray(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8))
        if others := [str(k) for k, digest in enumerate(every) if not torch.equal(digest, every[0])]:
            raise RunError(
                f"process {', '.join(others)} of {_world.size} has other {what} than process 0. All of them must read "
                "the same files with the same settings."
            )


def check_devices(device: torch.device) -> None:
    """Check that no two processes train on one GPU.

    Raises:
        ConfigError: two do; names them.
    """
    if _world.size == 1 or device.type == "cpu":
        return
    machine = int.from_bytes(hashlib.sha256(socket.gethostname().encode()).digest()[:6], "big")
    every = [tuple(x.tolist()) for x in share(torch.tensor([machine, device.index or 0]))]
    for rank, place in enumerate(every):
        if every.index(place) < rank:
            raise ConfigError(
                f"processes {every.index(place)} and {rank} would both train on {device.type}:{place[1]}: set "
                f"training.device={device.type}, which gives each its own, and start as many processes on a machine as "
                "it has GPUs (torchrun --nproc-per-node)."
            )
