"""Settings: their schema, ranges and spellings, and the way between YAML, `key=value` texts and dataclasses."""

from __future__ import annotations

from sidelight.config.schema import (
    FREE,
    OF_CLASSES,
    AugmentConfig,
    BalanceConfig,
    Config,
    NetworkConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    TransportConfig,
    check,
    difference,
    dump_config,
    load_config,
    read_experiment,
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
