"""Every method keeps the contract on every task, and the registry, the tested set and the documentation agree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.support import (
    AVAILABLE,
    KINDS,
    PRIVILEGED,
    ROWS,
    distillation_subject,
    hallucination_subject,
    make_network,
    make_rows,
    shapes_of,
    speech,
    standalone_subject,
    supervised_subject,
    task_of,
    trained_tnets,
)
from sidelight.config import Config, TrainingConfig, load_config
from sidelight.errors import ConfigError
from sidelight.methods import (
    CONTROLS,
    METHODS,
    CachedOutputs,
    Distillation,
    Hallucination,
    MethodSpec,
    MultiStageMethod,
    Teacher,
    TrainState,
    check_options,
    parse_methods,
)
from sidelight.methods.catalog import documentation, summarize_method
from sidelight.networks.hallucination import freeze, make_hallucinators
from sidelight.networks.network import Output
from sidelight.tasks import TASKS
from sidelight.testing import (
    CHECKS,
    Subject,
    check_learns,
    check_method,
    check_resume_is_exact,
    check_terms_are_finite_scalars,
    check_unlabelled_targets_are_not_read,
)
from sidelight.training import fit
from sidelight.transport.anchors import ANCHORS

pytestmark = pytest.mark.filterwarnings("ignore:k=.* anchors:UserWarning")
SUMS = ("pkdot+kl", "mse+cosine")
TAUGHT = (distillation_subject, standalone_subject)
DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"


def supports_task(method: str, task: str) -> bool:
    return all(METHODS[term].supports_task(task_of(task)) for term in MethodSpec.parse(method).terms)


def subjects() -> dict[str, tuple[Any, ...]]:
    """Test id -> what makes the subject: every method × task, its own student with every kind of rows, and in some of
    them another student and cross-fitted teachers."""
    made: dict[str, tuple[Any, ...]] = {}
    for task in TASKS:
        for method in (*METHODS, *SUMS):
            if not supports_task(method, task):
                continue
            if MethodSpec.parse(method).multi_stage:
                for kind in KINDS:
                    made[f"{method}-{task}-{kind}"] = (standalone_subject, method, task, kind)
                continue
            tnet = MethodSpec.parse(method).hallucinates(Config())
            other = {"": "t-net", "t-net": "", "encoder": "t-net"}[tnet]
            for kind, student, crossfit in (
                ("complete", tnet, False),
                ("both", tnet, False),
                ("partly labelled", other, False),
                ("privileged partly present", tnet, True),
                ("partly labelled", tnet, False),
                ("privileged partly present", tnet, False),
            ):
                name = f"{method}-{task}-{kind}-{student or 'plain'}-{'crossfit' if crossfit else 'one'}"
                made[name] = (distillation_subject, method, task, kind, student, crossfit)
        for kind in ("complete", "both"):
            for role in CONTROLS:
                made[f"{role}-{task}-{kind}"] = (supervised_subject, role, task, kind)
        for loss in ("mse", "cosine", "mmd"):
            made[f"t-net-{task}-{loss}"] = (hallucination_subject, task, "both", loss)
    return made


SUBJECTS = subjects()


@cache
def subject_of(name: str) -> Subject:
    make, *given = SUBJECTS[name]
    if make is distillation_subject:
        method, task, kind, tnet, crossfit = given
        return distillation_subject(method, task, kind, tnet=tnet, crossfit=crossfit)
    return make(*given)


KEPT_IN = ("classification", "regression", "segmentation")
"""A label, values, and a class per pixel; retrieval and anti-spoofing read rows and labels as classification does."""


REPRESENTED = ("pkdot+kl", "osmd")
"""The methods that the default run has on the other tasks too: without and with logits, and of own stages."""


ON_EVERY_TARGET = (*SUMS, "crcd", "osmd", "mers", "fitnet")
"""The methods that the default run has on values and on maps as well as on classes, on every kind of rows, with another
student and with cross-fitted teachers: one of each family. Of the others it has their first task with every fault of
the rows at once, and `-m slow` has the rest."""


ON_MAPS = ("pkdot+kl", "osmd")
"""Those that it has on maps, which take longest: a row of vectors for each map, and regions. `test_teacher_outputs.py`
has all checks of "fitnet", which compares whole maps, beside a teacher that says them at every step."""


def taught_in(check: Callable[[Subject], None], method: str) -> tuple[str, ...]:
    """The tasks on which the default run has a check that trains a method; with `-m slow` there are all.

    What a method must save to be resumed is the same on every task, so that one task will do, and all for the sums.
    """
    meant = [task for task in TASKS if supports_task(method, task)]
    if method not in (SUMS if check is check_resume_is_exact else ON_EVERY_TARGET):
        return tuple(meant[:1])
    return tuple(task for task in meant if task in KEPT_IN and (task != "segmentation" or method in ON_MAPS))


TRAIN = (check_learns, check_resume_is_exact)
"""The checks that train; together they take as long as all others."""


def quick(name: str, check: Callable[[Subject], None]) -> bool:
    """Whether the default run has it; the rest is run with `-m slow`.

    Each method meets rows with every fault, of which some lack labels and some a privileged modality. Those
    of `ON_EVERY_TARGET` meet each kind of target, rows, student and teacher once: classes with complete rows, and with
    partly labelled ones and another student; values (classes, for a method that knows no values) with privileged gaps
    and a cross-fitted teacher; a class per pixel with every fault. On the other tasks, which read rows and labels as
    classification does, there are `REPRESENTED` and the controls.

    The checks that train have one of these subjects on each task of `taught_in`.
    """
    make, *given = SUBJECTS[name]
    if make in TAUGHT and given[0] not in (*ON_EVERY_TARGET, *REPRESENTED):
        own = make is standalone_subject or (given[3] == MethodSpec.parse(given[0]).hallucinates(Config()))
        return given[1] == taught_in(check, given[0])[0] and given[2] == "both" and own
    if check in TRAIN and make in TAUGHT:
        method, task, kind = given[:3]
        if task not in taught_in(check, method):
            return False
        taught_by_own = MethodSpec.parse(method).multi_stage or (task == "regression") is (given[-1] is True)
        wanted = {"classification": "complete", "regression": "privileged partly present"}.get(task, "both")
        if kind != wanted or not (taught_by_own or wanted == "both"):
            return False
    if make in TAUGHT and given[1] not in KEPT_IN and given[0] not in REPRESENTED:
        return False
    if make is distillation_subject:
        method, task, kind, student, crossfit = given
        if task == "segmentation" and method not in ON_MAPS:
            return False
        if kind in KINDS[1:3] and student == MethodSpec.parse(method).hallucinates(Config()) and not crossfit:
            return False
        if crossfit and task == "classification" and supports_task(method, "regression"):
            return False
    if make is hallucination_subject:  # which know features alone: of vectors, of several values, and maps
        task, _, loss = given
        return task == "classification" or (task, loss) in (("regression", "mse"), ("segmentation", "mmd"))
    if make is standalone_subject and given[1:] == ["classification", "privileged partly present"]:
        return not supports_task(given[0], "regression")
    faulty = "-both" in name
    if "-regression-" in name and make in TAUGHT:
        return given[2] == "privileged partly present"
    return not faulty if "-classification-" in name or "-regression-" in name else faulty


def keeps(name: str, checks: list[Callable[[Subject], None]]) -> None:
    for check in checks:
        try:
            check(subject_of(name))
        except Exception as error:
            error.add_note(f"{check.__name__} of {name}")
            raise


QUICK = {name: [check for check in CHECKS if quick(name, check)] for name in SUBJECTS}


@pytest.mark.parametrize("name", [name for name, checks in QUICK.items() if checks])
def test_contract(name):
    keeps(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, checks in QUICK.items() if len(checks) < len(CHECKS)])
def test_the_rest_of_the_contract(name):
    keeps(name, [check for check in CHECKS if check not in QUICK[name]])


def test_the_default_run_trains_every_method_and_on_every_kind_of_target():
    for check in TRAIN:
        trained = [
            tuple(given[:2]) for name, (make, *given) in SUBJECTS.items() if make in TAUGHT and quick(name, check)
        ]
        assert sorted(trained) == sorted((m, t) for m in (*METHODS, *SUMS) for t in taught_in(check, m))
        assert {m for m, _ in trained} == {*METHODS, *SUMS}
        assert {t for _, t in trained} == {*KEPT_IN}
    assert {t for m in METHODS for t in taught_in(check_learns, m)} == {*KEPT_IN}
    for task in TASKS:  # a baseline and a teacher are trained on each
        for role in CONTROLS:
            assert any(
                quick(n, check) for n, given in SUBJECTS.items() if given[1:3] == (role, task) for check in TRAIN
            )


def test_check_method_runs_every_check(monkeypatch):
    seen = []
    checks = [lambda subject: seen.append(subject), lambda subject: seen.append(subject)]
    for check in checks:
        check.__name__ = "check_nothing"
    monkeypatch.setattr("sidelight.testing.contract.CHECKS", checks)
    check_method(subject_of("kl-classification-both-plain-one"))
    assert len(seen) == 2


# registry, tested set, documents ------------------------------------------------------------------------------------


def test_registry_tested_set_and_documents_agree():
    """After a change of a method: `sidelight methods --markdown`, between the comments of docs/methods.md."""
    tested = {given[0] for make, *given in SUBJECTS.values() if make is not hallucination_subject}
    assert tested - set(SUMS) == {*METHODS, *CONTROLS}
    made = re.search(r"<!-- made by [^\n]*-->\n(.*?)\n?<!-- end -->", DOCUMENT.read_text(), re.DOTALL)
    assert made
    assert made[1] == documentation()


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_has_its_own_student_and_one_teacher_with_every_kind_of_rows(kind):
    wanted = {
        (m, t) for m in (*METHODS, *SUMS) for t in TASKS if supports_task(m, t) and not MethodSpec.parse(m).multi_stage
    }
    found = {
        (given[0], given[1])
        for make, *given in SUBJECTS.values()
        if make is distillation_subject
        and given[2:] == [kind, MethodSpec.parse(given[0]).hallucinates(Config()), False]
    }
    assert found == wanted


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_its_paper_and_its_equations(name):
    found = summarize_method(name)
    assert found.summary.endswith(".")
    assert found.paper
    assert found.tasks
    text = " ".join(" ".join(kind.__doc__ or "" for kind in METHODS[name].__mro__).split())
    assert re.search(r"[Ee]q\. \d|numbered equation|numbers no equation", text)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_pair_of_method_and_task_is_tested_or_refused_with_a_sentence(name, task):
    tested = {tuple(given[:2]) for make, *given in SUBJECTS.values() if make in TAUGHT}
    if supports_task(name, task):
        assert (name, task) in tested
        return
    with pytest.raises(ConfigError, match=rf"'{re.escape(name)}' .*{task}.*\.$"):
        MethodSpec.parse(name).check(Config(), task_of(task), shapes_of(task))
    if MethodSpec.parse(name).multi_stage:
        return
    student, term = make_network(AVAILABLE, task_of(task)), {name: METHODS[name].from_config(Config())}
    with pytest.raises(ConfigError, match=task):
        Distillation(student, speech(task, "complete"), task_of(task), term, make_rows(task))


def test_a_sum_is_refused_when_one_of_its_terms_is():
    with pytest.raises(ConfigError, match=r"'kl' .*use 'mse'"):
        MethodSpec.parse("pkdot+kl").losses(Config(), task_of("regression"))


# names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pkdto", "unknown method 'pkdto'. Did you mean 'pkdot'"),
        ("kl+teacher", "'teacher' is part of every comparison"),
        ("kl+kl", "names a term twice"),
        ("kl@crosfit", "unknown method suffix '@crosfit'. Did you mean '@crossfit'"),
        ("kl+", "unknown method ''"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused(name, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        MethodSpec.parse(name)


SETTINGS = [
    (name, setting, default)
    for name in METHODS
    for setting, default in summarize_method(name).settings.items()
    if isinstance(default, int | float) and not isinstance(default, bool)
]
MAY_BE_0 = [
    "alpha",
    "inter",
    "intra",
    "transport",
    "mean",
    "weight",
    "distance",
    "angle",
    "point",
    "momentum",
    "beta",
    "warmup",
    "mi_student",
    "mi_auxiliary",
    "adversarial",
    "centroid",
    "threshold",
    "proxy",
    "balance",
    "mask_width",
    "begin",
    "regularise",
]


def test_every_numeric_setting_has_a_range_that_holds_its_default():
    assert {(name, setting) for name, setting, _ in SETTINGS} == {
        (name, setting) for name, method in METHODS.items() if not method.section for setting in method.ranges
    }
    assert all(METHODS[name].ranges[setting].contains(default) for name, setting, default in SETTINGS)


@pytest.mark.parametrize(("name", "setting", "default"), SETTINGS)
def test_a_setting_out_of_its_range_is_named_by_the_constructor_and_by_the_experiment(name, setting, default):
    for value in (0, -1, 0.5, math.nan, math.inf, True):
        asked = Config(options={name: {setting: value}})
        if (value == 0 and setting in MAY_BE_0) or (value == 0.5 and isinstance(default, float)):
            check_options(asked)
            continue
        sentence = rf"options\.{name}\.{setting}: expected .*, not (?i:{value})(\.0|inity)?\.$"
        with pytest.raises(ConfigError, match=sentence):
            check_options(asked)
        method, wrong = METHODS[name], {setting: value}
        with pytest.raises(ConfigError, match=sentence):
            method.build(None, **wrong) if issubclass(method, MultiStageMethod) else method(**wrong)


def test_a_weight_of_pkdot_is_in_range_or_none():
    METHODS["pkdot"](weight=None)
    with pytest.raises(ConfigError, match=r"pkdot\.weight: expected 0 or more, not nan"):
        METHODS["pkdot"](weight=math.nan)


def test_names_are_read():
    assert MethodSpec.parse("pkdot+kl@crossfit") == MethodSpec("pkdot+kl@crossfit", ("pkdot", "kl"), True)
    assert list(parse_methods(["kl", "mse", "kl"])) == ["kl", "mse"]


def test_a_sum_has_t_nets_as_soon_as_a_term_has():
    assert MethodSpec.parse("kl+pkdot").hallucinates(Config()) == "t-net"
    assert not MethodSpec.parse("kl+mse").hallucinates(Config())
    assert not MethodSpec.parse("pkdot").hallucinates(load_config({"student.hallucinate": "no"}))
    assert MethodSpec.parse("kl").hallucinates(load_config({"student.hallucinate": "encoder"})) == "encoder"


def test_settings_reach_the_terms():
    config = load_config({"options.kl.temperature": 2.5, "options.mse.on": "fused", "transport.weight": 0.7})
    terms = MethodSpec.parse("kl+mse+pkdot").losses(config, task_of("classification"))
    assert terms["kl"].temperature == 2.5
    assert terms["mse"].on == "fused"
    assert terms["pkdot"].weight == 0.7
    for name, weight in (("pkdot", 0.4), ("pkdot-released", 0.6), ("kl", 1.0)):
        assert METHODS[name].from_config(Config()).weight == weight


# what the methods do --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "crossfit", "within"),
    [("pkdot", True, True), ("kl+pkdot", True, True), ("kl", True, False), ("pkdot", False, False)],
)
def test_only_relational_terms_of_cross_fitted_teachers_draw_batches_within_parts(name, crossfit, within):
    subject = distillation_subject(name, "classification", "both", tnet=False, crossfit=crossfit)
    assert subject.fresh().within_teacher_folds is within


@pytest.mark.parametrize("anchors", ANCHORS)
@pytest.mark.parametrize(
    "task", ["classification", *(pytest.param(t, marks=pytest.mark.slow) for t in TASKS if t != "classification")]
)
def test_every_choice_of_anchors_keeps_the_contract(anchors, task):
    """Class-balanced anchors are chosen by labels: not by those that are hidden, and not where there are no classes."""
    config = load_config({"transport.anchors": anchors, "transport.k": 6})
    if anchors == "class_balanced" and task in ("regression", "segmentation"):
        with pytest.raises(ConfigError, match="class_balanced needs classes"):
            distillation_subject("pkdot", task, "both", tnet=False, config=config)
        return
    subject = distillation_subject("pkdot", task, "both", tnet=False, config=config)
    check_terms_are_finite_scalars(subject)
    check_unlabelled_targets_are_not_read(subject)
    if task == "classification":  # what is drawn does not depend on the task
        check_resume_is_exact(subject)


@pytest.mark.slow
@pytest.mark.parametrize("anchors", ANCHORS)
@pytest.mark.parametrize("task", [t for t in TASKS if t != "classification"])
def test_every_choice_of_anchors_is_resumed_on_every_other_task(anchors, task):
    if anchors == "class_balanced" and task in ("regression", "segmentation"):
        pytest.skip("refused: it needs classes")
    config = load_config({"transport.anchors": anchors, "transport.k": 6})
    check_resume_is_exact(distillation_subject("pkdot", task, "both", tnet=False, config=config))


def test_unlabelled_rows_move_the_student_through_every_term_but_the_task_loss():
    subject = distillation_subject("kl", "classification", "both", tnet=False)
    method, rows = subject.fresh().eval(), subject.rows
    unlabelled = rows.index_select((~rows.labelled).nonzero()[:, 0])
    for name, moves in (("task", False), ("kl", True)):
        method.zero_grad()
        method.terms(unlabelled, TrainState())[name].backward()
        sizes = torch.stack([p.grad.abs().max() for p in method.parameters() if p.grad is not None])
        assert bool(sizes.max() > 0) is moves


@pytest.mark.parametrize("name", ["kl+mse+cosine", "pkdot+kl"])
@pytest.mark.parametrize("silent", [5, ROWS - 1, ROWS])
def test_rows_of_which_no_cross_fitted_teacher_speaks_move_no_term_but_the_task_loss(name, silent):
    """What stands in the teacher's outputs there must not matter; with one row left there is nothing to compare."""
    teacher, rows = speech("classification", "both", crossfit=True), make_rows("classification", "both")
    part = teacher.teacher_fold.clone()
    part[:silent] = -1
    said = teacher.outputs.all_rows
    said = replace(said, prediction=said.prediction.clone(), fused=said.fused.clone())
    said.prediction[:silent], said.fused[:silent] = torch.nan, torch.nan
    task = task_of("classification")
    terms = MethodSpec.parse(name).losses(Config(), task)
    method = Distillation(make_network(AVAILABLE, task), Teacher(CachedOutputs(said), part), task, terms, rows).eval()
    for term in terms:
        batch = replace(rows, inputs={"phone": rows.inputs["phone"].clone().requires_grad_()})
        value = method.terms(batch, TrainState())[term]
        assert value.isfinite()
        grad = torch.autograd.grad(value, batch.inputs["phone"])[0]
        assert grad[:silent].abs().sum() == 0
        assert bool(grad[silent:].abs().sum() > 0) is (silent == 5)


