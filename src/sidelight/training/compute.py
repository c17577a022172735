"""Computes on a device: repeatable operations where they are asked for, and errors of the device in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sidelight.config import TrainingConfig
from sidelight.errors import RunError, SidelightError
from sidelight.utils.device import describe_device

OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


@contextmanager
def compute_on(device: torch.device, settings: TrainingConfig) -> Iterator[None]:
    """Compute with the settings `training.*`; torch's flags are restored at the end.

    Args:
        device: the device of the networks.
        settings: with `deterministic`, only operations that repeat to the bit are allowed.

    Raises:
        RunError: the device ran out of memory, or has no repeatable version of an operation.
    """
    with _repeatable(settings.deterministic):
        try:
            yield
        except SidelightError:  # some are RuntimeErrors too
            raise
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise RunError(
                    f"{describe_device(device)} ran out of memory with training.batch_size={settings.batch_size}: "
                    f"lower training.batch_size, or build a smaller network (network.encoder, network.width). Several "
                    "worker processes share the memory: jobs=1 starts one."
                ) from error
            if "does not have a deterministic implementation" in str(error):
                raise RunError(
                    f"training.deterministic=true: {str(error).partition(',')[0]} on {device}. Set "
                    "training.deterministic=false, or use another encoder or method."
                ) from error
            raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    # Apple's GPUs and CPUs raise a plain RuntimeError.
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None)


@contextmanager
def _repeatable(deterministic: bool) -> Iterator[None]:
    """Allow only operations that repeat to the bit on the same device."""
    if not deterministic:
        yield
        return
    # cuBLAS reads it once, before its first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)  # cuDNN's too
    torch.backends.cudnn.benchmark = False  # it would choose algorithms by their time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
