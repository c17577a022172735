"""The data and settings of a call from Python."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidelight.config import Config, load_config
from sidelight.data import Dataset
from sidelight.data.lengths import warn_long_rows
from sidelight.data.load import load_for
from sidelight.errors import ConfigError, shown
from sidelight.experiment.provenance import Encoders


def read_inputs(
    data: Any,
    available: Sequence[str],
    privileged: Sequence[str],
    methods: Sequence[str],
    encoders: Encoders | None,
    settings: Mapping[str, Any],
) -> tuple[Config, Dataset]:
    """The settings and the rows of a call of `compare` or `sweep`, which describe the arguments.

    Raises:
        ConfigError, DataError: name what is wrong, and the mend.
    """
    named = data if isinstance(data, (str, Path)) else ""
    config = load_config(
        {
            "data": str(named) or "(in memory)",
            "available": _names(available),
            "privileged": _names(privileged),
            "methods": _names(methods),
            **settings,
        }
    )
    if isinstance(data, Dataset):
        for name in ("target", "group", "split", "time", "longest", "modalities", "table"):
            if getattr(config, name):
                raise ConfigError(f"{name}: a Dataset has its own; say it where the data are loaded.")
        warn_long_rows(data.name, data.lengths, data.ids)
    if encoders is not None and not (isinstance(encoders, Mapping) and all(map(callable, encoders.values()))):
        raise ConfigError(f"encoders: expected a mapping from modalities to functions, not {shown(encoders)}.")
    dataset = data if isinstance(data, Dataset) else load_for(config, data)
    return (config if named else replace(config, data=dataset.name)), dataset


def _names(given: Any) -> Any:
    """Names as a list; anything else is left to `load_config`, which raises the error."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else given


def stop_time(config: Config, time_limit: float | None) -> float:
    """When a run has to begin to stop, in seconds since the epoch, so that it has ended when its time is over."""
    if time_limit is None:
        return math.inf
    if not time_limit > 0:
        raise ConfigError(f"time_limit: expected seconds above 0, or None, not {shown(time_limit)}.")
    return time.time() + time_limit - min(config.checkpoint_seconds, time_limit / 10)
