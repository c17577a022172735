"""What sets of RGB and depth images with a class per pixel share: their rows, checks and synthetic scenes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.data.sources.prepared import DatasetInfo
from sidelight.errors import DataError
from sidelight.readers.base import Contents, Faults, Reader, Row
from sidelight.readers.synthetic import noise_frames, write_image
from sidelight.recordings.registry import Depth, Image, Labels, RecordingType
from sidelight.utils.array_files import load_array
from sidelight.utils.images import read_labels

CLASSES_37 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag",
)  # fmt: skip
VOID = 0
SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One row: its name, part, files, and the file and row that name them."""

    name: str
    split: str
    rgb: Path
    depth: Path
    labels: Path
    where: str


@dataclass(frozen=True, kw_only=True)
class Scenes(Reader):
    """RGB remains, depth is privileged, the target is a class per pixel; value 0, void, is ignored.

    Args:
        depth: "refined" (holes filled) or "raw".
        height: of a row; images are scaled and cut to it.
        width: of a row.
    """

    classes: ClassVar[tuple[str, ...]]
    rotated: ClassVar[int] = 0

    depth: Literal["refined", "raw"] = "refined"
    height: int = 480
    width: int = 640

    @abstractmethod
    def scenes(self, source: Path) -> Iterator[Scene]:
        """Every row; raises DataError where a list cannot be read."""

    def missing(self, source: Path) -> list[str]:
        try:
            scenes = list(self.scenes(source))
        except DataError as error:
            return [str(error)]
        return [f"{p} ({s.where})" for s in scenes for p in (s.rgb, s.depth, s.labels) if not p.is_file()]

    def read(self, source: Path, faults: Faults) -> Contents:
        rows, written = list[Row](), dict[str, Path]()
        for scene in self.scenes(source):
            with faults.of(scene.name):
                for path in (scene.rgb, scene.depth, scene.labels):
                    if not path.is_file():
                        raise DataError(f"{path} does not exist; {scene.where} names it")
                labels = read_map(scene.labels, len(self.classes), scene.where)
                target: Path | str = scene.labels
                if scene.labels.suffix == ".npy":  # becomes an image, which is a tenth as large
                    target = f"labels/{scene.name.replace('/', '-')}.png"
                    written[target] = scene.labels
                    _one_size(scene, labels)
                files = {"rgb_file_name": scene.rgb, "depth_file_name": scene.depth, "labels_file_name": target}
                rows.append({"id": scene.name, "split": scene.split, **files})

        def write(out: Path) -> None:
            for name in sorted({row["labels_file_name"] for row in rows if isinstance(row["labels_file_name"], str)}):
                write_image(out / name, load_array(written[name], "").astype(np.uint8))

        size = (self.height, self.width)
        kinds: dict[str, RecordingType] = {
            "rgb": Image(size=size),
            "depth": Depth(size=size, rotated=self.rotated),
            "labels": Labels(size=size, classes=("void", *self.classes), ignore=VOID),
        }
        facts = DatasetInfo(
            name=self.name, target=("labels",), split="split", task="segmentation",
            available=("rgb",), privileged=("depth",),
        )  # fmt: skip
        return Contents(rows, kinds, facts, files=write, aligned=("rgb", "depth", "labels"))


def read_map(path: Path, classes: int, where: str) -> NDArray:
    """(H, W) class values, 0 to `classes`, of a .png or .npy; raises DataError naming the file and who names it."""
    labels = load_array(path, "") if path.suffix == ".npy" else read_labels(path)
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or not labels.size:
        raise DataError(f"{path} ({where}) holds {labels.dtype} of shape {labels.shape}; expected a class per pixel")
    bad = np.argwhere((labels < 0) | (labels > classes))
    if len(bad):
        y, x = bad[0].tolist()
        raise DataError(
            f"{path} ({where}): pixel ({y}, {x}) is {labels[y, x]}; expected classes 1 to {classes}, and 0 for void. "
            "These are labels of another set of classes"
        )
    return labels


def _one_size(scene: Scene, labels: NDArray) -> None:
    """Labels that become another file are compared here; `prepare` compares files of the source."""
    from sidelight.recordings.recording_type import Segment

    size = Image(size=(1, 1)).probe(Segment(scene.rgb))
    if size is not None and size != labels.shape:
        raise DataError(
            f"{scene.rgb} is {size[0]} x {size[1]}, {scene.labels} is {labels.shape[0]} x {labels.shape[1]} pixels; "
            "rgb and labels of a row must have one size"
        )


def synthetic_scene(
    generator: np.random.Generator, classes: Sequence[int] = (1, 2, 5, 22), height: int = 48, width: int = 64
) -> tuple[NDArray, NDArray, NDArray]:
    """(H, W, 3) uint8 RGB, (H, W) uint16 millimetres and (H, W) uint8 classes: blocks that both images show."""
    cells = generator.integers(0, len(classes), (height // 16, width // 16)).repeat(16, 0).repeat(16, 1)
    labels = np.asarray(classes, np.uint8)[cells]
    labels[:2] = VOID
    rgb = noise_frames(generator, 1, 0, height, width)[0] // 2 + (30 * cells)[..., None].astype(np.uint8)
    depth = (1000 + 900 * cells + generator.integers(0, 200, cells.shape)).astype(np.uint16)
    depth[:, :2] = 0
    return rgb, depth, labels
