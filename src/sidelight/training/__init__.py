"""The loop, its stages and its checkpoints."""

from sidelight.training.fit import History, fit

__all__ = ["History", "fit"]
