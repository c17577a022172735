"""Preprocessing and network as one module from raw tensors to predictions, for torch and for other runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.data.preprocess import Preprocessor
from sidelight.networks.network import Network
from sidelight.tasks import Task


class Deployed(nn.Module):
    """Preprocessing, network, and for classes a softmax. `Student.predict` runs it, and `Student.export` writes it.

    `forward` takes one tensor per name in `inputs`: each modality (B, D), (B, T, C) or (B, C, H, W), followed by
    `<modality>_length` (B,) int64 if its length varies, and by `present_<modality>` (B,) bool if the network completes
    missing modalities. It returns one tensor (B, ...) per name in `outputs`.

    Args:
        network: the student's network.
        preprocessor: the student's preprocessor.
        task: what is predicted.
    """

    def __init__(self, network: Network, preprocessor: Preprocessor, task: Task):
        super().__init__()
        self.network, self.preprocessor, self.task = network, preprocessor, task
        self.classes = classes = task.answers in ("class", "pixels")
        self.completes = network.completion is not None
        self.variable = tuple(m for m in network.reads if preprocessor.plans[m].variable)
        self.outputs = ("probabilities", "logits") if classes else (task.exports,)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that `forward` takes, in order."""
        return tuple(n for m in self.network.reads for n in self._inputs_of(m))

    def _inputs_of(self, m: str) -> tuple[str, ...]:
        length = (f"{m}_length",) if m in self.variable else ()
        return (m, *length, *((f"present_{m}",) if self.completes else ()))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.inputs, tensors))
        inputs = {m: given[m] for m in self.network.reads}
        lengths = {m: given[f"{m}_length"] for m in self.variable}
        present = {}
        for m, x in inputs.items() if self.completes else ():
            gone = _absent(x, lengths.get(m))  # as for `predict`, a row that is NaN throughout is not there
            present[m] = given[f"present_{m}"] & ~(gone & (lengths[m] > 0) if m in lengths else gone)
        batch = self.prepare(inputs, lengths, present=present)
        prediction = self.respond(batch)
        prediction = prediction + _rows(self._marks(inputs, lengths, present, batch), prediction)
        return (prediction.softmax(1), prediction) if self.classes else (self.task.to_target_units(prediction),)

    def _marks(
        self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor], present: Mapping[str, Tensor], batch: Batch
    ) -> Tensor:
        """(B,) NaN for rows that `predict` refuses, else 0.

        They have a NaN that is not filled, an infinite value, values that overflow, a length that is none, or no
        modality at all. A graph cannot refuse a row, and a runtime's maximum, ReLU or clipping may drop the NaN on its
        way through the network: a missing sensor would become a confident answer.
        """
        marks = []
        for m, x in inputs.items():
            read = _mask_padding(x, lengths[m]) if m in lengths else x
            read = read.masked_fill(~_rows(present[m], read), 0) if m in present else read
            if self.preprocessor.impute == "mean":
                read = read.masked_fill(torch.isnan(read), 0)
            mark = (read * 0).flatten(1).sum(1) + (batch.inputs[m] * 0).flatten(1).sum(1)
            if m in lengths:
                wrong = (lengths[m] < 1) | (lengths[m] > x.shape[1])
                mark = mark.masked_fill(wrong & present[m] if m in present else wrong, torch.nan)
            marks.append(mark)
        marked = torch.stack(marks).sum(0)
        if not self.completes:
            return marked
        return marked.masked_fill(~torch.stack([batch.present[m] for m in inputs]).any(0), torch.nan)

    def prepare(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor],
        group: Sequence[str] | NDArray | None = None,
        present: Mapping[str, Tensor] | None = None,
    ) -> Batch:
        """Preprocess raw rows for the network. With imputation, a row that is NaN throughout counts as absent.

        Args:
            inputs: modality -> (B, ...) raw rows.
            lengths: modality -> (B,) valid time steps.
            group: (B,) group of each row, if groups are standardised by their own rows.
            present: modality -> (B,) bool, for modalities that some rows lack; the values of those rows are not read.
        """
        present, plans = dict(present or {}), self.preprocessor.plans
        lengths = {m: n.clamp(max=plans[m].longest) if plans[m].longest else n for m, n in lengths.items()}
        known = {m: x.masked_fill(~_rows(present[m], x), 0) if m in present else x for m, x in inputs.items()}
        padded = {m: _mask_padding(x, lengths[m]) if m in lengths else x for m, x in known.items()}
        if self.preprocessor.impute == "mean":
            here = {m: ~_absent(x, lengths.get(m)) for m, x in padded.items()}
            present = {m: there & present[m] if m in present else there for m, there in here.items()}
        prepared = self.preprocessor(padded, lengths, present, group)
        some = next(iter(prepared.values()))
        rows = some.shape[0]
        return Batch(
            prepared,
            target=torch.zeros(rows, device=some.device),
            labelled=torch.zeros(rows, dtype=torch.bool, device=some.device),
            present=present,
            index=torch.arange(rows, device=some.device),
            lengths=self.preprocessor.count_steps(lengths),
        )

    def respond(self, batch: Batch) -> Tensor:
        """(B, C) logits, (B, K) values in their own units, or (B, F) embeddings."""
        return self.task.answer(self.network(batch))


def fix_group(preprocessor: Preprocessor, group: str) -> Preprocessor:
    """The preprocessor for the rows of one known group, which no longer needs the group's name."""
    return _with_statistics(preprocessor, 1 + preprocessor.groups.index(group), "train")


def drop_groups(preprocessor: Preprocessor) -> Preprocessor:
    """The preprocessor without the names and statistics of known groups."""
    return _with_statistics(preprocessor, 0, preprocessor.standardize)


def _with_statistics(preprocessor: Preprocessor, row: int, standardize: str) -> Preprocessor:
    new = Preprocessor(preprocessor.plans, standardize, preprocessor.impute)
    values = preprocessor.state_dict()
    new.load_state_dict({name: x if name.startswith("fill_") else x[row : row + 1] for name, x in values.items()})
    return new


def _rows(rows: Tensor, x: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (x.dim() - 1))


def _valid(x: Tensor, length: Tensor) -> Tensor:
    return (torch.arange(x.shape[1], device=x.device)[None] < length[:, None]).unsqueeze(-1)


def _mask_padding(x: Tensor, length: Tensor) -> Tensor:
    """x with zeros after each row's `length`."""
    return x.masked_fill(~_valid(x, length), 0)


def _absent(x: Tensor, length: Tensor | None) -> Tensor:
    """(B,) bool: rows that are NaN in all valid time steps."""
    missing = torch.isnan(x) if length is None else torch.isnan(x) | ~_valid(x, length)
    return missing.flatten(1).all(1)
