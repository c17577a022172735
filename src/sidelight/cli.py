"""The command line: parse, call, print. Each verb imports what it needs, so that others start fast."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sidelight.cli_parser import build_parser, flag, mappings_of, parse, table_of
from sidelight.config import Config, dump_config, load_config, read_experiment
from sidelight.config.io import settings
from sidelight.errors import ConfigError, DiskError, SidelightError, SidelightWarning, UnfinishedError, shown, unknown
from sidelight.imports import import_own
from sidelight.utils.machine import launched
from sidelight.utils.names import check_modality
from sidelight.utils.phases import recording
from sidelight.utils.stopping import UNFINISHED, parse_duration, stops_on_sigterm

if TYPE_CHECKING:
    from sidelight.experiment import Job

OF_DATA = ("target", "available", "privileged")
"""Settings whose names come from the data and may contain commas."""


def run_verb(args: argparse.Namespace) -> int:
    if launched()[1] == 1:
        return _run(args)
    from sidelight.utils.distributed import joined

    with joined():  # before anything that can fail, so that one process alone says why
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    config = experiment_of(args)
    from sidelight import experiment

    if args.dry_run:
        if launched()[0] > 0:
            return 0
        config, jobs = experiment.plan(config, args.own.encoders)
        print(dump_config(config) + "".join(f"# {line}\n" for line in describe_plan(config, jobs).splitlines()), end="")
        return 0
    limit = None if args.time_limit is None else parse_duration(args.time_limit, "--time-limit")
    if args.profile:
        config = _alone(config, args.scheduler)
    profile = recording() if args.profile else nullcontext()
    with stops_on_sigterm(config.checkpoint_seconds, limit), profile as recorder:
        study = experiment.run(
            config,
            resume=args.resume,
            quiet=args.quiet,
            encoders=args.own.encoders,
            imports=args.own.files,
            only=args.only,
            executor=args.scheduler,
            time_limit=limit,
        )
    if launched()[0] == 0:
        study.print()
    if recorder is not None:
        trace = Path(study.folder) / "trace.json"
        recorder.write_trace(trace)
        print(f"\n{recorder.format()}\ntrace, for chrome://tracing or Perfetto: {trace}")
    return 1 if study.failures else 0


def _alone(config: Config, scheduler: str | None) -> Config:
    """The settings of a run that is profiled: this process does everything, because others record nothing."""
    if scheduler is not None or launched()[1] > 1:
        raise ConfigError("--profile measures this process alone; leave out --scheduler, and start without torchrun.")
    if config.jobs > 1:
        raise ConfigError(f"--profile measures this process alone; leave out jobs={config.jobs}, or say jobs=1.")
    return replace(config, jobs=1)


def sweep_verb(args: argparse.Namespace) -> int:
    from sidelight.cli_sweep import SECTION, describe_sweep, read_request

    source_of(args)
    asked = read_request(args)
    args.overrides = asked.overrides
    config = experiment_of(args, asked.settings, (SECTION,))
    from sidelight import experiment
    from sidelight.data.load import load_for
    from sidelight.experiment.inputs import stop_time
    from sidelight.experiment.sweep import build_sweep, run_sweep

    make = partial(build_sweep, space=asked.space, sampler=asked.sampler, trials=asked.trials)
    make(config)  # what is wrong with the ranges is said before the data are read
    if args.dry_run:
        config, jobs = experiment.plan(config, args.own.encoders)
        plan = f"{describe_plan(config, jobs)}\n{describe_sweep(make(config), jobs)}"
        print(dump_config(config) + "".join(f"# {line}\n" for line in plan.splitlines()), end="")
        return 0
    limit = None if args.time_limit is None else parse_duration(args.time_limit, "--time-limit")
    with stops_on_sigterm(config.checkpoint_seconds, limit):
        study = run_sweep(
            config,
            [load_for(config)],
            make,
            resume=args.resume,
            quiet=args.quiet,
            encoders=args.own.encoders,
            imports=args.own.files,
            only=args.only,
            executor=args.scheduler,
            until=stop_time(config, limit),
        )
    study.print()
    return 1 if study.failures else 0


def experiment_of(
    args: argparse.Namespace, before: Mapping[str, Any] | None = None, beside: Sequence[str] = ()
) -> Config:
    """The settings that a command line asks for.

    Args:
        args: the command line.
        before: settings that come before those of flags and overrides, and after those of a file.
        beside: sections of the file that are no settings.
    """
    source, given = source_of(args), {**(before or {}), **flags_of(args)}
    if given.get("placebo") == []:  # a bare --placebo
        given["placebo"] = ["all"]
    if Path(source).suffix.lower() not in (".yaml", ".yml"):
        return load_config({"data": source, **given}, args.overrides)
    if not given and not beside:
        return load_config(source, args.overrides)
    try:
        of_file = read_experiment(Path(source), beside)
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None
    return load_config({**of_file, **given}, args.overrides)


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives as flags; lists that may contain commas are joined to a text."""
    given = {name: vars(args)[name] for name in settings(Config) if vars(args).get(name) is not None}
    commas = [name for name, value in given.items() if isinstance(value, list) and value and name not in OF_DATA]
    return given | {name: ",".join(given[name]) for name in commas} | mappings_of(args)


