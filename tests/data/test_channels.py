"""Channels of one file as modalities, and files that a plain manifest names: what is read, and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import sidelight as sl
from helpers.small import study
from sidelight.config import load_config
from sidelight.data.load import load_for
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.errors import ConfigError, DataError, SidelightError
from sidelight.export import predict_file
from sidelight.readers.synthetic import write_video
from sidelight.recordings import Depth, Image, Signal
from sidelight.recordings.registry import Labels, Segment

N = 6


def pixels(i: int, channels: int = 4, size: tuple[int, int] = (8, 10)) -> np.ndarray:
    """(H, W, C) uint8: channel c is 40 · c + i; alpha, the last of four, is 0 in half of the pixels."""
    x = np.stack([np.full(size, 40 * c + i, np.uint8) for c in range(channels)], 2)
    x[:4, :, -1] = 0
    return x


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Images of four channels, tables of two signals, labels and people."""
    t = np.arange(16) / 4
    for i in range(N):
        Pillow.fromarray(pixels(i)).save(tmp_path / f"{i}.png")
        table = {"time": t, "eda": i + t, "temp": 30 + i + np.zeros(16)}
        pd.DataFrame(table).to_csv(tmp_path / f"{i}.csv", index=False)
    rows = []
    for i in range(N):
        files = {"image_file_name": f"{i}.png", "bio_file_name": f"{i}.csv"}
        rows.append({"id": f"r{i}", "label": "ab"[i % 2], "group": i, **files})
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def test_channels_of_images_as_they_are(manifest: Path) -> None:
    data = sl.load(manifest, modalities={"nir": "image[3]", "red": "image[0]", "two": "image[0:2]"})
    assert list(data.inputs) == ["nir", "red", "two"]
    assert [data.inputs[m].shape for m in data.inputs] == [(N, 1, 8, 10), (N, 1, 8, 10), (N, 2, 8, 10)]
    assert data.inputs["red"][:, 0, 0, 0].tolist() == list(range(N))
    assert data.inputs["nir"][:, 0, -1, 0].tolist() == [120 + i for i in range(N)]
    assert data.inputs["nir"][:, 0, 0, 0].tolist() == [0] * N
    assert data.recipes["nir"] == {"of": "image", "pick": [3]}


def test_numbers_of_columns_are_refused_where_counting_misleads() -> None:
    frame = pd.DataFrame(
        {"bio.eda": [1.0, 2], "bio.bvp": [3.0, 4], "v.1": [5.0, 6], "v.2": [7.0, 8], "label": ["a", "b"]}
    )
    with pytest.raises(
        ConfigError, match=r"sorted by their names \(bio.bvp, bio.eda\), and the table has them in another"
    ):
        sl.load(frame, modalities={"eda": "bio[0]"})
    with pytest.raises(
        ConfigError, match=r"is called 'v.1'; counted from 0 it would be 'v.2'. Name the whole column: v\["
    ):
        sl.load(frame, modalities={"first": "v[1]"})
    with pytest.raises(DataError, match=r"'v': column 'v.1' is named 2 times"):
        sl.load(frame, modalities={"v": ["v.1", "v.2", "v.1"]})
    with pytest.raises(DataError, match="'v': name at least one column"):
        sl.load(frame, modalities={"v": []})
    mixed = frame.astype({"v.1": object})
    mixed.loc[1, "v.1"] = True
    with pytest.raises(DataError, match=r"row 1, column 'v.1': True among numbers; expected a number"):
        sl.load(mixed, modalities=["v"])
    recipes = {"first": "v[v.1]", "eda": "bio[eda]", "both": ["bio.eda", "bio.bvp"], "bvp": "both[1]"}
    named = sl.load(frame, modalities=recipes)
    assert {m: x[0].tolist() for m, x in named.inputs.items()} == {"first": [5], "eda": [1], "both": [1, 3], "bvp": [3]}


def test_files_that_change_and_rows_without_one(manifest: Path) -> None:
    rows = pd.read_csv(manifest, dtype=str)
    rows.loc[0, "bio_file_name"] = "n/a"
    rows.to_csv(manifest, index=False)
    assert sl.load(manifest).present["bio"].tolist() == [False, True, True, True, True, True]
    path = manifest.parent / "1.csv"
    path.write_text(path.read_text().replace("31.0", "77.0"))
    assert sl.load(manifest, modalities={"temp": "bio[temp]"}).inputs["temp"][1, 0, 0] == 77


