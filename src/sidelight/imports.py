"""`--import`: runs the user's own Python, so that the command line knows their methods, encoders and data."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from sidelight.errors import ConfigError, shown

WANTED = 'METHODS["huber"] = Huber (from sidelight.methods import METHODS), or ENCODERS = {"modality": function}'


@dataclass(frozen=True)
class Imported:
    """What `--import` made known.

    Attributes:
        encoders: modality -> function, from every `ENCODERS`.
        files: name of the file or module -> SHA-256 of its source, for environment.json.
    """

    encoders: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def import_own(names: Iterable[str]) -> Imported:
    """Import Python files and modules that register methods, encoders, data sets or readers.

    A file is imported under its own name, and its folder is searched for modules from then on, after everything that is
    installed: by both, the worker processes of a run find it too.

    Args:
        names: paths of files (`my_method.py`), or dotted names of modules.

    Raises:
        ConfigError: a file or module is missing, fails, registers nothing, or has the name of another module.
    """
    encoders: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name in names:
        before = _registered()
        module = _module(name)
        own = getattr(module, "ENCODERS", {})
        if not (isinstance(own, Mapping) and all(isinstance(m, str) and callable(e) for m, e in own.items())):
            raise ConfigError(f"--import {name}: ENCODERS must map modalities to functions, not {shown(own)}.")
        if not own and _registered() == before and not _has_registered(module):
            raise ConfigError(f"--import {name}: it registers nothing. Expected {WANTED}.")
        if twice := sorted(encoders.keys() & own.keys()):
            raise ConfigError(f"--import {name}: the encoder of {twice[0]!r} was given by another --import already.")
        encoders |= own
        source = Path(str(module.__file__))
        files[source.name if _is_file(name) else name] = hashlib.sha256(source.read_bytes()).hexdigest()
    return Imported(encoders, files)


def _registered() -> dict[tuple[str, str], int]:
    """The identity of everything in the registries, which are imported only where `--import` is given."""
    from sidelight.data import DATASETS
    from sidelight.methods import METHODS
    from sidelight.readers import READERS

    registries: dict[str, Mapping[str, Any]] = {"method": METHODS, "data set": DATASETS, "reader": READERS}
    return {(kind, name): id(made) for kind, registry in registries.items() for name, made in registry.items()}


def _has_registered(module: ModuleType) -> bool:
    """Whether a method comes from the module or its package, which was imported before."""
    from sidelight.methods import METHODS

    return any(f"{method.__module__}.".startswith(f"{module.__name__}.") for method in METHODS.values())


def _is_file(name: str) -> bool:
    return name.endswith(".py") or "/" in name or "\\" in name


def _module(name: str) -> ModuleType:
    if _is_file(name):
        path = Path(name).resolve()
        if not path.is_file():
            raise ConfigError(f"--import {name}: there is no such file.")
        return _run(name, _importable(name, path), path.parent)
    return _run(name, name, Path.cwd())


def _importable(name: str, path: Path) -> str:
    """The name under which the file is imported: its own, which must be free."""
    stem = path.stem
    if path.suffix != ".py" or not stem.isidentifier():
        raise ConfigError(f"--import {name}: expected a file whose name can be imported, such as my_method.py.")
    loaded = sys.modules.get(stem)
    if loaded is not None:
        taken = getattr(loaded, "__file__", None) is None or Path(str(loaded.__file__)).resolve() != path
    else:
        found = importlib.util.find_spec(stem)
        taken = found is not None and (found.origin is None or Path(found.origin).resolve() != path)
    if taken:
        raise ConfigError(f"--import {name}: a module named {stem!r} exists already; give the file another name.")
    return stem


def _run(name: str, module: str, folder: Path) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
    try:
        made = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"--import {name}: there is no such module; give a file as my_method.py.") from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error
    if not getattr(made, "__file__", None):
        raise ConfigError(f"--import {name}: it is a folder or is built in; give a module that is a Python file.")
    return made


def _failed(name: str, error: BaseException) -> ConfigError:
    """The error of the user's code, with the last of its own lines (not importlib's or a library's)."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    own = [f for f in frames if Path(f.filename).name == Path(name).name or "site-packages" not in f.filename]
    lines = [f for f in own if f.filename != __file__]
    where = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
    if isinstance(error, SyntaxError) and error.lineno:
        where = f" ({Path(error.filename or name).name}, line {error.lineno})"
    what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    return ConfigError(f"--import {name}: it fails with {what}{where}. --debug shows the whole traceback.")
