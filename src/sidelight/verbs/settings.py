"""What a command line asks for: a data set, and settings by flags, overrides and a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sidelight.cli_flags import flag, mappings_of
from sidelight.config import Config, load_config, read_experiment
from sidelight.config.io import settings
from sidelight.errors import ConfigError

OF_DATA = ("target", "available", "privileged")
"""Settings whose names come from the data and may contain commas."""


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
    overrides = getattr(args, "overrides", ())  # verbs that look at data take none
    if not is_experiment(source):
        return load_config({"data": source, **given}, overrides)
    if not given and not beside:
        return load_config(source, overrides)
    try:
        of_file = read_experiment(Path(source), beside)
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None
    return load_config({**of_file, **given}, overrides)


def execution_of(args: argparse.Namespace) -> dict[str, Any]:
    """How a command line asks to run a study: arguments that `run` and `sweep` hand over."""
    return {
        "resume": args.resume,
        "quiet": args.quiet,
        "encoders": args.own.encoders,
        "imports": args.own.files,
        "only": args.only,
        "executor": args.scheduler,
    }


def is_experiment(source: str) -> bool:
    """Whether a SOURCE is a file of settings, not data."""
    return Path(source).suffix.lower() in (".yaml", ".yml")


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
    more = " or an experiment.yaml" if args.verb in ("run", "sweep", "inspect", "advise") else ""
    raise ConfigError(f"{args.verb} needs a data set{more}: sidelight {args.verb} phone-watch")


def looks_like_source(word: str) -> bool:
    from sidelight.data import DATASETS
    from sidelight.data.sources.locate import SUFFIXES

    return word in DATASETS or word.lower().endswith((*SUFFIXES, ".yaml", ".yml")) or Path(word).exists()


def words_of(args: argparse.Namespace) -> list[str]:
    """The flags that say how `inspect` reads the data, as words of another command line."""
    words = []
    for name, value in vars(args).items():
        if value and name not in ("verb", "source", "html", "debug", "imports", "own", "overrides"):
            words += [flag(name), *(value if isinstance(value, list) else [str(value)])]
    return words
