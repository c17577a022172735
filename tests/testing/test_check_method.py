"""`check_method` and `parametrize_with_checks` take a name or a class, and refuse what distils nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.support import NETWORK, make_rows, supervised_subject
from sidelight import testing
from sidelight.errors import ConfigError
from sidelight.methods import METHODS, DistillationLoss, MultiStageMethod, Supervised
from sidelight.methods.spec import MethodSpec
from sidelight.tasks import TASKS
from sidelight.testing import CHECKS, ContractError, check_method, make_subject, parametrize_with_checks
from sidelight.testing.contract import TaskCheck
from sidelight.testing.subjects import tasks_of

GRADIENT, TEACHER = testing.check_terms_have_a_gradient, testing.check_terms_depend_on_the_teacher


class Huber(DistillationLoss):
    """Huber distance between the predictions.

    Args:
        delta: where the square ends.
    """

    def __init__(self, delta: float = 1.0, weight: float = 1.0):
        super().__init__()
        self.delta, self.weight = delta, weight

    def forward(self, student, teacher, batch, task) -> Tensor:
        return F.huber_loss(student.prediction, teacher.prediction, delta=self.delta)


def discordant(student, teacher) -> Tensor:
    """The share of pairs of rows that student and teacher order otherwise: a step function."""
    s, t = student.fused.mean(1), teacher.fused.mean(1)
    return ((s[:, None] - s[None]) * (t[:, None] - t[None]) < 0).to(s).mean()


class Discordant(DistillationLoss):
    def forward(self, student, teacher, batch, task):
        return discordant(student, teacher) + 0 * student.fused.sum()


class DiscordantAndSmall(DistillationLoss):
    """Its value depends on the teacher, its gradient on the student alone."""

    def forward(self, student, teacher, batch, task):
        return discordant(student, teacher) + 0.01 * student.fused.square().mean()


class Confident(DistillationLoss):
    """Never looks at the teacher."""

    tasks = ("classification",)

    def forward(self, student, teacher, batch, task):
        p = student.prediction.log_softmax(1)
        return -0.01 * (p.exp() * p).sum(1).mean()


class OwnModules(DistillationLoss):
    """Trains a map of the student's embedding, and forgets the student."""

    def prepare(self, student, teacher, rows, task):
        self.map = nn.Linear(NETWORK.width, task.outputs)

    def forward(self, student, teacher, batch, task):
        return F.mse_loss(self.map(student.fused.detach()), teacher.prediction)


class AllAuxiliary(OwnModules):
    auxiliary = ("map",)

    def forward(self, student, teacher, batch, task):
        return {"map": super().forward(student, teacher, batch, task)}


class HiddenInTwo(DistillationLoss):
    """Of two scalars one distils."""

    def forward(self, student, teacher, batch, task):
        return {
            "near": F.mse_loss(student.prediction, teacher.prediction),
            "rank": discordant(student, teacher) + 0 * student.fused.sum(),
        }


class Alone(MultiStageMethod):
    """Trains on the available modalities alone."""

    @classmethod
    def build(cls, context):
        return Supervised(context.network(context.available), context.task)


BROKEN = [
    (Discordant, GRADIENT, "term 'discordant' has no gradient to the student"),
    (DiscordantAndSmall, TEACHER, "'discordantandsmall' to the student is the same with another teacher"),
    (Confident, TEACHER, "the gradient of term 'confident' to the student is the same with another teacher"),
    (OwnModules, GRADIENT, "term 'ownmodules' has no gradient to the student"),
    (AllAuxiliary, TEACHER, "every scalar of 'allauxiliary' is auxiliary"),
    (HiddenInTwo, GRADIENT, "term 'hiddenintwo rank' has no gradient to the student"),
    (Alone, TEACHER, "the student is the same after a step whatever the privileged rows hold"),
]


@pytest.mark.parametrize(("method", "check", "message"), BROKEN, ids=lambda x: getattr(x, "__name__", ""))
def test_what_is_no_distillation_is_refused(method, check, message):
    with pytest.raises(ContractError, match=rf"^{check.__name__} \(classification\): .*{message}"):
        check_method(method, task="classification", verbose=False)


@pytest.mark.parametrize("method", [Discordant, DiscordantAndSmall, Confident, HiddenInTwo, Alone])
def test_it_is_caught_by_the_checks_at_hand_alone(method):
    subject = make_subject(method, "classification")
    for check in CHECKS:
        if check not in (GRADIENT, TEACHER):
            check(subject)


@pytest.mark.slow  # test_registry.py has both checks of every method
@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_passes_both(name):
    for task in ("classification", "regression") if "regression" in tasks_of(name) else ("classification",):
        subject = make_subject(name, task)
        GRADIENT(subject)
        assert TEACHER(subject) is None


MISSING = testing.check_missing_modality_is_not_read


