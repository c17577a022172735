"""Predictions for a file of new rows."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sidelight.data.load import load_rows
from sidelight.data.pixels import compute_chunk_size
from sidelight.data.rows import Rows, is_lazy, name_row
from sidelight.errors import DataError, SidelightWarning, unknown
from sidelight.export.new_files import open_new_files
from sidelight.export.source import find_columns, refuse_privileged
from sidelight.export.student import Student
from sidelight.results.formulas import escape_formulas
from sidelight.utils.atomic import write_atomic
from sidelight.utils.device import explain_out_of_memory
from sidelight.utils.keywords import known_keywords

if TYPE_CHECKING:
    from sidelight.data.sources.checked_files import OnError

WRITTEN = (".csv", ".tsv", ".parquet")


@known_keywords
def predict_file(
    student: Student,
    source: Any,
    out: str | Path | None = None,
    *,
    ignore_privileged: bool = False,
    group: str | None = None,
    ids: str | None = None,
    on_error: OnError = "raise",
    escape: bool = False,
    table: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Read new rows, predict them, and write the predictions to a file.

    Args:
        student: the student.
        source: .csv, .tsv, .parquet, .npz, a folder with a manifest, a DataFrame or a dict of arrays, as `load` reads
            them; or recordings as in training: a file, a list of files, a folder of them, or a table that names them
            (`<modality>_file_name`). No target is needed, and none is read.
        out: the file: .csv, .tsv or .parquet, for a segmentation .npz; None: write none. It is written atomically.
        ignore_privileged: leave columns of privileged modalities unread instead of refusing the file.
        group, ids: columns with groups and names of the rows; None: the usual names.
        on_error: "raise" stops at the first recording that cannot be read; "skip" predicts the other rows and warns of
            each skipped one.
        escape: put an apostrophe before ids and class names that begin with =, +, - or @, which a spreadsheet would run
            as formulas.
        table: how a text manifest is written, as for `load`.

    Returns:
        `id, prediction, p.<class>, …` for classes, `id, prediction.<target>, …` for values, `id, e0, e1, …` for
        embeddings, and for a segmentation `id, share.<class>, …`, the shares of each row's pixels. The .npz of a
        segmentation holds `id` (N,), `prediction` (N, H, W) class numbers and `labels` (C,) class names.

    Raises:
        DataError: rows cannot be read or predicted; the message names file and row.
    """
    pixels = student.task.answers == "pixels"
    written = (".npz",) if pixels else WRITTEN
    if out is not None and Path(out).suffix not in written:
        raise DataError(f"{out}: {unknown('suffix for predictions', Path(out).suffix, written)}")
    files = open_new_files(student, source)
    source = source if files is None else files
    if not ignore_privileged:
        refuse_privileged(student, source, table)
    rows = load_rows(
        source,
        find_columns(student, source, table),
        group=group,
        ids=ids,
        impute="mean",
        on_error=on_error,
        longest=_longest(student),
        table=table,
    )
    for row in rows.skipped:
        text = f"{row['id']!r} gets no prediction: {row['modality']!r}: {row['reason']}"
        warnings.warn(text, SidelightWarning, stacklevel=2)
    _check_schema(student, rows)
    try:
        if pixels:
            maps = [student.task.decide(a) for a in _answers(student, rows)]
            return _write_maps(student, rows, np.concatenate(maps), out)
        outputs = torch.cat(list(_answers(student, rows)))
    except DataError as error:
        raise DataError(f"{rows.name}: {error}") from error
    frame = pd.DataFrame({"id": rows.ids})
    decided = student.task.decide(outputs)
    if student.task.answers == "class":
        frame["prediction"] = np.asarray(student.class_names)[decided]
        columns, values = [f"p.{label}" for label in student.class_names], outputs.softmax(-1).numpy()
    elif student.task.answers == "embedding":
        columns, values = [f"e{i}" for i in range(decided.shape[1])], decided
    else:
        columns, values = [f"prediction.{label}" for label in student.class_names], decided
    frame = pd.concat([frame, pd.DataFrame(values, columns=columns)], axis=1)
    frame = escape_formulas(frame) if escape else frame
    if out is not None:
        _write(frame, Path(out))
    return frame


def _longest(student: Student) -> dict[str, int]:
    plans = student.preprocessor.plans
    return {m: plans[m].longest for m in student.reads if plans[m].longest}


def _check_schema(student: Student, rows: Rows) -> None:
    """Raise DataError if new recordings are cut or sampled differently from those of training."""
    for m, trained in student.meta.get("recordings", {}).items():
        # Where no channels are chosen, nothing is stored of them.
        trained = {"pick": [], **trained}
        for name, now in {"pick": [], **rows.schema.get(m, {"pick": trained["pick"]})}.items():
            if name in trained and trained[name] != now:
                raise DataError(
                    f"{rows.name}: {m!r} has {name} {now}, but the student was trained on {trained[name]}; prepare the "
                    "new rows in the same way"
                )


def _write_maps(student: Student, rows: Rows, maps: NDArray, out: str | Path | None) -> pd.DataFrame:
    """Write the class maps, and return the share of each class in each row."""
    shares = {f"share.{label}": (maps == c).mean((1, 2)) for c, label in enumerate(student.class_names)}
    if out is not None:
        content, ids = io.BytesIO(), np.asarray(rows.ids)
        small = maps.astype(np.min_scalar_type(len(student.class_names)))
        np.savez_compressed(content, id=ids, prediction=small, labels=np.asarray(student.class_names))
        write_atomic(out, content.getvalue())
    return pd.DataFrame({"id": rows.ids, **shares})


def _answers(student: Student, rows: Rows) -> Iterator[Tensor]:
    """The student's outputs; rows that are files are decoded a few at a time."""
    files = [m for m, x in rows.inputs.items() if is_lazy(x)]
    at_once = len(rows)
    if files and student.preprocessor.standardize == "train":  # a new group's statistics need all its rows
        at_once = compute_chunk_size([x.shape[1:] for x in rows.inputs.values()])
    mend = "Predict on the CPU (--device cpu; in Python: student.to('cpu')), or give fewer rows at a time."
    for i in range(0, len(rows), at_once):
        with explain_out_of_memory(student.device, mend):
            part = rows.index_select(slice(i, i + at_once))
            part.inputs |= {m: part.inputs[m].read(threads=None).numpy() for m in files}
            yield from student.answers(*_as_given(student, part), part.group, part.ids)


def _as_given(student: Student, rows: Rows) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Inputs and lengths, with NaN in rows that lack a modality; only students that impute or complete accept them."""
    inputs, lengths = dict(rows.inputs), dict(rows.lengths)
    assert rows.ids is not None
    for m, here in rows.present.items():
        if here.all():
            continue
        if student.preprocessor.impute != "mean" and not student.completes:
            i = int(np.flatnonzero(~here)[0])
            raise DataError(
                f"{rows.name}: {name_row(i, rows.ids)} has no {m!r} ({int((~here).sum())} such rows); this student "
                "reads it and does not fill gaps. Leave those rows out"
            )
        inputs[m] = inputs[m].astype(np.result_type(inputs[m].dtype, np.float16))
        inputs[m][~here] = np.nan
        if m in lengths:
            lengths[m] = np.where(here, lengths[m], 1)
    return inputs, lengths


def _write(frame: pd.DataFrame, out: Path) -> None:
    if out.suffix == ".parquet":
        content = io.BytesIO()
        frame.to_parquet(content, index=False)
        write_atomic(out, content.getvalue())
    else:
        write_atomic(out, frame.to_csv(index=False, sep="\t" if out.suffix == ".tsv" else ",", float_format="%.6g"))
