"""Import optional packages, with an error that tells how to install them."""

from __future__ import annotations

import importlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sidelight.errors import RunError


def install(extra: str) -> str:
    """The command that installs an extra, from the checkout as sidelight itself."""
    return f'pip install ".[{extra}]" in sidelight\'s folder'


def import_apart(module: str) -> Any:
    """Import a module in a thread of its own.

    Some keep an error of what they import themselves, and with it the frames of whoever imports them first, and all
    rows, networks and caches that these hold: optuna 5.0.0, which monai 1.6.1 imports where it is installed.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(importlib.import_module, module).result()


def optional(package: str, extra: str, purpose: str) -> Any:
    """Import an optional package.

    Args:
        package: its name.
        extra: the extra of sidelight that installs it.
        purpose: what needs it, for the error.

    Raises:
        RunError: it cannot be imported; the message names the extra.
    """
    try:
        return import_apart(package)
    except ImportError as error:
        raise RunError(f"{purpose} needs {package}, which cannot be imported ({error}): {install(extra)}") from error


def explain(name: str, error: str) -> str:
    """Explain a package's import error."""
    if re.search(r"torchvision::|torchaudio|undefined symbol|cannot open shared object|libcudart|_C\b", error):
        return (
            f"{name} (or what it is built on) was built for another torch than the one installed: another version, or "
            "CUDA where torch is for CPUs. Install both from one index, or uninstall it; sidelight does not need it."
        )
    return f"reinstall {name}, or uninstall it; sidelight does not need it"
