"""Every door for a file or a setting: what cannot be read is one sentence with the mend, and nothing waits for ever."""

from __future__ import annotations

import os
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sidelight as sl
from sidelight.cli import main
from sidelight.config import load_config
from sidelight.errors import ConfigError, DataError, RunError, SidelightError
from sidelight.networks.backbones.weights import read_tensors
from sidelight.signals import read_csv
from sidelight.utils.array_files import load_array, load_arrays
from sidelight.utils.files import check_file, describe_content, parse_json, read_json
from sidelight.utils.images import read_image
from sidelight.utils.yaml12 import parse_yaml
from sidelight.video.faces import read_faces

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"


def as_config(path: Path) -> object:
    return load_config(path)


DOORS = {
    "rows.csv": sl.load,
    "rows.tsv": sl.load,
    "rows.parquet": sl.load,
    "rows.npz": sl.load,
    "a.npy": load_arrays,
    "a.npz": load_arrays,
    "a.safetensors": load_arrays,
    "a.png": read_image,
    "weights.safetensors": read_tensors,
    "weights.pt": read_tensors,
    "student.safetensors": sl.load_student,
    "experiment.yaml": as_config,
    "facts.json": read_json,
    "signal.csv": lambda path: read_csv(path, ["x"], unit="1", rate=1.0),
    "faces.csv": read_faces,
}
"""File -> what reads it."""
doors = pytest.mark.parametrize(("name", "read"), DOORS.items(), ids=DOORS)


def says(read, path: Path, *words: str) -> str:
    with pytest.raises(SidelightError) as error:
        read(path)
    message = str(error.value)
    for word in (path.name, *words):
        assert word in message
    assert "\n" not in message
    assert len(message) < 400
    return message


@doors
def test_a_pipe_is_refused_before_it_is_opened(tmp_path, name, read):
    os.mkfifo(tmp_path / name)
    says(read, tmp_path / name, "named pipe")


@doors
def test_a_device_is_refused(tmp_path, name, read):
    (tmp_path / name).symlink_to("/dev/zero")
    says(read, tmp_path / name, "a device")


@doors
def test_a_link_to_nothing_and_a_link_to_itself(tmp_path, name, read):
    (tmp_path / name).symlink_to("gone")
    says(read, tmp_path / name, "a link to gone, which does not exist")
    (tmp_path / f"b{name}").symlink_to(f"b{name}")
    says(read, tmp_path / f"b{name}", "cannot be read")


@doors
def test_a_folder_in_place_of_a_file(tmp_path, name, read):
    (tmp_path / name).mkdir()
    says(
        read, tmp_path / name, "folder" if read is sl.load else "holds no student" if "student" in name else "a folder"
    )


@doors
def test_nothing_there(tmp_path, name, read):
    says(read, tmp_path / name, "does not exist")


@doors
def test_what_cannot_be_a_path(tmp_path, name, read):
    with pytest.raises(SidelightError, match="NUL"):
        read(Path(f"{tmp_path}/a\0{name}"))
    with pytest.raises(SidelightError, match="name too long"):
        read(tmp_path / ("x" * 300 + name))


@doors
def test_backslashes_are_explained(tmp_path, name, read):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(b"x")
    with pytest.raises(SidelightError, match=r"backslashes do not separate folders .*; .*/sub/.* does"):
        read(Path(f"{tmp_path}/sub\\{name}"))


@doors
def test_a_pointer_is_named_with_the_command_that_fetches_the_file(tmp_path, name, read):
    (tmp_path / name).write_bytes(LFS)
    says(read, tmp_path / name, "a Git LFS pointer", "git lfs pull")


@doors
def test_a_web_page_is_named(tmp_path, name, read):
    (tmp_path / name).write_bytes(HTML)
    says(read, tmp_path / name, "web page")


def test_media_say_the_same(tmp_path):
    pytest.importorskip("soundfile")
    pytest.importorskip("av")
    from sidelight.signals.audio import read_audio
    from sidelight.video.container import probe

    for name, read in (("a.wav", read_audio), ("a.mp4", probe)):
        path = tmp_path / name
        path.write_bytes(LFS)
        says(read, path, "git lfs pull")
        path.write_bytes(HTML)
        says(read, path, "web page")
        path.unlink()
        os.mkfifo(path)
        says(read, path, "named pipe")


