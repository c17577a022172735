"""Small prepared folders of generated recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.recordings.registry import Array, Depth, Frames, Image, RecordingType, Video

SIZE = (16, 16)
FACTS = DatasetInfo(
    "tiny", group="subject", available=("rgb",), privileged=("depth", "feat"), licence="none", citation="us"
)


def image(path: Path, seed: int = 0, size: tuple[int, int] = (24, 30), bright: int = 0) -> Path:
    """An RGB file of noise; `bright` lifts its upper half."""
    pixels = np.random.default_rng(seed).integers(0, 60, (*size, 3)).astype(np.uint8)
    pixels[: size[0] // 2] += np.uint8(bright)
    Pillow.fromarray(pixels).save(path)
    return path


def depth(path: Path, seed: int = 0, size: tuple[int, int] = (24, 30), metres: float = 1.0) -> Path:
    """A 16-bit depth image in millimetres."""
    noise = np.random.default_rng(seed).integers(0, 200, size)
    Pillow.fromarray((1000 * metres + noise).astype(np.uint16)).save(path)
    return path


def video(path: Path, frames: int = 30, size: tuple[int, int] = (32, 48), rate: int = 10, bright: int = 0) -> Path:
    """A video whose frames grow brighter."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for t in range(frames):
            pixels = np.full((*size, 3), bright + 4 * t, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


def find_frames(path: Path, frames: int = 30, bright: int = 0, skip: tuple[int, ...] = ()) -> Path:
    """A folder of frames that grow brighter, numbered from 1."""
    path.mkdir()
    for t in range(frames):
        if t + 1 not in skip:
            pixels = np.full((12, 18, 3), bright + 4 * t, np.uint8)
            Pillow.fromarray(pixels).save(path / f"img_{t + 1:05d}.png")
    return path


def prepared(folder: Path, n: int = 48, clips: bool = False, **facts: Any) -> Path:
    """Rows of images (or, with `clips`, frame folders), depth images that every seventh row lacks, and an array.

    Six subjects of eight rows; two classes that all of them tell. Files lie in `folder`/raw, the result in /out.
    """
    raw = folder / "raw"
    raw.mkdir(parents=True)
    rows = []
    for i in range(n):
        y = i % 2
        np.save(raw / f"{i}.npy", np.random.default_rng(i).normal(size=5).astype(np.float32) + y)
        rgb = find_frames(raw / f"{i}", bright=60 * y) if clips else image(raw / f"{i}.png", i, bright=40 * y)
        names = {"rgb": rgb, "depth": depth(raw / f"{i}d.png", i, metres=1 + 0.2 * y), "feat": raw / f"{i}.npy"}
        if i % 7 == 6:
            names["depth"] = Path()
        cells = {f"{m}_file_name": "" if path == Path() else str(path) for m, path in names.items()}
        rows.append({"id": f"r{i}", "target": "ab"[y], "subject": f"s{i // 8}", **cells})
    rgb_kind: RecordingType = (
        Frames(frames=4, size=SIZE, pattern="img_{:05d}.png", rate=10) if clips else Image(size=SIZE)
    )
    kinds = {"rgb": rgb_kind, "depth": Depth(size=SIZE), "feat": Array()}
    told = {f: getattr(FACTS, f) for f in FACTS.__dataclass_fields__} | facts
    return write_prepared(folder / "out", rows, kinds, DatasetInfo(**told))


__all__ = ["FACTS", "SIZE", "Video", "depth", "find_frames", "image", "prepared", "video"]
