"""Whether decoding holds a training step back: the same steps on rows in memory and on rows that are files.

    python benchmarks/loader.py                      # R3D-18 on clips of video files and of frame folders, ResNet-18 on images

Files are generated in a temporary folder: videos of 320 x 240 pixels (MPEG-4, 60 frames), folders of 256 x 340 JPEGs, JPEGs of
500 x 375. Rows are clips of 16 x 112 x 112 (batch 4) and images of 224 x 224 (batch 32), seen from random views. Networks train
on one thread, as a worker of an experiment does; decoding has a thread for every core. Steps on rows in memory and on files are
taken in blocks by turns, and the median of their ratios is what counts: 1.00 means that decoding costs nothing. The last column is
what decoding would cost in the step itself, without threads. About ten minutes on two cores: a step of R3D-18 takes seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image as Pillow

import sidelight as sl
from sidelight.config import BalanceConfig, TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.data.preprocess import Preprocessor
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.methods import Supervised, TrainState
from sidelight.networks.build import build_network
from sidelight.recordings.base import RecordingType
from sidelight.recordings.registry import Frames, Image, Video
from sidelight.tasks import make_task
from sidelight.training.loop import TrainingLoop
from sidelight.utils.device import CPU
from sidelight.utils.machine import usable_cores
from sidelight.video.crop import CropSampler

STEPS = 4
"""Of a block; even, since a round through the rows has two."""
LOOKS = CropSampler(0, share=0.6, flip=True, time=True)


def scene(t: int, row: int, size: tuple[int, int]) -> np.ndarray:
    """A picture that compresses like one that was taken: smooth shapes that move, and some noise."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin((x * (c + 1) + y * 2 + 9 * t + 31 * row) / 40) for c in range(3)]
    noise = np.random.default_rng(row * 997 + t).normal(0, 6, size)
    return (128 + 90 * np.stack(waves, -1) + noise[..., None]).clip(0, 255).astype(np.uint8)


def video(path: Path, row: int) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 1_000_000
        for t in range(60):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(scene(t, row, (240, 320)), format="rgb24")))
        out.mux(stream.encode())


def frames(path: Path, row: int) -> None:
    path.mkdir()
    for t in range(40):
        Pillow.fromarray(scene(t, row, (256, 340))).save(path / f"img_{t + 1:05d}.jpg", quality=90)


def image(path: Path, row: int) -> None:
    Pillow.fromarray(scene(0, row, (375, 500))).save(path, quality=90)


CASES = {
    "R3D-18, videos": (Video(), "r3d18", 4, video, ".avi"),
    "R3D-18, frame folders": (Frames(), "r3d18", 4, frames, ""),
    "ResNet-18, images": (Image(size=(224, 224)), "resnet18", 32, image, ".jpg"),
}


def rows_of(folder: Path, kind: RecordingType, write, suffix: str, count: int) -> Batch:
    rows = []
    for i in range(count):
        write(folder / f"{i}{suffix}", i)
        rows.append({"id": i, "target": i % 2, "rgb_file_name": str(folder / f"{i}{suffix}")})
    data = sl.load(write_prepared(folder / "out", rows, {"rgb": kind}, DatasetInfo("generated")))
    return data.batch(Preprocessor.fit(data, np.arange(count), ["rgb"]))


def measure(name: str, rounds: int) -> tuple[float, ...]:
    """Seconds of a step in memory, its ratios with threads and without, rows a second of one thread and of all."""
    kind, encoder, size, write, suffix = CASES[name]
    with tempfile.TemporaryDirectory() as place:
        batch = rows_of(Path(place), kind, write, suffix, 2 * size)
        rates = [decoded_per_second(batch, threads) for threads in (1, usable_cores())]
        config = load_config({"data": "x", "network.encoder": encoder, "training.batch_size": size})
        network = build_network({"rgb": kind.shape or ()}, ["rgb"], 2, config.network)
        loop = TrainingLoop(
            Supervised(network, make_task("classification", ("a", "b"))),
            TrainingConfig(),
            len(batch),
            0,
            BalanceConfig(),
            None,
            None,
            CPU,
        )
        memory = list(materialized_batches(batch, list(torch.arange(2 * size).split(size)), LOOKS))
        times = []
        for _ in range(rounds):  # blocks, not single steps by turns: threads would decode during the others' steps
            order = list(torch.cat([torch.randperm(2 * size) for _ in range(STEPS // 2)]).split(size))
            times.append(
                [
                    seconds_a_step(loop, iter([memory[i % 2] for i in range(STEPS)])),
                    seconds_a_step(loop, materialized_batches(batch, order, LOOKS)),
                    seconds_a_step(loop, materialized_batches(batch, order[:3], LOOKS, threads=0)),
                ]
            )
    table = np.array(times)
    ratios = [statistics.median(table[:, i] / table[:, 0]) for i in (1, 2)]
    return statistics.median(table[:, 0]), *ratios, *rates


def decoded_per_second(batch: Batch, threads: int) -> float:
    start = time.perf_counter()
    batch.files["rgb"].read(threads=threads)
    return len(batch) / (time.perf_counter() - start)


def seconds_a_step(loop: TrainingLoop, batches: Iterator[Batch]) -> float:
    """The mean over all but the first, before which nothing could be decoded ahead; waiting for batches included."""
    loop.method.train()
    ends = []
    for batch in batches:
        for group, terms in loop.method.steps(batch, TrainState(0, 1, 0)):
            loop.update(group, terms, TrainState(0, 1, 0))
        ends.append(time.perf_counter())
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of 4 steps in memory, 4 on files and 3 without threads")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{usable_cores()} cores\n")
    print(
        "| what | step in memory | files / memory | rows/s of the step | decoded by 1 thread | by all | without threads |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in args.only:
        size = CASES[name][2]
        step, ratio, alone, one, every = measure(name, args.rounds)
        print(
            f"| {name} | {step:.2f} s | **{ratio:.2f}** | {size / step:.1f} | {one:.0f}/s | {every:.0f}/s | {alone:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
