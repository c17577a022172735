"""What a training tells to trackers, and why it cannot be disturbed by them.

A tracker is told of every epoch after the fact. Its errors become one warning, after which it is told nothing more by
this process, and the random numbers of the training are set back behind it: a run with trackers has the bits of a run
without.
"""

from __future__ import annotations

import os
import pickle
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sidelight.errors import ConfigError, SidelightWarning, shown
from sidelight.training.loop import History
from sidelight.training.random_state import get_random_states, set_random_states
from sidelight.utils.device import CPU

FOLDER = "tracking"
"""The folder in the run folder in which trackers store what they are told."""
TRACKERS = {
    "tensorboard": ("sidelight.tracking.tensorboard", "TensorBoardLogger"),
    "mlflow": ("sidelight.tracking.mlflow", "MLflowLogger"),
    "wandb": ("sidelight.tracking.wandb", "WandbLogger"),
}
"""Name of a tracker -> its module and class, which is imported where it is used."""


@runtime_checkable
class Logger(Protocol):
    """The methods of a Lightning logger that are called."""

    def log_hyperparams(self, params: dict[str, Any]) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def finalize(self, status: str) -> None: ...


LoggerMaker = Callable[[str], Logger]
"""Name of a training -> a logger for it alone."""


class Tracking:
    """The trackers of a run.

    Args:
        folder: the run folder.
        names: names of trackers (`TRACKERS`).
        loggers: loggers, each told of every training, or functions that make one for each training.
        sent: whether they are sent to worker processes.

    Raises:
        RunError: a package is missing; names the extra that installs it.
        ConfigError: a logger is neither, or cannot be sent to a worker.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = (),
        loggers: Sequence[Logger | LoggerMaker] = (),
        sent: bool = False,
    ):
        folder = Path(os.path.abspath(folder))  # workers may have another working directory
        self.folder = folder
        self.own = dict(_name_logger(logger, number, sent) for number, logger in enumerate(loggers))
        self.built = {name: _Built(name, folder) for name in names}
        self.broken: set[str] = set()
        for built in self.built.values():
            built.kind.check()

    @property
    def makers(self) -> dict[str, LoggerMaker]:
        """Name of a tracker -> what makes its logger of a training."""
        return {**self.built, **self.own}

    def prepare(self) -> None:
        """Make the stores, before workers would do it at the same time."""
        for built in self.built.values():
            built.kind.prepare(self.folder)

    @contextmanager
    def training(self, name: str, settings: Callable[[], Mapping[str, Any]]) -> Iterator[Watch | None]:
        """Tell trackers of a training while the block runs; None if there are no trackers.

        Args:
            name: the name of the training, such as a job's id.
            settings: gives what the training depends on, by dotted name.
        """
        if not self.built and not self.own:
            yield None
            return
        watch = Watch(self, name)
        watch.tell(lambda logger: logger.log_hyperparams(dict(settings())))
        try:
            yield watch
        except BaseException:
            watch.tell(lambda logger: logger.finalize("failed"))
            raise
        watch.tell(lambda logger: logger.finalize("success"))


class Watch:
    """The trackers of one training.

    Args:
        tracking: the trackers of the run.
        name: the name of the training.
    """

    def __init__(self, tracking: Tracking, name: str):
        self.tracking, self.name = tracking, name
        self.loggers: dict[str, Logger] = {}

    def __call__(self, history: History) -> None:
        """Tell of the last epoch: its score on the select rows, each loss term, and its seconds."""
        epoch = dict(history.epochs[-1])
        step = int(epoch.pop("epoch"))
        self.log(epoch, step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Tell of numbers at an epoch."""
        self.tell(lambda logger: logger.log_metrics({name: float(x) for name, x in metrics.items()}, step=step))

    def tell(self, what: Callable[[Logger], None]) -> None:
        """Call every tracker that has not failed."""
        for kind, make in self.tracking.makers.items():
            if kind in self.tracking.broken:
                continue
            with _undisturbed():
                try:
                    if kind not in self.loggers:
                        self.loggers[kind] = make(self.name)
                    what(self.loggers[kind])
                except Exception as error:
                    self.tracking.broken.add(kind)
                    warnings.warn(
                        f"the tracker {kind} failed and is told nothing more; training goes on. "
                        f"{type(error).__name__}: {str(error)[:500]}",
                        SidelightWarning,
                        stacklevel=3,
                    )


def _name_logger(logger: Logger | LoggerMaker, number: int, sent: bool) -> tuple[str, LoggerMaker]:
    """The name of a user's logger, for warnings, and what makes its logger of a training."""
    name = f"{getattr(logger, '__qualname__', type(logger).__qualname__)} (loggers[{number}])"
    if not callable(logger) and not isinstance(logger, Logger):
        raise ConfigError(
            f"loggers: {shown(logger)} is neither a logger with the methods log_hyperparams, log_metrics and finalize, "
            "nor a function that makes one."
        )
    if sent:
        try:
            pickle.dumps(logger)
        except Exception as error:
            raise ConfigError(
                f"loggers: {name} cannot be sent to a worker process ({error}). Give a function of a module that makes "
                "a logger from the name of a training, or run with jobs=1."
            ) from error
    shared = isinstance(logger, Logger) and not isinstance(logger, type)
    return name, _Shared(logger) if shared else logger  # type: ignore[arg-type, return-value]


class _Built:
    """Makes the loggers of a tracker that comes with sidelight; it can be sent to a worker."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder

    @property
    def kind(self) -> Any:
        module, made = TRACKERS[self.name]
        return getattr(import_module(module), made)

    def __call__(self, training: str) -> Logger:
        logger: Logger = self.kind(self.folder, training)
        return logger


class _Shared:
    """Gives one logger to every training, whose names stand before those of its metrics."""

    def __init__(self, logger: Logger):
        self.logger = logger

    def __call__(self, training: str) -> Logger:
        return _Prefixed(self.logger, training)


class _Prefixed:
    def __init__(self, logger: Logger, prefix: str):
        self.logger, self.prefix = logger, prefix

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.logger.log_hyperparams({f"{self.prefix}/{name}": value for name, value in params.items()})

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logger.log_metrics({f"{self.prefix}/{name}": value for name, value in metrics.items()}, step=step)

    def finalize(self, status: str) -> None:
        """Other trainings follow: the logger is finalized when its process ends, as Lightning's are."""


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Set the random numbers of torch, numpy and Python back at the end."""
    states, python = get_random_states(CPU), random.getstate()
    try:
        yield
    finally:
        set_random_states(CPU, states)
        random.setstate(python)
