"""Rows that stay files: nothing is decoded that is not needed, and training on them is what it would be in memory."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sidelight as sl
from helpers import recordings
from helpers.resumed import Killed, Killer, same, trained
from sidelight.config import AugmentConfig, TrainingConfig, load_config
from sidelight.data.prefetch import materialized_batches
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, DataError, SidelightWarning
from sidelight.experiment.fold import FoldData
from sidelight.experiment.provenance import compute_fingerprint, describe_environment
from sidelight.export import load_student, predict_file
from sidelight.methods import Supervised
from sidelight.networks.build import build_network
from sidelight.recordings.base import RecordingType
from sidelight.recordings.lazy import LazyRows
from sidelight.recordings.pictures import Depth, Image
from sidelight.report import write_report
from sidelight.tasks import make_task
from sidelight.video.augment import STATISTICS
from sidelight.video.crop import CENTER_CROP, CropSampler

SETTINGS = TrainingConfig(epochs=3, patience=3, batch_size=8, learning_rate=0.01, least_steps=1)
AUGMENT = AugmentConfig(crop=0.5, flip=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return recordings.prepared(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return recordings.prepared(tmp_path_factory.mktemp("clips"), n=24, clips=True)


@pytest.fixture
def read(monkeypatch) -> list[Path]:
    """Every file that is decoded from now on."""
    seen: list[Path] = []
    for kind in (Image, Depth):
        real = kind.read

        def counted(self: RecordingType, part, crop=CENTER_CROP, real=real):
            seen.append(part.path)
            return real(self, part, crop)

        monkeypatch.setattr(kind, "read", counted)
    return seen


# rows ----------------------------------------------------------------------------------------------------------------


def test_loading_looks_at_files_and_decodes_none_that_stay(folder, read):
    data = sl.load(folder)
    assert not read
    assert data.lazy == ("rgb", "depth")
    assert data.default_modalities == {"available": ["rgb"], "privileged": ["depth", "feat"]}
    assert data.about["licence"] == "none"
    assert data.standard == {"rgb": "imagenet", "depth": "train"}
    assert data.present["depth"].tolist() == [i % 7 != 6 for i in range(48)]
    assert (data.shape("rgb"), data.shape("depth"), data.shape("feat")) == ((3, 16, 16), (1, 16, 16), (5,))
    view = data.inputs["rgb"][np.array([3, 1, 3])][[True, False, True]]
    assert not read
    assert [name.name for name in map(Path, view.files)] == ["3.png", "3.png"]
    assert view.read().shape == (2, 3, 16, 16)
    assert len(read) == 2


def test_the_table_of_a_prepared_folder_names_it_too(folder):
    assert sl.load(folder / "metadata.csv").lazy == ("rgb", "depth")
    assert sl.load(folder, modalities=["feat"]).modalities == ("feat",)
    with pytest.raises(DataError, match=r"unknown modality 'depht'\. Did you mean 'depth'"):
        sl.load(folder, modalities=["depht"])


def test_rows_that_lack_a_modality_are_zeros(folder):
    rows = sl.load(folder).inputs["depth"][5:8].read()
    assert [bool(row.any()) for row in rows] == [True, False, True]


def test_reading_with_threads_is_reading_without(folder):
    rows = sl.load(folder).inputs["rgb"]
    assert torch.equal(rows.read(), rows.read(threads=None))


# standardisation -----------------------------------------------------------------------------------------------------


def test_colours_are_standardised_by_the_declared_statistics(folder, read):
    data = sl.load(folder)
    made = Preprocessor.fit(data, np.arange(20), ["rgb"])
    assert not read
    batch = data.batch(made).index_select(torch.tensor([4]))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in STATISTICS["imagenet"])
    raw = data.inputs["rgb"][[4]].read()[0].float() / 255
    torch.testing.assert_close(batch.materialize().inputs["rgb"][0], (raw - mean) / std)


def test_depth_is_standardised_by_train_rows_and_no_other(folder, read):
    data = sl.load(folder)
    train = np.arange(0, 48, 2)
    made = Preprocessor.fit(data, train, ["depth"])
    names = {str(data.inputs["depth"].segment(i).path) for i in train}
    assert {str(path) for path in read} <= names
    there = data.inputs["depth"][train[data.present["depth"][train]]].read().double()
    torch.testing.assert_close(made.state_dict()["mean_0"][0, 0].double(), there.mean())
    torch.testing.assert_close(made.state_dict()["scale_0"][0, 0].double(), 1 / there.std(correction=0))


def test_what_a_preprocessor_knows_of_files_is_stored(folder):
    data = sl.load(folder)
    made = Preprocessor.fit(data, np.arange(48), data.modalities, standardize="group")
    again = Preprocessor.from_config(made.to_config())
    again.load_state_dict(made.state_dict())
    x = data.inputs["rgb"][:4].read()
    group = data.group[:4]
    a, b = (p({"rgb": x}, group=group)["rgb"] for p in (made, again))
    assert torch.equal(a, b)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in STATISTICS["imagenet"])
    torch.testing.assert_close(a, (x / 255 - mean) / std)  # all groups alike


# batches -------------------------------------------------------------------------------------------------------------


def batch_of(data, rows=None):
    rows = np.arange(len(data)) if rows is None else rows
    return data.batch(Preprocessor.fit(data, rows, data.modalities)).index_select(torch.as_tensor(rows))


@pytest.mark.parametrize("crops", [None, CropSampler(1, 0.5, True, True)])
def test_batches_decoded_ahead_are_the_same_to_the_bit_and_in_order(clips, crops):
    batch = batch_of(sl.load(clips))
    parts = list(torch.randperm(24, generator=torch.Generator().manual_seed(0)).split(5))
    plain = list(materialized_batches(batch, parts, crops, 7, threads=0))
    ahead = list(materialized_batches(batch, parts, crops, 7, threads=3))
    assert [b.index.tolist() for b in ahead] == [p.tolist() for p in parts]
    for a, b in zip(plain, ahead):
        assert not a.files
        assert not b.files
        for m in ("rgb", "depth", "feat"):
            assert torch.equal(a.inputs[m], b.inputs[m])


def test_views_differ_between_steps_and_rows_and_agree_between_modalities(clips):
    batch = batch_of(sl.load(clips))
    crops = CropSampler(1, 0.5, True, True)
    rows = torch.tensor([0, 0, 2])
    first, again, plan_best_controls = (next(materialized_batches(batch, [rows], crops, step)) for step in (3, 3, 4))
    assert torch.equal(first.inputs["rgb"], again.inputs["rgb"])
    assert not torch.equal(first.inputs["rgb"], plan_best_controls.inputs["rgb"])
    assert torch.equal(first.inputs["rgb"][0], first.inputs["rgb"][1])
    centre = next(materialized_batches(batch, [rows]))
    assert not torch.equal(first.inputs["rgb"], centre.inputs["rgb"])


def test_no_views_are_drawn_of_rows_in_memory(clips, monkeypatch):
    batch = batch_of(sl.load(clips))
    monkeypatch.setattr(CropSampler, "draw", lambda *_: pytest.fail("a view was drawn"))
    next(
        materialized_batches(
            batch.select_modalities(["feat"]), [torch.arange(4)], CropSampler(1, 0.5, True, True), threads=0
        )
    )
    with pytest.raises(pytest.fail.Exception):
        next(materialized_batches(batch, [torch.arange(4)], CropSampler(1, 0.5, True, True), threads=0))


def test_an_error_in_a_thread_is_named_and_ends_it(folder, tmp_path):
    data = sl.load(recordings.prepared(tmp_path))
    batch = batch_of(data, np.arange(10))
    path = data.inputs["rgb"].segment(5).path
    path.write_bytes(path.read_bytes()[:200])
    batches = materialized_batches(batch, list(torch.arange(10).split(2)))
    assert [next(batches).index.tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match=r"'rgb', row 5 \(id 'r5'\): cannot read .*5\.png: truncated"):
        next(batches)


def test_what_a_network_does_not_read_is_not_decoded(folder, read):
    from sidelight.networks.network import compute_outputs

    data = sl.load(folder)
    batch = batch_of(data)
    read.clear()
    network = small_network(data, ["rgb"])
    compute_outputs(network, batch, torch.arange(6))
    assert len(read) == 6
    assert all(not path.name.endswith("d.png") for path in read)


def test_a_placebo_permutes_files(folder):
    data = sl.load(folder)
    config = load_config({"data": str(folder), "available": ["rgb"], "privileged": ["depth", "feat"], "folds": 2})
    cell = FoldData(config, data, 0, 0)
    plain, placebo = cell.rows("train"), cell.rows("train", control="placebo")
    assert placebo.files["rgb"].files.tolist() == plain.files["rgb"].files.tolist()
    moved = placebo.files["depth"].files
    assert moved.tolist() != plain.files["depth"].files.tolist()
    assert sorted(moved) == sorted(plain.files["depth"].files)
    ready = placebo.materialize()
    assert torch.equal(ready.present["depth"], torch.from_numpy(moved != ""))
    number = {Path(file).name.removesuffix("d.png"): i for i, file in enumerate(plain.files["depth"].files)}
    order = [number[Path(file).name.removesuffix("d.png")] for file in moved if file]
    assert torch.equal(ready.inputs["feat"][moved != ""], plain.inputs["feat"][order])  # one permutation for both


# training ------------------------------------------------------------------------------------------------------------


class Pooled(torch.nn.Module):
    """A network small enough for a test: the mean of each channel over a grid."""

    def __init__(self, channels: int):
        super().__init__()
        self.layer = torch.nn.Linear(channels * 4, 8)

    def forward(self, x):
        x = x.mean(2) if x.dim() == 5 else x
        return self.layer(torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


def small_network(data, reads):
    torch.manual_seed(0)
    config = load_config({"data": "x", "network.width": 8, "network.dropout": 0.1}).network
    shapes = {m: data.shape(m) for m in reads}
    encoders = {m: Pooled(shape[0]) for m, shape in shapes.items() if len(shape) >= 3}
    return build_network(shapes, reads, len(data.class_names), config, encoders=encoders)


def train(folder, checkpoint=None, callback=None, augment=AUGMENT, threads=None, settings=SETTINGS):
    data = sl.load(folder)
    task = make_task("classification", data.class_names)
    method = Supervised(small_network(data, ["rgb", "depth", "feat"]), task)
    return trained(
        method, batch_of(data), (len(data) - 8, 8), settings,
        checkpoint=checkpoint, augment=augment, threads=threads, callback=callback,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(clips):
    """What an uninterrupted training leaves."""
    return train(clips)


def test_training_does_not_depend_on_threads(clips, whole):
    assert same(whole, train(clips, threads=0))
    assert same(whole, train(clips, threads=1))
    assert not same(whole, train(clips, augment=None))


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_with_random_views_is_resumed_to_the_bit(clips, whole, tmp_path, epoch):
    checkpoint = tmp_path / "state.pt"
    with pytest.raises(Killed):
        train(clips, checkpoint, Killer(epoch))
    assert checkpoint.is_file()
    assert same(whole, train(clips, checkpoint, Killer(99)))


def test_that_check_bites(clips, whole, tmp_path, monkeypatch):
    """Views drawn from a running generator, as most loaders draw them, are others after a resume."""
    generator = torch.Generator().manual_seed(0)
    real = CropSampler.draw
    monkeypatch.setattr(
        CropSampler, "draw", lambda self, *_: real(self, int(torch.randint(1000, (), generator=generator)), 0)
    )
    uninterrupted = train(clips)
    assert not same(whole, uninterrupted)
    generator.manual_seed(0)
    with pytest.raises(Killed):
        train(clips, tmp_path / "state.pt", Killer(1))
    generator.manual_seed(0)
    assert not same(uninterrupted, train(clips, tmp_path / "state.pt", Killer(99)))


# experiments ---------------------------------------------------------------------------------------------------------


def encode(shape: tuple[int, ...]) -> torch.nn.Module:
    return Pooled(shape[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A study on recordings of which some cannot be read."""
    folder = tmp_path_factory.mktemp("study")
    data = sl.load(broken(folder), on_error="skip")
    settings = {"training.epochs": 1, "training.batch_size": 16, "network.width": 8, "output": str(folder / "run")}
    encoders = {"rgb": encode, "depth": encode}
    more = {"methods": ["kl"], "placebo": ["none"], "folds": 2, "seeds": 1, "jobs": 1}
    study = sl.compare(data, encoders=encoders, quiet=True, **more, **settings)
    assert len(study.results) == 2 * (3 + 2)  # majority and linear read files too
    return folder / "run"


