"""MLflow: a SQLite store, `tracking/mlflow.db` in the run folder, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.tracking.names import to_plain
from sidelight.utils.extras import optional

MOST = 100
"""The most parameters of one call that MLflow takes."""
LONGEST = 6000
"""The most characters of a parameter that MLflow takes."""


class MLflowLogger:
    """One training as a run of MLflow, in an experiment with the name of the run folder.

    Args:
        run: the run folder.
        training: the name of the training, which becomes the run's name; a resumed training continues its run.
    """

    def __init__(self, run: Path, training: str):
        self.client, experiment = _open(run)
        quoted = training.replace("'", "")
        found = self.client.search_runs([experiment], f"tags.`sidelight.training` = '{quoted}'", max_results=1)
        tags = {"sidelight.training": quoted, "mlflow.runName": training}
        self.id = (found[0] if found else self.client.create_run(experiment, tags=tags)).info.run_id
        self.new = not found

    @staticmethod
    def check() -> None:
        """Check that the packages are there."""
        optional("mlflow", "trackers", "tracking: mlflow")
        optional("sqlalchemy", "trackers", "tracking: mlflow")

    @staticmethod
    def prepare(run: Path) -> None:
        """Make the store and the experiment: processes that do it at the same time disturb one another."""
        _open(run)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Store the settings, once: MLflow refuses to change them."""
        from mlflow.entities import Param

        known = [Param(to_plain(name), str(value)[:LONGEST]) for name, value in params.items()]
        for start in range(0, len(known) if self.new else 0, MOST):
            self.client.log_batch(self.id, params=known[start : start + MOST])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Store numbers, under names of which `from_plain` gives ours back."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        told = [Metric(to_plain(name), value, now, step or 0) for name, value in metrics.items()]
        self.client.log_batch(self.id, metrics=told)

    def finalize(self, status: str) -> None:
        """Say how the training ended."""
        self.client.set_terminated(self.id, "FINISHED" if status == "success" else "FAILED")


def _open(run: Path) -> tuple[Any, str]:
    """The client of the store, and the id of the experiment."""
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        (run / "tracking").mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{(run / 'tracking' / 'mlflow.db').resolve()}"
    client, name = MlflowClient(tracking_uri=uri), run.resolve().name
    found = client.get_experiment_by_name(name)
    return client, found.experiment_id if found else client.create_experiment(name)
