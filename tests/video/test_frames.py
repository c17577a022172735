"""Frame folders, depth, faces and aligned views: closed forms, and what is wrong by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sidelight.errors import ConfigError, DataError
from sidelight.recordings.registry import Depth, Segment
from sidelight.video import (
    STATISTICS,
    ClipCrop,
    ClipCropSettings,
    align_faces,
    check_aligned,
    crop_clips,
    crop_faces,
    find_frames,
    normalize,
    read_depth,
    read_faces,
    read_folder,
    row_generator,
    sample_clip_crop,
)
from sidelight.video.crop import CENTER_CROP
from sidelight.video.faces import TEMPLATE, reduce_to_five_points, warp
from sidelight.video.frames import FrameFolder


@given(have=st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True), asked=st.lists(st.integers(-5, 60)))
def test_the_nearest_frame_is_as_near_as_any(have, asked):
    folder = FrameFolder(Path(), "{:d}.png", np.array(sorted(have)), np.zeros(0))
    found = folder.nearest(np.array(asked, np.int64))
    assert found.tolist() == [min(sorted(have), key=lambda n: abs(n - a)) for a in asked]


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        for i in (3, 4, 5, 8, 9):
            Image.fromarray(np.full((6, 8, 3), 20 * i, np.uint8)).save(tmp_path / f"img_{i:05d}.png")
        (tmp_path / "notes.txt").write_text("")
        (tmp_path / "img_6.png").write_text("another pattern")
        return tmp_path

    def test_frames_and_gaps(self, folder):
        found = find_frames(folder, "img_{:05d}.png")
        assert found.numbers.tolist() == [3, 4, 5, 8, 9]
        assert found.missing.tolist() == [6, 7]
        clip = read_folder(found, [8, 3, 8])
        assert (clip.shape, clip.dtype) == ((3, 3, 6, 8), torch.uint8)
        assert clip[:, 0, 0, 0].tolist() == [160, 60, 160]
        near = read_folder(found, [0, 5, 6, 7, 12], missing="nearest")
        assert near[:, 0, 0, 0].tolist() == [60, 100, 100, 160, 180]

    def test_what_is_wrong_is_named(self, folder):
        found = find_frames(folder, "img_{:05d}.png")
        with pytest.raises(DataError, match=r"frame 6 \(img_00006.png\) is missing \(2 of the 4 asked for\)"):
            read_folder(found, [5, 6, 7, 8])
        with pytest.raises(DataError, match=r"frame 10 \(img_00010.png\) is missing"):
            read_folder(found, [9, 10])
        with pytest.raises(DataError, match="asked for no frames"):
            read_folder(found, [])
        with pytest.raises(DataError, match=r"has no frames named img_\{:05d\}.jpg; there are: img_00003.png"):
            find_frames(folder)
        with pytest.raises(DataError, match="the folder of frames does not exist"):
            find_frames(folder / "none")
        with pytest.raises(ConfigError, match="expected one number between braces"):
            find_frames(folder, "img.jpg")
        Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(folder / "img_00009.png")
        with pytest.raises(
            DataError, match=r"img_00009.png is \(3, 6, 9\) .C, H, W., but img_00008.png is \(3, 6, 8\)"
        ):
            read_folder(found, [8, 9])
        (folder / "img_00004.png").write_bytes((folder / "img_00003.png").read_bytes()[:40])
        with pytest.raises(DataError, match=r"cannot read .*img_00004.png: truncated"):
            read_folder(found, [3, 4])

    def test_one_frame_is_a_folder_too(self, tmp_path):
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "7.png")
        found = find_frames(tmp_path, "{:d}.png")
        assert read_folder(found, [1, 7, 9], missing="nearest").shape == (3, 1, 6, 8)


class TestDepth:
    def write(self, path, values):
        Image.fromarray(np.asarray(values)).save(path)
        return path

    def test_millimetres_become_metres(self, tmp_path):
        depth = read_depth(self.write(tmp_path / "d.png", np.array([[0, 500], [2000, 9999]], np.uint16)))
        assert (depth.shape, depth.dtype) == ((1, 2, 2), torch.float32)
        torch.testing.assert_close(depth[0], torch.tensor([[0, 0.5], [2, 9.999]]))
        holes = self.write(tmp_path / "holes.png", np.array([[1500, 65535, 4000]], np.uint16))
        torch.testing.assert_close(read_depth(holes, no_value=[65535, 4000])[0, 0], torch.tensor([1.5, 0, 0]))
        near = self.write(tmp_path / "near.png", np.full((2, 2), 200, np.uint16))
        assert read_depth(near, coarse=True).mean() == pytest.approx(0.2)
        tum = self.write(tmp_path / "tum.png", np.full((2, 2), 10000, np.uint16))
        assert read_depth(tum, step=1 / 5000).mean() == pytest.approx(2)

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            (
                np.full((2, 2), 2, np.uint16),
                "the median depth is 0.002 m if 1 stands for 0.001 m; expected 0.1 to 15 m",
            ),
            (np.full((2, 2), 20000, np.uint16), "the median depth is 20 m"),
            (np.full((2, 2), 200, np.uint8), "depth is uint8 with 1 channels; expected one channel of 16 bits"),
            (np.full((2, 2, 3), 200, np.uint8), "depth is uint8 with 3 channels"),
            (np.zeros((2, 2), np.uint16), "every depth is 0"),
            (np.arange(100, 256).astype(np.uint16)[None], "no value is above 255: was it a picture of 8 bits"),
            (np.full((2, 2), 80, np.uint16), r"the median .*Or was it a picture of 8 bits\? No value is above 80"),
            (
                np.array([[1500, 65535]], np.uint16),
                r"1 of 2 pixels are 65535, the largest value of 16 bits.* no_value: \[65535\]",
            ),
        ],
    )
    def test_other_units_are_named(self, tmp_path, values, says):
        with pytest.raises(DataError, match=rf"d.png: {says}"):
            read_depth(self.write(tmp_path / "d.png", values))


def smooth(height: int, width: int) -> torch.Tensor:
    """(1, 2, H, W): channel 0 is x, channel 1 is y, of pixels' middles; linear, so interpolation is exact."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])[None]


