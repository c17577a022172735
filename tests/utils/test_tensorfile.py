"""Safetensors files: written with a checksum, compared at every load; one flipped byte is never loaded."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import nn

import sidelight
from sidelight.errors import RunError
from sidelight.networks.backbones.weights import load_weights
from sidelight.utils.tensorfile import CHECKSUM, read_arrays, read_metadata, read_tensors, write_tensors

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.arange(5), "half": torch.ones(3).half(), "0": torch.ones(0)}


@pytest.fixture
def file(tmp_path):
    write_tensors(tmp_path / "x.safetensors", TENSORS, {"key": "value", "another": "ü"})
    return tmp_path / "x.safetensors"


def test_what_is_written_is_read_and_any_other_reader_reads_it_too(file):
    tensors, told = read_tensors(file)
    assert told == {"key": "value", "another": "ü"}
    for found in (tensors, load_file(file), {k: torch.from_numpy(x) for k, x in read_arrays(file).items()}):
        assert found.keys() == TENSORS.keys()
        assert all(torch.equal(found[k], t) and found[k].dtype == t.dtype for k, t in TENSORS.items())


def test_the_checksum_is_the_sha256_of_the_header_without_it_and_of_the_values(file):
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    stored = header["__metadata__"].pop(CHECKSUM)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    assert stored == hashlib.sha256(text + whole[start:]).hexdigest()
    assert start % 8 == 0


def test_the_same_content_gives_the_same_bytes(file):
    """The library writes the texts of the metadata in an order of its own every time."""
    for _ in range(5):
        again = file.with_name("again.safetensors")
        write_tensors(again, dict(reversed(TENSORS.items())), {"another": "ü", "key": "value"})
        assert read_tensors(again)[1] == read_tensors(file)[1]
    write_tensors(again, TENSORS, {"key": "value", "another": "ü"})
    assert again.read_bytes() == file.read_bytes()


def test_no_flipped_byte_gives_other_values(file):
    """Every byte of the file, one after the other: an error, or exactly what was written."""
    whole, refused = file.read_bytes(), 0
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        refused += 1
        with suppress(RunError):
            tensors, told = read_tensors(file)
            refused -= 1
            assert {"key": "value", "another": "ü"}.items() <= told.items()
            assert all(torch.equal(tensors[k], t) for k, t in TENSORS.items())
    assert refused >= len(whole) - len(CHECKSUM)  # a flip in its name leaves a file without a checksum, and whole


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_file_is_named(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    for read in (read_tensors, read_arrays, read_metadata):
        with pytest.raises(
            RunError, match=r"cannot read .*x\.safetensors: (truncated, or not a safetensors file|it is empty)"
        ):
            read(file)


def test_what_is_no_file(tmp_path):
    with pytest.raises(RunError, match=r"gone\.safetensors does not exist"):
        read_tensors(tmp_path / "gone.safetensors")
    with pytest.raises(RunError, match="is a folder; expected a file"):
        read_arrays(tmp_path)


def test_a_file_without_a_checksum_is_read(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "old.safetensors", metadata={"key": "k"})
    tensors, told = read_tensors(tmp_path / "old.safetensors")
    assert torch.equal(tensors["a"], torch.ones(2))
    assert told == read_metadata(tmp_path / "old.safetensors") == {"key": "k"}


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinity_are_neither_written_nor_read_unless_allowed(tmp_path, value):
    file, bad = tmp_path / "x.safetensors", {"good": torch.ones(1), "bad": torch.tensor([0, value])}
    with pytest.raises(RunError, match=r"'bad' holds NaN or infinity and is not stored: training diverged"):
        write_tensors(file, bad)
    assert not file.exists()
    write_tensors(file, bad, finite=False)
    assert read_arrays(file)["bad"][0] == 0
    with pytest.raises(RunError, match=r"x\.safetensors: 'bad' holds NaN or infinity"):
        read_tensors(file)
    read_tensors(file, finite=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_types_that_numpy_lacks_become_float32(tmp_path, dtype):
    """1.5 and -2 are exact in all of them."""
    x = torch.tensor([1.5, -2.0, 0.0])
    (tmp_path / "x.safetensors").write_bytes(save({"x": x.to(dtype), "y": x}))
    arrays = read_arrays(tmp_path / "x.safetensors")
    assert list(arrays) == ["x", "y"]
    assert arrays["x"].dtype == np.float32
    np.testing.assert_array_equal(arrays["x"], x.numpy())
    assert torch.equal(read_tensors(tmp_path / "x.safetensors")[0]["x"].float(), x)


def test_a_strided_and_a_transposed_tensor_are_written_as_they_look(tmp_path):
    x = torch.arange(12.0).reshape(3, 4)
    write_tensors(tmp_path / "x.safetensors", {"t": x.T, "every second": x[:, ::2], "shared": x[0], "too": x[0]})
    found = read_tensors(tmp_path / "x.safetensors")[0]
    assert torch.equal(found["t"], x.T)
    assert torch.equal(found["every second"], x[:, ::2])
    with safe_open(tmp_path / "x.safetensors", "pt") as opened:
        assert CHECKSUM in opened.metadata()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_such_types_start_a_network(tmp_path, dtype):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    file = tmp_path / "w.safetensors"
    write_tensors(file, {name: t.to(dtype) for name, t in source.state_dict().items()})
    assert len(load_weights(target, file).matched) == 2
    assert torch.equal(target.weight, source.weight.to(dtype).float())
    write_tensors(file, {"weight": torch.full((2, 3), torch.nan).to(dtype)}, finite=False)
    with pytest.raises(RunError, match="weight holds NaN or infinity"):
        load_weights(target, file)


def test_numbers_that_are_no_features_are_named(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"x": torch.ones(2, dtype=torch.complex64)})
    with pytest.raises(RunError, match="'x' holds C64; expected integers or floating point"):
        read_arrays(tmp_path / "x.safetensors")


def test_arrays_of_tables_are_written_as_they_look(tmp_path):
    """A table keeps its columns together, so `to_numpy` is not C-contiguous: safetensors' NumPy writer scrambles it."""
    table = pd.DataFrame({"a": np.arange(4.0), "b": -np.arange(4.0)})
    x = table.to_numpy(copy=True)
    assert not x.flags.c_contiguous
    write_tensors(tmp_path / "x.safetensors", {"x": torch.from_numpy(x), "f": torch.from_numpy(np.asfortranarray(x))})
    for values in read_arrays(tmp_path / "x.safetensors").values():
        np.testing.assert_array_equal(values, table)


def test_nothing_else_writes_safetensors():
    source = Path(sidelight.__file__).parent
    writers = [
        p for p in source.rglob("*.py") if re.search(r"safetensors\.\w+ import|safetensors import save", p.read_text())
    ]
    assert [p.name for p in writers] == ["tensorfile.py"]