def test_t_nets_learn_nothing_from_rows_without_the_modality():
    """The teacher's features are zeros there: whatever stands in them must not matter, also inside the loop."""
    rows = make_rows("classification", "both")
    trained = {}
    for poison in (0.0, 1e3):
        torch.manual_seed(0)
        tnets = make_hallucinators({"phone": (1, 8), "watch": (1, 8)}, AVAILABLE, ("watch",))
        g = torch.Generator().manual_seed(1)
        features = {m: torch.randn(ROWS, 1, 8, generator=g) for m in ("phone", "watch")}
        features["watch"][~rows.present["watch"]] = poison
        said = CachedOutputs(Output(torch.zeros(ROWS, 3), torch.zeros(ROWS, 8), features))
        method = Hallucination(tnets, said, said, task_of("classification"))
        history = fit(method, rows, rows, TrainingConfig(epochs=3, batch_size=8, least_steps=1), seed=0)
        trained[poison] = ([e["select"] for e in history.epochs], tnets["watch"].layers[0].weight)
    assert trained[0.0][0] == trained[1e3][0]
    assert torch.equal(trained[0.0][1], trained[1e3][1])


def test_t_nets_count_their_steps_and_freeze_after():
    tnets = trained_tnets("classification", "complete")
    assert {int(t.trained_steps) for t in tnets.values()} == {3}  # three epochs of one batch
    fresh = make_hallucinators(dict.fromkeys((*AVAILABLE, *PRIVILEGED), (1, 8)), AVAILABLE, PRIVILEGED)
    with pytest.raises(ConfigError, match="'watch' was never trained"):
        freeze(fresh["watch"])


