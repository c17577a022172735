"""The examples do what they say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import sidelight as sl
from helpers import cluster
from helpers.small import table
from helpers.students import make_student
from sidelight.config import load_config
from sidelight.export import predict_file
from sidelight.methods import METHODS
from sidelight.suite import read_suite
from sidelight.testing import check_method

EXAMPLES = Path(__file__).parents[1] / "examples"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_experiment_can_be_read():
    files = sorted(EXAMPLES.glob("*.yaml"))
    assert files
    for file in files:
        if file.stem == "suite":
            assert len(read_suite(file).sets) == 5
        else:
            assert load_config(file).methods


def test_the_results_page_is_of_every_method():
    suite = read_suite(EXAMPLES.parent / "benchmarks" / "results.yaml")
    assert all({*METHODS} <= {*config.methods} for config in suite.sets.values())
    assert all({"pkdot", "pkdot+kl"} <= {*config.placebo} for config in suite.sets.values())


def test_the_loss_works_in_a_loop_of_ones_own():
    scores = module("own_loop").main(epochs=25)
    assert min(scores.values()) > 0.5  # chance is 0.1
    assert scores["teacher"] > scores["baseline"]


def test_a_method_of_ones_own_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sidelight.methods.METHODS", dict(METHODS))
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    arrays = {"a": rng.normal(size=(60, 3)) + y[:, None], "b": rng.normal(size=(60, 2)) + 2 * y[:, None]}
    data = sl.load({**arrays, "target": y, "group": np.arange(60) // 6}, name="tiny")
    with pytest.raises(sl.errors.ConfigError, match="huber"):
        sl.compare(data, ["a"], ["b"], ["huber"], output=str(tmp_path / "no"))
    METHODS["huber"] = module("own_method").Huber
    try:
        study = sl.compare(
            data, ["a"], ["b"], ["huber"], output=str(tmp_path / "run"), folds=2, seeds=1, jobs=1, quiet=True,
            placebo=["none"], training={"epochs": 2},
        )  # fmt: skip
    finally:
        METHODS.pop("huber", None)
    assert "huber" in study.table().index


def test_own_method_passes_its_checks():
    example = module("own_method")
    try:
        assert METHODS["huber"] is example.Huber
        check_method("huber", task="classification")
    finally:
        METHODS.pop("huber", None)


@pytest.mark.slow  # starts four interpreters; of the default run, tests/experiment/test_chaos.py kills one worker
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_three_workers_of_which_one_is_killed(tmp_path):
    """The example, on a real cluster: its jobs are those of a run without one, to the bit, whoever dies."""
    example, killed = module("three_workers"), []
    whole = example.compare(tmp_path / "whole")

    def kill() -> None:
        end = time.monotonic() + 120
        while not any((tmp_path / "run").glob("jobs/[!.]*")) and time.monotonic() < end:
            time.sleep(0.01)
        killed.append(cluster.workers_of(os.getpid())[0])
        cluster.kill(killed[0])

    killer = threading.Thread(target=kill)
    killer.start()
    study = example.main(tmp_path / "run")
    killer.join()
    assert killed
    assert len(whole.results) >= 9
    assert table(study.folder).equals(table(whole.folder))


SCALE = (EXAMPLES.parent / "docs" / "scale.md").read_text("utf-8")


def test_jobs_of_slurm_are_what_the_documentation_shows():
    with module("cluster/slurm").start_cluster() as jobs:
        script = jobs.job_script()
    asked = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    command = script[script.index("--nthreads") :].strip()
    assert "\n".join([*asked, "export OMP_NUM_THREADS=1"]) in script
    assert (
        command
        == "--nthreads 1 --memory-limit 3.73GiB --nanny --death-timeout 60 --lifetime 225m --lifetime-stagger 10m"
    )
    for line in (*asked, "export OMP_NUM_THREADS=1", command):
        assert line in SCALE, line


@pytest.mark.parametrize(
    ("kind", "walltime", "memory"),
    [("PBSCluster", "04:00:00", "#PBS -l select=1:ncpus=1:mem=3815MB"), ("LSFCluster", "04:00", "#BSUB -M 4000000")],
)
def test_memory_of_other_batch_systems_is_as_documented(kind, walltime, memory):
    """Each of dask-jobqueue's classes writes it in a unit of its own."""
    made = getattr(pytest.importorskip("dask_jobqueue"), kind)
    with made(cores=1, memory="4GB", walltime=walltime, scheduler_options={"dashboard": False}) as jobs:
        assert memory in jobs.job_script()
    assert memory in SCALE


def test_files_that_start_clusters_can_be_read():
    folder = EXAMPLES / "cluster"
    for file in folder.glob("*.sbatch"):
        subprocess.run(["bash", "-n", str(file)], check=True)
        said = file.read_text("utf-8")
        assert re.search(r"--resume .*--time-limit 3:50:00\ncode=\$\?\nif \[ \"\$code\" -eq 75 \]", said)
    spec = yaml.safe_load((folder / "kubernetes.yaml").read_text("utf-8"))["spec"]
    args = spec["worker"]["spec"]["containers"][0]["args"]
    assert args[args.index("--nthreads") + 1] == "1"
    assert spec["scheduler"]["service"]["ports"][0]["port"] == 8786


NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_keep_the_outputs_of_one_run(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum(bool(cell["outputs"]) for cell in code) >= len(code) / 2
    assert "/tmp/" not in json.dumps(outputs)
    assert path.stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_from_top_to_bottom(path, monkeypatch):
    pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(Path(sl.__file__).parents[1]))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures are shown in the notebook
    spec = importlib.util.spec_from_file_location("run_notebooks", EXAMPLES.parent / "tools" / "run_notebooks.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    kept, ran = json.loads(path.read_text("utf-8"))["cells"], tool.run(path).cells
    assert ["".join(cell["source"]) for cell in kept] == [cell.source for cell in ran]
    assert [bool(cell.get("outputs")) for cell in kept] == [bool(cell.get("outputs")) for cell in ran]


@pytest.mark.slow
def test_a_device_without_torch_gives_the_same_answers(tmp_path):
    student = make_student()
    rows = {"phone_acc": np.random.default_rng(0).normal(9.8, 3, (7, 20, 3)).astype(np.float32)}
    np.savez(tmp_path / "rows.npz", **rows)
    predict_file(student, tmp_path / "rows.npz", tmp_path / "expected.csv")
    student.export(tmp_path / "student.onnx")
    alone = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    alone += "finally: assert not {'torch', 'sidelight'} & {*sys.modules}"
    given = [EXAMPLES / "check_onnx.py", *(tmp_path / name for name in ("student.onnx", "rows.npz", "expected.csv"))]
    command = [sys.executable, "-c", alone, *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("7 rows, largest difference ")
    text = (tmp_path / "expected.csv").read_text().splitlines()
    cells = text[1].split(",")
    changed = [*cells[:2], str(float(cells[2]) + 0.01), *cells[3:]]
    (tmp_path / "expected.csv").write_text("\n".join([text[0], ",".join(changed), *text[2:]]))
    assert subprocess.run(command, capture_output=True).returncode == 1
