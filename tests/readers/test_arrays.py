"""MMSA's files and MultiBench's loaders: what is written of them, what is refused, and that no pickle is opened."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from sidelight.cli import main
from sidelight.data import load
from sidelight.errors import ConfigError, DataError
from sidelight.readers import make_reader
from sidelight.readers.base import check, prepare, synthesize
from sidelight.readers.multibench import prepare_multibench


@pytest.fixture
def pickled(tmp_path):
    return next(synthesize(make_reader("mmsa"), tmp_path / "source").iterdir())


def as_npz(tree, path):
    arrays = {f"{p}.{k}": np.asarray(x) for p, part in tree.items() for k, x in part.items() if k != "raw_text"}
    np.savez(path, **{k: x.astype(str) if x.dtype == object else x for k, x in arrays.items()})
    return path


def test_a_pickle_and_its_npz_become_the_same_rows(pickled, tmp_path, capsys):
    assert main(["prepare", "mmsa", str(pickled), str(tmp_path / "a"), "unsafe_pickle=yes"]) == 0, capsys.readouterr()
    tree = pickle.loads(pickled.read_bytes())
    safe = as_npz(tree, tmp_path / "same.npz")
    assert check(make_reader("mmsa"), safe) == []
    a, b = load(tmp_path / "a"), load(prepare(make_reader("mmsa"), safe, tmp_path / "b")[0])
    assert (a.task, a.class_names, a.default_modalities) == (
        "regression", ("sentiment",), {"available": ["audio", "vision"], "privileged": ["text"]},
    )  # fmt: skip
    assert {s: int((a.split == s).sum()) for s in ("train", "select", "test")} == {"train": 16, "select": 6, "test": 6}
    assert list(a.group[:3]) == ["train0", "train0", "train1"]
    for m in ("text", "audio", "vision"):
        np.testing.assert_array_equal(a.inputs[m], b.inputs[m])
    np.testing.assert_array_equal(a.lengths["audio"][:16], tree["train"]["audio_lengths"])
    steps = a.lengths["audio"][3]
    np.testing.assert_array_equal(a.inputs["audio"][3, :steps], tree["train"]["audio"][3, :steps])
    np.testing.assert_array_equal(a.target[:16, 0], tree["train"]["regression_labels"])


class Call:
    """A pickle that would run code."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_no_pickle_is_opened_without_the_word_and_none_runs_code(pickled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled.write_bytes(pickle.dumps({"train": Call()}))
    with pytest.raises(DataError, match=r"is a pickle, which can run code .*unsafe_pickle=yes"):
        prepare(make_reader("mmsa"), pickled, tmp_path / "out")
    with pytest.raises(DataError, match=r"cannot read .*mkdir, which is not an array"):
        prepare(make_reader("mmsa", {"unsafe_pickle": "yes"}), pickled, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(DataError):
        load(pickled)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t["train"]["text"].__setitem__((2, 1, 0), np.nan), r"train, row 2 \(train1\$_\$0\): text: value"),
        (lambda t: t["test"]["regression_labels"].__setitem__(1, np.nan), r"test, row 1 .*the target is \[nan\]"),
        (lambda t: t["test"]["audio_lengths"].__setitem__(1, 99), r"test, row 1 .*audio: its length is 99; .*1 to 8"),
        (lambda t: t["test"].update(id=t["train"]["id"][:6]), r"id 'train0\$_\$0' occurs twice"),
        (lambda t: t["test"].update(vision=t["test"]["vision"][:5]), r"test: vision has 5 rows, but the target has 6"),
        (lambda t: t["valid"].pop("vision"), r"valid: unknown array 'vision'"),
        (lambda t: t.pop("valid"), r"unknown part 'valid'"),
    ],
)
def test_faults_name_part_and_row(pickled, tmp_path, change, expected):
    tree = pickle.loads(pickled.read_bytes())
    change(tree)
    with pytest.raises(DataError, match=expected):
        prepare(make_reader("mmsa"), as_npz(tree, tmp_path / "x.npz"), tmp_path / "out")


