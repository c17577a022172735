"""Checks that a method distils: its terms move the student, and they depend on the teacher."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.methods.base import Method, TrainState
from sidelight.methods.distillation import Distillation, DistillationLoss
from sidelight.testing.driving import run_steps
from sidelight.testing.subject import Subject, require

SEED = 5


def check_terms_have_a_gradient(subject: Subject) -> None:
    """Every term moves something: a `DistillationLoss` the student, any other term the group of its step.

    A term that counts (discordant pairs, wrong classes) has a gradient of zero almost everywhere, and trains nothing
    beside a task loss that hides it. Nor does a term move the student that reaches only modules of its own, such as a
    projection; of a loss of several scalars, those of `DistillationLoss.auxiliary` may.
    """
    method = subject.fresh()
    method.train()
    for step in method.steps(subject.used(method), TrainState()):
        for name, value in step.terms.items():
            loss, scalar = _loss_of(method, name)
            if loss is None:
                group = method.groups()[step.group]
                require(
                    _reaches(value, group), f"term {name!r} has no gradient to the group {step.group!r} of its step"
                )
            elif scalar in loss.auxiliary:
                own = [p for p in loss.parameters() if p.requires_grad]
                require(_reaches(value, own), f"auxiliary term {name!r} has no gradient to the term's own modules")
            else:
                require(_reaches(value, _student(method)), f"term {name!r} has no gradient to the student")


def check_terms_depend_on_the_teacher(subject: Subject) -> str | None:
    """What trains the student depends on the teacher, or on the privileged rows that a method learns its teacher from.

    Each term of a sum of losses has another gradient to the student with another teacher. The value alone would not
    tell: a count of disagreements beside a penalty on the student's norm changes with the teacher, and teaches nothing.
    The task loss and the losses of the student's own network are no `DistillationLoss`, so nothing is asked of them; a
    supervised scalar that a loss computes beside those that distil is named in `DistillationLoss.auxiliary`.

    Of any other method, the steps of one batch leave another student.
    """
    if subject.other is None:
        return "no other teacher is given (Subject.other)"
    one, two = subject.fresh(), subject.other(torch.float32)
    if isinstance(one, Distillation):
        before, after = _gradients(one, subject), _gradients(two, subject)
        for part in one.parts:
            require(any(_part_of(name, [part]) for name in before), f"every scalar of {part!r} is auxiliary")
        for name, gradient in before.items():
            same = torch.equal(gradient, after[name])
            require(not same, f"the gradient of term {name!r} to the student is the same with another teacher")
        return None
    same = all(torch.equal(x, y) for x, y in zip(_trained(one, subject), _trained(two, subject)))
    require(not same, "the student is the same after a step whatever the privileged rows hold")
    return None


def _student(method: Method) -> list[Parameter]:
    return [p for p in method.deployed_network().parameters() if p.requires_grad]


def _loss_of(method: Method, term: str) -> tuple[DistillationLoss | None, str]:
    """The `DistillationLoss` that a term of a sum of losses comes from, and its name among the loss's scalars."""
    if not isinstance(method, Distillation):
        return None, ""
    part = _part_of(term, method.parts)
    loss = method.parts[part] if part else None
    return (loss, term.removeprefix(part).strip()) if isinstance(loss, DistillationLoss) else (None, "")


def _part_of(term: str, parts: Iterable[str]) -> str:
    """The part that a term is, or is a scalar of; "" where there is none."""
    return max((part for part in parts if term == part or term.startswith(f"{part} ")), key=len, default="")


def _reaches(value: Tensor, params: list[Parameter]) -> bool:
    if not value.requires_grad or not params:
        return False
    grads = torch.autograd.grad(value, params, retain_graph=True, allow_unused=True)
    return any(g is not None and bool((g != 0).any()) for g in grads)


def _gradients(method: Method, subject: Subject) -> dict[str, Tensor]:
    """Distillation term -> its gradient with respect to the student, as one vector; auxiliary ones are left out."""
    torch.manual_seed(SEED)
    method.train()
    params, found = _student(method), {}
    for step in method.steps(subject.used(method), TrainState()):
        for name, value in step.terms.items():
            loss, scalar = _loss_of(method, name)
            if loss is None or scalar in loss.auxiliary:
                continue
            if not value.requires_grad:
                found[name] = torch.zeros(1)
                continue
            grads = torch.autograd.grad(value, params, retain_graph=True, allow_unused=True)
            found[name] = torch.cat(
                [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(params, grads)]
            )
    return found


def _trained(method: Method, subject: Subject) -> list[Tensor]:
    """The state of the exported network after the steps of one batch."""
    torch.manual_seed(SEED)
    for _ in run_steps(method, subject.used(method)):
        pass
    return [*(method.deployed_network() if subject.exports else method).state_dict().values()]
