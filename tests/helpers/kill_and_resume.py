"""Trains in child processes that are killed at random moments until one ends; says what came out, as JSON.

Run by test_checkpoint.py as its own process, so that torch is imported once and no thread is forked.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from helpers.support import make_network, make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.methods import Supervised
from sidelight.training import fit


class Sums:
    """A watch: the sum of all weights after each epoch."""

    def __init__(self):
        self.sums: dict[str, float] = {}

    def __call__(self, method, epoch):
        self.sums[str(epoch)] = sum(p.detach().double().sum().item() for p in method.parameters())

    def state_dict(self):
        return dict(self.sums)

    def load_state_dict(self, state):
        self.sums = dict(state)


def train(checkpoint: Path | None, result: Path) -> None:
    rows, task, watch = make_rows("classification", "both"), task_of("classification"), Sums()
    method = Supervised(make_network(("phone", "pulse"), task), task)
    settings = TrainingConfig(epochs=12, patience=12, batch_size=8, least_steps=1)
    history = fit(method, rows, rows, settings, seed=4, checkpoint=checkpoint, checkpoint_seconds=0, callback=watch)
    weights = hashlib.sha256()
    for name, value in method.state_dict().items():
        weights.update(name.encode() + value.numpy().tobytes())
    epochs = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs]
    result.write_text(json.dumps([weights.hexdigest(), epochs, history.best_epoch, watch.sums]))


def child(checkpoint: Path | None, result: Path) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            train(checkpoint, result)
            code = 0
        finally:
            os._exit(code)
    return pid


def main(folder: Path) -> None:
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # imports what optimisers need once, and not in every child
    start = time.perf_counter()
    _, status = os.waitpid(child(None, folder / "whole.json"), 0)
    assert status == 0, status
    whole = time.perf_counter() - start
    kills = 0
    while True:
        pid = child(folder / "state.pt", folder / "killed.json")
        if kills < 3:  # after that it may end
            time.sleep(random.uniform(0.0, 0.3) * whole)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            break
        assert os.WIFSIGNALED(status), f"training failed by itself after {kills} kills: {status}"
        kills += 1
    print(json.dumps({"kills": kills, "left": sorted(p.name for p in folder.iterdir())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
