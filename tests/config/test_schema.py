"""Settings: strict, near misses named, the same after a round trip."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sidelight.config import Config, NetworkConfig, TransportConfig, difference, dump_config, load_config
from sidelight.config.io import _construct, _convert, _is_typed, flatten, settings
from sidelight.config.paths import BUILT_IN, anchor_paths
from sidelight.data import DATASETS
from sidelight.errors import ConfigError, DataError, RunError
from sidelight.experiment import plan
from sidelight.networks.backbones.weights import load_weights
from sidelight.utils.names import name_fault


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_nothing_given_is_the_defaults():
    assert load_config() == Config()
    assert load_config({}) == Config()


def test_every_setting_has_a_help_and_its_default():
    known = settings(Config)
    assert len(known) > 40
    assert [name for name, setting in known.items() if not setting.help] == []
    assert known["transport.epsilon"].default is None
    assert known["methods"].default == Config().methods


def test_yaml_and_overrides(tmp_path):
    path = write(
        tmp_path / "experiment.yaml",
        "data: rows.csv\nimpute: no\nmethods: [kl, mse]\ntraining:\n  learning_rate: 1e-2\nstudent: {hallucinate: no}\n"
        "transport:\noptions.kl.weight: 2\n",
    )
    config = load_config(path, ["transport.epsilon=0.05", "label_fraction=0.2,1", "training.epochs=7", "group=007"])
    assert (config.data, config.impute, config.methods) == (
        str(tmp_path / "rows.csv"), "no", ["kl", "mse"],
    )  # fmt: skip
    assert config.training.learning_rate == 0.01
    assert config.training.epochs == 7
    assert config.transport == TransportConfig(epsilon=0.05)
    assert config.label_fraction == [0.2, 1.0]
    assert config.group == "007"
    assert config.student.hallucinate == "no"
    assert config.options["kl"]["weight"] == 2.0


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("transport.epsilon=1e-3", 1e-3),
        ("transport.epsilon=relative:0.05", "relative:0.05"),
        ("transport.epsilon=null", None),
        ("transport.k=8", 8),
        ("student.freeze=true", True),
        ("methods=kl", ["kl"]),
        ("methods=[kl, mse]", ["kl", "mse"]),
        ("methods='kl', \"mse\"", ["kl", "mse"]),
        ("available=", []),
        ("split=a=b: c", "a=b: c"),
    ],
)
def test_the_text_of_an_override_becomes_the_declared_type(override, expected):
    assert dict(flatten(Config, asdict(load_config(None, [override]))))[override.partition("=")[0]] == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fold=3", "'fold'. Did you mean 'folds'?"),
        ("transport.epsilom=1", "Did you mean 'transport.epsilon'?"),
        ("trainning.epochs=1", "Did you mean 'training.epochs'?"),
        ("epochs=3", "Did you mean 'training.epochs'?"),
        ("k=3", "Valid: transport.k."),
        ("training.k=3", "Valid: transport.k."),
        ("label-fraction=1", "Did you mean 'label_fraction'?"),
        ("transport=5", "'transport' is a group of settings: transport.epsilon, "),
        ("folds", "expected setting=value"),
        ("folds=five", "folds: expected a whole number, not 'five'"),
        ("folds=2.5", "folds: expected a whole number"),
        ("select=half", "select: expected a number"),
        ("label_fraction=a", "label_fraction: expected a list, each item a number, not 'a'"),
        ("student.freeze=maybe", "student.freeze: expected true or false"),
        ("task=classify", "unknown value of task 'classify'. Did you mean 'classification'?"),
        ("network.fusion=concatt", "Did you mean 'concat'? Valid: concat, joint-cross-attention"),
        ("folds=1", "folds must be a whole number from 2 to 10000, got 1"),
        ("seeds=0", "seeds must be a whole number from 1 to 10000"),
        ("seed=-1", "seed must be a whole number from 0 to 2147483647"),
        ("select=1", "select must be a share between 0 and 1, got 1.0"),
        ("label_fraction=0.5,1.5", "label_fraction must be in (0, 1], got 1.5"),
        ("label_fraction=0", "label_fraction must be in"),
        ("training.epochs=0", "training.epochs must be a whole number from 1"),
        ("training.learning_rate=nan", "training.learning_rate: expected a number"),
        ("training.learning_rate=0", "training.learning_rate must be a number above 0"),
        ("network.dropout=1", "network.dropout must be at least 0 and below 1"),
        ("teacher.crossfit=1", "teacher.crossfit must be 0 (no) or from 2 to 1000"),
        ("transport.epsilon=0", "transport.epsilon must be a number above 0"),
        ("transport.epsilon=relative:x", "transport.epsilon must be a number above 0 or e.g. relative:0.05, got"),
        ("transport.anchors=farthst", "transport.anchors must be one of paper, released"),
        ("methods=kl,kl", "methods: kl is given twice"),
        ("label_fraction=0.3333333,0.3333334", "label_fraction: 0.333333 is given twice"),
        ("placebo=mse", "unknown method of placebo 'mse'"),
        ("placebo=all,kl", "placebo: 'all' cannot be combined"),
        ("methods=", "methods: expected at least one"),
        ("data=", "data is empty"),
    ],
)
def test_a_bad_override_is_named(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"transport": {"epsilom": 1}}, "Did you mean 'transport.epsilon'?"),
        ({"transport": 5}, "'transport' is a group of settings"),
        ({"folds": {"a": 1}}, "unknown setting 'folds.a'"),
        ({"folds": None}, "folds: expected a whole number, not None"),
        ({"folds": True}, "folds: expected a whole number, not True"),
        ({"split": 5}, "split: expected text, not 5. Put it in quotes"),
        ({"available": ["a", ""]}, "available: an item is empty"),
        ({"available": ["a"], "privileged": ["b", "a"]}, "'a' is in both available and privileged"),
    ],
)
def test_a_bad_mapping_is_named(tree, message):
    with pytest.raises(ConfigError) as caught:
        load_config(tree)
    assert message in str(caught.value)


def test_numbers_of_a_modalitys_files_may_repeat():
    modalities = {"rgb": {"size": [112, 112]}, "mask": {"colours": {"road no. 1": [128, 128, 128], "": [0, 0, 0]}}}
    assert load_config({"modalities": modalities}).modalities == modalities
    assert load_config(None, ["modalities.rgb.size=[8,8]"]).modalities["rgb"] == {"size": [8, 8]}
    with pytest.raises(ConfigError, match=r"modalities\.bio: eda is given twice"):
        load_config({"modalities": {"bio": ["eda", "eda"]}})


def test_a_path_may_be_given_where_a_text_is_expected():
    config = load_config({"data": Path("rows.csv"), "output": Path("runs") / "x"})
    assert (config.data, config.output) == ("rows.csv", str(Path("runs") / "x"))
    with pytest.raises(ConfigError, match="folds: expected a whole number"):
        load_config({"folds": Path("3")})


def test_false_of_other_yaml_readers_is_no():
    assert load_config({"impute": False, "student": {"hallucinate": False}}).student.hallucinate == "no"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folds: 3\nfolds: 4\n", "'folds' is given twice"),
        ("- a\n- b\n", "expected settings"),
        ("folds: [3\n", "not YAML"),
        ("data: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ("fold: 3\n", "Did you mean 'folds'?"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    path = write(tmp_path / "experiment.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_data_are_looked_for_beside_the_file_then_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    path = write(Path("deep/experiment.yaml"), "data: rows.csv\n")
    assert load_config(path).data == "deep/rows.csv"  # nowhere: the error names the place that it was expected at
    write(Path("rows.csv"), "")
    assert load_config(path).data == "rows.csv"
    write(Path("deep/rows.csv"), "")
    assert load_config(path).data == "deep/rows.csv"
    assert load_config(path, ["data=rows.csv"]).data == "rows.csv"
    write(path, "data: ../rows.csv\n")
    assert load_config(path).data == "rows.csv"
    Path("deep/phone-watch").mkdir()
    assert load_config(write(path, "data: phone-watch\n")).data == "phone-watch"


@pytest.mark.parametrize(
    ("path", "opened"), [("rows.csv", "deep/rows.csv"), ("watches", "watches"), ("../b/rows.csv", "b/rows.csv")]
)
def test_data_that_are_nowhere_are_named_with_the_folders_that_were_searched(tmp_path, monkeypatch, path, opened):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    config = load_config(write(Path("deep/experiment.yaml"), f"data: {path}\n"))
    with pytest.raises(DataError) as error:
        plan(config)
    assert opened in str(error.value)
    assert str(error.value).endswith(f"; looked for {path!r} in {tmp_path / 'deep'} and in {tmp_path}")
    with pytest.raises(DataError) as error:
        plan(load_config({"data": "elsewhere.csv"}))
    assert str(error.value) == "elsewhere.csv does not exist"


def test_weights_that_are_nowhere_are_named_with_the_folders_that_were_searched(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    file = write(Path("deep/experiment.yaml"), "data: phone-watch\nnetwork: {weights: {video: w.pt}}\n")
    searched = f"; looked for 'w.pt' in {tmp_path / 'deep'} and in {tmp_path}; give a local"
    config = load_config(file)
    for sent in (config, pickle.loads(pickle.dumps(config))):  # a worker process is told as much
        with pytest.raises(RunError) as error:
            load_weights(torch.nn.Linear(1, 1), sent.network.weights["video"])
        assert str(error.value).startswith("deep/w.pt does not exist")
        assert searched in str(error.value)
    assert "video: deep/w.pt\n" in dump_config(config)


def test_names_of_built_in_data_are_no_paths():
    assert tuple(DATASETS) == BUILT_IN


@pytest.mark.parametrize(
    ("name", "text", "prefix"),
    [
        ("network.weights.video", "network: {{weights: {{video: {path}}}}}", ""),
        ("network.encoders.audio", "network: {{encoders: {{audio: 'hf:{path}'}}}}", "hf:"),
        ("network.encoder", "network: {{encoder: 'hf:{path}'}}", "hf:"),
    ],
)
def test_files_of_networks_are_looked_for_like_data(tmp_path, monkeypatch, name, text, prefix):
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)

    def found(path: str, overrides: tuple[str, ...] = ()) -> str:
        file = write(Path("deep/experiment.yaml"), "data: phone-watch\n" + text.format(path=path) + "\n")
        value = dict(flatten(Config, asdict(load_config(file, overrides))))[name]
        assert value.startswith(prefix)
        return value.removeprefix(prefix)

    assert found("w.pt") == "deep/w.pt"  # nowhere
    write(Path("w.pt"), "")
    assert found("w.pt") == "w.pt"
    write(Path("deep/w.pt"), "")
    assert found("w.pt") == "deep/w.pt"
    assert found("../w.pt") == "w.pt"
    assert found(str(tmp_path / "w.pt")) == str(tmp_path / "w.pt")
    assert found("~/w.pt") == "~/w.pt"
    assert found("w.pt", (f"{name}={prefix}w.pt",)) == "w.pt"  # a command line speaks of where it is given


def test_a_stored_run_finds_the_files_of_its_networks_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "runs" / "a" / "jobs").mkdir(parents=True)
    write(tmp_path / "w.pt", "")
    monkeypatch.chdir(tmp_path)
    network = NetworkConfig(encoder="hf:bert", encoders={"v": "r3d18", "a": "hf:w.pt"}, weights={"v": "w.pt"})
    stored = replace(Config(output="runs/a"), network=anchor_paths(network, Path("runs/a")))
    assert stored.network.weights == {"v": "../../w.pt"}
    path = write(Path("runs/a/config.yaml"), dump_config(stored))
    assert anchor_paths(load_config(path).network) == anchor_paths(network)
    monkeypatch.chdir("runs")
    there = load_config(Path("a/config.yaml")).network
    assert Path(there.weights["v"]).samefile(tmp_path / "w.pt")
    assert there.encoders["v"] == "r3d18"
    assert there.encoders["a"].startswith("hf:")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load_config(tmp_path / "nowhere.yaml")


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8) | st.sampled_from(
    [
        "no",
        "yes",
        "on",
        "null",
        "~",
        "1e-3",
        "5",
        "0x1f",
        "1:30",
        "2020-01-01",
        "true",
        "a: b",
        "- a",
        "#a",
        "1_000",
        " a",
    ]
)


@examples(max_examples=8)
@given(
    split=words,
    names=st.lists(words.filter(lambda name: not name_fault(name)), unique=True, max_size=3),
    rate=st.floats(1e-12, 1e6),
    epsilon=st.floats(1e-9, 10),
)
def test_round_trip(tmp_path_factory, split, names, rate, epsilon):
    config = Config(split=split, available=names, transport=TransportConfig(epsilon=epsilon))
    config.training = replace(config.training, learning_rate=rate)
    path = write(tmp_path_factory.getbasetemp() / "round.yaml", dump_config(config))
    assert load_config(path) == config


def test_differences_name_both_values():
    a, b = Config(), load_config(None, ["folds=3", "transport.epsilon=1", "jobs=2", "output=elsewhere"])
    assert difference(a, b) == {"folds": (5, 3), "transport.epsilon": (None, 1.0)}
    assert difference(a, a) == {}
    assert list(difference(a, b, ignore=("folds", "transport.epsilon"))) == ["output", "jobs"]


def test_importing_the_settings_is_cheap():
    heavy = "('torch', 'pandas', 'numpy', 'jsonargparse')"
    code = f"import sys, sidelight.config; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


VALUES = [
    0, 1, -3, 2.0, 0.5, 1e-12, True, False, None, "", "auto", "none", "no", "yes", "mean", "5", "0.5", "a,b", "null",
    [], [1], [0.5], [1, 0.5], ["kl"], ["5"], [True], [None],
]  # fmt: skip


OF_EACH_TYPE = {str(setting.type): name for name, setting in settings(Config).items() if not setting.is_mapping}


@pytest.mark.parametrize("name", OF_EACH_TYPE.values())
def test_values_of_their_type_are_what_the_parser_would_make_of_them(name):
    """`build` asks the parser only where something has to be converted."""
    setting = settings(Config)[name]
    words = get_args(setting.type) if get_origin(setting.type) is Literal else ()
    for value in [*VALUES, *words]:
        if _is_typed(setting, value):
            taken, converted = _construct(Config, {name: value}), _convert(Config, {name: value}, {name: value})
            assert repr(taken) == repr(converted), value


def test_defaults_are_of_their_type_and_what_the_parser_would_make_of_them():
    known = {name: setting for name, setting in settings(Config).items() if not setting.is_mapping}
    defaults = {name: setting.default for name, setting in known.items()}
    assert all(_is_typed(known[name], value) for name, value in defaults.items())
    assert _construct(Config, defaults) == _convert(Config, defaults, defaults) == Config()