def test_channels_of_images_that_are_scaled_do_not_mix(manifest: Path) -> None:
    """Pillow weighs colours by alpha when it scales; here the fourth channel is a sensor like the others."""
    image = {"size": [4, 5]}
    data = sl.load(
        manifest, modalities={"image": image, "red": "image[0]", "nir": {"of": "image", "pick": [3], **image}}
    )
    red, nir = data.inputs["red"].read(), data.inputs["nir"].read()
    assert red.shape == nir.shape == (N, 1, 4, 5)
    assert (red[2] == 2).all()
    assert (nir[2, 0, 0] == 0).all()
    assert (nir[2, 0, 3] == 122).all()


def test_channels_of_arrays_signals_and_columns() -> None:
    rng = np.random.default_rng(0)
    arrays = {"image": rng.normal(size=(N, 4, 8, 8)), "acc": rng.normal(size=(N, 5, 3)), "y": np.arange(N) % 2}
    data = sl.load(arrays, modalities={"nir": "image[3]", "vertical": {"of": "acc", "pick": [2]}, "acc": None})
    np.testing.assert_array_equal(data.inputs["nir"][:, 0], arrays["image"][:, 3].astype(np.float32))
    np.testing.assert_array_equal(data.inputs["vertical"][..., 0], arrays["acc"][..., 2].astype(np.float32))
    assert list(data.inputs) == ["nir", "vertical", "acc"]
    frame = pd.DataFrame({"face.au1": rng.normal(size=N), "face.au2": rng.normal(size=N), "y": arrays["y"]})
    named = sl.load(frame, modalities={"smile": "face[au2]", "brow": "face[0]"})
    assert named.columns == {"smile": ("face.au2",), "brow": ("face.au1",)}


def test_columns_of_one_signal_file(manifest: Path) -> None:
    data = sl.load(manifest, modalities={"eda": "bio[eda]", "temp": "bio[temp]"})
    assert [x.shape for x in data.inputs.values()] == [(N, 16, 1)] * 2
    assert data.inputs["temp"][:, 0, 0].tolist() == [30 + i for i in range(N)]
    assert data.rates == {"eda": 4, "temp": 4}
    slow = sl.load(
        manifest, modalities={"eda": {"of": "bio", "columns": ["eda"], "rate": 4, "unit": "uS", "seconds": 2}}
    )
    assert slow.inputs["eda"].shape == (N, 8, 1)
    assert slow.units == {"eda": "uS"}
    whole = sl.load(manifest)  # the kinds follow from the files
    assert {m: x.shape for m, x in whole.inputs.items()} == {"image": (N, 4, 8, 10), "bio": (N, 16, 2)}


@pytest.mark.parametrize(
    ("modalities", "error", "says"),
    [
        ({"nir": "image[4]"}, DataError, r"'nir' = image\[4\]: 'image' has 4 channels, and channel 4 is asked for"),
        ({"nir": {"of": "image", "pick": [7], "size": [4, 5]}}, DataError, "0.png has 4 channels .*channel 7 is asked"),
        ({"nir": "image[3,3]"}, ConfigError, "channel 3 of 'image' is named 2 times"),
        ({"red": "image[0]", "nir": "image[0]"}, ConfigError, r"'red' and 'nir' both are image\[0\]"),
        ({"nir": "image[-1]"}, ConfigError, "channel -1 of 'image'; channels count from 0"),
        ({"eda": "bio[edda]"}, ConfigError, r"'eda' = bio\[edda\]: unknown channel 'edda'. Did you mean 'eda'"),
        ({"eda": "bio[2]"}, ConfigError, "channel 2 is asked for, and 2 columns are read"),
        ({"eda": "image[red]"}, ConfigError, "the channels of 'image' have no names; give their numbers"),
        ({"bio": {"columns": ["eda", "eda"]}}, ConfigError, "column 'eda' is named 2 times"),
        ({"nir": "image[2:2]"}, ConfigError, "2:2 is no range of channels"),
        ({"nir": "image[0:99999999999]"}, ConfigError, "is no range of channels; expected first:end"),
        ({"bio": {"seconds": 1e12}}, ConfigError, "a row has .* values with these settings; expected at most"),
        ({"image": {"size": "88"}}, ConfigError, "size: expected a list, not '88'"),
        ({"nir": "imge[0]"}, DataError, "'imge'. Did you mean 'image'"),
        ({"image": {"size": [4, 5], "pik": [0]}}, ConfigError, "'pik'. Did you mean 'pick'"),
        ({"image": {"kind": "vidio"}}, ConfigError, "unknown kind 'vidio'. Did you mean 'video'"),
        ({"eda": {"of": "boi"}}, DataError, "'boi_file_name'. Did you mean 'bio_file_name'"),
    ],
)
def test_what_is_wrong_is_named(
    manifest: Path, modalities: dict[str, Any], error: type[SidelightError], says: str
) -> None:
    with pytest.raises(error, match=says):
        sl.load(manifest, modalities=modalities)


