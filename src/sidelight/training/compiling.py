"""Encoders that torch.compile translates for the time of a training (`training.compile`)."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sidelight.config import TrainingConfig
from sidelight.errors import ConfigError
from sidelight.methods.base import Method
from sidelight.utils.distributed import get_world

BACKEND = "inductor"
MOST = 64
"""Translations of one class of encoders in a process: shapes of modalities, sizes of batches, precisions."""
COMPILERS = ("g++", "clang++", "c++", "cl")
"""C++ compilers that torch uses, unless the environment variable CXX names another."""


def check_compile(settings: TrainingConfig, device: torch.device) -> None:
    """Check that encoders can be compiled with these settings.

    Args:
        settings: the settings `training.*`.
        device: where networks are trained.

    Raises:
        ConfigError: they cannot; says why.
    """
    if settings.compile and (why := explain_uncompilable(settings, device)):
        raise ConfigError(f"training.compile=true: {why} Set training.compile=false.")


def explain_uncompilable(settings: TrainingConfig, device: torch.device) -> str:
    """Why no encoder can be compiled with these settings, as a sentence; "" if nothing prevents it."""
    if settings.stack > 1:
        return f"encoders of a stack are run by torch.vmap and not one by one (training.stack={settings.stack})."
    if settings.accumulate > 1:
        return f"encoders that read a batch in pieces run each piece twice (training.accumulate={settings.accumulate})."
    if get_world().size > 1:
        return "several processes exchange statistics between the layers of an encoder."
    if device.type == "cuda":
        return "" if importlib.util.find_spec("triton") else "torch compiles for a GPU with triton, which is missing."
    if device.type != "cpu":
        return f"torch compiles for CPUs and CUDA GPUs, and networks are trained on {device}."
    compiler = os.environ.get("CXX", "")
    if any(shutil.which(name) for name in ([compiler] if compiler else COMPILERS)):
        return ""
    return f"torch compiles for a CPU with a C++ compiler, and finds no {compiler or ' or '.join(COMPILERS[:2])}."


@contextmanager
def compiled_encoders(method: Method) -> Iterator[None]:
    """Run the encoders of a method compiled while they are in training mode.

    In evaluation mode they run as they are, so scores are those of the network that is stored. Names and values of
    weights stay as they are.

    Args:
        method: the method.

    Raises:
        ConfigError: an encoder cannot be compiled; names it. Raised by its first step.
    """
    found = {id(encoder): (encoder, name) for name, encoder in _find_encoders(method)}
    for encoder, name in found.values():
        if any(isinstance(module, nn.RNNBase) for module in encoder.modules()):
            raise ConfigError(_explain(name, "torch.compile leaves recurrent layers as they are."))
    try:
        for encoder, name in found.values():
            vars(encoder)["forward"] = _compile(encoder, name)
        # Encoders of one class share the count of translations, also those of other jobs of a worker.
        with torch._dynamo.config.patch(recompile_limit=MOST):
            yield
    finally:
        for encoder, _ in found.values():
            vars(encoder).pop("forward", None)


def _find_encoders(method: Method) -> Iterator[tuple[str, nn.Module]]:
    """The encoders in a method that have weights to train, with their modalities."""
    for module in method.modules():
        encoders = getattr(module, "encoders", None)
        if isinstance(encoders, nn.ModuleDict):
            for name, encoder in encoders.items():
                if any(p.requires_grad for p in encoder.parameters()):
                    yield name, encoder


def _compile(encoder: nn.Module, name: str) -> Callable[..., Any]:
    """The forward function of an encoder, compiled in training mode."""
    plain = encoder.forward
    # With fullgraph an encoder that torch can translate in part is an error, not a network of the same speed. A size
    # that turns out to differ between batches is translated as a variable; torch fails at convolutions over clips where
    # all sizes are variables (dynamic=True).
    compiled = torch.compile(plain, fullgraph=True, backend=BACKEND)

    def forward(*inputs: Any, **named: Any) -> Any:
        if not encoder.training:
            return plain(*inputs, **named)
        try:
            return compiled(*inputs, **named)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ConfigError(_explain(name, lines[0].rstrip(".") + ".")) from error

    return forward


def _explain(name: str, why: str) -> str:
    return f"training.compile=true: the encoder of {name!r} cannot be compiled: {why} Set training.compile=false."
