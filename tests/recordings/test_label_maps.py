"""A class per pixel in files: label maps have the crop and flip of their images, and the centre view where scored."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from safetensors.torch import load_file

import sidelight as sl
from helpers import recordings
from helpers.resumed import Killed, Killer, same, trained
from helpers.slow import mostly_slow
from sidelight.config import AugmentConfig, TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.data.preprocess import Preprocessor
from sidelight.data.sources.prepared import DatasetInfo, write_prepared
from sidelight.data.target_values import compute_row_values
from sidelight.errors import ConfigError, DataError
from sidelight.experiment.fold import FoldData
from sidelight.experiment.provenance import compute_fingerprint
from sidelight.methods import Supervised
from sidelight.methods.teacher_outputs import OnlineOutputs
from sidelight.networks.build import build_network
from sidelight.recordings.label_maps import ClassCodes, LabelMaps
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.registry import Depth, Image, Labels
from sidelight.tasks import make_task
from sidelight.video.crop import CENTER_CROP, CropBox, CropParams, CropSampler

N, SIZE, FRAME = 8, (20, 24), (48, 72)
CUT = {"augment.crop": 0.3, "augment.flip": True}
SMALL = {"network": {"width": 8}, "training": {"epochs": 1, "batch_size": 4}, "transport": {"k": 2}}


def scene(i: int) -> np.ndarray:
    """Blocks of values 0 to 3, no two rows alike; 0 is void. A frame is wider than a view."""
    blocks = np.random.default_rng(i).integers(0, 4, (FRAME[0] // 6, FRAME[1] // 6))
    return blocks.repeat(6, 0).repeat(6, 1).astype(np.uint8)


def prepared(folder: Path, classes: tuple[str, ...] = ("void", "wall", "floor", "thing")) -> Path:
    """RGB and depth that say their own label: 60 · value, and 1000 + 100 · value millimetres. Row 3 has no label."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i in range(N):
        values = scene(i)
        Pillow.fromarray((60 * values)[..., None].repeat(3, 2)).save(folder / f"{i}.png")
        Pillow.fromarray((1000 + 100 * values.astype(np.uint16)).astype(np.uint16)).save(folder / f"{i}d.png")
        Pillow.fromarray(values).save(folder / f"{i}l.png")
        names = {"rgb": f"{i}.png", "depth": f"{i}d.png", "parts": f"{i}l.png"}
        cells = {f"{m}_file_name": str(folder / f) for m, f in names.items()}
        rows.append({"id": f"r{i}", "who": i // 2, **cells} | ({"parts_file_name": ""} if i == 3 else {}))
    kinds = {"rgb": Image(size=SIZE), "depth": Depth(size=SIZE)} | {
        "parts": Labels(size=SIZE, classes=classes, ignore=0)
    }
    facts = DatasetInfo("rooms", target=("parts",), group="who", available=("rgb",), privileged=("depth",))
    return write_prepared(folder / "out", rows, kinds, facts, overwrite=True)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> sl.Dataset:
    return sl.load(prepared(tmp_path_factory.mktemp("rooms")))


def follows(batch: Batch) -> bool:
    """Whether every pixel of depth, and of RGB where it is no mixture of blocks, says the label that it has."""
    known = batch.labelled[:, None, None] & (batch.target >= 0)
    depth = ((batch.inputs["depth"][:, 0] - 1) * 10).round().long() - 1
    if not torch.equal(batch.target[known], depth[known]):
        return False
    around = torch.nn.functional.pad(batch.target.float()[:, None], (2, 2, 2, 2), value=-1).unfold(2, 5, 1)
    around = around.unfold(3, 5, 1)[:, 0].flatten(3)
    inside = known & (around == around[..., :1]).all(-1)
    rgb = (batch.inputs["rgb"][:, 0] / 60).float() - 1
    return bool(inside.any()) and torch.equal(batch.target[inside].float(), rgb[inside])


def unscaled(data: sl.Dataset) -> Batch:
    """All rows with pixels as the files have them."""
    return replace(data.batch(), pixels={})


# training ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 1000), st.floats(0.15, 0.99), st.sampled_from([0, 1, 3]))
def test_label_maps_have_the_crop_and_flip_of_their_images(rooms, seed, step, share, threads):
    crops = CropSampler(seed, share, flip=True)
    (batch,) = materialized_batches(unscaled(rooms), [torch.arange(N)], crops, step, threads)
    assert batch.target.dtype == torch.int64
    assert batch.maps is None
    assert follows(batch)
    for i in (0, 5):  # and it is the look that was drawn for the row, not any other
        at = crops.draw(step, i)
        values = torch.from_numpy(scene(i).astype(np.int64) - 1)
        rows, columns = CropBox.from_params(at, *FRAME, SIZE).nearest_pixels(*FRAME, SIZE)
        cut = values[torch.from_numpy(rows)[:, None], torch.from_numpy(columns)]
        assert torch.equal(batch.target[i], cut.flip(-1) if at.flip else cut)


def test_where_no_image_is_read_label_maps_are_the_centre_view(rooms):
    """As nothing says how they were cut."""
    rows = unscaled(rooms)
    (still,) = materialized_batches(rows.select_modalities(()), [torch.arange(N)], CropSampler(3, 0.3, flip=True), 4)
    assert torch.equal(still.target, rows.materialize().target)


@pytest.mark.parametrize("drawn_anew", ["top", "left", "share", "flip"])
def test_that_check_bites(rooms, monkeypatch, drawn_anew):
    """A loader that draws one part of the view anew for each modality."""
    generator = torch.Generator().manual_seed(0)
    real = LazyRows.read

    def another(crop: CropParams) -> CropParams:
        value = float(torch.rand((), generator=generator))
        return replace(crop, **{drawn_anew: value < 0.5 if drawn_anew == "flip" else 0.3 + 0.7 * value})

    monkeypatch.setattr(LazyRows, "read", lambda self, crops=None, threads=1: real(self, [*map(another, crops)]))
    (batch,) = materialized_batches(unscaled(rooms), [torch.arange(N)], CropSampler(1, 0.3, flip=True), 0, threads=0)
    assert not follows(batch)


def test_a_placebo_shows_the_permuted_rows_in_the_view_of_their_images(rooms):
    """Label and RGB agree; the depth is another row's, in this row's view."""
    config = load_config({"data": "x", "available": ["rgb"], "privileged": ["depth"], "folds": 2})
    rows = replace(FoldData(config, rooms, 0, 0).rows("train", control="placebo"), pixels={})
    donors = [int(Path(name).name[0]) for name in rows.files["depth"].files]
    assert donors != [int(Path(name).name[0]) for name in rows.files["rgb"].files]
    crops = CropSampler(4, 0.3, flip=True)
    (batch,) = materialized_batches(rows, [torch.arange(len(rows))], crops, 7)
    assert not follows(batch)
    views = [crops.draw(7, i) for i in range(len(rows))]
    shown = rooms.inputs["depth"][donors].read(views)
    assert torch.equal(batch.inputs["depth"], shown)
    own = rooms.inputs["depth"][[int(Path(name).name[0]) for name in rows.files["rgb"].files]].read(views)
    assert follows(replace(batch, inputs=batch.inputs | {"depth": own}))


def train(data, augment=AugmentConfig(crop=0.3, flip=True), checkpoint=None, callback=None, threads=None):  # noqa: B008
    torch.manual_seed(0)
    config = load_config({"data": "x", "network.width": 8}).network
    reads = ["rgb", "depth"]
    network = build_network({m: data.shape(m) for m in reads}, reads, len(data.class_names), config, size=data.size)
    settings = TrainingConfig(epochs=2, patience=2, batch_size=3, learning_rate=0.01, least_steps=1)
    whole = data.batch(Preprocessor.fit(data, np.arange(N), reads))
    method = Supervised(network, make_task("segmentation", data.class_names))
    return trained(
        method, whole, (6, 2), settings, checkpoint=checkpoint, augment=augment, threads=threads, callback=callback
    )


def test_training_does_not_depend_on_threads_and_is_resumed_to_the_bit(rooms, tmp_path):
    whole = train(rooms)
    assert same(whole, train(rooms, threads=0))
    assert same(whole, train(rooms, threads=3))
    assert not same(whole, train(rooms, augment=None))
    with pytest.raises(Killed):
        train(rooms, checkpoint=tmp_path / "state.pt", callback=Killer(1))
    assert same(whole, train(rooms, checkpoint=tmp_path / "state.pt"))


@pytest.mark.parametrize("method", mostly_slow(["kl", "pkdot", "osmd"], ["kl"]))
def test_a_teacher_of_maps_sees_the_view_of_its_student(rooms, tmp_path, method):
    settings = {"methods": [method], "folds": 2, "quiet": True, "jobs": 1, "seeds": 1, "placebo": ["none"]}
    asked: list[Batch] = []
    with pytest.MonkeyPatch.context() as patch:
        forward = OnlineOutputs.forward
        patch.setattr(OnlineOutputs, "forward", lambda self, batch: asked.append(batch) or forward(self, batch))
        run = sl.compare(rooms, output=str(tmp_path / "run"), **settings, **SMALL, **CUT)
    assert method in run.table().index
    assert asked
    assert all("depth" in batch.inputs and not batch.files for batch in asked)
    shown = load_file(next((tmp_path / "run").rglob("examples.safetensors")))  # scored in the centre view
    assert torch.equal(shown["target"], rooms.target[shown["row"]].read())


def test_views_that_arrays_cannot_follow_are_refused(rooms, tmp_path):
    cut = {"methods": ["kl"], "folds": 2, "output": str(tmp_path / "run")}
    arrays = replace(rooms, inputs=rooms.inputs | {"depth": rooms.inputs["depth"].read().numpy()})
    for setting in ({"augment.flip": True}, {"augment.crop": 0.5}):
        with pytest.raises(ConfigError, match="augmentation needs image files; 'depth' is an array"):
            sl.compare(arrays, **cut, **setting)
        with pytest.raises(ConfigError, match="the target is an array"):
            sl.compare(replace(rooms, target=rooms.target.read().numpy()), **cut, **setting)


# views of their own --------------------------------------------------------------------------------------------------


def faces(folder: Path, view: str, **more: Labels) -> Path:
    """A cut face beside an image and a depth image of the room, and what `more` names."""
    rows = []
    prepared(folder)
    for i in range(N):
        recordings.image(folder / f"{i}f.png", i, size=(20, 16))
        names = {"rgb": f"{i}.png", "depth": f"{i}d.png", "face": f"{i}f.png", "parts": f"{i}l.png"}
        rows.append({"id": i, "y": i % 2, **{f"{m}_file_name": str(folder / f) for m, f in names.items()}})
    kinds = {"rgb": Image(size=SIZE), "depth": Depth(size=SIZE), "face": Image(size=(16, 16), view=view), **more}
    facts = DatasetInfo("faces", target=(next(iter(more), "y"),), available=("face",), privileged=("depth", "rgb"))
    return write_prepared(folder / "out", rows, kinds, facts, overwrite=True)


def test_a_face_beside_a_depth_of_the_room_has_its_own_view(tmp_path):
    """It may be of another size and is mirrored as the row is; image and depth of the room still lie on each other."""
    data = sl.load(faces(tmp_path, "face"))
    crops = CropSampler(3, 0.4, flip=True)
    (batch,) = materialized_batches(replace(data.batch(), pixels={}), [torch.arange(N)], crops, 2)
    turned = [crops.draw(2, i).flip for i in range(N)]
    assert 0 < sum(turned) < N
    for i in range(N):
        crop = crops.draw(2, i)
        one = data.inputs["face"][[i]].read([replace(crop, flip=False)])[0]
        assert torch.equal(batch.inputs["face"][i], one.flip(-1) if crop.flip else one)
    depth = ((batch.inputs["depth"] - 1) * 10).round().long()[:, 0]
    assert follows(replace(batch, target=depth - 1))
    assert "view" not in data.schema["face"]


def test_modalities_that_declare_no_view_of_their_own_are_compared(tmp_path):
    match = (
        r"'face', row 0: 'rgb' and 'depth' and 'face' show different views: .*0f\.png is 20 x 16\. If one .*view: face"
    )
    with pytest.raises(DataError, match=match):
        sl.load(faces(tmp_path, ""))


def test_all_images_lie_on_the_label_maps(tmp_path):
    out = faces(tmp_path, "face", parts=Labels(size=SIZE, ignore=0))
    with pytest.raises(
        ConfigError, match=r"'face' shows another view \(face\) than the label maps 'parts'.*leave 'face'"
    ):
        sl.load(out)
    assert sl.load(out, modalities=["rgb", "depth"]).task == "segmentation"


# evaluation ----------------------------------------------------------------------------------------------------------


def test_what_is_scored_is_the_centre_view(rooms):
    centre = unscaled(rooms).materialize()
    assert follows(centre)
    for i in (0, 6):
        values = torch.from_numpy(scene(i))
        rows, columns = CropBox.from_params(CENTER_CROP, *FRAME, SIZE).nearest_pixels(*FRAME, SIZE)
        assert torch.equal(centre.target[i], values[rows[:, None], columns].long() - 1)
    held = replace(rooms, target=rooms.target.read().numpy())
    task = make_task("segmentation", rooms.class_names)
    said = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (N, *SIZE)).astype(np.uint8))
    scores = [task.score(said, d.batch().truth, d.batch().labelled) for d in (rooms, held)]
    assert scores[0] == scores[1] > 0


