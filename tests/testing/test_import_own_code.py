"""`--import` makes the user's own methods and encoders known to every verb, in every worker, and is recorded."""

from __future__ import annotations

import hashlib
import json
import linecache
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sidelight.cli import main
from sidelight.cli_parser import build_parser
from sidelight.errors import ConfigError
from sidelight.imports import Imported, import_own
from sidelight.methods import METHODS

METHOD = '''
import torch
import torch.nn.functional as F
from torch import nn
from sidelight.methods import METHODS, DistillationLoss

class Huber(DistillationLoss):
    """Huber distance between the predictions.

    Args:
        delta: where the square ends.
    """

    def __init__(self, delta: float = 1.0, weight: float = 1.0):
        super().__init__()
        self.delta, self.weight = delta, weight

    def forward(self, student, teacher, batch, task):
        return F.huber_loss(student.prediction, teacher.prediction, delta=self.delta)

METHODS["huber"] = Huber

def small(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[-1], 5), nn.Tanh())

ENCODERS = {"phone": small}
'''


@contextmanager
def forgotten_after() -> Iterator[None]:
    """What is imported and registered inside is gone afterwards, as it is for the next command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "dont_write_bytecode", True)
        before, modules = dict(METHODS), set(sys.modules)
        yield
        METHODS.clear()
        METHODS.update(before)
        for name in set(sys.modules) - modules:
            if name.startswith(("own_", "pack_")):
                del sys.modules[name]


@pytest.fixture(autouse=True)
def nothing_stays():
    with forgotten_after():
        yield


def written(folder: Path, name: str, code: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(64, 1))
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(
        path,
        phone=(rng.normal(size=(64, 4)) + hidden).astype(np.float32),
        watch=(rng.normal(size=(64, 3)) / 2 + hidden).astype(np.float32),
        target=(hidden[:, 0] > 0).astype(np.int64),
        group=np.array([f"g{i % 8}" for i in range(64)]),
    )
    return path


ASKED = [
    "--available", "phone", "--privileged", "watch", "--methods", "huber", "--folds", "2", "--seeds", "2",
    "--placebo", "none", "--quiet", "training.epochs=2",
]  # fmt: skip


def sidelight(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from sidelight.cli import main; sys.exit(main())"
    source = str(Path(__file__).parents[2] / "src")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, words)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A run of an own method with an own encoder."""
    folder = tmp_path_factory.mktemp("own")
    own = written(folder, "own_file.py", METHOD)
    with forgotten_after():
        assert main(["run", str(data), *ASKED, "--import", own, "--jobs", "1", "--output", str(folder / "run")]) == 0
    return folder / "run"


def check_run(run: Path) -> None:
    jobs = [path.parent.name for path in run.glob("jobs/huber-*/job.json")]
    assert len(jobs) == 4
    told = json.loads((run / "environment.json").read_text())
    source = run.parent / "own_file.py"
    assert told["imports"] == {"own_file.py": hashlib.sha256(source.read_bytes()).hexdigest()}
    assert told["encoders"] == {"phone": "own_file.small"}
    assert list(told["methods"]) == ["huber"]


def test_a_run_has_the_method_and_the_encoder(run):
    check_run(run)


@pytest.mark.slow  # three processes; `test_a_pool_of_processes_leaves_the_same_bits` has an own method in workers too
def test_a_run_with_workers_has_the_method_and_the_encoder(data, tmp_path):
    written(tmp_path, "own_file.py", METHOD)
    done = sidelight("run", data, *ASKED, "--import", "own_file.py", "--jobs", "2", "--output", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "run")


def test_resume_needs_it_and_refuses_changed_code(run, data, tmp_path, capsys):
    given = ["run", str(data), *ASKED, "--output", str(run), "--jobs", "1", "--resume"]
    assert main(given) == 2
    assert "unknown method 'huber'" in capsys.readouterr().err
    assert main(given) == 2
    assert "has to be registered first: --import FILE" in capsys.readouterr().err
    assert main([*given, "--import", str(run.parent / "own_file.py")]) == 0
    del sys.modules["own_file"]
    sys.path[:] = [place for place in sys.path if Path(place) != run.parent]
    changed = written(tmp_path, "own_file.py", METHOD.replace("nn.Tanh()", "nn.ReLU()"))
    assert main([*given, "--import", changed]) == 0
    assert "own_file.py changed since" in capsys.readouterr().err
    del sys.modules["own_file"]
    written(tmp_path, "own_file.py", METHOD.replace("delta=self.delta)", "delta=self.delta) / 2"))
    linecache.clearcache()
    assert main([*given, "--import", changed]) == 2
    assert "the code of method 'huber' changed" in capsys.readouterr().err