def test_a_prepared_folder_whose_modalities_share_files(manifest: Path) -> None:
    rows = pd.read_csv(manifest)
    for column in ("image_file_name", "bio_file_name"):
        rows[column] = [str(manifest.parent / file) for file in rows[column]]
    signal = Signal(columns=("eda",), time="time", rate=4, of="bio")
    kinds = {"image": Image(size=(4, 5)), "nir": Image(size=(4, 5), pick=(3,), of="image"), "eda": signal}
    info = DatasetInfo("mine", target=("label",), group="group", available=("image",), privileged=("nir",))
    out = write_prepared(manifest.parent / "out", rows, kinds, info)
    data = sl.load(out)
    assert {m: x.shape[1:] for m, x in data.inputs.items()} == {"image": (3, 4, 5), "nir": (1, 4, 5), "eda": (16, 1)}
    more = sl.load(
        out, modalities={"green": "image[1]", "eda": {"unit": "uS"}, "small": {"of": "image", "size": [2, 2]}}
    )
    assert (more.inputs["green"].read()[1] == 41).all()
    assert more.units == {"eda": "uS"}
    assert more.inputs["small"].shape == (N, 3, 2, 2)
    with pytest.raises(ConfigError, match="'eda' is of kind 'signal', not 'audio'"):
        sl.load(out, modalities={"eda": {"kind": "audio"}})
    with pytest.raises(ConfigError, match=r"modality 'image' .*pick: channel 0 is named 2 times"):
        sl.load(out, modalities={"image": {"pick": [0, 0]}})


def test_settings_of_an_experiment_read_the_other_modalities_too(manifest: Path) -> None:
    names = {"available": ["red"], "privileged": ["bio"], "data": str(manifest)}
    data = load_for(
        load_config(names, ["modalities.red=image[0]", "modalities.nir.of=image", "modalities.nir.pick=[3]"])
    )
    assert {m: x.shape[1:] for m, x in data.inputs.items()} == {"bio": (16, 2), "red": (1, 8, 10), "nir": (1, 8, 10)}


def test_sounds_and_videos_say_their_kind(tmp_path: Path) -> None:
    """The sound of a video, and each channel of a stereo file, are modalities."""
    pytest.importorskip("av")
    soundfile = pytest.importorskip("soundfile")
    t = np.arange(8000) / 8000
    for i in range(2):
        frames = np.full((10, 32, 32, 3), 100 * i, np.uint8)
        write_video(tmp_path / f"{i}.mp4", frames, 10, 0.5 * np.sin(2 * np.pi * 440 * t), 8000)
        soundfile.write(tmp_path / f"{i}.wav", np.stack([0.5 + 0 * t, -0.25 + 0 * t], 1), 8000)
        for k in range(3):
            (tmp_path / f"look{i}").mkdir(exist_ok=True)
            Pillow.fromarray(pixels(k, 3)).save(tmp_path / f"look{i}/img_{k:03d}.png")
    rows = []
    for i in range(2):
        names = {"clip": f"{i}.mp4", "call": f"{i}.wav", "look": f"look{i}"}
        rows.append({"label": "ab"[i]} | {f"{m}_file_name": name for m, name in names.items()})
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    clip = {"frames": 4, "size": [8, 8]}
    voice = {"of": "clip", "kind": "audio", "seconds": 0.5}
    recipes = {"clip": clip, "voice": voice, "anna": "call[0]", "ben": "call[1]", "both": {"of": "call"}}
    assert sl.load(tmp_path / "rows.csv").inputs["look"].kind.pattern == "img_{:03d}.png"
    data = sl.load(tmp_path / "rows.csv", modalities=recipes)
    shapes = {m: x.shape[1:] for m, x in data.inputs.items()}
    assert shapes == {"clip": (3, 4, 8, 8), "voice": (4000, 1), **dict.fromkeys(("anna", "ben", "both"), (8000, 1))}
    assert np.abs(data.inputs["voice"]).max() > 0.3
    means = [round(float(data.inputs[m].mean()), 3) for m in ("anna", "ben", "both")]
    assert means == [0.5, -0.25, 0.125]
    with pytest.raises(DataError, match=r"0.wav has 2 channels, and channel 2 is asked for"):
        sl.load(tmp_path / "rows.csv", modalities={"third": "call[2]"})
    with pytest.raises(ConfigError, match=r"'red' = clip\[0\]: a modality of kind 'video' has no channels to choose"):
        sl.load(tmp_path / "rows.csv", modalities={"red": "clip[0]"})


