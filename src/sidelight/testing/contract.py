"""`check_method` and `parametrize_with_checks`: the public contract of a method, over the tasks that it suits."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidelight.errors import ConfigError, unknown
from sidelight.tasks import TASKS
from sidelight.testing.driving import named
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
from sidelight.testing.subjects import MethodClass, make_subject, tasks_of
from sidelight.testing.teacher_checks import check_terms_depend_on_the_teacher, check_terms_have_a_gradient
from sidelight.testing.training_checks import check_learns, check_resume_is_exact

if TYPE_CHECKING:
    import pytest

Check = Callable[[Subject], str | None]
"""Raises ContractError; returns why it does not apply to the subject, or None."""

CHECKS: tuple[Check, ...] = (
    check_terms_are_finite_scalars,
    check_terms_have_a_gradient,
    check_terms_depend_on_the_teacher,
    check_parameters_are_grouped,
    check_steps_move_their_group_only,
    check_student_reads_available_only,
    check_missing_modality_is_not_read,
    check_prediction_ignores_batch_mates,
    check_nothing_frozen_untrained,
    check_resume_is_exact,
    check_learns,
    check_terms_leave_the_batch_alone,
    check_unlabelled_targets_are_not_read,
    check_stacked_models_do_not_mix,
)
"""Every check, in the order in which `check_method` runs them."""


def check_method(
    method: str | MethodClass | Subject, *, task: str = "", verbose: bool = True, **settings: Any
) -> list[str]:
    """Run every check of the contract over a method, on every task that it suits.

        check_method("huber")            # as an experiment names it
        check_method(Huber, delta=2.0)   # a class, registered or not, with settings

    The rows are small and synthetic: half of them have no label, and a third lack a privileged modality. The teacher
    has learnt them, and the T-Nets that the method's student reads are trained.

    Args:
        method: a name (a sum such as `pkdot+kl` too), a `DistillationLoss` or `MultiStageMethod`, or a `Subject`.
        task: the one task to check; by default, every task that the method suits.
        verbose: print one line for each check and task as it passes.
        settings: the method's settings, as in `options.<name>.*` (of `pkdot`: `transport.*`).

    Returns:
        The lines: task, check, and "passed" or why the check does not apply.

    Raises:
        ContractError: names the task, the check and what is wrong.
        ConfigError: an unknown method, task or setting.
    """
    if isinstance(method, Subject) and (task or settings):
        raise ConfigError("a Subject has its own task and settings: leave out `task` and the settings.")
    lines = []
    for name in [""] if isinstance(method, Subject) else _tasks(method, task):
        with _on(name):
            subject = method if isinstance(method, Subject) else make_subject(method, name, options=settings)
        for check in CHECKS:
            with _on(name, check):
                left_out = check(subject)
            lines.append(f"{name:<15} {check.__name__:<40} {left_out or 'passed'}".strip())
            if verbose:
                print(lines[-1])
    return lines


def parametrize_with_checks(methods: Sequence[str | MethodClass | Subject], *, task: str = "") -> pytest.MarkDecorator:
    """A pytest mark that runs every check over every method, each as a test of its own.

        @parametrize_with_checks(["huber", MyLoss])
        def test_contract(method, check):
            check(method)

    Args:
        methods: what `check_method` takes.
        task: the one task to check; by default, every task that each method suits.
    """
    import pytest

    cases = [
        pytest.param(method, TaskCheck(check, name), id="-".join(filter(None, (_id(method), name, _short(check)))))
        for method in methods
        for name in ([""] if isinstance(method, Subject) else _tasks(method, task))
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("method", "check"), cases)


@dataclass(frozen=True)
class TaskCheck:
    """One check on one task; called with a method, it makes the subject and checks it."""

    check: Check
    task: str

    def __call__(self, method: str | MethodClass | Subject) -> None:
        with _on(self.task, self.check):
            self.check(method if isinstance(method, Subject) else _cached(method, self.task))


_cached: Callable[[Any, str], Subject] = functools.lru_cache(maxsize=8)(make_subject)
"""The subjects of the tests that ran last: those of one method and task follow each other."""


def _tasks(method: str | MethodClass, task: str) -> list[str]:
    if task and task not in TASKS:
        raise ConfigError(unknown("task", task, TASKS))
    return [task] if task else tasks_of(method)


def _id(method: str | MethodClass | Subject) -> str:
    return method if isinstance(method, str) else "subject" if isinstance(method, Subject) else method.__name__


def _short(check: Check) -> str:
    return check.__name__.removeprefix("check_")


@contextmanager
def _on(task: str, check: Check | None = None) -> Iterator[None]:
    """Errors name the check and the task; fewer rows than a transport has anchors are no news here."""
    where = f"{check.__name__}{f' ({task})' if task else ''}" if check else f"building the method ({task})"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "k=.* anchors", UserWarning)
            yield
    except ConfigError:
        raise
    except Exception as error:
        what = str(error) if isinstance(error, ContractError) else f"the method fails: {named(error)}"
        raise ContractError(f"{where}: {what}") from error