def test_every_verb_that_reads_the_run_takes_it(run, data, capsys, no_figures):
    own = ["--import", str(run.parent / "own_file.py")]
    assert main(["report", str(run), *own]) == 0
    assert main(["predict", str(run), str(data), "--ignore-privileged"]) == 2
    assert "its own module for 'phone'" in capsys.readouterr().err
    assert main(["predict", str(run), str(data), "--ignore-privileged", *own]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 65
    assert main(["export", str(run), "--output", str(run / "again.safetensors"), *own]) == 0
    assert (run / "again.safetensors").is_file()
    assert main(["refit", str(run), *own]) == 0
    assert main(["predict", str(run / "refit"), str(data), "--ignore-privileged", *own]) == 0
    assert main(["inspect", str(data), *own]) == 0


def test_methods_shows_an_own_method_whole(tmp_path, capsys):
    own = written(tmp_path, "own_shown.py", METHOD)
    assert main(["methods", "huber", "--import", own]) == 0
    said = capsys.readouterr().out
    assert "options.huber.delta=1.0: where the square ends." in said
    assert "options.huber.weight=1.0: λ, the weight of the loss" in said
    assert main(["methods", "hubr", "--import", own]) == 2
    assert "Did you mean 'huber'" in capsys.readouterr().err


def test_several_files_and_a_dotted_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = written(tmp_path, "own_one.py", METHOD.replace('"huber"', '"one"'))
    written(tmp_path, "pack_own/__init__.py", "")
    written(tmp_path, "pack_own/two.py", METHOD.replace('"huber"', '"two"').replace('"phone"', '"watch"'))
    found = import_own([one, "pack_own.two"])
    assert {"one", "two"} <= METHODS.keys()
    assert list(found.encoders) == ["phone", "watch"]
    assert list(found.files) == ["own_one.py", "pack_own.two"]
    assert import_own([one]).encoders.keys() == {"phone"}  # once more in the same process
    with pytest.raises(ConfigError, match="the encoder of 'phone' was given by another --import"):
        import_own([one, written(tmp_path, "own_three.py", METHOD)])


def test_nothing_is_asked_for_without_it():
    assert import_own([]) == Imported({}, {})


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("own_raises.py", "x = 1\ny = unheard_of\n", r"fails with NameError: .*unheard_of.* \(own_raises.py, line 2\)"),
        ("own_syntax.py", "x = 1\ndef f(:\n", r"fails with SyntaxError: .* \(own_syntax.py, line 2\)"),
        ("own_exits.py", "raise SystemExit(3)\n", "fails with SystemExit: 3"),
        ("own_needs.py", "import not_there_at_all\n", "fails with ModuleNotFoundError: .*'not_there_at_all'"),
        ("own_nothing.py", "x = 1\n", "it registers nothing. Expected METHODS"),
        ("own_encoders.py", "ENCODERS = {'phone': 3}\n", "ENCODERS must map modalities to functions"),
        ("json.py", "x = 1\n", "a module named 'json' exists already; give the file another name"),
        ("own-name.py", "x = 1\n", "expected a file whose name can be imported"),
        ("own_text.txt/", "", "there is no such file"),
    ],
)
def test_a_file_that_cannot_serve_is_named(tmp_path, name, code, message):
    path = written(tmp_path, name, code) if not name.endswith("/") else str(tmp_path / name)
    with pytest.raises(ConfigError, match=rf"--import .*{message}"):
        import_own([path])


@pytest.mark.parametrize(("name", "message"), [("own_missing.py", "no such file"), ("own_no.module", "no such module")])
def test_what_is_missing_is_named(name, message, capsys):
    assert main(["methods", "--import", name]) == 2
    assert message in capsys.readouterr().err


def test_it_runs_before_anything_else(tmp_path, capsys):
    """Also where the verb would fail for another reason."""
    own = written(tmp_path, "own_first.py", "print('own code')\nraise ValueError('mine')\n")
    assert main(["run", "no-such-data", "--import", own]) == 2
    out, err = capsys.readouterr()
    assert out == "own code\n"
    assert "ValueError: mine" in err


def test_every_verb_but_doctor_takes_it():
    verbs = next(action.choices for action in build_parser()._actions if isinstance(action.choices, dict))
    assert {name for name, verb in verbs.items() if "--import" in verb._option_string_actions} == {*verbs} - {"doctor"}


def test_nothing_that_a_run_folder_names_is_imported(run, monkeypatch, capsys, no_figures):
    """The name of the file stands in environment.json, and the file beside the run; neither is enough."""
    monkeypatch.chdir(run.parent)
    assert main(["refit", str(run)]) == 2
    assert "own_file" not in sys.modules
    assert main(["report", str(run)]) == 0
    assert "own_file" not in sys.modules
