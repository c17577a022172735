"""`sidelight init`: a first experiment.yaml for the user's own data, with every guess marked as one."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sidelight.cli_flags import mappings_of
from sidelight.config import Config, load_config
from sidelight.data import DATASETS, Dataset
from sidelight.data.load import load_for
from sidelight.data.raw import DEFAULT_NAMES
from sidelight.data.sources.locate import MANIFESTS, SUFFIXES
from sidelight.data.sources.read import open_prepared
from sidelight.errors import ConfigError, DataError
from sidelight.export.source import names_in
from sidelight.protocols import resolve_protocol
from sidelight.tasks import resolve_task
from sidelight.utils.atomic import write_atomic

NAME = "experiment.yaml"
ROLES = ("target", "group", "split", "time", "task", "impute", "on_error")
"""Settings of the data that `sidelight init` takes as flags and writes into the file."""
USUAL_GROUPS = ("participant", "person", "patient", "user", "speaker", "session", "recording", "video", "trial")
"""Names of columns, beside those that loaders know, that say whose a row is; without a number or "_id" behind them."""
GUESS = "GUESS"
EPOCHS = "at most: training stops earlier where the select rows stop improving"


def init_verb(args: argparse.Namespace) -> None:
    """Write the experiment.yaml of a command line, and say what comes next."""
    given = {name: vars(args)[name] for name in (*ROLES, "available", "privileged") if vars(args).get(name) is not None}
    config = load_config({"data": args.source, **given, **mappings_of(args)})
    file, guesses = write_experiment(config, args.out, overwrite=args.overwrite)
    print(file)
    for guess in guesses:
        print(f"guess: {guess}")
    place = shlex.quote(str(file))
    print(f"Edit it, then: sidelight run {place} --dry-run, and without --dry-run to train.")


def write_experiment(
    config: Config, out: str | Path | None = None, *, overwrite: bool = False
) -> tuple[Path, list[str]]:
    """Load the data set of a config and write a commented experiment.yaml for it.

    Args:
        config: settings with `data`, and those of its roles that are known.
        out: the file to write, or its folder; None: `experiment.yaml` in the folder of the data, or in the working
            directory for a built-in data set.
        overwrite: whether an existing file is replaced.

    Returns:
        The file, and what was guessed, in words.

    Raises:
        ConfigError: the file exists, or is not a YAML file.
        DataError: the data cannot be read; a folder of recordings is told to go through `sidelight windows` first.
    """
    file = _output(config.data, out)
    if file.exists() and not overwrite:
        raise ConfigError(f"{file} exists; name another file, or replace it with --overwrite")
    _refuse_recordings(config.data)
    guessed = "" if config.group or config.data in DATASETS else _guess_group(config.data)
    dataset = load_for(replace(config, group=config.group or guessed))
    text, guesses = draft_experiment(config, dataset, file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text)
    return file, guesses


def _output(source: str, out: str | Path | None) -> Path:
    path = Path(source)
    if out is None:
        folder = Path() if source in DATASETS else path if path.is_dir() else path.parent
        return folder / NAME
    file = Path(out)
    if file.suffix.lower() in (".yaml", ".yml"):
        return file
    if file.suffix and not file.is_dir():
        raise ConfigError(f"{file}: an experiment is a .yaml file, not {file.suffix}; or name a folder")
    return file / NAME


def _refuse_recordings(source: str) -> None:
    """Raise DataError for a folder without a table of rows, and say how recordings become rows."""
    folder = Path(source)
    if not folder.is_dir() or any((folder / name).exists() for name in MANIFESTS):
        return
    tables = sorted(p.name for p in folder.iterdir() if p.name.endswith(SUFFIXES))
    one = f", or name its table: sidelight init {shlex.quote(str(folder / tables[0]))}" if len(tables) == 1 else ""
    place = shlex.quote(source)
    raise DataError(
        f"{source} has no table of rows (expected {', '.join(MANIFESTS)}). If it holds recordings of sessions, cut "
        f"them into rows first: sidelight windows {place} > recordings.yaml prints a first plan{one}"
    )


def _guess_group(source: str) -> str:
    """A column that looks like a group by its name, where no column has a name that loaders take for one."""
    names = names_in(source)
    if open_prepared(source) or {*names} & {*DEFAULT_NAMES["group"]}:
        return ""
    plain = {re.sub(r"(_?(id|nr|no|name))$", "", name.lower()): name for name in reversed(names)}
    return next((plain[usual] for usual in USUAL_GROUPS if usual in plain), "")


def draft_experiment(config: Config, dataset: Dataset, folder: Path) -> tuple[str, list[str]]:
    """Write the text of a first experiment.yaml.

    Args:
        config: the settings that the data set was loaded with.
        dataset: the data set.
        folder: where the file will lie; its path to the data is relative to it.

    Returns:
        The text, and what was guessed, in words.
    """
    guesses: list[str] = []
    available, privileged = _split_modalities(config, dataset, guesses)
    lines = [
        f"# A first experiment for {dataset.name}, made by `sidelight init`. Lines marked {GUESS} are guesses from the",
        "# data: check them. Every setting: sidelight run --help; every method: sidelight methods.",
        "",
        f"data: {_quote(_data_path(config.data, folder))}{_remark(_rows(dataset))}",
        "",
        *_columns(config),
        "# Modalities in the data:",
        *(f"#   {m}: {_describe(dataset, m)}" for m in dataset.inputs),
        _line("available", available, "sensors that the deployed student reads", "available" in guesses),
        _line("privileged", privileged, "sensors that only the training has", "available" in guesses),
        "",
        *_roles(config, dataset, guesses),
        "",
        *_protocol(config, dataset, guesses),
        "",
        _line("methods", Config().methods, "compared with a baseline without a teacher; `sidelight methods` lists all"),
        _line("placebo", ["best"], "the best method once more with permuted privileged rows"),
        "",
        "training:",
        f"  epochs: {Config().training.epochs}{_remark(EPOCHS)}",
    ]
    return "\n".join(lines) + "\n", [_in_words(guess, available, privileged, config, dataset) for guess in guesses]


def _split_modalities(config: Config, dataset: Dataset, guesses: list[str]) -> tuple[list[str], list[str]]:
    """Available and privileged modalities: those given, those of the data set, or the cheapest one as a guess."""
    known = dataset.default_modalities
    if config.available or config.privileged or known.get("available"):
        available = list(config.available or known.get("available", []))
        rest = [m for m in dataset.inputs if m not in available]
        privileged = list(config.privileged or known.get("privileged", []) or rest)
        available = available or [m for m in dataset.inputs if m not in privileged]
        dataset.resolve(available, privileged)
        return available, privileged
    if len(dataset.inputs) < 2:
        raise DataError(
            f"{dataset.name} has one modality, {next(iter(dataset.inputs))!r}, and a study needs two: one that the "
            "student reads and one that only the teacher has. Columns are grouped by the name before the first dot "
            "(eda.0, eda.1, video.mean)"
        )
    guesses.append("available")
    whole = [m for m in dataset.inputs if dataset.present[m].all()] or list(dataset.inputs)
    return [whole[0]], [m for m in dataset.inputs if m != whole[0]]


def _columns(config: Config) -> list[str]:
    """The section `modalities`, where the user named columns."""
    if not config.modalities:
        return []
    lines = [
        f"  {m}: null" if columns is None else _line(f"  {m}", columns) for m, columns in config.modalities.items()
    ]
    return ["modalities:   # a prefix of columns, or a list of them", *lines, ""]


def _roles(config: Config, dataset: Dataset, guesses: list[str]) -> list[str]:
    """The lines of the target, the group and the task; a column that the user did not name is a guess."""
    lines = []
    # A built-in set and a prepared folder name their own target and group.
    named = config.data in DATASETS or bool(open_prepared(config.data))
    target, group = dataset.about.get("target", ""), dataset.about.get("group", "")
    if named:
        lines.append(f"# target: {target}; group: {group or 'none'} (named by the data set)")
    else:
        names = config.target or target.split(", ")
        if not config.target:
            guesses.append("target")
        lines.append(_line("target", names, "what is predicted", not config.target))
        if group:
            if not config.group:
                guesses.append("group")
            about = "rows of one group (person, session) never lie on both sides of a fold"
            lines.append(_line("group", group, about, not config.group))
        elif dataset.split is None:
            lines.append("# group: subject     # no column of groups was found: name the one that says whose row it is")
        if config.split:
            lines.append(_line("split", config.split, "the official split"))
        if config.time:
            lines.append(_line("time", config.time, "the time of each row"))
    task = resolve_task(config, dataset)
    if not named and config.task == "auto":
        guesses.append("task")
    what = (
        f"{len(dataset.class_names)} classes: {', '.join(dataset.class_names[:8])}"
        if task.kind == "classification"
        else f"values of {', '.join(dataset.class_names[:8])}"
    )
    lines.append(_line("task", task.name, what, not named and config.task == "auto"))
    if dataset.impute == "no" and any(not here.all() for here in dataset.present.values()):
        lines.append("# impute: mean   # some rows lack a modality: an available one then needs this, or student.drop")
    elif config.impute != "no":
        lines.append(_line("impute", config.impute, "gaps are filled with the train rows' mean"))
    if config.on_error != "raise":
        lines.append(_line("on_error", config.on_error, "rows that cannot be read"))
    return lines


def _protocol(config: Config, dataset: Dataset, guesses: list[str]) -> list[str]:
    """The lines of the protocol. Rows without group, split or time need a decision, which is left to the user."""
    guesses.append("protocol")
    try:
        protocol = resolve_protocol(dataset, "auto")
    except ConfigError:
        return [
            "protocol: random",
            f"# {GUESS}: nothing says which rows belong together. If some are of one person or one recording, random",
            "# folds flatter every score: give `group` or `time` above, and delete `protocol`.",
            *_folds(dataset, "random"),
        ]
    return [_line("protocol", protocol, PROTOCOL_ABOUT[protocol], True), *_folds(dataset, protocol)]


PROTOCOL_ABOUT = {
    "official": "the data name their own train and test rows",
    "group-kfold": "every group is tested once by networks that never saw it",
    "blocks": "contiguous blocks of time are tested once each; set gap where neighbours resemble each other",
}


def _folds(dataset: Dataset, protocol: str) -> list[str]:
    groups = None if dataset.group is None else len(np.unique(dataset.group[dataset.labelled]))
    folds = 5 if groups is None else max(2, min(5, groups // 2))
    lines = []
    if protocol not in ("official", "leave-one-group-out"):
        lines.append(_line("folds", folds, "" if groups is None else f"over {groups} labelled groups", folds != 5))
    lines.append(_line("seeds", 3, "each fold is trained this many times"))
    shares = list(dataset.default_modalities.get("label_fraction", [1.0]))
    lines.append(_line("label_fraction", shares, "0.2 asks: what if only 20 % of the training groups had labels?"))
    return lines


def _line(name: str, value: Any, about: str = "", guess: bool = False) -> str:
    """`name: value` with what it means behind it; a guess says so."""
    shown = f"[{', '.join(map(_quote, value))}]" if isinstance(value, Sequence) and not isinstance(value, str) else None
    text = f"{name}: {_quote(value) if shown is None else shown}"
    return text + _remark(f"{GUESS}: {about}" if guess else about)


def _remark(about: str) -> str:
    return f"   # {about}" if about else ""


def _quote(value: Any) -> str:
    """A value as YAML: texts that are not plain words in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value and all(c.isalnum() or c in "_-./" for c in value) and value[0].isalpha()
    reserved = value.lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    return value if plain and not reserved else json.dumps(value, ensure_ascii=False)


