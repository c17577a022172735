"""Verbs of a student: `predict`, `export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sidelight.cli_flags import table_of
from sidelight.errors import ConfigError


def predict_verb(args: argparse.Namespace) -> None:
    from sidelight.export import load_student, predict_file

    student = load_student(args.student, encoders=args.own.encoders).to(args.device)
    ignore = args.ignore_privileged
    names = {"group": args.group, "ids": args.ids, "on_error": args.on_error, "escape": args.escape}
    rows = args.rows if len(args.rows) > 1 else args.rows[0]
    predictions = predict_file(student, rows, args.output, ignore_privileged=ignore, table=table_of(args), **names)
    if args.output is None:
        predictions.to_csv(sys.stdout, index=False, float_format="%.6g")
    else:
        print(f"{len(predictions)} predictions: {args.output}")


def export_verb(args: argparse.Namespace) -> None:
    if args.hub:
        if args.onnx or args.output or args.group or args.max_batch is not None:
            raise ConfigError(
                "--hub writes a folder of its own; leave out the other flags, and export from that folder."
            )
        from sidelight.export import write_hub_folder

        print(write_hub_folder(args.student, args.hub))
        return
    if not args.onnx and not args.output:
        raise ConfigError(
            "choose what to write: --onnx, --output FILE with the suffix .onnx, .pt2, .pte or .safetensors, "
            "or --hub FOLDER."
        )
    if args.onnx and args.output and Path(args.output).suffix != ".onnx":
        raise ConfigError(f"--onnx writes a file with the suffix .onnx, not {args.output}.")
    from sidelight.export import load_student

    given = Path(args.student)
    beside = given.with_suffix(".onnx") if given.is_file() else given / "student.onnx"
    print(
        load_student(given, encoders=args.own.encoders).export(
            args.output or beside, group=args.group, max_batch=args.max_batch
        )
    )
