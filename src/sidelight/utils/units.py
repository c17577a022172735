"""Physical units: their names, prefixes and factors."""

from __future__ import annotations

import re

from sidelight.errors import ConfigError, unknown

PREFIXES = {"": 1.0, "M": 1e6, "k": 1e3, "h": 1e2, "c": 1e-2, "m": 1e-3, "u": 1e-6, "n": 1e-9}
WHOLE = (
    "counts",
    "bpm",
    "degC",
    "mmHg",
    "cmH2O",
    "m/s",
    "m/s2",
    "km/h",
    "rpm",
    "deg",
    "deg/s",
    "rad",
    "rad/s",
    "L/min",
    "%",
    "1",
)
"""Units that take no prefix."""
BASES = ("V", "S", "g", "Hz", "A", "T", "m", "s", "Pa", "N", "Ohm", "W", "K", "lx", "dB", "L", *WHOLE)
WRITTEN = ("sec", "secs", "seconds", "min", "h", "hh:mm:ss", "volt", "volts", "°c", "°", "°/s", "a.u.", "au", "bool")
"""Further words in a table's line of units, in lower case."""


def parse_unit(unit: str) -> tuple[float, str]:
    """Split a unit into factor and base unit: "mV" is (1e-3, "V"); raises ConfigError for an unknown unit."""
    # Files write micro as either of two Unicode characters, or as u; ohm likewise.
    written = re.sub("[ΩΩ]", "Ohm", re.sub("[µμ]", "u", unit).replace("²", "2"))
    if written in BASES:
        return 1.0, written
    if written[:1] in PREFIXES and written[1:] in BASES and written[1:] not in WHOLE:
        return PREFIXES[written[0]], written[1:]
    raise ConfigError(unknown("unit", unit, ("uS", "mV", "uV", "g", "m/s2", "Hz", "degC", "kOhm", *WHOLE)))


def is_unit(text: str) -> bool:
    """Whether a text is a unit, also in brackets; a number is none."""
    plain = text.strip().strip("[]()").strip()
    if plain.isdigit():
        return False
    if plain.lower() in WRITTEN:
        return True
    try:
        parse_unit(re.sub(r"\((.*)\)", r"\1", plain).replace("^", ""))
    except ConfigError:
        return False
    return True
