"""Distillation methods: the contract, the registry of names, and how a name in an experiment is read."""

from __future__ import annotations

from sidelight.methods.base import Method, Step, Supervised, TrainState
from sidelight.methods.context import TrainingContext
from sidelight.methods.distillation import Distillation, DistillationLoss, Hallucination, Teacher
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.registry import CONTROLS, METHODS
from sidelight.methods.spec import MethodSpec, check_options, options_of, parse_methods
from sidelight.methods.teacher_outputs import CachedOutputs

__all__ = [
    "CONTROLS", "METHODS", "CachedOutputs", "Distillation", "DistillationLoss", "Hallucination", "Method",
    "MethodSpec", "MultiStageMethod", "Step", "Supervised", "Teacher", "TrainState", "TrainingContext",
    "check_options", "options_of", "parse_methods",
]  # fmt: skip
