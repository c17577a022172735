"""The public contract of a method, as checks that anybody can run on their own.

`check_method(factory)` runs all of them and raises `ContractError` at the first that fails. The checks follow DESIGN
sections 3 and 4: what may be read, what is trained, what stays as it was, and what survives a resume.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods.base import Method, Step, TrainState
from sidelight.networks.hallucination import TNet
from sidelight.networks.network import Network, compute_outputs
from sidelight.training import fit


class ContractError(AssertionError):
    """A method breaks the contract; says which check, what was seen and what was expected."""


@dataclass(frozen=True)
class Subject:
    """What is checked: a fresh method at every call of `factory(dtype)`, the rows it learns from, and its modalities.

    factory: makes the same method every time (it seeds itself), parameters and cached teacher outputs in the dtype.
    rows: training rows; some should lack a label and some a privileged modality, so that both are exercised. A teacher
        should have learnt them: a student that matches one that has not is no better at the task for it.
    available, privileged: modalities of the student that the method exports (a teacher's privileged ones: none).
    teacher_fold: (len(rows),) int64, which of several cross-fitted teachers gave the outputs of each row.
    exports: False for a stage that leaves no network (one that trains T-Nets), which nobody deploys.
    """

    factory: Callable[[torch.dtype], Method]
    rows: Batch
    available: tuple[str, ...]
    privileged: tuple[str, ...]
    teacher_fold: Tensor | None = None
    exports: bool = True

    def fresh(self, dtype: torch.dtype = torch.float32) -> Method:
        return self.factory(dtype)

    def used(self, method: Method) -> Batch:
        """A copy of the rows that the loop would draw batches from."""
        some = self.rows.labelled if method.learns_from == "labelled" else torch.ones_like(self.rows.labelled)
        return self.rows.index_select(some.nonzero()[:, 0]).materialize()


def check_method(subject: Subject) -> None:
    """Run every check in `CHECKS`.

    Raises:
        ContractError: the name of the check and what is wrong.
    """
    for check in CHECKS:
        try:
            check(subject)
        except Exception as error:
            said = str(error) if isinstance(error, ContractError) else f"the method fails: {_named(error)}"
            raise ContractError(f"{check.__name__}: {said}") from error


def drive(
    method: Method, batch: Batch, rate: float = 0.05, kind: str = "a full batch"
) -> Iterator[tuple[Step, dict[str, Tensor]]]:
    """Take the method's steps as the loop does (plain gradient descent), yielding each with its group's gradients.

    Raises:
        ContractError: a step cannot be taken on the batch, which messages call `kind`.
    """
    method.train()
    groups = method.groups()
    try:
        yield from _drive(method, batch, rate, groups)
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(f"a step on {kind} fails: {_named(error)}") from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _drive(
    method: Method, batch: Batch, rate: float, groups: dict[str, list[Parameter]]
) -> Iterator[tuple[Step, dict[str, Tensor]]]:
    for step in method.steps(batch, TrainState()):
        params = groups.get(step.group, [])
        grads = torch.autograd.grad(_weighed(method, step), params, allow_unused=True)
        names = {id(p): name for name, p in method.named_parameters()}
        yield step, {names.get(id(p), "?"): g for p, g in zip(params, grads) if g is not None}
        with torch.no_grad():
            for p, g in zip(params, grads):
                if g is not None:
                    p.sub_(g, alpha=rate)


def _weighed(method: Method, step: Step) -> Tensor:
    """The loss of a step, as the loop weighs it."""
    group = f"a step names the group {step.group!r}"
    _require(bool(method.groups().get(step.group)), f"{group}, which has no parameter; groups: {list(method.groups())}")
    _require(bool(step.terms), f"{group} and no term")
    for name, value in step.terms.items():
        _require(isinstance(value, Tensor), f"term {name!r} is a {type(value).__name__}, not a tensor")
        _require(value.dim() == 0, f"term {name!r} has shape {tuple(value.shape)}, not that of a scalar")
    loss = torch.stack([method.weights.get(name, 1.0) * value for name, value in step.terms.items()]).sum()
    _require(loss.requires_grad, f"{group}, but its terms {list(step.terms)} depend on no trainable parameter")
    return loss


def check_terms_are_finite_scalars(subject: Subject) -> None:
    """Every term and gradient is finite: on full, last small and degenerate batches, in float32 and float64.

    A row without a label has the target that data sets give it (-1, NaN); a row without a modality has zeros there.
    """
    for dtype in (torch.float32, torch.float64):
        method = subject.fresh(dtype)
        for kind, batch in _kinds(method, subject, dtype).items():
            for step, grads in drive(method, batch, 0.0, f"{kind} ({dtype})"):
                for name, value in step.terms.items():
                    _require(bool(value.isfinite()), f"term {name!r} on {kind} ({dtype}) is {float(value.detach())}")
                    _require(value.dtype == dtype, f"term {name!r} is {value.dtype} where everything else is {dtype}")
                for name, g in grads.items():
                    _require(bool(g.isfinite().all()), f"the gradient of {name!r} on {kind} ({dtype}) is not finite")


def _kinds(method: Method, subject: Subject, dtype: torch.dtype) -> dict[str, Batch]:
    rows = _unlabelled_hidden(subject.used(method).to(dtype))
    first = torch.zeros(4, dtype=torch.int64)
    kinds = {
        "a full batch": rows,
        "a batch of 2": rows.index_select(torch.arange(2)),
        "a batch of 1": rows.index_select(first[:1]),
        "a batch of one row over and over": rows.index_select(first),
    }
    if method.learns_from == "all":
        nobody = torch.zeros_like(rows.labelled)
        kinds["a batch without a label"] = _unlabelled_hidden(replace(rows, labelled=nobody))
    if subject.privileged:
        absent = {
            m: torch.zeros_like(x) if m in subject.privileged else x
            for m, x in (rows.present | {m: torch.ones_like(rows.labelled) for m in subject.privileged}).items()
        }
        zeros = {m: torch.zeros_like(x) if m in subject.privileged else x for m, x in rows.inputs.items()}
        kinds["a batch without a privileged modality"] = replace(rows, inputs=zeros, present=absent)
    return kinds


def _unlabelled_hidden(batch: Batch) -> Batch:
    """The batch with the targets of rows without a label as a data set has them: -1, or NaN."""
    target = batch.target.clone()
    target[~batch.labelled] = torch.nan if target.is_floating_point() else -1
    return replace(batch, target=target)


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
    where = f"a step of the group {sorted(group)[:3]}" if group else "the forward pass"
    _require(changed <= allowed, f"{sorted(changed - allowed)[:3]} changed in {where}, to which it does not belong")
    return changed & trained


def _is_own_buffer(name: str, method: Method) -> bool:
    """Whether it is a buffer of a part that is being trained (memory banks, running statistics), which may change.

    A part without parameters of its own (a normalisation without weights) belongs to the part that it is in.
    """
    if name not in dict(method.named_buffers()):
        return False
    while name:
        name = name.rpartition(".")[0]
        params = list(method.get_submodule(name).parameters())
        if params:
            return any(p.requires_grad for p in params)
    return True


def check_student_reads_available_only(subject: Subject) -> None:
    """The exported network's output has the same bits when privileged inputs are absent or NaN (invariant 1).

    Nor does it read what stands for them in training: the target, and the row's number among the training rows.
    """
    if not subject.exports:
        return
    network = _exported(subject, torch.float32)
    forbidden = set(network.reads) & set(subject.privileged)
    _require(not forbidden, f"the exported network reads {sorted(forbidden)}, which are privileged")
    rows = subject.rows
    here = torch.arange(len(rows))
    without = Batch(
        {m: x for m, x in rows.inputs.items() if m in subject.available},
        rows.target,
        rows.labelled,
        {m: x for m, x in rows.present.items() if m in subject.available},
        rows.index,
        {m: x for m, x in rows.lengths.items() if m in subject.available},
    )
    nan = {m: x if m in subject.available else torch.full_like(x, torch.nan) for m, x in rows.inputs.items()}
    cases = {
        "the privileged inputs are absent": without,
        "the privileged inputs are NaN": replace(rows, inputs=nan),
        "the target is another": replace(rows, target=rows.target.flip(0), labelled=~rows.labelled),
        "the rows are numbered otherwise": replace(rows, index=torch.zeros_like(rows.index)),
    }
    every = _said(network, rows, here, "on the training rows")
    for what, batch in cases.items():
        same = torch.equal(every, _said(network, batch, here, f"when {what}"))
        _require(same, f"the exported network's prediction changes when {what}")


def check_missing_modality_is_not_read(subject: Subject) -> None:
    """Of an exported network that completes what is missing, the prediction has the same bits whatever stands in a
    modality that a row lacks: zeros, numbers, NaN, or no input at all.
    """
    if not subject.exports:
        return
    network = _exported(subject, torch.float32)
    if network.completion is None:
        return
    here, rows = torch.arange(len(subject.rows)), subject.rows
    for m in network.reads:
        lacks = replace(rows, present=rows.present | {m: torch.zeros_like(rows.labelled)})
        others = [o for o in rows.inputs if o != m]
        cases = {"no input": rows.select_modalities(others)}
        for value in (0.0, 1e3, torch.nan):
            filled = rows.inputs | {m: torch.full_like(rows.inputs[m], value)}
            cases[f"{value:g} there"] = replace(lacks, inputs=filled)
        said = {what: _said(network, batch, here, f"without {m!r}") for what, batch in cases.items()}
        for what, prediction in said.items():
            _require(bool(prediction.isfinite().all()), f"without {m!r} ({what}) the prediction is not finite")
            same = torch.equal(prediction, said["no input"])
            _require(same, f"in rows that lack {m!r} the exported network's prediction depends on what stands there")


def check_prediction_ignores_batch_mates(subject: Subject) -> None:
    """A row's prediction is the same alone, among others, and in another order (invariant 5)."""
    if not subject.exports:
        return
    network = _exported(subject, torch.float64)
    rows = subject.rows.to(torch.float64)
    here = torch.arange(len(rows))
    every = _said(network, rows, here, "on the training rows")
    alone = torch.cat([_said(network, rows, i[None], "on a single row") for i in here[:3]])
    turned = _said(network, rows, here.flip(0), "on the rows in another order").flip(0)
    _require(_close(every[:3], alone), "a row's prediction differs between alone and in a batch")
    _require(_close(every, turned), "a row's prediction depends on the order of the batch")


def _exported(subject: Subject, dtype: torch.dtype) -> Network:
    try:
        return subject.fresh(dtype).export().eval()
    except Exception as error:
        raise ContractError(f"the method exports no network: {error}") from error


def _said(network: Network, batch: Batch, rows: Tensor, when: str) -> Tensor:
    try:
        return compute_outputs(network, batch, rows).prediction
    except Exception as error:
        raise ContractError(f"the exported network fails {when}: {error}") from error


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def check_nothing_frozen_untrained(subject: Subject) -> None:
    """A frozen T-Net has been trained (invariant 4)."""
    for name, part in subject.fresh().named_modules():
        if isinstance(part, TNet) and not any(p.requires_grad for p in part.parameters()):
            _require(int(part.trained_steps) > 0, f"{name!r} is frozen, but was never trained")


def check_resume_is_exact(subject: Subject) -> None:
    """4 epochs at once, and 2 then 2 through a checkpoint into a fresh object, give the same bits (invariant 6)."""
    settings = TrainingConfig(epochs=4, patience=4, batch_size=max(2, len(subject.rows) // 3))
    whole, resumed = subject.fresh(), subject.fresh()
    history = fit(whole, subject.rows, subject.rows, settings, seed=1, teacher_fold=subject.teacher_fold)
    with TemporaryDirectory() as place:
        path = Path(place) / "state.pt"
        with contextlib.suppress(_Killed):
            fit(
                subject.fresh(), subject.rows, subject.rows, settings,
                seed=1, teacher_fold=subject.teacher_fold, checkpoint=path, checkpoint_seconds=0, callback=_KillIn(3),
            )  # fmt: skip
        torch.manual_seed(999)
        again = fit(
            resumed, subject.rows, subject.rows, settings,
            seed=1, teacher_fold=subject.teacher_fold, checkpoint=path, callback=_KillIn(None),
        )  # fmt: skip
    nothing: dict[str, float] = {}
    for one, two in zip_longest(history.epochs, again.epochs, fillvalue=nothing):
        for name in sorted((one.keys() | two.keys()) - {"seconds"}):
            same = one.get(name) == two.get(name)
            _require(same, f"after a resume {name!r} of epoch {one.get('epoch')} differs from an uninterrupted run")
    first, second = whole.state_dict(), resumed.state_dict()
    differ = [name for name in first if not torch.equal(first[name], second[name])]
    _require(not differ, f"after a resume {differ[:3]} differ from an uninterrupted run")


class _Killed(Exception):
    pass


class _KillIn:
    """A callback that stops training in the middle of the given epoch's bookkeeping, before its checkpoint."""

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
    """Thirty steps on one batch lower the weighted loss of the last group that steps, and the task is done better.

    The second half sees a sign that is wrong, which the loss itself cannot: the exported network's task loss on the
    batch falls, or where nothing is exported the method's score rises. What a method remembers outside that
    network (memory banks) stands still after the first step: against a bank that moves along, a loss may well rise.
    """
    method = subject.fresh()
    batch = subject.used(method)
    optimisers = {
        name: torch.optim.Adam(params, 3e-3, fused=True) for name, params in method.groups().items() if params
    }
    losses: list[float] = []
    own = {id(x) for x in method.export().buffers()} if subject.exports else set()
    memory = [x for x in method.buffers() if id(x) not in own]
    remembered: list[Tensor] = []
    before = _skill(method, batch, subject)
    for number in range(30):
        method.train()
        for step in method.steps(batch, TrainState(step=number)):
            loss = _weighed(method, step)
            params = method.groups()[step.group]
            for p, g in zip(params, torch.autograd.grad(loss, params, allow_unused=True)):
                p.grad = g
            optimisers[step.group].step()
        losses.append(float(loss.detach()))
        remembered = remembered or [x.clone() for x in memory]
        for x, old in zip(memory, remembered):
            x.copy_(old)
    early, late = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    _require(late < early, f"thirty steps on one batch took the loss from {early:.4f} to {late:.4f}")
    after = _skill(method, batch, subject)
    _require(after > before, f"thirty steps on one batch took the score from {before:.4f} to {after:.4f}")


def _skill(method: Method, batch: Batch, subject: Subject) -> float:
    """Higher is better: minus the task loss of the exported network, or the method's own score where there is none."""
    if not subject.exports:
        return float(method.score(batch))
    said = compute_outputs(method.export(), batch, torch.arange(len(batch)))
    return -float(method.task.loss(said.prediction, batch.target, batch.labelled))


def check_terms_leave_the_batch_alone(subject: Subject) -> None:
    """Computing the terms changes nothing in the batch that it was given."""
    method = subject.fresh()
    batch = subject.used(method)
    before = copy.deepcopy(batch)
    with contextlib.suppress(ContractError):  # autograd stumbles over some changes, which are named below
        for _ in drive(method, batch, rate=0.0):
            pass
    for f in fields(Batch):
        old, new = getattr(before, f.name), getattr(batch, f.name)
        if old is None:
            _require(new is None, f"the method gave the batch {f.name}")
            continue
        if isinstance(old, Tensor):
            old, new = {"": old}, {"": new}
        _require(old.keys() == new.keys(), f"the method changed the modalities of the batch's {f.name}")
        for m, x in old.items():
            same = torch.equal(x.nan_to_num(nan=-777), new[m].nan_to_num(nan=-777))
            _require(same, f"the method changed the batch's {f.name} in place" + (f", of {m!r}" if m else ""))


def check_unlabelled_targets_are_not_read(subject: Subject) -> None:
    """The terms are the same whatever stands in the targets of rows that are not labelled."""
    said: list[list[dict[str, Tensor]]] = []
    for poison in (0, -1, 1):
        method = subject.fresh()
        batch = subject.used(method)
        batch.target[~batch.labelled] = 1000 * poison if batch.target.is_floating_point() else poison
        torch.manual_seed(5)
        said.append([step.terms for step, _ in drive(method, batch, 0.0, f"rows with unlabelled targets of {poison}")])
    for other in said[1:]:
        for a, b in zip(said[0], other):
            for name in a:
                _require(torch.equal(a[name], b[name]), f"term {name!r} reads the target of a row without a label")


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
    check_missing_modality_is_not_read,
    check_prediction_ignores_batch_mates,
    check_nothing_frozen_untrained,
    check_resume_is_exact,
    check_learns,
    check_terms_leave_the_batch_alone,
    check_unlabelled_targets_are_not_read,
)
__all__ = ["CHECKS", "ContractError", "Subject", "check_method", "drive", *sorted(c.__name__ for c in CHECKS)]
