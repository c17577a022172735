"""The public contract of a method, as checks that anybody can run on their own.

`check_method("huber")` or `check_method(Huber)` runs every check on every task that the method suits, prints what was
checked, and raises `ContractError` at the first check that fails. `parametrize_with_checks([...])` makes each of them a
test of its own in pytest. docs/methods.md says what the contract is: what may be read, what is trained, what stays as
it was, and what survives a resume.
"""

from sidelight.testing.contract import CHECKS, check_method, parametrize_with_checks
from sidelight.testing.driving import run_steps
from sidelight.testing.stack_checks import check_stacked_models_do_not_mix
from sidelight.testing.step_checks import (
    check_nothing_frozen_untrained,
    check_parameters_are_grouped,
    check_steps_move_their_group_only,
    check_terms_are_finite_scalars,
    check_terms_leave_the_batch_alone,
    check_unlabelled_targets_are_not_read,
)
from sidelight.testing.student_checks import (
    check_missing_modality_is_not_read,
    check_prediction_ignores_batch_mates,
    check_student_reads_available_only,
)
from sidelight.testing.subject import ContractError, Subject
from sidelight.testing.subjects import make_subject
from sidelight.testing.teacher_checks import check_terms_depend_on_the_teacher, check_terms_have_a_gradient
from sidelight.testing.training_checks import check_learns, check_resume_is_exact

__all__ = [
    "CHECKS",
    "ContractError",
    "Subject",
    "check_learns",
    "check_method",
    "check_missing_modality_is_not_read",
    "check_nothing_frozen_untrained",
    "check_parameters_are_grouped",
    "check_prediction_ignores_batch_mates",
    "check_resume_is_exact",
    "check_stacked_models_do_not_mix",
    "check_steps_move_their_group_only",
    "check_student_reads_available_only",
    "check_terms_are_finite_scalars",
    "check_terms_depend_on_the_teacher",
    "check_terms_have_a_gradient",
    "check_terms_leave_the_batch_alone",
    "check_unlabelled_targets_are_not_read",
    "make_subject",
    "parametrize_with_checks",
    "run_steps",
]
