"""The student: a network with its preprocessing, its task and its provenance."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.overflow import check_output, check_preprocessed
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, listed, unknown
from sidelight.export.checks import check_inputs
from sidelight.export.deployed import Deployed, drop_groups
from sidelight.export.file import FORMAT, FORMAT_VERSION, to_json, versions, write_student
from sidelight.export.graph import export_graph
from sidelight.export.input_facts import describe_input, warn_far
from sidelight.networks.build import describe
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task, describe_task
from sidelight.utils.device import CPU, choose_device
from sidelight.utils.names import check_modality

CHUNK = 1024
Tensors = dict[str, Tensor]


class Student:
    """The deployed network. It reads the available modalities and nothing else.

    Args:
        network: the network; it is copied to the CPU as float32, in evaluation mode and without gradients.
        preprocessor: the fitted preprocessor; only the network's modalities are kept.
        task: what is predicted, with the names of classes or targets.
        meta: provenance that JSON can hold: method, data, fold, seed, metrics, licence, …; `privileged` names the
            modalities of training, which `predict` refuses by name.
        known_groups: keep the names and statistics of the groups that the preprocessor knows, if it standardises each
            group by its own rows. They belong to the training people, and a new person may have the same name, so by
            default they are dropped.

    Raises:
        ConfigError: network, preprocessor and task do not fit, or the network reads a privileged modality.
    """

    def __init__(
        self,
        network: Network,
        preprocessor: Preprocessor,
        task: Task,
        meta: Mapping[str, Any] | None = None,
        *,
        known_groups: bool = False,
    ):
        self.meta: dict[str, Any] = dict(meta or {})
        self.reads = network.reads
        for m in (*self.reads, *self.meta.get("privileged", ())):
            check_modality(m, "a student", ConfigError)
        self.privileged = tuple(dict.fromkeys([*self.meta.get("privileged", ()), *network.hallucinators]))
        for m in self.reads:
            if m in self.privileged:
                raise ConfigError(f"the network reads {m!r}, which is privileged; a student reads available ones only")
            if m not in preprocessor.plans:
                raise ConfigError(f"the preprocessor: {unknown('modality', m, preprocessor.modalities)}")
        width = getattr(network.head, "out_features", task.outputs)
        if width != task.outputs:
            raise ConfigError(
                f"the network has {width} outputs, but the task {task.outputs}: {listed(task.class_names)}"
            )
        self.network: Network = copy.deepcopy(network).to("cpu", torch.float32)
        self.network.eval().requires_grad_(False)
        preprocessor = preprocessor.subset(self.reads).to("cpu")
        self.preprocessor = preprocessor if known_groups else drop_groups(preprocessor)
        self.task = task
        self.device = CPU

    def to(self, device: str) -> Student:
        """Predict on a device ("auto", "cpu", "cuda", …; see `training.device`); its files do not depend on it.

        Raises:
            ConfigError: there is no such device.
        """
        self.device = choose_device(device, "device")
        self.network.to(self.device)
        self.preprocessor.to(self.device)
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, or of the targets of a regression."""
        return self.task.class_names

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Modality -> `shape`, `axes`, `unit`, `rate_hz` and `range` that its rows must have.

        `unit`, `rate_hz` and `range` are "not given" if they are unknown. `range` holds the 0.1 % and the 99.9 %
        quantile of each channel (column of a vector) over the training rows.
        """
        return {m: describe_input(self.preprocessor.plans[m]) for m in self.reads}

    @property
    def completes(self) -> bool:
        """Whether it accepts any subset of its modalities (`student.drop`)."""
        return self.network.completion is not None

    @property
    def deployed(self) -> Deployed:
        """Preprocessing and network as one module over raw tensors."""
        return Deployed(self.network, self.preprocessor, self.task).eval()

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        lengths: Mapping[str, Any] | None = None,
        group: Any = None,
        probabilities: bool = False,
    ) -> NDArray:
        """Predict raw rows.

        Rows in another unit than the training rows are predicted without an error. A SidelightWarning names modalities
        whose values are far outside the training range (`inputs`); it cannot detect every change of unit.

        Args:
            inputs: modality -> (N, D), (N, T, C), or images (N, C, H, W) or (N, H, W, C), exactly those in `reads`. A
                student that `completes` also takes some of them, and rows that are NaN throughout.
            lengths: modality -> (N,) valid time steps of a variable-length modality; left out: all of them.
            group: (N,) group of each row; needed only if each group is standardised by its own rows.
            probabilities: return (N, C) probabilities instead of class names.

        Returns:
            (N,) class names, (N, K) values, (N, F) embeddings of length 1 for a retrieval, or for a segmentation
            (N, H, W) int64 positions in `class_names`.

        Raises:
            DataError: a modality or row cannot be read, or its prediction is not finite; the message names it.
        """
        if probabilities:
            return self.predict_proba(inputs, lengths=lengths, group=group)
        decided = np.concatenate([self.task.decide(part) for part in self.answers(inputs, lengths, group)])
        return np.asarray(self.class_names)[decided] if self.task.answers == "class" else decided

    def predict_proba(
        self, inputs: Mapping[str, Any], *, lengths: Mapping[str, Any] | None = None, group: Any = None
    ) -> NDArray:
        """Predict probabilities.

        Args:
            inputs, lengths, group: as in `predict`.

        Returns:
            (N, C) probabilities in the order of `class_names`; (N, C, H, W) for a segmentation.

        Raises:
            ConfigError: the task has no classes.
        """
        if self.task.answers not in ("class", "pixels"):
            raise ConfigError(
                f"a {self.task.name} student has no probabilities; predict returns its {self.task.answers}"
            )
        return np.asarray(self.respond(inputs, lengths, group).softmax(1))

    def respond(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None = None, group: Any = None, ids: Any = None
    ) -> Tensor:
        """The network's output for raw rows.

        Args:
            inputs, lengths, group: as in `predict`.
            ids: (N,) names of the rows in errors.

        Returns:
            (N, C) logits, (N, C, H, W) for a segmentation, (N, K) values in their own units, or (N, F) embeddings.
        """
        return torch.cat(list(self.answers(inputs, lengths, group, ids)))

    @torch.no_grad()
    def answers(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None = None, group: Any = None, ids: Any = None
    ) -> Iterator[Tensor]:
        """Yield the outputs of `respond` a few rows at a time; class maps need far less memory than their logits.

        Args:
            inputs, lengths, group, ids: as in `respond`.
        """
        x, n, here, names = self._read(inputs, lengths, group, ids)
        warn_far(self.preprocessor.plans, x, n, here)
        ids = np.arange(len(next(iter(x.values())))) if ids is None else ids
        at_once = compute_chunk_size([a.shape[1:] for a in x.values()], CHUNK)
        chunks = torch.split(torch.arange(len(next(iter(x.values())))), at_once)
        deployed = self.deployed
        if not len(chunks[0]):
            size = getattr(self.network.head, "size", ())
            fused = torch.zeros(0, getattr(self.network.head, "in_features", 0))
            yield self.task.answer(Output(torch.zeros(0, self.task.outputs, *size), fused, {}))
            return
        if names is None:
            parts = ([_take(t, i, self.device) for t in (x, n, here)] for i in chunks)
            batches = (deployed.prepare(inputs, lengths, present=present) for inputs, lengths, present in parts)
        else:  # a new group's statistics need all its rows
            inputs, lengths, present = (_take(t, slice(None), self.device) for t in (x, n, here))
            whole = deployed.prepare(inputs, lengths, names, present)
            batches = (whole.index_select(i) for i in chunks)
        for i, batch in zip(chunks, batches):
            for m, read in batch.inputs.items():
                check_preprocessed(repr(m), read, x[m], ids, int(i[0]))
            answer = deployed.respond(batch).cpu()
            check_output(answer, ids, ", ".join(x), int(i[0]))
            yield answer

    def calibrate(
        self, inputs: Mapping[str, Any], group: Any, *, lengths: Mapping[str, Any] | None = None
    ) -> tuple[str, ...]:
        """Store the statistics of new groups, for a student that standardises each group by its own rows.

        Single rows of these groups can be predicted afterwards, and `save` stores the statistics.

        Args:
            inputs, group, lengths: some rows of the groups, as in `predict`.

        Returns:
            The names of all groups that the student knows now.
        """
        x, n, here, names = self._read(inputs, lengths, group, None)
        if names is None:
            raise ConfigError("this student standardises by its train rows; it needs no calibration")
        x, n, here = (_take(t, slice(None), self.device) for t in (x, n, here))
        self.preprocessor.calibrate(x, n, here, names)
        return tuple(self.preprocessor.groups)

    def _read(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None, group: Any, ids: Any
    ) -> tuple[Tensors, Tensors, Tensors, NDArray | None]:
        """Checked inputs, lengths and masks of present rows as tensors, and groups."""
        arrays = check_inputs(inputs, lengths, group, self.preprocessor, self.privileged, ids, self.completes)
        x, n, here = ({m: torch.from_numpy(a) for m, a in part.items()} for part in arrays[:3])
        return x, n, here, arrays[3]

    def to_config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON; raises ConfigError if JSON cannot hold `meta`."""
        text: dict[str, Any] = to_json(
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "task": describe_task(self.task),
                "reads": self.reads,
                "privileged": self.privileged,
                "inputs": self.inputs,
                "network": describe(self.network),
                "preprocessor": self.preprocessor.to_config(),
                "meta": {"versions": versions(), **self.meta},
            }
        )
        return text

    def save(self, path: str | Path) -> Path:
        """Write `<name>.safetensors`, which `load_student` reads, and a readable `<name>.json` beside it.

        Args:
            path: the .safetensors file, or a folder for `student.safetensors`. Both files are written atomically.

        Returns:
            The path of the .safetensors file.
        """
        return write_student(path, self.to_config(), {"network": self.network, "preprocessor": self.preprocessor})

    def export(self, path: str | Path, *, group: str | None = None, max_batch: int | None = None) -> Path:
        """Write a model file for another runtime. It contains the preprocessing and reads `reads`, nothing else.

        The file is run and compared with torch to 1e-4 before it gets its name.

        Args:
            path: the file; its suffix chooses the format: .onnx, .pt2 (torch.export), .pte (ExecuTorch), .safetensors.
            group: the known group that the file is for, if the student standardises each group by its own rows.
            max_batch: largest number of rows of a call, for .pt2 files (None: no limit) and .pte files, whose runtime
                plans its memory ahead.

        Returns:
            The path of the file.

        Raises:
            ConfigError: an unknown suffix, or settings that the format does not have.
            RunError: the student cannot be exported, or the file's outputs differ from torch.
        """
        if Path(path).suffix == ".safetensors":
            if max_batch is not None:
                raise ConfigError(
                    "max_batch is for .pt2 and .pte files; .safetensors takes any number of rows, so leave it out"
                )
            return self.save(path)
        return export_graph(copy.deepcopy(self.deployed).to("cpu"), self.to_config(), path, group, max_batch)

    def __repr__(self) -> str:
        method = f", method={self.meta['method']!r}" if "method" in self.meta else ""
        return f"Student({self.task.name}, reads={list(self.reads)}, labels={list(self.class_names)}{method})"


def _take(tensors: Tensors, rows: Tensor | slice, device: torch.device) -> Tensors:
    return {m: a[rows].to(device) for m, a in tensors.items()}
