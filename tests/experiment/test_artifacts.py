"""A run folder that was damaged: `resume` trains again and names, `report` says, every other reader refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import sidelight as sl
from helpers.no_figures import leave_out_figures
from helpers.small import differing, make_data, outcome, study, table
from helpers.support import AVAILABLE, distillation_subject, make_network, make_rows, task_of
from sidelight.config import TrainingConfig
from sidelight.errors import RunError, SidelightWarning
from sidelight.experiment import Study, artifacts
from sidelight.experiment.artifacts import is_stored, write_predictions
from sidelight.experiment.plan import Job
from sidelight.experiment.refit import refit
from sidelight.extract.shards import Shards
from sidelight.methods import Supervised
from sidelight.report import write_report
from sidelight.results import load_results
from sidelight.training import fit
from sidelight.training.checkpoint import compute_digest, load_checkpoint, save_checkpoint

SETTINGS: dict[str, Any] = {"methods": ["pkdot", "mse@crossfit"], "training": {"epochs": 2}}
JOB, BASELINE = "pkdot-l1-f0-s0", "baseline-l1-f1-s0"
TNETS, CROSSFIT = "teacher-l1-f0-s0-tnets", "teacher-l1-f0-s0-crossfit"


@pytest.fixture(scope="module")
def data():
    return make_data(n=96, groups=8)


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Pages have no figures, and a run writes no report: `page` does."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_figures(patch)
        patch.setattr(Study, "report", lambda self, path=None: self.folder / "report.html")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data) -> Path:
    return study(tmp_path_factory.mktemp("whole") / "run", data, **SETTINGS).folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, data) -> Path:
    """The same settings with other data."""
    return study(tmp_path_factory.mktemp("foreign") / "run", other(data), **SETTINGS).folder


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def resume(run: Path, data: Any, whole: Path) -> None:
    """Goes on with the run, which then is the one that nothing happened to."""
    study(run, data, resume=True, **SETTINGS)
    assert differing(outcome(run), outcome(whole)) == []
    assert table(run).equals(table(whole))


def page(run: Path) -> str:
    return re.sub(r"<[^>]*>", "", write_report(run).read_text())


def flip(file: Path, share: float = 0.5) -> None:
    content = bytearray(file.read_bytes())
    content[int(len(content) * share)] ^= 0x01
    file.write_bytes(content)


DAMAGES = {
    "truncated": lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2]),
    "empty": lambda f: f.write_bytes(b""),
    "flipped": flip,
    "not UTF-8": lambda f: f.write_bytes(b"\xff\xfe\xe9" + f.read_bytes()[3:]),
    "a folder": lambda f: (f.unlink(), f.mkdir()),
    "gone": Path.unlink,
}


# jobs ---------------------------------------------------------------------------------------------------------------


def test_damaged_jobs_are_trained_again_and_named(run, data, whole):
    damaged = [("job.json", damage) for damage in DAMAGES]
    damaged += [("model.safetensors", "flipped"), ("predictions.csv", "truncated")]
    jobs = sorted((run / "jobs").iterdir())
    assert len(jobs) == len(damaged)
    for job, (name, damage) in zip(jobs, damaged):
        DAMAGES[damage](job / name)
    with pytest.warns(SidelightWarning) as caught:
        resume(run, data, whole)
    said = "\n".join(str(w.message) for w in caught)
    for job, (name, _) in zip(jobs, damaged):
        assert re.search(rf"{re.escape(job.name)}/{name} .*The job is trained again", said), (job, name)


@pytest.mark.parametrize(
    ("name", "damage"), [("curves.csv", "flipped"), ("similarity.safetensors", "gone"), ("model.safetensors", "empty")]
)
def test_the_files_beside_the_record(run, name, damage):
    job = Job("pkdot", "", 1.0, 0, 0)
    assert is_stored(run, job)
    DAMAGES[damage](run / "jobs" / JOB / name)
    with pytest.warns(SidelightWarning, match=rf"{re.escape(JOB)}/{name} is missing or was changed"):
        assert not is_stored(run, job)
    assert not (run / "jobs" / JOB).exists()


def test_a_digit_of_a_score_and_a_cut_line_are_damage(run, data, whole):
    record = run / "jobs" / JOB / "job.json"
    told = json.loads(record.read_text())
    told["metrics"]["accuracy"] += 0.25
    record.write_text(json.dumps(told, indent=1))
    predictions = run / "jobs" / BASELINE / "predictions.csv"
    predictions.write_text("".join(predictions.read_text().splitlines(keepends=True)[:-1]))
    with pytest.warns(SidelightWarning, match="does not match its checksum"):
        said = page(run)
    assert f"{JOB}/job.json is not a complete job file (its content does not match its checksum)" in said
    assert f"{BASELINE}/predictions.csv cannot be read" in said
    with pytest.warns(SidelightWarning) as caught:
        resume(run, data, whole)
    said = " ".join(str(w.message) for w in caught)
    assert "does not match its checksum" in said
    assert f"{BASELINE}/predictions.csv" in said


def test_a_readable_description_is_written_again_and_costs_no_training(run, data, whole):
    before = (run / "jobs" / JOB / "job.json").read_bytes()
    (run / "jobs" / JOB / "model.json").write_text("{")
    resume(run, data, whole)
    assert (run / "jobs" / JOB / "job.json").read_bytes() == before


def test_renamed_and_copied_jobs(run, data, whole):
    jobs = run / "jobs"
    os.rename(jobs / JOB, jobs / "x")
    os.rename(jobs / "pkdot-l1-f1-s0", jobs / JOB)
    os.rename(jobs / "x", jobs / "pkdot-l1-f1-s0")
    with pytest.warns(SidelightWarning, match=r"belongs to the job 'pkdot-l1-f1-s0', not to 'pkdot-l1-f0-s0'"):
        assert len(load_results(run)) == len(load_results(whole)) - 2
    assert "its folder was renamed or copied" in page(run)
    with pytest.warns(SidelightWarning, match="renamed or copied.*trained again"):
        resume(run, data, whole)


def test_models_of_two_jobs_in_each_others_place(run, data, whole):
    a, b = (run / "jobs" / f"teacher-l1-f{fold}-s0" / "model.safetensors" for fold in (0, 1))
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    with pytest.warns(SidelightWarning, match=r"f0-s0/model\.safetensors is missing or was changed"):
        resume(run, data, whole)


def test_jobs_of_an_earlier_version_are_gone_on_with(run, data, whole):
    """Without checksums, digests of data and metadata in what is shared: nothing is trained again."""
    for file in run.glob("jobs/*/job.json"):
        told = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in told.items() if k not in ("sha256", "made_with")}))
    for file in [*run.glob("shared/*"), *run.glob("jobs/*/*.safetensors")]:
        with safe_open(file, "pt") as opened:
            told = {k: v for k, v in (opened.metadata() or {}).items() if k == "sidelight"}
        save_file(load_file(file), file, metadata=told or None)
    before = {file: file.stat().st_mtime_ns for file in run.glob("jobs/*/job.json")}
    study(run, data, resume=True, **SETTINGS)
    assert {file: file.stat().st_mtime_ns for file in run.glob("jobs/*/job.json")} == before
    assert table(run).equals(table(whole))


# data and settings --------------------------------------------------------------------------------------------------


def other(data):
    inputs = {m: x.copy() for m, x in data.inputs.items()}
    inputs["phone"][0, 0] += 1
    return sl.data.Dataset(**{**vars(make_data(n=96, groups=8)), "inputs": inputs})


def test_without_a_readable_environment_the_jobs_say_which_data_they_are_of(run, data, whole):
    for damage in ("truncated", "not UTF-8", "gone"):
        DAMAGES[damage](run / "environment.json")
        with pytest.warns(SidelightWarning, match=r"environment\.json cannot be read\. It is written again"):
            resume(run, data, whole)
    (run / "environment.json").unlink()
    with pytest.raises(RunError, match=r"the data changed since .*run was started"):
        study(run, other(data), resume=True, **SETTINGS)
    with pytest.raises(RunError, match="the data changed since"):
        refit(run, other(data))


def test_an_environment_of_other_data_does_not_let_them_in(run, data, whole, foreign):
    """A single job, or all of them, whatever environment.json says."""
    changed = other(data)
    shutil.copy(foreign / "environment.json", run / "environment.json")
    with pytest.raises(RunError, match="the data changed since"):
        study(run, changed, resume=True, **SETTINGS)
    assert "environment.json names other data than the jobs" in page(run)
    resume(run, data, whole)
    shutil.rmtree(run / "jobs" / JOB)
    shutil.copytree(foreign / "jobs" / JOB, run / "jobs" / JOB)
    with pytest.raises(RunError, match=rf"the data changed since the job {JOB} in .* was trained"):
        study(run, data, resume=True, **SETTINGS)
    with pytest.warns(SidelightWarning, match=rf"1 of 8 jobs were trained on other data than baseline.*\({JOB}\)"):
        assert "jobs were trained on other data" in page(run)
    with pytest.raises(RunError, match="refit needs a complete run: 1 of 8 jobs"):
        refit(run, data)


def test_an_environment_that_cannot_be_read_beside_jobs_that_do_not_say(run, data):
    (run / "environment.json").unlink()
    for file in run.glob("jobs/*/job.json"):
        told = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in told.items() if k not in ("sha256", "made_with")}))
    for act in (lambda: study(run, data, resume=True, **SETTINGS), lambda: refit(run, data)):
        with pytest.raises(RunError, match=r"environment\.json cannot be read.*Restore the file from a copy"):
            act()


def test_what_was_begun_with_other_data_and_finished_nothing_is_begun_anew(run, data, foreign):
    """T-Nets and checkpoints of the first data set do not teach on the second."""
    changed = other(data)
    (run / "environment.json").unlink()
    shutil.rmtree(run / "jobs")
    (run / "jobs").mkdir()
    study(run, changed, resume=True, **SETTINGS)
    assert differing(outcome(run), outcome(foreign)) == []


def test_a_configuration_that_cannot_be_read_is_written_anew_where_the_jobs_agree(run, data, whole):
    for damage in ("empty", "not UTF-8", "gone"):
        DAMAGES[damage](run / "config.yaml")
        with pytest.warns(SidelightWarning, match=r"config\.yaml cannot be used .*the protocol is taken from the jobs"):
            assert load_results(run).attrs["protocol"] == "group-kfold"
        with pytest.raises(RunError, match=r"trained with other settings:\s+network.width: 8 there, 9 here"):
            study(run, data, resume=True, **SETTINGS, network={"width": 9})
        resume(run, data, whole)
    kept = [
        [x for x in (f / "config.yaml").read_text().splitlines() if not x.startswith("output:")] for f in (run, whole)
    ]
    assert kept[0] == kept[1]


def test_a_configuration_of_another_run_does_not_let_other_settings_in(run, data, whole):
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("width: 8", "width: 9"))
    with pytest.raises(RunError, match=r"trained with other settings:\s+network.width: 8 there, 9 here"):
        study(run, data, resume=True, **SETTINGS, network={"width": 9})
    with pytest.warns(
        SidelightWarning, match=r"differs from the settings that the jobs were trained with \(network\.width\)"
    ):
        resume(run, data, whole)


def test_what_is_derived_is_written_again(run, data, whole):
    same = ("results.csv", "summary.json", "plan.json", "student/student.safetensors", "student/student.json")
    for shift in range(2):  # every file is damaged in two ways, and in each way some file
        for i, name in enumerate(same):
            DAMAGES[("truncated", "empty", "not UTF-8", "gone")[(i + 2 * shift) % 4]](run / name)
        resume(run, data, whole)
        for name in same:
            assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("name", ["results.csv", "summary.json", "config.yaml", "environment.json", "plan.json"])
def test_a_folder_in_the_place_of_a_file_is_named(run, data, name):
    DAMAGES["a folder"](run / name)
    with pytest.raises(RunError, match=rf"{name}.*(A folder has this name: move it away|Is a directory)"):
        study(run, data, resume=True, **SETTINGS)


@pytest.mark.parametrize("name", ["jobs", "shared", "checkpoints"])
def test_a_file_in_the_place_of_a_folder_is_named(run, data, name):
    shutil.rmtree(run / name)
    (run / name).write_text("")
    with pytest.raises(RunError, match=rf"{name} is not a folder|{name}.*Not a directory"):
        study(run, data, resume=True, **SETTINGS)


# what jobs share ----------------------------------------------------------------------------------------------------


def test_damaged_shared_networks_are_made_again(run, data, whole):
    names = [TNETS, CROSSFIT, TNETS.replace("f0", "f1"), CROSSFIT.replace("f0", "f1")]
    for name, damage in zip(names, ("flipped", "truncated", "empty", "not UTF-8")):
        DAMAGES[damage](run / "shared" / f"{name}.safetensors")
    for job in [*run.glob("jobs/pkdot-*"), *run.glob("jobs/mse*")]:
        shutil.rmtree(job)
    with pytest.warns(SidelightWarning) as caught:
        resume(run, data, whole)
    said = "\n".join(str(w.message) for w in caught)
    for name in names:
        assert re.search(rf"{name}\.safetensors.*It is made again", said)


def test_shared_networks_of_another_fold_are_made_again(run, data, whole):
    a, b = (run / "shared" / TNETS.replace("f0", f"f{fold}") for fold in (0, 1))
    a, b = a.with_suffix(".safetensors"), b.with_suffix(".safetensors")
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    for fold in (0, 1):
        shutil.rmtree(run / "jobs" / f"pkdot-l1-f{fold}-s0")
    with pytest.warns(SidelightWarning, match="was stored as 'teacher-l1-f1-s0-tnets', or belongs to other data"):
        resume(run, data, whole)


def test_shared_networks_with_nan_and_no_checksum_do_not_teach(run, data, whole):
    file = run / "shared" / f"{TNETS}.safetensors"
    tensors = load_file(file)
    next(t for t in tensors.values() if t.is_floating_point()).view(-1)[0] = torch.nan
    save_file(tensors, file)
    shutil.rmtree(run / "jobs" / JOB)
    with pytest.warns(SidelightWarning, match="holds NaN or infinity.*It is made again"):
        resume(run, data, whole)


# other verbs --------------------------------------------------------------------------------------------------------


def test_refit_wants_a_whole_run(run, data):
    DAMAGES["truncated"](run / "jobs" / JOB / "job.json")
    with pytest.raises(RunError, match=r"refit needs a complete run: .*job\.json is not a complete job file"):
        refit(run, data)


def test_refit_is_not_gone_on_with_from_damage(run, data, monkeypatch):
    reference = (refit(run, data) / "student.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        refit(run, data)
    for job in (run / "refit-work" / "jobs").iterdir():
        flip(job / "model.safetensors", 0.9)
    with pytest.warns(SidelightWarning, match="The job is trained again"):
        assert (refit(run, data) / "student.safetensors").read_bytes() == reference


def test_the_report_says_that_settings_or_environment_are_not_those_of_the_run(run):
    said = page(run)
    assert "checksum" not in said
    assert "not as the run wrote it" not in said
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("width: 8", "width: 9"))
    assert "config.yaml was changed after the run wrote it" in page(run)
    file = run / "environment.json"
    file.write_text(file.read_text().replace('"torch": "2', '"torch": "3'))
    assert "environment.json does not match its checksum" in page(run)


def test_the_report_says_what_it_left_out(run):
    DAMAGES["truncated"](run / "jobs" / JOB / "job.json")
    DAMAGES["empty"](run / "environment.json")
    DAMAGES["not UTF-8"](run / "config.yaml")
    DAMAGES["truncated"](run / "plan.json")
    with pytest.warns(SidelightWarning, match="is not a complete job file"):
        said = page(run)
    for words in (
        f"{JOB}/job.json is not a complete job file",
        "environment.json cannot be read",
        "config.yaml cannot be used",
        "plan.json cannot be read",
    ):
        assert words in said
    with pytest.warns(SidelightWarning, match="is not a complete job file"):
        assert len(Study(run).results) == 7


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.97])
def test_a_student_with_a_flipped_byte_does_not_predict(run, share):
    file = run / "student" / "student.safetensors"
    sl.load_student(run)
    flip(file, share)
    with pytest.raises(RunError, match=r"student\.safetensors"):
        sl.load_student(run)
    with pytest.raises(RunError, match=r"student\.safetensors"):
        sl.load_student(file).export(run / "out.safetensors")


@pytest.mark.parametrize("part", ["network.", "preprocessor."])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_and_statistics_that_are_not_finite_do_not_predict(run, part, value):
    file = run / "student" / "student.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        told = {"sidelight": opened.metadata()["sidelight"]}  # no checksum, as of an earlier version
    save_file(tensors, file, metadata=told)
    sl.load_student(run)
    next(t for n, t in tensors.items() if n.startswith(part) and t.is_floating_point()).view(-1)[0] = value
    save_file(tensors, file, metadata=told)
    with pytest.raises(RunError, match=rf"'{part}.*' holds NaN or infinity"):
        sl.load_student(run)


def test_a_network_that_diverged_is_not_saved(run, tmp_path):
    student = sl.load_student(run)
    next(student.network.parameters()).data.view(-1)[0] = torch.nan
    with pytest.raises(RunError, match="holds NaN or infinity and is not stored"):
        student.save(tmp_path / "student.safetensors")
    assert not (tmp_path / "student.safetensors").exists()


# checkpoints --------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_in_a_checkpoint_is_found(tmp_path):
    """torch.load reads a changed value without a word."""
    file, state = tmp_path / "x.pt", {"weights": torch.arange(1000.0), "epoch": 3}
    save_checkpoint(file, state, "job")
    content = bytearray(file.read_bytes())
    content[content.find(state["weights"].numpy().tobytes()) + 403] ^= 0x40
    file.write_bytes(content)
    assert not torch.equal(torch.load(file, weights_only=True)["state"]["weights"], state["weights"])
    with pytest.raises(RunError, match="its content does not match its checksum"):
        load_checkpoint(file, "job")


def test_the_digest_of_a_state_tells_its_values_apart():
    alike = [{"a": torch.ones(2), "b": [1, 2.5]}, {"a": torch.ones(2), "b": [1, 2.5]}]
    assert compute_digest(alike[0]) == compute_digest(alike[1])
    others = [{"a": torch.ones(2)}, {"a": torch.ones(2), "b": [1, 2]}, {"a": torch.ones(2).double(), "b": [1, 2.5]}]
    others += [{"a": torch.ones(1, 2), "b": [1, 2.5]}, {"b": torch.ones(2), "a": [1, 2.5]}]
    others += [{"a": torch.ones(2), "b": "1"}]
    assert len({compute_digest(x) for x in [alike[0], *others]}) == 7


def test_a_damaged_checkpoint_is_named_and_the_job_is_trained_from_its_beginning(run, data, whole):
    shutil.rmtree(run / "jobs" / JOB)
    (run / "checkpoints" / f"{JOB}.pt").write_bytes(b"PK\3\4 half")
    with pytest.warns(SidelightWarning, match="not a readable sidelight checkpoint.*trained from its beginning"):
        resume(run, data, whole)


# extracted features, divergence -------------------------------------------------------------------------------------


def test_damaged_features_and_pieces_are_made_again(tmp_path):
    made = []

    def compute(rows: slice) -> torch.Tensor:
        made.append(rows.start)
        return torch.arange(6.0)[rows, None] * torch.tensor([1.0, torch.nan])  # NaN: a row that lacks the modality

    shards = Shards(tmp_path / "x.safetensors", "x", "0" * 64, 6, 2)
    shards.make(compute)
    whole = shards.file.read_bytes()
    assert shards.is_complete()
    shards.make(compute)
    assert made == [0, 2, 4]
    flip(shards.file, 0.9)
    assert not shards.is_complete()
    shards.make(compute)
    assert made == [0, 2, 4] * 2
    assert shards.file.read_bytes() == whole
    shards.file.unlink()

    def fail(rows: slice) -> torch.Tensor:
        if rows.start == 4:
            raise KeyboardInterrupt
        return compute(rows)

    with pytest.raises(KeyboardInterrupt):
        shards.make(fail)
    flip(shards.folder / "000000.safetensors", 0.95)
    shards.make(compute)
    assert made[6:] == [0, 2, 4, 0]
    assert shards.file.read_bytes() == whole


def test_weights_that_diverge_in_the_last_step_of_an_epoch_are_named():
    """The step's terms were finite, and a network of NaN still has a score."""

    class Diverges(Supervised):
        def score(self, select):
            return 1.0

        def steps(self, batch, state):
            yield from super().steps(batch, state)
            with torch.no_grad():
                next(self.parameters()).view(-1)[0] = torch.inf

    task, rows = task_of("classification"), make_rows("classification")
    with pytest.raises(RunError, match=r"the weight '.*' became NaN or infinite in epoch 1\. Lower"):
        fit(Diverges(make_network(AVAILABLE, task), task), rows, rows, TrainingConfig(2, 2, 64, least_steps=1), seed=0)


