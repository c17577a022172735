"""Finds the packets of MPEG-4 part 2 (XviD, DivX) that hold no frame, because nothing changed (ISO/IEC 14496-2)."""

from __future__ import annotations

# Start codes of the standard: video object layer (the stream's header) and video object plane (a frame).
VOL = tuple(bytes([0, 0, 1, n]) for n in range(0x20, 0x30))
VOP = b"\0\0\1\xb6"
HEADERS, LARGEST = 512, 24
"""Largest size in bytes of a packet without a frame, and of its part after the headers: little more than its time."""


class EmptyFrames:
    """Recognizes the packets of a stream that hold no frame: an encoder writes a bare header for a dropped frame.

    Args:
        header: of the stream, or b"" if its first packet holds the header.
    """

    def __init__(self, header: bytes = b"") -> None:
        self.bits = _time_bits(header)
        self.before = memoryview(b"")

    def __call__(self, data: memoryview) -> bool:
        """Whether the next packet of the stream holds no frame."""
        if self.bits is None:
            self.bits = _time_bits(bytes(data[:4096]))
        empty = len(data) <= HEADERS and self.bits is not None and _not_coded(bytes(data), self.bits)
        # A packed bitstream holds two frames in one packet, and an empty packet in the place of the second.
        packed = empty and bytes(self.before).count(VOP) > 1
        self.before = data
        return empty and not packed


def _time_bits(header: bytes) -> int | None:
    """Number of bits of a frame's time, from the stream's header; None without a header.

    The fields in front of it are read to be skipped, in the order of VideoObjectLayer().
    """
    at = next((i for start in VOL if (i := header.find(start)) >= 0), -1)
    if at < 0:
        return None
    bits = _Bits(header[at + 4 : at + 64])
    bits.take(1 + 8)
    if bits.take(1):
        bits.take(4 + 3)
    if bits.take(4) == 15:  # aspect ratio in full
        bits.take(16)
    if bits.take(1):
        bits.take(2 + 1)
        if bits.take(1):
            bits.take(79)  # buffer of the decoder
    bits.take(2 + 1)
    return max(1, (bits.take(16) - 1).bit_length())


def _not_coded(data: bytes, time_bits: int) -> bool:
    """Whether vop_coded, the bit behind the time of a frame, is 0."""
    at = data.rfind(VOP)
    if at < 0 or len(data) - at > LARGEST:
        return False
    bits = _Bits(data[at + 4 :])
    bits.take(2)
    while bits.take(1):  # whole seconds
        pass
    bits.take(1 + time_bits + 1)
    return not bits.ended and not bits.take(1)


class _Bits:
    """Reads whole numbers bit by bit; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    @property
    def ended(self) -> bool:
        return self.left <= 0

    def take(self, n: int) -> int:
        self.left -= n
        return (self.value >> self.left if self.left >= 0 else self.value << -self.left) & ((1 << n) - 1)
