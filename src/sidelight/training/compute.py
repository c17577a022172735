"""Computes on a device: repeatable operations where they are asked for, and errors of the device in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from sidelight.config import TrainingConfig
from sidelight.errors import RunError
from sidelight.utils.device import explain_out_of_memory


@contextmanager
def compute_on(device: torch.device, settings: TrainingConfig) -> Iterator[None]:
    """Compute with the settings `training.*`; torch's flags are restored at the end.

    Args:
        device: the device of the networks.
        settings: with `deterministic`, only operations that repeat to the bit are allowed.

    Raises:
        RunError: the device ran out of memory, or has no repeatable version of an operation.
    """
    mend = (
        f"training.batch_size is {settings.batch_size}: lower it, or keep it and set training.accumulate=4 (encoders "
        "read a batch in pieces) or training.precision=bf16. A smaller network (network.encoder, network.width) helps "
        "too, and jobs=1: several worker processes share the memory."
    )
    # Kernels of Triton run on the current device.
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with current, _repeatable(settings.deterministic), explain_out_of_memory(device, mend):
        try:
            yield
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            raise RunError(
                f"training.deterministic=true: {str(error).partition(',')[0]} on {device}. Set "
                "training.deterministic=false, or use another encoder or method."
            ) from error


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
