"""Export a student as one graph from raw rows to predictions, which is run and compared before it gets its name."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.preprocess import Preprocessor
from sidelight.errors import ConfigError, RunError, unknown
from sidelight.export.deployed import Deployed, fix_group
from sidelight.export.file import KEY
from sidelight.export.input_facts import doc_string
from sidelight.export.pte import import_executorch, lower
from sidelight.utils.atomic import write_atomic
from sidelight.utils.extras import install
from sidelight.utils.files import check_place

SUFFIXES = (".onnx", ".pt2", ".pte", ".safetensors")
OPSET = 18
TOLERANCE = 1e-4
LARGEST_BATCH = 1 << 24
Runner = Callable[[list[Tensor]], list[NDArray]]


def export_graph(
    deployed: Deployed,
    description: Mapping[str, Any],
    path: str | Path,
    group: str | None = None,
    max_batch: int | None = None,
) -> Path:
    """Write a student as ONNX, torch.export or ExecuTorch program (`Student.export`).

    Args:
        deployed: the module to trace.
        description: `Student.to_config()`, which the file contains.
        path: the .onnx, .pt2 or .pte file; beside a .pte file, which has no names, <name>.pte.json has them.
        group: the known group that the file is for, if groups are standardised by their own rows.
        max_batch: largest number of rows of a call, for .pt2 files (None: no limit) and .pte files.
    """
    path = check_place(path)
    if path.suffix not in SUFFIXES[:-1]:
        raise ConfigError(f"{path}: {unknown('suffix for an export', path.suffix, SUFFIXES)}")
    deployed = _self_contained(deployed, group)
    names = [*deployed.inputs, *deployed.outputs]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise RunError(f"{sorted(twice)} would name two inputs or outputs of the graph; rename the modality")
    _check_max_batch(max_batch, path)
    if path.suffix == ".pte":
        import_executorch()  # before the minute that tracing may take
    text = json.dumps({**description, **({"group": group} if group else {})}, ensure_ascii=False)
    with _quiet():
        content, run = _write_onnx(deployed, text) if path.suffix == ".onnx" else _write_pt2(deployed, text, max_batch)
        if path.suffix == ".pte":
            content, run = lower(content)
    _compare(deployed, run, path, max_batch)
    if path.suffix == ".pte":
        order = {"graph_inputs": list(deployed.inputs), "graph_outputs": list(deployed.outputs), "max_batch": max_batch}
        write_atomic(
            path.with_name(f"{path.name}.json"), json.dumps(order | json.loads(text), ensure_ascii=False, indent=1)
        )
    write_atomic(path, content)
    return path


def _self_contained(deployed: Deployed, group: str | None) -> Deployed:
    """The module to trace. A graph has no groups, so a module that standardises by group is fixed to one of them."""
    preprocessor = deployed.preprocessor
    if preprocessor.standardize != "group":
        if group is not None:
            raise ConfigError(
                "this student standardises by its train rows; its file works for every group, so leave group out"
            )
    elif group is None:
        raise RunError(
            "this student standardises each group by its own rows, and a graph has no groups: "
            "calibrate it with some rows of one group and export it for that group (group='…')"
        )
    elif group not in preprocessor.groups:
        raise RunError(
            f"{unknown('group', group, preprocessor.groups)} Calibrate the student with some of its rows first"
        )
    else:
        preprocessor = fix_group(preprocessor, group)
    return Deployed(deployed.network, preprocessor, deployed.task).eval()


def _write_onnx(deployed: Deployed, description_json: str) -> tuple[bytes, Runner]:
    """Write ONNX (opset 18, any number of rows); returns the file's content and a function that runs it."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RunError(f"writing ONNX needs {error.name}: {install('export')}") from error
    try:
        program = torch.onnx.export(
            deployed,
            tuple(typical_rows(deployed, 3)),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(deployed.inputs),
            output_names=list(deployed.outputs),
            dynamic_shapes=_dynamic(deployed),
            verbose=False,
        )
        assert program is not None
        for value in program.model.graph.inputs:
            if value.name in deployed.network.reads:
                value.doc_string = doc_string(deployed.preprocessor.plans[value.name])
        labels = json.dumps(json.loads(description_json)["task"]["labels"], ensure_ascii=False)
        program.model.metadata_props.update({KEY: description_json, "task": deployed.task.name, "labels": labels})
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # torch, onnxscript and onnxruntime each raise their own
        raise RunError(f"this network cannot be written as ONNX: {type(error).__name__}: {error}") from error
    named = tuple(i.name for i in session.get_inputs())
    if named != deployed.inputs:
        raise RunError(f"the ONNX graph reads {list(named)} instead of {list(deployed.inputs)}; nothing was written")

    def run(tensors: list[Tensor]) -> list[NDArray]:
        given = {name: tensor.numpy() for name, tensor in zip(deployed.inputs, tensors)}
        return list(session.run(list(deployed.outputs), given))

    return content, run


def _write_pt2(deployed: Deployed, description_json: str, max_batch: int | None = None) -> tuple[bytes, Runner]:
    """Write a torch.export program; returns the file's content and a function that runs it.

    Args:
        deployed: the module to trace.
        description_json: the description, stored as `sidelight.json`.
        max_batch: largest number of rows of a call; 1 fixes the number of rows to 1.
    """
    try:
        rows = typical_rows(deployed, min(3, max_batch or 3))
        program = torch.export.export(deployed, tuple(rows), dynamic_shapes=_dynamic(deployed, max_batch))
        file = io.BytesIO()  # in memory: torch's writer ends the process on a full disk
        torch.export.save(program, file, extra_files={f"{KEY}.json": description_json})
        file.seek(0)
        module = torch.export.load(file).module()
    except Exception as error:  # torch has many
        raise RunError(f"this network cannot be exported by torch.export: {type(error).__name__}: {error}") from error

    def run(tensors: list[Tensor]) -> list[NDArray]:
        with torch.no_grad():
            return [out.numpy() for out in module(*tensors)]

    return file.getvalue(), run


