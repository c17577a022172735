"""The device that networks are trained on and predict on."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sidelight.errors import ConfigError, RunError, SidelightError, shown
from sidelight.utils.machine import memory

CPU = torch.device("cpu")


def choose_device(name: str = "auto", setting: str = "training.device") -> torch.device:
    """Choose the device of a run, and check that it computes.

    Args:
        name: "auto" (a CUDA GPU if there is one, else Apple's "mps", else "cpu"), "cpu", "cuda", "cuda:1", "mps", or
            another device that this torch knows.
        setting: what errors call the setting.

    Returns:
        The device, with its number: "cuda" gives cuda:0 unless another one is current.

    Raises:
        ConfigError: there is no such device, or it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(
            f"{setting}: {shown(name)} is not a device; expected auto, cpu, cuda, cuda:1 (the second GPU) or mps."
        ) from None
    if why := _explain_absent(device):
        raise ConfigError(f"{setting}={name}: {why} Set {setting}=auto to train on what this machine has.")
    try:
        one = torch.ones(8, device=device)  # no matrix product: cuBLAS would read its settings before they are set
        if float((one + one).sum()) != 16:
            raise RuntimeError("it computes wrongly")
    except Exception as error:  # drivers raise many kinds of errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(
            f"{setting}={name} cannot be used: {reason}. `sidelight doctor` checks the devices of this machine; "
            f"{setting}=cpu does without them."
        ) from None
    return one.device


def _explain_absent(device: torch.device) -> str:
    """Why this machine does not have a device, as a sentence; "" if it may have it."""
    if device.type == "meta":
        return "a meta device computes nothing."
    if device.type == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return f"this torch ({torch.__version__}) is built for CPUs; install one that is built for CUDA."
        if not torch.cuda.is_available():
            return "torch sees no CUDA device, so there is no GPU, or its driver is missing or too old."
        count = torch.cuda.device_count()
        if device.index is not None and device.index >= count:
            last = f" to cuda:{count - 1}" if count > 1 else ""
            return f"this machine has {count} CUDA device{'s' * (count > 1)}, cuda:0{last}."
    if device.type == "mps" and not torch.backends.mps.is_available():
        return "this torch sees no Apple GPU (macOS on Apple silicon)."
    return ""


def describe_device(device: torch.device) -> str:
    """The device with its name: "cuda:0 (NVIDIA H200)"; "cpu"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} (Apple GPU)" if device.type == "mps" else str(device)


def measure_memory(device: torch.device) -> int:
    """Bytes of memory of a device, for the CPU those of the machine; 0 if they are unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return memory() if device.type == "cpu" and memory() < sys.maxsize else 0


def default_workers(device: torch.device, cores: int) -> int:
    """The number of worker processes of a run: one per core, or one on an accelerator, which they would share."""
    return cores if device.type == "cpu" else 1


def supports_bf16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16; a CUDA GPU must do so in hardware."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        one = torch.ones(8, 8, device=device, dtype=torch.bfloat16)
        return float((one @ one).float().sum()) == 512
    except (RuntimeError, TypeError):
        return False


SHARE = 0.25
"""The share of an accelerator's free memory that a cached tensor may take; the rest is for networks and batches."""


def fits(nbytes: int, device: torch.device) -> bool:
    """Whether data of this size should be held on a device: on the CPU always, elsewhere in a share of free memory."""
    if device.type == "cuda":
        # Memory that torch holds but does not use is free for this process.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return nbytes <= SHARE * (torch.cuda.mem_get_info(device)[0] + unused)
    if device.type == "mps":
        return nbytes <= SHARE * (torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return True


OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


@contextmanager
def explain_out_of_memory(device: torch.device, mend: str) -> Iterator[None]:
    """Raise a RunError with `mend` if the device, or the machine, has no memory left.

    Args:
        device: where the networks are.
        mend: sentences that say what helps.
    """
    try:
        yield
    except SidelightError:  # some are RuntimeErrors too
        raise
    except (RuntimeError, MemoryError) as error:
        # Apple's GPUs and CPUs raise a plain RuntimeError.
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and OUT_OF_MEMORY.search(str(error)) is None:
            raise
        raise RunError(f"{describe_device(device)} ran out of memory. {mend}") from error


def to_cpu(value: Any) -> Any:
    """A tree of mappings, lists and tensors with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, Mapping):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(to_cpu, value))
    return value
