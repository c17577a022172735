"""A run stores the code of methods that are not part of sidelight, and is not resumed when it has changed."""

from __future__ import annotations

import importlib
import json
import linecache
import shutil
import sys
from pathlib import Path

import pytest
import torch

from helpers.small import make_data, study
from sidelight.errors import RunError, SidelightWarning
from sidelight.experiment.code_digest import compute_digest, digest_own_methods
from sidelight.methods import METHODS, DistillationLoss, parse_methods
from sidelight.methods.pointwise import KL

CODE = '''
from sidelight.losses.pointwise import squared_error
from sidelight.methods import DistillationLoss


def distance(student, teacher):
    return squared_error(student, teacher)


def unused():
    return 1


class Own(DistillationLoss):
    """Follows the teacher, not unused()."""

    def forward(self, student, teacher, batch, task):
        return distance(student.prediction, teacher.prediction)
'''
TINY = {"methods": ["mse", "own"], "training": {"epochs": 1}, "transport": {"k": 4}}
FINISHED = "own-l1-f0-s0"


def imported(folder: Path, code: str, patch: pytest.MonkeyPatch) -> type[DistillationLoss]:
    """A user's module written and imported anew, its method registered."""
    (folder / "users_own.py").write_text(code)
    patch.syspath_prepend(str(folder))
    patch.setattr(sys, "dont_write_bytecode", True)
    patch.delitem(sys.modules, "users_own", raising=False)
    linecache.clearcache()
    patch.setitem(METHODS, "own", importlib.import_module("users_own").Own)
    return METHODS["own"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    yield lambda code=CODE: imported(tmp_path, code, monkeypatch)
    sys.modules.pop("users_own", None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        imported(folder, CODE, patch)
        made = study(folder / "run", make_data(), **TINY).folder
    sys.modules.pop("users_own")
    return made


@pytest.fixture
def begun(whole, tmp_path) -> Path:
    """A finished run of the method, to be gone on with."""
    return shutil.copytree(whole, tmp_path / "run")


def test_only_code_that_is_not_sidelights_is_remembered(written):
    written()
    assert list(digest_own_methods(parse_methods(["kl", "pkdot", "mse+own@crossfit"]).values())) == ["own"]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("student.prediction", "student.fused", False),
        ("return squared_error(student, teacher)", "return 2 * squared_error(student, teacher)", False),
        ("return 1", "return 2", True),
        ("class Own(DistillationLoss)", "class Base(DistillationLoss):\n    weight = 3.0\n\n\nclass Own(Base)", False),
    ],
)
def test_the_digest_is_of_the_class_and_what_it_names(written, old, new, same):
    before = compute_digest(written())
    assert len(before) == 64
    assert compute_digest(written()) == before
    assert CODE.count(old) == 1
    assert (compute_digest(written(CODE.replace(old, new))) == before) is same


def test_a_changed_method_is_refused_and_the_same_goes_on(begun, written):
    written()
    shutil.rmtree(begun / "jobs" / FINISHED)
    study(begun, make_data(), resume=True, **TINY)
    assert (begun / "jobs" / FINISHED).is_dir()
    written(CODE.replace("student.prediction", "-student.prediction"))
    with pytest.raises(RunError, match=r"the code of method .own. changed since .* another folder with --output"):
        study(begun, make_data(), resume=True, **TINY)
    METHODS["own"] = KL
    with pytest.raises(RunError, match="the code of method 'own' changed"):
        study(begun, make_data(), resume=True, **TINY)
    study(begun, make_data(), resume=True, **TINY | {"methods": ["mse"]})  # does not ask for it
    with pytest.raises(RunError, match="the code of method 'own' changed"):
        study(begun, make_data(), resume=True, **TINY)


def test_a_method_that_finished_nothing_may_be_mended(begun, written):
    """It is trained from its start; the jobs of other methods stay."""
    for job in (begun / "jobs").glob("own-*"):
        shutil.rmtree(job)
    for name in ("own-l1-f0-s0.pt", "mse-l1-f0-s0.pt"):
        (begun / "checkpoints" / name).write_bytes(b"half")
    kept = (begun / "jobs" / "mse-l1-f0-s0" / "job.json").read_bytes()
    written(CODE.replace("student.prediction", "student.prediction.tanh()"))
    study(begun, make_data(), resume=True, **TINY)
    assert (begun / "jobs" / FINISHED / "job.json").is_file()
    assert (begun / "jobs" / "mse-l1-f0-s0" / "job.json").read_bytes() == kept
    assert [path.name for path in (begun / "checkpoints").iterdir()] == ["mse-l1-f0-s0.pt"]
    remembered = json.loads((begun / "environment.json").read_text())["methods"]
    assert remembered == {"own": compute_digest(METHODS["own"])}


def test_code_without_a_source_is_unknown_and_warned_of(begun, monkeypatch):
    space = {"DistillationLoss": DistillationLoss, "__name__": "typed_in"}
    exec("class Own(DistillationLoss):\n    forward = None", space)
    assert compute_digest(space["Own"]) == "unknown"
    monkeypatch.setattr(space["Own"], "forward", lambda self, student, *_: torch.zeros_like(student.prediction).sum())
    monkeypatch.setitem(METHODS, "own", space["Own"])
    with pytest.warns(SidelightWarning, match="the source code of method 'own' is unknown"):
        study(begun, make_data(), resume=True, **TINY)


def test_a_run_of_an_earlier_version_goes_on(begun, written):
    told = json.loads((begun / "environment.json").read_text())
    del told["methods"]
    (begun / "environment.json").write_text(json.dumps(told))
    for file in begun.glob("jobs/*/job.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in record.items() if k not in ("sha256", "made_with")}))
    written(CODE.replace("student.prediction", "student.fused"))
    study(begun, make_data(), resume=True, **TINY)
    assert json.loads((begun / "environment.json").read_text())["methods"] == {"own": compute_digest(METHODS["own"])}
