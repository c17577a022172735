"""BIOPAC AcqKnowledge (.acq), by bioread: every channel at its own rate."""

from __future__ import annotations

from sidelight.errors import DataError
from sidelight.formats.content import Content
from sidelight.formats.logged import logged_errors
from sidelight.utils.extras import optional


def read(content: Content) -> None:
    reader = optional("bioread.reader", "recordings", "reading AcqKnowledge files")
    with content.path.open("rb") as file, logged_errors("bioread") as faults:
        found = reader.Reader.read(file)
    if faults:
        raise DataError(f"cannot read {content.path}: truncated or no AcqKnowledge file ({faults[0]})")
    if not found.is_compressed:
        # bioread fills what is missing with zeros.
        needed = found.data_start_offset + sum(c.data_length for c in found.datafile.channels)
        if (size := content.path.stat().st_size) < needed:
            raise DataError(f"{content.path} is truncated: {size} of {needed} bytes are there")
    rate = float(found.samples_per_second)
    for channel in found.datafile.channels:
        content.add(channel.name, channel.data, rate=float(channel.samples_per_second), unit=channel.units)
    for marker in found.datafile.event_markers or []:
        # Each file has markers without text where a segment begins.
        content.add_event(marker.sample_index / rate, 0.0, (marker.text or marker.type or "marker").strip())
