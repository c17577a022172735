"""The student: a network with its preprocessing, its task and where it comes from."""

from __future__ import annotations

import copy
import warnings
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
from sidelight.errors import ConfigError, SidelightWarning, listed, unknown
from sidelight.export.checks import checked
from sidelight.export.deployed import Deployed, without_groups
from sidelight.export.facts import facts, far_sentence
from sidelight.export.file import FORMAT, FORMAT_VERSION, plain, versions, write_student
from sidelight.export.graph import export_graph
from sidelight.networks.build import describe
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task, describe_task
from sidelight.utils.names import check_modality

CHUNK = 1024
Tensors = dict[str, Tensor]


class Student:
    """What is deployed: reads the available modalities and nothing else.

    Args:
        network: copied; in evaluation mode, without gradient, float32, on the CPU.
        preprocessor: fitted; only what concerns the network's modalities is kept.
        task: what is predicted, with the names of classes or targets.
        meta: where it comes from: method, data, fold, seed, metrics, licence, …; `privileged` names the modalities of
            training, which are then refused by name. Anything that JSON can hold.
        known_groups: where each group is standardised by its own rows, keep the names and statistics of the groups that
            the preprocessor knows. By default a student leaves without them: they are the training people's, and a new
            person may have an old name.

    Raises ConfigError where the three do not fit, or where the network reads a privileged modality.
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
        self.preprocessor = preprocessor if known_groups else without_groups(preprocessor)
        self.task = task

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, or target names."""
        return self.task.class_names

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """Modality -> what its rows have to be: shape and axes, unit, sampling rate, and the ranges seen in training.

        `unit`, `rate_hz` and `range` are "not given" where they are not known. `range` holds the 0.1 % and the 99.9 %
        quantile of every channel (of a vector: column) over the training rows.
        """
        return {m: facts(self.preprocessor.plans[m]) for m in self.reads}

    @property
    def completes(self) -> bool:
        """Whether it takes any subset of its modalities (`student.drop`)."""
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
        """Class names (N,) str, values (N, K), or of a retrieval embeddings (N, F) of length 1, of raw rows.

        Of a segmentation (N, H, W) int64, for every pixel the number of its class in `labels`.

        Args:
            inputs: modality -> (N, D), (N, T, C), or images (N, C, H, W) or (N, H, W, C), exactly those in `reads`;
                of a student that `completes`, some of them, and rows may be NaN throughout.
            lengths: modality -> (N,) valid time steps of a variable-length one (default: all).
            group: (N,) whose rows these are; needed only where each group is standardised by its own rows.
            probabilities: (N, C) instead of class names.

        Rows in another unit than those of training are answered as if nothing were wrong. A SidelightWarning says where
        values are far outside of what training saw (`inputs`); it cannot tell every change of unit.

        Raises DataError, which names the modality (and row) that cannot be read, or whose answer is not finite.
        """
        if probabilities:
            return self.predict_proba(inputs, lengths=lengths, group=group)
        decided = np.concatenate([self.task.decide(part) for part in self.answers(inputs, lengths, group)])
        return np.asarray(self.class_names)[decided] if self.task.answers == "class" else decided

    def predict_proba(
        self, inputs: Mapping[str, Any], *, lengths: Mapping[str, Any] | None = None, group: Any = None
    ) -> NDArray:
        """(N, C) probabilities, in the order of `labels`; of a segmentation (N, C, H, W)."""
        if self.task.answers not in ("class", "pixels"):
            raise ConfigError(
                f"a {self.task.name} student has no probabilities; predict returns its {self.task.answers}"
            )
        return np.asarray(self.respond(inputs, lengths, group).softmax(1))

    def respond(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None = None, group: Any = None, ids: Any = None
    ) -> Tensor:
        """The task's answer: (N, C) logits (of pixels (N, C, H, W)), (N, K) values in its own units, or (N, F)
        embeddings; as `predict`.

        ids: (N,) how errors call the rows.
        """
        return torch.cat(list(self.answers(inputs, lengths, group, ids)))

    @torch.no_grad()
    def answers(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None = None, group: Any = None, ids: Any = None
    ) -> Iterator[Tensor]:
        """`respond` a few rows at a time: what is decided of a class per pixel is far smaller than the answers."""
        x, n, here, names = self._read(inputs, lengths, group, ids)
        self._warn_far(x, n, here)
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
            batches = (deployed.prepare(_take(x, i), _take(n, i), present=_take(here, i)) for i in chunks)
        else:
            whole = deployed.prepare(x, n, names, here)  # a new group's statistics need all its rows
            batches = (whole.index_select(i) for i in chunks)
        for i, batch in zip(chunks, batches):
            for m, read in batch.inputs.items():
                check_preprocessed(repr(m), read, x[m], ids, int(i[0]))
            answer = deployed.respond(batch)
            check_output(answer, ids, ", ".join(x), int(i[0]))
            yield answer

    def _warn_far(self, x: Tensors, lengths: Tensors, present: Tensors) -> None:
        """Says what of the rows is far outside of what training saw."""
        for m, rows in x.items():
            plan = self.preprocessor.plans[m]
            length, here = (None if t is None else t.numpy() for t in (lengths.get(m), present.get(m)))
            if plan.ranges is not None and (found := plan.ranges.find_out_of_range(rows.numpy(), length, here)):
                warnings.warn(far_sentence(m, plan, found), SidelightWarning, stacklevel=4)

    def calibrate(
        self, inputs: Mapping[str, Any], group: Any, *, lengths: Mapping[str, Any] | None = None
    ) -> tuple[str, ...]:
        """Remember the statistics of new groups from some of their rows; returns the groups that are known now.

        For a student that standardises each group by its own rows: afterwards single rows of these groups can be
        predicted, and `save` keeps what was learnt.
        """
        x, n, here, names = self._read(inputs, lengths, group, None)
        if names is None:
            raise ConfigError("this student standardises by its train rows; it needs no calibration")
        self.preprocessor.calibrate(x, n, here, names)
        return tuple(self.preprocessor.groups)

    def _read(
        self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None, group: Any, ids: Any
    ) -> tuple[Tensors, Tensors, Tensors, NDArray | None]:
        """Checked inputs, lengths and which rows have what, as tensors, and groups."""
        arrays = checked(inputs, lengths, group, self.preprocessor, self.privileged, ids, self.completes)
        x, n, here = ({m: torch.from_numpy(a) for m, a in part.items()} for part in arrays[:3])
        return x, n, here, arrays[3]

    def to_config(self) -> dict[str, Any]:
        """Everything but the weights, as JSON can hold it; raises ConfigError where `meta` is more than that."""
        text: dict[str, Any] = plain(
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
        """Write `<name>.safetensors`, which is enough to load it again, and a readable `<name>.json` beside it.

        path: the .safetensors file, or a folder for `student.safetensors`. Both appear whole or not at all.
        """
        return write_student(path, self.to_config(), {"network": self.network, "preprocessor": self.preprocessor})

    def export(self, path: str | Path, *, group: str | None = None, max_batch: int | None = None) -> Path:
        """Write the student for another runtime, by suffix: .onnx, .pt2 (torch.export) or .safetensors.

        Preprocessing is inside; the inputs are `reads`, nothing else. The file is run and compared with torch to 1e-4
        before it gets its name. group: of a student that standardises each group by its own rows, the known group that
        the file is for. max_batch: of a .pt2 file, the most rows of a call, which runtimes that plan their memory ahead
        have to know (ExecuTorch); None leaves it open.
        """
        if Path(path).suffix == ".safetensors":
            if max_batch is not None:
                raise ConfigError("max_batch is for .pt2 files; .safetensors takes any number of rows, so leave it out")
            return self.save(path)
        return export_graph(self.deployed, self.to_config(), path, group, max_batch)

    def __repr__(self) -> str:
        method = f", method={self.meta['method']!r}" if "method" in self.meta else ""
        return f"Student({self.task.name}, reads={list(self.reads)}, labels={list(self.class_names)}{method})"


def _take(tensors: Tensors, rows: Tensor) -> Tensors:
    return {m: a[rows] for m, a in tensors.items()}
