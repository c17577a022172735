"""Whatever comes through a door: an answer, or a SidelightError; never another exception, and never for long."""

from __future__ import annotations

import copy
import functools
import io
import json
import signal
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import sidelight as sl
from export.test_student import make_student
from sidelight.config import load_config
from sidelight.errors import SidelightError
from sidelight.export import predict_file

SECONDS = 20
"""An example that takes longer hangs."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@contextmanager
def watched() -> Iterator[None]:
    """Ends what hangs, with the line where it does."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(work: Callable[[], object]) -> None:
    """Runs it; only a SidelightError of one readable paragraph may come out."""
    try:
        with watched(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except SidelightError as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert len(said) < 4000


def examples(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


@functools.cache
def place() -> Path:
    """A folder for all examples; it is inside of pytest's own."""
    return Path(mkdtemp(prefix="sidelight-fuzz-"))


def put(name: str, content: bytes) -> Path:
    path = place() / name
    path.write_bytes(content)
    return path


CELLS = st.one_of(
    st.sampled_from(
        ["", " ", "1", "-1", "0.5", "1e39", "1e400", "nan", "inf", "-inf", "NA", "n/a", "True", "x", "y", "0", "é",
         "\0", "0x1F", "1_000", "1,5", '"', "'", "2020-01-01", "9" * 50, "a.npy", "../x", "/dev/zero", "[1, 2]", "١"]
    ),
    st.text(max_size=6),
    st.floats(width=64).map(str),
)  # fmt: skip
HEADS = st.one_of(
    st.sampled_from(
        ["a.0", "a.1", "b.0", "b", "target", "group", "split", "id", "subject", "y", "a_file_name", "target_file_name",
         "", ".", "..0", "a.", "values.0", "a/b.0", "a\0.0", " a.0 ", "1", "a.0.1", "\ufefftarget"]
    ),
    st.text(max_size=5),
)  # fmt: skip


@st.composite
def tables(draw: Any) -> bytes:
    """A CSV that is mostly in order: a header, rows of about its width, odd cells, sometimes odd bytes."""
    heads = draw(st.lists(HEADS, min_size=1, max_size=6))
    if draw(st.booleans()):
        heads = ["a.0", "b.0", "target", *heads]
    separator, end = (
        draw(st.sampled_from([",", ",", ",", "\t", ";"])),
        draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])),
    )
    rows = draw(st.lists(st.lists(CELLS, min_size=len(heads), max_size=len(heads)), max_size=8))
    if draw(st.integers(0, 5)) == 0 and rows:
        rows[-1] = rows[-1][:-1] if draw(st.booleans()) else [*rows[-1], "1"]
    lines = [separator.join(line) for line in (heads, *rows)]
    encoded = (end.join(lines) + end).encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16"])), "ignore")
    return damaged(draw, encoded) if draw(st.integers(0, 4)) == 0 else encoded


def damaged(draw: Any, content: bytes) -> bytes:
    """Bytes with some cut off, or changed."""
    data = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))
    return bytes(data[:cut])


@examples(600)
@given(tables(), st.sampled_from(["f.csv", "f.tsv", "f.parquet"]))
def test_tables(content: bytes, name: str) -> None:
    path = put(name, content)
    tried(lambda: sl.load(path))


DTYPES = st.sampled_from(
    ["<f4", "<f8", "<i8", "|b1", "<U2", "|O", "<f2", "<c8", "<M8[D]", "|S3", "<u8", "|V4", "f3", ""]
)
SHAPES = st.one_of(
    st.lists(st.integers(-2, 9), max_size=5).map(tuple).map(str),
    st.sampled_from(
        ["(8, 2)", "(8,)", "(8, 4, 2)", "(8, 3, 4, 4)", "(10**9,)", "(1000000000000, 2)", "()", "[8]", "8"]
    ),
)


@st.composite
def npy(draw: Any) -> bytes:
    """An .npy file with a header that is often sound, and about as many bytes as it declares."""
    if draw(st.integers(0, 2)) == 0:
        file = io.BytesIO()
        kinds = st.sampled_from([np.float32, np.float64, np.int64, np.bool_, np.uint8, np.float16])
        shape = draw(st.sampled_from([(8, 2), (8,), (8, 4, 2), (8, 5, 5, 3), (7, 2), (8, 0), ()]))
        value = draw(st.sampled_from([0, 1, -1, np.nan, np.inf, 1e300, 255]))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.save(file, np.full(shape, value).astype(draw(kinds)))
        return damaged(draw, file.getvalue()) if draw(st.booleans()) else file.getvalue()
    header = (
        f"{{'descr': {draw(DTYPES)!r}, 'fortran_order': {draw(st.booleans())}, 'shape': {draw(SHAPES)}, }}".encode()
    )
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    body = draw(st.sampled_from([b"", b"\0" * 64, b"\x01" * 128, b"\xff" * 256]))
    return b"\x93NUMPY" + draw(st.sampled_from([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\t\0"])) + struct.pack(
        "<H", len(header)
    ) + header + body  # fmt: skip


KEYS = st.sampled_from(
    ["a", "b", "target", "group", "a_length", "a_present", "labelled", "class_names", "split", "id", "../x", "", "a.b"]
)


@st.composite
def archives(draw: Any) -> bytes:
    file = io.BytesIO()
    labels = io.BytesIO()
    np.save(labels, np.array(["x", "y"] * 4))
    members = draw(st.dictionaries(KEYS, npy(), max_size=5))
    if draw(st.booleans()):
        members["target"] = labels.getvalue()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)
    return damaged(draw, file.getvalue()) if draw(st.integers(0, 2)) == 0 else file.getvalue()


@examples(400)
@given(archives())
def test_array_files(content: bytes) -> None:
    path = put("f.npz", content)
    tried(lambda: sl.load(path))


VALUES: st.SearchStrategy = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=3),
        st.sampled_from([10**400, b"x", object(), np.float32(1), np.datetime64("2020"), np.array([]), torch.zeros(3)]),
    ),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def given_arrays() -> st.SearchStrategy:
    sound = st.sampled_from(
        [np.ones((8, 2)), [[1.0]] * 8, list("xy") * 4, [None, *range(7)], np.arange(8), torch.ones(8, 2)]
    )
    return st.dictionaries(KEYS | st.text(max_size=3), sound | sound | VALUES, max_size=5)


