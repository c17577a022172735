"""W&B: a run for each training, in `tracking/wandb/` of the run folder and, unless WANDB_MODE=offline, a server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.utils.extras import optional


class WandbLogger:
    """One training as a run of W&B, in the project of the environment (WANDB_PROJECT) or with the run folder's name.

    Args:
        run: the run folder.
        training: the name of the training; a resumed training continues its run.
    """

    def __init__(self, run: Path, training: str):
        import wandb

        folder = run / "tracking"
        folder.mkdir(parents=True, exist_ok=True)
        same = hashlib.sha256(f"{run.resolve()}/{training}".encode()).hexdigest()[:16]
        quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False)
        project: dict[str, Any] = dict(_project(run))
        self.run: Any = wandb.init(
            dir=str(folder), name=training, id=same, resume="allow", group=run.resolve().name, settings=quiet,
            reinit="create_new", **project,
        )  # fmt: skip

    @staticmethod
    def check() -> None:
        """Check that the package is there."""
        optional("wandb", "trackers", "tracking: wandb")

    @staticmethod
    def prepare(run: Path) -> None:
        """Nothing: each training makes its own files."""

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Store the settings."""
        self.run.config.update(dict(params), allow_val_change=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Store numbers at a step."""
        self.run.log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        """End the run."""
        self.run.finish(exit_code=0 if status == "success" else 1)


def _project(run: Path) -> dict[str, str]:
    """The project, unless the environment names one."""
    return {} if os.environ.get("WANDB_PROJECT") else {"project": run.resolve().name[:128]}
