"""Every experiment of examples/paper loads, and runs from the official layout to an exported student."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import onnxruntime
import pandas as pd
import pytest
import torch
import yaml

from sidelight.cli import main
from sidelight.config import Config, load_config
from sidelight.data.batch import Batch
from sidelight.data.load import load_rows
from sidelight.data.rows import is_lazy
from sidelight.export import load_student
from sidelight.networks.build import build_network
from sidelight.readers import READERS, reader_class

pytest.importorskip("av")
pytest.importorskip("soundfile")
PAPER = Path(__file__).parents[2] / "examples" / "paper"
EXPERIMENTS = sorted(PAPER.glob("*.yaml"))
QUICK = ()
"""Experiments that the default run carries through: none. `test_your_own_data.py` goes the same way and decodes less,
and the readers have tests of their own; all experiments are run with `-m slow`."""
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


CHEAP = ("resnet18", "resnet34-pyramid")
"""Networks that run as the experiment names them, narrow (`narrow_residual_networks`); others would take minutes."""


def tiny_networks(experiment: Path) -> dict[str, object]:
    """Settings that leave an experiment its stages, protocol and losses, and make everything else small."""
    config = load_config(experiment)
    method = config.methods[0]
    small: dict[str, object] = {
        "network.width": 8, "network.tokens": 1, "training.epochs": 1, "training.batch_size": 8, "transport.k": 3,
        "methods": method, "reference": "none", "jobs": 1, "output": "run",
    }  # fmt: skip
    if config.protocol == "group-kfold":
        small["folds"] = 2
    if "warmup" in config.options.get(method, {}):
        small[f"options.{method}.warmup"] = 0  # the terms behind it are trained too
    for m, encoder in config.network.encoders.items():
        if encoder not in CHEAP:
            small[f"network.encoders.{m}"] = "cnn" if m == "text" else "mlp"
    return small


SAME_NETWORKS = ("amid_ucf51", "osmd_surf", "osmd_sunrgbd")
"""Experiments with the networks of another one, which is written as ONNX: these are written by torch.export."""


@pytest.fixture
def narrow_residual_networks(monkeypatch):
    """ResNets with all their parts, 8 channels wide and a block per level: noise needs no more."""
    from sidelight.networks.backbones import resnet  # its import of monai takes seconds, of every worker

    monkeypatch.setattr(resnet, "WIDTHS", (8, 8, 8, 8))
    monkeypatch.setattr(resnet, "LAYERS", {kind: (block, (1, 1, 1, 1)) for kind, (block, _) in resnet.LAYERS.items()})


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


@pytest.fixture
def say(monkeypatch, tmp_path, capsys):
    """The command line in a folder of its own: words -> what is printed, where it succeeds."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        code = main([*words])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return run


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(p, marks=() if p.stem in QUICK else pytest.mark.slow, id=p.stem) for p in EXPERIMENTS],
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("narrow_residual_networks", "drawn", "texts_of_figures")
def test_it_runs_on_the_synthetic_copy_from_files_to_an_exported_student(experiment, say):
    folder = prepared(experiment, say)
    config = load_config(experiment)
    planned = say("run", str(experiment), "--dry-run")  # the experiment as it stands, on these rows
    assert all(method in planned for method in config.methods)

    say("run", str(experiment), "--quiet", *[f"{name}={value}" for name, value in tiny_networks(experiment).items()])
    check_run(Path("run"), config)

    file = "student.pt2" if experiment.stem in SAME_NETWORKS else "student.onnx"
    say("export", "run", "--output", file)
    student = load_student("run/student/student.safetensors")
    assert list(student.deployed.inputs) == config.available
    rows = load_rows(folder, config.available)
    tensors = [as_tensor(rows.inputs[m]).float() for m in config.available]
    with torch.no_grad():
        for ours, theirs in zip(student.deployed(*tensors), exported(file, tensors), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)

    predicted = say("predict", "run", folder, "--ignore-privileged")
    assert len(pd.read_csv(io.StringIO(predicted))) == len(rows)
    table = pd.read_csv(f"{folder}/metadata.csv", dtype=str, keep_default_na=False)
    hidden = [c for c in table if c.startswith(tuple(f"{m}_" for m in config.privileged))]
    table.drop(columns=[*hidden, *config.target]).to_csv(f"{folder}/metadata.csv", index=False)
    assert say("predict", "run", folder) == predicted  # nothing privileged is there any more


def prepared(experiment: Path, say) -> str:
    """Runs the experiment's own `sidelight prepare` on a synthetic copy, with tiny rows; returns the folder."""
    reader, _, folder, *options = prepare_line(experiment)
    options = [o for o in options if not o.startswith("tokenizer=")]
    accepted = {name for name, _, _ in reader_class(reader).describe_options()}
    tiny = [o for o in TINY[""] if o.partition("=")[0] in accepted] + TINY.get(reader, [])
    say("prepare", reader, "--synthetic", "source", *options)
    say("prepare", reader, "source", "--check", *options)
    say("prepare", reader, "source", folder, *options, *tiny)
    if load_config(experiment).protocol == "leave-one-group-out":  # a fold for each group: three are enough
        table = pd.read_csv(f"{folder}/metadata.csv", dtype=str, keep_default_na=False)
        kinds = Path(folder, "modalities.json")
        told = json.loads(kinds.read_text())
        kept = table[told["group"]].isin(sorted(set(table[told["group"]]))[:3])
        table[kept].to_csv(f"{folder}/metadata.csv", index=False)
        kinds.write_text(json.dumps(told | {"rows": int(kept.sum())}))
    return folder


def exported(file: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """What the file says of the rows, in the runtime that it is for."""
    if file.endswith(".pt2"):
        return list(torch.export.load(file).module()(*tensors))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    said = session.run(None, dict(zip([i.name for i in session.get_inputs()], [x.numpy() for x in tensors])))
    return [torch.from_numpy(x) for x in said]


def check_run(run: Path, config: Config) -> None:
    """Every stage left its mark: each fold has the method, both bounds and the placebo, scored; so has the report."""
    method = config.methods[0]
    results = pd.read_csv(run / "results.csv", keep_default_na=False)
    expected = {(method, ""), (method, "placebo"), ("baseline", ""), ("teacher", "")}
    for _, jobs in results.groupby("fold"):
        assert expected <= set(zip(jobs["method"], jobs["control"]))
    assert results["fold"].nunique() == {"group-kfold": 2, "leave-one-group-out": 3}.get(config.protocol, 1)
    assert pd.to_numeric(results["select"]).notna().all()
    assert bool(list((run / "shared").glob("*-tnets.safetensors"))) == method.startswith("pkdot")
    summary = json.loads((run / "summary.json").read_text())
    names = {method, f"{method}~placebo", "baseline", "teacher"}
    assert names <= {row["name"] for row in summary["budgets"][0]["rows"]}
    page = (run / "report.html").read_text("utf-8")
    assert all(name in page for name in (method, "placebo", *config.available, *config.privileged))


def as_tensor(rows) -> torch.Tensor:
    return rows.read() if is_lazy(rows) else torch.from_numpy(rows)
