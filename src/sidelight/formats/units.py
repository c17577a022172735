"""Units as files write them -> units as `Recording` knows them."""

from __future__ import annotations

import re

from sidelight.errors import ConfigError
from sidelight.utils.units import parse_unit

SPELLINGS = {
    "1": (
        "",
        "n/a",
        "na",
        "boolean",
        "bool",
        "none",
        "no unit",
        "no units",
        "unitless",
        "arbitrary",
        "a.u.",
        "au",
        "arb. units",
        "unknown",
    ),
    "counts": ("count", "bit", "bits", "raw", "adu", "lsb", "digital"),
    "V": ("volt", "volts"),
    "mV": ("mv", "millivolt", "millivolts"),
    "uV": ("uv", "microvolt", "microvolts"),
    "uS": ("microsiemens", "microsiemen", "microsiemenses", "micros", "umho"),
    "kOhm": ("kohms", "kiloohm", "kiloohms"),
    "Ohm": ("ohms",),
    "degC": ("c", "°c", "℃", "celsius", "deg c", "degree celsius", "degrees celsius", "degrees c", "degreec"),
    "K": ("kelvin",),
    "m/s2": ("m/s^2", "m/s/s", "m/(s^2)", "m/s**2", "ms^-2", "m s^-2", "meters/second^2", "meters/second/second"),
    "m/s": ("meters/second",),
    "g": ("gravity",),
    "deg": ("degree", "degrees", "°"),
    "deg/s": ("degrees/second", "°/s", "dps", "degrees/s"),
    "rad": ("radian", "radians"),
    "Hz": ("hz", "hertz", "1/s"),
    "bpm": ("beats/min", "beats per minute", "1/min", "breaths/min", "brpm", "beats/minute"),
    "rpm": ("revolutions/minute",),
    "mmHg": ("mm hg", "millimeters of mercury"),
    "cmH2O": ("cm h2o",),
    "%": ("percent", "pct"),
    "s": ("sec", "second", "seconds"),
    "ms": ("msec", "millisecond", "milliseconds"),
    "m": ("meter", "meters", "metre", "metres"),
    "mm": ("millimeter", "millimeters", "millimetre", "millimetres"),
    "Pa": ("pascal", "pascals"),
    "N": ("newton", "newtons"),
    "W": ("watt", "watts"),
    "L/min": ("liters/minute", "l/min"),
}
KNOWN = {spelling: unit for unit, spellings in SPELLINGS.items() for spelling in spellings}


def translate(written: str) -> str | None:
    """The unit as `Recording` writes it, "1" for none; None for a unit that it does not know."""
    text = re.sub(r"^[\[(](.*)[\])]$", r"\1", written.strip()).strip()
    if (found := KNOWN.get(text.lower())) is not None:
        return found
    try:
        parse_unit(text)
    except ConfigError:
        return None
    return text
