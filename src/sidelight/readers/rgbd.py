"""What data sets of RGB and depth images with a class per pixel share: rows, checks and synthetic scenes."""

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
from sidelight.readers.base import Contents, Reader, Row, RowErrors
from sidelight.readers.synthetic import make_noise_frames, write_image
from sidelight.recordings.registry import Depth, Image, Labels, RecordingType
from sidelight.utils.array_files import load_array
from sidelight.utils.images import read_labels

# In the order of the official label values 1 to 37 (SUN RGB-D's toolbox); NYU Depth v2 adds three more.
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
    """One row: its name, its part of the split and its files; `where` is the list and the row that name them."""

    name: str
    split: str
    rgb: Path
    depth: Path
    labels: Path
    where: str


@dataclass(frozen=True, kw_only=True)
class SceneReader(Reader):
    """Base class: RGB is available, depth is privileged, the target is a class per pixel; value 0, void, is ignored.

    Class attributes: classes: names of the classes 1, 2, …. rotated: bits by which depth values are rotated.

    Args:
        depth: "refined" (holes filled) or "raw".
        height: of a row in pixels; images are scaled and cropped to it.
        width: of a row in pixels.
        step: metres that 1 stands for in a depth file.
        no_value: stored depths, beside 0, that mean "not measured", e.g. [65535].
    """

    classes: ClassVar[tuple[str, ...]]
    rotated: ClassVar[int] = 0

    depth: Literal["refined", "raw"] = "refined"
    height: int = 480
    width: int = 640
    step: float = 0.001
    no_value: tuple[int, ...] = ()

    @abstractmethod
    def iter_scenes(self, source: Path) -> Iterator[Scene]:
        """Yield every row; raises DataError if a list cannot be read."""

    def find_missing(self, source: Path) -> list[str]:
        try:
            scenes = list(self.iter_scenes(source))
        except DataError as error:
            return [str(error)]
        missing = []
        for scene in scenes:
            files = (scene.rgb, scene.depth, scene.labels)
            missing += [f"{path} ({scene.where})" for path in files if not path.is_file()]
        return missing

    def read(self, source: Path, errors: RowErrors) -> Contents:
        rows: list[Row] = []
        label_arrays: dict[str, Path] = {}  # image in the prepared folder -> .npy in the source
        for scene in self.iter_scenes(source):
            with errors.catch(scene.name):
                for path in (scene.rgb, scene.depth, scene.labels):
                    if not path.is_file():
                        raise DataError(f"{path} does not exist; {scene.where} names it")
                labels = read_label_map(scene.labels, len(self.classes), scene.where)
                target: Path | str = scene.labels
                # SUN RGB-D's label maps come as .npy; as an image a map is a tenth as large.
                if scene.labels.suffix == ".npy":
                    target = f"labels/{scene.name.replace('/', '-')}.png"
                    label_arrays[target] = scene.labels
                    _check_same_size(scene, labels)
                files = {"rgb_file_name": scene.rgb, "depth_file_name": scene.depth, "labels_file_name": target}
                rows.append({"id": scene.name, "split": scene.split, **files})

        def write_label_maps(out: Path) -> None:
            names = {row["labels_file_name"] for row in rows}
            for name in sorted(names & set(label_arrays)):
                write_image(out / name, load_array(label_arrays[name], "").astype(np.uint8))

        size = (self.height, self.width)
        kinds: dict[str, RecordingType] = {
            "rgb": Image(size=size),
            "depth": Depth(size=size, step=self.step, rotated=self.rotated, no_value=self.no_value),
            "labels": Labels(size=size, classes=("void", *self.classes), ignore=VOID),
        }
        facts = DatasetInfo(
            name=self.name, target=("labels",), split="split", task="segmentation",
            available=("rgb",), privileged=("depth",),
        )  # fmt: skip
        return Contents(rows, kinds, facts, files=write_label_maps, aligned=("rgb", "depth", "labels"))


def read_label_map(path: Path, classes: int, where: str) -> NDArray:
    """Read a label map.

    Args:
        path: a .png or .npy file.
        classes: the largest valid value.
        where: the list and row that name the file, for errors.

    Returns:
        (H, W) class values, 0 (void) to `classes`.

    Raises:
        DataError: no two-dimensional map of whole numbers, or a value out of range; names the file and `where`.
    """
    labels = load_array(path, "") if path.suffix == ".npy" else read_labels(path)
    if labels.ndim != 2 or labels.dtype.kind not in "iub" or not labels.size:
        raise DataError(f"{path} ({where}) holds {labels.dtype} of shape {labels.shape}; expected a class per pixel")
    bad = np.argwhere((labels < 0) | (labels > classes))
    if len(bad):
        y, x = bad[0].tolist()
        raise DataError(
            f"{path} ({where}): pixel ({y}, {x}) is {labels[y, x]}; expected classes 1 to {classes}, and 0 for void. "
            "The label map uses another set of classes"
        )
    return labels


def _check_same_size(scene: Scene, labels: NDArray) -> None:
    """Raise DataError if RGB image and label map differ in size.

    `prepare` compares the files of the source, but it does not see a label map that becomes another file.
    """
    from sidelight.recordings.base import Segment

    size = Image(size=(1, 1)).probe(Segment(scene.rgb))
    if size is not None and size != labels.shape:
        raise DataError(
            f"{scene.rgb} is {size[0]} x {size[1]}, {scene.labels} is {labels.shape[0]} x {labels.shape[1]} pixels; "
            "rgb and labels of a row must have one size"
        )


def make_synthetic_scene(
    generator: np.random.Generator, classes: Sequence[int] = (1, 2, 5, 22), height: int = 48, width: int = 64
) -> tuple[NDArray, NDArray, NDArray]:
    """Make a synthetic scene of blocks that both images show.

    Args:
        generator: draws the scene.
        classes: class values that occur.
        height: in pixels, a multiple of 16.
        width: in pixels, a multiple of 16.

    Returns:
        rgb: (H, W, 3) uint8.
        depth: (H, W) uint16 millimeters; 0 where nothing was measured.
        labels: (H, W) uint8 class values.
    """
    cells = generator.integers(0, len(classes), (height // 16, width // 16)).repeat(16, 0).repeat(16, 1)
    labels = np.asarray(classes, np.uint8)[cells]
    labels[:2] = VOID
    rgb = make_noise_frames(generator, 1, 0, height, width)[0] // 2 + (30 * cells)[..., None].astype(np.uint8)
    depth = (1000 + 900 * cells + generator.integers(0, 200, cells.shape)).astype(np.uint16)
    depth[:, :2] = 0
    return rgb, depth, labels
