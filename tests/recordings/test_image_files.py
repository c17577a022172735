"""Images and label maps: what is read, how it is kept, and what a network is given of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sidelight.data import Dataset, Preprocessor, load, load_rows
from sidelight.data.pixels import standardize_images
from sidelight.data.scaling import compute_pixel_scaling
from sidelight.errors import ConfigError, DataError
from sidelight.inspection import inspect

RNG = np.random.default_rng(0)
N, H, W = 6, 7, 9
RGB = RNG.integers(0, 256, (N, H, W, 3), dtype=np.uint8)
DEPTH = RNG.normal(20, 4, (N, H, W)).astype(np.float16)
Y = RNG.integers(0, 2, (N, H, W)).astype(np.int8)
GROUP = np.array(list("aabbcc"))


def arrays(**changes):
    return {"rgb": RGB, "depth": DEPTH, "y": Y, "group": GROUP} | changes


# arrays ---------------------------------------------------------------------------------------------------------------


def test_images_are_kept_as_they_are_stored():
    data = load(arrays())
    assert (data.task, data.size, data.class_names) == ("segmentation", (H, W), ("0", "1"))
    assert {m: (x.dtype, x.shape) for m, x in data.inputs.items()} == {
        "rgb": (np.dtype(np.uint8), (N, 3, H, W)),
        "depth": (np.dtype(np.float16), (N, 1, H, W)),
    }
    assert np.array_equal(data.inputs["rgb"], RGB.transpose(0, 3, 1, 2))
    assert np.array_equal(data.inputs["depth"][:, 0], DEPTH)
    assert data.target.dtype == np.int8
    assert np.array_equal(data.target, Y)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (RGB, (3, H, W)),
        (RGB.transpose(0, 3, 1, 2), (3, H, W)),
        (RGB[..., :1], (1, H, W)),
        (list(RGB), (3, H, W)),
        (RNG.normal(size=(N, 5, H, W)), (5, H, W)),
        (RNG.integers(0, 9, (N, 4, H, W, 3)), (3, 4, H, W)),
    ],
    ids=["channels last", "channels first", "one channel", "list", "five channels", "clips"],
)
def test_channels_come_first(given, shape):
    assert load({"x": given, "y": np.arange(N) % 2}).shape("x") == shape


def test_an_array_with_three_axes_is_an_image_only_where_the_target_has_a_class_per_pixel():
    assert load(arrays()).shape("depth") == (1, H, W)
    assert load({"depth": DEPTH, "y": np.arange(N) % 2}).shape("depth") == (H, W)
    assert load(arrays(depth=list(DEPTH))).shape("depth") == (1, H, W)


def test_an_npz_is_read_alike(tmp_path):
    np.savez(tmp_path / "holes.npz", **arrays())
    data = load(tmp_path / "holes.npz")
    assert np.array_equal(data.inputs["rgb"], load(arrays()).inputs["rgb"])
    assert data.name == "holes"


def test_pixels_without_a_class_are_ignored():
    y = Y.astype(np.int64)
    y[0, 0], y[1, 1], y[2] = -1, 255, 255
    data = load(arrays(y=y))
    assert (data.target[0, 0] == -1).all()
    assert (data.target[1, 1] == -1).all()
    assert data.labelled.tolist() == [True, True, False, True, True, True]
    void = load(arrays(y=np.where(Y == 0, 0, 7)), ignore_index=3)
    assert void.class_names == ("0", "7")
    named = load(arrays(y=Y + np.int8(1), class_names=["void", "road", "hole"]), ignore_index=0)
    assert named.class_names == ("road", "hole")
    assert np.array_equal(named.target, Y)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y": Y.astype(float) + 0.5}, "a class per pixel"),
        ({"y": np.where(np.arange(N)[:, None, None] == 4, -3, Y)}, r"row 4: a pixel of target 'y' is -3"),
        ({"y": np.where(np.arange(N)[:, None, None] == 4, np.int32(30000), Y)}, r"row 4: a pixel .* is 30000"),
        ({"y": np.zeros_like(Y)}, "all labelled pixels are of one class"),
        ({"class_names": ["hole"]}, r"row 0: a pixel of target 'y' is 1, but class_names has 1 names"),
        ({"rgb": RGB[:, :5]}, r"images of 'rgb' are 5 × 9, but the target has 7 × 9 pixels; images are not resized"),
        ({"rgb": [*RGB[:4], RGB[4, :3], RGB[5]]}, r"'rgb', row 4 has shape \(3, 9, 3\), but row 0 has \(7, 9, 3\)"),
        (
            {"depth": np.where(np.arange(N)[:, None, None] == 2, np.inf, DEPTH)},
            r"inf in row 2, channel 0, pixel \(0, 0\)",
        ),
    ],
)
def test_what_is_wrong_is_named(changes, says):
    with pytest.raises(DataError, match=says):
        load(arrays(**changes))


def test_a_task_that_does_not_fit_the_target_is_refused():
    with pytest.raises(DataError, match="has a class per pixel, which makes a segmentation"):
        load(arrays(), task="classification")
    with pytest.raises(DataError, match="segmentation needs a target with a class per pixel"):
        load(arrays(y=np.arange(N)), task="segmentation")


# files ----------------------------------------------------------------------------------------------------------------


def manifest(folder: Path, **changes: str) -> Path:
    for i in range(N):
        Image.fromarray(RGB[i]).save(folder / f"rgb{i}.png")
        Image.fromarray((DEPTH[i] * 100).astype(np.uint16)).save(folder / f"depth{i}.png")
        Image.fromarray(Y[i].astype(np.uint8)).save(folder / f"y{i}.png")
    columns = {m: [f"{m}{i}.png" for i in range(N)] for m in ("rgb", "depth", "y")}
    for name, value in changes.items():
        columns[name.rstrip("0123456789")][int(name[-1])] = value
    names = {"rgb": "rgb_file_name", "depth": "depth_file_name", "y": "mask_file_name"}
    frame = pd.DataFrame({names[m]: cells for m, cells in columns.items()} | {"group": GROUP})
    frame.to_csv(folder / "metadata.csv", index=False)
    return folder


def test_a_manifest_names_png_files(tmp_path):
    data = load(manifest(tmp_path))
    assert data.task == "segmentation"
    assert np.array_equal(data.inputs["rgb"], RGB.transpose(0, 3, 1, 2))
    assert data.inputs["rgb"].dtype == np.uint8
    assert np.array_equal(data.inputs["depth"][:, 0], (DEPTH * 100).astype(np.uint16))  # sixteen bits
    assert np.array_equal(data.target, Y)


def test_an_empty_cell_is_a_row_without_image_or_label(tmp_path):
    data = load(manifest(tmp_path, depth2="", y4=""))
    assert data.present["depth"].tolist() == [True, True, False, True, True, True]
    assert not data.inputs["depth"][2].any()
    assert data.labelled.tolist() == [True] * 4 + [False, True]
    assert (data.target[4] == -1).all()


def test_a_palette_is_colours_in_an_image_and_numbers_in_a_label_map(tmp_path):
    folder = manifest(tmp_path)
    for i in range(N):
        image = Image.fromarray(Y[i].astype(np.uint8), mode="P")
        image.putpalette([9, 9, 9, 200, 100, 50])
        for name in ("y", "rgb"):
            image.save(folder / f"{name}{i}.png")
    data = load(folder)
    assert np.array_equal(data.target, Y)
    assert np.array_equal(data.inputs["rgb"][:, 0], np.where(Y, 200, 9))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rgb3": "gone.png"}, r"modality 'rgb', row 3: .*gone\.png does not exist"),
        ({"rgb3": "text.png"}, r"modality 'rgb', row 3: cannot read .*text\.png"),
        ({"y3": "rgb0.png"}, r"target 'mask_file_name', row 3: .*rgb0\.png has colours"),
        ({"y3": "small.png"}, r"target 'mask_file_name', row 3 \(small\.png\) has shape \(1, 2, 2\)"),
        ({"rgb3": "small.png"}, r"modality 'rgb', row 3 \(small\.png\) has shape \(1, 2, 2\), but row 0"),
    ],
)
def test_the_row_of_a_bad_file_is_named(changes, says, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=says):
        load(manifest(tmp_path, **changes))


def test_rows_for_prediction_need_no_labels(tmp_path):
    rows = load_rows(manifest(tmp_path), ["rgb"])
    assert rows.inputs["rgb"].shape == (N, 3, H, W)


# what a network is given ----------------------------------------------------------------------------------------------


def test_pixels_are_standardised_by_the_train_rows():
    data = load(arrays())
    made = Preprocessor.fit(data, np.arange(4), ["rgb", "depth"])
    rows = data.batch(made).index_select(torch.arange(4))
    assert rows.inputs["rgb"].dtype == torch.uint8
    assert rows.inputs["depth"].dtype == torch.float16
    assert rows.target.dtype == torch.int8
    ready = rows.materialize()
    for m in ("rgb", "depth"):
        assert ready.inputs[m].dtype == torch.float32
        assert ready.inputs[m].mean((0, 2, 3)).abs().max() < 1e-3
        assert (ready.inputs[m].std((0, 2, 3), correction=0) - 1).abs().max() < 1e-3
    assert ready.target.dtype == torch.int64
    assert ready.materialize() is not rows
    direct = made({m: torch.from_numpy(x[:4]) for m, x in data.inputs.items()})
    assert all(torch.equal(direct[m], ready.inputs[m]) for m in direct)


def test_the_moments_are_numpys(monkeypatch):
    x = RGB.transpose(0, 3, 1, 2)
    for at_once in (10**9, 3 * H * W):
        monkeypatch.setattr("sidelight.data.pixels.VALUES_AT_ONCE", at_once)
        mean, scale = compute_pixel_scaling(torch.from_numpy(x), None)
        assert np.allclose(mean, x.mean((0, 2, 3)))
        assert np.allclose(1 / scale, x.std((0, 2, 3)))
    some = torch.tensor([True, False] * 3)
    assert np.allclose(compute_pixel_scaling(torch.from_numpy(x), some)[0], x[::2].mean((0, 2, 3)))
    assert compute_pixel_scaling(torch.full((2, 1, 3, 3), 7), None)[1] == 0  # constant


def test_absent_rows_and_missing_pixels_are_zero():
    depth = DEPTH.astype(np.float32)
    depth[1, 2, 3] = np.nan
    data = load(arrays(depth=depth, depth_present=np.arange(N) != 4), impute="mean")
    made = Preprocessor.fit(data, np.arange(N), ["depth"])
    out = data.batch(made).materialize().inputs["depth"]
    assert out[1, 0, 2, 3] == 0
    assert not out[4].any()
    known = np.delete(depth, 4, 0)
    assert made.state_dict()["mean_0"][0].item() == pytest.approx(np.nanmean(known), rel=1e-5)
    with pytest.raises(DataError, match=r"nan in row 1, channel 0, pixel \(2, 3\)"):
        load(arrays(depth=depth))


def test_each_group_by_its_own_rows():
    data = load(arrays())
    made = Preprocessor.fit(data, np.arange(4), ["rgb"], standardize="group")
    out = data.batch(made).materialize().inputs["rgb"]
    for rows in ([0, 1], [2, 3], [4, 5]):  # also of a group that was not fitted
        assert out[rows].mean((0, 2, 3)).abs().max() < 1e-4


def test_a_preprocessor_is_made_again_from_its_file():
    data = load(arrays())
    made = Preprocessor.fit(data, np.arange(4), ["rgb", "depth"])
    again = Preprocessor.from_config(made.to_config())
    again.load_state_dict(made.state_dict())
    x = {"depth": torch.from_numpy(data.inputs["depth"])}
    assert torch.equal(again.subset(["depth"])(x)["depth"], made(x)["depth"])
    with pytest.raises(ConfigError, match=r"'depth' has rows of shape \(1, 7, 4\); expected \(1, 7, 9\)"):
        made({"depth": x["depth"][..., :4]})
    with pytest.raises(ConfigError, match="only signals"):
        Preprocessor.fit(data, np.arange(4), ["rgb"], statistics=["rgb"])


def test_clips_are_standardised_by_channel():
    clips = RNG.integers(0, 256, (N, 4, H, W, 3), dtype=np.uint8)
    data = load({"clip": clips, "y": np.arange(N) % 2})
    out = data.batch(Preprocessor.fit(data, np.arange(N), ["clip"])).materialize().inputs["clip"]
    assert out.shape == (N, 3, 4, H, W)
    assert out.mean((0, 2, 3, 4)).abs().max() < 1e-4


def test_standardised_values_are_clipped():
    x = torch.tensor([[[[0.0, 100.0, torch.nan]]]])
    assert standardize_images(x, torch.zeros(1), torch.ones(1)).flatten().tolist() == [0.0, 10.0, 0.0]


# inspect --------------------------------------------------------------------------------------------------------------


def test_inspect_counts_pixels_and_looks_at_some():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, (12, 16, 16))
    y[0, 0] = -1
    depth = (y + rng.normal(0, 0.2, y.shape)).astype(np.float16)
    noise = rng.integers(0, 256, (*y.shape, 3), dtype=np.uint8)
    found = inspect(load({"rgb": noise, "depth": depth, "y": y, "group": np.arange(12) % 6}), folds=3)
    assert found.metric == "miou"
    assert sum(found.classes.values()) == 12 * 256 - 16
    assert {m.name: m.shape for m in found.modalities} == {"rgb": (3, 16, 16), "depth": (1, 16, 16)}
    scores = {s.modalities: s.mean for s in found.strengths}
    assert scores[("depth",)] > 0.9
    assert scores[("rgb",)] < 0.6
    assert "pixels" in found.to_text()
    assert any("0.5% of the labelled rows' pixels are ignored" in remark for remark in found.remarks)


def test_inspect_looks_at_images_of_a_class_per_row():
    bright = np.arange(24) % 2
    images = RNG.integers(0, 100, (24, 8, 8, 3), dtype=np.uint8) + (100 * bright[:, None, None, None]).astype(np.uint8)
    found = inspect(load({"photo": images, "y": bright, "group": np.arange(24) % 8}), folds=3)
    assert found.strengths[0].mean == 1.0


def test_a_dataset_says_what_it_holds():
    data = load(arrays())
    assert "rgb 3 × 7 × 9" in repr(data)
    assert data.classes(np.arange(2)) == {0, 1}
    with pytest.raises(DataError, match=r"row 1 is labelled, but all its pixels are ignored"):
        Dataset("x", {"rgb": data.inputs["rgb"]}, np.where(np.arange(N)[:, None, None] == 1, -1, Y),
                np.ones(N, bool), "segmentation", ("a", "b"))  # fmt: skip