def _data_path(source: str, folder: Path) -> str:
    """The path to the data from the file's folder; a built-in name stays."""
    if source in DATASETS:
        return source
    try:
        return Path(os.path.relpath(source, folder)).as_posix()
    except ValueError:  # another drive
        return Path(source).resolve().as_posix()


def _rows(dataset: Dataset) -> str:
    labelled = int(dataset.labelled.sum())
    return f"{len(dataset)} rows, {labelled} with a label"


def _describe(dataset: Dataset, m: str) -> str:
    shape = dataset.inputs[m].shape[1:]
    kinds = {1: "vector of {} values", 2: "signal of {} steps x {} channels"}
    parts = [kinds[len(shape)].format(*shape) if len(shape) in kinds else f"array {' x '.join(map(str, shape))}"]
    if m in dataset.units:
        parts.append(dataset.units[m])
    if m in dataset.rates:
        parts.append(f"{dataset.rates[m]:g} Hz")
    lacking = int((~dataset.present[m]).sum())
    if lacking:
        parts.append(f"missing in {lacking} rows")
    return ", ".join(parts)


def _in_words(guess: str, available: list[str], privileged: list[str], config: Config, dataset: Dataset) -> str:
    """A guess as one line for the terminal."""
    about = dataset.about
    return {
        "available": f"the student reads {available[0]}, and {', '.join(privileged)} are privileged; swap them as the "
        "deployment has it (--available, --privileged)",
        "target": f"the target is {about.get('target', '')}, by its name (--target)",
        "group": f"rows are grouped by {about.get('group', '')}, by its name (--group)",
        "task": f"the task is {dataset.task}, by the values of the target (--task)",
        "protocol": "the protocol follows from the group, split or time of the rows",
    }[guess]
