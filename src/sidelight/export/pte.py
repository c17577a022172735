"""Lower a torch.export program to ExecuTorch, for phones and microcontrollers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import RunError

MEND = "pip install executorch, in the release that fits your torch"


def import_executorch() -> tuple[Any, Any]:
    """What lowers a program, and what runs it; raises RunError if ExecuTorch cannot be imported."""
    try:
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime
    except ImportError as error:
        raise RunError(f"writing .pte needs ExecuTorch, which cannot be imported ({error}): {MEND}") from error
    return to_edge_transform_and_lower, Runtime


def lower(program: bytes) -> tuple[bytes, Callable[[list[Tensor]], list[NDArray]]]:
    """Lower a program to ExecuTorch's portable operators, which run on every device.

    Args:
        program: a .pt2 file with a bound on its rows, because memory is planned ahead.

    Returns:
        The content of the .pte file and a function that runs it.

    Raises:
        RunError: there is no ExecuTorch, or it cannot lower the program.
    """
    to_edge_transform_and_lower, runtime = import_executorch()
    try:
        lowered = to_edge_transform_and_lower(torch.export.load(io.BytesIO(program))).to_executorch()
        content = bytes(lowered.buffer)
        method = runtime.get().load_program(content).load_method("forward")
    except Exception as error:  # it has many
        raise RunError(f"this network cannot be lowered to ExecuTorch: {type(error).__name__}: {error}") from error
    if method is None:
        raise RunError("ExecuTorch wrote a program that it cannot load; nothing was written")

    def run(tensors: list[Tensor]) -> list[NDArray]:
        # It refuses tensors whose memory has another order than their shape.
        return [out.numpy().copy() for out in method.execute([tensor.contiguous() for tensor in tensors])]

    return content, run
