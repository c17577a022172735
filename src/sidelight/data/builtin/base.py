"""The description of a data set that comes with the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidelight.data.dataset import Dataset


@dataclass(frozen=True)
class Builtin:
    """One entry of `sidelight datasets`.

    Args:
        description: what the data are, and the question that they answer.
        licence: their terms.
        citation: whom to cite.
        load: reads them from the package.
    """

    description: str
    licence: str
    citation: str
    load: Callable[[], Dataset]
