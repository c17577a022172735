"""Distillation methods: the contract of a method, the registry, and the parser of method names."""

from __future__ import annotations

from sidelight.methods.base import Method, Step, Supervised, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.distillation import Distillation, DistillationLoss, Teacher
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.registry import CONTROLS, METHODS
from sidelight.methods.spec import MethodSpec, check_options, parse_methods, read_options
from sidelight.methods.teacher_outputs import CachedOutputs
from sidelight.methods.tnet_training import Hallucination

__all__ = [
    "CONTROLS",
    "METHODS",
    "CachedOutputs",
    "Distillation",
    "DistillationLoss",
    "Hallucination",
    "Method",
    "MethodSpec",
    "MultiStageMethod",
    "Step",
    "Supervised",
    "Teacher",
    "TrainState",
    "TrainingContext",
    "check_options",
    "parse_methods",
    "read_options",
]  # fmt: skip
