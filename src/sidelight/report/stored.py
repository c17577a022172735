"""Read a run folder for the report; files that cannot be read are noted and left out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from sidelight.errors import RunError
from sidelight.results import load_results
from sidelight.results.budget import ALL_LABELS, BASELINE
from sidelight.results.chance import read_predictions
from sidelight.results.draws import load_draws
from sidelight.results.job import DRAWS, is_sealed, is_whole, job_id, read_record
from sidelight.runs.failures import Failure
from sidelight.runs.plan import list_stored, read_plan
from sidelight.utils.tensorfile import read_arrays


@dataclass
class Stored:
    """A run folder.

    Args:
        run: the folder.
        notes: collects a sentence for each file that cannot be read.
    """

    run: Path
    notes: list[str] = field(default_factory=list)
    _predictions: dict[tuple[str, float], pd.DataFrame] = field(default_factory=dict, repr=False)
    _records: dict[Path, dict[str, Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def results(self) -> pd.DataFrame:
        """The finished jobs, as `load_results` returns them."""
        results = load_results(self.run, rebuild=False)
        self.notes += [f.replace(f"{self.run}{os.sep}", "") for f in results.attrs["faults"]]
        return results

    @property
    def failures(self) -> list[Failure]:
        """The planned jobs that failed, in that order, and those that were skipped because they need one of them."""
        return list(self.results.attrs["failures"])

    @cached_property
    def config_text(self) -> str:
        """The text of config.yaml; "" if it cannot be read."""
        file = self.run / "config.yaml"
        try:
            return file.read_text("utf-8") if file.exists() else ""
        except (OSError, ValueError):  # load_results warns of it
            return ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings in config.yaml; {} if it cannot be read."""
        try:
            read = yaml.safe_load(self.config_text)
        except (yaml.YAMLError, ValueError, RecursionError):
            self.notes.append("config.yaml cannot be read.")
            return {}
        return read if isinstance(read, dict) else {}

    @cached_property
    def environment(self) -> dict[str, Any]:
        """The content of environment.json; {} if it cannot be read."""
        try:
            read = json.loads((self.run / "environment.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            self.notes.append("environment.json cannot be read.")
            return {}
        if not is_sealed(read):
            self.notes.append("environment.json does not match its checksum.")
        elif "sha256" in read and not is_whole(self.run / "config.yaml", read):
            self.notes.append("config.yaml was changed after the run wrote it.")
        read.pop("sha256", None)
        data, made = read.get("data"), self.results.attrs.get("data_sha256")
        if made and isinstance(data, dict) and data.get("sha256") != made:
            self.notes.append("environment.json names other data than the jobs.")
        return read

    @property
    def data(self) -> dict[str, Any]:
        """The data's entry in environment.json."""
        data = self.environment.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def task(self) -> str:
        """The kind of target: "classification" also for retrieval and anti-spoofing."""
        return str(self.results.attrs.get("kind") or self.results.attrs.get("task", "classification"))

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, or of the targets of a regression."""
        return [str(label) for label in self.results.attrs.get("class_names", [])]

    @cached_property
    def progress(self) -> tuple[int, int] | None:
        """Number of finished and of planned jobs; None if no plan is stored."""
        plan = read_plan(self.run)
        if not plan:
            self.notes.append("plan.json cannot be read, so the report cannot tell whether every job has finished.")
        stored = {entry.name for entry in list_stored(self.run)}
        done = sum(job in stored for job in plan)
        return (done, len(plan)) if plan else None

    def folders(self, name: str, label_fraction: float) -> dict[tuple[int, int], Path]:
        """(fold, seed) -> folder of the finished job, for a row of the table.

        Args:
            name: the row's name, e.g. `kl~placebo`.
            label_fraction: share of the training groups that keep their labels.
        """
        if name == ALL_LABELS:
            name, label_fraction = BASELINE, 1.0
        return self._folders.get((name, round(label_fraction, 6)), {})

    @cached_property
    def _folders(self) -> dict[tuple[str, float], dict[tuple[int, int], Path]]:
        """Row of the table and label fraction -> (fold, seed) -> folder, in this order."""
        stored, found = {entry.name for entry in list_stored(self.run)}, dict[Any, dict[tuple[int, int], Path]]()
        columns = (self.results[name] for name in ("seed", "fold", "method", "control", "labels"))
        for seed, fold, method, control, share in sorted(zip(*columns), key=lambda job: (job[1], job[0])):
            name = f"{method}~{control}" if control else method
            if (job := job_id(method, control, share, fold, seed)) in stored:
                found.setdefault((name, round(share, 6)), {})[fold, seed] = self.run / "jobs" / job
        return found

    def record(self, folder: Path) -> dict[str, Any]:
        """The record of a stored job, read once."""
        if folder not in self._records:
            self._records[folder] = read_record(folder)
        return self._records[folder]

    @cached_property
    def draws(self) -> pd.DataFrame:
        """The draws of a sweep, as `load_draws` returns them; no rows for a run without a sweep."""
        return load_draws(self.run) if DRAWS in self.results else pd.DataFrame()

    def train_rows(self, label_fraction: float) -> tuple[int, int] | None:
        """Median number of labelled and of all train rows of the baseline's jobs; None if they are not stored."""
        records = [self.record(f) for f in self.folders(BASELINE, label_fraction).values()]
        sizes = [(r["n_labelled"], r["n_train"]) for r in records if isinstance(r.get("n_labelled"), int)]
        return (int(np.median([s[0] for s in sizes])), int(np.median([s[1] for s in sizes]))) if sizes else None

    def predictions(self, name: str, label_fraction: float) -> pd.DataFrame:
        """The predictions of all jobs of a row, with their fold and seed."""
        if (name, label_fraction) not in self._predictions:
            self._predictions[name, label_fraction] = self._read_predictions(name, label_fraction)
        return self._predictions[name, label_fraction]

    def _read_predictions(self, name: str, label_fraction: float) -> pd.DataFrame:
        frames = []
        for (fold, seed), folder in self.folders(name, label_fraction).items():
            frame = self._csv(folder / "predictions.csv")
            if frame is not None:
                frames.append(frame.copy().assign(fold=fold, seed=seed))  # the copy lays hundreds of columns together
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def curves(self, name: str, label_fraction: float) -> list[pd.DataFrame]:
        """The curves of a row's jobs, indexed by epoch."""
        frames = (self._csv(f / "curves.csv") for f in self.folders(name, label_fraction).values())
        return [f.set_index("epoch") for f in frames if f is not None and "epoch" in f and "select" in f]

    def examples(self, name: str, label_fraction: float, pair: tuple[int, int]) -> dict[str, NDArray]:
        """Class maps of a few test rows of one job; {} if none are stored.

        Args:
            name: the row's name.
            label_fraction: share of the training groups that keep their labels.
            pair: fold and seed.

        Returns:
            `row` (n,), `target` and `prediction` (n, H, W).
        """
        file = self.folders(name, label_fraction).get(pair, Path()) / "examples.safetensors"
        try:
            return read_arrays(self.verify(file)) if file.exists() else {}
        except RunError as error:
            self._note(file, error)
            return {}

    def similarity(self, folder: Path) -> Similarity | None:
        """The similarity matrices of a job's probe batch; None if they cannot be read."""
        try:
            arrays = read_arrays(self.verify(folder / "similarity.safetensors"))
            epochs = {int(k.removeprefix("epoch_")): v for k, v in arrays.items() if k.startswith("epoch_")}
            best = self.record(folder).get("best_epoch")
            matrices = {e: epochs[e].astype(np.float32) for e in sorted(epochs)}
            final = best if best in matrices else max(matrices)
            return Similarity(matrices, arrays["group"], final)
        except (RunError, KeyError, ValueError) as error:
            self._note(folder / "similarity.safetensors", error)
            return None

    @cached_property
    def skipped(self) -> pd.DataFrame | None:
        """Rows that the run skipped because a recording cannot be read: id, modality, reason, as texts."""
        try:
            return pd.read_csv(self.run / "skipped.csv", dtype=str, keep_default_na=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.notes.append(f"skipped.csv cannot be read ({error}).")
            return None

    def verify(self, file: Path) -> Path:
        """Check a job's file against its checksum and return its path; RunError if they differ."""
        if not is_whole(file, self.record(file.parent)):
            raise RunError("it is missing or was changed; resume the run to train the job again")
        return file

    def _note(self, file: Path, error: Exception) -> None:
        self.notes.append(f"{file.parent.name}/{file.name} cannot be read ({error}).")

    def _csv(self, file: Path) -> pd.DataFrame | None:
        try:
            return read_predictions(self.verify(file))
        except (OSError, ValueError, RunError) as error:
            self._note(file, error)
            return None


@dataclass
class Similarity:
    """Cosine similarities of a probe batch.

    Args:
        matrices: epoch -> (n, n) similarities.
        group: (n,) classes or target values, by which the rows are ordered.
        final: the epoch whose network was kept.
    """

    matrices: dict[int, NDArray]
    group: NDArray
    final: int

    @property
    def last(self) -> NDArray:
        """(n, n) similarities of the network that was kept."""
        return self.matrices[self.final]
