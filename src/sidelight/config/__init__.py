"""Settings: their schema, ranges and spellings, and the way between YAML, `key=value` texts and dataclasses."""

from __future__ import annotations

from sidelight.config.check import check
from sidelight.config.load import FREE, difference, dump_config, load_config, read_experiment
from sidelight.config.schema import (
    OF_CLASSES,
    AugmentConfig,
    BalanceConfig,
    Config,
    NetworkConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    TransportConfig,
)

__all__ = [
    "FREE",
    "OF_CLASSES",
    "AugmentConfig",
    "BalanceConfig",
    "Config",
    "NetworkConfig",
    "StudentConfig",
    "TeacherConfig",
    "TrainingConfig",
    "TransportConfig",
    "check",
    "difference",
    "dump_config",
    "load_config",
    "read_experiment",
]
