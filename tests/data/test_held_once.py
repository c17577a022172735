"""Rows are held once: workers map them, and those of large data are preprocessed batch by batch, to the same bits."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sidelight as sl
from sidelight import experiment
from sidelight.config import load_config
from sidelight.data import Dataset, Preprocessor, mapped
from sidelight.data.batch import Batch
from sidelight.data.mapped import MappedArray, share_rows
from sidelight.errors import DataError, DiskError
from sidelight.experiment import inputs, runner
from sidelight.experiment.provenance import compute_fingerprint
from sidelight.utils.atomic import remove_leftovers

N = 400
MIB = 2**20


def make(**changes: Any) -> Dataset:
    """A vector with gaps, a signal of varying length with one long row, and images; some rows lack a modality."""
    rng = np.random.default_rng(0)
    face, voice = rng.normal(3, 2, (N, 7)), rng.normal(-1, 5, (N, 30, 3))
    face[::9, 2] = np.nan
    length = rng.integers(3, 6, N)
    length[5] = 30
    settings: dict[str, Any] = {
        "name": "toy",
        "inputs": {"face": face, "voice": voice, "eye": rng.integers(0, 255, (N, 3, 8, 6)).astype(np.uint8)},
        "target": np.arange(N) % 2,
        "labelled": np.ones(N, bool),
        "task": "classification",
        "class_names": ("a", "b"),
        "present": {"face": rng.random(N) > 0.2, "eye": rng.random(N) > 0.1},
        "lengths": {"voice": length},
        "group": np.arange(N) // 25,
        "impute": "mean",
    }
    return Dataset(**(settings | changes))


def plain(n: int = 20_000) -> Dataset:
    x = np.random.default_rng(0).standard_normal((n, 64), dtype=np.float32)
    ones = np.ones(n, bool)
    return Dataset("plain", {"x": x}, np.arange(n) % 2, ones, "classification", ("a", "b"), group=np.arange(n) % 9)


def equal(a: Batch, b: Batch) -> None:
    assert a.inputs.keys() == b.inputs.keys()
    for m, x in a.inputs.items():
        assert x.dtype == b.inputs[m].dtype
        assert torch.equal(x, b.inputs[m]), m
    for kind in ("present", "lengths"):
        one, other = getattr(a, kind), getattr(b, kind)
        assert one.keys() == other.keys()
        assert all(torch.equal(x, other[m]) for m, x in one.items())


@pytest.mark.parametrize("standardize", ["train", "group"])
@pytest.mark.parametrize("statistics", [(), ("voice",)])
@pytest.mark.parametrize("impute", ["mean", "no"])
def test_deferred_rows_have_the_bits_of_those_that_are_preprocessed_at_once(standardize, statistics, impute):
    data = make()
    if impute == "no":
        data = replace(data, inputs=data.inputs | {"face": np.nan_to_num(data.inputs["face"])}, impute="no")
    p = Preprocessor.fit(data, np.arange(250), data.modalities, statistics, standardize)
    at_once, deferred = data.batch(p), data.batch(p, deferred=True)
    assert not deferred.inputs
    assert at_once.shapes() == deferred.shapes()
    drawn = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for rows in (torch.arange(N), drawn[:64], drawn[:1], drawn[:0]):
        equal(at_once.index_select(rows).materialize(), deferred.index_select(rows).materialize())
    part = drawn[:300]
    some = torch.tensor([7, 7, 299, 0])
    one, other = (b.index_select(part).index_select(some) for b in (at_once, deferred))
    assert one.shapes() == other.shapes()
    equal(one.materialize(), other.materialize())
    alone = ["voice"]
    equal(one.select_modalities(alone).materialize(), other.select_modalities(alone).materialize())


def test_the_raw_rows_of_all_deferred_batches_are_those_of_the_data_set():
    data = plain()
    whole = data.batch(Preprocessor.fit(data, np.arange(5000), ["x"]), deferred=True)
    part = whole.index_select(torch.arange(100, 9000))
    for batch in (whole, part, part.index_select(torch.tensor([3]))):
        assert batch.stored["x"].values.data_ptr() == data.inputs["x"].ctypes.data


def test_a_deferred_row_that_overflows_is_named_with_the_number_of_such_rows():
    data = plain(100)
    x = data.inputs["x"].copy()
    p = Preprocessor.fit(data, np.arange(50), ["x"])
    x[70:73, 3] = 3e38
    p.get_buffer("mean_0")[0, 3], p.get_buffer("scale_0")[0, 3] = -3e38, 0.0  # ∞ · 0
    odd = replace(data, inputs={"x": x})
    messages = []
    for deferred in (False, True):
        with pytest.raises(DataError) as error:
            odd.batch(p, deferred=deferred)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "row 70" in messages[1]
    assert "3 such rows" in messages[1]


def test_from_arrays_to_batches_no_copy_of_all_rows_is_made():
    """What NumPy allocates is seen by tracemalloc; what torch allocates is measured in the test below."""
    x = np.random.default_rng(0).standard_normal((200_000, 32), dtype=np.float32)
    ones, y = np.ones(len(x), bool), np.arange(len(x)) % 2
    tracemalloc.start()
    try:
        data = Dataset("plain", {"x": x}, y, ones, "classification", ("a", "b"))
        rest = sum(a.nbytes for a in (data.ids, data.target, data.labelled, data.present["x"]))
        p = Preprocessor.fit(data, np.arange(100_000), ["x"])
        data.batch(p, deferred=True).index_select(torch.arange(1024)).materialize()
        data.select(["x"])
        compute_fingerprint(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data.inputs["x"] is x or np.shares_memory(data.inputs["x"], x)
    assert peak < 0.5 * x.nbytes + 2.5 * rest, (peak / MIB, x.nbytes / MIB, rest / MIB)


PEAK = """
import sys
import numpy as np, torch
from sidelight.data import Dataset, Preprocessor

