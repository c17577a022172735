"""Multispectral and radar images in .tif files: values, holes, crops, resolutions, and what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow

from sidelight.data import load
from sidelight.errors import ConfigError, DataError, SidelightError
from sidelight.inspection import inspect
from sidelight.readers import make_reader
from sidelight.readers.base import prepare
from sidelight.recordings import Labels, Raster, Segment, recording_type
from sidelight.utils.rasters import open_raster, read_resized
from sidelight.verbs.describe import describe_folder
from sidelight.video.crop import CENTER_CROP, CropParams

rasterio = pytest.importorskip("rasterio")
RNG = np.random.default_rng(0)
BANDS = RNG.integers(100, 3000, (5, 12, 16)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _silent(recwarn: pytest.WarningsRecorder) -> None:
    """Writing a file without a place on the globe warns."""


def write(path: Path, bands: np.ndarray, scale: float = 1.0, offset: float = 0.0, **more: Any) -> Path:
    keywords: dict[str, Any] = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype, **more}
    with rasterio.open(path, "w", height=bands.shape[1], width=bands.shape[2], **keywords) as file:
        file.write(bands)
        if scale != 1:
            file.scales, file.offsets = (scale,) * len(bands), (offset,) * len(bands)
    return path


def read(path: Path, crop: CropParams = CENTER_CROP, **settings: Any) -> np.ndarray:
    with rasterio.open(path) as file:
        settings = {"channels": file.count, "size": (file.height, file.width), **settings}
    return Raster(**settings).read(Segment(path), crop).numpy()


@pytest.mark.parametrize("compress", ["none", "lzw", "deflate", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_bands_are_read_as_they_are(tmp_path: Path, dtype: type, compress: str) -> None:
    bands = (BANDS % 251).astype(dtype)
    path = write(tmp_path / "a.tif", bands, compress=compress)
    assert read(path).dtype == np.float32
    assert np.array_equal(read(path), bands)
    assert np.array_equal(read(path, pick=(4, 0)), bands[[4, 0]])
    assert np.array_equal(read(path, CropParams(flip=True)), bands[:, :, ::-1])
    assert Raster(channels=5, size=(12, 16)).probe(Segment(path)) == (12, 16)


def test_scale_and_no_data_are_what_the_file_says(tmp_path: Path) -> None:
    holes = BANDS.copy()
    holes[1, :3] = 0
    x = read(write(tmp_path / "a.tif", holes, nodata=0, scale=0.5, offset=-1.0))
    assert np.isnan(x[1, :3]).all()
    assert np.isnan(x).sum() == 3 * 16
    assert np.array_equal(x[0], holes[0] * np.float32(0.5) - 1)


def test_a_file_shrinks_by_means_and_no_data_takes_no_part(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8), (1, 16, 16)).copy()
    small = read(write(tmp_path / "ramp.tif", ramp), size=(8, 8))
    np.testing.assert_allclose(small[0, :, 1:-1], np.broadcast_to(2 * np.arange(1, 7) + 0.5, (8, 6)), atol=1e-5)
    level = np.full((1, 16, 16), 7, np.float32)
    level[0, :4, :4] = -9999
    path = write(tmp_path / "level.tif", level, nodata=-9999)
    for side in (4, 8, 32):
        holed = read(path, size=(side, side))
        assert np.isnan(holed[0, : side // 4, : side // 4]).all()
        assert np.isnan(holed).sum() == (side // 4) ** 2  # as large as it was
        np.testing.assert_allclose(holed[~np.isnan(holed)], 7, rtol=1e-6)  # not a mean of 7 and -9999


@pytest.mark.parametrize("crop", [CENTER_CROP, CropParams(share=0.6, top=0.2, left=0.9, flip=True)])
@pytest.mark.parametrize("size", [(12, 16), (24, 32), (40, 40)])
def test_a_crop_is_that_of_an_image_of_the_same_place(tmp_path: Path, crop: CropParams, size: tuple[int, int]) -> None:
    grey = RNG.integers(0, 256, (24, 32), np.uint8)
    Pillow.fromarray(grey).save(tmp_path / "a.png")
    path = write(tmp_path / "a.tif", grey[None])
    image = recording_type({"kind": "image", "channels": 1, "size": [*size]}).read(Segment(tmp_path / "a.png"), crop)
    np.testing.assert_allclose(read(path, crop, size=size), image.numpy(), atol=1.0)  # Pillow rounds twice


def test_a_part_of_a_large_file_is_what_the_whole_file_shows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", RNG.normal(size=(2, 90, 70)).astype(np.float32))
    with open_raster(path) as source:
        for box in ((20.3, 31.7, 52.1, 60.2), (0.0, 0.0, 70.0, 90.0), (61.2, 70.0, 70.0, 90.0)):
            for size in ((7, 9), (40, 50)):
                whole = [
                    np.asarray(Pillow.fromarray(band).resize(size[::-1], Pillow.Resampling.BILINEAR, box))
                    for band in source.read()
                ]
                np.testing.assert_allclose(read_resized(source, (), box, size), whole, atol=1e-5)


def test_files_are_read_in_threads_without_warnings(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    paths = [write(tmp_path / f"{i}.tif", BANDS + i) for i in range(8)]
    recwarn.clear()
    with ThreadPoolExecutor(4) as pool:
        for i, x in enumerate(pool.map(read_many, [paths] * 4)):
            assert np.array_equal(x, np.stack([BANDS + k for k in range(8)])), (i, threading.active_count())
    assert not [w for w in recwarn if "rasterio" in str(w.category)]


def read_many(paths: list[Path]) -> np.ndarray:
    return np.stack([Raster(channels=5, size=(12, 16)).read(Segment(path)).numpy() for path in paths])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write(p, BANDS[:4]), "has 4 bands; expected 5"),
        (lambda p: write(p, BANDS.astype(np.complex64)), "holds complex64 values; expected real numbers"),
        (lambda p: write(p, np.full((5, 12, 16), np.inf, np.float32)), "holds infinite values"),
        (lambda p: write(p, np.zeros((5, 12, 16), np.uint8), nodata=0), r'no pixel has a value \("no data" is 0'),
        (lambda p: p.write_bytes(write(p, BANDS).read_bytes()[:-900]), "cannot read .*truncated"),
        (lambda p: Pillow.fromarray(BANDS[0]).save(p, "PNG"), r"cannot read .*an image \(.png\)"),
        (lambda p: p.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>"), "cannot read"),
    ],
    ids=["bands", "complex", "infinite", "empty", "truncated", "png", "another format of GDAL"],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "a.tif")
    with pytest.raises(DataError, match=message) as caught:
        Raster(channels=5, size=(12, 16)).probe(Segment(tmp_path / "a.tif"))
    assert "a.tif" in str(caught.value)


def test_another_kind_names_the_one_that_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", BANDS)
    with pytest.raises(DataError, match=r"a\.tif: .*kind: raster"):
        recording_type({"kind": "image", "size": [12, 16]}).probe(Segment(path))


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match="channel 5 is asked for"):
        Raster(channels=5, size=(2, 2), pick=(5,))
    with pytest.raises(ConfigError, match="channels is 0"):
        Raster(channels=0, size=(2, 2))
    with pytest.raises(ConfigError, match="needs a value of 'channels'"):
        recording_type({"kind": "raster", "size": [2, 2]})


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Optical bands of 10 m with holes, radar of 20 m, and a class per pixel of 10 m, of which some have none."""
    rows = []
    for i in range(12):
        optical = (RNG.normal(900, 100, (4, 12, 16)) + 400 * (i % 2)).astype(np.uint16)
        optical[:, :, 0] = 0
        write(tmp_path / f"s2_{i}.tif", optical, nodata=0)
        write(tmp_path / f"s1_{i}.tif", RNG.normal(-12, 2, (2, 6, 8)).astype(np.float32))
        cover = np.full((1, 12, 16), i % 2, np.uint8)
        cover[0, 0] = 255
        write(tmp_path / f"cover_{i}.tif", cover, nodata=255)
        names = {f"{m}_file_name": f"{m}_{i}.tif" for m in ("s2", "s1", "cover")}
        rows.append({"id": f"r{i}", "label": "ab"[i % 2], "scene": i // 3, **names})
    pd.DataFrame(rows).to_csv(tmp_path / "tiles.csv", index=False)
    return tmp_path / "tiles.csv"


def test_a_table_of_files_needs_no_settings(tiles: Path) -> None:
    data = load(tiles, target="label", group="scene", impute="mean", modalities={"nir": "s2[3]", "s1": None})
    assert {m: x.shape for m, x in data.inputs.items()} == {"nir": (12, 1, 12, 16), "s1": (12, 2, 6, 8)}
    nir = data.inputs["nir"].read()
    assert torch.isnan(nir[..., 0]).all()
    assert not torch.isnan(nir[..., 1:]).any()
    with pytest.raises(SidelightError, match=r"modality 's2' is nan .*impute"):
        inspect(load(tiles, target="label", group="scene", modalities={"s2": None}))


def test_a_class_per_pixel_and_bands_of_two_resolutions(tiles: Path) -> None:
    sizes = {"s2": None, "s1": {"size": [12, 16]}}
    data = load(tiles, target="cover_file_name", group="scene", impute="mean", modalities=sizes)
    assert (data.task, data.class_names, data.size) == ("segmentation", ("0", "1"), (12, 16))
    assert {m: x.shape for m, x in data.inputs.items()} == {"s2": (12, 4, 12, 16), "s1": (12, 2, 12, 16)}
    codes = data.target.read().numpy()  # type: ignore[union-attr]
    assert (codes[:, 0] == -1).all()
    assert (codes[:, 1:] == np.arange(12)[:, None, None] % 2).all()


def test_a_place_of_another_shape_is_another_view(tiles: Path) -> None:
    write(tiles.parent / "s1_4.tif", RNG.normal(-12, 2, (2, 6, 9)).astype(np.float32))
    sizes = {"s2": None, "s1": {"size": [12, 16]}}
    with pytest.raises(DataError, match=r"show different views: .*s1_4.tif is 6 x 9"):
        load(tiles, target="cover_file_name", group="scene", impute="mean", modalities=sizes)


def test_label_maps_are_whole_numbers_of_one_band(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", BANDS[:1].astype(np.float32))
    with pytest.raises(DataError, match=r"has 1 bands of float32; a label map has one band of whole numbers"):
        Labels(size=(12, 16)).probe(Segment(path))
    with pytest.raises(ConfigError, match=r"colours are read from \.png"):
        Labels(size=(12, 16), colours={"road": [1, 1, 1]}).probe(Segment(path))


def test_described(tiles: Path) -> None:
    folder = tiles.parent
    tiles.rename(folder / "metadata.csv")
    _, found = describe_folder(folder, target=["label"], group="scene")
    settings = {m: guess.settings | {"size": [*guess.settings["size"]]} for m, guess in found.items()}
    assert settings["s2"] == {"kind": "raster", "channels": 4, "size": [12, 16]}
    assert settings["s1"] == {"kind": "raster", "channels": 2, "size": [6, 8]}
    assert settings["cover"] == {"kind": "raster", "channels": 1, "size": [12, 16]}


def test_files_that_differ_are_said_when_a_folder_is_described(tiles: Path) -> None:
    write(tiles.parent / "s2_3.tif", BANDS)
    tiles.rename(tiles.parent / "metadata.csv")
    _, found = describe_folder(tiles.parent, target=["label"], group="scene")
    assert found["s2"].guesses == ["channels and size: files differ; those of the first one are written"]
    assert found["s1"].guesses == []


def test_a_folder_of_files_for_each_modality(tiles: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    for m in ("s2", "s1"):
        (study / m).mkdir(parents=True)
        for i in range(12):
            (tiles.parent / f"{m}_{i}.tif").rename(study / m / f"r{i}.tif")
    pd.read_csv(tiles)[["id", "label", "scene"]].to_csv(study / "labels.csv", index=False)
    prepare(make_reader("folder", {"group": "scene"}), study, tmp_path / "out")
    data = load(tmp_path / "out", impute="mean")
    assert {m: x.shape for m, x in data.inputs.items()} == {"s2": (12, 4, 12, 16), "s1": (12, 2, 6, 8)}


def test_a_described_map_of_classes_is_the_target(tiles: Path) -> None:
    table = pd.read_csv(tiles).drop(columns="label").rename(columns={"cover_file_name": "mask_file_name"})
    table.to_csv(tiles.parent / "metadata.csv", index=False)
    _, found = describe_folder(tiles.parent, {"s1": {"size": [12, 16]}}, target=["mask_file_name"], group="scene")
    assert found["mask"].settings["kind"] == "labels"
    assert load(tiles.parent, impute="mean").task == "segmentation"