def test_what_is_known_of_maps_in_files_is_what_arrays_say(rooms):
    held = replace(rooms, target=rooms.target.read().numpy())
    assert rooms.class_names == ("wall", "floor", "thing")
    assert rooms.labelled.tolist() == [i != 3 for i in range(N)]
    np.testing.assert_array_equal(compute_row_values(rooms.target), compute_row_values(held.target))
    np.testing.assert_array_equal(rooms.class_counts(), held.class_counts())
    assert rooms.classes(np.array([1, 3])) == held.classes(np.array([1, 3])) == {0, 1, 2}
    assert sl.inspect(rooms).classes == sl.inspect(held).classes
    assert sl.inspect(rooms).strengths == sl.inspect(replace(held, inputs=rooms.inputs)).strengths


def test_nothing_of_a_hidden_label_can_be_read(rooms):
    keep = np.arange(N) < 2
    hidden = rooms.target.keep_labels(keep)
    assert (hidden.read()[2:] == -1).all()
    assert not hidden.counts[2:].any()
    assert set(hidden.files[2:]) == {""}
    config = load_config({"data": "x", "available": ["rgb"], "privileged": ["depth"], "folds": 2, "select": 0.3})
    few = FoldData(config, rooms, 0, 0).rows("train", 0.5)
    assert 0 < few.labelled.sum() < len(few)
    assert (few.materialize().target[~few.labelled] == -1).all()


