"""Checks of the network that a method exports: what it reads, and what its predictions depend on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.networks.network import Network, compute_outputs
from sidelight.testing.subject import ContractError, Subject, require

NO_STUDENT = "this stage exports no student"


def check_student_reads_available_only(subject: Subject) -> str | None:
    """The exported network's output has the same bits when privileged inputs are absent or NaN (invariant 1).

    Nor does it read what stands for them in training: the target, and the row's number among the training rows.
    """
    if not subject.exports:
        return NO_STUDENT
    network = _exported(subject, torch.float32)
    forbidden = set(network.reads) & set(subject.privileged)
    require(not forbidden, f"the exported network reads {sorted(forbidden)}, which are privileged")
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
        require(same, f"the exported network's prediction changes when {what}")
    return None


def check_missing_modality_is_not_read(subject: Subject) -> str | None:
    """Of an exported network that completes what is missing, the prediction has the same bits whatever stands in a
    modality that a row lacks: zeros, numbers, NaN, or no input at all.
    """
    if not subject.exports:
        return NO_STUDENT
    network = _exported(subject, torch.float32)
    if network.completion is None:
        return "the student completes no missing modality"
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
            require(bool(prediction.isfinite().all()), f"without {m!r} ({what}) the prediction is not finite")
            same = torch.equal(prediction, said["no input"])
            require(same, f"in rows that lack {m!r} the exported network's prediction depends on what stands there")
    return None


def check_prediction_ignores_batch_mates(subject: Subject) -> str | None:
    """A row's prediction is the same alone, among others, and in another order (invariant 5)."""
    if not subject.exports:
        return NO_STUDENT
    network = _exported(subject, torch.float64)
    rows = subject.rows.to(torch.float64)
    here = torch.arange(len(rows))
    every = _said(network, rows, here, "on the training rows")
    alone = torch.cat([_said(network, rows, i[None], "on a single row") for i in here[:3]])
    turned = _said(network, rows, here.flip(0), "on the rows in another order").flip(0)
    require(_close(every[:3], alone), "a row's prediction differs between alone and in a batch")
    require(_close(every, turned), "a row's prediction depends on the order of the batch")
    return None


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
