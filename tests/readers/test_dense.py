"""NYUv2 and SUN RGB-D: what is read of a synthetic copy, and every fault by file and row."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.copies import copy_to_change
from helpers.slow import mostly_slow
from sidelight.data import load
from sidelight.data.sources.prepared import read_prepared
from sidelight.errors import DataError
from sidelight.readers import make_reader
from sidelight.readers.base import check, prepare, synthesize
from sidelight.readers.synthetic import write_image

NAMES = ("nyuv2", "sunrgbd")
SMALL = {"height": 48, "width": 64}
KV1 = "SUNRGBD/kv1/NYUdata/train0004"


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """The synthetic copy of each set."""
    base = tmp_path_factory.mktemp("sources")
    return {name: synthesize(make_reader(name), base / name) for name in NAMES}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", ["refined", "raw"])
def test_rows_hold_what_the_files_hold(sources, tmp_path, name, depth):
    assert check(make_reader(name), sources[name]) == []
    out, skipped = prepare(make_reader(name, SMALL | {"depth": depth}), sources[name], tmp_path / "out")
    assert skipped == []
    table, data = read_prepared(out).table, load(out)
    assert (data.task, len(data.class_names)) == ("segmentation", {"nyuv2": 40, "sunrgbd": 37}[name])
    assert data.class_names[0] == "wall"
    assert data.default_modalities == {"available": ["rgb"], "privileged": ["depth"]}
    assert {s: int((data.split == s).sum()) for s in ("train", "test")} == {"train": 12, "test": 4}
    row = 5
    metres = data.inputs["depth"][np.array([row])].read()[0, 0].numpy()
    written = pixels(Path(table["depth_file_name"][row]))
    assert Path(table["depth_file_name"][row]).parent.name in {"refined": ("depth", "depth_bfx")}.get(
        depth, ("depth_raw", "depth")
    )
    turn = 3 if name == "sunrgbd" else 0
    official = (written >> turn) | (written << np.uint16(16 - turn) if turn else 0)
    np.testing.assert_allclose(metres, official / 1000, rtol=1e-6)
    labels = pixels(out / table["labels_file_name"][row])
    codes = data.target[[row]].read()[0].numpy()
    np.testing.assert_array_equal(codes, labels.astype(int) - 1)  # void, 0, becomes −1
    assert (codes == -1).sum() == 2 * 64


def test_a_depth_beyond_eight_metres_survives_the_rotation(sources, tmp_path):
    source = copy_to_change(sources["sunrgbd"], tmp_path / "src", f"{KV1}/depth_bfx/0004.png")
    far = np.full((48, 64), 9000, np.uint16)
    write_image(source / KV1 / "depth_bfx/0004.png", far << 3 | far >> 13)
    data = load(prepare(make_reader("sunrgbd", SMALL), source, tmp_path / "out")[0])
    i = list(data.ids).index("kv1/NYUdata/train0004")
    assert float(data.inputs["depth"][np.array([i])].read().max()) == pytest.approx(9.0)


def change(fill: int | None = None, size: tuple[int, int] = (48, 64), dtype: str = "uint16") -> Callable[[Path], None]:
    """Replace an image by another."""

    def damage(path: Path) -> None:
        write_image(path, np.full(size, fill, dtype))

    return damage


def save(value: int, size: tuple[int, int] = (48, 64)) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        np.save(path, np.full(size, value, np.uint8))

    return damage


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def twice(path: Path) -> None:
    path.write_text(path.read_text() + "0005\n")


DEPTH, MAP = "train/depth/0007.png", "train/labels_40/0007.png"
FAULTS: dict[str, tuple[str, str, Callable[[Path], None], str]] = {
    "no depth": ("nyuv2", DEPTH, Path.unlink, r"train/depth/0007.png"),
    "another size": ("nyuv2", DEPTH, change(1500, (24, 64)), r"0007.png is 48 x 64, .*0007.png is 24 x 64, .*one size"),
    "depth in metres": ("nyuv2", DEPTH, change(2), r"depth/0007.png: the median depth is 0.002 m .*unit"),
    "depth times ten": ("nyuv2", DEPTH, change(30000), r"depth/0007.png: the median depth is 30 m .*unit"),
    "depth of 8 bits": ("nyuv2", DEPTH, change(20, dtype="uint8"), r"0007.png: depth is uint8 .*16 bits"),
    "nothing measured": ("nyuv2", DEPTH, change(0), r"0007.png: every depth is 0"),
    "truncated depth": ("nyuv2", DEPTH, halve, r"cannot read .*depth/0007.png"),
    "truncated rgb": ("nyuv2", "train/rgb/0007.png", halve, r"cannot read .*rgb/0007.png"),
    "class 41": ("nyuv2", MAP, change(41, dtype="uint8"), r"0007.png \(.*train.txt: row 3\): pixel \(0, 0\) is 41"),
    "coloured labels": ("nyuv2", MAP, lambda p: write_image(p, np.zeros((48, 64, 3), np.uint8)), r"has colours"),
    "labels cut": ("nyuv2", MAP, change(1, (48, 32), "uint8"), r"48 x 32 pixels; .*one size"),
    "no labels": ("nyuv2", MAP, Path.unlink, r"labels_40/0007.png"),
    "in both parts": ("nyuv2", "test.txt", twice, r"test/rgb/0005.png"),
    "named twice": ("nyuv2", "train.txt", twice, r"id '0005' occurs twice"),
    "class 38": ("sunrgbd", f"{KV1}/label/label.npy", save(38), r"label.npy \(.*row 5\): .* is 38; .*1 to 37"),
    "map cut": ("sunrgbd", f"{KV1}/label/label.npy", save(3, (48, 63)), r"label.npy is 48 x 63 pixels; rgb and labels"),
    "map truncated": ("sunrgbd", f"{KV1}/label/label.npy", halve, r"cannot read .*label.npy"),
    "unit": ("sunrgbd", f"{KV1}/depth_bfx/0004.png", change(400), r"median depth is 0.05 m"),
}  # fmt: skip


SKIPPED = ["no depth", "in both parts", "named twice", "map cut"]
"""The faults whose rows the default run skips, of every set: one piece of code skips all, before any reader's own."""


