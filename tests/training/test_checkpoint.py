"""Checkpoints: whole or refused by name, and a run that was killed ends as if it had not been."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.support import AVAILABLE, make_network, make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.errors import RunError, SidelightWarning
from sidelight.methods import Supervised
from sidelight.training import fit
from sidelight.training.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from sidelight.utils.atomic import remove_leftovers

STATE = {"weights": torch.arange(1000.0), "epoch": 3, "words": ["a", "b"], "best": {"x": torch.ones(2)}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "state.pt"


@pytest.fixture
def saved(path):
    save_checkpoint(path, STATE, "job")
    return path


# the file ------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(saved):
    state = load_checkpoint(saved, "job")
    assert torch.equal(state["weights"], STATE["weights"])
    assert (state["epoch"], state["words"]) == (3, ["a", "b"])
    assert [p.name for p in saved.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, -1000, -1])
def test_a_truncated_file_is_refused_by_name(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"state\.pt is not a readable sidelight checkpoint .*Delete it"):
        load_checkpoint(saved, "job")


@pytest.mark.parametrize("content", [{"epoch": 3}, torch.ones(3), [1, 2], {"identity": "job", "state": {}}])
def test_a_torch_file_of_something_else_is_refused_by_name(path, content):
    path.parent.mkdir()
    torch.save(content, path)
    with pytest.raises(RunError, match=r"state\.pt is not a readable sidelight checkpoint"):
        load_checkpoint(path, "job")


@pytest.mark.parametrize("content", [b"a text, not a checkpoint\n", b"\x89PNG\r\n\x1a\n" + bytes(50), b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused_by_name(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"state\.pt is not a readable sidelight checkpoint"):
        load_checkpoint(path, "job")


def test_another_jobs_checkpoint_is_refused_with_both_names(saved):
    with pytest.raises(RunError, match=r"state\.pt was written for 'job', not for 'fold-2'"):
        load_checkpoint(saved, "fold-2")


def test_another_format_is_refused_with_both_numbers(path):
    path.parent.mkdir()
    torch.save({"format": FORMAT + 1, "content": "of a later version"}, path)
    with pytest.raises(RunError, match=f"checkpoint format {FORMAT + 1}, this version reads {FORMAT}"):
        load_checkpoint(path, "job")


class Harmful:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("torch_made", [True, False])
def test_a_pickle_that_would_execute_code_is_refused_and_does_not(path, tmp_path, torch_made):
    marker = tmp_path / "executed"
    path.parent.mkdir()
    content = {"format": FORMAT, "identity": "job", "state": Harmful(marker)}
    if torch_made:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(RunError, match="not a readable sidelight checkpoint"):
        load_checkpoint(path, "job")
    assert not marker.exists()
    with path.open("rb") as f:  # the file is harmful indeed
        torch.load(f, weights_only=False) if torch_made else pickle.load(f)
    assert marker.exists()


# no space ------------------------------------------------------------------------------------------------------------


def full(*args: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["torch.save", "os.replace", "os.fsync", "pathlib.Path.mkdir"])
def test_a_full_disk_leaves_the_previous_checkpoint(saved, monkeypatch, place):
    with monkeypatch.context() as m:
        m.setattr(place, full)
        with pytest.raises(
            RunError, match=r"could not write the checkpoint .*state\.pt: .*No space left.*Free some space"
        ):
            save_checkpoint(saved, {"epoch": 4}, "job")
    assert load_checkpoint(saved, "job")["epoch"] == 3
    assert [p.name for p in saved.parent.iterdir()] == ["state.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_device_that_is_full_leaves_the_previous_checkpoint(saved):
    saved.with_name(f".state.pt.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(RunError, match="could not write the checkpoint"):
        save_checkpoint(saved, {"weights": torch.zeros(100_000)}, "job")
    assert load_checkpoint(saved, "job")["epoch"] == 3
    assert [p.name for p in saved.parent.iterdir()] == ["state.pt"]


def test_what_a_kill_leaves_is_removed_when_a_run_goes_on(saved, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(os, "fsync", lambda _: sys.exit())
        with pytest.raises(SystemExit):
            save_checkpoint(saved, {"epoch": 4}, "job")
    assert len(list(saved.parent.iterdir())) == 2
    remove_leftovers(saved.parent)
    assert [p.name for p in saved.parent.iterdir()] == ["state.pt"]
    assert load_checkpoint(saved, "job")["epoch"] == 3


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="could not write the checkpoint"):
        save_checkpoint(tmp_path / "file" / "state.pt", STATE, "job")


# resuming ------------------------------------------------------------------------------------------------------------

ROWS = make_rows("classification", "both")


def fresh(reads=AVAILABLE) -> Supervised:
    return Supervised(make_network(reads, task_of("classification")), task_of("classification"))


def run(method, epochs=6, **more):
    return fit(
        method, ROWS, ROWS, TrainingConfig(epochs, epochs, 8, least_steps=1), seed=2, checkpoint_seconds=0, **more
    )


class Stop(Exception):
    pass


class StopAt:
    """A watch that counts, and stops the run at an epoch."""

    def __init__(self, epoch=None):
        self.epoch, self.seen = epoch, []

    def __call__(self, method, epoch):
        if epoch == self.epoch:
            raise Stop
        self.seen.append(epoch)

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])


def told(history):
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history.epochs], history.best_epoch


@pytest.mark.parametrize("stop", [1, 2, 5, 6])
def test_a_stopped_run_ends_like_an_uninterrupted_one(path, stop):
    whole, resumed, watch = fresh(), fresh(), StopAt()
    expected = told(run(whole))
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(stop))
    assert path.exists() is (stop > 1)
    torch.manual_seed(12345)  # whatever happened in between
    assert told(run(resumed, checkpoint=path, callback=watch)) == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    assert watch.seen == [0, 1, 2, 3, 4, 5, 6]


def test_the_clock_goes_on_after_a_resume(path):
    class Watched(Supervised):
        def terms(self, batch, state):
            seen.append((state.epoch, state.step))
            return super().terms(batch, state)

    seen: list[tuple[int, int]] = []
    network, task = fresh().network, task_of("classification")
    with pytest.raises(Stop):
        run(Watched(network, task), 4, checkpoint=path, callback=StopAt(3))
    del seen[6:]  # the third epoch was not saved
    run(Watched(network, task), 4, checkpoint=path, callback=StopAt())
    assert seen == [(step // 3, step) for step in range(12)]


def test_a_finished_run_is_not_trained_again(path):
    run(fresh(), checkpoint=path)
    before = path.read_bytes()
    again = fresh()
    again.terms = None  # no step is taken
    assert len(run(again, checkpoint=path).epochs) == 6
    assert path.read_bytes() == before


def test_seconds_add_up_over_a_resume(path):
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(4))
    before = load_checkpoint(path, "")["history"]["seconds"]
    assert run(fresh(), checkpoint=path, callback=StopAt()).seconds > before > 0


def test_a_score_of_numpy_can_be_resumed(path):
    class Scored(Supervised):
        def score(self, select):
            return np.float64(super().score(select))

    with pytest.raises(Stop):
        run(Scored(fresh().network, task_of("classification")), checkpoint=path, callback=StopAt(4))
    assert len(run(Scored(fresh().network, task_of("classification")), checkpoint=path, callback=StopAt()).epochs) == 6


def test_a_checkpoint_of_another_network_is_refused_by_name(path):
    run(fresh(), 2, checkpoint=path)
    with pytest.raises(RunError, match=r"state\.pt does not hold the state of this method"):
        run(fresh(("phone", "watch")), 2, checkpoint=path)


def test_a_full_disk_stops_the_run_and_resuming_loses_nothing(path, monkeypatch):
    whole, resumed = fresh(), fresh()
    run(whole)
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(3))
    with monkeypatch.context() as m:
        m.setattr("os.replace", full)
        with pytest.raises(RunError, match="No space left"):
            run(fresh(), checkpoint=path, callback=StopAt())
    run(resumed, checkpoint=path, callback=StopAt())
    assert all(torch.equal(v, resumed.state_dict()[name]) for name, v in whole.state_dict().items())


@pytest.mark.slow  # the stops above are in one process; test_features.py and test_distributed.py kill one
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_random_moments_the_result_has_the_same_bits(tmp_path):
    here = Path(__file__).parents[1] / "helpers"
    command = [sys.executable, str(here / "kill_and_resume.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] >= 3
    whole, killed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "killed"))
    assert len(whole[1]) == 12
    assert set(whole[3]) == {str(epoch) for epoch in range(13)}
    assert killed == whole


class DrawsFromNumpy(Supervised):
    """As an encoder with SpecAugment, it draws from numpy's global generator."""

    def terms(self, batch, state):
        terms = super().terms(batch, state)
        return {"task": terms["task"] * float(np.random.normal(1, 0.3))}  # noqa: NPY002


