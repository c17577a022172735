"""What a check is given, and how it says that the contract is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.methods.base import Method


class ContractError(AssertionError):
    """A method breaks the contract; says which check, what was seen and what was expected."""


def require(holds: bool, message: str) -> None:
    """Raise `ContractError` unless it holds."""
    if not holds:
        raise ContractError(message)


@dataclass(frozen=True)
class Subject:
    """A method to check: how it is made, the rows that it learns from, and its modalities.

    Attributes:
        factory: makes the same method at every call (it seeds itself), with parameters and cached teacher outputs in
            the dtype.
        rows: the training rows. Some should lack a label and some a privileged modality, so that both are exercised. A
            teacher should have learnt them: matching an untrained one makes a student no better at the task.
        available: the modalities that the exported student reads.
        privileged: the modalities of training only (of a teacher: none).
        teacher_fold: (len(rows),) int64, which of several cross-fitted teachers gave the outputs of each row.
        exports: False for a stage that exports no network, such as one that trains T-Nets.
        other: makes the same method, with the same first weights, taught by another teacher; of a method that trains
            its own teacher, built on rows whose privileged modalities are permuted. None: it has no teacher, or
            `check_terms_depend_on_the_teacher` is left out.
    """

    factory: Callable[[torch.dtype], Method]
    rows: Batch
    available: tuple[str, ...]
    privileged: tuple[str, ...]
    teacher_fold: Tensor | None = None
    exports: bool = True
    other: Callable[[torch.dtype], Method] | None = None

    def fresh(self, dtype: torch.dtype = torch.float32) -> Method:
        """The method, untrained."""
        return self.factory(dtype)

    def used(self, method: Method) -> Batch:
        """A copy of the rows that the training loop would draw batches from."""
        some = self.rows.labelled if method.learns_from == "labelled" else torch.ones_like(self.rows.labelled)
        return self.rows.index_select(some.nonzero()[:, 0]).materialize()