def test_a_run_lists_what_it_skipped(run, no_figures):
    assert pd.read_csv(run / "skipped.csv")["id"].tolist() == list(REASONS)
    report = write_report(run).read_text()
    assert "43; 6 lack depth; 5 more were skipped, whose recordings cannot be read: r3 (rgb), r5 (depth), r8" in report


def test_a_student_reads_new_files(run, folder, tmp_path):
    student = load_student(run / "student", encoders={"rgb": Pooled(3)})
    new = recordings.prepared(tmp_path, n=16)
    table = pd.read_csv(new / "metadata.csv")
    table[["id", "rgb_file_name"]].to_csv(new / "metadata.csv", index=False)  # no target, group, privileged modality
    said = predict_file(student, new)
    assert said["id"].tolist() == [f"r{i}" for i in range(16)]
    rgb = sl.load(folder).inputs["rgb"][:16].read().numpy()  # the same images
    assert said["prediction"].tolist() == student.predict({"rgb": rgb}).tolist()
    np.testing.assert_allclose(said["p.a"], student.predict_proba({"rgb": rgb})[:, 0], atol=1e-6)


def test_new_files_that_cannot_be_read_are_an_error_or_left_out(run, tmp_path):
    student = load_student(run / "student", encoders={"rgb": Pooled(3)})
    new = recordings.prepared(tmp_path, n=4)
    (tmp_path / "raw" / "2.png").unlink()
    with pytest.raises(
        DataError, match=r"'rgb', row 2 \(id 'r2'\): .*2\.png does not exist. Leave such rows out: --on"
    ):
        predict_file(student, new, ignore_privileged=True)
    with pytest.warns(SidelightWarning, match=r"'r2' gets no prediction: 'rgb': .*2\.png does not exist"):
        said = predict_file(student, new, ignore_privileged=True, on_error="skip")
    assert said["id"].tolist() == ["r0", "r1", "r3"]