@pytest.mark.parametrize(
    ("fault", "skip"),
    [(fault, False) for fault in FAULTS if fault not in SKIPPED]
    + mostly_slow([(fault, True) for fault in FAULTS], [(fault, True) for fault in SKIPPED]),
)
def test_bad_input_is_named_and_its_rows_can_be_skipped(sources, tmp_path, fault, skip):
    name, where, damage, expected = FAULTS[fault]
    source = copy_to_change(sources[name], tmp_path / "src", where)
    damage(source / where)
    reader = make_reader(name, SMALL)
    with pytest.raises(DataError, match=expected):
        prepare(reader, source, tmp_path / "out")
    if not skip:
        return
    out, skipped = prepare(reader, source, tmp_path / "out", skip=True)
    assert len(skipped) == 1
    assert len(read_prepared(out).table) == (16 if fault in ("in both parts", "named twice") else 15)
    assert (out / "skipped.csv").is_file()


def test_the_unit_and_the_holes_of_depth_are_options(sources, tmp_path):
    copy = shutil.copytree(sources["nyuv2"], tmp_path / "nyu")
    for path in copy.glob("*/depth/*.png"):
        values = pixels(path).copy()
        values[:3] = 65535
        write_image(path, values)
    with pytest.raises(DataError, match=r"pixels are 65535.*Say so: no_value: \[65535\]"):
        prepare(make_reader("nyuv2", SMALL), copy, tmp_path / "refused")
    reader = make_reader("nyuv2", SMALL | {"no_value": "[65535]", "step": "0.0005"})  # as the command line gives them
    out, _ = prepare(reader, copy, tmp_path / "out")
    depth = load(out).inputs["depth"]
    assert (depth.kind.no_value, depth.kind.step) == ((65535,), 0.0005)
    x = depth[:1].read()[0, 0].numpy()
    values = pixels(depth.segment(0).path)
    assert not x[:3].any()
    np.testing.assert_allclose(x[3:], values[3:] * 0.0005, rtol=1e-6)


def test_lists_that_do_not_fit_are_refused(sources, tmp_path):
    source = shutil.copytree(sources["sunrgbd"], tmp_path / "src")
    path = source / "train_depth.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    assert "train_depth.txt has 11 rows" in check(make_reader("sunrgbd"), source)[0]
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    assert (
        "train_rgb.txt: row 1: the image is of kv1/NYUdata/train0000, but depth"
        in check(make_reader("sunrgbd"), source)[0]
    )
    path.unlink()
    assert "train_depth.txt does not exist" in check(make_reader("sunrgbd"), source)[0]


def test_what_is_missing_is_listed_by_file_and_row(sources, tmp_path):
    source = shutil.copytree(sources["nyuv2"], tmp_path / "src")
    (source / DEPTH).unlink()
    assert check(make_reader("nyuv2"), source) == [f"{source / DEPTH} ({source / 'train.txt'}: row 3)"]