def source_of(args: argparse.Namespace) -> str:
    """The SOURCE of a command line. A flag with many values before it would take it for a value, which is an error."""
    if args.source is not None:
        return str(args.source)
    for name, value in vars(args).items():
        if isinstance(value, list) and name in settings(Config) and value and looks_like_source(value[-1]):
            raise ConfigError(f"{value[-1]} was read as a value of {flag(name)}; put the data set first.")
    more = " or an experiment.yaml" if args.verb in ("run", "sweep") else ""
    raise ConfigError(f"{args.verb} needs a data set{more}: sidelight {args.verb} phone-watch")


def looks_like_source(word: str) -> bool:
    from sidelight.data import DATASETS
    from sidelight.data.sources.locate import SUFFIXES

    return word in DATASETS or word.lower().endswith((*SUFFIXES, ".yaml", ".yml")) or Path(word).exists()


def describe_plan(config: Config, jobs: Sequence[Job]) -> str:
    """How many networks of which kind would be trained."""
    counts = Counter((job.label_fraction, job.method + (f" ({job.control})" if job.control else "")) for job in jobs)
    folds, seeds = len({job.fold for job in jobs}), len({job.seed for job in jobs})
    lines = [f"plan: {len(jobs)} jobs over {folds} folds x {seeds} seeds"]
    for labels in sorted({labels for labels, _ in counts}):
        kinds = ", ".join(f"{name} {n}" for (share, name), n in counts.items() if share == labels)
        lines.append(f"  labels of {labels:.0%} of the training groups: {kinds}")
    if config.select_labels in ("auto", "inner") and any(job.label_fraction < 1 for job in jobs):
        lines.append("  where labels are few, epochs are chosen in 3 inner folds: 4 trainings in place of one")
    for control, chosen in (("placebo", config.placebo), ("self-distillation", config.self_distillation)):
        if "best" in chosen:
            lines.append(f"  and the {control} of the method that is best on the select rows")
    return "\n".join(lines)


def inspect_verb(args: argparse.Namespace) -> None:
    config = load_config({"data": source_of(args), **flags_of(args)})
    from sidelight.data.load import load_for
    from sidelight.inspection import inspect, write_page

    if args.html and Path(args.html).is_dir():  # said before minutes of work
        raise ConfigError(f"--html {args.html}: a folder; name a file in it: {Path(args.html, 'inspect.html')}")
    dataset = load_for(config)
    found = inspect(dataset, flags=words_of(args))
    print(found.to_text(), end="")
    if args.html is not None:
        print(f"\npage: {write_page(dataset, found, args.html)}")


def words_of(args: argparse.Namespace) -> list[str]:
    """The flags that say how `inspect` reads the data, as words of another command line."""
    words = []
    for name, value in vars(args).items():
        if value and name not in ("verb", "source", "html", "debug", "imports", "own", "overrides"):
            words += [flag(name), *(value if isinstance(value, list) else [str(value)])]
    return words


def advise_verb(args: argparse.Namespace) -> None:
    config = load_config({"data": source_of(args), **flags_of(args)})
    from sidelight.advice import advise
    from sidelight.data.load import load_for

    share = config.label_fraction[0] if config.label_fraction else None
    found = advise(load_for(config), config.available, config.privileged, label_fraction=share, seed=config.seed)
    print(json.dumps(found.to_dict(), indent=1) if args.json else found.to_text(), end="")


def report_verb(args: argparse.Namespace) -> None:
    from sidelight.report import write_report
    from sidelight.results.store import is_suite

    if is_suite(args.run):
        from sidelight.report.suite import write_suite_report

        if args.between:
            raise ConfigError(f"--between compares rows of one run; name the run of a data set in {args.run}.")
        print(write_suite_report(args.run, args.output))
        return
    print(write_report(args.run, args.output))
    if args.parquet:
        from sidelight.results.parquet import write_parquet

        print(write_parquet(args.run, args.parquet))
    if args.between:
        from sidelight.results import between, budgets, load_results, primary_metric
        from sidelight.results.units import labels_phrase, unit

        results = load_results(args.run)
        for share in budgets(results):
            difference = between(results, args.between[0], args.between[1], share)
            print(f"{labels_phrase(share)}: {difference.describe(unit(primary_metric(results)))}")


