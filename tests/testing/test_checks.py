"""Each check of the contract catches a method that breaks it, and the unbroken method passes all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from helpers import broken
from helpers.slow import mostly_slow
from helpers.support import make_rows
from sidelight import testing
from sidelight.methods import Method
from sidelight.testing import CHECKS, ContractError, Subject, check_method

pytestmark = pytest.mark.filterwarnings("ignore:.*degrees of freedom:UserWarning")


def subject(method: Callable[[torch.dtype], Method] = broken.Sound) -> Subject:
    return Subject(
        method,
        make_rows("classification", "both"),
        method.available,
        method.privileged,
        other=taught_by_another(method),
    )


def taught_by_another(method: Callable[[torch.dtype], Method]) -> Callable[[torch.dtype], Method]:
    def other(dtype: torch.dtype) -> Method:
        made = method(dtype)
        made.said = made.said.flip(1) + 1
        return made

    return other


@dataclass
class Case:
    method: type[broken.Sound]
    check: Callable[[Subject], None]
    message: str


CASES = [
    Case(
        broken.VectorTerm, testing.check_terms_are_finite_scalars, r"'please' has shape \(24,\), not that of a scalar"
    ),
    Case(broken.NumberTerm, testing.check_terms_are_finite_scalars, "'please' is a float, not a tensor"),
    Case(broken.NaNOfUnlabelled, testing.check_terms_are_finite_scalars, "'wrong' on a full batch .* is nan"),
    Case(broken.VarianceOfOne, testing.check_terms_are_finite_scalars, "'spread' on a batch of 1 .* is nan"),
    Case(broken.RootOfNothing, testing.check_terms_are_finite_scalars, "gradient .* on a batch of 1 .* is not finite"),
    Case(
        broken.DividesByPresent,
        testing.check_terms_are_finite_scalars,
        "'watch' on a batch without a privileged modality",
    ),
    Case(
        broken.SinglePrecision,
        testing.check_terms_are_finite_scalars,
        "'task' is torch.float32 where everything else is",
    ),
    Case(
        broken.UnknownGroup, testing.check_terms_are_finite_scalars, "group 'student', which has no parameter; groups: "
    ),
    Case(
        broken.TermsOfNothing, testing.check_terms_are_finite_scalars, r"\['nothing'\] depend on no trainable parameter"
    ),
    Case(broken.CountsOnly, testing.check_terms_have_a_gradient, "'discordant' has no gradient to the group 'main'"),
    Case(broken.IgnoresTheTeacher, testing.check_terms_depend_on_the_teacher, "whatever the privileged rows hold"),
    Case(
        broken.TwoGroups, testing.check_parameters_are_grouped, r"'critic.weight' \(requires_grad=True\) is in 2 groups"
    ),
    Case(broken.NoGroup, testing.check_parameters_are_grouped, r"'student.encoders.phone.0.weight' .* is in 0 groups"),
    Case(
        broken.FrozenInGroup, testing.check_parameters_are_grouped, r"'frozen.0.weight' \(requires_grad=False\) is in 1"
    ),
    Case(broken.StrangerInGroup, testing.check_parameters_are_grouped, "not a part of the method"),
    Case(
        broken.MovesAnother, testing.check_steps_move_their_group_only, r"\['student.head.weight'\] changed in a step"
    ),
    Case(broken.MovesAfterwards, testing.check_steps_move_their_group_only, r"\['critic.weight'\] changed"),
    Case(
        broken.FrozenStatistics, testing.check_steps_move_their_group_only, "'frozen.1.num_batches_tracked', .* changed"
    ),
    Case(
        broken.NeverSteps,
        testing.check_steps_move_their_group_only,
        r"no step moved \['critic.bias', 'critic.weight'\]",
    ),
    Case(
        broken.ReadsPrivileged, testing.check_student_reads_available_only, r"reads \['pulse'\], which are privileged"
    ),
    Case(broken.ReadsPrivilegedWhereItIs, testing.check_student_reads_available_only, "privileged inputs are absent"),
    Case(
        broken.NeedsPrivileged,
        testing.check_student_reads_available_only,
        "fails when the privileged inputs are absent",
    ),
    Case(broken.ReadsTheTarget, testing.check_student_reads_available_only, "changes when the target is another"),
    Case(
        broken.RemembersTheRow,
        testing.check_student_reads_available_only,
        "changes when the rows are numbered otherwise",
    ),
    Case(
        broken.NoExport,
        testing.check_student_reads_available_only,
        r"exports no network: deployed_network\(\) is not written",
    ),
    Case(
        broken.PeeksAtTheMissing,
        testing.check_missing_modality_is_not_read,
        "rows that lack 'pulse' the exported network's prediction depends on what stands there",
    ),
    Case(
        broken.AttendsOverTheBatch, testing.check_prediction_ignores_batch_mates, "differs between alone and in a batch"
    ),
    Case(broken.NormalisesByTheBatch, testing.check_prediction_ignores_batch_mates, "fails on a single row"),
    Case(broken.KnowsItsPlace, testing.check_prediction_ignores_batch_mates, "depends on the order of the batch"),
    Case(
        broken.UntrainedTNet,
        testing.check_nothing_frozen_untrained,
        "'student.hallucinators.watch' is frozen, but was never",
    ),
    Case(
        broken.StateOutside,
        testing.check_resume_is_exact,
        "after a resume '(please|critic)' of epoch 2.0 differs from an uninterrupted",
    ),
    Case(broken.UnseededChoice, testing.check_resume_is_exact, "after a resume .* differs"),
    Case(broken.GrowsAway, testing.check_learns, r"took the loss from \d+\.\d+ to \d+\.\d+"),
    Case(broken.WrongSign, testing.check_learns, r"took the score from -\d+\.\d+ to -\d+\.\d+"),
    Case(
        broken.NormalisesInPlace,
        testing.check_terms_leave_the_batch_alone,
        "changed the batch's inputs in place, of 'phone'",
    ),
    Case(
        broken.LabelsTheUnlabelled, testing.check_terms_leave_the_batch_alone, "changed the batch's labelled in place"
    ),
    Case(
        broken.ReadsHiddenTargets,
        testing.check_unlabelled_targets_are_not_read,
        "'same' reads the target of a row without",
    ),
    Case(
        broken.IndexesByHiddenTargets,
        testing.check_unlabelled_targets_are_not_read,
        "unlabelled targets of -1 fails: IndexError",
    ),
    Case(broken.MarksAllPresent, testing.check_terms_leave_the_batch_alone, "changed the batch's present in place"),
    Case(
        broken.CountsPadding,
        testing.check_stacked_models_do_not_mix,
        "term 'please' of model 1 with 14 rows, .* differs by .*: do padding rows",
    ),
    Case(broken.BranchesOnValues, testing.check_stacked_models_do_not_mix, "fail under torch.vmap .*: RuntimeError: "),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("method", [broken.Sound, broken.Stackable])
def test_the_sound_method_passes(method, check):
    check(subject(method))


def test_the_sound_method_that_says_so_is_checked_in_a_stack():
    assert testing.check_stacked_models_do_not_mix(subject()).startswith("not stackable")
    assert testing.check_stacked_models_do_not_mix(subject(broken.Stackable)) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.method.__name__)
def test_the_check_catches_it(case):
    with pytest.raises(ContractError, match=case.message):
        case.check(subject(case.method))


@pytest.mark.slow  # which runs the check that has just caught it
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.method.__name__)
def test_check_method_as_a_whole_refuses_it(case):
    with pytest.raises(ContractError, match=r"^check_\w+: "):
        check_method(subject(case.method))


def test_every_check_has_a_method_that_it_catches():
    assert {case.check for case in CASES} == set(CHECKS)
    assert len({case.method for case in CASES}) == len(CASES)


HEALTHY_OTHERWISE = [
    broken.CountsOnly,
    broken.IgnoresTheTeacher,
    broken.VarianceOfOne,
    broken.FrozenInGroup,
    broken.FrozenStatistics,
    broken.RemembersTheRow,
    broken.PeeksAtTheMissing,
    broken.AttendsOverTheBatch,
    broken.UntrainedTNet,
    broken.StateOutside,
    broken.WrongSign,
    broken.MarksAllPresent,
    broken.ReadsHiddenTargets,
    broken.CountsPadding,
]


QUICK = (broken.CountsOnly, broken.RemembersTheRow, broken.PeeksAtTheMissing)


@pytest.mark.parametrize("method", mostly_slow(HEALTHY_OTHERWISE, QUICK))
def test_it_is_caught_by_no_other_check(method):
    """The method is otherwise healthy, so it is the check at hand that sees the fault, not a side effect."""
    for check in CHECKS:
        if check is not caught_by(method):
            check(subject(method))


def caught_by(method):
    return next(case.check for case in CASES if case.method is method)


def test_every_check_catches_a_method_that_is_healthy_otherwise():
    assert {caught_by(method) for method in HEALTHY_OTHERWISE} == set(CHECKS)


def test_a_stage_without_export_is_not_asked_for_a_student():
    stage = replace(subject(broken.NoExport), exports=False)
    testing.check_student_reads_available_only(stage)
    testing.check_prediction_ignores_batch_mates(stage)
