"""MATLAB files of version 5 and 7.3: shapes, logicals, structs, rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from sidelight.errors import ConfigError, DataError
from sidelight.formats import read_recordings
from sidelight.formats.matlab import load_mat

CONTENT = {
    "eda": np.arange(12.0)[None],  # a row
    "acc": np.arange(30.0).reshape(10, 3),
    "mask": np.array([[True, False, True]]),
    "fs": 4.0,
    "device": "watch",
    "bio": {"ecg": np.arange(20.0)[:, None], "srate": 100.0, "good": np.array([[True, False]])},
}


def write_73(path, content):
    """As MATLAB writes it: after 512 bytes of its own, arrays transposed, classes as attributes."""
    h5py = pytest.importorskip("h5py")

    def put(group, content):
        for name, x in content.items():
            if isinstance(x, dict):
                put(inner := group.create_group(name), x)
                inner.attrs["MATLAB_class"] = np.bytes_("struct")
            elif isinstance(x, str):
                data = group.create_dataset(name, data=np.array([[ord(c)] for c in x], np.uint16))
                data.attrs["MATLAB_class"] = np.bytes_("char")
            else:
                x = np.atleast_2d(x)
                data = group.create_dataset(name, data=x.T.astype(np.uint8) if x.dtype == bool else x.T)
                data.attrs["MATLAB_class"] = np.bytes_("logical" if x.dtype == bool else "double")

    with h5py.File(path, "w", userblock_size=512) as file:
        put(file, content)
        cell = file.create_dataset("cell", (2, 1), dtype=h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        refs = file.create_group("#refs#")
        for i in range(2):
            one = refs.create_dataset("ab"[i], data=np.arange(5.0)[:, None] + i)
            one.attrs["MATLAB_class"] = np.bytes_("double")
            cell[i, 0] = one.ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    return path


def write_5(path, content):
    savemat(path, content)
    return path


@pytest.fixture(params=[write_5, write_73])
def mat(request, tmp_path):
    return request.param(tmp_path / "a.mat", CONTENT)


def test_logical_arrays_mask(mat):
    found = load_mat(mat)
    assert found["mask"].dtype == bool
    assert found["bio"]["good"].dtype == bool
    assert found["eda"][0, :3][found["mask"][0]].tolist() == [0, 2]  # as numbers they would take 1, 0, 1
    assert found["device"] == "watch"
    np.testing.assert_array_equal(found["acc"], CONTENT["acc"])


def test_signals_take_the_rate_beside_them_and_time_is_the_longer_axis(mat):
    found = read_recordings(mat)
    rates = {n: (r.rate, r.values.shape) for n, r in found.items() if not n.startswith("cell")}
    assert rates == {
        "eda": (4, (12, 1)), "acc": (4, (10, 3)), "mask": (4, (3, 1)),
        "bio.ecg": (100, (20, 1)), "bio.good": (100, (2, 1)),
    }  # fmt: skip
    np.testing.assert_array_equal(found["acc"].values, CONTENT["acc"])
    np.testing.assert_array_equal(found["mask"].values[:, 0], [1, 0, 1])


def test_cells_are_recordings(tmp_path):
    found = read_recordings(write_73(tmp_path / "a.mat", {"fs": 2.0}))
    assert {n: r.values[:, 0].tolist() for n, r in found.items()} == {
        "cell1": [0, 1, 2, 3, 4],
        "cell2": [1, 2, 3, 4, 5],
    }


def test_a_rate_that_nothing_states_must_be_named(tmp_path):
    savemat(tmp_path / "a.mat", {"x": np.arange(5.0)})
    with pytest.raises(ConfigError, match=r"nothing beside 'x' says its sampling rate .* name it \(rate=…\)"):
        read_recordings(tmp_path / "a.mat")
    assert read_recordings(tmp_path / "a.mat", rate=50)["x"].rate == 50


def test_rates_of_single_signals_and_numbers_that_are_no_rates(tmp_path):
    signals = {"eda": np.arange(5.0), "ecg": np.arange(9.0)}
    savemat(tmp_path / "a.mat", signals | {"fs_eda": 4.0, "ecg_srate": 250.0, "cutoff_freq": 0.5, "diffs": 3.0})
    assert {n: r.rate for n, r in read_recordings(tmp_path / "a.mat").items()} == {"eda": 4, "ecg": 250}
    savemat(tmp_path / "b.mat", signals | {"cutoff_freq": 0.5, "diffs": 3.0})
    with pytest.raises(ConfigError, match=r"nothing beside 'eda' says its sampling rate"):
        read_recordings(tmp_path / "b.mat")
    savemat(tmp_path / "c.mat", signals | {"fs": 4.0, "srate": 5.0})
    with pytest.raises(DataError, match=r"c.mat: the numbers beside 'eda' name several sampling rates"):
        read_recordings(tmp_path / "c.mat")
    assert read_recordings(tmp_path / "c.mat", rate=5)["eda"].rate == 5


def test_broken_files_are_named(tmp_path):
    savemat(tmp_path / "a.mat", {"x": np.arange(500.0)})
    raw = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(raw[:-1000])
    with pytest.raises(DataError, match=r"cannot read .*a.mat"):
        read_recordings(tmp_path / "a.mat", rate=1)
    savemat(tmp_path / "b.mat", {"fs": 2.0, "name": "x"})
    with pytest.raises(DataError, match=r"holds no signal; its variables are \['fs', 'name'\]"):
        read_recordings(tmp_path / "b.mat", rate=1)
    write_73(tmp_path / "c.mat", {"x": np.arange(500.0)})
    raw = (tmp_path / "c.mat").read_bytes()
    (tmp_path / "c.mat").write_bytes(raw[:1500])
    with pytest.raises(DataError, match=r"cannot read .*c.mat"):
        read_recordings(tmp_path / "c.mat", rate=1)


def test_objects_are_left_out(tmp_path):
    """Cell arrays of Python objects become MATLAB cells; nothing of a class is built when the file is read."""
    savemat(tmp_path / "a.mat", {"fs": 2.0, "x": np.arange(4.0), "c": np.array([np.arange(3.0), "text"], dtype=object)})
    found = load_mat(tmp_path / "a.mat")
    assert found["c"][1] == "text"
    assert list(read_recordings(tmp_path / "a.mat")) == ["x", "c1"]
