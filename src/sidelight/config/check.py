"""Checks of values and combinations of settings that a field's type cannot express."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sidelight.config.encoder_names import PARTS, check_encoder
from sidelight.config.io import flatten
from sidelight.config.limits import LIMITS, positive
from sidelight.config.schema import Config
from sidelight.errors import ConfigError, shown, unknown
from sidelight.utils.dialect import build_dialect
from sidelight.utils.files import path_fault
from sidelight.utils.names import check_modality


def check(config: Config) -> None:
    """Raise ConfigError for settings that are out of range or contradict each other; the error names the setting."""
    flat = dict(flatten(Config, asdict(config)))
    for name, value in flat.items():
        expected, good = LIMITS.get(name, ("", None))
        for item in value if isinstance(value, list) else [value]:
            if item == "" and isinstance(value, list):
                raise ConfigError(f"{name}: an item is empty.")
            if good and item is not None and not good(item):
                raise ConfigError(f"{name} must be {expected}, got {shown(item)}.")
        if isinstance(value, list) and not _describes_files(name):
            _check_repeats(name, value)
    for part, rate in config.training.learning_rates.items():
        if part not in PARTS:
            raise ConfigError(unknown("part of training.learning_rates", part, PARTS))
        if not positive(rate):
            raise ConfigError(f"training.learning_rates.{part}: expected a number above 0, not {rate!r}.")
    for m in (*config.available, *config.privileged):
        check_modality(m, error=ConfigError)
    build_dialect(config.table)
    for m, columns in config.modalities.items():
        check_modality(m, "modalities", ConfigError)
        texts = isinstance(columns, list) and columns and all(isinstance(c, str) and c for c in columns)
        if not (columns is None or texts or (isinstance(columns, str | dict) and columns)):
            raise ConfigError(
                f"modalities.{m}: expected a prefix of columns (AU_), a list of columns ([gsr, scl]), channels "
                f"(image[3]), settings of its files (size: [96, 128]) or null, not {shown(columns)}."
            )
    for setting in ("encoders", "weights"):
        for m in getattr(config.network, setting):
            check_modality(m, f"network.{setting}", ConfigError)
    check_encoder(config.network.encoder)
    for m, name in config.network.encoders.items():
        check_encoder(name, f"network.encoders.{m}")
    if both := [name for name in config.available if name in config.privileged]:
        raise ConfigError(f"{both[0]!r} is in both available and privileged; a modality is one or the other.")
    if not config.methods:
        raise ConfigError("methods: expected at least one, e.g. kl. `sidelight methods` lists them.")
    if config.live and config.task != "anti-spoofing":
        raise ConfigError(f"live: {config.live!r} names the label of live faces, which only task=anti-spoofing uses.")
    if not config.teacher.sets:
        raise ConfigError("teacher.sets: expected all, each, or sets of privileged modalities such as eda, ecg+emg.")
    for setting, path in (("output", config.output), ("data", config.data)):
        if path and (wrong := path_fault(path)):
            raise ConfigError(f"{setting}: {shown(path)} {wrong}.")
    if not config.data:
        raise ConfigError("data is empty; expected a data set's name or a path.")
    for name in ("placebo", "self_distillation"):
        words, chosen = ("best", "all", "none"), flat[name]
        for item in chosen:
            if item not in (*words, *config.methods):
                raise ConfigError(unknown(f"method of {name}", item, [*words, *config.methods]))
            if item in ("all", "none") and len(chosen) > 1:
                raise ConfigError(f"{name}: {item!r} cannot be combined with other names.")
    if "none" in config.reference and len(config.reference) > 1:
        raise ConfigError("reference: 'none' cannot be combined with other names.")


def _describes_files(name: str) -> bool:
    """Whether a setting is one of a modality's files, in which numbers may repeat: sizes, colours."""
    return name.startswith("modalities.") and name.count(".") > 1


def _check_repeats(name: str, values: list[Any]) -> None:
    """Raise ConfigError for a value that a list holds twice."""
    # Numbers are compared as results are stored: two shares that print alike would share a job's folder.
    texts = [f"{value:g}" if isinstance(value, float) else value for value in values]
    for text in texts:
        if texts.count(text) > 1:
            raise ConfigError(f"{name}: {text} is given twice.")