class TestFaces:
    def test_a_crop_is_the_square_around_the_box(self):
        frame = smooth(60, 80)
        out = crop_faces(frame, np.array([[20, 10, 30, 30]]), size=20, margin=0.5)  # side 40, middle (25, 20)
        inside = smooth(20, 20) * 2 + torch.tensor([5.0, 0.0]).view(1, 2, 1, 1)
        torch.testing.assert_close(out, inside, atol=1e-3, rtol=0)
        assert crop_faces(frame.to(torch.uint8), np.array([[20, 10, 30, 30]]), 20, 0.5).dtype == torch.uint8
        outside = crop_faces(torch.ones(1, 1, 60, 80), np.array([[-40.0, 0, 0, 40]]), 10, 0)
        assert outside.max() == 0

    @given(st.floats(-180, 180), st.floats(0.4, 3), st.floats(-20, 20), st.floats(-20, 20))
    def test_alignment_undoes_rotation_scale_and_shift(self, angle, scale, right, down):
        """Landmarks placed by a similarity: pixel (x, y) of the face shows the frame where that takes (x, y)."""
        a = scale * np.exp(1j * np.deg2rad(angle))
        z = np.array(TEMPLATE) @ [1, 1j]
        w = a * (z - 56 - 56j) + 200 + right + (200 + down) * 1j
        out = align_faces(smooth(400, 400), np.stack([w.real, w.imag], 1)[None])
        here = (smooth(112, 112)[0].double().numpy().transpose(1, 2, 0) @ [1, 1j]) - 56 - 56j
        there = a * here + 200 + right + (200 + down) * 1j
        expected = np.stack([there.real, there.imag])
        inside = (expected.min(0) > 3) & (expected.max(0) < 397)
        np.testing.assert_allclose(out[0].numpy()[:, inside], expected[:, inside], atol=0.02)

    def test_shrinking_averages(self):
        """A checkerboard of single pixels is grey from afar; taking one point a pixel would alias."""
        board = (torch.arange(224)[:, None] + torch.arange(224)) % 2
        frame = board[None, None].float()
        matrix = np.array([[[4.0, 0, 0], [0, 4, 0]]])
        assert (warp(frame, matrix, 50) - 0.5).abs().max() < 0.01

    def test_landmarks_of_68_give_five(self):
        points = np.arange(136.0).reshape(1, 68, 2)
        assert reduce_to_five_points(points)[0].tolist() == [[77, 78], [89, 90], [60, 61], [96, 97], [108, 109]]
        assert reduce_to_five_points(points[:, :5]) is not None
        with pytest.raises(ConfigError, match="7 landmarks; expected 5"):
            reduce_to_five_points(points[:, :7])
        with pytest.raises(DataError, match="face 0: its landmarks coincide"):
            align_faces(smooth(9, 9), np.ones((1, 5, 2)))
        with pytest.raises(DataError, match="2 faces for frames"):
            align_faces(smooth(9, 9), np.random.default_rng(0).normal(size=(2, 5, 2)) * 50)
        with pytest.raises(ConfigError, match="leaves nothing"):
            crop_faces(smooth(9, 9), np.ones((1, 4)), margin=-0.5)

    def test_csv(self, tmp_path):
        path = tmp_path / "faces.csv"
        path.write_text("frame, x, y, w, h, x_0, y_0\n3,1,2,10,20,5,6\n1,0,0,5,5,1,1\n2,,,,,,\n")
        faces = read_faces(path)
        assert faces.frames.tolist() == [1, 3]
        assert faces.boxes is not None
        assert faces.boxes.tolist() == [[0, 0, 5, 5], [1, 2, 11, 22]]
        assert faces.points is not None
        assert faces.points.tolist() == [[[1, 1]], [[5, 6]]]
        assert faces.find_rows(np.array([3, 1, 3])).tolist() == [1, 0, 1]
        with pytest.raises(DataError, match=r"faces.csv: frame 2 has no face"):
            faces.find_rows(np.array([1, 2]))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("frame,x1,y1,x2,y2\n1,5,5,5,9\n", r"row 2: the box \[5.0, 5.0, 5.0, 9.0\] .x1, y1, x2, y2. has no area"),
            ("frame,x1,y1,x2,y2\n1,1,1,5,9\n1,1,1,5,9\n", "row 3: frame 1 a second time"),
            ("frame,x1,y1,x2,y2\n1,1,1,5,9\n1.5,1,1,5,9\n", "row 3: frame 1.5; expected a whole number from 0 on"),
            ("frame,x1,y1,x2,y2\n-1,1,1,5,9\n", "row 2: frame -1; expected a whole number"),
            ("frame,x1,y1,x2,y2\n1,1,1,5,nine\n", "row 2, column 'y2' is 'nine'"),
            ("frame,x1,y1,x2,y2\n1,,,,\n", "has no faces"),
            ("image,x1,y1,x2,y2\n1,1,1,5,9\n", "expected frame, and"),
            ("frame,x_0\n1,1\n", "expected frame, and"),
            ("", "is empty"),
        ],
    )
    def test_bad_csv_is_named(self, tmp_path, text, says):
        path = tmp_path / "faces.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=says):
            read_faces(path)


