"""An experiment's settings from a file, a mapping and overrides; back to YAML; and where two experiments differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sidelight.config.check import check
from sidelight.config.io import build, find, flatten
from sidelight.config.paths import found_from
from sidelight.config.schema import Config
from sidelight.errors import ConfigError, shown
from sidelight.utils.yaml12 import read_yaml, write_yaml


def load_config(source: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()) -> Config:
    """An experiment from a YAML file or a mapping, changed by `overrides` like `"transport.epsilon=0.05"`.

    Raises:
        ConfigError: a setting that does not exist, of the wrong type or out of range; the message names it.
    """
    overrides = list(overrides)
    path = Path(source) if isinstance(source, str | Path) else None
    tree = source if isinstance(source, Mapping) else {}
    flat: dict[str, Any] = {}
    try:
        flat = dict(flatten(Config, tree)) if path is None else read_experiment(path)
        if path is not None and "data" not in flat:
            raise ConfigError("names no data. An experiment needs at least `data: phone-watch`, or a path.")
        for override in overrides:
            name, equals, text = override.partition("=")
            if not equals:
                raise ConfigError(
                    f"cannot read {shown(override)}: expected setting=value, e.g. transport.epsilon=0.05."
                )
            flat[find(Config, name.strip()).name] = text.strip()
        config = build(Config, flat)
        check(config)
        return config
    except ConfigError as error:
        of_file = path is not None and not (flat and overrides) and not str(error).startswith(str(path))
        raise ConfigError(f"{path}: {error}" if of_file else str(error)) from None


def read_experiment(path: Path) -> dict[str, Any]:
    """The settings that a YAML file names, by their dotted names.

    A relative path (`data`, `network.weights.…`, an encoder `hf:…`) starts at the file's folder; where nothing is
    there, at the working directory. The `config.yaml` of a stored run goes on in its own folder.
    """
    flat = dict(flatten(Config, read_yaml(path)))
    stored = path.name == "config.yaml" and (path.parent / "jobs").is_dir()
    if stored:
        flat["output"] = str(path.parent)
    return found_from(flat, path.parent, stored)


def dump_config(config: Config) -> str:
    """The experiment as YAML; `load_config` of it gives the same experiment."""
    return write_yaml(config)


FREE = (
    "output", "jobs", "checkpoint_seconds", "methods", "placebo", "self_distillation", "seeds", "label_groups",
)  # fmt: skip
"""Settings that change which jobs there are, or how they run, and no job's result: a run may be resumed with others."""


def difference(a: Config, b: Config, ignore: Iterable[str] = FREE) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, {dotted name: (of a, of b)}; empty where `b` would give the same results as `a`."""
    of_a, of_b, skip = dict(flatten(Config, asdict(a))), dict(flatten(Config, asdict(b))), set(ignore)
    pairs = {name: (of_a.get(name), of_b.get(name)) for name in {**of_a, **of_b} if name not in skip}
    return {name: (left, right) for name, (left, right) in pairs.items() if left != right}
