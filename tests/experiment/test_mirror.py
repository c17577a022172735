"""A run folder at a URL: the same bits, whoever works on it, and leases that hold without a file system."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from helpers.small import differing, make_data, outcome, study, table
from sidelight.errors import ConfigError, DiskError, RunError
from sidelight.experiment import models
from sidelight.experiment.leases import hold, is_used
from sidelight.experiment.mirror import mirror_of, open_mirror
from sidelight.experiment.object_leases import ObjectLease
from sidelight.suite.file import read_suite

TINY: dict[str, Any] = {"methods": ["kl"], "self_distillation": ["none"], "training": {"epochs": 2, "patience": 2}}


@pytest.fixture(scope="module")
def data():
    return make_data(n=96, groups=8)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run in a folder."""
    return study(tmp_path_factory.mktemp("whole") / "run", data, **TINY).folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Makes a machine of its own, which shares nothing but the URL with the others."""

    def move(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name / "runs" / "first"

    return move


@pytest.fixture
def url(tmp_path) -> str:
    return f"file://{tmp_path}/store/first"


def same(run: Path, whole: Path) -> None:
    assert differing(outcome(run), outcome(whole)) == []
    assert table(run).equals(table(whole))


def test_workers_that_share_nothing_but_a_url_leave_the_same_bits(data, whole, url, place, tmp_path):
    here = place("client")
    with ThreadPoolExecutor(2) as executor:
        study(url, data, executor=executor, **TINY)
    same(here, whole)
    there = tmp_path / "store" / "first"
    assert differing(outcome(there), outcome(whole)) == []
    assert (there / "summary.json").read_bytes() == (here / "summary.json").read_bytes()
    assert not [p for p in there.rglob("*") if ".work" in p.parts and p.is_file()], "leases and rows are removed"


def test_another_machine_goes_on_with_what_one_has_begun(data, whole, url, place, monkeypatch):
    place("one")
    store, stored = models.store_job, []

    def die(folder, job, *rest):
        if len(stored) == 4:
            raise KeyboardInterrupt
        stored.append(job.id)
        store(folder, job, *rest)

    monkeypatch.setattr(models, "store_job", die)
    with pytest.raises(KeyboardInterrupt):
        study(url, data, **TINY)
    monkeypatch.setattr(models, "store_job", lambda f, job, *rest: (stored.append(job.id), store(f, job, *rest)))
    here = place("two")
    with pytest.raises(RunError, match=r"already holds this run\. Continue it with --resume"):
        study(url, data, **TINY)
    with pytest.raises(RunError, match=r"belongs to another configuration:\n  training\.epochs: 2 there, 3 here"):
        study(url, data, resume=True, **TINY | {"training": {"epochs": 3}})
    study(url, data, resume=True, **TINY)
    assert len(set(stored)) == len(stored), "no job is trained twice"
    same(here, whole)


def test_failures_and_checkpoints_that_are_gone_here_go_there(url, place, tmp_path):
    place("one")
    mirror, there = open_mirror(url), tmp_path / "store" / "first"
    for name in ("failed/kl-l1-f0-s0.json", "checkpoints/kl-l1-f0-s0.pt", "checkpoints/kl-l1-f1-s0.pt"):
        (mirror.folder / name).parent.mkdir(exist_ok=True)
        (mirror.folder / name).write_text("x")
    mirror.push()
    for name in ("failed/kl-l1-f0-s0.json", "checkpoints/kl-l1-f0-s0.pt"):
        (mirror.folder / name).unlink()
    (mirror.folder / "checkpoints/kl-l1-f1-s0.pt").write_text("newer")
    mirror.push(["f0-s0"])
    assert [p.name for p in there.glob("*/*") if p.is_file()] == ["kl-l1-f1-s0.pt"]
    assert (there / "checkpoints/kl-l1-f1-s0.pt").read_text() == "x"
    place("two")
    other = open_mirror(url)
    other.pull(["f1-s0"])
    assert (other.folder / "checkpoints/kl-l1-f1-s0.pt").read_text() == "x"
    mirror.folder = tmp_path / "one" / "runs" / "first"
    place("one")
    mirror.push(["f1-s0"])
    place("two")
    other.pull(["f1-s0"])
    assert (other.folder / "checkpoints/kl-l1-f1-s0.pt").read_text() == "newer"


def test_a_job_without_its_record_is_no_job(url, place, tmp_path):
    there = tmp_path / "store" / "first"
    place("one")
    mirror = open_mirror(url)
    (there / "jobs/kl-l1-f0-s0").mkdir(parents=True)
    (there / "jobs/kl-l1-f0-s0/predictions.csv").write_text("half")
    mirror.pull()
    assert not (mirror.folder / "jobs").exists()
    (there / "jobs/kl-l1-f0-s0/job.json").write_text("{}")
    mirror.pull(["f1-s0"])
    assert not (mirror.folder / "jobs").exists()
    mirror.pull(["f0-s0"])
    assert sorted(p.name for p in (mirror.folder / "jobs/kl-l1-f0-s0").iterdir()) == ["job.json", "predictions.csv"]


def test_a_copy_that_is_damaged_or_no_folder_is_said(url, place):
    copy = place("one")
    assert open_mirror(f"{url}/") is open_mirror(url)
    for text in ("", "{", "[]", "{}"):
        (copy / ".mirror.json").write_text(text)
        with pytest.raises(RunError, match=r"\.mirror\.json is damaged: expected the URL"):
            open_mirror(url)
    copy = place("two")
    copy.parent.mkdir()
    copy.write_text("a file")
    with pytest.raises(RunError, match="is no copy of"):
        open_mirror(url)


# leases -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    (tmp_path / "leases").mkdir()
    return fsspec.filesystem("file"), str(tmp_path / "leases")


def test_leases_of_a_run_at_a_url_hold_for_every_copy(url, place):
    one = place("one")
    open_mirror(url)
    with hold(one, ["f0-s0", "f1-s0"]) as mine:
        assert mine
        two = place("two")
        open_mirror(url)
        with hold(two, ["f1-s0"]) as other, hold(two, ["f2-s0"]) as free:
            assert (other, free) == (False, True)
            assert is_used(two)
    with hold(two, ["f1-s0"]) as free:
        assert free
    assert not is_used(two)


def test_a_holder_that_stands_still_is_replaced_by_one_alone(store):
    dead = ObjectLease(*store, "f0-s0", 0.2, heartbeat=100)
    dead.token = "another-host 1 x"
    dead.acquire()
    waiting = [ObjectLease(*store, "f0-s0", 0.2, heartbeat=0.02) for _ in range(4)]
    assert not any(lease._try() for lease in waiting)
    time.sleep(0.3)
    for lease in waiting:
        lease._seen = lease._read(), 0.0  # each has waited long enough
    with ThreadPoolExecutor(4) as at_once:
        got = [lease for lease, held in zip(waiting, at_once.map(lambda lease: lease._try(), waiting)) if held]
    assert len(got) <= 1, "two hold it"
    if not got:
        waiting[0]._seen = waiting[0]._read(), 0.0
        assert waiting[0]._try()
    dead.release()  # it comes back, and takes nothing away
    assert len(waiting[0]._read()) == 1


def test_a_holder_that_renews_is_not_replaced(store):
    held, other = (ObjectLease(*store, "f0-s0", 0.15, heartbeat=0.02) for _ in range(2))
    held.token = "another-host 1 x"
    held.acquire()
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        assert not other._try()
        time.sleep(0.02)
    held.release()
    assert other._try()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_dead_process_of_this_machine_is_replaced_at_once(store):
    pid = os.fork()
    if pid == 0:
        ObjectLease(*store, "f0-s0", 1000)._try()
        os._exit(0)
    os.waitpid(pid, 0)
    assert ObjectLease(*store, "f0-s0", 1000)._try()


# what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_store_without_exclusive_creation_is_refused(url, place, monkeypatch, data):
    place("one")
    opened = LocalFileSystem.open
    monkeypatch.setattr(
        LocalFileSystem, "open", lambda fs, path, mode="rb", **m: opened(fs, path, mode.replace("x", "w"), **m)
    )
    with pytest.raises(ConfigError, match="does not refuse to create an object that is there already"):
        study(url, data, **TINY)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://bucket/run", "cannot be opened: .*Install the package of fsspec"),
        ("file:///a/b/..", "must end in a name for the run"),
    ],
)
def test_urls_that_are_none(url, message, place, data):
    place("one")
    with pytest.raises(ConfigError, match=message):
        study(url, data, **TINY)


def test_a_place_that_is_taken(url, place, data):
    here = place("one")
    here.mkdir(parents=True)
    (here / "mine.txt").touch()
    with pytest.raises(RunError, match=r"is no copy of file://.*Move it away"):
        study(url, data, **TINY)
    (here / "mine.txt").unlink()
    open_mirror(url)
    with pytest.raises(RunError, match=r"is the copy of file://.*, not of file://"):
        open_mirror(url.replace("store", "other"))
    with pytest.raises(ConfigError, match="the folder of a suite is on a file system"):
        read_suite({"sets": {"a": {"data": "phone-watch"}}}, (), url)


def test_a_store_that_cannot_be_reached_any_more(url, place, data, monkeypatch, whole):
    here = place("one")
    put, sent = LocalFileSystem.put_file, []

    def fail(self, *args, **more):
        sent.append(args)
        if len(sent) > 20:
            raise ConnectionError("no route to host")
        return put(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", fail)
        with pytest.raises(
            DiskError, match=r"cannot exchange files with file://.*no route to host.*continue with --resume"
        ):
            study(url, data, **TINY)
    study(url, data, resume=True, **TINY)
    same(here, whole)
    assert mirror_of(here)


def test_sending_a_job_asks_for_no_other(url, place, monkeypatch):
    """What a run of ten thousand jobs costs for one more does not depend on them; nor is what was fetched sent."""
    place("one")
    mirror = open_mirror(url)

    def finish(name: str) -> None:
        folder = mirror.folder / "jobs" / f"{name}-l1-f0-s0"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text("{}")
        (folder / "curves.csv").write_text("1")

    for k in range(5):
        finish(f"m{k}")
    mirror.push(["f0-s0"])
    asked, exists = [], LocalFileSystem.exists
    monkeypatch.setattr(LocalFileSystem, "exists", lambda fs, path, **more: asked.append(path) or exists(fs, path))
    finish("kl")
    mirror.push(["f0-s0"])
    assert len(asked) == 1
    place("two")
    other = open_mirror(url)
    other.pull()
    assert len(list((other.folder / "jobs").iterdir())) == 6
    asked.clear()
    other.push()
    assert asked == []


def test_what_was_deleted_there_is_sent_again_at_the_end(url, place, tmp_path):
    place("one")
    mirror, there = open_mirror(url), tmp_path / "store" / "first"
    for name in ("jobs/kl-l1-f0-s0/job.json", "shared/teacher-l1-f0-s0-tnets.safetensors", "config.yaml"):
        (mirror.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror.folder / name).write_text("{}")
    mirror.push()
    sent = sorted(p.relative_to(there) for p in there.rglob("*") if p.is_file())
    shutil.rmtree(there)
    mirror.push()
    assert sorted(p.relative_to(there) for p in there.rglob("*") if p.is_file()) == sent
    assert len(sent) == 3
