"""Compute features of frozen encoders once and store them, so that training need not decode recordings."""

from __future__ import annotations

from sidelight.extract.features import extract

__all__ = ["extract"]
