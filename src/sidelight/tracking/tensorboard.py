"""TensorBoard: event files in `tracking/tensorboard/<training>/` of the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.tracking.names import to_file_name
from sidelight.utils.extras import optional


class TensorBoardLogger:
    """Writes one training as TensorBoard shows it.

    Args:
        run: the run folder.
        training: the name of the training.
    """

    def __init__(self, run: Path, training: str):
        self.folder = run / "tracking" / "tensorboard" / to_file_name(training)
        self.writer: Any = None

    @staticmethod
    def check() -> None:
        """Check that the package is there."""
        optional("tensorboard", "trackers", "tracking: tensorboard")

    @staticmethod
    def prepare(run: Path) -> None:
        """Nothing: each training makes its own files."""

    def _open(self, step: int) -> Any:
        """The writer; a resumed training hides what the killed one wrote of the same epochs and later ones."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            again = self.folder.is_dir()
            self.writer = SummaryWriter(str(self.folder), purge_step=step if again else None)  # type: ignore[no-untyped-call]
        return self.writer

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Show the settings as a text, once."""
        if not self.folder.is_dir():
            lines = "".join(f"    {name}: {value}\n" for name, value in params.items())
            self._open(0).add_text("settings", lines, 0)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars, each under its own name."""
        writer = self._open(step or 0)
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    def finalize(self, status: str) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
