"""The command line: verbs, flags (one per setting) and their help. Imports nothing heavy."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from sidelight import cli_verbs
from sidelight.config import Config
from sidelight.config.io import Setting, settings
from sidelight.config.renamed import RENAMED
from sidelight.errors import ConfigError, shown, unknown
from sidelight.synonyms import find_advice
from sidelight.utils.keywords import warn_renamed
from sidelight.utils.names import split_columns

OVERRIDDEN = ("run", "suite", "sweep", "prepare", "windows", "describe")
"""Verbs that take words KEY=VALUE."""
MODALITY, TABLE = "--modality", "--table"
OVERRIDE = re.compile(r"(?!-)[\w.-]*=")
"""What a dotted override looks like: key=value, without a dash."""

ABOUT = "Train with every sensor. Deploy with the ones you keep."
IMPORT = (
    "run your own Python first: a file or dotted module that registers methods (METHODS[...] = ...), encoders "
    "(ENCODERS = {modality: function}), data sets or readers; may be given several times"
)
EXAMPLES = {
    "": """
  sidelight run phone-watch                     the built-in study: labels from 20 % of the people
  sidelight inspect data/manifest.csv           what my data contain, and how well each modality predicts alone
  sidelight run data/manifest.csv --available video --privileged eda ecg --target pain --group subject
  sidelight methods                             the distillation methods

`sidelight VERB --help` describes each verb.""",
    "run": """
  sidelight run phone-watch
  sidelight run phone-watch --label-fraction 0.2 --methods kl pkdot --folds 5 --seeds 3 --dry-run
  sidelight run data/manifest.csv --available video --privileged eda ecg --target pain --group subject
  sidelight run experiment.yaml transport.epsilon=0.05 training.epochs=100 options.kl.temperature=2
  sidelight run data/hours.csv --available cheap --privileged reference --target co --protocol blocks --gap 24
  sidelight run experiment.yaml --seeds 1 --profile      also say where the time went
  sidelight run experiment.yaml --resume        continue an interrupted run
  sidelight run experiment.yaml --resume --scheduler tcp://node7:8786 --time-limit 3:30:00
  sidelight run phone-watch --methods huber --import my_method.py

An experiment.yaml holds the same settings, nested at the dots; `--dry-run` prints one to start from.
The settings of a method, options.NAME.SETTING, are listed by `sidelight methods NAME`.""",
    "suite": """
  sidelight suite suite.yaml
  sidelight suite suite.yaml --dry-run           read every data set, say what would be trained
  sidelight suite suite.yaml --resume            continue an interrupted suite, or add a data set to it
  sidelight suite suite.yaml --output runs/try seeds=1 training.epochs=10
  sidelight report runs/suite                    the report across the sets anew; of one set: runs/suite/NAME

A suite.yaml holds the settings that all sets share, as an experiment.yaml does, and under `sets` those of each set:
  methods: [kl, pkdot]
  seeds: 3
  sets:
    phone-watch: {}
    pain: {data: pain/manifest.csv, available: [video], privileged: [eda, ecg], target: [pain], group: subject}""",
    "sweep": """
  sidelight sweep phone-watch --methods pkdot training.learning_rate=1e-4..1e-2:log transport.k=10,30,60 --trials 20
  sidelight sweep phone-watch --methods kl options.kl.weight=0.5,1,4 options.kl.temperature=1..8:4      a grid: 3 x 4
  sidelight sweep experiment.yaml training.batch_size=32,64,128 --dry-run       how many networks would be trained
  sidelight sweep phone-watch --methods kl options.kl.weight=0.1..10:log --sampler tpe --trials 30
  sidelight sweep examples/paper/pkdot_biovid_b.yaml pkdot-fig6      a ready sweep of a paper, for any experiment
  sidelight sweep experiment.yaml ... --resume  the same command continues an interrupted sweep