def status_verb(args: argparse.Namespace) -> int:
    from sidelight.runs.status import read_status

    status = read_status(args.run)
    if args.state:
        print("".join(f"{job}\n" for job in status.of_state(args.state)), end="")
    else:
        print(f"{json.dumps(status.to_dict(), indent=1)}\n" if args.json else status.to_text(), end="")
    return 1 if status.failures else 0


def suite_verb(args: argparse.Namespace) -> int:
    from sidelight.suite.verb import suite_verb

    return suite_verb(args)


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


def prepare_verb(args: argparse.Namespace) -> int:
    from sidelight import readers

    if args.name is None:
        for name in readers.READERS:
            entry(name, readers.reader_class(name).summary)
        return 0
    options = _options(args.overrides)
    reader = readers.make_reader(args.name, options)
    if args.synthetic is not None:
        from sidelight.readers.base import synthesize

        print(synthesize(reader, args.synthetic or f"{args.name}-synthetic"))
    elif args.source is None:
        settings = [f"{name}={default}: {about}" for name, default, about in reader.describe_options()]
        entry(args.name, reader.summary, reader.obtain, f"licence: {reader.licence}", reader.citation, *settings)
    elif args.check:
        from sidelight.readers.base import check

        absent = check(reader, args.source)
        print("".join(f"{line}\n" for line in reader.describe(Path(args.source)) if not absent), end="")
        print("\n".join(absent) if absent else f"{args.source}: nothing that {args.name} needs is missing")
        return 1 if absent else 0
    elif args.out is None:
        raise ConfigError(f"name the folder to write: sidelight prepare {args.name} {args.source} OUT, or --check.")
    else:
        from sidelight.readers.base import prepare
        from sidelight.readers.progress import progress_bar

        skip = args.on_error == "skip"
        how: dict[str, Any] = {"skip": skip, "overwrite": args.overwrite, "progress": progress_bar, "tell": print}
        out, faults = prepare(reader, args.source, args.out, **how)
        print(f"{out}" + (f" ({len(faults)} rows skipped: {out / 'skipped.csv'})" if faults else ""))
    return 0


def _options(words: Sequence[str]) -> dict[str, str]:
    """["part=A"] -> {"part": "A"}"""
    for word in words:
        if not word.partition("=")[0] or "=" not in word:
            raise ConfigError(f"cannot read {shown(word)}: expected an option as name=value, e.g. part=A.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def windows_verb(args: argparse.Namespace) -> None:
    from sidelight.sessions.command import run_windows

    run_windows(args)


def extract_verb(args: argparse.Namespace) -> None:
    config = load_config({"data": source_of(args), **flags_of(args)})
    if args.out is None:
        raise ConfigError(f"name the folder to write: sidelight extract {config.data} OUT --encoder MODALITY=NAME")
    encoders, weights = (_by_modality(name, getattr(args, name)) for name in ("encoder", "weights"))
    more = {name: getattr(args, name) for name in ("tokens", "sum_channels", "device")}
    from sidelight.data.load import load_for
    from sidelight.extract import extract

    print(extract(load_for(config), args.out, encoders, weights, quiet=False, **more))


def _by_modality(flag: str, words: Sequence[str]) -> dict[str, str]:
    """["rgb=r3d18"] -> {"rgb": "r3d18"}"""
    for word in words:
        m, _, value = word.partition("=")
        if not value:
            raise ConfigError(f"--{flag} {shown(word)}: expected MODALITY=VALUE, e.g. --{flag} rgb=…")
        check_modality(m, f"--{flag}", ConfigError)
    return {m: value for m, _, value in (word.partition("=") for word in words)}


def refit_verb(args: argparse.Namespace) -> None:
    from sidelight.experiment.refit import NO_TEST, refit

    print(f"{refit(args.run, encoders=args.own.encoders, device=args.device)}\n{NO_TEST}")


def methods_verb(args: argparse.Namespace) -> None:
    from sidelight.methods import METHODS
    from sidelight.methods.catalog import documentation, summarize_method

    if args.markdown:
        print(documentation())
        return
    for name in args.names or METHODS:
        if name not in METHODS:
            raise ConfigError(unknown("method", name, METHODS))
        told = summarize_method(name)
        entry(name, told.summary, *(told.whole() if args.names else told.about()))
    if args.names:
        return
    print(
        "Losses joined by + make one method: pkdot+kl. With @crossfit no teacher teaches the groups it was trained on."
    )
    print("Every study also has the baseline (the same network, no teacher) and the teacher (reads every modality).")


def datasets_verb(args: argparse.Namespace) -> None:
    from sidelight.data import DATASETS

    for name, data in DATASETS.items():
        entry(name, data.description, f"licence: {data.licence}", data.citation)


def doctor_verb(args: argparse.Namespace) -> int:
    from sidelight import doctor

    checks = doctor.examine()
    for check in checks:
        print(check)
    return 1 if any(check.state == "missing" for check in checks) else 0


def show_verb(args: argparse.Namespace) -> None:
    from sidelight.verbs.show import show_verb

    show_verb(args)


def init_verb(args: argparse.Namespace) -> None:
    from sidelight.verbs.init import init_verb

    init_verb(args)


def compare_verb(args: argparse.Namespace) -> None:
    from sidelight.verbs.compare import compare_verb

    compare_verb(args)


def describe_verb(args: argparse.Namespace) -> None:
    from sidelight.verbs.describe import describe_verb

    describe_verb(args)


def completion_verb(args: argparse.Namespace) -> None:
    from sidelight.verbs.completion import completion_verb

    completion_verb(args)


VERBS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "run": run_verb,
    "suite": suite_verb,
    "sweep": sweep_verb,
    "inspect": inspect_verb,
    "advise": advise_verb,
    "report": report_verb,
    "status": status_verb,
    "predict": predict_verb,
    "export": export_verb,
    "refit": refit_verb,
    "prepare": prepare_verb,
    "windows": windows_verb,
    "extract": extract_verb,
    "methods": methods_verb,
    "datasets": datasets_verb,
    "doctor": doctor_verb,
    "show": show_verb,
    "init": init_verb,
    "compare": compare_verb,
    "describe": describe_verb,
    "completion": completion_verb,
}


