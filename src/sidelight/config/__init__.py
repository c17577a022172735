"""Settings: their schema, their ranges, and reading them from YAML, `key=value` texts and Python."""

from __future__ import annotations

from sidelight.config.check import check
from sidelight.config.load import FREE, difference, dump_config, load_config, read_experiment
from sidelight.config.schema import (
    CLASS_TASKS,
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
    "CLASS_TASKS",
    "FREE",
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
