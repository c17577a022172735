"""Writes tiny recordings of noise, for synthetic copies of public data sets."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidelight.utils.extras import optional

SIDE = 64
"""Height and width of synthetic frames."""


def make_noise_frames(
    generator: np.random.Generator, frames: int, tint: float = 0.0, height: int = SIDE, width: int = SIDE
) -> NDArray[np.uint8]:
    """Make frames of noise.

    Args:
        generator: draws the noise.
        frames: T.
        tint: −1 to 1, shifts the brightness, so that a label can show in the frames.
        height: H in pixels.
        width: W in pixels.

    Returns:
        (T, H, W, 3) RGB.
    """
    # Blocks of 8 x 8 pixels: a codec would smooth finer noise away.
    coarse = generator.integers(64, 192, (frames, -(-height // 8), -(-width // 8), 3)) + 48 * tint
    fine = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return fine.clip(0, 255).astype(np.uint8)


def write_video(
    path: Path, frames: NDArray[np.uint8], rate: int, sound: NDArray | None = None, sound_rate: int = 16000
) -> None:
    """Write a video file (MPEG-4).

    Args:
        path: its suffix chooses the container; missing folders are created.
        frames: (T, H, W, 3) RGB.
        rate: frames per second.
        sound: (samples,) values within ±1; None: no sound track.
        sound_rate: in Hz.
    """
    av = optional("av", "video", "writing video")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=rate)
        picture.height, picture.width, picture.pix_fmt = *frames.shape[1:3], "yuv420p"
        track = None if sound is None else container.add_stream("aac", rate=sound_rate, layout="mono")
        for pixels in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(picture.encode())  # without a frame: what the encoder still holds
        if track is None or sound is None:
            return
        samples = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
        samples.sample_rate = sound_rate
        container.mux(track.encode(samples))
        container.mux(track.encode())


def write_wav(path: Path, values: NDArray, rate: int) -> None:
    """Write a 16-bit wav file.

    Args:
        path: missing folders are created.
        values: (samples,) or (samples, channels) within ±1.
        rate: in Hz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((values.clip(-1, 1) * 32767).astype("<i2").tobytes())


def write_image(path: Path, pixels: NDArray) -> None:
    """Write an image file of (H, W, 3) uint8 RGB, or of (H, W) uint8 or uint16 values."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file; missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