def entry(name: str, *paragraphs: str) -> None:
    """A name and what there is to say about it, wrapped to the terminal (addresses and formulas stay whole)."""
    width = max(40, min(shutil.get_terminal_size().columns, 100))
    print(name)
    for text in paragraphs:
        if text.startswith(" "):
            print(textwrap.indent(text, "  "))
            continue
        print(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False))
    print()


def say(kind: str, message: object, colour: int) -> None:
    """One paragraph on stderr, its first word coloured where people read it."""
    plain = not sys.stderr.isatty() or "NO_COLOR" in os.environ
    print(f"{kind}: {message}" if plain else f"\033[1;{colour}m{kind}:\033[0m {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Its exit code: 0, 1 (jobs failed, parts missing), 2 (an error), 75 (run it again) or 130 (interrupted).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if launched()[0] > 0:  # process 0 of torchrun gives the same warnings
                return
            if issubclass(category, SidelightWarning):
                say("note", message, 33)
            else:
                shown(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        try:
            args = parse(argv)
            if args.version:
                from importlib.metadata import version

                print(f"sidelight {version('sidelight')}")
            elif args.verb is None:
                build_parser().print_help()
            else:
                args.own = import_own(getattr(args, "imports", []))  # the user's own Python, before anything else
                rank, processes = launched()
                if processes > 1 and args.verb != "run":
                    if rank > 0:
                        return 2
                    raise ConfigError(
                        f"{processes} processes cannot share `sidelight {args.verb}`: only `run` divides its work over "
                        "the processes of torchrun. Start it without torchrun."
                    )
                return int(VERBS[args.verb](args) or 0)
        except UnfinishedError as error:
            say("stopped", f"{error} Go on with: {resumed(argv)}", 33)
            return UNFINISHED
        except (SidelightError, OSError) as error:
            return fail(error, argv)
        except KeyboardInterrupt:
            again = f" Continue with: {resumed(argv)}" if argv[:1] in RESUMED else ""
            say("stopped", f"interrupted; finished jobs are kept.{again}", 33)
            return 130
    return 0


RESUMED = (["run"], ["suite"], ["sweep"])
"""The verbs that go on where they were stopped."""


def resumed(argv: Sequence[str]) -> str:
    """The command that continues this one."""
    return shlex.join(["sidelight", *argv, *(["--resume"] if "--resume" not in argv else [])])


def fail(error: Exception, argv: Sequence[str]) -> int:
    """Print an error as one paragraph; with --debug, raise it."""
    if "--debug" in argv:
        raise error
    if isinstance(error, BrokenPipeError):  # e.g. sidelight methods | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    again = (
        f" Finished jobs are kept; continue with: {resumed(argv)}"
        if argv[:1] in (["run"], ["suite"], ["sweep"])
        else ""
    )
    if isinstance(error, OSError) and not isinstance(error, SidelightError):
        file = f"{error.filename}: " if error.filename else ""
        say("error", f"{file}{error.strerror or error}.{again}", 31)
    else:
        say("error", f"{error}{again if isinstance(error, DiskError) else ''}", 31)
    return 2


if __name__ == "__main__":
    sys.exit(main())
