"""SUN RGB-D: indoor scenes of four depth cameras, with 37 classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from sidelight.errors import DataError
from sidelight.readers.rgbd import CLASSES_37, SPLITS, Scene, SceneReader, make_synthetic_scene
from sidelight.readers.synthetic import write_image, write_text
from sidelight.readers.tables import read_lines

FILES = ("rgb", "depth", "label")


@dataclass(frozen=True, kw_only=True)
class SUNRGBD(SceneReader):
    """Reads the official folders, and {train,test}_{rgb,depth,label}.txt: row i of the three lists names one scene.

    Depth images are the official files. Label maps are .npy or .png.
    """

    name: ClassVar[str] = "sunrgbd"
    summary: ClassVar[str] = "SUN RGB-D: 5285 + 5050 indoor scenes of four depth cameras, 37 classes per pixel"
    obtain: ClassVar[str] = (
        "Free: https://rgbd.cs.princeton.edu, SUNRGBD.zip and SUNRGBDtoolbox.zip. ESANet's preparation "
        "(https://github.com/TUI-NICR/ESANet, src/datasets/sunrgbd) writes the lists and the label maps of the toolbox."
    )
    citation: ClassVar[str] = (
        "Song, Lichtenberg, Xiao: SUN RGB-D: a RGB-D scene understanding benchmark suite. CVPR 2015."
    )
    licence: ClassVar[str] = "not stated by its authors; ask them before any use beyond research"
    classes: ClassVar[tuple[str, ...]] = CLASSES_37
    # The official depth files hold millimeters whose 16 bits are rotated to the left by 3; read3dPoints.m of the
    # official toolbox rotates them back.
    rotated: ClassVar[int] = 3

    def iter_scenes(self, source: Path) -> Iterator[Scene]:
        for split in SPLITS:
            lists = {kind: source / f"{split}_{kind}.txt" for kind in FILES}
            lines = {kind: read_lines(path) for kind, path in lists.items()}
            for kind, path in lists.items():
                if len(lines[kind]) != len(lines["rgb"]):
                    raise DataError(
                        f"{path} has {len(lines[kind])} rows, {lists['rgb']} has {len(lines['rgb'])}; "
                        "row i of each list must name the same scene"
                    )

            for i, (rgb, depth, label) in enumerate(zip(*(lines[kind] for kind in FILES)), 1):
                where = f"{lists['rgb']}: row {i}"
                # A path is <scene>/image/<file>, <scene>/depth_bfx/<file> or <scene>/label/<file>; lists that were
                # sorted apart show here.
                scene, *others = (str(PurePosixPath(x.strip()).parent.parent) for x in (rgb, depth, label))
                if others != [scene, scene]:
                    raise DataError(
                        f"{where}: the image is of {scene}, but depth and label are of {' and '.join(others)}"
                    )
                if self.depth == "raw":
                    # ESANet's lists name the depth with filled holes; the measured one lies beside it.
                    depth = depth.replace("depth_bfx", "depth")
                yield Scene(
                    name=scene,
                    split=split,
                    rgb=_find_file(source, rgb),
                    depth=_find_file(source, depth),
                    labels=_find_file(source, label),
                    where=where,
                )

    def synthesize(self, out: Path, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        for split, n in (("train", 12), ("test", 4)):
            lists: dict[str, list[str]] = {kind: [] for kind in FILES}
            for i in range(n):
                camera = ("kv1/NYUdata", "kv2/kinect2data", "realsense/lg", "xtion/sun3ddata")[i % 4]
                scene = f"{camera}/{split}{i:04d}"
                rgb, depth, labels = make_synthetic_scene(generator, (1, 2, 5, 37))
                rotated = (depth << 3 | depth >> 13).astype(np.uint16)
                names = f"{scene}/image/{i:04d}.jpg", f"{scene}/depth_bfx/{i:04d}.png", f"{scene}/label/label.npy"
                files = [out / "SUNRGBD" / name for name in names]
                write_image(files[0], rgb)
                write_image(files[1], rotated)
                write_image(files[1].parents[1] / "depth" / files[1].name, rotated)
                files[2].parent.mkdir(parents=True)
                np.save(files[2], labels)
                for kind, name in zip(FILES, names):
                    lists[kind].append(name)
            for kind, rows in lists.items():
                write_text(out / f"{split}_{kind}.txt", "\n".join(rows) + "\n")


def _find_file(source: Path, name: str) -> Path:
    """A listed file: its path starts at the source, or at SUNRGBD/ in it, which the official archive creates."""
    name = name.strip()
    inside = source / "SUNRGBD" / name
    return inside if inside.is_file() else source / name