def test_new_recordings_have_to_be_cut_as_those_of_training(run, tmp_path):
    student = load_student(run / "student", encoders={"rgb": Pooled(3)})
    assert student.meta["recordings"] == {"rgb": {"size": [16, 16], "channels": 3}}
    student.meta["recordings"]["rgb"]["stride"] = 2
    new = recordings.prepared(tmp_path, n=4)
    predict_file(student, new, ignore_privileged=True)  # images have no stride
    student.meta["recordings"]["rgb"]["size"] = [32, 32]
    with pytest.raises(DataError, match=r"'rgb' has size \[16, 16\], but the student was trained on \[32, 32\]"):
        predict_file(student, new, ignore_privileged=True)


def test_files_that_change_are_noticed(folder, tmp_path):
    data = sl.load(recordings.prepared(tmp_path, n=16))
    before = compute_fingerprint(data)
    assert compute_fingerprint(pickle.loads(pickle.dumps(data))) == before
    path = data.inputs["rgb"].segment(3).path
    recordings.image(path, seed=99, size=(30, 30))
    assert compute_fingerprint(data) != before


def test_inspect_looks_at_a_sample(folder, monkeypatch):
    data = sl.load(folder)
    found = sl.inspect(data)
    rgb, depth, feat = found.modalities
    assert (rgb.missing, depth.missing, feat.missing) == (0, 6, 0)
    assert 0 <= rgb.minimum < rgb.maximum <= 255
    assert 0.9 < depth.maximum < 1.5
    assert len(found.strengths) == 4
    monkeypatch.setattr(sys.modules["sidelight.inspection.inspection"], "SAMPLE_ROWS", 30)
    few = sl.inspect(data)
    assert "rgb, depth: values and strengths are those of 30 rows drawn at random" in few.remarks
    assert (few.rows, few.modalities[1].missing) == (48, 6)


