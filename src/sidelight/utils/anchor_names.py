"""Names of the anchor selectors, for settings and for :mod:`sidelight.transport`; nothing heavy is imported here."""

from __future__ import annotations

ANCHOR_NAMES = ("paper", "released", "random", "farthest_point", "k_medoids", "class_balanced")
"""The values of the setting `transport.anchors`; `sidelight.transport.ANCHORS` has one selector for each."""