@pytest.mark.slow
def test_a_student_finds_its_channels_in_the_files_alone(manifest: Path) -> None:
    recipes = {"red": "image[0]", "eda": "bio[eda]", "nir": "image[3]"}
    data = sl.load(manifest, modalities=recipes)
    settings = {"available": ["red", "eda"], "privileged": ["nir"], "methods": ["kl"], "protocol": "group-kfold"}
    made = study(manifest.parent / "run", data, network={"encoder": "mlp", "width": 8}, **settings)
    student = made.best().student
    table = pd.read_csv(manifest)[["id", "image_file_name", "bio_file_name"]]
    table.to_csv(manifest.parent / "new.csv", index=False)
    found = predict_file(student, manifest.parent / "new.csv")
    direct = student.predict({m: data.inputs[m] for m in ("red", "eda")})
    assert found.prediction.tolist() == direct.tolist()


class TestDepth:
    @pytest.fixture
    def scenes(self, tmp_path: Path) -> Path:
        """RGB and 16-bit depth whose holes are 65535."""
        rng = np.random.default_rng(0)
        for i in range(N):
            Pillow.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(tmp_path / f"{i}.png")
            depth = np.full((8, 10), 1000 + 100 * i, np.uint16)
            depth[0] = 65535
            Pillow.fromarray(depth).save(tmp_path / f"{i}d.png")
        rows = [{"label": "ab"[i % 2], "rgb_file_name": f"{i}.png", "depth_file_name": f"{i}d.png"} for i in range(N)]
        pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
        return tmp_path / "rows.csv"

    def test_step_and_holes_from_every_door(self, scenes: Path) -> None:
        settings = {"no_value": [65535], "step": 0.0005}
        data = sl.load(scenes, modalities={"rgb": {"size": [4, 5]}, "depth": settings})
        depth = data.inputs["depth"].read()
        assert data.schema["depth"]["size"] == [8, 10]
        assert (depth[3, 0, 0] == 0).all()
        assert np.allclose(depth[3, 0, 1:], 0.65)
        rows = pd.read_csv(scenes).assign(id=range(N))
        for m in ("rgb", "depth"):
            rows[f"{m}_file_name"] = [str(scenes.parent / file) for file in rows[f"{m}_file_name"]]
        kinds = {"rgb": Image(size=(8, 10)), "depth": Depth(size=(8, 10))}
        out = write_prepared(scenes.parent / "out", rows, kinds, DatasetInfo("mine", target=("label",)))
        with pytest.raises(DataError, match=r"0d.png: 10 of 80 pixels are 65535.*Say so: no_value: \[65535\]"):
            sl.load(out)
        changed = sl.load(out, modalities={"depth": settings})
        np.testing.assert_array_equal(changed.inputs["depth"].read(), depth)

    def test_what_is_wrong_is_named(self, scenes: Path) -> None:
        folder = scenes.parent
        with pytest.raises(DataError, match=r"'depth', row 0: .*0d.png: 10 of 80 pixels are 65535"):
            sl.load(scenes, modalities={"depth": {"kind": "depth"}})
        with pytest.raises(ConfigError, match=r"step is 0.0; expected metres"):
            sl.load(scenes, modalities={"depth": {"kind": "depth", "step": 0}})
        rotated = np.full((8, 10), 1000 << 3, np.uint16)
        rotated[0] = 8  # as the file has it; 1 once it is rotated
        Pillow.fromarray(rotated).save(scenes.parent / "rotated.png")
        stored = Depth(size=(8, 10), rotated=3, no_value=(8,)).read(Segment(scenes.parent / "rotated.png"))
        assert (stored[0, 0].tolist(), stored[0, 1].tolist()) == ([0] * 10, [1] * 10)
        with pytest.raises(ConfigError, match=r"no_value is \[70000\]; expected stored values, 0 to 65535"):
            sl.load(scenes, modalities={"depth": {"no_value": [70000]}})
        Pillow.fromarray(np.tile(np.linspace(100, 255, 10), (8, 1)).astype(np.uint16)).save(folder / "2d.png")
        depth = {"depth": {"no_value": [65535]}}
        with pytest.raises(DataError, match=r"row 2: .*2d.png: no value is above 255: was it a picture of 8 bits"):
            sl.load(scenes, modalities=depth)
        left = sl.load(scenes, modalities=depth, on_error="skip")
        assert (len(left), [row["id"] for row in left.skipped]) == (N - 1, ["2"])
        assert left.ids.tolist() == ["0", "1", "3", "4", "5"]
        assert left.inputs["depth"].read()[2, 0, 1, 0] == pytest.approx(1.3)
        coarse = sl.load(scenes, modalities={"depth": {"no_value": [65535], "coarse": True}})
        assert len(coarse) == N