def test_minus_infinity_is_zero_as_in_mmsa(pickled, tmp_path):
    tree = pickle.loads(pickled.read_bytes())
    tree["train"]["audio"][0, 0] = -np.inf
    data = load(prepare(make_reader("mmsa"), as_npz(tree, tmp_path / "x.npz"), tmp_path / "out")[0])
    assert (data.inputs["audio"][0, 0] == 0).all()


def test_multibench_loaders_become_a_prepared_folder(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def loader(n):
        x = [torch.randn(n, 6, generator=generator), torch.randn(n, 4, 3, generator=generator)]
        return torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(*x, torch.arange(n) % 2), batch_size=4, shuffle=False
        )

    loaders = [loader(n) for n in (10, 5, 6)]
    out = prepare_multibench(loaders, tmp_path / "out", ["image", "signal"], available=["image"], privileged=["signal"])
    data = load(out)
    assert (len(data), data.task, data.shape("image"), data.shape("signal")) == (21, "classification", (6,), (4, 3))
    np.testing.assert_array_equal(data.inputs["signal"][10:15], loaders[1].dataset.tensors[1].numpy())
    assert list(data.split[[0, 10, 15]]) == ["train", "select", "test"]
    with pytest.raises(DataError, match="train, batch 0 has 2 modalities; 1 are named"):
        prepare_multibench(loaders, tmp_path / "b", ["image"])


def test_saved_loaders_of_multibench_become_the_same_rows(tmp_path, capsys):
    source = synthesize(make_reader("multibench"), tmp_path / "mosi")
    options = ["modalities=face, voice", "available=voice", "privileged=face"]
    assert main(["prepare", "multibench", str(source), str(tmp_path / "a"), *options]) == 0, capsys.readouterr()
    a = load(tmp_path / "a")
    loaders = [torch.load(source / f"{p}.pt", weights_only=True) for p in ("train", "valid", "test")]
    b = load(prepare_multibench(loaders, tmp_path / "b", ["face", "voice"]))
    assert (a.name, a.task, a.default_modalities) == (
        "mosi",
        "classification",
        {"available": ["voice"], "privileged": ["face"]},
    )
    np.testing.assert_array_equal(a.inputs["voice"], b.inputs["voice"])
    np.testing.assert_array_equal(a.target, b.target)
    plain = load(prepare(make_reader("multibench"), source, tmp_path / "c")[0])
    assert plain.default_modalities == {"available": ["x1"], "privileged": ["x2"]}
    with pytest.raises(ConfigError, match="'text' is none of the modalities x1, x2"):
        prepare(make_reader("multibench", {"available": "text"}), source, tmp_path / "d")


def test_bad_files_of_multibench_are_named_and_nothing_in_them_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = synthesize(make_reader("multibench"), tmp_path / "mosi")
    torch.save([Call()], source / "valid.pt")
    with pytest.raises(DataError, match=r"cannot read .*valid\.pt.*torch\.save\(list\(loader\), 'valid\.pt'\)"):
        prepare(make_reader("multibench"), source, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    torch.save({"x": torch.ones(3)}, source / "valid.pt")
    with pytest.raises(DataError, match=r"valid\.pt holds no batches"):
        prepare(make_reader("multibench"), source, tmp_path / "out")
    (source / "valid.pt").unlink()
    assert check(make_reader("multibench"), source) == [f"{source / 'valid.pt'}: there is no such file"]


def test_packed_batches_of_multibench_keep_their_lengths(tmp_path):
    batch = ([torch.ones(3, 5, 2), torch.ones(3, 4, 1)], [torch.tensor([5, 2, 1]), torch.tensor([4, 4, 3])],
             torch.arange(3), torch.tensor([[0.5], [-1.0], [2.25]]))  # fmt: skip
    data = load(prepare_multibench([[batch]] * 3, tmp_path / "out", ["a", "b"], task="regression"))
    assert list(data.lengths["a"][:3]) == [5, 2, 1]
    assert data.target[:3, 0].tolist() == [0.5, -1.0, 2.25]
