"""Features of frozen encoders, computed once and stored, so that training on them decodes nothing."""

from __future__ import annotations

from sidelight.extract.features import extract

__all__ = ["extract"]
