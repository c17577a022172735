"""The training loop and its checkpoints, optimizers, and the weighting of losses."""

from sidelight.training.fit import fit
from sidelight.training.loop import History

__all__ = ["History", "fit"]