class TestViews:
    @given(
        st.integers(0, 2**31), st.integers(20, 60), st.integers(20, 60), st.sampled_from([(16, 16), (12, 24), (30, 10)])
    )
    def test_modalities_stay_aligned(self, seed, height, width, size):
        """Depth holds where each pixel was, so the picture's values must be found there."""
        picture = torch.randint(0, 256, (4, 3, height, width), dtype=torch.uint8, generator=row_generator(seed, 0, 0))
        where = torch.arange(4 * height * width, dtype=torch.float32).view(4, 1, height, width)
        views = ClipCropSettings(size, frames=2, area=(0.1, 1.0))
        view = sample_clip_crop(views, picture.shape, row_generator(seed, 3, 7))
        assert view == sample_clip_crop(views, picture.shape, row_generator(seed, 3, 7))
        out = crop_clips(view, {"rgb": picture, "depth": where}, size, exact=("rgb", "depth"))
        assert out["rgb"].shape == (2, 3, *size)
        assert out["rgb"].dtype == torch.uint8
        index = out["depth"].long().flatten()
        found = picture.permute(1, 0, 2, 3).reshape(3, -1)[:, index]
        torch.testing.assert_close(out["rgb"].permute(1, 0, 2, 3).reshape(3, -1), found, rtol=0, atol=0)

    def test_evaluation_takes_the_middle(self):
        view = sample_clip_crop(ClipCropSettings((10, 10)), (5, 3, 20, 40))
        assert view == ClipCrop(None, CENTER_CROP)
        x = smooth(20, 40)
        torch.testing.assert_close(crop_clips(view, {"rgb": x}, (20, 20))["rgb"], x[..., 10:30])
        shrunk = crop_clips(view, {"rgb": x}, (10, 10))["rgb"]
        torch.testing.assert_close(shrunk[0, 0, 5, 1:-1], 10 + 2 * (torch.arange(1, 9) + 0.5))

    def test_everything_is_drawn(self):
        views = ClipCropSettings((8, 8), frames=2, stride=2, area=(0.2, 0.9))
        drawn = [sample_clip_crop(views, (6, 3, 32, 32), row_generator(0, 0, i)) for i in range(300)]
        assert {v.frames for v in drawn} == {(i, i + 2) for i in range(4)}
        assert 0.4 < np.mean([v.crop.flip for v in drawn]) < 0.6
        area = np.array([v.crop.share for v in drawn])
        assert 0.2 <= area.min() < 0.25
        assert 0.85 < area.max() <= 0.9
        assert len({(v.crop.top, v.crop.left) for v in drawn}) == 300
        never = sample_clip_crop(ClipCropSettings((8, 8), area=(1.0, 1.0), flip=0), (8, 8), row_generator(0, 0, 0)).crop
        assert replace(never, time=0.5) == CENTER_CROP
        assert sample_clip_crop(
            ClipCropSettings((8, 8), area=(1.0, 1.0), flip=1), (8, 8), row_generator(0, 0, 0)
        ).crop.flip

    def test_views_in_memory_are_those_of_files(self, tmp_path):
        """One geometry: a depth image read in a look is the same look of the image that was read."""
        Image.fromarray(np.random.default_rng(0).integers(500, 3000, (30, 44)).astype(np.uint16)).save(
            tmp_path / "d.png"
        )
        whole = read_depth(tmp_path / "d.png")[None]
        for i in range(20):
            view = sample_clip_crop(ClipCropSettings((12, 10), area=(0.2, 0.9)), whole.shape, row_generator(0, 0, i))
            read = Depth(size=(12, 10)).read(Segment(tmp_path / "d.png"), view.crop)
            assert torch.equal(crop_clips(view, {"depth": whole}, (12, 10))["depth"][0], read)

    def test_frames_can_be_chosen_before_they_are_decoded(self):
        video = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 3, 8, 8)
        views = ClipCropSettings((8, 8), frames=4, stride=3)
        view = sample_clip_crop(views, (8, 8), row_generator(0, 0, 0), total=60)
        assert view.frames is not None
        late = crop_clips(replace(view, frames=None), {"rgb": video[list(view.frames)]}, (8, 8))
        torch.testing.assert_close(late, crop_clips(view, {"rgb": video}, (8, 8)))

    def test_rows_and_epochs_differ(self):
        first = [torch.rand(1, generator=row_generator(s, e, r)).item() for s in (0, 1) for e in (0, 1) for r in (0, 1)]
        assert len(set(first)) == 8

    def test_what_is_wrong_is_named(self):
        rgb, depth = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 9)
        with pytest.raises(DataError, match="row 7: 'rgb' has 2 frames of 8 x 8, but 'depth' has 2 of 8 x 9"):
            check_aligned({"rgb": rgb, "depth": depth}, "row 7")
        view = sample_clip_crop(ClipCropSettings((4, 4)), rgb.shape)
        with pytest.raises(DataError, match="must show the same frames"):
            crop_clips(view, {"rgb": rgb, "depth": depth}, (4, 4))
        for wrong in ({"size": (0, 4)}, {"area": (0.0, 1.0)}, {"area": (0.9, 0.5)}, {"flip": 2.0}):
            with pytest.raises(ConfigError, match="expected a size of at least 1"):
                ClipCropSettings(**{"size": (4, 4), **wrong})

    def test_normalisation(self):
        clip = torch.full((5, 3, 4, 4), 255, dtype=torch.uint8)
        out = normalize(clip, "kinetics")
        assert (out.shape, out.dtype, out.is_contiguous()) == ((3, 5, 4, 4), torch.float32, True)
        mean, std = (torch.tensor(v) for v in STATISTICS["kinetics"])
        torch.testing.assert_close(out[:, 0, 0, 0], (1 - mean) / std)
        assert normalize(clip[0], "half").unique().tolist() == [1]
        with pytest.raises(ConfigError, match=r"unknown statistics 'imagnet'. Did you mean 'imagenet'"):
            normalize(clip, "imagnet")
        with pytest.raises(DataError, match="expected uint8 RGB"):
            normalize(clip.float())
