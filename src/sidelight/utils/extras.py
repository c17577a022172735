"""Packages that only some parts need: imported when used, or an error that says how to install them."""

from __future__ import annotations

import importlib
import re
from typing import Any

from sidelight.errors import RunError


def install(extra: str) -> str:
    """How to get an extra: from the checkout, as sidelight itself is installed."""
    return f'pip install ".[{extra}]" in sidelight\'s folder'


def optional(package: str, extra: str, purpose: str) -> Any:
    """The imported package; RunError, naming the extra that brings it, where it cannot be imported."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RunError(f"{purpose} needs {package}, which cannot be imported ({error}): {install(extra)}") from error


def explain(name: str, error: str) -> str:
    """What a provider's import error means."""
    if re.search(r"torchvision::|torchaudio|undefined symbol|cannot open shared object|libcudart|_C\b", error):
        return (
            f"{name} (or what it is built on) was built for another torch than the one installed: another version, or "
            "CUDA where torch is for CPUs. Install both from one index, or uninstall it; sidelight does not need it."
        )
    return f"reinstall {name}, or uninstall it; sidelight does not need it"