# bad input -----------------------------------------------------------------------------------------------------------


def broken(folder: Path) -> Path:
    """A prepared folder with five rows that cannot be read."""
    out = recordings.prepared(folder)
    raw = folder / "raw"
    (raw / "3.png").write_bytes((raw / "3.png").read_bytes()[:100])
    (raw / "5d.png").unlink()
    recordings.depth(raw / "8d.png", metres=40)
    recordings.depth(raw / "10d.png", size=(24, 40))
    (raw / "12.npy").write_bytes((raw / "12.npy").read_bytes()[:-8])
    return out


REASONS = {
    "r3": ("rgb", "truncated"),
    "r5": ("depth", "does not exist"),
    "r8": ("depth", "the median depth is 40"),
    "r10": ("depth", r"'rgb' and 'depth' show different views"),
    "r12": ("feat", "truncated or not such a file"),
}


def test_bad_recordings_are_named_with_their_row(tmp_path):
    with pytest.raises(DataError, match=r"'rgb', row 3 \(id 'r3'\): cannot read .*3\.png: truncated.*--on-error skip"):
        sl.load(broken(tmp_path))


def test_bad_recordings_are_skipped_and_listed(tmp_path):
    data = sl.load(broken(tmp_path), on_error="skip")
    assert len(data) == 43
    assert not set(REASONS) & set(data.ids)
    found = {told["id"]: told for told in data.skipped}
    assert set(found) == set(REASONS)
    for row, (modality, reason) in REASONS.items():
        assert found[row]["modality"] == modality
        assert reason in found[row]["reason"]
    assert describe_environment(data, {})["data"]["skipped"] == 5
    assert data.inputs["feat"].shape == (43, 5)


