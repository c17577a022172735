"""Data sets that come with the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidelight.data.dataset import Dataset


@dataclass(frozen=True)
class Builtin:
    """One entry of `sidelight datasets`: what it is, under which terms, whom to cite, and how to load it."""

    description: str
    licence: str
    citation: str
    load: Callable[[], Dataset]


def _phone_watch() -> Dataset:
    from sidelight.data.builtin.phone_watch import load

    return load()


DATASETS: dict[str, Builtin] = {
    "phone-watch": Builtin(
        "3022 windows of 1.28 s (50 Hz) of 23 people doing 5 activities with a phone and a watch: accelerometer and "
        "gyroscope of both. Question: which activity, from the phone's accelerometer alone, "
        "when only 20 % of the people are labelled (and when all are)?",
        "CC BY 4.0",
        "Matey-Sanz, Casteleyn, Granell: Dataset of inertial measurements of smartphones and smartwatches for human "
        "activity recognition. Data in Brief (2023) 109809. https://github.com/GeoTecINIT/sp-sw-har-dataset",
        _phone_watch,
    ),
}