def test_teachers_speak_of_the_row_that_the_index_names():
    teacher, rows = speech("classification", "complete"), make_rows("classification", "complete")
    picked = rows.index_select(torch.tensor([5, 2]))
    assert torch.equal(teacher(picked).prediction, teacher.outputs.all_rows.prediction[[5, 2]])
    assert torch.equal(
        teacher(replace(picked, index=torch.tensor([1, 1]))).fused, teacher.outputs.all_rows.fused[[1, 1]]
    )


# options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kll": {"temperature": 2}}, "unknown method of options 'kll'. Did you mean 'kl'"),
        ({"kl": {"temprature": 2}}, "unknown setting of options.kl 'temprature'. Did you mean 'temperature'"),
        ({"kl": {"temperature": "hot"}}, "options.kl.temperature: expected a number, not 'hot'."),
        ({"admd": {"hidden": 2.5}}, "options.admd.hidden: expected a whole number, not 2.5."),
        ({"amid": {"contrast": "ncee"}}, "unknown value of options.amid.contrast 'ncee'. Did you mean 'nce'"),
        ({"amid": {"fixed_teacher": "maybe"}}, "options.amid.fixed_teacher: expected true or false, not 'maybe'."),
        ({"pkdot": {"epsilon": 2}}, "the settings of pkdot are called transport.epsilon"),
        ({"admd": {"hiden": 2}}, "unknown setting of options.admd 'hiden'. Did you mean 'hidden'"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_before_any_training(options, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check_options(load_config({"options": options}))


@pytest.mark.parametrize("name", ["kl+admd", "admd@crossfit"])
def test_a_method_of_several_stages_cannot_be_combined(name):
    with pytest.raises(ConfigError, match="'admd' is a method of several stages"):
        MethodSpec.parse(name)