def test_numpys_random_state_goes_on_too(path):
    network, again = fresh().network, fresh().network
    expected = told(run(DrawsFromNumpy(network, task_of("classification"))))
    np.random.seed(99)  # noqa: NPY002
    with pytest.raises(Stop):
        run(DrawsFromNumpy(fresh().network, task_of("classification")), checkpoint=path, callback=StopAt(4))
    np.random.seed(5)  # noqa: NPY002
    assert told(run(DrawsFromNumpy(again, task_of("classification")), checkpoint=path, callback=StopAt())) == expected
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_a_checkpoint_of_an_earlier_version_goes_on_without_what_it_lacks(path):
    expected = told(run(fresh()))
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(4))
    old = load_checkpoint(path, "")
    for name in ("numpy_random", "device"):
        del old[name]
    save_checkpoint(path, old, "")
    assert told(run(fresh(), checkpoint=path, callback=StopAt())) == expected


def test_a_training_that_goes_on_on_another_device_says_so(path):
    with pytest.raises(Stop):
        run(fresh(), checkpoint=path, callback=StopAt(4))
    old = load_checkpoint(path, "")
    save_checkpoint(path, old | {"device": "cuda:0 (a GPU)", "device_random": {"cuda": torch.zeros(16)}}, "")
    with pytest.warns(SidelightWarning, match=r"state was begun on cuda:0 \(a GPU\) and goes on on cpu"):
        assert len(run(fresh(), checkpoint=path, callback=StopAt()).epochs) == 6
