"""`advise`: what to expect of a teacher on a data set, from reference models, before any network is trained."""

from __future__ import annotations

from sidelight.advice.advise import Advice, advise

__all__ = ["Advice", "advise"]
