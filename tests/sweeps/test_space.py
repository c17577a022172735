"""Ranges: what is read, what is refused with a sentence, and which networks a setting concerns."""

from __future__ import annotations

import pytest
import torch

from helpers.small import fold_models, make_data
from sidelight.config import Config, load_config
from sidelight.config.io import settings
from sidelight.errors import ConfigError
from sidelight.experiment.plan import Job
from sidelight.sweeps import Choices, Draw, Interval, make_sweep, parse_space
from sidelight.sweeps.concerns import SWEPT, UNSWEPT
from sidelight.sweeps.space import describe_range

CONFIG = load_config({"methods": ["kl", "pkdot"], "available": ["phone"], "privileged": ["watch"]})


def test_ranges_are_read():
    space = parse_space(
        {
            "training.learning_rate": "1e-4..1e-2:log",
            "training.batch_size": "16..64",
            "transport.k": "10,30,60",
            "transport.epsilon": "0.01..1:log:3",
            "training.epochs": "1..9:3",
            "student.init": ["teacher", "random"],
            "student.freeze": "false,true",
            "options.kl.temperature": "1..4",
            "options.kl.weight": "1.0..4",
        },
        CONFIG,
    )
    assert space == {
        "training.learning_rate": Interval(1e-4, 1e-2, log=True),
        "training.batch_size": Interval(16, 64, whole=True),
        "transport.k": Choices((10, 30, 60)),
        "transport.epsilon": Choices((0.01, 0.1, 1.0)),
        "training.epochs": Choices((1, 5, 9)),
        "student.init": Choices(("teacher", "random")),
        "student.freeze": Choices((False, True)),
        "options.kl.temperature": Interval(1, 4, whole=True),
        "options.kl.weight": Interval(1, 4),
    }
    assert parse_space({name: describe_range(one) for name, one in space.items()}, CONFIG).keys() == space.keys()


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("training.learningrate", "1,2", "Did you mean 'training.learning_rate'"),
        ("options.kll.weight", "1,2", "Did you mean 'kl'"),
        ("seed", "0,1", "seed cannot be swept: it draws the folds"),
        ("protocol", "random,blocks", "protocol cannot be swept"),
        ("data", "a,b", "data cannot be swept: it says which rows there are"),
        ("longest.watch", "5,10", "longest.watch cannot be swept"),
        ("training.device", "cpu,cuda", "not what they learn"),
        ("teacher.sets", "all,each", "its value is a list"),
        ("options.osmd.jdn", "none,joint", "none of the methods (kl, pkdot) reads it"),
        ("transport.k", "", "its range is empty"),
        ("transport.k", "10,30,", "a value is empty"),
        ("transport.k", "10,10", "10 is given twice"),
        ("transport.k", "60..10", "its first end must be below"),
        ("transport.k", "10..60.5", "expected whole numbers"),
        ("transport.k", "0..60", "transport.k must be a whole number from 1"),
        ("transport.k", "10..60:4:log", "cannot read '10..60:4:log'"),
        ("training.learning_rate", "0..1:log", "begins above 0"),
        ("training.learning_rate", "-1..1", "must be a number above 0"),
        ("training.learning_rate", "1e-4..x", "is not a number"),
        ("training.learning_rate", "1e-4..1:log:1", "from 2 to 9999"),
        ("training.optimizer", "adam..sgd", "takes no numbers"),
        ("training.optimizer", "adam,sdg", "Did you mean 'sgd'"),
    ],
)
def test_a_wrong_range_is_named(name, given, words):
    with pytest.raises(ConfigError) as error:
        parse_space({name: given}, CONFIG)
    assert words in str(error.value)
    assert name.partition(".")[0] in str(error.value)


def test_every_setting_may_be_swept_or_is_refused_with_a_reason():
    known = {name.partition(".")[0] for name in settings(Config)}
    assert known == {*SWEPT, *(name for name in UNSWEPT if "." not in name)}


