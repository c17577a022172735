"""A student's folder for a model hub: it loads as it is, and its card claims what the run shows and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import sidelight as sl
from helpers.students import make_student
from helpers.synthetic_run import make_run
from sidelight.cli import main
from sidelight.errors import ConfigError, DiskError
from sidelight.export import write_hub_folder
from sidelight.export.describe import describe_student
from sidelight.export.hub import write_card
from sidelight.export.input_facts import describe_measured
from sidelight.results import between, load_results
from sidelight.results.units import unit
from sidelight.verbs.show import format_student

pytestmark = pytest.mark.filterwarnings("ignore::sidelight.errors.SidelightWarning")
NASTY = "acti|vity\n# <b>hello</b> {{ 7 * 7 }} `x`"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("hub") / "run", folds=2, seeds=2, methods=("kl", "pkdot+kl"))
    job = json.loads((folder / "jobs" / "pkdot+kl-l0.2-f1-s0" / "job.json").read_text())
    about = {"name": "faces", "licence": "CC BY 4.0", "target": NASTY, "group": "person"}
    make_student(**job["job"], metrics=job["metrics"], data=about).save(folder / "student")
    return folder


@pytest.fixture(scope="module")
def hub(run) -> Path:
    folder = run.parent / "faces-from-voice"
    assert main(["export", str(run), "--hub", str(folder)]) == 0
    return folder


def test_one_call_loads_the_folder_and_answers_as_the_student_does(run, hub):
    rows = {"phone_acc": np.random.default_rng(0).normal(9.8, 3, (5, 20, 3))}
    assert (sl.load_student(hub).predict_proba(rows) == sl.load_student(run).predict_proba(rows)).all()
    assert (hub / "config.json").read_text() == (run / "student" / "student.json").read_text()
    assert sorted(path.name for path in hub.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_card_states_the_figures_of_the_run(run, hub):
    card = (hub / "README.md").read_text()
    u = unit("accuracy")
    for name in ("baseline", "pkdot+kl~placebo"):
        over = between(load_results(run), "pkdot+kl", name, 0.2).interval
        assert f"{u.difference(over.mean)} ({u.difference(over.low)} to {u.difference(over.high)})" in card, name
    for part in (
        "m/s2",
        "50 Hz",
        "CC BY 4.0",
        "does not read",
        "## Intended use",
        "## Limits",
        "No licence was chosen",
    ):
        assert part in card


def test_hubs_can_read_its_metadata(run, hub):
    front = yaml.safe_load((hub / "README.md").read_text().split("---\n")[1])
    results = load_results(run)
    mine = results[
        (results["method"] == "pkdot+kl") & (results["labels"] == 0.2) & (results["control"].fillna("") == "")
    ]
    measured = front["model-index"][0]["results"][0]["metrics"]
    assert {m["type"]: m["value"] for m in measured}["accuracy"] == pytest.approx(mine["accuracy"].mean(), abs=1e-6)
    cards = pytest.importorskip("huggingface_hub.repocard_data")
    read = cards.CardData(**front).to_dict()
    assert read["library_name"] == "sidelight"
    evaluated = cards.model_index_to_eval_results(front["model-index"])[1]
    assert {r.metric_type for r in evaluated} == set(front["metrics"])


def test_names_of_the_data_stay_text(hub):
    card = (hub / "README.md").read_text()
    assert r"Predicts acti\|vity \# \<b\>hello\</b\> \{\{ 7 \* 7 \}\} \`x\` from phone\_acc" in card


def test_a_student_alone_claims_no_interval(run, tmp_path):
    alone = tmp_path / "student.safetensors"
    alone.write_bytes((run / "student" / "student.safetensors").read_bytes())
    card = (write_hub_folder(alone, tmp_path / "hub") / "README.md").read_text()
    assert "every interval are unknown here" in " ".join(card.split())
    assert "difference to the baseline" not in card


def test_what_is_there_is_not_replaced(run, hub):
    before = (hub / "README.md").read_bytes()
    with pytest.raises(ConfigError, match=r"model\.safetensors exists"):
        write_hub_folder(run, hub)
    assert (hub / "README.md").read_bytes() == before
    with pytest.raises(ConfigError, match="cannot make the folder"):
        write_hub_folder(run, hub / "README.md" / "inside")
    assert main(["export", str(run), "--hub", str(hub), "--onnx"]) == 2


def test_a_folder_that_was_not_finished_has_no_weights(run, tmp_path, monkeypatch):
    def fail(path, content):
        raise DiskError(f"cannot write {path}")

    monkeypatch.setattr("sidelight.export.hub.write_atomic", fail)
    with pytest.raises(DiskError):
        write_hub_folder(run, tmp_path / "hub")
    assert not (tmp_path / "hub" / "model.safetensors").exists()


def test_the_card_says_of_each_input_and_target_what_such_rows_have(tmp_path):
    student = make_student(data={"name": "rooms", "target": "mask_file_name, height_m"})
    told = describe_student(student.save(tmp_path / "student"))
    assert told["data"]["target"] == "mask, height_m"
    image = {"shape": ["rows", 3, 8, 8], "axes": ["rows", "channels", "height", "width"], "range": "not given"}
    image |= {"unit": "not given", "rate_hz": "not given"}
    card = write_card({**told, "inputs": {"rgb": image}}, "rooms")
    assert r"Predicts mask, height\_m from rgb" in card
    assert "| rgb | rows × 3 × 8 × 8 | rows × channels × height × width | – | – |" in card
    assert "was not given" not in card
    assert "- It does not read watch\\_acc, even where rows have it." in card
    signal = {**image, "shape": ["rows", 9, 1], "axes": ["rows", "time", "channels"]}
    assert "The unit or the rate of an input was not given" in write_card({**told, "inputs": {"eda": signal}}, "rooms")
    told = {**told, "inputs": {"rgb": image, "eda": signal}, "privileged": ["depth", "sound"]}
    assert "depth and sound, even where rows have them" in write_card(told, "rooms")
    assert "rgb: (rows, 3, 8, 8), rows x channels x height x width\n" in format_student(told)
    assert describe_measured({**image, "unit": "m"}) == {"unit": "m"}