def test_sockets_and_files_of_the_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s.csv")
        says(check_file, Path("s.csv"), "a socket")
    if Path("/proc/self/stat").exists():
        says(check_file, Path("/proc/self/stat"), "a virtual file")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"x")
    path.chmod(0)
    says(check_file, path, "permission denied")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x93NUMPY\x01\0", "an array file (.npy)"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x1f\x8b\x08", "compressed (.gz)"),
        (b"\0" * 50, "zeros only"),
        (b"", "empty"),
        (b"a,b,c\n1,2,3\n", "it is text, beginning with 'a,b,c 1,2,3'"),
        (b"<?xml version='1.0'?><Error/>", "XML"),
        (b"/annex/objects/MD5E-s12--ab.npy\n", "git annex get"),
    ],
)
def test_first_bytes_tell_what_a_file_is(tmp_path, head, words):
    path = tmp_path / "a.wav"
    path.write_bytes(head)
    assert words in describe_content(path)


def test_first_bytes_of_the_expected_kind_say_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG damaged")
    assert describe_content(tmp_path / "a.png", ".png") == ""
    assert "an image (.png)" in describe_content(tmp_path / "a.png", ".npy")


# what a file declares -----------------------------------------------------------------------------------------------


def npy_header(shape: object, descr: str = "<f4") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(3, 9)", "(-1,)", "(True,)", "(2, -5)", "(10**9,)"])
def test_a_header_that_declares_more_than_is_there_takes_no_memory(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy_header(shape) + b"\0" * 40)
    says(load_arrays, tmp_path / "a.npy", "cannot read")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as z:
        z.writestr("x.npy", npy_header(shape) + b"\0" * 40)
    says(load_arrays, tmp_path / "a.npz", "cannot read", "array 'x'")


def test_a_zip_that_declares_more_than_the_machine_holds_is_refused_unread(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(4))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFFFFFE)
    path.write_bytes(bytes(data))
    from sidelight.utils import array_files as files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "memory", lambda: 2**31)
        says(load_arrays, path, "declares 4,294,967,294 bytes")


def test_sound_array_files_are_read_as_before(tmp_path):
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(["a", "b"])
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=x, y=y, f=np.asfortranarray(x), empty=np.zeros((0, 3)), scalar=np.int64(3))
        found = load_arrays(tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz") as expected:
            assert list(found) == expected.files
            for key in expected.files:
                np.testing.assert_array_equal(found[key], expected[key])
                assert found[key].dtype == expected[key].dtype
    np.save(tmp_path / "a.npy", x)
    np.testing.assert_array_equal(load_array(tmp_path / "a.npy", ""), x)


def test_bfloat16_is_read(tmp_path):
    x = torch.tensor([[1.5, -2.25, 3e38]], dtype=torch.bfloat16)
    save_file({"x": x, "n": torch.tensor([1, 2])}, tmp_path / "a.safetensors")
    found = load_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found["x"], x.float().numpy())
    assert found["x"].dtype == np.float32
    assert found["n"].tolist() == [1, 2]


