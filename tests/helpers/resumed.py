"""Training that is ended in the middle and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sidelight.data.batch import Batch
from sidelight.methods import Method
from sidelight.training import fit


class Killed(BaseException):
    pass


class Killer:
    """Ends the run after the checkpoint of an epoch."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def __call__(self, method: Method, epoch: int) -> None:
        if epoch == self.epoch + 1:
            raise Killed

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def trained(method: Method, rows: Batch, sizes: Sequence[int], settings: Any, **more: Any) -> tuple[dict, list[dict]]:
    """The state of a method and its curve, trained on the first rows and chosen on the others."""
    parts = torch.arange(len(rows)).split(list(sizes))
    train, select = (replace(rows.index_select(part), index=torch.arange(len(part))) for part in parts)
    history = fit(method, train, select, settings, seed=5, checkpoint_seconds=0, **more)
    return method.state_dict(), [{k: v for k, v in e.items() if k != "seconds"} for e in history.epochs]


def same(a: tuple[dict, list[dict]], b: tuple[dict, list[dict]]) -> bool:
    """Whether two runs agree to the bit."""
    return a[1] == b[1] and all(torch.equal(a[0][k], b[0][k]) for k in a[0])
