"""The draws of a sweep in one fold and seed: each is trained there, and the select rows of the fold choose one.

Test rows are read once, by the chosen draw: the rows of the others hold none. The sequence of draws by TPE is one of
each job, because the select rows of a fold may be the test rows of another.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch

from sidelight.config import Config
from sidelight.errors import ConfigError, DiskError, SidelightWarning
from sidelight.experiment.artifacts import Similarities, load_history, store_job
from sidelight.experiment.evaluate import evaluate
from sidelight.experiment.failures import Failures, describe_failure
from sidelight.experiment.fold import FoldData
from sidelight.experiment.plan import Job
from sidelight.experiment.student_builder import StudentBuilder
from sidelight.export import load_student
from sidelight.results.job import DRAWS, read_record
from sidelight.runs.failures import store_failure
from sidelight.sweeps import Draw, Sweep
from sidelight.sweeps.concerns import select_concerned
from sidelight.sweeps.search import Search
from sidelight.sweeps.space import with_settings
from sidelight.utils.tensorfile import read_tensors

FOLDER = "draws"
"""In the folder of a sweep: a run folder for each draw, without tests."""


class Models(Protocol):
    """What draws need of `FoldModels`."""

    config: Config
    folder: Path
    data: FoldData
    builder: StudentBuilder
    device: torch.device
    failures: Failures

    @property
    def made_with(self) -> Mapping[str, Any]: ...

    def reads(self, job: Job) -> list[str]: ...

    def make_draw(
        self, config: Config, folder: Path, data: FoldData, replica: int, find_owner: Callable[[str], Self]
    ) -> Self: ...


M = TypeVar("M", bound=Models)


@dataclass(frozen=True)
class Trained(Generic[M]):
    """A draw that was trained, its models, and its score on the select rows, or why it failed."""

    draw: Draw
    models: M
    select: float
    error: Exception | None = None

    def to_dict(self) -> dict[str, Any]:
        """The draw as job.json holds it."""
        settings, replica = dict(self.draw.settings), self.draw.replica
        told: dict[str, Any] = {"settings": settings, "replica": replica, "folder": self.draw.name}
        return told | ({"error": str(self.error)} if self.error else {"select": self.select})


class Draws(Generic[M]):
    """The draws of the jobs of one fold and seed.

    Args:
        sweep: the ranges, and how they are sampled.
        models: the models of the fold, which test and store what is chosen.
    """

    def __init__(self, sweep: Sweep, models: M):
        self.sweep, self.models = sweep, models
        self._made: dict[str, M] = {}
        self._data: dict[str, FoldData] = {}
        self._trained: dict[Job, list[Trained[M]]] = {}

    def run(self, job: Job, run: Callable[[M, Job], None]) -> None:
        """Train the draws of a job; one that fails, such as by too high a learning rate, is not chosen.

        Args:
            job: the job.
            run: trains a job with some models, unless it is stored.

        Raises:
            Exception: the first error, if every draw has failed.
        """
        trained: list[Trained[M]] = []
        self._trained[job] = trained
        draws = self.sweep.draws(job.method)
        if draws:
            trained += [self._run(draw, job, run) for draw in draws]
        else:
            trained += self._search(job, run)
        if errors := [one.error for one in trained if one.error]:
            if len(errors) == len(trained):
                raise errors[0]
            warnings.warn(
                f"{job.id}: {len(errors)} of {len(trained)} draws failed and cannot be chosen, the first with: "
                f"{errors[0]}",
                SidelightWarning,
                stacklevel=2,
            )

    def _search(self, job: Job, run: Callable[[M, Job], None]) -> Iterator[Trained[M]]:
        """Train draws each of which follows from those before."""
        file = self.models.folder / FOLDER / "tpe" / f"{job.id}.log"
        search = Search(file, job.id, self.sweep.concerning(job.method), self.sweep.config.seed)
        seen: Counter[str] = Counter()
        for number in range(self.sweep.trials):
            settings = search.ask(number)
            draw = Draw(settings, seen[repr(settings)])
            seen[repr(settings)] += 1
            one = self._run(draw, job, run)
            search.tell(number, settings, None if one.error else one.select)
            yield one

    def _run(self, draw: Draw, job: Job, run: Callable[[M, Job], None]) -> Trained[M]:
        models = self._models(draw)
        models.failures.forget([job])  # of an earlier call: it is run again
        try:
            run(models, job)
        except (ConfigError, DiskError):
            raise
        except Exception as error:
            store_failure(models.folder, describe_failure(job, error))  # so that students know that it cannot teach
            return Trained(draw, models, -math.inf, error)
        return Trained(draw, models, float(read_record(models.folder / "jobs" / job.id)["select"]))

    def test_chosen(self, job: Job) -> None:
        """Test the draw with the highest score on the select rows, of equal ones the first, and store the job."""
        trained = self._trained.pop(job)
        best = max(trained, key=lambda one: one.select)
        place = best.models.folder / "jobs" / job.id
        encoders = best.models.builder.own_encoders(best.models.reads(job))
        student = load_student(place / "model.safetensors", encoders=encoders)
        network = student.network.to(self.models.device).eval()
        history = load_history(best.models.folder, job)
        # Test rows are read here for the first time, when setting and network are chosen.
        data = self._tested(best.models.config)
        evaluation = evaluate(data, job, network, history, self.models.made_with, task=student.task)
        record = read_record(place)
        if "chosen" in record:
            evaluation.facts["chosen"] = record["chosen"]
        evaluation.facts[DRAWS] = {
            "count": len(trained),
            "chosen": trained.index(best),
            "settings": dict(best.draw.settings),
            "trained": [one.to_dict() for one in trained],
        }
        select = data.rows("select", job.label_fraction, job.control)
        probe = torch.as_tensor(data.choose_probe_rows(job.label_fraction))
        similarities = Similarities(select.index_select(probe))
        stored, _ = read_tensors(place / "similarity.safetensors")
        similarities.load_state_dict({name: x for name, x in stored.items() if name != "group"})
        store_job(self.models.folder, job, evaluation, history, similarities)

    def _models(self, draw: Draw) -> M:
        """The models of a draw; the same ones for every row of the table whose network does not differ."""
        if draw.name not in self._made:
            config = with_settings(self.sweep.config, draw.settings)
            folder = self.models.folder / FOLDER / draw.name
            data = self._tested(config).without_test()
            owner = partial(self._owner, draw)
            self._made[draw.name] = self.models.make_draw(config, folder, data, draw.replica, owner)
        return self._made[draw.name]

    def _owner(self, draw: Draw, method: str) -> M:
        """The models that have the teacher or the baseline of a draw."""
        settings = select_concerned(method, draw.settings, self.sweep.config)
        return self._models(Draw(settings, draw.replica if method == "baseline" else 0))

    def _tested(self, config: Config) -> FoldData:
        """The rows of the fold with their test rows; encoders of signals decide how rows are prepared."""
        key = repr((config.network.encoder, config.network.encoders))
        if not self._data:
            own = self.sweep.config.network
            self._data[repr((own.encoder, own.encoders))] = self.models.data
        if key not in self._data:
            data = self.models.data
            self._data[key] = FoldData(config, data.dataset, data.number, data.seed)
        return self._data[key].with_config(config)


def list_finished(folder: Path) -> list[Path]:
    """The folders of the finished jobs of all draws of a sweep."""
    return [file.parent for file in sorted(folder.glob(f"{FOLDER}/*/jobs/[!.]*/job.json"))]
