"""`sidelight sweep`: what a command line and a file ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidelight.cli import main
from sidelight.cli_examples import EXAMPLES
from sidelight.cli_parser import parse
from sidelight.config import dump_config, load_config
from sidelight.errors import ConfigError
from sidelight.experiment.sweep_folder import check_sweep
from sidelight.sweeps import READY, Choices, make_sweep, parse_space
from sidelight.verbs.sweep import read_request

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweeps" / "phone_watch.yaml"


def asked(*words: str):
    return read_request(parse(["sweep", *words]))


def test_ranges_of_file_ready_sweep_and_command_line_follow_one_another():
    found = asked(str(EXAMPLE))
    assert (found.sampler, found.trials) == ("random", 8)
    assert found.space == {"training.learning_rate": "1e-3..1e-2:log", "options.kl.weight": [1, 4, 16]}
    found = asked(str(EXAMPLE), "options.kl.weight=2", "training.learning_rate=1e-3,1e-2", "--trials", "3", "folds=2")
    assert found.space == {"training.learning_rate": "1e-3,1e-2"}
    assert (found.overrides, found.trials) == (["options.kl.weight=2", "folds=2"], 3)
    found = asked("phone-watch", "pkdot-fig6", "transport.k=5", "label_fraction=0.2,1.0")
    assert found.space == {"training.batch_size": [32, 64, 128, 256]}
    assert found.settings == {"methods": ["pkdot"], "placebo": ["pkdot"]}
    assert found.overrides == ["transport.k=5", "label_fraction=0.2,1.0"]


def test_a_stored_sweep_goes_on_by_its_config_alone(tmp_path):
    config = load_config({"methods": ["kl"], "output": str(tmp_path)})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    for sampler, trials in (("grid", None), ("random", 3)):
        sweep = make_sweep(parse_space({"options.kl.weight": "1,2"}, config), config, sampler, trials)
        check_sweep(tmp_path, sweep, joins=False)
        found = asked(str(tmp_path / "config.yaml"))
        assert make_sweep(parse_space(found.space, config), config, found.sampler, found.trials) == sweep


@pytest.mark.parametrize("name", READY)
def test_a_ready_sweep_suits_its_methods(name):
    ready = READY[name]
    config = load_config({"methods": ready.methods, "placebo": ready.methods})
    sweep = make_sweep(parse_space(ready.space, config), config, ready.sampler)
    assert all(isinstance(one, Choices) for one in sweep.space.values())
    counts = {"pkdot-fig6": 12, "pkdot-fig7": 6, "amid-table6": 16, "osmd-ablations": 6}
    assert len(sweep.draws(ready.methods[0])) == sweep.trials == counts[name]
    assert name in EXAMPLES["sweep"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["phone-watch"], "a sweep needs the range of at least one setting"),
        (["phone-watch", "pkdot-fig8"], "unknown ready sweep 'pkdot-fig8'. Did you mean 'pkdot-fig"),
        (["phone-watch", "transport.kk=1,2"], "unknown setting 'transport.kk'. Did you mean 'transport.k'"),
        (["phone-watch", "seed=1,2"], "seeds=3 repeats the whole sweep"),
        (["phone-watch", "transport.k=1,2", "--sampler", "grd"], "unknown sampler 'grd'. Did you mean 'grid'"),
        (["phone-watch", "transport.k=1,2", "--trials", "many"], "invalid int value"),
        (["transport.k=1,2"], "sweep needs a data set or an experiment.yaml"),
    ],
)
def test_a_wrong_command_is_one_sentence(words, said, capsys):
    assert main(["sweep", *words]) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_a_dry_run_counts_draws_and_trainings(capsys):
    words = ["--methods", "kl", "--folds", "2", "--seeds", "1", "--label-fraction", "1", "--placebo", "none"]
    ranges = ["training.batch_size=64,128", "options.kl.weight=1,4"]
    assert main(["sweep", "phone-watch", *words, "--dry-run", *ranges]) == 0
    out = capsys.readouterr().out
    assert "# sweep: grid, 4 draws of each method and of the baseline" in out
    assert "options.kl.weight=1,4 (concerns kl)" in out
    assert "20 trainings for 6 networks" in out  # in each fold 4 of kl and of the baseline, 2 of the teacher


def test_a_file_with_a_section_sweep_is_not_run_by_mistake(tmp_path):
    with pytest.raises(ConfigError, match="read by `sidelight sweep`"):
        load_config(EXAMPLE)
    bad = tmp_path / "bad.yaml"
    bad.write_text("data: phone-watch\nsweep: [1, 2]\n")
    with pytest.raises(ConfigError, match="expected ranges"):
        asked(str(bad))
    bad.write_text("data: phone-watch\nsweep: {trials: many, transport.k: [1, 2]}\n")
    with pytest.raises(ConfigError, match="trials: a whole number"):
        asked(str(bad))
