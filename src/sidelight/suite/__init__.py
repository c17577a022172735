"""Suites: one comparison over several data sets. Each set is an ordinary run; the report is across them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidelight.config import Config
from sidelight.data import Dataset
from sidelight.data.load import load_for
from sidelight.errors import ConfigError, RunError, SidelightWarning, UnfinishedError, unknown
from sidelight.experiment import Study, execute, stop_time
from sidelight.experiment.provenance import Encoders
from sidelight.experiment.resolve import find_unsuited
from sidelight.report.suite import StoredSuite, write_suite_report
from sidelight.results.across import Across
from sidelight.suite.file import SuitePlan, read_suite
from sidelight.utils.keywords import known_keywords


class Suite:
    """The results of a suite, finished or running.

    Args:
        folder: the suite's folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.stored = StoredSuite.load(self.folder)

    def __repr__(self) -> str:
        return f"Suite({str(self.folder)!r}, {len(self.stored.sets)} data sets, {len(self.failures)} failed)"

    @property
    def failures(self) -> dict[str, str]:
        """Data set -> the error that ended its run."""
        return dict(self.stored.failures)

    def study(self, name: str) -> Study:
        """The run of one data set."""
        if name not in self.stored.sets:
            raise RunError(f"{self.folder}: {unknown('data set', name, self.stored.sets)}")
        return Study(self.folder / name)

    def across(self) -> Across:
        """The comparison over the data sets that have results."""
        return self.stored.across

    def sentences(self) -> list[str]:
        """What to expect of each method on a next data set."""
        return self.across().sentences()

    def report(self, path: str | Path | None = None) -> Path:
        """Write suite.html, suite.csv and across.csv, and return the path of the page."""
        return write_suite_report(self.folder, path)


@known_keywords
def run_suite(
    suite: str | Path | Mapping[str, Any],
    *,
    output: str | None = None,
    overrides: Iterable[str] = (),
    data: Mapping[str, Any] | None = None,
    resume: bool = False,
    quiet: bool = False,
    encoders: Encoders | None = None,
    imports: Mapping[str, str] | None = None,
    executor: Executor | str | None = None,
    time_limit: float | None = None,
) -> Suite:
    """Run (or resume) one comparison on several data sets, and report across them.

    A set whose run ends with an error does not end the others; `Suite.failures` and the report list it.

    Args:
        suite: a YAML file or a mapping: settings that all sets share, and under `sets` the settings of each by name.
        output: the suite's folder; None: that of the file, by default runs/<name of the file>.
        overrides: texts such as "training.epochs=20", which replace the settings of every set.
        data: name of a set -> its `Dataset`, in place of what its setting `data` names.
        resume: continue what the folder holds.
        quiet: show no progress.
        encoders: modality -> your own encoder, as in `compare`.
        imports: file or module of your own code -> SHA-256 of its source, for environment.json.
        executor: where the jobs run, as in `compare`.
        time_limit: seconds after which the suite has saved its state and stops, as in `compare`.

    Raises:
        ConfigError: the suite, or the settings of a set; found before anything is trained.
        RunError: the folder holds finished jobs, and `resume` is not set.
        UnfinishedError: the suite was stopped, and can be resumed.
    """
    plan = read_suite(suite, overrides, output)
    for name in data or {}:
        if name not in plan.sets:
            raise ConfigError(f"data: {unknown('set of the suite', name, plan.sets)}")
    held = [name for name in plan.sets if any((plan.output / name).glob("jobs/[!.]*/job.json"))]
    if held and not resume:
        raise RunError(
            f"{plan.output} already holds results ({', '.join(held)}). Continue it with --resume (resume=True), or "
            "choose another folder with --output (output=…)."
        )
    stored = StoredSuite(plan.output, list(plan.sets))
    stored.save()
    until = stop_time(next(iter(plan.sets.values())), time_limit)
    for name in plan.sets:
        try:
            config, dataset, stored.left_out[name] = open_set(plan, name, (data or {}).get(name))
            rows = [dataset]
            del dataset  # a run frees its arrays, unless somebody else holds them
            execute(
                config, rows.pop(), resume=resume, quiet=quiet, encoders=encoders, imports=imports, executor=executor,
                until=until,
            )  # fmt: skip
        except UnfinishedError:
            raise
        except Exception as error:  # of any kind: the other sets go on
            stored.failures[name] = f"{type(error).__name__}: {error}"
            warnings.warn(
                f"{name} ended with an error, and the other sets go on: {error}", SidelightWarning, stacklevel=2
            )
        stored.save()
    made = Suite(plan.output)
    made.report()
    return made


def open_set(plan: SuitePlan, name: str, given: Dataset | None = None) -> tuple[Config, Dataset, dict[str, str]]:
    """The settings and rows of a set, and the shared methods that it cannot have -> why.

    Args:
        plan: the suite.
        name: the set.
        given: its rows, in place of what its setting `data` names.
    """
    config = plan.sets[name]
    dataset = load_for(config, given)
    if given is not None:
        config = replace(config, data=dataset.name)
    if name in plan.own_methods:
        return config, dataset, {}
    left_out = find_unsuited(config, dataset)
    return plan.without(config, left_out), dataset, left_out


__all__ = ["Suite", "open_set", "read_suite", "run_suite"]