def test_samplers_suit_their_ranges():
    points = parse_space({"transport.k": "10,30", "options.kl.weight": "1,2"}, CONFIG)
    assert make_sweep(points, CONFIG).trials == 4
    assert make_sweep(points, CONFIG, trials=3).sampler == "random"
    assert make_sweep(points, CONFIG, "one-at-a-time").points == [
        {"transport.k": None, "options.kl.weight": 1.0},  # the experiment's own; null is the paper's 30
        {"transport.k": 10, "options.kl.weight": 1.0},
        {"transport.k": 30, "options.kl.weight": 1.0},
        {"transport.k": None, "options.kl.weight": 2},
    ]
    interval = parse_space({"transport.k": "10..60"}, CONFIG)
    assert make_sweep(interval, CONFIG).sampler == "random"
    with pytest.raises(ConfigError, match="takes values, not an interval"):
        make_sweep(interval, CONFIG, "grid")
    with pytest.raises(ConfigError, match="Did you mean 'random'"):
        make_sweep(interval, CONFIG, "rnadom")
    with pytest.raises(ConfigError, match="draws every point once"):
        make_sweep(points, CONFIG, "grid", trials=3)
    with pytest.raises(ConfigError, match="from 1 to 1000, got 0"):
        make_sweep(points, CONFIG, "random", trials=0)
    large = parse_space({"transport.k": "1..60:60", "options.kl.weight": "1..40:40"}, CONFIG)
    with pytest.raises(ConfigError, match=r"2,400 points \(60 x 40\).*--sampler random --trials 50"):
        make_sweep(large, CONFIG)


def test_every_row_has_as_many_draws_and_repeats_what_makes_no_difference():
    sweep = make_sweep(parse_space({"training.learning_rate": "1e-3,1e-2", "transport.k": "10,30,60"}, CONFIG), CONFIG)
    assert len(sweep.draws("pkdot")) == len({draw.name for draw in sweep.draws("pkdot")}) == 6
    for row in ("baseline", "kl"):
        found = [(draw.settings["training.learning_rate"], draw.replica) for draw in sweep.draws(row)]
        assert found == [(rate, replica) for rate in (1e-3, 1e-2) for replica in range(3)]
    assert [draw.replica for draw in sweep.draws("teacher")] == [0, 0]  # students of three draws share each


def test_names_of_draws_tell_them_apart():
    draws = [Draw({"a.b": 0.1}), Draw({"a.b": 0.1 + 1e-12}), Draw({"a.b": "x/y"}), Draw({"a.b": "x:y"}), Draw({}, 2)]
    names = [draw.name for draw in draws]
    assert len({*names}) == 5
    assert names[0] == "a.b=0.1"
    assert names[4] == "base~2"
    assert not any(set(name) & set('/\\:*?"<>| ') for name in names)


def test_what_concerns_neither_teacher_nor_baseline_leaves_them_as_they_are(tmp_path):
    """The draws of a sweep share them, so this must be so to the bit."""
    data = make_data(n=96)
    changes = {
        "transport": {"k": 4, "weight": 2.0},
        "balance": {"kind": "target-ratio", "warmup": 2, "ratio": 0.5},
        "options": {"kl": {"weight": 4.0}},
        "student": {"init": "random", "hallucinate": "encoder"},
    }
    dropping = {"available": ["phone", "watch"], "privileged": ["pulse"], "impute": "mean"}

    def train(name: str, method: str, **settings) -> torch.Tensor:
        models = fold_models(tmp_path / name, data, training={"epochs": 1}, **settings)
        network = models.control_network(Job(method, "", 1.0, 0, 0))
        return torch.cat([p.flatten() for p in network.parameters()])

    for method in ("teacher", "baseline"):
        assert torch.equal(train("plain", method), train("changed", method, **changes))
    few = train("few", "teacher", student={"drop": 0.2}, **dropping)
    assert torch.equal(few, train("many", "teacher", student={"drop": 0.6}, **dropping))
