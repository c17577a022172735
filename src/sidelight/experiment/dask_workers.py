"""Runs cells on the workers of a Dask scheduler: of this machine, a batch system or a cluster."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from sidelight.errors import RunError, SidelightWarning, UnfinishedError
from sidelight.experiment.handed_over import LOCAL, HandedOver
from sidelight.experiment.handout import Handout
from sidelight.experiment.workers import Limits, Workers
from sidelight.utils.extras import optional
from sidelight.utils.stopping import stop_and_wait

CONNECT = 15.0
"""Seconds to wait for a scheduler."""
ALLOWED_FAILURES = 100
"""Deaths of workers that a cell survives on a cluster that we start; on others it is given out again after three."""


class DaskWorkers(HandedOver):
    """The workers of a Dask scheduler.

    Args:
        client: what is connected to the scheduler.
        address: the scheduler, for errors.
        handout: the study.
        limits: when cells have to stop.
        seconds: how long cells may take to stop.
    """

    def __init__(self, client: Any, address: str, handout: Handout, limits: Limits, seconds: float):
        # pure=False: equal calls are different tasks.
        super().__init__(client.get_executor(pure=False), handout, limits)
        self.client, self.address, self.seconds = client, address, seconds

    def check(self) -> None:
        if self.client.status not in ("running", "connecting"):
            raise UnfinishedError(
                f"the Dask scheduler at {self.address} has ended or cannot be reached any more. Finished jobs are kept."
            )

    def stop(self) -> None:
        # The scheduler may be what has ended; workers then stop by themselves.
        with suppress(Exception):
            self.client.run(stop_and_wait, self.limits.name, self.seconds, on_error="ignore")


@contextmanager
def open_dask(address: str, handout: Handout, limits: Limits, seconds: float) -> Iterator[Workers]:
    """Connect to a scheduler, or start one with workers on this machine.

    Args:
        address: "tcp://host:8786", or "local:3" for three workers of this machine.
        handout: the study.
        limits: when cells have to stop.
        seconds: how long cells may take to stop.

    Raises:
        RunError: nobody answers there, or its versions differ.
    """
    distributed = optional("distributed", "scale", "--scheduler")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what happens is told in our words
    with ExitStack() as opened:
        local = LOCAL.fullmatch(address)
        if local:
            dask = optional("dask", "scale", "--scheduler")
            opened.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}))
            where = opened.enter_context(
                distributed.LocalCluster(
                    n_workers=int(local[1]),
                    threads_per_worker=1,  # torch's seeds are those of the whole process
                    memory_limit=0,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            )
        else:
            where = address
        client = opened.enter_context(_connect(distributed, where, address))
        _check_versions(client.get_versions())
        _warn_about_threads(client.nthreads())
        yield DaskWorkers(client, address, handout, limits, seconds)


def _connect(distributed: Any, where: Any, address: str) -> Any:
    try:
        return distributed.Client(where, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:
        raise RunError(
            f"no Dask scheduler answers at {address} ({error or type(error).__name__}). Start one with `dask "
            "scheduler` and workers with `dask worker`, or check host, port and firewall."
        ) from error


def _check_versions(found: Mapping[str, Any]) -> None:
    """Raise RunError if Python or Dask have other versions at the scheduler or a worker."""
    mine = found["client"]["packages"]
    others = {"the scheduler": found["scheduler"]} | {f"the worker {name}": w for name, w in found["workers"].items()}
    for who, facts in others.items():
        theirs = (facts or {}).get("packages") or {}
        for name in ("python", "distributed", "dask", "msgpack", "cloudpickle"):
            if name in theirs and _release(theirs[name]) != _release(mine[name]):
                raise RunError(
                    f"{who} has {name} {theirs[name]}, this process {mine[name]}: they cannot work together reliably. "
                    "Install the same versions."
                )


def _release(version: str | None) -> str:
    return re.split(r"\.(?:final|candidate|alpha|beta)", str(version))[0]


def _warn_about_threads(threads: Mapping[str, int]) -> None:
    if (most := max(threads.values(), default=1)) > 1:
        warnings.warn(
            f"there are Dask workers of {most} threads, which run one cell at a time all the same. Start them with "
            "--nthreads 1, and as many as there are cores (--nworkers).",
            SidelightWarning,
            stacklevel=2,
        )
