"""The public contract of a method, as checks that anybody can run on their own.

`check_method(factory)` runs all of them and raises `ContractError` at the first that fails. The checks follow DESIGN
sections 3 and 4: what may be read, what is trained, what stays as it was, and what survives a resume.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods.base import Clock, Method, Step
from sidelight.networks.hallucination import TNet
from sidelight.networks.network import outputs
from sidelight.training import fit


class ContractError(AssertionError):
    """A method breaks the contract; says which check, what was seen and what was expected."""


@dataclass(frozen=True)
class Subject:
    """What is checked: a fresh method at every call of `factory(dtype)`, the rows it learns from, and its modalities.

    factory: makes the same method every time (it seeds itself), parameters and cached teacher outputs in the dtype.
    rows: training rows; some must lack a label and some a privileged modality, so that both are exercised.
    """

    factory: Callable[[torch.dtype], Method]
    rows: Batch
    available: tuple[str, ...]
    privileged: tuple[str, ...]

    def fresh(self, dtype: torch.dtype = torch.float32) -> Method:
        return self.factory(dtype)

    def used(self, method: Method) -> Batch:
        """The rows that the loop would draw batches from."""
        return self.rows.take(self.rows.labelled.nonzero()[:, 0]) if method.learns_from == "labelled" else self.rows


def check_method(subject: Subject) -> None:
    """Run every check in `CHECKS`.

    Raises:
        ContractError: the name of the check and what is wrong.
    """
    for check in CHECKS:
        check(subject)


def drive(method: Method, batch: Batch, rate: float = 0.05) -> Iterator[tuple[Step, dict[str, Tensor]]]:
    """Take the method's steps as the loop does (plain gradient descent), yielding each with its group's gradients."""
    method.train()
    groups = method.groups()
    for step in method.steps(batch, Clock()):
        loss = torch.stack([method.weights.get(name, 1.0) * value for name, value in step.terms.items()]).sum()
        grads = torch.autograd.grad(loss, groups[step.group], allow_unused=True)
        names = {id(p): name for name, p in method.named_parameters()}
        yield step, {names[id(p)]: g for p, g in zip(groups[step.group], grads) if g is not None}
        with torch.no_grad():
            for p, g in zip(groups[step.group], grads):
                if g is not None:
                    p -= rate * g


def check_terms_are_finite_scalars(subject: Subject) -> None:
    """Every term is a finite scalar: on a full batch, a batch of 2, one without any label, and in float64."""
    for dtype in (torch.float32, torch.float64):
        method = subject.fresh(dtype)
        rows = subject.used(method).to(dtype)
        kinds = {"a full batch": rows, "a batch of 2": rows.take(torch.arange(2))}
        if method.learns_from == "all":
            kinds["an unlabelled batch"] = replace(rows, labelled=torch.zeros_like(rows.labelled))
        for kind, batch in kinds.items():
            for step, grads in drive(method, batch, rate=0.0):
                for name, value in step.terms.items():
                    _require(value.dim() == 0, f"term {name!r} on {kind} has shape {tuple(value.shape)}, not a scalar")
                    _require(bool(value.isfinite()), f"term {name!r} on {kind} ({dtype}) is {float(value)}")
                    _require(value.dtype == dtype, f"term {name!r} is {value.dtype} where everything else is {dtype}")
                for name, g in grads.items():
                    _require(bool(g.isfinite().all()), f"the gradient of {name!r} on {kind} ({dtype}) is not finite")


def check_parameters_are_grouped(subject: Subject) -> None:
    """Every trainable parameter is in exactly one group, and no frozen one is in any."""
    method = subject.fresh()
    names = {id(p): name for name, p in method.named_parameters()}
    grouped = [id(p) for params in method.groups().values() for p in params]
    for name, p in method.named_parameters():
        times = grouped.count(id(p))
        wanted = 1 if p.requires_grad else 0
        _require(times == wanted, f"parameter {name!r} (requires_grad={p.requires_grad}) is in {times} groups")
    _require(all(i in names for i in grouped), "a group has a parameter that is not a part of the method")


def check_steps_move_their_group_only(subject: Subject) -> None:
    """A step moves only its group; over one batch every trainable parameter moves; everything else keeps its bits."""
    method = subject.fresh()
    names = {id(p): name for name, p in method.named_parameters()}
    moved: set[str] = set()
    group: set[str] = set()
    before = _bits(method)
    for step, _ in drive(method, subject.used(method)):
        moved |= _moved(before, method, group)
        group = {names[id(p)] for p in method.groups()[step.group]}
        before = _bits(method)
    moved |= _moved(before, method, group)
    still = {name for name, p in method.named_parameters() if p.requires_grad} - moved
    _require(not still, f"no step moved {sorted(still)[:3]}")


def _moved(before: dict[str, Tensor], method: Method, group: set[str]) -> set[str]:
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    changed = {name for name, value in _bits(method).items() if not torch.equal(value, before[name])}
    allowed = group | {name for name in changed if name not in trained and _is_own_buffer(name, method)}
    _require(changed <= allowed, f"{sorted(changed - allowed)[:3]} changed in a step of another group")
    return changed & trained


def _is_own_buffer(name: str, method: Method) -> bool:
    """Whether it is a buffer of a part that is being trained (memory banks, running statistics), which may change."""
    owner = method.get_submodule(name.rpartition(".")[0])
    buffer = name in dict(method.named_buffers())
    params = list(owner.parameters())
    return buffer and (not params or any(p.requires_grad for p in params))


def check_student_reads_available_only(subject: Subject) -> None:
    """The exported network's output is bit-identical when the privileged inputs are absent, or NaN (invariant 1)."""
    network = subject.fresh().export().eval()
    forbidden = set(network.reads) & set(subject.privileged)
    _require(not forbidden, f"the exported network reads {sorted(forbidden)}, which are privileged")
    rows = subject.rows
    every = outputs(network, rows, rows.index).prediction
    available = {m: x for m, x in rows.inputs.items() if m in subject.available}
    there = {m: x for m, x in rows.present.items() if m in subject.available}
    absent = outputs(network, replace(rows, inputs=available, present=there), rows.index).prediction
    nan = {m: x if m in available else torch.full_like(x, torch.nan) for m, x in rows.inputs.items()}
    spoiled = outputs(network, replace(rows, inputs=nan), rows.index).prediction
    for what, other in (("absent", absent), ("NaN", spoiled)):
        _require(torch.equal(every, other), f"the prediction changes when the privileged inputs are {what}")


