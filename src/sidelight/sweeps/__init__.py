"""Sweeps: the ranges of settings, how they are sampled, and which networks they concern."""

from sidelight.sweeps.ready import READY, ReadySweep
from sidelight.sweeps.space import Choices, Interval, Space, is_range, parse_space
from sidelight.sweeps.sweep import SAMPLERS, Draw, Sweep, make_sweep

__all__ = [
    "READY",
    "SAMPLERS",
    "Choices",
    "Draw",
    "Interval",
    "ReadySweep",
    "Space",
    "Sweep",
    "is_range",
    "make_sweep",
    "parse_space",
]
