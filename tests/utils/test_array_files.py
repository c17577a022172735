"""Array files are read in several threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sidelight.data.mapped import MappedArray
from sidelight.utils.array_files import load_arrays


@pytest.fixture
def at_once(monkeypatch):
    """The largest number of threads that were inside of NumPy's header reader at once."""
    seen, inside, count = [0], [0], threading.Lock()

    def watch(read):
        def watched(*args, **kwargs):
            with count:
                inside[0] += 1
                seen[0] = max(seen[0], inside[0])
            time.sleep(0.002)  # so that threads without a lock meet
            try:
                return read(*args, **kwargs)
            finally:
                with count:
                    inside[0] -= 1

        return watched

    for name in ("read_array_header_1_0", "read_array_header_2_0", "open_memmap"):
        monkeypatch.setattr(np.lib.format, name, watch(getattr(np.lib.format, name)))
    return seen


def test_headers_are_parsed_by_one_thread_at_a_time(tmp_path, at_once):
    """CPython 3.11 raises "SystemError: AST constructor recursion depth mismatch" where several threads parse."""
    x = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "x.npy", x)
    np.savez_compressed(tmp_path / "x.npz", x=x)

    def read(i):
        if i % 3 == 2:
            return MappedArray.open(str(tmp_path / "x.npy"))
        return next(iter(load_arrays(tmp_path / ("x.npz" if i % 3 else "x.npy")).values()))

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(read, range(24)):
            np.testing.assert_array_equal(found, x)
    assert at_once == [1]


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(np.arange(300_000.0).reshape(500, 600)),
        np.array(3),
        np.empty((0, 3), np.float32),
        np.array(["a", "bc"]),
        np.array([(1, 2.5)], [("a", ">i2"), ("b", "<f8")]),
        np.array(["2026-01-01"], "datetime64[D]"),
    ],
    ids=["columns first", "no dimension", "no rows", "text", "records", "dates"],
)
def test_arrays_are_what_numpy_reads(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    np.savez_compressed(tmp_path / "x.npz", x=x)
    for name, key in (("x.npy", ""), ("x.npz", "x")):
        found = load_arrays(tmp_path / name)[key]
        assert found.dtype == x.dtype
        assert found.strides == x.strides
        assert found.flags.writeable
        np.testing.assert_array_equal(found, x)
