"""Which methods can be trained stacked: several of one structure as one batched model."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sidelight.methods.base import Method
from sidelight.methods.teacher_outputs import OnlineOutputs
from sidelight.networks.modality_imputer import ModalityImputer


def explain_unstackable(method: Method) -> str:
    """Why the losses or networks of a method cannot be trained stacked, as the end of a sentence; "" if they can."""
    if not method.stackable or type(method).steps is not Method.steps:
        return "its losses are not written for several models at once"
    for module in method.modules():
        if isinstance(module, nn.RNNBase):
            return "torch cannot run recurrent encoders of several models at once"
        if isinstance(module, _BatchNorm) or getattr(module, "batch_statistics", False):
            return "batch normalisation would count padding rows"
        if isinstance(module, ModalityImputer):
            return "its student completes missing modalities, with losses that would count padding rows"
        if isinstance(module, OnlineOutputs):
            return "its teacher is run at every step"
    return ""