# loading -------------------------------------------------------------------------------------------------------------


def test_loading_keeps_no_map_and_numpy_cannot_take_one_unawares(rooms, tmp_path, monkeypatch):
    decoded = []
    real = ClassCodes.read
    monkeypatch.setattr(
        ClassCodes, "read", lambda self, part, crop=CENTER_CROP: decoded.append(part) or real(self, part, crop)
    )
    data = sl.load(prepared(tmp_path))
    assert isinstance(data.target, LabelMaps)
    assert data.target.shape == (N, *SIZE)
    FoldData(load_config({"data": "x", "available": ["rgb"], "privileged": ["depth"], "folds": 2}), data, 0, 0)
    assert not decoded
    with pytest.raises(TypeError, match="'parts' are files"):
        np.unique(data.target)
    assert pickle.loads(pickle.dumps(data)).target.read().equal(rooms.target.read())
    before = compute_fingerprint(data)
    Pillow.fromarray(255 - scene(0)).save(tmp_path / "0l.png")
    with pytest.raises(DataError, match=r"'parts', row 0 \(id 'r0'\): .*0l\.png has a pixel of value 25[2-5]"):
        data.target[[0]].read()
    assert compute_fingerprint(data) != before


def test_class_values_are_checked_in_all_of_a_map(tmp_path):
    """Also where no view of the centre shows them."""
    prepared(tmp_path)
    values = scene(5)
    values[7, 0] = 4
    Pillow.fromarray(values).save(tmp_path / "5l.png")
    match = r"'parts', row 5 \(id 'r5'\): .*5l\.png: pixel \(7, 0\) is 4; expected class values from 0 to 3, or 0 \(ig"
    with pytest.raises(DataError, match=match):
        sl.load(tmp_path / "out")
    data = sl.load(tmp_path / "out", on_error="skip")
    assert len(data) == N - 1
    assert data.skipped[0]["id"] == "r5"


def test_without_names_classes_are_the_values_that_occur(tmp_path):
    assert sl.load(prepared(tmp_path, classes=())).class_names == ("1", "2", "3")