def test_json_of_thousands_of_levels(tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(deep)
    (tmp_path / "a.json").write_text(deep)
    says(read_json, tmp_path / "a.json", "nested too deep")
    (tmp_path / "a.json").write_text("9" * 5000)
    says(read_json, tmp_path / "a.json", "not JSON")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/modalities.json").write_text(deep)
    with pytest.raises(DataError, match="nested too deep"):
        sl.load(tmp_path / "p")
    save_file({"x": torch.zeros(1)}, tmp_path / "s.safetensors", metadata={"sidelight": deep})
    with pytest.raises(RunError, match="nested too deep"):
        sl.load_student(tmp_path / "s.safetensors")


# YAML and settings --------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{b}'] * 10)}]\n" for b, c in zip("abcdefgh", "bcdefghi")
)
YAMLS = {
    "an alias that grows": (LAUGHS, "more than 10000 values"),
    "merged keys that grow": (
        "a: &a {x: 1}\n"
        + "".join(f"{c}: &{c} {{<<: [{', '.join([f'*{b}'] * 30)}]}}\n" for b, c in zip("abcd", "bcde")),
        "more than 10000 values",
    ),
    "an alias of itself": ("data: &a [*a]\n", "stands for a value that contains it"),
    "thousands of levels": ("data: " + "[" * 5000 + "]" * 5000, "more than 20 levels"),
    "thousands of mappings": ("data: " + "{a: " * 3000 + "1" + "}" * 3000, "more than 20 levels"),
    "thousands of values": ("data: [" + "1, " * 20_000 + "1]", "more than 10000 values"),
    "a large file": ("data: x\n" + "#" * 2**20, "characters; expected settings"),
    "a number of 5000 digits": ("data: x\nfolds: " + "9" * 5000, "more than 4300 digits"),
    "an object": ("data: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    "a wrong tag": ("data: x\nfolds: !!int five\n", "this is not YAML"),
    "a wrong truth value": ("data: x\nfolds: !!bool five\n", "this is not YAML"),
    "an unhashable key": ("? [a, b]\n: 1\n", "unhashable key"),
    "an open bracket": ("data: [\n", "line 2, column 1"),
    "a tabulator": ("data:\n\tx: 1\n", "line 2"),
    "a list": ("- a\n", "expected settings"),
    "control characters": ("data: \x01\n", "this is not YAML"),
    "a merge of nothing": ("<<: 5\ndata: x\n", "line 1"),
}


@pytest.mark.parametrize(("text", "words"), YAMLS.values(), ids=YAMLS)
def test_yaml_is_refused_in_one_sentence_and_at_once(tmp_path, text, words):
    (tmp_path / "e.yaml").write_text(text)
    says(load_config, tmp_path / "e.yaml", words)


def test_yaml_that_is_no_text(tmp_path):
    (tmp_path / "e.yaml").write_bytes("data: é\n".encode("latin-1"))
    says(load_config, tmp_path / "e.yaml", "not UTF-8")
    (tmp_path / "e.yaml").write_bytes(b"\xef\xbb\xbfdata: phone-watch\n")
    assert load_config(tmp_path / "e.yaml").data == "phone-watch"


def test_aliases_within_the_limits_still_work():
    assert parse_yaml("a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  l: 2\n") == {
        "a": {"k": 1},
        "b": {"k": 1},
        "c": {"k": 1, "l": 2},
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("=x", "'' is not a setting"),
        ("a..b=1", "'a..b' is not a setting"),
        (".a=1", "'.a' is not a setting"),
        ("options.=1", "is not a setting"),
        ("options.kl.=1", "is not a setting"),
        ("options.a.b=[", "options.a.b: cannot read '['"),
        ("options.a.b=&a [*a]", "stands for a value that contains it"),
        ("training.epochs=[&a [x],*a]", "training.epochs: expected a whole number"),
        ("training.epochs=" + "9" * 400, "training.epochs: expected a whole number"),
        ("training.epochs=" + "[" * 5000, "training.epochs: expected a whole number"),
        ("training.learning_rate=1e39", "too large for float32"),
        ("training.learning_rate=nan", "training.learning_rate: expected a number"),
        ("training.learning_rate=.inf", "training.learning_rate must be"),
        ("training.learning_rates.fusion=1e400", "expected a finite number"),
        ("training.learning_rates.fusion=.nan", "not NaN"),
        ("options.kl.temperature=.inf", "expected a finite number"),
        ("network.weights.a.b=f.pt", "without a dot"),
        ("select=.nan", "select must be"),
        ("label_fraction=.nan", "label_fraction must be"),
        ("folds=10001", "folds must be a whole number from 2 to 10000"),
        ("seeds=1000000000", "seeds must be a whole number from 1 to 10000"),
        ("seed=4294967296", "seed must be a whole number from 0"),
        ("jobs=1000000", "jobs must be 0"),
        ("jobs=-1", "jobs must be 0"),
        ("network.width=1000000", "network.width must be a whole number from 1 to 8192"),
        ("network.tokens=1000000", "network.tokens must be a whole number from 1 to 4096"),
        ("training.batch_size=10000000000000000000", "training.batch_size must be a whole number"),
        ("training.epochs=10000000000", "training.epochs must be a whole number"),
        ("training.patience=10000000000", "training.patience must be a whole number"),
        ("teacher.crossfit=100000", "teacher.crossfit must be"),
        ("transport.k=10000000000", "transport.k must be a whole number"),
        ("balance.warmup=10000000000", "balance.warmup must be a whole number"),
        ("checkpoint_seconds=1e10", "checkpoint_seconds must be 0 or more, at most"),
        ("ignore_index=99999999999", "ignore_index must be a whole number"),
        ("x" * 5000 + "=1", "unknown setting"),
    ],
)
def test_an_override_is_refused_in_one_sentence(override, words):
    with pytest.raises(ConfigError) as error:
        load_config({"data": "phone-watch"}, [override])
    assert words in str(error.value)
    assert len(str(error.value)) < 700


