"""The self term of one side of a divergence, and its reuse in a later divergence of the same side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sidelight.transport.arrays import convert_like
from sidelight.transport.gradients import to_value
from sidelight.transport.result import Transport

NAMES = ("y", "cost", "b", "offset")


class SelfTermInput:
    """The input of a self term: points or a given cost, masses, offset."""

    def __init__(self, cost: Any, points: Tensor | None, masses: Tensor | None, offset: Tensor | None) -> None:
        given = (points, cost, masses, offset)
        self.wants = [name for name, z in zip(NAMES[:3], given) if isinstance(z, Tensor) and z.requires_grad]
        self.given = [z.detach() if isinstance(z, Tensor) and z.requires_grad else z for z in given]
        self.versions = [_version(z) for z in given]

    @property
    def like(self) -> Tensor:
        """A tensor on the device and in the type of the term."""
        like = self.given[0] if self.given[0] is not None else self.given[1]
        assert isinstance(like, Tensor)
        return like

    def describe_difference(self, other: SelfTermInput) -> str:
        """The first difference from ``other`` in words, "" if there is none."""
        for name, one, two, version in zip(NAMES, self.given, other.given, self.versions):
            if version != _version(one):
                return f"{name} has been changed in place since"
            if not _same(one, two):
                return f"another {name}"
        return ""


@dataclass(frozen=True, eq=False)
class SelfTerm(Transport):
    """A :class:`Transport` of one side of a divergence onto itself, which remembers that side."""

    _each: Sequence[Transport] = field(repr=False, default=())
    _side: Any = field(repr=False, default=None)


def build_self_term(whole: Transport, each: Sequence[Transport], side: SelfTermInput) -> SelfTerm:
    """A result as the self term of one side.

    Args:
        whole: the result, gathered over the batch.
        each: the results of its problems, or of one batch.
        side: the input that it was computed from.

    Returns:
        The self term.
    """
    term = object.__new__(SelfTerm)  # its own constructor takes ten times as long
    term.__dict__.update(whole.__dict__, _each=each, _side=side)
    return term


def reuse_self_term(
    known: Any, side: SelfTermInput, cross: Sequence[Transport], tolerance: float
) -> tuple[SelfTerm, list[Transport]]:
    """The self term of an earlier divergence, without gradients, as it is and for each result of the new one.

    Args:
        known: the earlier divergence's ``self_y``.
        side: the input of the new self term, which must equal that of ``known``.
        cross: the results of the new divergence between both sides.
        tolerance: the marginal error at which the term counts as converged.

    Returns:
        The self term, and one result for each of ``cross``.

    Raises:
        TypeError: ``known`` is not a self term.
        ValueError: It belongs to another input, epsilon, dtype or device, or its input requires a gradient.
    """
    if not isinstance(known, SelfTerm):
        raise TypeError(f"self_y is the self_y of an earlier divergence, got {type(known).__name__}: pass its .self_y")
    if torch.is_grad_enabled() and side.wants:
        wants = " and ".join(side.wants)
        raise ValueError(f"self_y has no gradient, but {wants} requires one: leave self_y out, or detach {wants}")
    if known.epsilon != cross[0].epsilon:
        raise ValueError(
            f"self_y was solved at epsilon {known.epsilon:g}, and this divergence has {cross[0].epsilon:g} (a relative "
            "epsilon follows x): leave self_y out, or give epsilon as a number"
        )
    one, two = known._side.like, side.like
    if one.dtype != two.dtype or one.device != two.device:
        raise ValueError(
            f"self_y was computed in {one.dtype} on {one.device}, and this divergence is in {two.dtype} on "
            f"{two.device}: leave self_y out"
        )
    if different := known._side.describe_difference(side):
        raise ValueError(f"self_y does not belong to this divergence ({different}): leave self_y out")
    converged = known.marginal_error <= tolerance
    objective = known.objective.detach()
    kept = replace(known, _objective=lambda: objective, _pairs=(), converged=converged)
    numbers = torch.cat([torch.as_tensor(z._value, dtype=torch.float64).reshape(-1) for z in known._each])
    if isinstance(cross[0]._value, float):
        return kept, [_of_value(kept, number, two) for number in numbers.tolist()]
    return kept, [_of_value(kept, convert_like(numbers, cross[0]._value), two)]


def _of_value(term: Transport, value: Any, like: Tensor) -> Transport:
    """``term`` with the value of one problem, or of a batch."""
    return replace(term, _value=value, _objective=lambda: to_value(value, like))


def _version(z: Any) -> int:
    """The number of changes in place of a tensor."""
    return z._version if isinstance(z, Tensor) and not z.is_inference() else 0


def _same(one: Any, two: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(two, Tensor):
        return type(one) is type(two) and bool(one == two)
    same_kind = (one.dtype, one.device, one.shape) == (two.dtype, two.device, two.shape)
    return same_kind and torch.equal(one, two)
