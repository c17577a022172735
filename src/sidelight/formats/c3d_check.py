"""Checks that a C3D file is whole before ezc3d opens it: a damaged one can end the whole process there."""

from __future__ import annotations

import struct
from pathlib import Path

from sidelight.errors import DataError

BLOCK = 512
KEY = 0x50
"""Second byte of the header and of the section of parameters."""
BIG_ENDIAN = 86
"""Code of the processors that store the high byte first (MIPS)."""
SIGNS = {84: 15, 85: 13, BIG_ENDIAN: 12}
"""Code of the processor (Intel, DEC, MIPS) -> byte of the header that holds the sign of the scale."""
ELEMENTS = (-1, 1, 2, 4)
"""Codes of the types of a parameter; their sizes in bytes, but for text (−1)."""


NEEDED = {
    "POINT": {"USED", "SCALE", "RATE", "DATA_START", "FRAMES"},
    "ANALOG": {"USED", "SCALE", "GEN_SCALE", "OFFSET", "RATE"},
}
"""Parameters without which ezc3d cannot read the samples; ANALOG only where there are analog samples."""


def check_c3d(path: Path) -> None:
    """Raise DataError for another file, a parameter that leads out of its section, and frames that are missing."""
    raw = path.read_bytes()
    if len(raw) < 2 * BLOCK or raw[1] != KEY:
        raise DataError(f"cannot read {path}: truncated or no C3D file")
    section = BLOCK * (raw[0] - 1)
    end = section + BLOCK * raw[section + 2] if 0 < section < len(raw) - 4 else 0
    if not section < end <= len(raw):
        raise DataError(f"cannot read {path}: truncated or no C3D file (its parameters are not there)")
    order = ">" if raw[section + 3] == BIG_ENDIAN else "<"
    parameters = _read_parameters(path, raw[:end], section + 4, order)
    points, per_frame, first, last = struct.unpack(f"{order}4H", raw[2:10])
    start = struct.unpack(f"{order}H", raw[16:18])[0]
    for group, names in NEEDED.items():
        lacking = sorted(n for n in names if f"{group}:{n}" not in parameters)
        if lacking and (group == "POINT" or per_frame):
            raise DataError(f"cannot read {path}: damaged (it has no parameter {group}:{lacking[0]})")
    used = parameters.get("POINT:USED", points)
    if used != points or parameters.get("POINT:DATA_START", start) != start or start < 2:
        raise DataError(f"cannot read {path}: damaged (its header and its parameters contradict each other)")
    # The sign of the scale, as each kind of processor stores floating point: below 0, samples are floating point too.
    width = 4 if raw[SIGNS.get(raw[section + 3], 15)] & 0x80 else 2
    frames = last - first + 1
    there = (len(raw) - BLOCK * (start - 1)) // max(1, (4 * points + per_frame) * width)
    if 0 < frames < 65535 - first and there < frames:
        raise DataError(f"{path} is truncated: {max(0, there)} of {frames} frames are there")


def _read_parameters(path: Path, raw: bytes, at: int, order: str) -> dict[str, int]:
    """Walk through the parameters; returns "GROUP:NAME" -> value of single 16-bit numbers, −1 for others."""
    groups: dict[int, str] = {}
    found: list[tuple[int, str, int]] = []
    try:
        while length := abs(struct.unpack("b", raw[at : at + 1])[0]):
            number = struct.unpack("b", raw[at + 1 : at + 2])[0]
            name = raw[at + 2 : at + 2 + length].decode("latin-1").upper()
            here = at + 2 + length
            step = struct.unpack(f"{order}H", raw[here : here + 2])[0]
            if number < 0:
                groups[-number] = name
            else:
                kind, axes = struct.unpack("bB", raw[here + 2 : here + 4])
                size = abs(kind)
                for axis in raw[here + 4 : here + 4 + axes]:
                    size *= axis
                data = here + 4 + axes
                if kind not in ELEMENTS or axes > 7 or data + size >= (here + step if step else len(raw)):
                    raise ValueError(f"parameter {name!r}")
                single = struct.unpack(f"{order}H", raw[data : data + 2])[0] if (kind, size) == (2, 2) else -1
                found.append((number, name, single))
            if step == 0:
                break
            at = here + step
    except (struct.error, ValueError) as error:
        raise DataError(f"cannot read {path}: truncated or damaged ({error})") from None
    return {f"{groups.get(number, number)}:{name}": value for number, name, value in found}