class TestColours:
    TABLE = "name,r,g,b\nroad,128,64,128\nsky,70,130,180\n,0,0,0\nroad,200,64,128\n"

    @pytest.fixture
    def scenes(self, tmp_path: Path) -> Path:
        (tmp_path / "colours.csv").write_text(self.TABLE)
        for i in range(N):
            mask = np.zeros((8, 10, 3), np.uint8)
            mask[2:5], mask[5:], mask[5, :3] = (128, 64, 128), (70, 130, 180), (200, 64, 128)
            Pillow.fromarray(mask).save(tmp_path / f"{i}m.png")
            Pillow.fromarray(np.full((8, 10, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        rows = [{"group": i, "rgb_file_name": f"{i}.png", "mask_file_name": f"{i}m.png"} for i in range(N)]
        pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
        return tmp_path / "rows.csv"

    def test_a_table_turns_colours_into_classes(self, scenes: Path) -> None:
        data = sl.load(scenes, modalities={"rgb": None, "mask": {"colours": "colours.csv"}})
        assert (data.task, data.class_names, list(data.inputs)) == ("segmentation", ("road", "sky"), ["rgb"])
        first = data.target[:1].read()[0].numpy()
        assert first[0].tolist() == [-1] * 10
        assert first[2].tolist() == [0] * 10
        assert first[5].tolist() == [0] * 3 + [1] * 7
        written = {"road": [[128, 64, 128], [200, 64, 128]], "sky": [70, 130, 180], "": [0, 0, 0]}
        same = sl.load(scenes, modalities={"rgb": {"size": [8, 10]}, "mask": {"colours": written}})
        np.testing.assert_array_equal(same.target[:1].read()[0], first)

    def test_images_and_maps_come_to_one_size(self, scenes: Path) -> None:
        data = sl.load(scenes, modalities={"rgb": {"size": [4, 5]}, "mask": {"colours": "colours.csv"}})
        assert data.target.shape == (N, 4, 5)
        assert data.inputs["rgb"].shape == (N, 3, 4, 5)
        for i in range(N):
            Pillow.fromarray(np.full((8, 10), i % 3, np.uint8)).save(scenes.parent / f"{i}m.png")
        plain = sl.load(scenes, modalities={"rgb": {"size": [4, 5]}}, ignore_index=2)
        assert plain.target.shape == (N, 4, 5)
        assert plain.class_names == ("0", "1")

    def test_what_is_wrong_is_named(self, scenes: Path) -> None:
        def load(**settings: Any) -> None:
            sl.load(scenes, modalities={"rgb": None, "mask": settings})

        table = scenes.parent / "colours.csv"
        Pillow.fromarray(np.full((8, 10, 3), (128, 64, 120), np.uint8)).save(scenes.parent / "1m.png")
        with pytest.raises(
            DataError,
            match=r"1m.png: pixel \(0, 0\) is \[128, 64, 120\].*\(80 such pixels\); .*\[128, 64, 128\] 'road'",
        ):
            load(colours="colours.csv")
        with pytest.raises(ConfigError, match=r"\[128, 64, 128\] is the colour of 'road' and of 'sky'"):
            load(colours={"road": [128, 64, 128], "sky": [128, 64, 128]})
        with pytest.raises(ConfigError, match="class 'road' has the colour 'grey'; expected"):
            load(colours={"road": "grey"})
        table.write_text("class,r,g,b\nroad,128,64,300\n")
        with pytest.raises(DataError, match=r"colours.csv: line 2 has the colour 128, 64, 300; expected numbers"):
            load(colours="colours.csv")
        table.write_text("class,r,g\nroad,128,64\n")
        with pytest.raises(DataError, match="no column 'b' or 'blue' in this table of colours"):
            load(colours="colours.csv")
        with pytest.raises(ConfigError, match="the colour of 'sea' is of no class: road"):
            Labels(size=(8, 10), classes=("road",), colours={"sea": [0, 0, 1]})
