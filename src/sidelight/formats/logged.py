"""Some libraries log damage and go on; here it is collected, so that it can be an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def logged_errors(package: str) -> Iterator[list[str]]:
    """Collect the errors that a package logs, in place of printing them."""
    logger, collector = logging.getLogger(package), _Collector()
    propagates = logger.propagate
    logger.propagate = False
    logger.addHandler(collector)
    try:
        yield collector.texts
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
