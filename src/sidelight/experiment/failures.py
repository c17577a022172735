"""A job that fails does not end the study: its error is stored, what needs it is skipped, and the others go on."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sidelight.errors import ConfigError, DiskError, RunError, SidelightError, SidelightWarning, unknown
from sidelight.experiment.plan import Job
from sidelight.runs.failures import Failure, failure_file, load_failures, read_failure, store_failure
from sidelight.runs.plan import read_plan
from sidelight.utils.distributed import get_world

if TYPE_CHECKING:
    from sidelight.experiment.study import Study

CALLS = 8
"""The most calls of a traceback that are stored."""


class SkippedError(RunError):
    """A job needs another one that failed.

    Attributes:
        needs: the id of the job that failed.
    """

    def __init__(self, message: str, needs: str):
        super().__init__(message)
        self.needs = needs


class Failures:
    """The failures of a run folder, and how many of them end the run.

    Args:
        folder: the run folder.
        most: the number of failed jobs that the run survives; None: any number.
    """

    def __init__(self, folder: Path, most: int | None):
        self.folder, self.most = folder, most

    def attempt(self, job: Job, run: Callable[[], None]) -> None:
        """Run a job; store its error if it fails.

        Raises:
            ConfigError, DiskError: these would end every other job too.
            Exception: the error of the job, if too many have failed.
        """
        if get_world().size > 1:  # the processes of torchrun train one network together and cannot part
            run()
            return
        try:
            run()
        except (ConfigError, DiskError):
            raise
        except SkippedError as error:
            store_failure(self.folder, describe_failure(job, error))
            _warn(f"the job {job.id} was skipped: {error}")
        except Exception as error:
            failure = describe_failure(job, error)
            store_failure(self.folder, failure)
            if self.most is not None and (failed := self._count()) > self.most:
                if not self.most:
                    raise
                raise RunError(
                    f"{failed} jobs failed, which are more than max_failures={self.most}. The last was {job.id}: "
                    f"{failure.message} `sidelight status {self.folder}` lists them."
                ) from error
            _warn(f"the job {job.id} failed: {failure.message} The others go on.")

    def check(self, job: Job) -> None:
        """Raise SkippedError if a job that another one needs has failed."""
        if found := read_failure(self.folder, job.id):
            needs = found.needs or found.job
            raise SkippedError(f"it needs {needs}, which failed.", needs)

    def forget(self, jobs: Iterable[Job]) -> None:
        """Forget the failures of jobs that are run again, and of those that they need."""
        for job in jobs:
            found = read_failure(self.folder, job.id)
            for name in filter(None, (job.id, found.needs if found else "")):
                failure_file(self.folder, name).unlink(missing_ok=True)

    def _count(self) -> int:
        return sum(failure.state == "failed" for failure in load_failures(self.folder).values())


def describe_error(error: Exception) -> str:
    """What an error says; with its type, unless it is written for users."""
    return str(error) if isinstance(error, SidelightError) else f"{type(error).__name__}: {error}"


def describe_failure(job: Job, error: Exception) -> Failure:
    """What is stored of an error."""
    needs = error.needs if isinstance(error, SkippedError) else ""
    calls = () if needs else traceback.extract_tb(error.__traceback__)[-CALLS:]
    trace = tuple(f"{call.filename}:{call.lineno} in {call.name}" for call in calls)
    return Failure(job.id, type(error).__name__, describe_error(error), needs, trace, time.time())


def check_names(only: Collection[str], folder: Path, jobs: Sequence[Job]) -> None:
    """Raise ConfigError for an id that is no planned job; controls of the best method are known once they are planned.

    Args:
        only: the ids.
        folder: the run folder.
        jobs: the jobs that are planned before the first result.
    """
    known = list(dict.fromkeys([*(job.id for job in jobs), *read_plan(folder)]))
    for name in only:
        if name not in known:
            raise ConfigError(f"only: {unknown('job', name, known)}")


def warn_of_failures(study: Study) -> None:
    """Say at the end of a run how many jobs are missing; workers have said it to a console that may be quiet."""
    if study.failures:
        skipped = sum(bool(f.needs) for f in study.failures)
        failed = len(study.failures) - skipped
        _warn(
            f"{failed} job{'s' * (failed != 1)} failed"
            + f", {skipped} skipped" * bool(skipped)
            + f": `sidelight status {study.folder}` says why, and --resume (resume=True) runs them again."
        )


def check_comparable(study: Study, best: Mapping[float, str]) -> None:
    """Raise RunError if failures left no method to compare.

    Args:
        study: the results.
        best: share of labelled groups -> the best method, where there is one.
    """
    if best or not study.failures:
        return
    first = study.failures[0]
    raise RunError(
        f"{len(study.failures)} of {len(study.failures) + len(study.results)} jobs failed, and no method finished, so "
        f"nothing can be compared. The first was {first.job}: {first.message} `sidelight status {study.folder}` lists "
        "them; continue with --resume (resume=True)."
    )


def _warn(text: str) -> None:
    warnings.warn(text, SidelightWarning, stacklevel=3)