@pytest.mark.parametrize("preset", ["pkdot", "pkdot-released", "pkdot-sidelight"])
def test_a_divergence_inside_of_the_transport_names_its_term(preset):
    """Transport refuses NaN and infinity before there is a value that could be named."""
    method = distillation_subject(preset, "classification", "complete").factory(torch.float32)
    method.teachers[""].outputs.all_rows.fused[3] = torch.inf
    rows = make_rows("classification")
    with pytest.raises(RunError, match=rf"the loss term '{preset}' became nan in epoch 1\. Lower"):
        fit(method, rows, rows, TrainingConfig(2, 2, 64, least_steps=1), seed=0)


@pytest.mark.parametrize("rows", [0, 1, 7, 9])
def test_a_table_of_predictions_has_the_bytes_of_one_that_is_written_at_once(rows, tmp_path, monkeypatch):
    names, each = np.array(['a, "b"', "", "ä"]), np.arange(rows)
    columns = {
        "id": np.array([f"row {i}" for i in each], dtype=str),
        "target": pd.Categorical.from_codes(each % 3, pd.Index(names)),
        "prediction": names[each % 2],
        "p.a": (each / 3).astype(np.float32),
        "p.b": np.where(each % 4, 1e-9 * each, np.nan),
        "rank": each * 10**6,
    }
    pd.DataFrame(columns).to_csv(tmp_path / "whole.csv", index=False, float_format="%.6g")
    monkeypatch.setattr(artifacts, "LINES_AT_ONCE", 3)
    write_predictions(tmp_path / "parts.csv", columns)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