def check_prediction_ignores_batch_mates(subject: Subject) -> None:
    """A row's prediction is the same alone, among others, and in another order (invariant 5)."""
    network = subject.fresh(torch.float64).export().eval()
    rows = subject.rows.to(torch.float64)
    every = outputs(network, rows, rows.index).prediction
    alone = torch.cat([outputs(network, rows, i[None]).prediction for i in rows.index[:3]])
    turned = outputs(network, rows, rows.index.flip(0)).prediction.flip(0)
    close = {"rtol": 1e-9, "atol": 1e-9}
    _require(torch.allclose(every[:3], alone, **close), "a row's prediction differs between alone and in a batch")
    _require(torch.allclose(every, turned, **close), "a row's prediction depends on the order of the batch")


def check_nothing_frozen_untrained(subject: Subject) -> None:
    """A frozen T-Net has been trained (invariant 4)."""
    for name, part in subject.fresh().named_modules():
        if isinstance(part, TNet) and not any(p.requires_grad for p in part.parameters()):
            _require(int(part.trained_steps) > 0, f"{name!r} is frozen, but was never trained")


def check_resume_is_exact(subject: Subject) -> None:
    """4 epochs at once, and 2 then 2 more through a checkpoint into a fresh object, give the same bits (invariant 6)."""
    settings = TrainingConfig(epochs=4, patience=4, batch_size=max(2, len(subject.rows) // 3))
    whole, resumed = subject.fresh(), subject.fresh()
    history = fit(whole, subject.rows, subject.rows, settings, seed=1)
    with TemporaryDirectory() as place:
        path = Path(place) / "state.pt"
        with contextlib.suppress(_Killed):
            fit(
                subject.fresh(), subject.rows, subject.rows, settings,
                seed=1, checkpoint=path, checkpoint_seconds=0, watch=_KillIn(3),
            )  # fmt: skip
        torch.manual_seed(999)
        again = fit(resumed, subject.rows, subject.rows, settings, seed=1, checkpoint=path, watch=_KillIn(None))
    _require(len(again.epochs) == len(history.epochs), "a resumed run has another number of epochs")
    first, second = whole.state_dict(), resumed.state_dict()
    differ = [name for name in first if not torch.equal(first[name], second[name])]
    _require(not differ, f"after a resume {differ[:3]} differ from an uninterrupted run")


class _Killed(Exception):
    pass


class _KillIn:
    """A watch that stops training in the middle of the given epoch's bookkeeping, before its checkpoint."""

    def __init__(self, epoch: int | None):
        self.epoch = epoch

    def __call__(self, method: Method, epoch: int) -> None:
        if epoch == self.epoch:
            raise _Killed

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def check_learns(subject: Subject) -> None:
    """Thirty steps on one batch lower the weighted loss of the last group that steps."""
    method = subject.fresh()
    batch = subject.used(method)
    optimisers = {name: torch.optim.Adam(params, 3e-3) for name, params in method.groups().items()}
    losses: list[float] = []
    for number in range(30):
        method.train()
        for step in method.steps(batch, Clock(step=number)):
            loss = torch.stack([method.weights.get(n, 1.0) * v for n, v in step.terms.items()]).sum()
            params = method.groups()[step.group]
            for p, g in zip(params, torch.autograd.grad(loss, params, allow_unused=True)):
                p.grad = g
            optimisers[step.group].step()
        losses.append(float(loss.detach()))
    early, late = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    _require(late < early, f"thirty steps on one batch took the loss from {early:.4f} to {late:.4f}")


def check_terms_leave_the_batch_alone(subject: Subject) -> None:
    """Computing the terms changes nothing in the batch that it was given."""
    method = subject.fresh()
    batch = subject.used(method)
    before = copy.deepcopy(batch)
    for _ in drive(method, batch, rate=0.0):
        pass
    for m, x in before.inputs.items():
        _require(torch.equal(x, batch.inputs[m]), f"the method changed the input {m!r} in place")
    _require(
        torch.equal(before.target.nan_to_num(), batch.target.nan_to_num()), "the method changed the target in place"
    )


def check_unlabelled_targets_are_not_read(subject: Subject) -> None:
    """The terms are the same whatever stands in the targets of rows that are not labelled."""
    first, second = subject.fresh(), subject.fresh()
    batch = subject.used(first)
    hidden = ~batch.labelled
    poison = batch.target.clone()
    poison[hidden] = 0 if not poison.is_floating_point() else 1e6
    torch.manual_seed(5)
    one = [step.terms for step, _ in drive(first, batch, rate=0.0)]
    torch.manual_seed(5)
    two = [step.terms for step, _ in drive(second, replace(batch, target=poison), rate=0.0)]
    for a, b in zip(one, two):
        for name in a:
            _require(torch.equal(a[name], b[name]), f"the term {name!r} reads the target of a row without a label")


def _bits(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ContractError(message)


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_terms_are_finite_scalars,
    check_parameters_are_grouped,
    check_steps_move_their_group_only,
    check_student_reads_available_only,
    check_prediction_ignores_batch_mates,
    check_nothing_frozen_untrained,
    check_resume_is_exact,
    check_learns,
    check_terms_leave_the_batch_alone,
    check_unlabelled_targets_are_not_read,
)
__all__ = ["CHECKS", "ContractError", "Subject", "check_method", "drive", *sorted(c.__name__ for c in CHECKS)]
