"""Spectrograms of a batch against scipy, row by row; one thread, one run.

python benchmarks/signals.py

Both give the batch that a network reads: (128, 1, F, T), of 2 s signals. scipy is called with its default `detrend`, as most callers
do, and without one, which is the same computation; on float32, and on float64, which is what soundfile and pandas hand over.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import signal

from sidelight.signals import Spectrogram

ROWS, SECONDS = 128, 2
SETTINGS = {
    "512 Hz, window 64, hop 16": Spectrogram(512, 64, 16),
    "512 Hz, window 16, hop 12, n_fft 132 (EMG of PKDOT)": Spectrogram(512, 16, 12, 132),
    "16 kHz, window 256, hop 224 (scipy's default)": Spectrogram(16000, 256, 224),
    "16 kHz, window 400, hop 160, n_fft 512 (speech)": Spectrogram(16000, 400, 160, 512),
}


def fastest(*steps: Callable[[], object], repeats: int = 15) -> list[float]:
    """Milliseconds of the fastest call of each, taken in turns, so that a busy machine slows all of them."""
    best = [float("inf")] * len(steps)
    for _ in range(repeats):
        for i, step in enumerate(steps):
            start = time.perf_counter()
            step()
            best[i] = min(best[i], 1e3 * (time.perf_counter() - start))
    return best


def by_scipy(x: np.ndarray, s: Spectrogram, detrend: str | bool = "constant") -> np.ndarray:
    rows = [
        signal.spectrogram(row, s.rate, "hann", s.window, s.window - s.hop, s.n_fft, detrend, scaling="density")[2]
        for row in x
    ]
    return np.stack(rows)[:, None]


def compare(settings: Spectrogram) -> list[float]:
    """Milliseconds: ours, scipy on float64, on float32, on float32 without detrending."""
    double = np.random.default_rng(0).normal(size=(ROWS, SECONDS * int(settings.rate)))
    x = double.astype(np.float32)
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(
        replace(settings, scale="density")(tensor), by_scipy(x, settings, False), rtol=1e-2, atol=1e-6
    )
    return fastest(
        lambda: settings(tensor),
        lambda: by_scipy(double, settings),
        lambda: by_scipy(x, settings),
        lambda: by_scipy(x, settings, False),
    )


def main() -> None:
    torch.set_num_threads(1)
    print("| signals | sidelight, float32 | scipy, float64 | scipy, float32 | scipy, float32, no detrend | ratios |")
    print("|---|---|---|---|---|---|")
    for name, settings in SETTINGS.items():
        mine, *rest = compare(settings)
        times = " | ".join(f"{t:.1f} ms" for t in (mine, *rest))
        print(f"| {name} | {times} | {', '.join(f'{t / mine:.1f}' for t in rest)} |")


if __name__ == "__main__":
    main()