def test_where_nothing_can_be_read(tmp_path):
    out = recordings.prepared(tmp_path, n=4)
    for i in range(4):
        (tmp_path / "raw" / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"no row can be read; 'rgb': .*does not exist"):
        sl.load(out, on_error="skip")
    with pytest.raises(ConfigError, match="Did you mean 'skip'"):
        sl.load(out, on_error="skpi")


@pytest.mark.parametrize(
    ("cell", "match"), [(cell, f"'{cell}'; expected seconds") for cell in ("soon", "-1", "inf", "1:30")]
)
def test_starts_that_are_no_seconds(folder, tmp_path, cell, match):
    out = recordings.prepared(tmp_path, n=4)
    table = pd.read_csv(out / "metadata.csv", dtype=str, keep_default_na=False)
    table["rgb_start"] = ["", cell, "", ""]
    table.to_csv(out / "metadata.csv", index=False)
    with pytest.raises(DataError, match=rf"row 1 \(id 'r1'\), column 'rgb_start': {match}"):
        sl.load(out)


def test_lazy_rows_are_copied_without_their_files(folder):
    rows = sl.load(folder).inputs["rgb"]
    assert isinstance(rows, LazyRows)
    assert copy.deepcopy(rows[:3]).read().equal(rows[:3].read())
