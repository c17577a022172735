"""NYU Depth v2: indoor scenes in RGB and depth, with 40 classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from sidelight.readers.rgbd import CLASSES_37, SPLITS, Scene, SceneReader, make_synthetic_scene
from sidelight.readers.synthetic import write_image, write_text
from sidelight.readers.tables import read_lines

# The official file is MATLAB's; these are the folders into which ESANet's preparation unpacks it.
FOLDERS = {"refined": "depth", "raw": "depth_raw"}


@dataclass(frozen=True, kw_only=True)
class NYUv2(SceneReader):
    """Reads {train,test}.txt, one name per line, and {train,test}/{rgb,depth,labels_40}/<name>.png.

    Depth images hold millimeters.
    """

    name: ClassVar[str] = "nyuv2"
    summary: ClassVar[str] = "NYU Depth v2: 795 + 654 indoor scenes, RGB and depth, 40 classes per pixel"
    obtain: ClassVar[str] = (
        "Free: https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html, one MATLAB file. ESANet's preparation "
        "(https://github.com/TUI-NICR/ESANet, src/datasets/nyuv2) unpacks it into the folders read here."
    )
    citation: ClassVar[str] = (
        "Silberman, Hoiem, Kohli, Fergus: Indoor segmentation and support inference from RGBD images. ECCV 2012. "
        "40 classes: Gupta, Arbeláez, Malik, CVPR 2013."
    )
    licence: ClassVar[str] = "not stated by its authors; ask them before any use beyond research"
    # The usual 40 classes (Gupta et al., CVPR 2013), to which the 894 original labels are mapped.
    classes: ClassVar[tuple[str, ...]] = (*CLASSES_37, "otherstructure", "otherfurniture", "otherprop")

    def iter_scenes(self, source: Path) -> Iterator[Scene]:
        for split in SPLITS:
            listed = source / f"{split}.txt"
            for i, line in enumerate(read_lines(listed), 1):
                name, folder = line.strip(), source / split
                if name:  # a blank line names no scene
                    yield Scene(
                        name=name,
                        split=split,
                        rgb=folder / "rgb" / f"{name}.png",
                        depth=folder / FOLDERS[self.depth] / f"{name}.png",
                        labels=folder / "labels_40" / f"{name}.png",
                        where=f"{listed}: row {i}",
                    )

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        # The official scene numbers run through both parts.
        for split, numbers in (("test", range(1, 5)), ("train", range(5, 17))):
            names = [f"{i:04d}" for i in numbers]
            write_text(out / f"{split}.txt", "\n".join(names) + "\n")
            for name in names:
                rgb, depth, labels = make_synthetic_scene(generator, (1, 2, 5, 40))
                images = {"rgb": rgb, "depth": depth, "depth_raw": depth, "labels_40": labels}
                for folder, pixels in images.items():
                    write_image(out / split / folder / f"{name}.png", pixels)
