"""Kinds of recordings, views on them, and prepared folders: what is read, and what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from helpers import recordings
from sidelight.data.sources.prepared import DatasetInfo, read_prepared, write_prepared
from sidelight.errors import ConfigError, DataError
from sidelight.recordings.base import Segment
from sidelight.recordings.registry import (
    RECORDING_TYPES,
    Array,
    Audio,
    Depth,
    Frames,
    Image,
    Labels,
    Raster,
    RecordingType,
    Rows,
    Signal,
    Text,
    Video,
    recording_type,
)
from sidelight.video.crop import CENTER_CROP, CropBox, CropParams, CropSampler

EXAMPLES = [
    Video(frames=4, stride=2, size=(8, 10), rate=25),
    Frames(frames=4, pattern="{:03d}.png", missing="error"),
    Image(size=(4, 5), channels=1, statistics="train"),
    Depth(size=(4, 5), step=0.0002),
    Raster(size=(4, 5), channels=13, pick=(3, 2, 1)),
    Labels(size=(4, 5), classes=("wall", "floor"), ignore=0),
    Audio(rate=16000, resample_to=44100, spectrogram="audio"),
    Signal(rate=512, columns=("a", "b"), unit="uV", spectrogram="emg"),
    Array(array_shape=(3,)),
    Text(longest=10),
    Rows(file="eda.npy", rate=4, unit="uS", channels=("gsr",)),
]

# settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda k: k.kind)
def test_settings_survive_json(kind):
    assert recording_type(json.loads(json.dumps(kind.to_config()))) == kind


def test_every_kind_is_tried():
    assert {type(kind) for kind in EXAMPLES} == set(RECORDING_TYPES.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "vidio"}, "unknown kind 'vidio'. Did you mean 'video'"),
        ({"kind": "image"}, "needs a value of 'size'"),
        ({"kind": "video", "frame": 3}, "'frame'. Did you mean 'frames'"),
        ({"kind": "video", "frames": "x"}, "frames"),
        ({"kind": "video", "frames": 0}, "frames is 0; expected at least 1"),
        ({"kind": "video", "statistics": "imagent"}, "Did you mean 'imagenet'"),
        ({"kind": "audio", "rate": 0}, "neither a rate nor a rate to resample to"),
        ({"kind": "audio", "rate": 16000, "spectrogram": "audio"}, "reads 44100 Hz, but rows have 16000 Hz"),
        ({"kind": "signal", "rate": 8, "columns": []}, "at least one column"),
    ],
)
def test_wrong_settings_are_named(config, message):
    with pytest.raises(ConfigError, match=message):
        recording_type(config, "f: modality 'm'")


def test_what_new_rows_have_to_share():
    video, frames = Video(frames=4, rate=25).schema(), Frames(frames=4, rate=30, pattern="{:03d}.png").schema()
    assert video == frames == {"size": [112, 112], "frames": 4, "stride": 1}
    sound = Audio(rate=16000, seconds=2).schema()
    assert sound == Audio(rate=0, resample_to=16000, seconds=2).schema()
    assert sound["final_rate"] == 16000
    assert Signal(rate=8, columns=("a",), unit="mV").schema() != Signal(rate=8, columns=("a",), unit="uV").schema()


# views ---------------------------------------------------------------------------------------------------------------

unit = st.floats(0, 1)
side = st.integers(2, 60)
crops = st.builds(CropParams, unit, st.floats(0.1, 1), unit, unit, st.booleans())


@given(crops, side, side, st.tuples(side, side))
def test_a_view_lies_inside_its_frame_and_has_its_size(crop, height, width, size):
    place = CropBox.from_params(crop, height, width, size)
    assert 0 <= place.top <= place.height - size[0]
    assert 0 <= place.left <= place.width - size[1]
    left, top, right, bottom = place.source_box(height, width, size)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    rows, columns = place.nearest_pixels(height, width, size)
    assert len(rows) == size[0]
    assert len(columns) == size[1]
    assert rows.max() < height
    assert columns.max() < width


def test_the_centre_view_is_the_largest_one_in_the_middle():
    assert CropBox.from_params(CENTER_CROP, 20, 40, (10, 10)) == CropBox(10, 20, 0, 5)
    assert CropBox.from_params(CENTER_CROP, 10, 10, (10, 10)) == CropBox(10, 10, 0, 0)


def test_views_depend_on_seed_step_and_row_alone():
    drawn = CropSampler(3, 0.5, True, True)
    again = [CropSampler(3, 0.5, True, True).draw(step, row) for step in range(3) for row in range(3)]
    assert [drawn.draw(step, row) for step in range(3) for row in range(3)] == again
    assert len(set(again)) == 9
    assert CropSampler(4, 0.5, True, True).draw(0, 0) != again[0]
    assert {crop.flip for crop in again} == {True, False}
    assert all(0.5 <= crop.share <= 1 for crop in again)


def test_what_is_not_asked_for_is_not_drawn():
    assert CropSampler(3).draw(7, 5) == CENTER_CROP
    time = CropSampler(3, time=True).draw(7, 5)
    assert replace(time, time=CENTER_CROP.time) == CENTER_CROP
    assert time != CENTER_CROP


@given(crops)
def test_images_depth_and_labels_are_cut_alike(tmp_path_factory, crop):
    """Each pixel knows where it is, so the views can be compared."""
    folder = tmp_path_factory.getbasetemp() / "alike"
    folder.mkdir(exist_ok=True)
    y, x = np.mgrid[:20, :28]
    if not (folder / "d.png").exists():
        Pillow.fromarray(np.stack([y * 8, x * 8, 0 * x], -1).astype(np.uint8)).save(folder / "rgb.png")
        Pillow.fromarray((1000 + 100 * y + x).astype(np.uint16)).save(folder / "d.png")
        Pillow.fromarray((y + x).astype(np.uint8)).save(folder / "l.png")
    rgb = Image(size=(10, 12)).read(Segment(folder / "rgb.png"), crop).float() / 8
    depth = (Depth(size=(10, 12)).read(Segment(folder / "d.png"), crop)[0] * 1000).round().long() - 1000
    labels = Labels(size=(10, 12)).read(Segment(folder / "l.png"), crop)
    rows, columns = depth // 100, depth % 100
    assert (rgb[0] - rows).abs().max() <= 1.5  # averages of neighbours beside the nearest pixel
    assert (rgb[1] - columns).abs().max() <= 1.5
    assert torch.equal(labels.long(), rows + columns)


def test_a_mirrored_view_is_the_other_way_round(tmp_path):
    part = Segment(recordings.image(tmp_path / "a.png"))
    kind = Image(size=(8, 8))
    assert torch.equal(kind.read(part, CropParams(flip=True)), kind.read(part).flip(-1))


def test_an_image_of_the_rows_size_is_read_as_it_is(tmp_path):
    path = recordings.image(tmp_path / "a.png", size=(8, 9))
    assert torch.equal(
        Image(size=(8, 9)).read(Segment(path)), torch.from_numpy(np.array(Pillow.open(path))).permute(2, 0, 1)
    )
    grey = Image(size=(8, 9), channels=1).read(Segment(path))
    assert grey.shape == (1, 8, 9)


# clips ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pytest.importorskip("av", reason="extra video is not installed")
    return recordings.video(tmp_path_factory.mktemp("video") / "a.avi")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return recordings.find_frames(tmp_path_factory.mktemp("frames") / "a", skip=(7,))


def times(x: torch.Tensor) -> list[int]:
    """Frame numbers from 0, by brightness."""
    return (x.float().mean((0, 2, 3)) / 4).round().int().tolist()


@pytest.mark.parametrize(
    ("start", "end", "time", "expected"),
    [
        (None, None, 0.5, [12, 14, 16, 18]),
        (None, None, 0.0, [0, 2, 4, 6]),
        (None, None, 1.0, [23, 25, 27, 29]),
        (1.0, None, 1.0, [10, 12, 14, 16]),
        (1.0, 2.0, 0.0, [10, 12, 14, 16]),
        (1.0, 2.0, 1.0, [13, 15, 17, 19]),
        (2.8, None, 0.5, [28, 29, 29, 29]),
    ],
)
def test_which_frames_a_clip_has(clip, frames, start, end, time, expected):
    crop = CropParams(time=time)
    x = Video(frames=4, stride=2, size=(8, 8)).read(Segment(clip, start, end), crop)
    assert x.shape == (3, 4, 8, 8)
    assert x.dtype == torch.uint8
    np.testing.assert_allclose(times(x), expected, atol=1)  # the codec's colours
    kind = Frames(frames=4, stride=2, size=(8, 8), rate=10, pattern="img_{:05d}.png")
    found = times(kind.read(Segment(frames, start, end), crop))
    assert found == [t if t != 6 else found[i] for i, t in enumerate(expected)]
    assert 6 not in found  # number 7, which has no file: a neighbour stands in


def test_a_missing_frame_may_be_an_error(frames):
    kind = Frames(frames=4, stride=2, size=(8, 8), pattern="img_{:05d}.png", missing="error")
    with pytest.raises(DataError, match=r"img_00007\.png is missing"):
        kind.read(Segment(frames), CropParams(time=0))


@pytest.mark.parametrize(
    ("kind", "start", "end", "message"),
    [
        (Video(rate=25), None, None, "has 10 frames a second, but 25 are declared"),
        (Video(), 9.0, None, "has no frames from 9 s on; it lasts 3 s"),
        (Video(), 1.0, 1.0, "a segment from 1.0 s to 1.0 s; expected 0 <= start < end"),
        (Video(), 1.0, 9.0, "lasts 3 s, but a segment of it ends at 9 s"),
    ],
)
def test_a_clip_that_is_not_as_declared(clip, kind, start, end, message):
    with pytest.raises(DataError, match=message):
        kind.probe(Segment(clip, start, end))


def test_a_truncated_video_is_named(clip, tmp_path):
    (tmp_path / "half.avi").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half\.avi"):
        Video().probe(Segment(tmp_path / "half.avi"))


# sound, signals, arrays ----------------------------------------------------------------------------------------------


def test_sound_is_cut_padded_and_resampled(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="extra audio is not installed")
    tone = np.sin(np.arange(8000) / 20).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", tone, 8000, subtype="FLOAT")
    part = Segment(tmp_path / "a.wav")
    assert torch.equal(Audio(rate=8000).read(part)[:, 0], torch.from_numpy(tone))
    half = Audio(rate=8000, seconds=0.5)
    assert torch.equal(half.read(part)[:, 0], torch.from_numpy(tone[2000:6000]))
    assert torch.equal(half.read(replace(part, start=0.75))[:, 0], torch.from_numpy(np.pad(tone[6000:], (0, 2000))))
    assert Audio(rate=0, resample_to=4000, seconds=0.5).read(part).shape == (2000, 1)
    with pytest.raises(DataError, match=r"a\.wav is sampled at 8000 Hz, but 16000 Hz is declared"):
        Audio(rate=16000).probe(part)
    with pytest.raises(DataError, match=r"only 0\.25 s remain from 0\.75 s on; expected 0\.5 s \(pad: true"):
        Audio(rate=8000, seconds=0.5, pad=False).probe(replace(part, start=0.75))


def test_a_spectrogram_cuts_nothing_unasked(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="extra audio is not installed")
    sound = np.sin(np.arange(2 * 44100) / 20).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", sound, 44100, subtype="FLOAT")
    whole = Segment(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"a\.wav lasts 2 s, and spectrogram 'audio' reads 1\.067 s: .*seconds: 1\.067"):
        Audio(rate=44100, spectrogram="audio").probe(whole)
    # A row that begins somewhere is as long as the preset says; so is one whose length is asked for.
    assert Audio(rate=44100, spectrogram="audio").read(replace(whole, start=0.5)).shape == (1, 64, 107)
    assert Audio(rate=44100, spectrogram="audio", seconds=47040 / 44100).read(whole).shape == (1, 64, 107)
    longer = Audio(rate=44100, spectrogram="audio", seconds=1.5)
    assert longer.shape == (1, 64, 151)
    assert longer.read(whole).shape == (1, 64, 151)
    assert Signal(rate=512, columns=("a",), spectrogram="emg", seconds=2).shape == (1, 67, 85)
    with pytest.raises(DataError, match="a spectrogram of window 16 needs 16"):
        Signal(rate=512, columns=("a",), spectrogram="emg", seconds=0.01)


def test_speech_stays_sound_of_any_length(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="extra audio is not installed")
    soundfile.write(tmp_path / "a.wav", np.zeros((22050, 2), np.float32), 44100)
    speech = Audio(rate=0, resample_to=16000, spectrogram="speech")
    assert speech.shape is None
    assert speech.read(Segment(tmp_path / "a.wav")).shape == (8000, 1)
    assert speech.schema()["spectrogram"] == "speech"
    assert Audio(rate=16000, spectrogram="speech", seconds=1).shape == (16000, 1)
    with pytest.raises(ConfigError, match=r"spectrogram 'speech' reads 16000 Hz, but rows have 44100 Hz"):
        Audio(rate=44100, spectrogram="speech")


def write_csv(path, rows=100, rate=50):
    lines = [f"{t / rate * 1e6:.0f}\t{t}\t{-t}" for t in range(rows)]
    path.write_text("\n".join(["time\ta\tb", *lines]))
    return path


def test_signals_are_cut_and_checked(tmp_path):
    part = Segment(write_csv(tmp_path / "a.csv"))
    settings = {"columns": ("b", "a"), "unit": "uV", "time": "time", "time_unit": "us", "separator": "\t"}
    whole = Signal(rate=50, **settings).read(part)
    assert torch.equal(whole, torch.stack([-torch.arange(100.0), torch.arange(100.0)], 1))
    second = Signal(rate=50, seconds=1, **settings)
    assert torch.equal(second.read(part), whole[25:75])
    assert torch.equal(second.read(replace(part, start=0.2)), whole[10:60])
    assert torch.equal(second.read(replace(part, start=0.2, end=1.2)), whole[10:60])
    with pytest.raises(DataError, match=r"a\.csv: only 0\.4 s remain from 1\.6 s on; expected 1 s"):
        second.probe(replace(part, start=1.6))
    with pytest.raises(DataError, match="it has no samples from 3 s on"):
        second.probe(replace(part, start=3))
    with pytest.raises(DataError, match="sampled at 50 Hz by its timestamps, but 100 Hz is declared"):
        Signal(rate=100, **settings).probe(part)
    assert Signal(rate=512, columns=("a",), spectrogram="emg").shape == (1, 67, 127)


def test_arrays_and_token_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert Array().read(Segment(tmp_path / "a.npy")).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"has shape \(3,\); expected \(4,\)"):
        Array(array_shape=(4,)).probe(Segment(tmp_path / "a.npy"))
    assert Text(longest=2).read(Segment(tmp_path / "a.npy")).tolist() == [[0], [1]]
    np.save(tmp_path / "b.npy", np.array([0.5]))
    with pytest.raises(DataError, match="does not hold token numbers"):
        Text().probe(Segment(tmp_path / "b.npy"))
    (tmp_path / "c.txt").write_text("hello")
    with pytest.raises(ConfigError, match="name the local folder of its tokenizer"):
        Text().probe(Segment(tmp_path / "c.txt"))


# images that are wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_a_truncated_image_is_seen_without_decoding(tmp_path, suffix, share):
    path = recordings.image(tmp_path / f"a{suffix}", size=(80, 80))
    kind = Image(size=(8, 8))
    assert kind.probe(Segment(path)) == (80, 80)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    why = "truncated" if share else "it is empty"
    with pytest.raises(DataError, match=rf"cannot read .*a\{suffix}: {why}"):
        kind.probe(Segment(path))


def test_depth_is_checked_for_its_unit_and_kind(tmp_path):
    path = recordings.depth(tmp_path / "d.png", metres=2)
    kind = Depth(size=(8, 8))
    assert kind.probe(Segment(path)) == (24, 30)
    assert kind.read(Segment(path)).mean() == pytest.approx(2.1, abs=0.05)
    with pytest.raises(DataError, match=r"d\.png: the median depth is 21\.\d* m if 1 stands for 0\.01 m"):
        replace(kind, step=0.01).probe(Segment(path))
    with pytest.raises(DataError, match="An 8-bit file is a picture of depth"):
        kind.probe(Segment(recordings.image(tmp_path / "rgb.png")))
    for crop in (Image(size=(8, 8)).read, Image(size=(8, 8)).probe):
        with pytest.raises(DataError, match="16 bits: is it a depth"):
            crop(Segment(path))
    Pillow.fromarray((2 * np.random.default_rng(0).random((24, 30))).astype(np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: the median depth is 0.001 m"):  # metres cut to whole ones
        kind.probe(Segment(tmp_path / "m.png"))
    Pillow.fromarray(np.zeros((24, 30), np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="every depth is 0: nothing was measured, or it holds meters"):
        kind.probe(Segment(tmp_path / "m.png"))


def test_what_is_no_label_map_is_seen_without_decoding(tmp_path):
    kind = Labels(size=(8, 8), classes=("a", "b"))
    with pytest.raises(DataError, match=r"rgb\.png has colours \(mode RGB\); a label map has one class value"):
        kind.probe(Segment(recordings.image(tmp_path / "rgb.png")))
    Pillow.fromarray(np.ones((9, 10), np.uint8)).convert("P").save(tmp_path / "palette.png")
    assert kind.probe(Segment(tmp_path / "palette.png")) == (9, 10)


@pytest.mark.parametrize("kind", [k for k in EXAMPLES if not isinstance(k, Text | Rows)], ids=lambda k: k.kind)
def test_a_missing_file_is_named(kind: RecordingType, tmp_path):
    if isinstance(kind, Video):
        pytest.importorskip("av", reason="extra video is not installed")
    if isinstance(kind, Audio):
        pytest.importorskip("soundfile", reason="extra audio is not installed")
    if isinstance(kind, Raster):
        pytest.importorskip("rasterio", reason="extra raster is not installed")
    with pytest.raises(DataError, match=r"gone\.npy.* does not exist"):
        kind.probe(Segment(tmp_path / "gone.npy"))


# prepared folders ----------------------------------------------------------------------------------------------------

ROWS = [{"id": i, "target": "ab"[i % 2], "who": i // 2, "x_file_name": f"x/{i}.npy"} for i in range(4)]
KIND = {"x": Array(array_shape=(3,))}
FACTS = DatasetInfo("set", group="who", available=("x",), classes=("a", "b"))


def test_what_is_written_is_read(tmp_path):
    def files(folder):
        (folder / "x").mkdir()
        np.save(folder / "x" / "0.npy", np.ones(3))

    out = write_prepared(tmp_path / "deep" / "out", ROWS, KIND, FACTS, files=files)
    found = read_prepared(out)
    assert found.modalities == KIND
    assert found.facts == FACTS
    assert found.table.to_dict("records")[3] == {"id": "3", "target": "b", "who": "1", "x_file_name": "x/3.npy"}
    assert (out / "x" / "0.npy").is_file()
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_table_that_was_cut_at_the_end_of_a_line_is_named(tmp_path):
    out = write_prepared(tmp_path / "out", ROWS, KIND, FACTS)
    lines = (out / "metadata.csv").read_text().splitlines(keepends=True)
    (out / "metadata.csv").write_text("".join(lines[:-1]))
    with pytest.raises(
        DataError, match=r'metadata.csv has 3 rows, but modalities.json beside it has the number 4.* set "rows" in'
    ):
        read_prepared(out)
    told = json.loads((out / "modalities.json").read_text())
    for meant in ({"rows": 3}, {}):  # a folder made by hand need not say
        (out / "modalities.json").write_text(json.dumps({k: v for k, v in told.items() if k != "rows"} | meant))
        assert len(read_prepared(out).table) == 3


def test_nothing_is_left_of_a_folder_that_failed(tmp_path):
    def files(folder):
        (folder / "half").write_text("")
        raise DataError("broken source")

    with pytest.raises(DataError, match="broken source"):
        write_prepared(tmp_path / "out", ROWS, KIND, FACTS, files=files)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_only_when_asked_and_only_if_it_is_one(tmp_path):
    out = write_prepared(tmp_path / "out", ROWS, KIND, FACTS)
    with pytest.raises(DataError, match="is prepared already"):
        write_prepared(out, ROWS, KIND, FACTS)
    write_prepared(out, ROWS[:3], KIND, FACTS, overwrite=True)
    assert len(read_prepared(out).table) == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="is not a prepared folder"):
        write_prepared(tmp_path / "other", ROWS, KIND, FACTS, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out"]


@pytest.mark.parametrize(
    ("rows", "kinds", "facts", "message"),
    [
        ([], KIND, {}, "has no rows"),
        ([*ROWS, ROWS[1]], KIND, {}, r"id '1' occurs several times \(rows \[1, 4\]\)"),
        (ROWS, {"y": KIND["x"]}, {"available": ()}, "unknown column 'y_file_name'. Did you mean 'x_file_name'"),
        (ROWS, {"x.y": KIND["x"]}, {"available": ()}, "holds a dot"),
        (ROWS, KIND, {"group": "whose"}, "unknown column 'whose'"),
        (ROWS, KIND, {"available": ("z",)}, "unknown modality 'z'"),
        (ROWS, KIND, {"task": "clasification"}, "Did you mean 'classification'"),
        (ROWS, {"x": Labels(size=(2, 2))}, {"available": ()}, "is of kind 'labels', so it has to be the target"),
        (ROWS, {}, {}, "no modalities"),
    ],
)
def test_folders_that_cannot_be(tmp_path, rows, kinds, facts, message):
    with pytest.raises((DataError, ConfigError), match=message):
        write_prepared(tmp_path / "out", rows, kinds, replace(FACTS, **facts))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"licens": "x"}, "unknown entry 'licens'. Did you mean 'licence'"),
        ({"modalities": {"x": {"kind": "aray"}}}, "modality 'x'.*Did you mean 'array'"),
        ({"modalities": 3}, "cannot read .*modalities.json"),
    ],
)
def test_a_damaged_description_is_named(tmp_path, change, message):
    out = write_prepared(tmp_path / "out", ROWS, KIND, FACTS)
    path = out / "modalities.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((DataError, ConfigError), match=message):
        read_prepared(out)
