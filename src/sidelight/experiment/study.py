"""The results of an experiment, finished or running: its table, its report, and the student to deploy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sidelight.config import Config, load_config
from sidelight.errors import RunError
from sidelight.results import compare, get_budget, load_results, print_table, sentence, summary, table
from sidelight.results.draws import load_draws
from sidelight.results.job import DRAWS, job_id
from sidelight.runs.failures import Failure
from sidelight.runs.plan import read_plan
from sidelight.utils.atomic import write_atomic, write_folder_atomic
from sidelight.utils.keywords import renamed_keywords
from sidelight.utils.phases import phase

if TYPE_CHECKING:
    from torch import nn

    from sidelight.export import Student


class Best:
    """The network of the best method; select rows alone chose both."""

    def __init__(self, folder: Path, job: pd.Series):
        self.method = str(job.method)
        self.path = folder / "jobs" / f"{job.method}-l{job.labels:g}-f{job.fold}-s{job.seed}" / "model.safetensors"

    @property
    def student(self) -> Student:
        """The network with its preprocessing; it reads only the available modalities."""
        return self.load()

    def load(self, encoders: Mapping[str, nn.Module] | None = None) -> Student:
        """Load the student; `encoders` holds a fresh module for each of the user's own encoders."""
        from sidelight.export import load_student

        return load_student(self.path, encoders=encoders)


class Study:
    """The results that a run folder holds.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.results: pd.DataFrame = load_results(self.folder)
        self._best: dict[float, str | None] = {}

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r}, {len(self.results)} jobs, labels {self.budgets})"

    @cached_property
    def config(self) -> Config:
        """The settings of the run."""
        return load_config(self.folder / "config.yaml")

    @cached_property
    def draws(self) -> pd.DataFrame:
        """The draws of a sweep, one per row, with their scores on the select rows; no rows for a run without a sweep.

        Columns: `method, control, labels, fold, seed, draw, replica, chosen, select, n_train, n_select`, and one for
        each swept setting, None where it does not concern the row.
        """
        return load_draws(self.folder) if DRAWS in self.results else pd.DataFrame()

    @property
    def budgets(self) -> list[float]:
        """The shares of labelled groups that were compared, smallest first."""
        return sorted(self.config.label_fraction)

    @renamed_keywords(labels="label_fraction")
    def table(self, label_fraction: float | None = None, metric: str | None = None) -> pd.DataFrame:
        """The answer as numbers: one row per method, at one label fraction (the smallest by default).

        Args:
            label_fraction: the share of the labelled groups that keep their labels.
            metric: any metric of the task; by default the one that is compared.
        """
        return table(self.results, self.budgets[0] if label_fraction is None else label_fraction, metric)

    @renamed_keywords(labels="label_fraction")
    def sentence(self, label_fraction: float | None = None) -> str:
        """The answer in words."""
        return sentence(self.results, self.budgets[0] if label_fraction is None else label_fraction)

    @renamed_keywords(labels="label_fraction")
    def remarks(self, label_fraction: float | None = None) -> list[str]:
        """What makes the answer say less than its numbers do, e.g. a baseline at chance; empty where nothing does."""
        c = compare(self.results, self.budgets[0] if label_fraction is None else label_fraction)
        return [remark.text for remark in c.remarks]

    def print(self) -> None:
        """Every table and sentence on the terminal."""
        for share in self.budgets:
            print_table(self.results, share)
        print(f"report: {self.folder / 'report.html'}")

    def report(self, path: str | Path | None = None) -> Path:
        """Write the HTML report and return its path."""
        from sidelight.report import write_report

        return write_report(self.folder, None if path is None else Path(path))

    @property
    def failures(self) -> list[Failure]:
        """The planned jobs that failed, in that order, and those that were skipped because they need one of them."""
        return list(self.results.attrs["failures"])

    @cached_property
    def waiting(self) -> list[str]:
        """The ids of the planned jobs that have neither finished nor failed."""
        r = self.results
        done = set(map(job_id, r["method"], r["control"], r["labels"], r["fold"], r["seed"]))
        done |= {f.job for f in self.failures}
        return [name for name in read_plan(self.folder) if name not in done]

    def find_best_method(self, label_fraction: float) -> str | None:
        """The method with the highest mean score on `select` rows (never on test); None if none has finished."""
        if label_fraction not in self._best:
            here = len(self.results) and np.isclose(self.results["labels"], label_fraction).any()
            self._best[label_fraction] = get_budget(self.results, label_fraction).best if here else None
        return self._best[label_fraction]

    def to_parquet(self, path: str | Path) -> Path:
        """Write every job with its scores to one Parquet file, and return its path; failed jobs say why."""
        from sidelight.results.parquet import write_parquet

        return write_parquet(self.folder, path)

    @renamed_keywords(labels="label_fraction")
    def best_method(self, label_fraction: float) -> str:
        """The method with the highest mean score on `select` rows (never on test)."""
        best = self.find_best_method(label_fraction)
        if best is None:
            raise RunError(f"no method has finished with label_fraction={label_fraction:g} in {self.folder}.")
        return best

    @renamed_keywords(labels="label_fraction")
    def best(self, label_fraction: float | None = None) -> Best:
        """The best method's network from the fold and seed whose score on `select` is the median: a typical one.

        (The highest would be that of the luckiest select rows.)
        """
        share = self.budgets[0] if label_fraction is None else label_fraction
        r = self.results
        r = r[(r.labels == share) & (r.control == "") & (r.method == self.best_method(share))]
        return Best(self.folder, r.sort_values("select").iloc[len(r) // 2])

    @phase("statistics and report")
    def finish(self) -> None:
        """Write `summary.json`, `student/` and the report."""
        if len(self.draws):
            write_atomic(self.folder / "draws.csv", self.draws.to_csv(index=False))
        write_atomic(self.folder / "summary.json", json.dumps(summary(self.results), indent=1))
        best = self.best(next((share for share in self.budgets if self.find_best_method(share)), None))
        with write_folder_atomic(self.folder / "student") as place:
            for suffix in (".safetensors", ".json"):
                source = best.path.with_suffix(suffix)
                if source.is_file():
                    shutil.copyfile(source, place / f"student{suffix}")
        self.report()
