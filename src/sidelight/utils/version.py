"""The version, which files and records name also where sidelight runs from a source tree, without being installed."""

from __future__ import annotations

__version__ = "0.2.0"
