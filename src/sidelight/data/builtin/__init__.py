"""Data sets that come with the package; `sidelight.config.paths.BUILT_IN` names them too."""

from __future__ import annotations

from sidelight.data.builtin.base import Builtin
from sidelight.data.builtin.phone_watch import PHONE_WATCH
from sidelight.data.builtin.synthetic import SYNTHETIC

DATASETS: dict[str, Builtin] = {"phone-watch": PHONE_WATCH, **SYNTHETIC}