@examples(200)
@given(given_arrays())
def test_arrays_in_memory(arrays: dict[str, Any]) -> None:
    tried(lambda: sl.load({"target": list("xy") * 4, **arrays}))


TOKENS = st.one_of(
    st.sampled_from(
        ["data", "folds", "training", "epochs", "options", "kl", "network", "weights", "methods", "select", ":", ": ",
         "\n", "\n  ", "- ", "[", "]", "{", "}", ",", "&a ", "*a", "<<: ", "!!int ", "!!python/name:os ", "? ",
         "|\n ", ">", "#", '"', "'", "1", "1e39", ".nan", ".inf", "-1", "0x1", "010", "1:30", "null", "~", "true",
         "2020-01-01", "%", "@", "---", "...", "\t", "9" * 60, "x"]
    ),
    st.text(max_size=3),
)  # fmt: skip
YAMLS = st.one_of(
    st.lists(TOKENS, max_size=30).map("".join),
    st.lists(TOKENS, max_size=15).map(lambda t: "data: phone-watch\n" + "".join(t)),
    st.dictionaries(
        st.sampled_from(["data", "folds", "seeds", "training", "options", "network", "methods", "select", "teacher"])
        | st.text(max_size=3),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda v: st.lists(v, max_size=3)
            | st.dictionaries(st.sampled_from(["epochs", "kl", "width"]) | st.text(max_size=3), v),
            max_leaves=6,
        ),
        max_size=4,
    ).map(lambda tree: json.dumps({"data": "x", **tree})),
)  # fmt: skip
OVERRIDES = st.lists(
    st.builds("{}={}".format, st.sampled_from(["folds", "options.kl.temperature", "methods", "training.epochs", "seeds",
        "transport.epsilon", "teacher.sets", "network.weights.watch", "label_fraction", "a"]) | st.text(max_size=6),
        TOKENS | st.lists(TOKENS, max_size=5).map("".join)) | st.text(max_size=8),
    max_size=2,
)  # fmt: skip


@examples(500)
@given(YAMLS, OVERRIDES)
def test_settings(text: str, overrides: list[str]) -> None:
    path = put("f.yaml", text.encode("utf-8", "surrogatepass"))
    tried(lambda: load_config(path))
    tried(lambda: load_config({"data": "phone-watch"}, overrides))


@functools.cache
def student_parts() -> tuple[dict[str, Any], dict[str, torch.Tensor], bytes, Path]:
    """The description and tensors of a student's file, the file's bytes, and rows for it."""
    from safetensors import safe_open

    student = make_student()
    path = student.save(place() / "sound")
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["sidelight"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    shapes = {m: told["preprocessor"]["modalities"][m]["shape"] for m in told["reads"]}
    rows = place() / "rows.npz"
    np.savez(rows, **{m: np.ones((3, *shape), np.float32) for m, shape in shapes.items()})
    return told, tensors, path.read_bytes(), rows


def places(tree: Any, at: tuple = ()) -> Iterator[tuple]:
    """The paths to every value inside of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


ODD = st.sampled_from(
    [None, True, 0, -1, 5, 10**9, 10**30, 1.5, float("nan"), 1e308, "", "x", "../x", "values", "a\nb", [], [1], ["x"],
     [[1]], {}, {"a": 1}, [10**9, 10**9], [-1, 2], "custom", "hf:/etc", "classification", "regression"]
)  # fmt: skip


@examples(300)
@given(st.data())
def test_model_files(data: Any) -> None:
    told, tensors, whole, rows = student_parts()
    if data.draw(st.integers(0, 2)) == 0:
        path = put("f.safetensors", damaged(data.draw, whole))
    else:
        changed = json.loads(json.dumps(told))
        for _ in range(data.draw(st.integers(1, 2))):
            *inside, last = data.draw(st.sampled_from(sorted(places(changed), key=str)))
            part = changed
            for key in inside:
                part = part[key]
            if data.draw(st.integers(0, 4)) == 0:
                del part[last]
            else:
                part[last] = copy.deepcopy(data.draw(ODD))
        path = put("f.safetensors", save(tensors, {"sidelight": json.dumps(changed)}))
    tried(lambda: predict_file(sl.load_student(path), rows))
