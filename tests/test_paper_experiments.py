"""Every experiment of examples/paper loads, and runs from the official layout to an exported student."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
import yaml

from sidelight.cli import main
from sidelight.config import load_config
from sidelight.data.batch import Batch
from sidelight.networks.build import build_network
from sidelight.readers import READERS, reader_class

pytest.importorskip("av")
pytest.importorskip("soundfile")
PAPER = Path(__file__).parents[1] / "examples" / "paper"
EXPERIMENTS = sorted(PAPER.glob("*.yaml"))
TINY = {
    "": ["frames=4", "size=16"],
    "iemocap": ["seconds=0.5"],
    **{name: ["height=32", "width=32"] for name in ("nyuv2", "sunrgbd")},
}
"""Options that make rows small, of every reader that has them, and of one."""


def prepare_line(experiment: Path) -> list[str]:
    """The words of the first `sidelight prepare` in the comments: reader, source, folder, options."""
    lines = [line.strip("# ") for line in experiment.read_text("utf-8").splitlines()]
    return next(shlex.split(line)[2:] for line in lines if line.startswith("sidelight prepare "))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda p: p.stem)
def test_it_loads_and_says_how_to_get_its_data(experiment):
    config = load_config(experiment)
    reader, _, folder, *_ = prepare_line(experiment)
    assert reader in READERS
    assert folder == yaml.safe_load(experiment.read_text("utf-8"))["data"]
    assert config.available
    assert config.privileged
    assert config.placebo != ["none"]
    assert f"sidelight run examples/paper/{experiment.name}" in experiment.read_text("utf-8")
    assert set(config.network.encoders) <= {*config.available, *config.privileged}


def tiny_networks(experiment: Path) -> list[str]:
    """Settings that leave an experiment its stages, protocol and losses, and make everything else small."""
    config = load_config(experiment)
    small = {"network.width": 8, "network.tokens": 1, "training.epochs": 1, "training.batch_size": 8, "transport.k": 3}
    small |= {"methods": config.methods[0], "jobs": 1, "output": "run"}
    if config.protocol == "group-kfold":
        small["folds"] = 2
    if config.task != "segmentation":
        read = (*config.available, *config.privileged)
        small |= {f"network.encoders.{m}": "cnn" if m == "text" else "mlp" for m in read}
    return [f"{name}={value}" for name, value in small.items()]


ROWS = {
    "video": (3, 16, 112, 112), "eda": (2816, 1), "emg": (1, 67, 127), "audio": (1, 64, 107)
}  # fmt: skip
"""What rows of the real data look like, of modalities whose networks need no files."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pkdot_biovid_a", "pkdot_biovid_b", "pkdot_affwild2"])
def test_the_networks_that_it_names_read_rows_of_the_real_size(name):
    config = load_config(PAPER / f"{name}.yaml")
    slots = [*config.available, *config.privileged]
    network = build_network({m: ROWS[m] for m in slots}, slots, 2, config.network).eval()
    rows = {m: torch.randn(2, *ROWS[m]) for m in slots}
    said = network(Batch(rows, torch.zeros(2).long(), torch.ones(2, dtype=torch.bool), {}, torch.arange(2), {}))
    assert said.prediction.shape == (2, 2)
    assert {m: x.shape[-1] for m, x in said.features.items()} == dict.fromkeys(slots, 512)
    assert all(x.shape[1] == config.network.tokens for x in said.features.values())


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore")
def test_it_runs_on_the_synthetic_copy_from_files_to_an_exported_student(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reader, _, folder, *options = prepare_line(experiment)
    options = [o for o in options if not o.startswith("tokenizer=")]
    accepted = {name for name, _, _ in reader_class(reader).options()}
    tiny = [o for o in TINY[""] if o.partition("=")[0] in accepted] + TINY.get(reader, [])

    def say(*words: str) -> str:
        code = main([*words])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    say("prepare", reader, "--synthetic", "source", *options)
    say("prepare", reader, "source", "--check", *options)
    say("prepare", reader, "source", folder, *options, *tiny)
    say("run", str(experiment), "--quiet", *tiny_networks(experiment))
    say("export", "run", "--onnx")
    said = say("predict", "run", folder, "--ignore-privileged")
    assert len(said.splitlines()) > 1
