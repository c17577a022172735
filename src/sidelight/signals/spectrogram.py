"""Computes spectrograms and log-mel spectrograms of a batch of signals, on any device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sidelight.errors import ConfigError, DataError, unknown
from sidelight.signals.mel import SCALES, Scale, build_filters

BLOCK = 2**17
"""Numbers that each CPU thread transforms at once: they stay in its cache, which is worth a factor of 3."""
BLOCK_GPU = 2**27


@dataclass(frozen=True)
class Spectrogram:
    """Settings of a spectrogram, JSON-able; call it with signals to compute their spectrograms.

    S[f, t] = |Σ_n w[n] x[t·hop + n] exp(−2πi f n / n_fft)|², with frames of `window` samples, zero-padded to `n_fft`.

    Args:
        rate: sampling rate of the signals in Hz.
        window: samples in a frame.
        hop: samples from one frame to the next.
        n_fft: length of the transform, at least `window`, which gives n_fft // 2 + 1 frequencies; None: window.
        taper: "hann", the periodic Hann window, or "tukey", the cosine-tapered window whose outer quarter falls off
            (scipy's default).
        centre: center frame t at sample t·hop and mirror the signal at its ends (torch.stft, librosa, torchaudio);
            otherwise all frames lie inside the signal (scipy).
        detrend: subtract the mean of each frame first.
        scale: "power", or "density": power per Hz of one-sided spectra, in unit²/Hz (scipy's default).
        mels: number of mel filters; 0: no filters, all frequencies.
        mel_scale: "htk" or "slaney" (see `mel_filters`).
        low: lowest frequency of the mel filters in Hz.
        high: highest frequency of the mel filters in Hz; None: rate / 2.
        decibel: return 10 log10(max(S, floor)).
        floor: smallest power, for decibels.
        mean: subtracted from the result.
        std: divides the result.
        samples: length that the signals must have; None: any.
        edges: with `centre`, what lies beyond the ends of a signal: "reflect", its mirror image, or "zeros", so that
            zeros after a shorter signal change none of its frames.
    """

    rate: float
    window: int
    hop: int
    n_fft: int | None = None
    taper: Literal["hann", "tukey"] = "hann"
    centre: bool = False
    detrend: bool = False
    scale: Literal["power", "density"] = "power"
    mels: int = 0
    mel_scale: Scale = "htk"
    low: float = 0.0
    high: float | None = None
    decibel: bool = False
    floor: float = 1e-10
    mean: float = 0.0
    std: float = 1.0
    samples: int | None = None
    edges: Literal["reflect", "zeros"] = "reflect"

    def __post_init__(self) -> None:
        for name, value, valid in (
            ("taper", self.taper, ("hann", "tukey")),
            ("scale", self.scale, ("power", "density")),
            ("mel_scale", self.mel_scale, SCALES),
            ("edges", self.edges, ("reflect", "zeros")),
        ):
            if value not in valid:
                raise ConfigError(unknown(f"value of {name}", value, valid))
        right = {
            "rate": 0 < self.rate < math.inf,
            "window": self.window >= 2,
            "hop": self.hop >= 1,
            "n_fft": self.length >= self.window,
            "mels": self.mels >= 0,
            "floor": 0 < self.floor < math.inf,
            "std": 0 < self.std < math.inf,
        }
        for name, good in right.items():
            if not good:
                raise ConfigError(
                    f"a spectrogram with {name} = {getattr(self, name)}: expected rate, floor, std > 0, window >= 2, "
                    "hop >= 1, n_fft >= window, mels >= 0"
                )

    @property
    def length(self) -> int:
        """Length of the transform."""
        return self.window if self.n_fft is None else self.n_fft

    @property
    def seconds(self) -> float:
        """Length of the signals in seconds; 0: any."""
        return (self.samples or 0) / self.rate

    def shape(self, samples: int) -> tuple[int, int]:
        """(frequencies or mels, frames) for a signal of so many samples; raises DataError if it is too short."""
        if self.samples not in (None, samples):
            raise DataError(
                f"signals of {samples} samples; these settings read {self.samples} "
                f"({self.samples / self.rate:g} s at {self.rate:g} Hz): cut or resample them first"
            )
        least = self.window
        if self.centre:
            least = 1 if self.edges == "zeros" else self.length // 2 + 1
        if samples < least:
            raise DataError(f"signals of {samples} samples; a spectrogram of window {self.window} needs {least}")
        room = samples - self.length % 2 if self.centre else samples - self.window
        return self.mels or self.length // 2 + 1, 1 + room // self.hop

    @torch.no_grad()
    def __call__(self, signals: Tensor) -> Tensor:
        """Compute the spectrograms of signals; no gradient passes.

        Args:
            signals: (B, samples) or (B, C, samples).

        Returns:
            (B, 1, F, T) or (B, C, F, T), with frequencies ascending along F; float64 for float64, otherwise float32.

        Raises:
            DataError: signals that are empty, too short, not of `samples` samples or not finite; names row and sample.
        """
        if signals.dim() not in (2, 3) or 0 in signals.shape[:-1]:
            raise DataError(f"signals of shape {tuple(signals.shape)}; expected (B, samples) or (B, C, samples)")
        channels = signals.shape[1] if signals.dim() == 3 else 1
        x = signals.reshape(-1, signals.shape[-1])
        _check_finite(x if x.dtype == torch.float64 else x.float(), channels)
        return self.compute(signals)

    @torch.no_grad()
    def compute(self, signals: Tensor) -> Tensor:
        """As a call, without a look for values that are not finite: NaN spreads over its frames."""
        batch = signals.shape[:2] if signals.dim() == 3 else (len(signals), 1)
        bands, count = self.shape(signals.shape[-1])
        x = signals.reshape(-1, signals.shape[-1])
        x = x if x.dtype == torch.float64 else x.float()
        frames = self._frames(x, count)
        out = x.new_empty(len(x), bands, count)
        filters = self.filters().to(x) if self.mels else None
        for rows, power in self._powers(frames):
            if filters is None:
                torch.add(*power, out=out[rows])
            else:
                torch.matmul(filters, power[0] + power[1], out=out[rows])
        if self.decibel:
            out.clamp_(min=self.floor).log10_().mul_(10)
        if self.mean or self.std != 1:
            out.sub_(self.mean).div_(self.std)
        return out.view(*batch, bands, count)

    def _frames(self, x: Tensor, count: int) -> Tensor:
        """(B, T, window) frames of (B, samples), without a copy."""
        if self.centre:
            reach = self.length // 2
            mode = "reflect" if self.edges == "reflect" else "constant"
            x = F.pad(x[:, None], (reach, reach), mode=mode)[:, 0]
            # As in torch.stft, a window shorter than n_fft lies in its middle.
            x = x[:, (self.length - self.window) // 2 :]
        return x.unfold(-1, self.window, self.hop)[:, :count]

    def _powers(self, frames: Tensor) -> Iterator[tuple[slice, tuple[Tensor, Tensor]]]:
        """Blocks of rows with the squared real and imaginary parts, (b, F, T) each.

        torch.stft of the whole batch would walk through main memory five times; blocks stay in the cache.
        """
        n, count, _ = frames.shape
        size = BLOCK * torch.get_num_threads() if frames.device.type == "cpu" else BLOCK_GPU
        rows = min(n, max(1, size // (count * self.length)))
        taper = torch.from_numpy(self.taper_weights()).to(frames)
        # Written in each round only up to `window`; behind it stay the zeros of the padding.
        padded = frames.new_zeros(rows, count, self.length)
        for i in range(0, n, rows):
            block = slice(i, min(i + rows, n))
            part = frames[block]
            inside = padded[: len(part), :, : self.window]
            if self.detrend:
                torch.sub(part, part.mean(-1, keepdim=True), out=inside)
                inside *= taper
            else:
                torch.mul(part, taper, out=inside)
            parts = torch.view_as_real(torch.fft.rfft(padded[: len(part)])).square_()
            if self.scale == "density":
                # A one-sided density holds the power of the negative frequencies too; 0 and Nyquist have none.
                parts[:, :, 1 : (self.length + 1) // 2] *= 2
            real, imaginary = parts.transpose(1, 2).unbind(-1)
            yield block, (real, imaginary)

    def taper_weights(self) -> NDArray[np.float64]:
        """(window,) weights; for a density, divided by the root of rate · Σ w²."""
        n = np.arange(self.window)
        if self.taper == "hann":
            weights = 0.5 - 0.5 * np.cos(2 * math.pi * n / self.window)
        else:
            # scipy's ("tukey", 0.25), periodic too: flat in the middle, half a cosine over an eighth at each end.
            distance = np.minimum(n, self.window - n) / (self.window / 8)
            weights = 0.5 - 0.5 * np.cos(math.pi * np.minimum(distance, 1))
        if self.scale == "density":
            weights = weights / np.sqrt(self.rate * np.square(weights).sum())
        return np.asarray(weights)

    def filters(self) -> Tensor:
        """(mels, frequencies) weights of the mel filters."""
        filters = _filters(self.mels, self.length, self.rate, self.low, self.high, self.mel_scale)
        return torch.from_numpy(filters)

    def to_config(self) -> dict[str, Any]:
        """The settings as a JSON-able dict; `from_config` reads them."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Spectrogram:
        """Build from the settings that `to_config` returned; raises ConfigError for an unknown setting."""
        names = [f.name for f in fields(cls)]
        for name in config:
            if name not in names:
                raise ConfigError(unknown("setting of a spectrogram", name, names))
        try:
            return cls(**config)
        except TypeError as error:
            raise ConfigError(f"settings of a spectrogram: {error}") from None


@lru_cache(maxsize=16)
def _filters(mels: int, n_fft: int, rate: float, low: float, high: float | None, scale: Scale) -> NDArray[np.float32]:
    return build_filters(mels, n_fft, rate, low, high, scale)


def _check_finite(x: Tensor, channels: int) -> None:
    """Raise DataError that names the first value that is not finite."""
    # NaN and infinity spread to the sum; checking each value would cost as much as the transform.
    if x.sum().isfinite():
        return
    good = torch.isfinite(x)
    if good.all():  # only the sum was too large
        return
    row, sample = (int(v) for v in (~good).nonzero()[0])
    channel = f", channel {row % channels}" if channels > 1 else ""
    raise DataError(
        f"signals: row {row // channels}{channel}, sample {sample} is {x[row, sample]:g} ({int((~good).sum())} such "
        "values); interpolate them or leave the row out"
    )


PRESETS: dict[str, Spectrogram] = {
    # 67 x 127 is what the PKDOT paper says of BioVid's EMG, and no more. Its released code cuts seconds 2 to 5 at 512
    # Hz and takes frames of 16 samples every 12: 127 of them; a transform of 132 gives 67 frequencies. Decibels are
    # ours.
    "emg": Spectrogram(
        512, 16, 12, n_fft=132, taper="tukey", detrend=True, scale="density", decibel=True, samples=1536
    ),
    # The released code: 65 x 127 (n_fft 128), linear; it calls the rate 1000 Hz, so its values are these * 512 / 1000.
    "emg-released": Spectrogram(512, 16, 12, n_fft=128, taper="tukey", detrend=True, scale="density", samples=1536),
    # 64 x 107, of the segments of 32 frames at 30 fps that PKDOT's Aff-Wild2 audio shares with Praveen et al. (CVPRW
    # 2022): 44.1 kHz, 20 ms every 10 ms, n_fft 1024; mean and std are those of the latter's released code.
    "audio": Spectrogram(
        44100, 882, 441, n_fft=1024, centre=True, mels=64, decibel=True, mean=-14.8, std=19.895, samples=47040
    ),
    # 25 ms every 10 ms at 16 kHz, as in most work on speech. The floor is about what rounding to 16 bits leaves in a
    # band, so that digital silence and a quiet recording are alike.
    "speech": Spectrogram(16000, 400, 160, n_fft=512, centre=True, mels=64, decibel=True, floor=1e-7, edges="zeros"),
}
"""Named settings: those of the PKDOT paper, and `speech`; the comments say where each comes from."""
SEQUENCES = ("speech",)
"""Presets for recordings of any length: rows stay sound, and the preprocessor computes (T', bands) from it, so that a
student's file reads sound. The others make images (C, F, T') of one size when a recording is read."""


def get_preset(name: str) -> Spectrogram:
    """Look up settings by name; raises ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(unknown("spectrogram preset", name, PRESETS))
    return PRESETS[name]
