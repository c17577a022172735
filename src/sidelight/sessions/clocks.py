"""One clock for the files of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sidelight.errors import ConfigError, DataError


@dataclass(frozen=True)
class FileClock:
    """The clock of a file.

    Args:
        source: the file, for errors.
        origin: the moment at which it reads 0; None: unknown.
        first: its reading at the first sample, or label, in seconds.
        shift: seconds to add.
        zero: the stream whose first sample is at 0 on this clock; "": none is named.
    """

    source: str
    origin: datetime | None
    first: float
    shift: float = 0.0
    zero: str = ""


def align(clocks: Mapping[str, FileClock], timezone: str = "") -> tuple[dict[str, float], datetime | None]:
    """Find what to add to each file's times, so that all are seconds of one clock.

    Files that say when they were recorded lie on the clock of the day; its 0 is the first sample of the earliest.
    Where no file does, their clocks are taken as one. A file that names another stream (`zero`) begins with that one.

    Args:
        clocks: stream -> the clock of its file.
        timezone: zone of clocks that have a date and no zone; "": none may be mixed with those that have one.

    Returns:
        Stream -> seconds to add, and the moment at which the common clock reads 0, if it is known.

    Raises:
        DataError: files with a date and files without one, or with and without a time zone.
    """
    own = {name: c for name, c in clocks.items() if not c.zero}
    dated = {name: _in_zone(c.origin, timezone) for name, c in own.items() if c.origin is not None}
    for undated in [name for name in own if name not in dated] if dated else []:
        first = next(iter(dated))
        raise DataError(
            f"{own[undated].source}: {undated!r} counts seconds from a moment that is not known, but {first!r} "
            f"({own[first].source}) says its date; name the sensor whose first sample is at 0 s here (zero: {first})"
        )
    if len({moment.tzinfo is None for moment in dated.values()}) > 1:
        local = next(name for name, moment in dated.items() if moment.tzinfo is None)
        raise DataError(
            f"{own[local].source}: {local!r} has a local time ({dated[local]}), others have a time zone; name the zone "
            "of local times (timezone: Europe/Paris)"
        )
    base: datetime | None = None
    seconds: dict[str, float] = {}
    if dated:
        # Differences of moments first: seconds since 1970 have six digits after the point.
        reference = min(dated.values())
        raw = {name: (moment - reference).total_seconds() for name, moment in dated.items()}
        start = min(raw[name] + own[name].first + own[name].shift for name in own)
        seconds = {name: raw[name] + own[name].shift - start for name in own}
        from datetime import timedelta

        base = reference + timedelta(seconds=start)
    else:
        seconds = {name: c.shift for name, c in own.items()}
    for name, c in clocks.items():
        if c.zero:
            seconds[name] = seconds[c.zero] + clocks[c.zero].first + c.shift
    return seconds, base


def _in_zone(moment: datetime | None, timezone: str) -> datetime:
    assert moment is not None
    if moment.tzinfo is not None or not timezone:
        return moment
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"timezone {timezone!r} is not known; expected a name such as Europe/Paris or UTC") from None
    return moment.replace(tzinfo=zone).astimezone(UTC)