Ranges: values (10,30,60), an interval (10..60), on a logarithmic scale (1e-4..1e-2:log), evenly spaced points of it
(1e-4..1e-2:log:5). An experiment.yaml may hold them in a section `sweep`. With values alone every combination is
drawn; with an interval, or with --trials, settings are drawn at random.
Ready sweeps: pkdot-fig6 (batch size x anchors), pkdot-fig7 (epsilon), amid-table6 (loss weights), osmd-ablations.
In every fold, each method, placebo and the baseline has equally many draws, chooses one on the fold's select rows, and
is tested with it alone (docs/sweeps.md).""",
    "inspect": """
  sidelight inspect phone-watch
  sidelight inspect data/manifest.csv --target pain --group subject
  sidelight inspect data/openface.csv --modality face=AU_ eda=gsr,scl
  sidelight inspect prepared/mine --html mine.html        with pictures, as one file that can be mailed
  sidelight inspect data/hours.csv --target co --time timestamp""",
    "advise": """
  sidelight advise phone-watch
  sidelight advise data/manifest.csv --available video --privileged eda ecg --target pain --group subject
  sidelight advise synthetic-few-labels --label-fraction 0.25 --json""",
    "report": """
  sidelight report runs/phone-watch             also while the run is going on
  sidelight report runs/phone-watch --output report.html
  sidelight report runs/phone-watch --parquet results.parquet""",
    "status": """
  sidelight status runs/phone-watch             also while the run is going on
  sidelight status runs/phone-watch --state failed
  sidelight status runs/phone-watch --json""",
    "predict": """
  sidelight predict runs/phone-watch/student new_rows.csv
  sidelight predict student.safetensors new_rows.csv --output predictions.csv
  sidelight predict runs/study new/*.wav        recordings, read as in training""",
    "export": """
  sidelight export runs/phone-watch --onnx
  sidelight export runs/phone-watch --hub phone-activity                 (a folder with a model card)
  sidelight export student.safetensors --onnx --output student.onnx      (needs the extra: pip install ".[export]")""",
    "prepare": """
  sidelight prepare                             list the readers, one per public data set
  sidelight prepare biovid                      how to get the data, and the reader's options
  sidelight prepare biovid /data/biovid --check list what is missing, without any work
  sidelight prepare biovid /data/biovid prepared/biovid part=A classes=all
  sidelight prepare biovid --synthetic          biovid-synthetic/: a tiny data set of noise, for trying things out""",
    "windows": """
  sidelight windows data/                       print a first recordings.yaml: what the files of a session hold
  sidelight windows data/recordings.yaml prepared/mine
  sidelight windows data/recordings.yaml prepared/mine seconds=10 hop=5 --overwrite
  sidelight run prepared/mine --available face --privileged eda ecg""",
    "extract": """
  sidelight extract prepared/ucf features/ucf --encoder rgb=r3d18 --weights rgb=r3d18.safetensors
  sidelight run features/ucf --available rgb --privileged audio""",
    "refit": """
  sidelight refit runs/phone-watch              the best method again, on the rows of all folds
  sidelight predict runs/phone-watch/refit new_rows.csv""",
    "methods": "\n  sidelight methods\n  sidelight methods kl pkdot",
    "datasets": "\n  sidelight datasets",
    "doctor": "\n  sidelight doctor",
    **cli_verbs.EXAMPLES,
}


DEVICE = "cpu, cuda, cuda:1 or mps (default: auto, a GPU if there is one)"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `ConfigError`s."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message[0].lower()}{message[1:]}. See `{self.prog} --help`.")


def flag(name: str) -> str:
    """label_fraction -> --label-fraction"""
    return "--" + name.replace("_", "-")


def current_flag(text: str) -> str:
    """--label-groups=0.2 -> --label-fraction=0.2, with a warning; other texts stay."""
    name = text.partition("=")[0]
    for old, new in RENAMED.items():
        if name == flag(old):
            warn_renamed("flag", flag(old), flag(new))
            return flag(new) + text.removeprefix(name)
    return text


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """A flag for each setting; nested ones in a group of their own. Values stay text: the schema reads them."""
    sections: dict[str, Any] = {"": parser.add_argument_group("settings of the experiment")}
    if names is None or "modalities" in names:
        add_table(sections[""])
        sections[""].add_argument(
            MODALITY,
            nargs="+",
            action="extend",
            metavar="NAME=COLUMNS",
            help="columns of a modality: a prefix (face=AU_) or columns (eda=gsr,scl), or channels of another one "
            "(nir=image[3]); a name alone is one that is found by itself. Only these are read; all that are "
            "found if none is named.",
        )
    for name, setting in settings(Config).items():
        if name == "data" or setting.is_mapping or (names is not None and name not in names):
            continue
        section = name.rpartition(".")[0]
        if section not in sections:
            title = f"settings of the {section} (also without dashes: {name}=VALUE)"
            sections[section] = parser.add_argument_group(title)
        sections[section].add_argument(flag(name), **_argument(setting))


def add_table(parser: Any) -> None:
    """The flag that says how a text table is written."""
    parser.add_argument(
        TABLE,
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="how a text manifest is written, where the file does not show it: separator=semicolon (comma, tab, pipe, "
        "blanks), decimal=comma (point), encoding=latin-1, header=3 (the line of the names; 0: none)",
    )


def mappings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Settings by dotted name: --modality face=AU_ eda=gsr,scl video gives modalities.face, ….eda and ….video."""
    found: dict[str, Any] = {}
    for word in vars(args).get("modality") or []:
        m, equals, columns = word.partition("=")
        if not m or "." in m or (equals and not columns.strip(", ")):
            raise ConfigError(
                f"--modality {shown(word)}: expected NAME=PREFIX (face=AU_), NAME=COLUMN,COLUMN (eda=gsr,scl), "
                "NAME=CHANNELS (nir=image[3]), or the NAME of one that is found by itself."
            )
        # Quoted or as a list, since YAML would read the column 1 as a number.
        several = split_columns(columns)
        value = several if isinstance(several, list) else json.dumps(several)
        found[f"modalities.{m}"] = value if equals else None
    return found | {f"table.{name}": json.dumps(value) for name, value in table_of(args).items()}


def table_of(args: argparse.Namespace) -> dict[str, str]:
    """["decimal=comma"] of --table -> {"decimal": "comma"}."""
    words = vars(args).get("table") or []
    for word in words:
        if "=" not in word or word.startswith("="):
            raise ConfigError(f"--table {shown(word)}: expected e.g. separator=semicolon, decimal=comma or header=0.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def add_where(parser: argparse.ArgumentParser) -> None:
    """The flags that say where a study runs, and how long."""
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="train on the workers of a Dask scheduler: tcp://host:8786, or local:3 for three on this machine "
        "(docs/scale.md)",
    )
    parser.add_argument(
        "--time-limit",
        metavar="[D-]H:MM:SS",
        help="save and stop in time; exit code 75 says that the same command with --resume goes on",
    )


def _argument(setting: Setting) -> dict[str, Any]:
    default = setting.default
    shown = " ".join(map(str, default)) if isinstance(default, list) else "null" if default is None else str(default)
    about = f"{setting.help} Default: {shown or 'empty'}.".replace("%", "%%")
    word = setting.name.rpartition(".")[2].upper()
    many: dict[str, Any] = {"nargs": "*"} if setting.is_list else {}
    return {"dest": setting.name, "metavar": word, "help": about, "default": None, **many}


def add_how(parser: argparse.ArgumentParser) -> None:
    """The flags that say where jobs run, for how long, and which."""
    add_where(parser)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="JOB", help="run these jobs alone, as `sidelight status` names them"
    )


def build_parser() -> Parser:
    """The whole command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog="sidelight",
        description=ABOUT,
        formatter_class=layout,
        epilog="examples:" + EXAMPLES[""],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    def verb(name: str, about: str, usage: str = "", own: bool = True) -> argparse.ArgumentParser:
        epilog = "examples:" + EXAMPLES[name]
        made = verbs.add_parser(
            name,
            help=about,
            description=about,
            usage=usage or None,
            epilog=epilog,
            formatter_class=layout,
            allow_abbrev=False,
        )
        made.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        if own:
            made.add_argument("--import", action="append", default=[], dest="imports", metavar="FILE", help=IMPORT)
        return made

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

    look = verb(
        "inspect",
        "show what a data set contains, and how well each modality predicts alone",
        "sidelight inspect SOURCE [--target COLUMN ...] [--group COLUMN] [--split COLUMN] [--time COLUMN] "
        "[--task TASK] [--impute HOW] [--modality NAME=COLUMNS ...] [--html FILE]",
    )
    look.add_argument("source", nargs="?", metavar="SOURCE", help="a data set: built-in name, .npz, manifest or folder")
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
    told.add_argument("source", nargs="?", metavar="SOURCE", help="a data set: built-in name, .npz, manifest or folder")
    told.add_argument("--json", action="store_true", help="print JSON")
    asked = ("available", "privileged", "target", "group", "split", "time", "task", "label_fraction", "seed")
    add_settings(told, (*asked, "impute", "on_error", "modalities"))

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

    refit = verb("refit", "train a run's best method again on all rows, for deployment")
    refit.add_argument("run", metavar="RUN", help="run folder")
    refit.add_argument("--device", default="", help="cpu, cuda, cuda:1 or mps (default: training.device of the run)")

    methods = verb(
        "methods",
        "list the methods: paper, stages, tasks, and what a step costs; of named ones also formula and every setting",
    )
    methods.add_argument("names", nargs="*", metavar="NAME", help="these in full")
    methods.add_argument("--markdown", action="store_true", help="the tables of docs/methods.md")
    verb("datasets", "list the built-in data sets, with licence and citation")
    verb("doctor", "check this machine: packages, devices, disk", own=False)
    cli_verbs.add_verbs(verb, add_settings)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace; unknown verbs and flags are named with the nearest valid one."""
    argv = [current_flag(text) for text in argv]
    parser = build_parser()
    verbs = next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    if argv and not argv[0].startswith("-") and argv[0] not in verbs:
        raise ConfigError(unknown("verb", argv[0], verbs))
    chosen = verbs[argv[0]] if argv and argv[0] in verbs else parser
    actions = chosen._option_string_actions
    overrides, rest = [], []
    flag_before = ""
    for before, text in zip(["", *argv], argv):
        flag_before = text.partition("=")[0] if text.startswith("-") else flag_before
        taken = before in actions and actions[before].nargs is None  # the value of a flag
        # face=AU_ after --modality is no setting, but training.epochs=2 behind it is one.
        taken = taken or (flag_before in (MODALITY, TABLE) and text.partition("=")[0] not in settings(Config))
        if (
            argv[0] in ("run", "suite", "sweep", "prepare", "windows", "describe")
            and OVERRIDE.match(text)
            and not taken
        ):
            overrides.append(text)
        else:
            rest.append(text)
    for text in rest:
        name = text.partition("=")[0]
        if re.match(r"--?[A-Za-z]", name) and name not in actions:
            if advice := find_advice(name):
                raise ConfigError(f"unknown flag {name}: {advice}.")
            raise ConfigError(unknown("flag", name, [known for known in actions if known.startswith("--")]))
    args = parser.parse_args(rest)
    args.overrides = [*getattr(args, "overrides", []), *overrides]
    return args
