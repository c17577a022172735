"""`sidelight show`: what a student reads, what it predicts, how good it was and on what, and how to use it."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from sidelight.export.describe import describe_student
from sidelight.export.input_facts import describe_measured
from sidelight.results.units import Unit, labels_phrase, metric_name, unit
from sidelight.verbs.text import commands, section

MANY = 12
"""Names that are listed before the rest is counted."""


def show_verb(args: argparse.Namespace) -> None:
    """Print what `describe_student` finds."""
    told = describe_student(args.student)
    print(json.dumps(told, indent=1, ensure_ascii=False) if args.json else format_student(told))


def format_student(told: Mapping[str, Any]) -> str:
    """Format what `describe_student` returns for a terminal.

    Args:
        told: the description.
    """
    parts = [
        told["file"] + "\n",
        section("reads", _inputs(told)),
        section("predicts", [_prediction(told)]),
        section("how good", _quality(told)),
        section("made with", _making(told)),
        commands("use it", _commands(told)),
    ]
    return "\n".join(part for part in parts if part).rstrip("\n")


def _inputs(told: Mapping[str, Any]) -> Iterator[str]:
    for m, about in told["inputs"].items():
        shape = ", ".join(map(str, about["shape"]))
        measured = ", ".join(f"{name} {value}" for name, value in describe_measured(about).items())
        yield f"{m}: ({shape}), {' x '.join(about['axes'])}" + (f"; {measured}" if measured else "")
        columns, ranges = about.get("columns"), about.get("range")
        if isinstance(ranges, list):
            names = columns or [f"channel {i}" for i in range(len(ranges))]
            spans = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in zip(names, ranges)]
            yield f"  in training: {_some(spans, '; ')}"
        elif columns:
            yield f"  columns: {_some(columns)}"
    if told["any_subset"]:
        yield "any subset of these will do: what a row lacks is completed from the rest"
    if told["groups"]:
        yield "each person's rows are standardised by that person's own, so predict needs --group"
    if told["privileged"]:
        yield f"not {', '.join(told['privileged'])}: privileged, only its training had them"


def _some(names: list[str], by: str = ", ") -> str:
    """The first names, and how many more there are."""
    return by.join(names[:MANY]) + (f"{by}and {len(names) - MANY} more" if len(names) > MANY else "")


def _prediction(told: Mapping[str, Any]) -> str:
    labels, target = told["labels"], told["data"].get("target", "")
    what = f"{target}, " if target else ""
    kind = "value" if told["task"] == "regression" else "class"
    many = f"{len(labels)} {kind}{'es' if kind == 'class' and len(labels) > 1 else 's' if len(labels) > 1 else ''}"
    return f"{what}{told['task']}, {many}: {_some(labels)}"


def _quality(told: Mapping[str, Any]) -> Iterator[str]:
    if told["note"]:
        yield told["note"]
    if told["metrics"]:
        scores = ", ".join(f"{metric_name(m)} {unit(m).score(v)}" for m, v in told["metrics"].items() if v is not None)
        yield f"this network, on the test rows of its own fold {told['fold']}, seed {told['seed']}: {scores}"
    if crossed := told["cross_validated"]:
        scored = {m: s for m, s in crossed.items() if isinstance(s, dict)}
        scores = ", ".join(f"{metric_name(m)} {unit(m).score(s['mean'])}" for m, s in scored.items())
        yield f"{crossed['networks']} networks of the cross-validation ({crossed['protocol']}): {scores}"
    run = told["run"]
    if run is None:
        yield "no run folder beside it, so no interval, baseline or placebo: show the run folder for those"
    elif "fault" in run:
        yield f"{run['folder']}: {run['fault']}, so it says nothing of it"
    else:
        yield from _of_run(run)


def _of_run(run: Mapping[str, Any]) -> Iterator[str]:
    u = unit(run["metric"])
    chance = "" if run["chance"] is None else f", chance {u.score(run['chance'])}"
    baseline = "" if run["baseline"] is None else f"; baseline (no teacher) {u.score(run['baseline'])}"
    lower = "" if run["higher_is_better"] else " (lower is better)"
    yield (
        f"its method over the run ({run['networks']} networks, {run['protocol'] or 'protocol unknown'}): "
        f"{metric_name(run['metric'])}{lower} {u.score(run['mean'])}{baseline}{chance}"
    )
    if over := run["over_baseline"]:
        yield f"over the baseline: {_ends(over, u, run)}; {run['verdict']}" + (
            "" if run["survives_holm"] or run["verdict"] != "better" else ", but not after Holm over the run's methods"
        )
    if over := run["over_placebo"]:
        yield f"over its placebo (the method with permuted privileged rows): {_ends(over, u, run)}"
    elif not run["placebo_ran"]:
        yield "its placebo was not run, so what the privileged sensors add is unknown"
    for remark in run["remarks"]:
        yield f"! {remark}"


def _ends(i: Mapping[str, Any], u: Unit, run: Mapping[str, Any]) -> str:
    if i["low"] is None or i["high"] is None:
        return f"{u.amount(i['mean'], signed=True)}, no interval: {i['note']}"
    ends = f"{u.difference(i['low'])} to {u.difference(i['high'])}"
    return f"{u.amount(i['mean'], signed=True)} ({100 * run['level']:g} %: {ends}, n {i['n']} {run['counted']})"


def _making(told: Mapping[str, Any]) -> Iterator[str]:
    share = told["label_fraction"]
    if told["method"]:
        control = f" ({told['control']}, a control)" if told["control"] else ""
        yield f"method {told['method']}{control}" + (f", {labels_phrase(share)}" if share is not None else "")
    if rows := told["rows"]:
        yield f"rows: {', '.join(f'{n} {name}' for name, n in rows.items())}"
    data = told["data"]
    if data:
        rest = [f"{key} {data[key]}" for key in ("group", "source", "licence") if data.get(key)]
        yield f"data {', '.join([str(data.get('name', 'unknown')), *rest])}"
    if told["versions"]:
        yield ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    yield f"{told['parameters']:,} weights, {told['bytes'] / 1e6:.2f} MB"


def _commands(told: Mapping[str, Any]) -> Iterator[str]:
    file = shlex.quote(told["file"])
    group = " --group COLUMN" if told["groups"] else ""
    if told["files"] and set(told["files"]) == set(told["inputs"]) and not group:
        yield f"sidelight predict {file} FOLDER_OF_RECORDINGS --output predictions.csv"
    if told["windows"]:  # a copy of recordings.yaml without its labels and without the privileged sensors
        yield "sidelight windows NEW/recordings.yaml NEW_WINDOWS"
        # The table of windows has the group in a column of a usual name.
        yield f"sidelight predict {file} NEW_WINDOWS --output predictions.csv"
    else:
        yield f"sidelight predict {file} NEW_ROWS.csv{group} --output predictions.csv"
    yield f"sidelight export {file} --onnx"
    arrays = ", ".join(f"{m!r}: …" for m in told["inputs"])
    yield f"python: sidelight.load_student({told['file']!r}).predict({{{arrays}}})"
