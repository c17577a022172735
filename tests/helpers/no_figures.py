"""A report without figures, for tests of what it says beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from sidelight.report import (
    calibration,
    comparisons,
    embeddings,
    headline,
    maps,
    outcomes,
    series,
    structure,
    terms,
    training,
)

PLOTS = (calibration, comparisons, embeddings, headline, maps, outcomes, series, structure, terms, training)


class Nothing:
    """A figure, its axes, and whatever else they are asked for."""

    def __getattr__(self, name: str) -> Nothing:
        return self

    def __getitem__(self, key: object) -> Nothing:
        return self

    def __call__(self, *args: object, **more: object) -> Nothing:
        return self

    def __iter__(self) -> Iterator[Nothing]:
        return iter([self])

    def savefig(self, file: IO[str], **more: object) -> None:
        file.write('<svg viewBox="0 0 1 1"></svg>')


@contextmanager
def new_figure(*size: float) -> Iterator[Any]:
    yield Nothing()


def leave_out_figures(patch: pytest.MonkeyPatch) -> None:
    """Until the patch is taken back, figures are neither made nor drawn, which is most of a page's time."""
    for module in PLOTS:
        patch.setattr(module, "new_figure", new_figure)