@pytest.mark.parametrize("checks", [(GRADIENT, MISSING), pytest.param(CHECKS, marks=pytest.mark.slow)], ids=len)
def test_a_class_is_checked_on_every_task_it_suits_and_the_lines_say_so(checks, monkeypatch, capsys):
    monkeypatch.setattr("sidelight.testing.contract.CHECKS", checks)
    lines = check_method(Huber, delta=0.5)
    assert len(lines) == len(TASKS) * len(checks)
    assert capsys.readouterr().out.splitlines() == lines
    for task in TASKS:
        for check in checks:
            said = [line for line in lines if line.split()[:2] == [task, check.__name__]]
            assert len(said) == 1
            left_out = check is MISSING
            assert said[0].endswith("the student completes no missing modality" if left_out else "passed")


def test_a_registered_name_is_checked_and_nothing_is_printed_when_not_asked(monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "huber", Huber)
    assert len(check_method("huber", task="regression", verbose=False)) == len(CHECKS)
    assert capsys.readouterr().out == ""


def test_sums_settings_of_pkdot_and_methods_of_stages_are_taken(monkeypatch):
    monkeypatch.setattr("sidelight.testing.contract.CHECKS", (GRADIENT, TEACHER))
    check_method("pkdot+kl@crossfit", task="classification", verbose=False)
    check_method("pkdot", k=4, weight=2.0, task="classification", verbose=False)
    check_method("amid", temperature=0.6, task="classification", verbose=False)


def test_the_settings_reach_the_method():
    assert make_subject(Huber, "regression", options={"delta": 0.25}).fresh().parts["huber"].delta == 0.25
    assert make_subject("kl", "classification", options={"temperature": 2.0}).fresh().parts["kl"].temperature == 2.0
    pkdot = make_subject("pkdot", "classification", options={"k": 4}).fresh().parts["pkdot"]
    assert (pkdot.transport.settings["k"], pkdot.weight) == (4, 0.4)
    of_class = make_subject(METHODS["pkdot"], "classification", options={"k": 4}).fresh().parts["pkdot"]
    assert of_class.transport.settings == pkdot.transport.settings

    class Mine(METHODS["pkdot"]):
        """Not registered, with settings in a section all the same."""

    assert make_subject(Mine, "classification", options={"k": 4}).fresh().parts["mine"].transport.settings["k"] == 4


@pytest.mark.parametrize(
    ("method", "asked", "message"),
    [
        ("klm", {}, "unknown method 'klm'. Did you mean 'kl'"),
        ("kl", {"task": "classifcation"}, "unknown task 'classifcation'. Did you mean 'classification'"),
        ("kl", {"task": "regression"}, "'kl' does not support regression"),
        ("kl", {"temperatur": 2}, "temperatur"),
        (Huber, {"delt": 2}, "delt"),
        (Huber, {"delta": "wide"}, "delta"),
        ("pkdot", {"kk": 2}, "kk"),
        ("pkdot+kl", {"weight": 2}, "joins several terms: check each alone"),
    ],
)
def test_a_wrong_request_is_a_config_error(method, asked, message):
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        check_method(method, **asked)


def test_a_subject_made_by_hand_still_works(capsys):
    lines = check_method(supervised_subject("baseline", "classification", "both"))
    assert [line.split()[0] for line in lines] == [check.__name__ for check in CHECKS]
    assert "no other teacher is given (Subject.other)" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="has its own task"):
        check_method(supervised_subject("baseline", "classification", "both"), task="regression")


def test_a_method_that_cannot_be_built_is_named():
    class Bent(MultiStageMethod):
        @classmethod
        def build(cls, context):
            return cls(context.tasks)

    with pytest.raises(ContractError, match=r"building the method \(classification\): .*AttributeError"):
        check_method(Bent, task="classification")


@parametrize_with_checks([Huber, "mse"], task="classification")
def test_parametrized(method, check):
    check(method)


def test_the_mark_has_one_case_for_each_task_and_check_with_readable_ids():
    cases = parametrize_with_checks([Huber, "kl"]).args[1]
    assert len(cases) == (len(TASKS) + len(tasks_of("kl"))) * len(CHECKS)
    assert "Huber-regression-terms_have_a_gradient" in [case.id for case in cases]
    assert "kl-classification-learns" in [case.id for case in cases]


def test_a_case_fails_as_check_method_does():
    with pytest.raises(ContractError, match=r"check_terms_have_a_gradient \(classification\): term 'discordant'"):
        TaskCheck(GRADIENT, "classification")(Discordant)


@pytest.mark.slow  # imports everything once more
def test_pytest_is_imported_only_by_the_mark():
    code = "import sys, sidelight.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_rows_of_the_checks_lack_labels_and_a_privileged_modality():
    subject = make_subject("kl", "classification")
    assert torch.equal(subject.rows.target, make_rows("classification", "both").target)
    assert not subject.rows.labelled.all()
    assert not subject.rows.present["watch"].all()
    assert MethodSpec.parse("kl").terms == ("kl",)
