"""Read an experiment's settings from a file, a mapping and overrides, write them as YAML, and compare two of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sidelight.config.check import check
from sidelight.config.io import build, find, flatten
from sidelight.config.paths import resolve_paths
from sidelight.config.renamed import current_name
from sidelight.config.schema import Config
from sidelight.errors import ConfigError, shown
from sidelight.utils.yaml12 import read_yaml, write_yaml


def load_config(source: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read an experiment's settings, then apply overrides.

    Args:
        source: path of a YAML file, or a mapping (nested, or with dotted names); None: the defaults.
        overrides: texts such as `"transport.epsilon=0.05"`, which replace what `source` gives.

    Returns:
        The settings, checked.

    Raises:
        ConfigError: a setting is unknown, of the wrong type or out of range; the message names it.
    """
    overrides = list(overrides)
    path = Path(source) if isinstance(source, str | Path) else None
    tree = source if isinstance(source, Mapping) else {}
    flat: dict[str, Any] = {}
    try:
        flat = dict(flatten(Config, tree)) if path is None else read_experiment(path)
        if path is not None and "data" not in flat:
            raise ConfigError("`data` is missing. An experiment needs at least `data: phone-watch`, or a path.")
        config = build(Config, flat | read_overrides(overrides))
        check(config)
        return config
    except ConfigError as error:
        # The file is named unless an override may be at fault, or the error names the file already.
        of_file = path is not None and not (flat and overrides) and not str(error).startswith(str(path))
        raise ConfigError(f"{path}: {error}" if of_file else str(error)) from None


def read_overrides(overrides: Iterable[str]) -> dict[str, str]:
    """Texts `"transport.epsilon=0.05"` by dotted name; ConfigError for what is no setting."""
    flat = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"cannot read {shown(override)}: expected setting=value, e.g. transport.epsilon=0.05.")
        flat[find(Config, current_name(name.strip())).name] = text.strip()
    return flat


def read_experiment(path: Path, beside: Collection[str] = ()) -> dict[str, Any]:
    """Read a YAML file's settings by dotted name.

    A relative path (`data`, `network.weights.…`, an encoder `hf:…`) is looked up in the file's folder, then in the
    working directory. The `config.yaml` of a stored run keeps the run's own folder as its output.

    Args:
        path: the file.
        beside: sections of the file that are no settings, and are left out.
    """
    stored = path.name == "config.yaml" and (path.parent / "jobs").is_dir()
    tree = {name: value for name, value in read_yaml(path).items() if name not in beside}
    flat = dict(flatten(Config, tree, warn=not stored))
    if stored:
        flat["output"] = str(path.parent)
    return resolve_paths(flat, path.parent, stored)


def dump_config(config: Config) -> str:
    """Write the settings as YAML, from which `load_config` reads the same settings."""
    return write_yaml(config)


FREE = (
    "output", "jobs", "checkpoint_seconds", "methods", "placebo", "self_distillation", "seeds", "label_fraction",
    "reference", "ablation", "training.device", "training.stack", "max_failures", "tracking",
)  # fmt: skip
"""Settings with other values of which a run may be resumed: they change which jobs run, and how, but no job's result.

Devices round differently, so a run that is resumed on another device says so. So do stacks of other sizes.
"""


def difference(a: Config, b: Config, ignore: Iterable[str] = FREE) -> dict[str, tuple[Any, Any]]:
    """Find the settings that differ between two experiments.

    Args:
        a, b: the two experiments' settings.
        ignore: dotted names that may differ.

    Returns:
        Dotted name -> (value in `a`, value in `b`); empty if both experiments give the same results.
    """
    left, right = dict(flatten(Config, asdict(a))), dict(flatten(Config, asdict(b)))
    names = [name for name in {**left, **right} if name not in set(ignore)]
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}