def _check_max_batch(max_batch: int | None, path: Path) -> None:
    if max_batch is None and path.suffix == ".pte":
        raise ConfigError(f"{path}: ExecuTorch plans its memory ahead; give max_batch, the most rows of a call")
    if max_batch is None:
        return
    if path.suffix not in (".pt2", ".pte"):
        raise ConfigError(
            f"max_batch is for .pt2 and .pte files; {path.suffix} takes any number of rows, so leave it out"
        )
    if not isinstance(max_batch, int) or isinstance(max_batch, bool) or not 1 <= max_batch <= LARGEST_BATCH:
        raise ConfigError(f"max_batch must be a whole number from 1 to {LARGEST_BATCH:,}, not {max_batch!r}")


def _dynamic(deployed: Deployed, max_batch: int | None = None) -> Any:
    """Dynamic shapes: all inputs share the number of rows, and signals of varying length have any number of steps.

    With `max_batch` every size has a bound: at most that many rows, and signals of the longest training length.
    """
    if max_batch == 1:
        return None
    rows, any_length = torch.export.Dim("rows", max=max_batch), torch.export.Dim.DYNAMIC
    long = deployed.variable if max_batch is None else ()
    shapes = ({0: rows, 1: any_length} if n in long else {0: rows} for n in deployed.inputs)
    return {"tensors": tuple(shapes)}


@torch.no_grad()
def _compare(deployed: Deployed, run: Runner, path: Path, max_batch: int | None = None) -> None:
    """Run random rows through torch and through the file; raises RunError if the outputs differ.

    It runs one row, then several, the last of them without its first modality. Signals of varying length have the
    longest training length, then twice that if the graph accepts it.
    """
    for n, stretch in ((1, 1.0), (min(7, max_batch or 7), 2.0 if max_batch is None else 1.0)):
        rows = typical_rows(deployed, n, n, stretch)
        if n > 1:
            rows[0][-1] = torch.nan  # a dead sensor: the file has to say NaN, or to fill it, as torch does
        try:
            got = run(rows)
        except Exception as error:  # onnxruntime has its own
            raise RunError(f"the exported graph fails on {n} rows, so {path} was not written: {error}") from error
        for name, expected, out in zip(deployed.outputs, deployed(*rows), got):
            e = expected.numpy()
            if out.shape != e.shape or not np.allclose(out, e, TOLERANCE, TOLERANCE, equal_nan=True):
                by = (
                    f"by {np.where(np.isnan(out) & np.isnan(e), 0, np.abs(out - e)).max():.2g}"
                    if out.shape == e.shape
                    else f"in shape, {out.shape} for {e.shape}"
                )
                raise RunError(
                    f"the exported graph differs from torch {by} in {name!r} on {n} rows (allowed: {TOLERANCE:g}), so "
                    f"{path} was not written"
                )


def typical_rows(deployed: Deployed, rows: int, seed: int = 0, stretch: float = 1.0) -> list[Tensor]:
    """Random inputs with the mean and spread of the train rows, one tensor per name in `deployed.inputs`.

    Args:
        deployed: the module.
        rows: number of rows.
        seed: seed of the random numbers.
        stretch: length of signals of varying length, as a multiple of the longest training length.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for m in deployed.network.reads:
        shape = deployed.preprocessor.plans[m].shape
        if m in deployed.variable:
            shape = (round(stretch * shape[0]), *shape[1:])
        centre, spread = _size(deployed.preprocessor, m)
        if deployed.preprocessor.plans[m].image:
            centre, spread = (x.view(-1, *[1] * (len(shape) - 1)) for x in (centre, spread))
        tensors.append(centre + spread * torch.randn(rows, *shape, generator=generator))
        if m in deployed.variable:
            low = min(2, shape[0])
            tensors.append(torch.randint(low, shape[0] + 1, (rows,), generator=generator))
        if deployed.completes:
            tensors.append(torch.rand(rows, generator=generator) < 0.7)
    if deployed.completes:  # every row has a modality
        flags = [tensor for tensor in tensors if tensor.dtype == torch.bool]
        flags[0] |= ~torch.stack(flags).any(0)
    return tensors


def _size(preprocessor: Preprocessor, m: str) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C,) standard deviation of the raw columns, from the preprocessor; 0 and 1 if it has none."""
    state, i = preprocessor.state_dict(), preprocessor.modalities.index(m)
    plan, mean, scale = preprocessor.plans[m], state[f"mean_{i}"][0], state[f"scale_{i}"][0]
    if plan.spectrogram:  # of which the statistics are; raw sound lies around zero
        spreads = [high for _, high in plan.ranges.spreads] if plan.ranges else [0.1] * plan.channels
        return torch.zeros(plan.channels), torch.tensor(spreads)
    if not plan.statistics:
        return mean, torch.where(scale > 0, 1 / scale.clamp(min=1e-30), 0)
    if plan.statistics[0] != "moments":
        return torch.zeros(plan.shape[-1]), torch.ones(plan.shape[-1])
    channels = plan.shape[-1]
    of_each = mean.view(channels + ("magnitude" in plan.statistics and channels > 1), -1)[:channels]
    return of_each[:, 0], of_each[:, 1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's notes and warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
