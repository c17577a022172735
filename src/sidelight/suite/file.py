"""Read a suite: settings that all data sets share, and those of each set."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sidelight.config import Config, check
from sidelight.config.io import build, flatten
from sidelight.config.load import read_overrides
from sidelight.config.paths import resolve_paths
from sidelight.errors import ConfigError, shown, unknown
from sidelight.methods import check_options, parse_methods
from sidelight.utils.yaml12 import read_yaml

CONTROLS = ("placebo", "self_distillation")
WORDS = ("best", "all", "none")
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
EXAMPLE = "Name the data sets under it, e.g. sets: {phone-watch: {}, mine: {data: mine.csv, target: pain}}"


@dataclass(frozen=True)
class SuitePlan:
    """A suite, checked.

    Args:
        output: its folder; each set's run folder is in it.
        sets: name -> settings.
        own_methods: the sets that name their own methods, which are then not left out where they do not suit.
    """

    output: Path
    sets: dict[str, Config]
    own_methods: frozenset[str]

    def without(self, config: Config, methods: Collection[str]) -> Config:
        """A set's settings without some methods and their controls."""
        kept = [m for m in config.methods if m not in methods]
        controls: dict[str, Any] = {name: _keep(getattr(config, name), kept) for name in CONTROLS}
        return replace(config, methods=kept, **controls)


def read_suite(
    source: str | Path | Mapping[str, Any], overrides: Iterable[str] = (), output: str | None = None
) -> SuitePlan:
    """Read a suite and check the settings of every set.

    Args:
        source: a YAML file or a mapping. Beside `sets` it holds settings of an experiment, which all sets share; a
            set's own replace them. A set without `data` is the data set of its name. Relative paths are looked up in
            the file's folder, then in the working directory.
        overrides: texts such as "folds=3", which replace the settings of every set.
        output: the suite's folder; None: the setting `output`, else runs/<name of the file>.

    Raises:
        ConfigError: names the file, the set and the setting.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    try:
        tree = dict(read_yaml(path)) if path is not None else dict(source)  # type: ignore[arg-type]
        sets = tree.pop("sets", None)
        if not isinstance(sets, Mapping) or not sets:
            raise ConfigError(f"`sets` is {'missing' if sets is None else shown(sets)}. {EXAMPLE}.")
        shared = dict(flatten(Config, tree))
        if "data" in shared:
            raise ConfigError(f"data: each set of a suite has its own. {EXAMPLE}.")
        more: dict[str, Any] = dict(read_overrides(overrides))
        if "data" in more:
            raise ConfigError("data: a suite has several; name them under `sets`.")
        folder = output or more.pop("output", None) or shared.pop("output", None)
        if "://" in str(folder):
            raise ConfigError(
                f"output={folder!r} is a URL: the folder of a suite is on a file system. Run its sets one by one "
                "(sidelight run) to have them at URLs."
            )
        folder = Path(folder or Path("runs") / (path.stem if path is not None else "suite"))
        for given in (shared, more):
            given.pop("output", None)
        base = path.parent if path is not None else Path()
        _check_names(sets)
        plans, own = {}, []
        for name, settings in sets.items():
            try:
                plans[name], has_own = _read_set(name, settings, shared, more, base, folder)
            except ConfigError as error:
                raise ConfigError(f"sets.{name}: {error}") from None
            own += [name] if has_own else []
        return SuitePlan(folder, plans, frozenset(own))
    except ConfigError as error:
        named = path is not None and not str(error).startswith(str(path))
        raise ConfigError(f"{path}: {error}" if named else str(error)) from None


def _check_names(sets: Mapping[Any, Any]) -> None:
    """Names become folders: no two of them may be one on a file system that ignores capitals."""
    seen: dict[str, str] = {}
    for name in sets:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(
                f"sets: {shown(name)} is no name for a set, which also names its folder: expected letters, digits, "
                "-, _ and dots, the first of them a letter or a digit."
            )
        if name.endswith((".html", ".csv", ".json")):
            raise ConfigError(f"sets: {shown(name)} is no name for a set: files of the suite end so.")
        if name.lower() in seen:
            raise ConfigError(f"sets: {name!r} and {seen[name.lower()]!r} differ in capitals alone; rename one.")
        seen[name.lower()] = name


def _read_set(
    name: str, settings: Any, shared: Mapping[str, Any], more: Mapping[str, Any], base: Path, folder: Path
) -> tuple[Config, bool]:
    """The settings of one set, checked, and whether it names its own methods."""
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"expected settings, e.g. {{data: {name}.csv}}, not {shown(settings)}.")
    own = dict(flatten(Config, settings or {}))
    if "output" in own:
        raise ConfigError("output: a set's folder is that of its name, in the folder of the suite.")
    flat = resolve_paths({"data": name, **shared, **own}, base)
    flat = {**flat, **more, "output": str(folder / name)}
    config = build(Config, flat)
    # Controls that all sets share may name methods that only others have.
    parse_methods(config.methods)
    for control in CONTROLS:
        if control in own:
            continue
        known = [*WORDS, *config.methods, *_names(shared.get("methods")), *_names(more.get("methods"))]
        for method in getattr(config, control):
            if method not in known:
                raise ConfigError(unknown(f"method of {control}", method, known))
        kept: dict[str, Any] = {control: _keep(getattr(config, control), config.methods)}
        config = replace(config, **kept)
    check(config)
    check_options(config)
    return config, "methods" in own and "methods" not in more


def _names(given: Any) -> list[str]:
    return given.split(",") if isinstance(given, str) else list(given or [])


def _keep(chosen: list[str], methods: list[str]) -> list[str]:
    """The names of a control that are words, or methods of the set; "none" if none is."""
    return [name for name in chosen if name in WORDS or name in methods] or ["none"]