def peak():
    text = open("/proc/self/status").read()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024

torch.set_num_threads(1)
def use(n):
    x = np.random.default_rng(0).standard_normal((n, 32), dtype=np.float32)
    data = Dataset("plain", {"x": x}, np.arange(n) % 2, np.ones(n, bool), "classification", ("a", "b"))
    before = peak()
    p = Preprocessor.fit(data, np.arange(n // 2), ["x"])
    batch = data.batch(p, deferred=sys.argv[1] == "deferred")
    for rows in torch.randperm(n).split(1024):
        batch.index_select(rows).materialize()
    return peak() - before, x.nbytes
use(2000)
grown, size = use(600_000)
print(grown / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process its peak")
def test_fitting_and_drawing_deferred_rows_takes_no_copy_of_them():
    grown = {}
    for how in ("deferred", "at once"):
        out = subprocess.run([sys.executable, "-c", PEAK, how], capture_output=True, text=True, check=True)
        grown[how] = float(out.stdout)
    assert grown["deferred"] < 0.8, grown
    assert grown["at once"] > 1, grown  # the measure sees a copy


# files ---------------------------------------------------------------------------------------------------------------


def test_shared_rows_are_equal_and_pickled_by_name(tmp_path):
    data = make(inputs={"face": np.arange(N * 50, dtype=np.float32).reshape(N, 50)}, present={}, lengths={})
    data = replace(data, time=np.arange(N) / 7)
    with share_rows(data, tmp_path) as shared:
        assert type(shared) is Dataset
        assert isinstance(shared.inputs["face"], MappedArray)
        sent = pickle.loads(pickle.dumps(shared))
        assert isinstance(sent.inputs["face"], MappedArray)
        assert len(pickle.dumps(shared)) < len(pickle.dumps(data)) / 2
        for other in (shared, sent):
            assert compute_fingerprint(other) == compute_fingerprint(data)
            assert repr(other) == repr(data)
        # A part of an array is no file: its values are sent.
        part = pickle.loads(pickle.dumps(shared.inputs["face"][3:5]))
        assert type(part) is np.ndarray
        assert np.array_equal(part, data.inputs["face"][3:5])
        # What one process changes is changed in no other.
        sent.inputs["face"][0] = -1
        assert shared.inputs["face"][0, 1] == 1
    assert list(tmp_path.iterdir()) == []


def test_the_arrays_of_a_data_set_are_freed_while_their_files_are_mapped(tmp_path):
    data = plain()
    gone = weakref.ref(data.inputs["x"])
    sharing = share_rows(data, tmp_path)
    shared = sharing.__enter__()
    del data
    gc.collect()
    assert gone() is None
    assert shared.inputs["x"].shape == (20_000, 64)
    sharing.__exit__(None, None, None)


@pytest.mark.parametrize("way", ["run", "compare", "sweep"])
def test_a_run_frees_the_arrays_of_its_caller_before_a_worker_starts(way, tmp_path, monkeypatch):
    """Neither a decorator, the lock of the folder nor a call with `**` may hold them beside their files."""
    gone: list[weakref.ref[Any]] = []
    alive: list[bool] = []

    def load(*_: Any) -> Dataset:
        data = plain(2000)
        gone.append(weakref.ref(data.inputs["x"]))
        return replace(data, inputs=data.inputs | {"z": data.inputs["x"] + 1})

    def stop(make_models: Any, *_: Any) -> None:
        gc.collect()
        alive.append(gone[0]() is not None)
        assert isinstance(make_models.args[1].inputs["x"], MappedArray)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_jobs", stop)
    for module in (experiment, inputs):
        monkeypatch.setattr(module, "load_for", load)
    settings = {"data": "rows.npz", "available": ["x"], "privileged": ["z"], "methods": ["kl"], "jobs": 2}
    settings |= {"output": str(tmp_path / "run"), "folds": 2}
    ways: dict[str, Callable[[], Any]] = {
        "run": lambda: experiment.run(load_config(settings), quiet=True),
        "compare": lambda: sl.compare(**settings, quiet=True),
        "sweep": lambda: sl.sweep(**settings, space={"options.kl.weight": [1.0, 2.0]}, quiet=True),
    }
    with pytest.raises(KeyboardInterrupt):
        ways[way]()
    assert alive == [False]


def test_a_file_that_changes_after_it_was_read_changes_nothing(tmp_path):
    """A map of the user's own file would show the change, and kill the process where the file became shorter."""
    file = tmp_path / "rows.npz"
    data = plain(3000)
    np.savez(file, x=data.inputs["x"], target=data.target, group=data.group)
    read = sl.load(file)
    with share_rows(read, tmp_path) as shared:
        file.write_bytes(b"cut")
        for rows in (read, shared, pickle.loads(pickle.dumps(shared))):
            assert np.array_equal(rows.inputs["x"], data.inputs["x"])


MAPPED = """
import json, pathlib, pickle, sys
data = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
total = float(data.inputs["x"].sum())
text = pathlib.Path("/proc/self/smaps").read_text()
(found,) = [block for block in text.split("VmFlags:") if "inputs-0.npy" in block]
kib = {line.split(":")[0]: int(line.split()[1]) for line in found.splitlines() if line.endswith(" kB")}
print(json.dumps([total, kib["Rss"], kib["Anonymous"]]))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not describe maps")
def test_another_process_maps_the_file_and_holds_no_copy(tmp_path):
    data = plain()
    with share_rows(data, tmp_path) as shared:
        sent = tmp_path / "sent"
        sent.write_bytes(pickle.dumps(shared))
        out = subprocess.run([sys.executable, "-c", MAPPED, str(sent)], capture_output=True, text=True, check=True)
    total, resident, anonymous = json.loads(out.stdout)
    assert total == float(data.inputs["x"].sum())
    assert resident * 1024 >= data.inputs["x"].nbytes
    assert anonymous == 0  # pages of the file, which other processes map too


def test_a_full_disk_is_an_error_with_folder_and_size_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path: Path, x: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(mapped, "write_array", full)
    with (
        pytest.raises(DiskError, match=r"No space left.*5 MiB.*MiB are free.*--output.*--jobs 1") as error,
        share_rows(plain(), tmp_path),
    ):
        pass
    assert str(tmp_path) in str(error.value)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from sidelight.data import Dataset
from sidelight.data.mapped import share_rows
x = np.zeros((20_000, 64), np.float32)
data = Dataset("plain", {"x": x}, np.arange(20_000) % 2, np.ones(20_000, bool), "classification", ("a", "b"))
with share_rows(data, Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_leaves_is_removed_by_the_next(tmp_path):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode
    assert ended == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".rows.")
    assert left.name.endswith(".tmp")
    remove_leftovers(tmp_path)  # what `lock_run_folder` calls
    assert list(tmp_path.iterdir()) == []


# workers -------------------------------------------------------------------------------------------------------------

WORKER = """
import json, pathlib, pickle, sys, threading, time
import torch._dynamo
from sidelight.config import load_config
from sidelight.experiment import fold, pool
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import plan
from sidelight.experiment.resolve import resolve
from sidelight.methods import parse_methods

fold.PREPARED_AT_ONCE = 2**20
def private():
    text = pathlib.Path("/proc/self/smaps_rollup").read_text()
    return int(text.partition("Anonymous:")[2].split()[0]) * 1024

rows, out = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()), pathlib.Path(sys.argv[2])
for place in ("jobs", "shared", "checkpoints"):
    (out / place).mkdir(parents=True)
settings = {"data": "x", "available": ["x"], "privileged": ["z"], "methods": ["kl"], "folds": 2, "output": str(out)}
config = resolve(load_config(settings | {"training.epochs": 1, "training.batch_size": 4096}), rows)
jobs = [job for job in plan(config, parse_methods(config.methods), 2, [1.0]) if (job.fold, job.seed) == (0, 0)]
make = lambda fold, seed: FoldModels(
    config, rows, out, {}, fold, seed, made_with={"data": "", "encoders": {}, "methods": {}}
)
before, peak, ended = private(), 0, threading.Event()
def watch():
    global peak
    while not ended.wait(0.01):
        peak = max(peak, private())
watcher = threading.Thread(target=watch)
watcher.start()
try:
    pool._run_fold(make, jobs)
finally:
    ended.set()
    watcher.join()
print(json.dumps((peak - before) / sum(x.nbytes for x in rows.inputs.values())))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell what is private")
def test_a_worker_that_trains_and_tests_holds_no_copy_of_the_rows(tmp_path):
    """All that a worker allocates, from the folds to the table of predictions, is less than the rows themselves."""
    x = np.random.default_rng(0).standard_normal((2, 300_000, 64), dtype=np.float32)
    ones, y = np.ones(x.shape[1], bool), np.arange(x.shape[1]) % 2
    x[:, y == 1, 0] += 1
    data = Dataset("plain", {"x": x[0], "z": x[1]}, y, ones, "classification", ("a", "b"), group=np.arange(len(y)) % 9)
    with share_rows(data, tmp_path) as shared:
        sent = tmp_path / "sent"
        sent.write_bytes(pickle.dumps(shared))
        out = subprocess.run(
            [sys.executable, "-c", WORKER, str(sent), str(tmp_path / "run")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    assert out.returncode == 0, out.stderr
    assert 0 < json.loads(out.stdout) < 0.8


FIRST_STEP = """
import importlib, sys
import torch
from sidelight.experiment import pool
for name in pool.ON_FIRST_USE:
    importlib.import_module(name)
known = set(sys.modules)
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.AdamW([weight], fused=True)
weight.grad = torch.ones(3)
optimizer.step()
print(len(set(sys.modules) - known))
"""


@pytest.mark.slow
def test_the_server_of_the_workers_has_imported_what_a_first_step_imports():
    out = subprocess.run([sys.executable, "-c", FIRST_STEP], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 20
