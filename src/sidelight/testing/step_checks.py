"""Checks of a method's steps: its terms, its parameter groups, and what a step leaves as it was."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import fields, replace

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.methods.base import Method
from sidelight.networks.hallucination import TNet
from sidelight.testing.driving import run_steps, state_of
from sidelight.testing.subject import ContractError, Subject, require


def check_terms_are_finite_scalars(subject: Subject) -> None:
    """Every term and gradient is finite: on full, last small and degenerate batches, in float32 and float64.

    A row without a label has the target that data sets give it (-1, NaN); a row without a modality has zeros there.
    """
    for dtype in (torch.float32, torch.float64):
        method = subject.fresh(dtype)
        for kind, batch in _kinds(method, subject, dtype).items():
            for step, grads in run_steps(method, batch, 0.0, f"{kind} ({dtype})"):
                for name, value in step.terms.items():
                    require(bool(value.isfinite()), f"term {name!r} on {kind} ({dtype}) is {float(value.detach())}")
                    require(value.dtype == dtype, f"term {name!r} is {value.dtype} where everything else is {dtype}")
                for name, g in grads.items():
                    require(bool(g.isfinite().all()), f"the gradient of {name!r} on {kind} ({dtype}) is not finite")


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
        require(times == wanted, f"parameter {name!r} (requires_grad={p.requires_grad}) is in {times} groups")
    require(all(i in names for i in grouped), "a group has a parameter that is not a part of the method")


def check_steps_move_their_group_only(subject: Subject) -> None:
    """A step moves only its group; over one batch every trainable parameter moves; everything else keeps its bits."""
    method = subject.fresh()
    names = {id(p): name for name, p in method.named_parameters()}
    moved: set[str] = set()
    group: set[str] = set()
    before = state_of(method)
    for step, _ in run_steps(method, subject.used(method)):
        moved |= _moved(before, method, group)
        group = {names[id(p)] for p in method.groups()[step.group]}
        before = state_of(method)
    moved |= _moved(before, method, group)
    still = {name for name, p in method.named_parameters() if p.requires_grad} - moved
    require(not still, f"no step moved {sorted(still)[:3]}")


def _moved(before: dict[str, Tensor], method: Method, group: set[str]) -> set[str]:
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    changed = {name for name, value in state_of(method).items() if not torch.equal(value, before[name])}
    allowed = group | {name for name in changed if name not in trained and _is_own_buffer(name, method)}
    where = f"a step of the group {sorted(group)[:3]}" if group else "the forward pass"
    require(changed <= allowed, f"{sorted(changed - allowed)[:3]} changed in {where}, to which it does not belong")
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


def check_nothing_frozen_untrained(subject: Subject) -> None:
    """A frozen T-Net has been trained (invariant 4)."""
    for name, part in subject.fresh().named_modules():
        if isinstance(part, TNet) and not any(p.requires_grad for p in part.parameters()):
            require(int(part.trained_steps) > 0, f"{name!r} is frozen, but was never trained")


def check_terms_leave_the_batch_alone(subject: Subject) -> None:
    """Computing the terms changes nothing in the batch that it was given."""
    method = subject.fresh()
    batch = subject.used(method)
    before = copy.deepcopy(batch)
    with contextlib.suppress(ContractError):  # autograd stumbles over some changes, which are named below
        for _ in run_steps(method, batch, rate=0.0):
            pass
    for f in fields(Batch):
        old, new = getattr(before, f.name), getattr(batch, f.name)
        if old is None:
            require(new is None, f"the method gave the batch {f.name}")
            continue
        if isinstance(old, Tensor):
            old, new = {"": old}, {"": new}
        if not isinstance(old, dict):
            require(old == new, f"the method changed the batch's {f.name}")
            continue
        require(old.keys() == new.keys(), f"the method changed the modalities of the batch's {f.name}")
        for m, x in old.items():
            same = torch.equal(x.nan_to_num(nan=-777), new[m].nan_to_num(nan=-777))
            require(same, f"the method changed the batch's {f.name} in place" + (f", of {m!r}" if m else ""))


def check_unlabelled_targets_are_not_read(subject: Subject) -> None:
    """The terms are the same whatever stands in the targets of rows that are not labelled."""
    said: list[list[dict[str, Tensor]]] = []
    for poison in (0, -1, 1):
        method = subject.fresh()
        batch = subject.used(method)
        batch.target[~batch.labelled] = 1000 * poison if batch.target.is_floating_point() else poison
        torch.manual_seed(5)
        said.append(
            [step.terms for step, _ in run_steps(method, batch, 0.0, f"rows with unlabelled targets of {poison}")]
        )
    for other in said[1:]:
        for a, b in zip(said[0], other):
            for name in a:
                require(torch.equal(a[name], b[name]), f"term {name!r} reads the target of a row without a label")
