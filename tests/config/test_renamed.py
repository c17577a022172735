"""Renamed settings are accepted by their old name wherever a setting comes in, and null stands for none."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace

import pytest
import yaml

import sidelight as sl
from helpers.small import make_data, study
from sidelight.cli_flags import flag
from sidelight.cli_parser import parse
from sidelight.config import Config, dump_config, load_config
from sidelight.config.io import build, flatten, settings
from sidelight.config.renamed import NULL, RENAMED
from sidelight.errors import ConfigError, SidelightWarning
from sidelight.experiment.run_folder import _find_other_settings
from sidelight.verbs.settings import experiment_of

TYPED = {"label_fraction": [0.25, 0.5]}
"""Today's name -> a value other than the default; a renamed setting needs a line here."""
renamed = pytest.mark.parametrize(("old", "new"), RENAMED.items())


def nested(name: str, value: object) -> dict:
    section, _, leaf = name.partition(".")
    return {section: nested(leaf, value) if leaf else value}


def text_of(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def value_in(config: Config, name: str) -> object:
    return dict(flatten(Config, asdict(config)))[name]


def through_yaml(old, value, folder):
    (folder / "experiment.yaml").write_text(yaml.dump({"data": "phone-watch", **nested(old, value)}))
    return load_config(folder / "experiment.yaml")


def through_flag(old, value, folder):
    return experiment_of(parse(["run", "phone-watch", f"{flag(old)}={text_of(value)}"]))


def through_flag_and_value(old, value, folder):
    return experiment_of(parse(["run", "phone-watch", flag(old), text_of(value)]))


def through_override(old, value, folder):
    return experiment_of(parse(["run", "phone-watch", f"{old}={text_of(value)}"]))


def through_mapping(old, value, folder):
    return load_config(nested(old, value))


def through_dotted_mapping(old, value, folder):
    return load_config({old: value})


def through_constructor(old, value, folder):
    return Config(**{old: value})


DOORS = [
    through_yaml, through_flag, through_flag_and_value, through_override, through_mapping, through_dotted_mapping,
    through_constructor,
]  # fmt: skip


@renamed
def test_the_table_leads_from_names_that_are_gone_to_names_that_exist(old, new):
    assert old not in settings(Config)
    assert new in settings(Config)


@renamed
@pytest.mark.parametrize("door", DOORS)
def test_an_old_name_is_accepted_with_one_warning(old, new, door, tmp_path):
    if door is through_constructor and "." in old:
        pytest.skip("a section has its own constructor")
    value = TYPED[new]
    with pytest.warns(SidelightWarning, match="is now called") as told:
        config = door(old, value, tmp_path)
    assert value_in(config, new) == value
    texts = [str(w.message) for w in told if issubclass(w.category, SidelightWarning)]
    assert len(texts) == 1
    shown = flag(new) if "flag" in door.__name__ else new
    assert f"is now called '{shown}'" in texts[0]


@renamed
def test_both_names_at_once_are_refused(old, new):
    with pytest.warns(SidelightWarning), pytest.raises(ConfigError, match=f"{old} is the old name of {new}"):
        load_config({old: TYPED[new], new: TYPED[new]})


@renamed
def test_an_override_by_the_old_name_replaces_the_new(old, new):
    with pytest.warns(SidelightWarning, match="is now called"):
        config = load_config({new: settings(Config)[new].default}, [f"{old}={text_of(TYPED[new])}"])
    assert value_in(config, new) == TYPED[new]


@renamed
def test_stored_runs_are_read_without_a_warning(old, new, tmp_path):
    (tmp_path / "jobs").mkdir()
    config = load_config({"data": "phone-watch", new: TYPED[new]})
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config).replace(f"{new.rpartition('.')[2]}:", f"{old.rpartition('.')[2]}:"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replace(load_config(file), output="") == config
        assert _find_other_settings({"data": "phone-watch", **nested(old, TYPED[new])}, config) == {}


def test_the_defaults_of_a_data_set_may_use_the_old_name():
    with pytest.warns(SidelightWarning, match="'label_groups' is now called 'label_fraction'"):
        data = make_data(default_modalities={"available": ["phone"], "label_groups": [0.5]})
    assert data.default_modalities == {"available": ["phone"], "label_fraction": [0.5]}


def test_compare_takes_the_old_name_and_a_run_written_before_is_resumed(tmp_path):
    data, tiny = make_data(), {"methods": ["mse"], "training": {"epochs": 1}}
    with pytest.warns(SidelightWarning, match="'label_groups' is now called 'label_fraction'"):
        made = study(tmp_path / "run", data, label_groups=[0.5], **tiny)
    assert made.budgets == [0.5]
    file = made.folder / "config.yaml"
    assert "label_fraction:" in file.read_text()
    file.write_text(file.read_text().replace("label_fraction:", "label_groups:"))
    before = made.results
    with warnings.catch_warnings():
        warnings.simplefilter("error", SidelightWarning)
        again = study(tmp_path / "run", data, resume=True, label_fraction=[0.5], **tiny)
    assert again.results.equals(before)
    assert "labels" in before.columns
    assert (made.folder / "jobs" / "mse-l0.5-f0-s0" / "job.json").is_file()


def test_the_share_of_labels_is_label_fraction_in_python(tmp_path):
    made = study(tmp_path / "run", make_data(), methods=["mse"], training={"epochs": 1}, label_fraction=[0.5])
    new = made.table(label_fraction=0.5)
    for call in (made.table, made.sentence, made.remarks):
        with pytest.warns(SidelightWarning, match="argument 'labels' is now called 'label_fraction'"):
            old = call(labels=0.5)
        assert str(old) == str(call(label_fraction=0.5)) == str(call(0.5))
    with pytest.warns(SidelightWarning, match="is now called"):
        assert made.best(labels=0.5).path == made.best(label_fraction=0.5).path
    with pytest.raises(ConfigError, match="labels is the old name of label_fraction"):
        made.table(labels=0.5, label_fraction=0.5)
    assert len(new)


@pytest.mark.parametrize("name", NULL)
@pytest.mark.parametrize("form", ["python", "yaml", "override"])
def test_null_stands_for_none(name, form, tmp_path):
    if form == "python":
        config = load_config(nested(name, None))
    elif form == "yaml":
        (tmp_path / "experiment.yaml").write_text(yaml.dump({"data": "phone-watch", **nested(name, None)}))
        config = replace(load_config(tmp_path / "experiment.yaml"), data="phone-watch")
    else:
        config = load_config(None, [f"{name}=null"])
    assert value_in(config, name) == NULL[name]
    assert config == load_config({name: NULL[name]})
    assert build(Config, {name: None}) == config


def test_null_is_not_a_number_of_folds():
    with pytest.raises(ConfigError, match="folds: expected a whole number, not None"):
        load_config({"folds": None})


def test_the_constructor_of_the_settings_is_still_strict():
    with pytest.raises(TypeError):
        sl.Config(label_grups=[0.5])
