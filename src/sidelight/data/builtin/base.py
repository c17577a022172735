"""What there is to say of a data set that comes with the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidelight.data.dataset import Dataset


@dataclass(frozen=True)
class Builtin:
    """One entry of `sidelight datasets`: what it is, under which terms, whom to cite, and how to load it."""

    description: str
    licence: str
    citation: str
    load: Callable[[], Dataset]
