"""The verbs of the command line and their arguments. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from sidelight.cli_flags import DEVICE, add_how, add_settings, add_table, add_where

Verb = Callable[..., argparse.ArgumentParser]
"""Makes the parser of a verb from its name, what it does, and its usage."""


def add_run(verb: Verb) -> None:
    """`run`: one study."""
    run = verb(
        "run",
        "train teacher, baseline and students on every fold and seed, and report whether distillation helped",
        "sidelight run SOURCE [--resume] [--scheduler ADDRESS] [--time-limit TIME] [--profile] [--dry-run] [--quiet] "
        "[--SETTING VALUE ...] [KEY=VALUE ...]",
    )
    run.add_argument("source", nargs="?", metavar="SOURCE", help="a data set (name or path) or an experiment.yaml")
    run.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings by dotted name: transport.epsilon=0.05"
    )
    run.add_argument("--resume", action="store_true", help="go on with the run that the output folder holds")
    add_how(run)
    run.add_argument(
        "--profile",
        action="store_true",
        help="say where the time went, in this process alone (jobs=1), and write trace.json",
    )
    run.add_argument("--dry-run", action="store_true", help="print the settings and the plan, train nothing")
    run.add_argument("--quiet", action="store_true", help="no progress; print only the answer")
    add_settings(run)


def add_suite(verb: Verb) -> None:
    """`suite`: several data sets."""
    several = verb(
        "suite",
        "run one comparison on several data sets, and report what to expect on a next one",
        "sidelight suite FILE [--resume] [--scheduler ADDRESS] [--time-limit TIME] [--dry-run] [--quiet] "
        "[--output FOLDER] [--jobs N] [--seeds N] [KEY=VALUE ...]",
    )
    several.add_argument("source", nargs="?", metavar="FILE", help="a suite.yaml")
    several.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of every set by dotted name")
    several.add_argument("--resume", action="store_true", help="go on with the suite that the output folder holds")
    add_where(several)
    several.add_argument("--dry-run", action="store_true", help="read every data set, print the plan, train nothing")
    several.add_argument("--quiet", action="store_true", help="no progress; print only the answers")
    several.add_argument(
        "--output", metavar="FOLDER", help="the suite's folder (default: its setting, else runs/<name of the file>)"
    )
    add_settings(several, ("jobs", "seeds"))


def add_sweep(verb: Verb) -> None:
    """`sweep`: draws of settings."""
    sweep = verb(
        "sweep",
        "compare methods, each with the best of several draws of settings: grid, random or TPE",
        "sidelight sweep SOURCE [READY] [SETTING=RANGE ...] [--trials N] [--sampler NAME] [--resume] "
        "[--scheduler ADDRESS] [--time-limit TIME] [--dry-run] [--quiet] [--SETTING VALUE ...] [KEY=VALUE ...]",
    )
    sweep.add_argument("source", nargs="?", metavar="SOURCE", help="a data set (name or path) or an experiment.yaml")
    sweep.add_argument("ready", nargs="*", metavar="READY", help="a ready sweep (below)")
    sweep.add_argument(
        "overrides", nargs="*", metavar="SETTING=RANGE", help="ranges, and settings with one value: training.epochs=30"
    )
    sweep.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="draws of each method and of the baseline, for random and tpe (default: 20)",
    )
    sweep.add_argument(
        "--sampler",
        default="",
        metavar="NAME",
        help="grid, one-at-a-time, random or tpe (default: grid if every range is a list and there is no --trials, "
        'else random; the last two need the extra: pip install ".[search]")',
    )
    sweep.add_argument("--resume", action="store_true", help="go on with the sweep that the output folder holds")
    add_how(sweep)
    sweep.add_argument(
        "--dry-run", action="store_true", help="print the settings, the plan and the draws, train nothing"
    )
    sweep.add_argument("--quiet", action="store_true", help="no progress; print only the answer")
    add_settings(sweep)


def add_stored(verb: Verb) -> None:
    """Verbs of a stored run."""
    report = verb("report", "write the report of a run or a suite, finished or not")
    report.add_argument("run", metavar="RUN", help="run folder, or the folder of a suite")
    report.add_argument(
        "--between",
        nargs=2,
        metavar=("A", "B"),
        help="also print the paired difference of two rows of the table",
    )
    report.add_argument("--parquet", metavar="FILE", help="also write every job with its scores to one Parquet file")
    report.add_argument(
        "--output", metavar="FILE", help="HTML file (default: report.html, or suite.html, in the folder)"
    )

    status = verb(
        "status", "say how far a run is: finished, failed and waiting jobs, the time left, how to repeat what failed"
    )
    status.add_argument("run", metavar="RUN", help="run folder, also while the run is going on")
    status.add_argument("--state", choices=("finished", "failed", "skipped", "waiting"), help="list these jobs alone")
    status.add_argument("--json", action="store_true", help="print JSON")

    refit = verb("refit", "train a run's best method again on all rows, for deployment")
    refit.add_argument("run", metavar="RUN", help="run folder")
    refit.add_argument("--device", default="", help="cpu, cuda, cuda:1 or mps (default: training.device of the run)")


def add_data(verb: Verb) -> None:
    """Verbs that look at data."""
    look = verb(
        "inspect",
        "show what a data set contains, and how well each modality predicts alone",
        "sidelight inspect SOURCE [--target COLUMN ...] [--group COLUMN] [--split COLUMN] [--time COLUMN] "
        "[--task TASK] [--impute HOW] [--modality NAME=COLUMNS ...] [--html FILE]",
    )
    look.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a data set: built-in name, .npz, manifest or folder; or an experiment.yaml",
    )
    look.add_argument(
        "--html", metavar="FILE", help="also write a page with pictures: coverage, lengths, classes, a row"
    )
    add_settings(look, ("target", "group", "split", "time", "task", "impute", "on_error", "modalities"))

    told = verb(
        "advise",
        "say whether a teacher is worth it, what to expect and what to try first, before any network is trained",
        "sidelight advise SOURCE [--available MODALITY ...] [--privileged MODALITY ...] [--target COLUMN ...] "
        "[--group COLUMN] [--label-fraction SHARE] [--json]",
    )
    told.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a data set: built-in name, .npz, manifest or folder; or an experiment.yaml",
    )
    told.add_argument("--json", action="store_true", help="print JSON")
    asked = ("available", "privileged", "target", "group", "split", "time", "task", "label_fraction", "seed")
    add_settings(told, (*asked, "impute", "on_error", "modalities"))


def add_made(verb: Verb) -> None:
    """Verbs that make data."""
    prepare = verb(
        "prepare",
        "convert a public data set, as distributed, to a folder that every verb reads",
        "sidelight prepare [NAME [SOURCE [OUT]]] [KEY=VALUE ...] [--check] [--on-error HOW] [--synthetic [FOLDER]]",
    )
    prepare.add_argument("name", nargs="?", metavar="NAME", help="a reader (default: list them)")
    prepare.add_argument("source", nargs="?", metavar="SOURCE", help="the unpacked data set")
    prepare.add_argument("out", nargs="?", metavar="OUT", help="folder to write; recordings stay in the source folder")
    prepare.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="options of the reader: part=A")
    prepare.add_argument("--check", action="store_true", help="list what is missing in the source, write nothing")
    prepare.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="skip: leave bad rows out and list them"
    )
    prepare.add_argument("--overwrite", action="store_true", help="replace an existing prepared folder")
    prepare.add_argument(
        "--synthetic",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="write a tiny synthetic copy of the official layout (without a folder: NAME-synthetic)",
    )

    windows = verb(
        "windows",
        "cut recordings of many sensors and sessions, with their labels, into rows on one clock",
        "sidelight windows SOURCE [OUT] [KEY=VALUE ...] [--overwrite] [--quiet]",
    )
    windows.add_argument(
        "source", metavar="SOURCE", help="recordings.yaml; or, to see a first one, a folder of sessions or a recording"
    )
    windows.add_argument("out", nargs="?", metavar="OUT", help="folder to write, which every verb reads")
    windows.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings: seconds=30, labels.threshold=0.8")
    windows.add_argument("--overwrite", action="store_true", help="replace an existing prepared folder")
    windows.add_argument("--quiet", action="store_true", help="no progress")

    extract = verb(
        "extract",
        "run frozen encoders once over all rows and store their features, so that training decodes nothing",
        "sidelight extract SOURCE OUT --encoder MODALITY=NAME ... --weights MODALITY=FILE ... [--SETTING VALUE ...]",
    )
    extract.add_argument("source", nargs="?", metavar="SOURCE", help="a data set: prepared folder, manifest, …")
    extract.add_argument(
        "out", nargs="?", metavar="OUT", help="folder to write; an interrupted extraction is continued"
    )
    extract.add_argument(
        "--encoder",
        nargs="+",
        default=[],
        metavar="MODALITY=NAME",
        help="public network for a modality, e.g. rgb=r3d18",
    )
    extract.add_argument(
        "--weights", nargs="+", default=[], metavar="MODALITY=FILE", help="local weight file of a modality's encoder"
    )
    extract.add_argument("--tokens", type=int, default=1, help="number of features of a row over time (default: 1)")
    extract.add_argument("--sum-channels", action="store_true", help="sum a file's first convolution over its channels")
    extract.add_argument("--device", default="auto", help=DEVICE)
    add_settings(extract, ("target", "group", "split", "time", "task", "impute", "on_error", "modalities"))


def add_students(verb: Verb) -> None:
    """Verbs of a student."""
    predict = verb("predict", "apply a student to new rows")
    predict.add_argument("student", metavar="STUDENT", help="student.safetensors, its folder, or a run folder")
    predict.add_argument(
        "rows",
        nargs="+",
        metavar="ROWS",
        help="manifest, folder or .npz with the available modalities; or recordings as in training: new/*.wav",
    )
    predict.add_argument(
        "--output", metavar="FILE", help=".csv, .tsv or .parquet; .npz for class maps (default: CSV on the terminal)"
    )
    predict.add_argument(
        "--group", metavar="COLUMN", help="column with each row's group, for a student that standardises by group"
    )
    predict.add_argument("--ids", metavar="COLUMN", help="column with the names of the rows")
    predict.add_argument(
        "--ignore-privileged",
        action="store_true",
        help="leave columns of privileged modalities unread instead of refusing the file",
    )
    predict.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="skip: leave out rows that cannot be read (default: raise)",
    )
    predict.add_argument(
        "--escape", action="store_true", help="for spreadsheets: write no id or class as a formula (=, +, -, @)"
    )
    add_table(predict)

    predict.add_argument("--device", default="auto", help=DEVICE)

    export = verb("export", "write a model file for other runtimes, compared with torch to 1e-4")
    export.add_argument("student", metavar="RUN_OR_STUDENT", help="run folder, or student.safetensors")
    export.add_argument("--onnx", action="store_true", help="write ONNX")
    export.add_argument(
        "--hub", metavar="FOLDER", help="write model.safetensors, config.json and a model card, as model hubs take them"
    )
    export.add_argument(
        "--output", metavar="FILE", help=".onnx, .pt2, .pte or .safetensors (default: student.onnx beside the student)"
    )
    export.add_argument(
        "--group", metavar="NAME", help="the group that the file is for, if the student standardises by group"
    )
    export.add_argument(
        "--max-batch",
        type=int,
        metavar="N",
        help="largest number of rows of a call, for .pt2 and .pte files (ExecuTorch needs it)",
    )


def add_others(verb: Verb) -> None:
    """Verbs that look at what is there: a student, two runs, a folder, sidelight itself."""
    methods = verb(
        "methods",
        "list the methods: paper, stages, tasks, and what a step costs; of named ones also formula and every setting",
    )
    methods.add_argument("names", nargs="*", metavar="NAME", help="these in full")
    methods.add_argument("--markdown", action="store_true", help="the tables of docs/methods.md")
    verb("datasets", "list the built-in data sets, with licence and citation")
    verb("doctor", "check this machine: packages, devices, disk", own=False)

    show = verb("show", "say what a student reads and predicts, how good it was and on what, and how to use it")
    show.add_argument("student", metavar="STUDENT", help="student.safetensors, its folder, or a run or refit folder")
    show.add_argument("--json", action="store_true", help="print JSON")

    init = verb("init", "look at a data set, and write a commented experiment.yaml to start from")
    init.add_argument("source", metavar="SOURCE", help="a data set: built-in name, .npz, manifest or folder")
    init.add_argument(
        "out", nargs="?", metavar="OUT", help="file or folder to write (default: experiment.yaml beside the data)"
    )
    init.add_argument("--overwrite", action="store_true", help="replace an existing file")
    asked = ("available", "privileged", "target", "group", "split", "time", "task", "impute", "on_error", "modalities")
    add_settings(init, asked)

    compare = verb("compare", "compare the rows of two or more runs, paired where they tested the same rows")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="run folders; each is compared with the first")
    compare.add_argument("--json", action="store_true", help="print JSON")

    describe = verb("describe", "look at a folder of recordings, and write the modalities.json that says what they are")
    describe.add_argument("folder", metavar="FOLDER", help="folder with metadata.csv and its columns *_file_name")
    describe.add_argument("overrides", nargs="*", metavar="MODALITY.SETTING=VALUE", help="what is known: eda.rate=4")
    describe.add_argument("--overwrite", action="store_true", help="replace an existing modalities.json")
    add_settings(describe, ("target", "group", "split"))

    completion = verb("completion", "print a script that completes verbs, flags, settings and methods in a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