def test_a_plan_knows_the_limits_too(capsys):
    assert main(["run", "phone-watch", "--dry-run", "seeds=1000000000"]) == 2
    assert "from 1 to 10000" in capsys.readouterr().err


def test_one_option_cannot_be_a_value_and_a_group():
    with pytest.raises(ConfigError, match=r"'a' is given both"):
        load_config(None, ["options.a=1", "options.a.b=2"])


@pytest.mark.parametrize("text", ["prepare", "extract"])
def test_words_without_a_sign_on_the_command_line(tmp_path, text, capsys):
    words = ["prepare", "biovid", "src", "out", "nonsense"] if text == "prepare" else [
        "extract", "phone-watch", str(tmp_path / "o"), "--encoder", "phone="
    ]  # fmt: skip
    assert main(words) == 2
    assert "expected" in capsys.readouterr().err


# names that others use ----------------------------------------------------------------------------------------------

MEANT = {
    "workers": "jobs", "num_workers": "jobs", "n_jobs": "jobs", "batch": "training.batch_size",
    "batchsize": "training.batch_size", "batch_size": "training.batch_size", "lr": "training.learning_rate",
    "epochs": "training.epochs", "max_epochs": "training.epochs", "label": "target", "labels": "target", "y": "target",
    "dropout": "network.dropout", "optim": "training.optimizer", "optimizer": "training.optimizer",
    "wd": "training.weight_decay", "hidden_size": "network.width", "random_state": "seed", "n_splits": "folds",
    "early_stopping": "training.patience", "scheduler": "training.schedule", "output_dir": "output",
    "backbone": "network.encoder", "subject": "group", "validation": "select", "normalize": "standardize",
    "loss": "methods", "training.lr": "training.learning_rate", "network.hidden": "network.width",
    "LearningRate": "training.learning_rate", "teacher_modalities": "privileged", "cv": "protocol",
}  # fmt: skip
"""A word of another library -> the setting that is meant."""


@pytest.mark.parametrize(("word", "setting"), MEANT.items())
def test_words_of_other_libraries_are_understood_everywhere(tmp_path, word, setting, capsys):
    hint = f"Did you mean '{setting}'?"
    with pytest.raises(ConfigError, match="unknown setting") as error:
        load_config({"data": "x"}, [f"{word}=1"])
    assert hint in str(error.value)
    (tmp_path / "e.yaml").write_text(f"data: x\n{word}: 1\n")
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "e.yaml")
    assert hint in str(error.value)
    with pytest.raises(ConfigError) as error:
        sl.compare("phone-watch", **{word: 1})
    assert hint in str(error.value)
    assert main(["run", "phone-watch", f"--{word.replace('_', '-')}", "1"]) == 2
    assert f"Did you mean '--{setting.replace('_', '-')}'?" in capsys.readouterr().err


def test_words_for_what_there_is_not_say_what_to_do_instead(capsys):
    with pytest.raises(ConfigError, match="unknown setting 'download': sidelight downloads nothing"):
        load_config(None, ["download=true"])
    assert main(["run", "phone-watch", "--download", "1"]) == 2
    assert "unknown flag --download" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("label", "target"), ("subject", "group"), ("inputs", "modalities")])
def test_arguments_of_load_are_answered_alike(word, meant):
    with pytest.raises(ConfigError, match=f"unknown argument of load '{word}'. Did you mean '{meant}'"):
        sl.load("phone-watch", **{word: "a"})


def test_the_signature_of_load_stays_what_it_is():
    import inspect

    assert "target" in inspect.signature(sl.load).parameters
    assert sl.load.__name__ == "load"


def test_verbs_of_others(capsys):
    assert main(["train", "phone-watch"]) == 2
    assert "Did you mean 'run'?" in capsys.readouterr().err


def test_every_word_leads_to_a_setting_a_verb_or_an_argument():
    from sidelight.cli_parser import build_parser
    from sidelight.config import Config
    from sidelight.config.io import settings
    from sidelight.synonyms import WORDS, find_advice, find_meant

    known = settings(Config)
    for name, words in WORDS.items():
        if name in known:
            for word in words.split():
                assert word not in known or word == name, word
                assert find_advice(word) or find_meant(word, [name]) == name
    assert build_parser()


def test_long_values_are_cut_in_messages():
    with pytest.raises(ConfigError) as error:
        load_config({"data": "x", "task": "y" * 10_000})
    assert len(str(error.value)) < 500
